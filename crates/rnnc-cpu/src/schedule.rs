//! How the cores of a CPU run a plan: the plan is the network's, the schedule is the device's.
//!
//! It follows from the plan and from speeds that are constants, so it is the same on every machine:
//! - `speeds.rs`: what a core is taken to do, and `model.rs`, what stages therefore take;
//! - `partition.rs`: how each stage is shared out among workers;
//! - `pipelines.rs`: loops that run at the same time;
//! - `time_blocks.rs`: stages that take turns for some frames at a time, so that what they pass on stays in a cache;
//! - `rings.rs`: the buffers that need no more frames than these.

mod model;
mod options;
mod partition;
mod pipelines;
mod rings;
mod speeds;
#[cfg(test)]
mod tests;
mod time_blocks;

pub(crate) use model::grain;
pub use options::ScheduleOptions;
pub use pipelines::WorkerGroup;
pub use speeds::Speeds;
pub use time_blocks::TimeBlock;

use model::Model;
use rnnc_plan::access::Access;
use rnnc_plan::pipelines::Pipeline;
use rnnc_plan::{Partition, Pass, Plan, Residency, Stage, StageKind};

/// How workers run a plan.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    /// What it was made for.
    pub options: ScheduleOptions,
    /// Of the forward pass.
    pub forward: PassSchedule,
    /// Of the backward pass, if there is one.
    pub backward: Option<PassSchedule>,
}

/// How workers run a pass.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PassSchedule {
    /// How each stage is shared out.
    pub partitions: Vec<Partition>,
    /// Loops that run at the same time.
    pub pipelines: Vec<Pipeline<WorkerGroup>>,
    /// Stages that run time block after time block of the frames.
    pub time_blocks: Vec<TimeBlock>,
    /// Predicted microseconds of a window.
    pub us: f64,
    /// The same by one worker alone.
    pub us_of_one: f64,
}

impl Schedule {
    /// Chooses how to run a plan.
    pub fn new(plan: &Plan, options: ScheduleOptions) -> Schedule {
        let model = Model::new(options);
        let mut schedule = Schedule {
            options,
            forward: model.schedule(&plan.forward_pass),
            backward: plan.backward_pass.as_ref().map(|pass| model.schedule(pass)),
        };
        let stages = schedule
            .time_blocks(plan)
            .map(|(pass, block)| (pass + block.stages.0, pass + block.stages.1, block.frames));
        let rings = rings::find(plan, &stages.collect::<Vec<_>>());
        let passes = std::iter::once(&mut schedule.forward).chain(&mut schedule.backward);
        let blocks = passes.flat_map(|pass| &mut pass.time_blocks);
        blocks.zip(rings).for_each(|(block, rings)| block.rings = rings);
        schedule
    }

    /// Those of both passes, in their order.
    pub fn passes(&self) -> impl Iterator<Item = &PassSchedule> {
        std::iter::once(&self.forward).chain(&self.backward)
    }

    /// How each stage is shared out, in the order of [`Plan::stages`].
    pub fn partitions(&self) -> impl Iterator<Item = Partition> {
        self.passes().flat_map(|pass| &pass.partitions).copied()
    }

    /// Predicted microseconds of a window for each way to share out a stage, the simplest first.
    pub fn choices(&self, stage: &Stage) -> Vec<(Partition, f64)> {
        Model::new(self.options).choices(stage)
    }

    /// What it asks of memory, in windows of so many frames.
    pub fn residency(&self, plan: &Plan, window: usize) -> Residency {
        let mut at_once = rnnc_plan::pipelines::levels(plan, self.passes().map(|pass| &pass.pipelines[..]));
        at_once.extend(plan.levels_of(self.time_blocks(plan).map(|(first, block)| (first, block.stages))));
        let rings = self.passes().flat_map(|pass| &pass.time_blocks).flat_map(|block| &block.rings);
        let rings = rings.filter(|ring| ring.1 < window).copied().collect();
        Residency { at_once, rings, residuals_apart: false }
    }

    /// The time blocks of both passes, with the number of the pass's first stage among those of both.
    fn time_blocks(&self, plan: &Plan) -> impl Iterator<Item = (usize, &TimeBlock)> {
        let passes = self.passes().zip([0, plan.forward_pass.stages.len()]);
        passes.flat_map(|(pass, first)| pass.time_blocks.iter().map(move |block| (first, block)))
    }
}

impl PassSchedule {
    /// Whether one worker does all, and waits for nobody.
    pub fn is_serial(&self) -> bool {
        self.pipelines.is_empty() && self.partitions.iter().all(|&partition| partition == Partition::Serial)
    }

    /// The time block that a stage is part of.
    pub fn time_block_of(&self, stage: usize) -> Option<&TimeBlock> {
        // They stand in the order of their stages.
        let block = self.time_blocks.get(self.time_blocks.partition_point(|block| block.stages.1 < stage));
        block.filter(|block| block.stages.0 <= stage)
    }
}

impl Model {
    fn schedule(self, pass: &Pass) -> PassSchedule {
        let accesses: Vec<Vec<Access>> = pass.stages.iter().map(Access::of_stage).collect();
        let us_of_one: f64 = pass.stages.iter().map(|stage| self.us(stage, Partition::Serial)).sum();
        // Of no stages there are -0.
        let us_of_one = us_of_one + 0.0;
        let serial = PassSchedule {
            partitions: vec![Partition::Serial; pass.stages.len()],
            us: us_of_one,
            us_of_one,
            ..PassSchedule::default()
        };
        let mut schedule = self.shared_out(pass, &accesses, us_of_one).unwrap_or(serial);
        let PassSchedule { partitions, pipelines, .. } = &schedule;
        schedule.time_blocks = time_blocks::find(pass, partitions, pipelines, &accesses)
            .into_iter()
            .filter_map(|block| self.time_block(pass, partitions, block))
            .collect();
        schedule
    }

    /// A pass whose stages are shared out, each in the way that is fastest, if that is faster than by one worker.
    fn shared_out(self, pass: &Pass, accesses: &[Vec<Access>], us_of_one: f64) -> Option<PassSchedule> {
        if self.workers == 1 {
            return None;
        }
        let partitions: Vec<Partition> = pass.stages.iter().map(|stage| self.best(stage).0).collect();
        // With the barrier behind it.
        let by_itself = |at: usize| self.us(&pass.stages[at], partitions[at]) + self.speeds.barrier;
        let least_gain = Speeds::LEAST_GAIN;
        let pipelines = rnnc_plan::pipelines::find(pass, accesses, least_gain, by_itself, |candidate| {
            self.pipeline(candidate)
        });
        let in_a_pipeline = |at: usize| {
            pass.stages[at].kind == StageKind::Loop
                && rnnc_plan::pipelines::of_stage(&pipelines, at).is_some()
        };
        let rest: f64 = (0..pass.stages.len()).filter(|&at| !in_a_pipeline(at)).map(by_itself).sum();
        let us = rest + pipelines.iter().map(|pipeline| pipeline.us).sum::<f64>();
        let is_serial = pipelines.is_empty() && partitions.iter().all(|&p| p == Partition::Serial);
        let begin = if self.frames > 1 { self.speeds.run } else { self.speeds.wake };
        // A pass by itself runs on the caller alone, and waits for nobody.
        let pays = !is_serial && us + begin < us_of_one;
        pays.then_some(PassSchedule { partitions, pipelines, time_blocks: Vec::new(), us, us_of_one })
    }
}
