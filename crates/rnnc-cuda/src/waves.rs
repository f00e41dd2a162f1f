//! Waves on a GPU: which are worth it, and how their loops share the device. What can be one, [`rnnc_plan::waves`] says.

use crate::device::Device;
use crate::lanes::Draft;
use crate::program::Frames;
use crate::stages::step::{
    self,
    shares::{self, Share},
};
use rnnc_plan::access::{Access, Chunk};
use rnnc_plan::waves::{self, Candidate, Role, Timed, of_stage};
use rnnc_plan::{Pass, Plan, Setup, StageKind};

/// With the layout of each loop.
pub(crate) type Wave = waves::Wave<Share>;

/// The most chunks.
const MOST_CHUNKS: usize = 32;

/// Predictions are not exact: what a wave may take at most of the time without it.
const LEAST_GAIN: f64 = 0.9;

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
            let alone = |stage: usize| shares::time(&alone(pass, stage, setup, device));
            let time = |candidate: &Candidate<'_>| time(candidate, setup, device);
            let waves = waves::find(pass, &accesses, LEAST_GAIN, alone, time);
            PassWaves { accesses, waves }
        };
        std::iter::once(&plan.forward_pass).chain(&plan.backward_pass).map(of).collect()
    }
}

/// The turns (see [`Plan::turns`]) that each wave makes one.
pub(crate) fn turns(plan: &Plan, passes: &[PassWaves]) -> Vec<(usize, usize)> {
    waves::turns(plan, passes.iter().map(|pass| &pass.waves[..]))
}

/// The layouts of the loops of a stage.
pub(crate) fn shares(pass: &Pass, waves: &[Wave], stage: usize, setup: Setup, device: &Device) -> Vec<Share> {
    match of_stage(waves, stage) {
        None => alone(pass, stage, setup, device),
        Some(wave) => wave.loops_of(pass, stage).to_vec(),
    }
}

fn alone(pass: &Pass, stage: usize, setup: Setup, device: &Device) -> Vec<Share> {
    let stage = &pass.stages[stage];
    let tracks: Vec<_> = stage.tracks.iter().filter(|_| stage.kind == StageKind::Loop).collect();
    shares::choose(&tracks, setup, device)
}

/// How a wave's loops share the device, in how many chunks, and its time. Loops of one stage are none: they run side by
/// side in any case.
fn time(candidate: &Candidate<'_>, setup: Setup, device: &Device) -> Option<Timed<Share>> {
    let (pass, tracks) = (candidate.pass, &candidate.tracks);
    if candidate.stages.0 == candidate.stages.1 || tracks.len() > device.multiprocessors {
        return None;
    }
    let shares = shares::beside(tracks, setup, device);
    let between = candidate.inside().filter(|(stage, _)| pass.stages[*stage].kind != StageKind::Loop);

    let rates = device.rates;
    let rows = setup.window * setup.streams;
    let us = |(flops, bytes): (f64, f64)| flops / (rates.f32_tflops * 1e6) + bytes / (rates.memory_tbs * 1e6);
    // Loops take most of the device, so what stands between them takes longer than alone.
    let slower: f64 = between.map(|(_, access)| us(access.cost(rows))).sum();
    let weights: usize = tracks.iter().map(|track| step::track::weights(track)).sum();
    // Each launch of a loop reads its weights.
    let start = 2.0 * rates.launch_us * candidate.inside().count() as f64 + us((0.0, 4.0 * weights as f64));
    let longest = shares.iter().map(|share| share.us).fold(0.0, f64::max);
    let all: f64 = shares.iter().map(|share| share.us).sum();
    let time = |chunks: usize| longest + (all - longest) / chunks as f64 + slower + start * chunks as f64;
    let counts = candidate.counts(setup.window, MOST_CHUNKS);
    let chunks = counts.min_by(|&a, &b| time(a).total_cmp(&time(b)))?;
    Some(Timed { chunks, us: time(chunks), loops: shares })
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
                let (us, needs) = (job.us / wave.chunks as f64, job.needs.of_chunk(wave.chunks));
                Draft { chunk: Some(chunk), frames, us, needs, ..job.clone() }
            }));
        }
        jobs.extend(after);
    }
    jobs
}
