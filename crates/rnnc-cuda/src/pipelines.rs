//! Pipelines on a GPU: which are worth it, and how their loops share the device. What can be one, [`rnnc_plan::pipelines`] says.

use crate::device::Device;
use crate::lanes::Draft;
use crate::program::Frames;
use crate::stages::step::{
    self,
    shares::{self, Share},
};
use rnnc_plan::access::{Access, Chunk};
use rnnc_plan::pipelines::{self, Candidate, Role, Timed, of_stage};
use rnnc_plan::{ExecutionConfig, Pass, Plan, StageKind};

/// With the layout of each loop.
pub(crate) type Pipeline = pipelines::Pipeline<Share>;

/// The most chunks.
const MOST_CHUNKS: usize = 32;

/// Predictions are not exact: what a pipeline may take at most of the time without it.
const LEAST_GAIN: f64 = 0.9;

/// What a pass's jobs touch, stage after stage, and its pipelines.
#[derive(Clone, Debug, Default)]
pub(crate) struct PassPipelines {
    pub accesses: Vec<Vec<Access>>,
    pub pipelines: Vec<Pipeline>,
}

impl PassPipelines {
    /// Of the forward pass, and of the backward pass if there is one.
    pub fn of_plan(plan: &Plan, config: ExecutionConfig, device: &Device) -> Vec<PassPipelines> {
        let of = |pass: &Pass| {
            let accesses: Vec<Vec<Access>> = pass.stages.iter().map(Access::of_stage).collect();
            let alone = |stage: usize| shares::time(&alone(pass, stage, config, device));
            let time = |candidate: &Candidate<'_>| time(candidate, config, device);
            let pipelines = pipelines::find(pass, &accesses, LEAST_GAIN, alone, time);
            PassPipelines { accesses, pipelines }
        };
        std::iter::once(&plan.forward_pass).chain(&plan.backward_pass).map(of).collect()
    }
}

/// The levels (see [`Plan::levels`]) that each pipeline makes one.
pub(crate) fn levels(plan: &Plan, passes: &[PassPipelines]) -> Vec<(usize, usize)> {
    pipelines::levels(plan, passes.iter().map(|pass| &pass.pipelines[..]))
}

/// The layouts of the loops of a stage.
pub(crate) fn shares(
    pass: &Pass,
    pipelines: &[Pipeline],
    stage: usize,
    config: ExecutionConfig,
    device: &Device,
) -> Vec<Share> {
    match of_stage(pipelines, stage) {
        None => alone(pass, stage, config, device),
        Some(pipeline) => pipeline.loops_of(pass, stage).to_vec(),
    }
}

fn alone(pass: &Pass, stage: usize, config: ExecutionConfig, device: &Device) -> Vec<Share> {
    let stage = &pass.stages[stage];
    let tasks: Vec<_> = stage.tasks.iter().filter(|_| stage.kind == StageKind::Loop).collect();
    shares::choose(&tasks, config, device)
}

/// How a pipeline's loops share the device, in how many chunks, and its time. Loops of one stage are none: they run side by
/// side in any case.
fn time(candidate: &Candidate<'_>, config: ExecutionConfig, device: &Device) -> Option<Timed<Share>> {
    let (pass, tasks) = (candidate.pass, &candidate.tasks);
    if candidate.stages.0 == candidate.stages.1 || tasks.len() > device.multiprocessors {
        return None;
    }
    let shares = shares::beside(tasks, config, device);
    let between = candidate.inside().filter(|(stage, _)| pass.stages[*stage].kind != StageKind::Loop);

    let rates = device.rates;
    let rows = config.window * config.streams;
    let us = |(flops, bytes): (f64, f64)| flops / (rates.f32_tflops * 1e6) + bytes / (rates.memory_tbs * 1e6);
    // Loops take most of the device, so what stands between them takes longer than alone.
    let slower: f64 = between.map(|(_, access)| us(access.cost(rows))).sum();
    let weights: usize = tasks.iter().map(|task| step::task::weights(task)).sum();
    // Each launch of a loop reads its weights.
    let start = 2.0 * rates.launch_us * candidate.inside().count() as f64 + us((0.0, 4.0 * weights as f64));
    let longest = shares.iter().map(|share| share.us).fold(0.0, f64::max);
    let all: f64 = shares.iter().map(|share| share.us).sum();
    let time = |chunks: usize| longest + (all - longest) / chunks as f64 + slower + start * chunks as f64;
    let counts = candidate.counts(config.window, MOST_CHUNKS);
    let chunks = counts.min_by(|&a, &b| time(a).total_cmp(&time(b)))?;
    Some(Timed { chunks, us: time(chunks), loops: shares })
}

/// The jobs of a pass in the order of its pipelines, from those of each stage.
pub(crate) fn in_order(stages: Vec<Vec<Draft>>, pipelines: &[Pipeline]) -> Vec<Draft> {
    let mut jobs = Vec::new();
    let mut stages = stages.into_iter().enumerate();
    while let Some((number, own)) = stages.next() {
        let Some((name, pipeline)) =
            pipelines.iter().enumerate().find(|(_, pipeline)| pipeline.stages.0 == number)
        else {
            jobs.extend(own);
            continue;
        };
        let rest = stages.by_ref().take(pipeline.stages.1 - number).map(|(_, own)| own);
        let all = std::iter::once(own).chain(rest).flatten().zip(pipeline.roles.iter().flatten());
        let (mut inside, mut after) = (Vec::new(), Vec::new());
        for (job, role) in all {
            match role {
                Role::Before => jobs.push(job),
                Role::Inside => inside.push(job),
                Role::After => after.push(job),
            }
        }
        for number in 0..pipeline.chunks {
            let chunk = Chunk { pipeline: name, number, direction: pipeline.direction };
            let frames = Frames::Chunk { number, of: pipeline.chunks, direction: pipeline.direction };
            jobs.extend(inside.iter().map(|job| {
                let (us, needs) = (job.us / pipeline.chunks as f64, job.needs.of_chunk(pipeline.chunks));
                Draft { chunk: Some(chunk), frames, us, needs, ..job.clone() }
            }));
        }
        jobs.extend(after);
    }
    jobs
}
