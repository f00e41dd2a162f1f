//! Running a pass: stage after stage, each worker its shares, meeting where the plan says so.
//!
//! A worker has one share of what lies between two meetings, or all of them, or none: see [`crate::team`].

use crate::memory::Shared;
use crate::ops::gradient::{self, Sums};
use crate::ops::{Local, Share, map, matmul, scan, vector};
use crate::owners;
use crate::program::{DepthCode, Kernel, LaneCode, OpCode, Program, StageCode, TrackCode, TurnCode};
use crate::team::Worker;
use rnnc_plan::recurrence::Chunks;
use rnnc_plan::{Deal, StageKind};
use std::ops::Range;

/// A worker's shares, one after the other.
pub(crate) fn shares(worker: &Worker<'_>) -> impl Iterator<Item = usize> + use<> {
    let first = worker.first;
    worker.shares().inspect(move |share| owners::takes(first + share))
}

/// Runs a program. Called by all workers alike.
pub(crate) fn run(shared: &Shared<'_>, program: &Program, worker: &Worker<'_>, local: &mut Local) {
    let all = shared.first..shared.end;
    for code in &program.turns {
        match code {
            TurnCode::Strips { frames, backward, stages } => {
                for (n, strip) in strips(all.clone(), *frames, *backward).enumerate() {
                    for depth in stages {
                        together(shared, std::iter::once((depth, strip.clone())), n > 0, worker, local);
                    }
                }
            }
            // Of each depth the chunk after that of the next depth.
            TurnCode::Wave { chunks, backward, depths } => {
                for turn in 0..chunks + depths.len() - 1 {
                    let depths = depths.iter().enumerate().filter_map(|(behind, depth)| {
                        let chunk = turn.checked_sub(behind).filter(|chunk| chunk < chunks)?;
                        let chunk = if *backward { chunks - 1 - chunk } else { chunk };
                        Some((depth, part(all.clone(), chunk, *chunks)))
                    });
                    together(shared, depths, false, worker, local);
                }
            }
        }
    }
}

/// Parts of so many frames, the last one of what is left.
fn strips(all: Range<usize>, frames: usize, backward: bool) -> impl Iterator<Item = Range<usize>> {
    let frames = frames.clamp(1, all.len().max(1));
    // A pass has frames; without any, nothing is to be done in none.
    (0..all.len().div_ceil(frames)).map(move |n| match backward {
        false => all.start + n * frames..all.end.min(all.start + (n + 1) * frames),
        true => all.start.max(all.end.saturating_sub((n + 1) * frames))..all.end - n * frames,
    })
}

/// What runs together, each depth for some frames. `more`: sums over rows go on from the frames before.
fn together<'a>(
    shared: &Shared<'_>,
    depths: impl Iterator<Item = (&'a DepthCode, Range<usize>)> + Clone,
    more: bool,
    worker: &Worker<'_>,
    local: &mut Local,
) {
    let mut meets = false;
    for (depth, frames) in depths.clone() {
        for stage in &depth.frames {
            if meets {
                worker.barrier();
            }
            self::frames(shared, stage, frames.clone(), more, worker, local);
            meets = true;
        }
    }
    // What follows may read all of it.
    if meets {
        worker.barrier();
        meets = false;
    }
    for (depth, frames) in depths {
        for lane in &depth.lanes {
            if lane.workers.len() == worker.count {
                steps(shared, lane, frames.clone(), worker, local);
            } else if let Some(worker) = worker.part(lane.workers.clone()) {
                steps(shared, lane, frames.clone(), &worker, local);
            }
            meets = true;
        }
    }
    if meets {
        worker.barrier();
    }
}

/// A part of a range, as evenly as can be.
fn part(range: Range<usize>, index: usize, count: usize) -> Range<usize> {
    let at = |i: usize| range.start + range.len() * i / count;
    at(index)..at(index + 1)
}

/// One of `count` shares of some frames of all streams; `None` if there is nothing in it. The frames of a track's step are not
/// split, since those of one stream depend on each other.
fn share(
    shared: &Shared<'_>,
    deal: Deal,
    frames: Range<usize>,
    track: Option<&TrackCode>,
    (index, count): (usize, usize),
) -> Option<Share> {
    let backward = track.is_some_and(|track| track.backward);
    let heads = track.map_or(1, |track| track.heads);
    let all = Share { frames: frames.clone(), streams: 0..shared.streams, part: (0, 1), heads, backward };
    match deal {
        Deal::Alone => (index == 0).then_some(all),
        Deal::Units | Deal::Heads => Some(Share { part: (index, count), ..all }),
        Deal::Chunks => Some(Share { frames: part(frames, index, count), ..all }),
        Deal::Rows if track.is_some() || frames.len() < count => {
            Some(Share { streams: part(0..shared.streams, index, count), ..all })
        }
        Deal::Rows => Some(Share { frames: part(frames, index, count), ..all }),
    }
}

/// All there is.
pub(crate) fn whole(shared: &Shared<'_>) -> Share {
    let (frames, streams) = (shared.first..shared.end, 0..shared.streams);
    Share { frames, streams, part: (0, 1), heads: 1, backward: false }
}

/// What one of `count` shares has of the rows that the first stage reads.
pub(crate) fn first_share(
    shared: &Shared<'_>,
    program: &Program,
    (index, count): (usize, usize),
) -> Option<Share> {
    let (kind, deal) = program.first_deal?;
    let (frames, all) = (shared.first..shared.end, whole(shared));
    match kind {
        StageKind::Frames => share(shared, deal, frames, None, (index, count)),
        // As the frames of a step are.
        _ if deal == Deal::Rows => Some(Share { streams: part(0..shared.streams, index, count), ..all }),
        _ => share(shared, deal, frames, None, (index, count)),
    }
}

/// All frames at once.
fn frames(
    shared: &Shared<'_>,
    stage: &StageCode,
    frames: Range<usize>,
    more: bool,
    worker: &Worker<'_>,
    local: &mut Local,
) {
    for track in &stage.tracks {
        for (n, phase) in track.phases.iter().enumerate() {
            if n > 0 {
                worker.barrier();
            }
            for index in shares(worker) {
                let all = (index, worker.count);
                let Some(share) = share(shared, stage.deal, frames.clone(), None, all) else { continue };
                // Gradients of weights are dealt by weights, if at all.
                let part = if stage.deal == Deal::Alone { (0, 1) } else { all };
                let sums = Sums { frames: frames.clone(), part, more };
                phase.iter().for_each(|(_, op)| run_op(shared, op, &share, &sums, local));
            }
        }
    }
}

/// Runs a worker's share of an operation; of gradients of weights, its sums.
fn run_op(shared: &Shared<'_>, op: &OpCode, share: &Share, sums: &Sums, local: &mut Local) {
    match op {
        OpCode::MatMul(products) => matmul::matmul(shared, products, share),
        OpCode::Gather(look_ups) => matmul::gather(shared, look_ups, share),
        OpCode::Map(op) => map::map(shared, op, share, local),
        OpCode::Vector(op) => vector::vector(shared, op, share, local),
        OpCode::WeightGradient(ops) => gradient::outer(shared, ops, sums, local),
        OpCode::TableGradient(ops) => gradient::scatter(shared, ops, sums),
        OpCode::Reduce(ops) => gradient::reduce(shared, ops, sums, local),
    }
}

/// Frame after frame (block after block), all tracks in step.
fn steps(shared: &Shared<'_>, stage: &LaneCode, pass: Range<usize>, worker: &Worker<'_>, local: &mut Local) {
    if stage.deal == Deal::Alone && !worker.shares().contains(&0) {
        return;
    }
    if let Some(chunks) = &stage.chunks {
        return self::chunks(shared, stage, chunks, pass, worker, local);
    }
    if stage.kind == StageKind::Scan && stage.tracks.iter().all(|track| track.only_op().is_some()) {
        // Of one operation there is nothing to be in step with: it goes through all frames by itself.
        for track in &stage.tracks {
            for index in shares(worker) {
                let share = share(shared, stage.deal, pass.clone(), Some(track), (index, worker.count));
                if let (Some(op), Some(share)) = (track.only_op(), share) {
                    run_op(shared, op, &share, &Sums::of(&share), local);
                }
            }
        }
        return;
    }
    let frames = pass.len();
    let length = |track: &TrackCode| step_range(track, frames).end - step_range(track, frames).start;
    let longest = stage.tracks.iter().map(length).max().unwrap_or(0);
    let phases = stage.tracks.iter().map(|t| t.phases.len()).max().unwrap_or(0);
    for step in 0..longest {
        for phase in 0..phases {
            for track in &stage.tracks {
                let first = step_range(track, frames).start;
                let Some(ops) = track.phases.get(phase) else { continue };
                for index in shares(worker) {
                    for (offset, op) in ops {
                        let frames = block(track, first + step, *offset, pass.clone());
                        let all = (index, worker.count);
                        if let Some(share) = share(shared, stage.deal, frames, Some(track), all)
                            && share.rows() > 0
                        {
                            run_op(shared, op, &share, &Sums::of(&share), local);
                        }
                    }
                }
            }
            if worker.count > 1 && stage.tracks.iter().any(|t| t.barriers.get(phase) == Some(&true)) {
                worker.barrier();
            }
        }
    }
}

/// A scan whose frames are shared out: first each worker finds what its chunk makes of the state before it, but for the
/// first worker, which knows that and runs chunk 0; then each runs its chunk, and the first worker the last.
fn chunks(
    shared: &Shared<'_>,
    stage: &LaneCode,
    chunks: &Chunks,
    pass: Range<usize>,
    worker: &Worker<'_>,
    local: &mut Local,
) {
    let share = |track: &TrackCode, chunk: usize| {
        let at = |chunk| chunks.begin(chunk, pass.len());
        let (begin, end) = (at(chunk), at(chunk + 1));
        let frames = match track.backward {
            true => pass.end - end..pass.end - begin,
            false => pass.start + begin..pass.start + end,
        };
        Share { frames, streams: 0..shared.streams, part: (0, 1), heads: 1, backward: track.backward }
    };
    for index in shares(worker) {
        for track in &stage.tracks {
            let own = share(track, index);
            for op in &track.scan {
                match index {
                    0 => scan::run(shared, op, &own, None, local),
                    chunk => scan::find(shared, op, &own, chunk, local),
                }
            }
        }
    }
    worker.barrier();
    for index in shares(worker) {
        let own = if index == 0 { worker.count } else { index };
        for track in &stage.tracks {
            // Where chunk 0 has come to.
            let known = share(track, 1);
            for op in &track.scan {
                scan::run(shared, op, &share(track, own), Some((own, &known)), local);
            }
        }
    }
}

/// The steps in which some operation of a track has some frame.
fn step_range(track: &TrackCode, frames: usize) -> Range<i64> {
    let (block, frames) = (track.block.max(1) as i64, frames as i64);
    let (least, largest) = track.offsets;
    (-largest).div_euclid(block)..(frames - least + block - 1).div_euclid(block)
}

/// The frames that an operation with an offset does in a step, clipped to the pass.
fn block(track: &TrackCode, step: i64, offset: i64, pass: Range<usize>) -> Range<usize> {
    let (width, frames) = (track.block.max(1) as i64, pass.len() as i64);
    let lo = (step * width + offset).clamp(0, frames) as usize;
    let hi = (step * width + offset + width).clamp(0, frames) as usize;
    if track.backward { pass.end - hi..pass.end - lo } else { pass.start + lo..pass.start + hi }
}

/// Packs the weights of a program. Called by all workers alike.
pub(crate) fn pack(shared: &Shared<'_>, program: &Program, worker: &Worker<'_>) {
    let pack = |index: usize, tracks: &[TrackCode], deal: Deal, workers: Range<usize>| {
        if !workers.contains(&index) {
            return;
        }
        let (index, count) = (index - workers.start, workers.len());
        let ops = tracks.iter().flat_map(|t| t.phases.iter().flatten().map(|(_, op)| (t.heads, op)));
        let products = ops.filter_map(|(heads, op)| match op {
            OpCode::MatMul(list) => Some(list.iter().map(move |product| (heads, product))),
            _ => None,
        });
        for (heads, p) in products.flatten() {
            let Kernel::Packed(places) = &p.kernel else { continue };
            if matches!(deal, Deal::Units | Deal::Heads) {
                let units = crate::compile::unit_range(p.span, heads, index, count);
                matmul::pack_share(shared, p, places[index], &units, (0, 1));
            } else {
                matmul::pack_share(shared, p, places[0], &(0..p.span), (index, count));
            }
        }
    };
    // A program that is worth no sharing has one worker.
    let all = |workers: &Range<usize>| workers.start..workers.end.min(worker.count);
    for index in shares(worker) {
        for depth in program.turns.iter().flat_map(TurnCode::depths) {
            depth.frames.iter().for_each(|stage| pack(index, &stage.tracks, stage.deal, 0..worker.count));
            depth.lanes.iter().for_each(|lane| pack(index, &lane.tracks, lane.deal, all(&lane.workers)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strips_have_every_frame_once_and_follow_each_other_in_time() {
        for (first, end, frames) in
            [(0, 1, 1), (3, 10, 1), (3, 10, 2), (0, 8, 4), (2, 9, 7), (2, 9, usize::MAX)]
        {
            let forward: Vec<_> = strips(first..end, frames, false).collect();
            assert_eq!(
                forward.iter().cloned().flatten().collect::<Vec<_>>(),
                (first..end).collect::<Vec<_>>()
            );
            let backward: Vec<_> = strips(first..end, frames, true).collect();
            let all: Vec<_> = backward.iter().cloned().rev().flatten().collect();
            assert_eq!(all, (first..end).collect::<Vec<_>>());
            assert!(forward.iter().chain(&backward).all(|strip| !strip.is_empty() && strip.len() <= frames));
        }
    }

    #[test]
    fn every_frame_of_every_operation_is_done_once() {
        for backward in [false, true] {
            for (width, offsets) in [(1, vec![0]), (4, vec![0]), (2, vec![0, -3, 1]), (3, vec![-7, 5])] {
                let track = TrackCode {
                    backward,
                    block: width,
                    offsets: (*offsets.iter().min().unwrap(), *offsets.iter().max().unwrap()),
                    phases: Vec::new(),
                    barriers: Vec::new(),
                    heads: 1,
                    scan: Vec::new(),
                };
                for offset in offsets {
                    let mut done = vec![0; 11];
                    for step in step_range(&track, 11) {
                        block(&track, step, offset, 0..11).for_each(|t| done[t] += 1);
                    }
                    assert_eq!(done, [1; 11]);
                }
            }
        }
    }
}
