//! Running a pass: stage after stage, each worker its shares, barrier where the plan says so.
//!
//! A worker has one share of what lies between two barriers, or all of them, or none: see [`crate::team`].

use crate::memory::Shared;
use crate::ops::gradient::{self, Sums};
use crate::ops::{Local, Share, map, matmul, scan, vector};
use crate::owners;
use crate::program::{DepthCode, GroupCode, Kernel, OpCode, Program, Section, StageCode, TaskCode};
use crate::team::Worker;
use crate::units::unit_range;
use rnnc_plan::Chunks;
use rnnc_plan::{Partition, StageKind};
use std::ops::Range;

/// A worker's shares, one after the other.
pub(crate) fn shares(worker: &Worker<'_>) -> impl Iterator<Item = usize> + use<> {
    let first = worker.first;
    worker.shares().inspect(move |share| owners::takes(first + share))
}

/// Runs a program. Called by all workers alike.
pub(crate) fn run(shared: &Shared<'_>, program: &Program, worker: &Worker<'_>, local: &mut Local) {
    let all = shared.first..shared.end;
    for code in &program.sections {
        match code {
            Section::TimeBlocks { frames, backward, stages } => {
                for (n, time_block) in time_blocks(all.clone(), *frames, *backward).enumerate() {
                    for depth in stages {
                        together(shared, std::iter::once((depth, time_block.clone())), n > 0, worker, local);
                    }
                }
            }
            // Of each depth the chunk after that of the next depth.
            Section::Pipeline { chunks, backward, depths } => {
                for round in 0..chunks + depths.len() - 1 {
                    let depths = depths.iter().enumerate().filter_map(|(behind, depth)| {
                        let chunk = round.checked_sub(behind).filter(|chunk| chunk < chunks)?;
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
fn time_blocks(all: Range<usize>, frames: usize, backward: bool) -> impl Iterator<Item = Range<usize>> {
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
        for group in &depth.groups {
            if group.workers.len() == worker.count {
                steps(shared, group, frames.clone(), worker, local);
            } else if let Some(worker) = worker.part(group.workers.clone()) {
                steps(shared, group, frames.clone(), &worker, local);
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

/// One of `count` shares of some frames of all streams; `None` if there is nothing in it. The frames of a task's step are not
/// split, since those of one stream depend on each other.
fn share(
    shared: &Shared<'_>,
    partition: Partition,
    frames: Range<usize>,
    task: Option<&TaskCode>,
    (index, count): (usize, usize),
) -> Option<Share> {
    let backward = task.is_some_and(|task| task.backward);
    let heads = task.map_or(1, |task| task.heads);
    let all = Share { frames: frames.clone(), streams: 0..shared.streams, part: (0, 1), heads, backward };
    match partition {
        Partition::Serial => (index == 0).then_some(all),
        Partition::Units | Partition::Heads => Some(Share { part: (index, count), ..all }),
        Partition::Time => Some(Share { frames: part(frames, index, count), ..all }),
        Partition::Batch if task.is_some() || frames.len() < count => {
            Some(Share { streams: part(0..shared.streams, index, count), ..all })
        }
        Partition::Batch => Some(Share { frames: part(frames, index, count), ..all }),
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
    let (kind, partition) = program.first_partition?;
    let (frames, all) = (shared.first..shared.end, whole(shared));
    match kind {
        StageKind::Frames => share(shared, partition, frames, None, (index, count)),
        // As the frames of a step are.
        _ if partition == Partition::Batch => {
            Some(Share { streams: part(0..shared.streams, index, count), ..all })
        }
        _ => share(shared, partition, frames, None, (index, count)),
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
    for task in &stage.tasks {
        for (n, phase) in task.phases.iter().enumerate() {
            if n > 0 {
                worker.barrier();
            }
            for index in shares(worker) {
                let all = (index, worker.count);
                let Some(share) = share(shared, stage.partition, frames.clone(), None, all) else { continue };
                // Gradients of weights are partitioned by weights, if at all.
                let part = if stage.partition == Partition::Serial { (0, 1) } else { all };
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

/// Frame after frame (block after block), all tasks in step.
fn steps(shared: &Shared<'_>, stage: &GroupCode, pass: Range<usize>, worker: &Worker<'_>, local: &mut Local) {
    if stage.partition == Partition::Serial && !worker.shares().contains(&0) {
        return;
    }
    if let Some(chunks) = &stage.chunks {
        return self::chunks(shared, stage, chunks, pass, worker, local);
    }
    if stage.kind == StageKind::Scan && stage.tasks.iter().all(|task| task.only_op().is_some()) {
        // Of one operation there is nothing to be in step with: it goes through all frames by itself.
        for task in &stage.tasks {
            for index in shares(worker) {
                let share = share(shared, stage.partition, pass.clone(), Some(task), (index, worker.count));
                if let (Some(op), Some(share)) = (task.only_op(), share) {
                    run_op(shared, op, &share, &Sums::of(&share), local);
                }
            }
        }
        return;
    }
    let frames = pass.len();
    let length = |task: &TaskCode| step_range(task, frames).end - step_range(task, frames).start;
    let longest = stage.tasks.iter().map(length).max().unwrap_or(0);
    let phases = stage.tasks.iter().map(|t| t.phases.len()).max().unwrap_or(0);
    for step in 0..longest {
        for phase in 0..phases {
            for task in &stage.tasks {
                let first = step_range(task, frames).start;
                let Some(ops) = task.phases.get(phase) else { continue };
                for index in shares(worker) {
                    for (offset, op) in ops {
                        let frames = block(task, first + step, *offset, pass.clone());
                        let all = (index, worker.count);
                        if let Some(share) = share(shared, stage.partition, frames, Some(task), all)
                            && share.rows() > 0
                        {
                            run_op(shared, op, &share, &Sums::of(&share), local);
                        }
                    }
                }
            }
            if worker.count > 1 && stage.tasks.iter().any(|t| t.barriers.get(phase) == Some(&true)) {
                worker.barrier();
            }
        }
    }
}

/// A scan whose frames are shared out: first each worker finds what its chunk makes of the state before it, but for the
/// first worker, which knows that and runs chunk 0; then each runs its chunk, and the first worker the last.
fn chunks(
    shared: &Shared<'_>,
    stage: &GroupCode,
    chunks: &Chunks,
    pass: Range<usize>,
    worker: &Worker<'_>,
    local: &mut Local,
) {
    let share = |task: &TaskCode, chunk: usize| {
        let at = |chunk| chunks.begin(chunk, pass.len());
        let (begin, end) = (at(chunk), at(chunk + 1));
        let frames = match task.backward {
            true => pass.end - end..pass.end - begin,
            false => pass.start + begin..pass.start + end,
        };
        Share { frames, streams: 0..shared.streams, part: (0, 1), heads: 1, backward: task.backward }
    };
    for index in shares(worker) {
        for task in &stage.tasks {
            let own = share(task, index);
            for op in &task.scan {
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
        for task in &stage.tasks {
            // Where chunk 0 has come to.
            let known = share(task, 1);
            for op in &task.scan {
                scan::run(shared, op, &share(task, own), Some((own, &known)), local);
            }
        }
    }
}

/// The steps in which some operation of a task has some frame.
fn step_range(task: &TaskCode, frames: usize) -> Range<i64> {
    let (block, frames) = (task.block.max(1) as i64, frames as i64);
    let (least, largest) = task.offsets;
    (-largest).div_euclid(block)..(frames - least + block - 1).div_euclid(block)
}

/// The frames that an operation with an offset does in a step, clipped to the pass.
fn block(task: &TaskCode, step: i64, offset: i64, pass: Range<usize>) -> Range<usize> {
    let (width, frames) = (task.block.max(1) as i64, pass.len() as i64);
    let lo = (step * width + offset).clamp(0, frames) as usize;
    let hi = (step * width + offset + width).clamp(0, frames) as usize;
    if task.backward { pass.end - hi..pass.end - lo } else { pass.start + lo..pass.start + hi }
}

/// Packs the weights of a program. Called by all workers alike.
pub(crate) fn pack(shared: &Shared<'_>, program: &Program, worker: &Worker<'_>) {
    let pack = |index: usize, tasks: &[TaskCode], partition: Partition, workers: Range<usize>| {
        if !workers.contains(&index) {
            return;
        }
        let (index, count) = (index - workers.start, workers.len());
        let ops = tasks.iter().flat_map(|t| t.phases.iter().flatten().map(|(_, op)| (t.heads, op)));
        let products = ops.filter_map(|(heads, op)| match op {
            OpCode::MatMul(list) => Some(list.iter().map(move |product| (heads, product))),
            _ => None,
        });
        for (heads, p) in products.flatten() {
            let Kernel::Packed(places) = &p.kernel else { continue };
            if matches!(partition, Partition::Units | Partition::Heads) {
                let units = unit_range(p.slice_len, heads, index, count);
                matmul::pack_share(shared, p, places[index], &units, (0, 1));
            } else {
                matmul::pack_share(shared, p, places[0], &(0..p.slice_len), (index, count));
            }
        }
    };
    // A program that is worth no sharing has one worker.
    let all = |workers: &Range<usize>| workers.start..workers.end.min(worker.count);
    for index in shares(worker) {
        for depth in program.sections.iter().flat_map(Section::depths) {
            depth.frames.iter().for_each(|stage| pack(index, &stage.tasks, stage.partition, 0..worker.count));
            depth
                .groups
                .iter()
                .for_each(|group| pack(index, &group.tasks, group.partition, all(&group.workers)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_blocks_have_every_frame_once_and_follow_each_other_in_time() {
        for (first, end, frames) in
            [(0, 1, 1), (3, 10, 1), (3, 10, 2), (0, 8, 4), (2, 9, 7), (2, 9, usize::MAX)]
        {
            let forward: Vec<_> = time_blocks(first..end, frames, false).collect();
            assert_eq!(
                forward.iter().cloned().flatten().collect::<Vec<_>>(),
                (first..end).collect::<Vec<_>>()
            );
            let backward: Vec<_> = time_blocks(first..end, frames, true).collect();
            let all: Vec<_> = backward.iter().cloned().rev().flatten().collect();
            assert_eq!(all, (first..end).collect::<Vec<_>>());
            assert!(
                forward
                    .iter()
                    .chain(&backward)
                    .all(|time_block| !time_block.is_empty() && time_block.len() <= frames)
            );
        }
    }

    #[test]
    fn every_frame_of_every_operation_is_done_once() {
        for backward in [false, true] {
            for (width, offsets) in [(1, vec![0]), (4, vec![0]), (2, vec![0, -3, 1]), (3, vec![-7, 5])] {
                let task = TaskCode {
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
                    for step in step_range(&task, 11) {
                        block(&task, step, offset, 0..11).for_each(|t| done[t] += 1);
                    }
                    assert_eq!(done, [1; 11]);
                }
            }
        }
    }
}
