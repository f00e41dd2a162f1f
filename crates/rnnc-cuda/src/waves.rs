//! Waves: loops that follow each other, in chunks of frames. While a loop has a chunk, the next has the chunk before; what
//! stands between them runs for each chunk too.

use crate::access::{Access, Chunk};
use crate::device::Device;
use crate::lanes::Draft;
use crate::program::Frames;
use crate::stages::step::shares::{self, Share};
use rnnc_graph::Direction;
use rnnc_plan::{Pass, Plan, Setup, Stage, StageKind, Track};

/// A wave over some stages of a pass, from one with loops to another.
#[derive(Clone, Debug)]
pub(crate) struct Wave {
    /// The first and the last stage.
    pub stages: (usize, usize),
    pub chunks: usize,
    direction: Direction,
    /// Of each job of these stages.
    roles: Vec<Vec<Role>>,
    /// Of each loop, stage after stage.
    shares: Vec<Share>,
    /// Predicted microseconds of a window.
    pub us: f64,
}

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Before,
    /// Runs for each chunk.
    Inside,
    After,
}

/// The most stages with loops of a wave.
const MOST_LOOPS: usize = 8;

/// The most chunks.
const MOST_CHUNKS: usize = 32;

/// Predictions are not exact: what a wave may take at most of the time without it.
const LEAST_GAIN: f64 = 0.9;

/// More jobs than these are not compared with each other.
const MOST_JOBS: usize = 1024;

/// What a pass's jobs touch, stage after stage, and its waves.
#[derive(Clone, Debug, Default)]
pub(crate) struct PassWaves {
    pub accesses: Vec<Vec<Access>>,
    pub waves: Vec<Wave>,
}

impl PassWaves {
    /// Of the forward pass, and of the backward pass if there is one.
    pub fn of_plan(plan: &Plan, setup: Setup, device: &Device) -> Vec<PassWaves> {
        let of = |pass: &Pass| {
            let accesses: Vec<Vec<Access>> = pass.stages.iter().map(Access::of_stage).collect();
            let waves = find(pass, &accesses, setup, device);
            PassWaves { accesses, waves }
        };
        std::iter::once(&plan.forward_pass).chain(&plan.backward_pass).map(of).collect()
    }
}

/// The turns (see [`Plan::turns`]) that each wave makes one.
pub(crate) fn turns(plan: &Plan, passes: &[PassWaves]) -> Vec<(usize, usize)> {
    let turns = plan.turns();
    let stages = |(number, pass): (usize, &PassWaves)| {
        let first = if number == 0 { 0 } else { plan.forward_pass.stages.len() };
        pass.waves.iter().map(|wave| (first + wave.stages.0, first + wave.stages.1)).collect::<Vec<_>>()
    };
    passes.iter().enumerate().flat_map(stages).map(|(from, to)| (turns[from], turns[to])).collect()
}

/// The wave that a stage is part of.
pub(crate) fn of_stage(waves: &[Wave], stage: usize) -> Option<&Wave> {
    waves.iter().find(|wave| (wave.stages.0..=wave.stages.1).contains(&stage))
}

/// The layouts of the loops of a stage.
pub(crate) fn shares(pass: &Pass, waves: &[Wave], stage: usize, setup: Setup, device: &Device) -> Vec<Share> {
    match of_stage(waves, stage) {
        None => shares::choose(&tracks(&pass.stages[stage..=stage]), setup, device),
        Some(wave) => {
            let first = tracks(&pass.stages[wave.stages.0..stage]).len();
            wave.shares[first..first + pass.stages[stage].tracks.len()].to_vec()
        }
    }
}

/// The waves of a pass, where they are predicted to be faster. `accesses` are those of each stage's jobs.
fn find(pass: &Pass, accesses: &[Vec<Access>], setup: Setup, device: &Device) -> Vec<Wave> {
    let is_loop = |&stage: &usize| pass.stages[stage].kind == StageKind::Loop;
    let loops: Vec<usize> = (0..pass.stages.len()).filter(is_loop).collect();
    if accesses.iter().map(Vec::len).sum::<usize>() > MOST_JOBS {
        return Vec::new();
    }
    let alone: Vec<f64> = loops
        .iter()
        .map(|&stage| shares::time(&shares::choose(&tracks(&pass.stages[stage..=stage]), setup, device)))
        .collect();
    // From the last on: the time from a loop stage to the end, and the wave that begins there.
    let mut best: Vec<(f64, Option<(usize, Wave)>)> = vec![(0.0, None); loops.len() + 1];
    for at in (0..loops.len()).rev() {
        let mut found = (alone[at] + best[at + 1].0, None);
        for last in at + 1..loops.len().min(at + MOST_LOOPS) {
            let stages = (loops[at], loops[last]);
            let Some(wave) = wave(pass, accesses, stages, setup, device) else { break };
            let us = wave.us + best[last + 1].0;
            if us < found.0 * LEAST_GAIN {
                found = (us, Some((last, wave)));
            }
        }
        best[at] = found;
    }
    let (mut waves, mut at) = (Vec::new(), 0);
    while at < loops.len() {
        at = match best[at].1.take() {
            Some((last, wave)) => {
                waves.push(wave);
                last + 1
            }
            None => at + 1,
        };
    }
    waves
}

fn tracks(stages: &[Stage]) -> Vec<&Track> {
    stages.iter().filter(|stage| stage.kind == StageKind::Loop).flat_map(|stage| &stage.tracks).collect()
}

/// The wave over some stages, if there can be one. Its time is that beyond what stands between the loops otherwise.
fn wave(
    pass: &Pass,
    accesses: &[Vec<Access>],
    stages: (usize, usize),
    setup: Setup,
    device: &Device,
) -> Option<Wave> {
    let tracks = tracks(&pass.stages[stages.0..=stages.1]);
    let direction = tracks.first()?.direction;
    if tracks.len() > device.multiprocessors || tracks.iter().any(|track| track.direction != direction) {
        return None;
    }
    let jobs: Vec<(usize, &Access)> = (stages.0..=stages.1)
        .flat_map(|stage| accesses[stage].iter().map(move |access| (stage, access)))
        .collect();
    let roles = roles(pass, &jobs, direction)?;
    let shares = shares::beside(&tracks, setup, device);
    let inside = || jobs.iter().zip(&roles).filter(|(_, role)| **role == Role::Inside).map(|(job, _)| job);
    let between = inside().filter(|(stage, _)| pass.stages[*stage].kind != StageKind::Loop);

    let rates = device.rates;
    let rows = setup.window * setup.streams;
    let us = |(flops, bytes): (f64, f64)| flops / (rates.f32_tflops * 1e6) + bytes / (rates.memory_tbs * 1e6);
    // Loops take most of the device, so what stands between them takes longer than alone.
    let slower: f64 = between.map(|(_, access)| us(access.cost(rows))).sum();
    let weights: usize = tracks.iter().map(|track| shares::weights(track)).sum();
    // Each launch of a loop reads its weights.
    let start = 2.0 * rates.launch_us * inside().count() as f64 + us((0.0, 4.0 * weights as f64));
    let longest = shares.iter().map(|share| share.us).fold(0.0, f64::max);
    let all: f64 = shares.iter().map(|share| share.us).sum();
    let time = |chunks: usize| longest + (all - longest) / chunks as f64 + slower + start * chunks as f64;
    let counts = std::iter::successors(Some(2), |count| Some(count * 2));
    let counts = counts.take_while(|&count| count <= setup.window.min(MOST_CHUNKS));
    let chunks = counts.min_by(|&a, &b| time(a).total_cmp(&time(b)))?;
    let mut rest = roles.into_iter();
    let roles = accesses[stages.0..=stages.1].iter().map(|own| rest.by_ref().take(own.len()).collect());
    Some(Wave { stages, chunks, direction, roles: roles.collect(), us: time(chunks), shares })
}

/// What the jobs of a wave's stages are, if loops and all between them can run in chunks. Nothing else takes the memory of
/// the buffers that they use.
fn roles(pass: &Pass, jobs: &[(usize, &Access)], direction: Direction) -> Option<Vec<Role>> {
    let kind = |job: usize| pass.stages[jobs[job].0].kind;
    let is_loop = |job: usize| kind(job) == StageKind::Loop;
    // Whether each comes behind a loop, and each before one.
    let (mut behind, mut before) = (vec![false; jobs.len()], vec![false; jobs.len()]);
    let meet = |a: usize, b: usize| jobs[a].1.meets(None, jobs[b].1, None, &[]);
    for job in 0..jobs.len() {
        behind[job] = is_loop(job) || (0..job).any(|earlier| behind[earlier] && meet(earlier, job));
    }
    for job in (0..jobs.len()).rev() {
        before[job] = is_loop(job) || (job + 1..jobs.len()).any(|later| before[later] && meet(job, later));
    }
    let role = |job: usize| match (behind[job], before[job]) {
        (true, true) => Role::Inside,
        (true, false) => Role::After,
        (false, _) => Role::Before,
    };
    let roles: Vec<Role> = (0..jobs.len()).map(role).collect();
    let inside: Vec<usize> = (0..jobs.len()).filter(|&job| roles[job] == Role::Inside).collect();
    let by_rows = |&job: &usize| is_loop(job) || (kind(job) == StageKind::Frames && !jobs[job].1.sums_rows());
    if !inside.iter().all(by_rows) {
        return None;
    }
    // A later job's chunk comes before an earlier job's next one.
    let chunk = |number| Some(Chunk { wave: 0, number, direction });
    let swapped = |a: usize, b: usize| jobs[a].1.meets(chunk(1), jobs[b].1, chunk(0), &[]);
    let wrong = inside.iter().enumerate().any(|(n, &a)| inside[n + 1..].iter().any(|&b| swapped(a, b)));
    (!wrong).then_some(roles)
}

/// The jobs of a pass in the order of its waves, from those of each stage.
pub(crate) fn in_order(stages: Vec<Vec<Draft>>, waves: &[Wave]) -> Vec<Draft> {
    let mut jobs = Vec::new();
    let mut stages = stages.into_iter().enumerate();
    while let Some((number, own)) = stages.next() {
        let Some((name, wave)) = waves.iter().enumerate().find(|(_, wave)| wave.stages.0 == number) else {
            jobs.extend(own);
            continue;
        };
        let rest = stages.by_ref().take(wave.stages.1 - number).map(|(_, own)| own);
        let all = std::iter::once(own).chain(rest).flatten().zip(wave.roles.iter().flatten());
        let (mut inside, mut after) = (Vec::new(), Vec::new());
        for (job, role) in all {
            match role {
                Role::Before => jobs.push(job),
                Role::Inside => inside.push(job),
                Role::After => after.push(job),
            }
        }
        for number in 0..wave.chunks {
            let chunk = Chunk { wave: name, number, direction: wave.direction };
            let frames = Frames::Chunk { number, of: wave.chunks, direction: wave.direction };
            jobs.extend(inside.iter().map(|job| {
                let us = job.us / wave.chunks as f64;
                Draft { chunk: Some(chunk), frames, us, ..job.clone() }
            }));
        }
        jobs.extend(after);
    }
    jobs
}
