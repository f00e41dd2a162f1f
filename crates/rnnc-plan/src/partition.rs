//! How work is shared out among the cores of a CPU: what each way would take is predicted from counts of the plan and from
//! speeds that are constants, never measured, so that the same network makes the same choice everywhere.
//!
//! A stage is partitioned by rows, by units, a loop by whole heads and a scan by chunks of frames too, or not at all; loops that can run at
//! the same time make a pipeline (`pipelines.rs`), in which each has workers of its own. Stages that pass on more than caches hold run in time blocks of frames
//! (`time_blocks.rs`).

use crate::access::Access;
use crate::cost::Cost;
use crate::memory::for_each_view;
use crate::pipelines::{self, Candidate, Timed};
use crate::plan::{Op, Partition, Pass, Plan, PlanOptions, Stage, StageKind, Task, View};
use crate::recurrence::Chunks;
use crate::time_blocks::{self, TimeBlock};
use std::ops::Range;

/// What a core is taken to do in a microsecond, and what barrier others costs it. Where the numbers come from, bench/NOTES.md
/// says; only their ratios matter to the choices.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Speeds {
    /// Floating-point operations of products.
    pub product: f64,
    /// All others; a transcendental function counts 10.
    pub other: f64,
    /// Bytes of weights that are read from the core's own cache.
    pub near: f64,
    /// The same from the cache that all share.
    pub far: f64,
    /// The same from memory, while all cores read.
    pub memory: f64,
    /// How many bytes the core's own cache holds from step to step, and how many the shared one.
    pub caches: (f64, f64),
    /// Bytes of values that a core moves, from one stage to the next: in its own cache, in the shared one, in memory.
    pub values: [f64; 3],
    /// Microseconds of beginning an operation, or a row of one that is no product.
    pub step: f64,
    /// Microseconds that a barrier of workers takes, waiting for the slowest included.
    pub barrier: f64,
    /// Microseconds until all workers have begun, and the caller has learned of their end.
    pub run: f64,
    /// The same if they sleep: where the caller hands in one frame at a time.
    pub wake: f64,
}

impl Speeds {
    /// Of a core.
    pub const CORE: Speeds = Speeds {
        product: 95e3,
        other: 10e3,
        near: 85e3,
        far: 70e3,
        memory: 15e3,
        caches: ((512 << 10) as f64, (16 << 20) as f64),
        values: [85e3, 60e3, 25e3],
        step: 0.02,
        barrier: 1.0,
        run: 1.0,
        wake: 30.0,
    };

    /// Rows for which a worker reads a matrix once.
    const ROWS: f64 = 192.0;

    /// The most chunks of a pipeline.
    const MOST_CHUNKS: usize = 64;

    /// What it takes at most to run a scan in chunks, beside as it stands: tiles of frames are copied to and fro.
    const IN_CHUNKS: f64 = 1.5;

    /// Predictions are not exact: what a pipeline may take at most of the time without it.
    const LEAST_GAIN: f64 = 0.95;

    /// The same of time blocks, which leave the sharing out as it is: with 512 units they are predicted to gain 2%, and lose.
    const LEAST_GAIN_OF_TIME_BLOCKS: f64 = 0.975;
}

/// The workers of a loop in a pipeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lane {
    /// Which.
    pub workers: Range<usize>,
    /// How they share it out.
    pub partition: Partition,
}

/// What is to be shared out, and among whom.
#[derive(Clone, Copy, Debug)]
struct Model {
    speeds: Speeds,
    workers: usize,
    streams: usize,
    frames: usize,
}

/// The ways to share out some tasks, but for chunks of frames, the simplest first.
fn partitions(tasks: &[&Task]) -> impl Iterator<Item = Partition> {
    let heads = tasks.iter().any(|task| task.heads > 1).then_some(Partition::Heads);
    [Partition::Serial, Partition::Batch, Partition::Units].into_iter().chain(heads)
}

/// Of layers, or slices of them, that many units are shared out together: those of a head, if they fall into so many of more than
/// one, or a cache line's.
pub fn grain(slice_len: usize, heads: usize) -> usize {
    const LINE: usize = 16;
    if heads > 1 && slice_len.is_multiple_of(heads) { slice_len / heads } else { LINE }
}

impl Stage {
    /// Predicted microseconds of a window for each way to share it out, the simplest first.
    pub fn choices(&self, options: PlanOptions) -> Vec<(Partition, f64)> {
        Model::new(Speeds::CORE, options).choices(self)
    }
}

impl Pass {
    /// Predicted microseconds of a window: as it is partitioned, and by one worker alone.
    pub fn predicted(&self, options: PlanOptions) -> (f64, f64) {
        let model = Model::new(Speeds::CORE, options);
        // Of no stages there are -0.
        (model.pass(self) + 0.0, model.alone(self) + 0.0)
    }
}

impl Plan {
    /// Chooses anew how work is shared out, for another number of workers, streams or frames than the plan was made
    /// for. Nothing else in a plan depends on them.
    pub fn partition_stages(&mut self, workers: usize, streams: usize, frames: usize) {
        self.options = PlanOptions { workers, streams, frames, ..self.options };
        self.partition_stages_at(Speeds::CORE);
    }

    /// The same for cores of other speeds.
    pub fn partition_stages_at(&mut self, speeds: Speeds) {
        let model = Model::new(speeds, self.options);
        for pass in std::iter::once(&mut self.forward_pass).chain(&mut self.backward_pass) {
            model.partition_stages(pass);
        }
        time_blocks::find_rings(self);
    }
}

impl Model {
    fn new(speeds: Speeds, options: PlanOptions) -> Model {
        let PlanOptions { workers, streams, frames, .. } = options;
        Model { speeds, workers: workers.max(1), streams: streams.max(1), frames: frames.max(1) }
    }

    fn partition_stages(self, pass: &mut Pass) {
        (pass.pipelines, pass.time_blocks) = (Vec::new(), Vec::new());
        let accesses: Vec<Vec<Access>> = pass.stages.iter().map(Access::of_stage).collect();
        self.share_out(pass, &accesses);
        pass.time_blocks =
            time_blocks::find(pass, &accesses).into_iter().filter_map(|s| self.time_block(pass, s)).collect();
    }

    /// How each stage is partitioned, and which are pipelines.
    fn share_out(self, pass: &mut Pass, accesses: &[Vec<Access>]) {
        for stage in &mut pass.stages {
            stage.partition = if self.workers > 1 { self.best(stage).0 } else { Partition::Serial };
        }
        if self.workers == 1 {
            return;
        }
        let by_itself = |stage: usize| self.stage(&pass.stages[stage]);
        pass.pipelines = pipelines::find(pass, accesses, Speeds::LEAST_GAIN, by_itself, |pipeline| {
            self.pipeline(pipeline)
        });
        let begin = if self.frames > 1 { self.speeds.run } else { self.speeds.wake };
        // A pass by itself runs on the caller alone, and waits for nobody.
        if self.alone(pass) <= self.pass(pass) + begin {
            pass.stages.iter_mut().for_each(|stage| stage.partition = Partition::Serial);
            pass.pipelines = Vec::new();
        }
    }

    /// Microseconds of a window by one worker.
    fn alone(self, pass: &Pass) -> f64 {
        pass.stages.iter().map(|stage| self.us(stage, Partition::Serial)).sum()
    }

    /// Microseconds of a window as a pass is partitioned.
    fn pass(self, pass: &Pass) -> f64 {
        if pass.pipelines.is_empty() && pass.stages.iter().all(|stage| stage.partition == Partition::Serial) {
            return self.alone(pass);
        }
        let in_a_wave = |at: usize, stage: &Stage| {
            stage.kind == StageKind::Loop && pipelines::of_stage(&pass.pipelines, at).is_some()
        };
        let rest = pass.stages.iter().enumerate().filter(|&(at, stage)| !in_a_wave(at, stage));
        let rest: f64 = rest.map(|(_, stage)| self.stage(stage)).sum();
        rest + pass.pipelines.iter().map(|pipeline| pipeline.us).sum::<f64>()
    }

    /// Microseconds of a window that a stage takes as it is partitioned, the barrier behind it included.
    fn stage(self, stage: &Stage) -> f64 {
        self.us(stage, stage.partition) + self.speeds.barrier
    }

    fn choices(self, stage: &Stage) -> Vec<(Partition, f64)> {
        let tasks: Vec<&Task> = stage.tasks.iter().collect();
        let choices = partitions(&tasks).map(|partition| (partition, self.us(stage, partition)));
        let chunks = if stage.kind == StageKind::Scan { self.chunks(stage) } else { None };
        choices.chain(chunks.map(|us| (Partition::Time, us))).collect()
    }

    /// Microseconds of a window of a scan whose frames are shared out, if they can be.
    fn chunks(self, stage: &Stage) -> Option<f64> {
        // A state's way from chunk to chunk.
        let Speeds { step, barrier, .. } = self.speeds;
        let chunks = Chunks::of(&stage.tasks, self.workers).filter(|_| self.workers > 1)?;
        let alone = self.us(stage, Partition::Serial);
        Some(alone * chunks.share() * Speeds::IN_CHUNKS + barrier + step * self.workers as f64)
    }

    /// The fastest way to share out a stage; of equal ones the simplest.
    fn best(self, stage: &Stage) -> (Partition, f64) {
        fastest(&self.choices(stage))
    }

    /// Microseconds of a window.
    fn us(self, stage: &Stage, partition: Partition) -> f64 {
        if partition == Partition::Time
            && let Some(us) = self.chunks(stage)
        {
            return us;
        }
        match stage.kind {
            StageKind::Frames => self.all_frames(stage, partition),
            StageKind::Scan | StageKind::Loop => {
                let tasks: Vec<&Task> = stage.tasks.iter().collect();
                let barriers = stage.barriers_per_step(partition);
                let steps = tasks.iter().map(|task| self.steps(task)).fold(0.0, f64::max);
                let bytes = weight_bytes(&tasks);
                let work: f64 = tasks.iter().map(|task| self.task(task, partition, bytes)).sum();
                work + if self.workers > 1 { steps * barriers as f64 * self.speeds.barrier } else { 0.0 }
            }
        }
    }

    fn all_frames(self, stage: &Stage, partition: Partition) -> f64 {
        let Model { workers, streams, frames, .. } = self;
        // What is too much is refused later, with the memory that it would take.
        let all = frames.saturating_mul(streams);
        let rows = match partition {
            Partition::Batch if frames < workers => frames.saturating_mul(streams.div_ceil(workers)),
            Partition::Batch => frames.div_ceil(workers).saturating_mul(streams),
            Partition::Units | Partition::Heads | Partition::Time | Partition::Serial => all,
        };
        let by = By { workers: if partition == Partition::Units { workers } else { 1 }, heads: 1 };
        let ops = stage.tasks.iter().flat_map(|task| &task.phases).flat_map(|phase| &phase.ops);
        ops.map(|placed| match placed.op {
            // Dealt by weights, if at all.
            Op::WeightGradient(_) | Op::TableGradient(_) | Op::Reduce(_) => {
                let workers = if partition == Partition::Serial { 1 } else { workers };
                self.op(&placed.op, all, By::ONE, self.speeds.far) / workers as f64
            }
            _ => self.op(&placed.op, rows, by, self.speeds.far),
        })
        .sum()
    }

    /// How many steps a loop has.
    fn steps(self, task: &Task) -> f64 {
        self.frames.div_ceil(self.block(task)) as f64
    }

    fn block(self, task: &Task) -> usize {
        task.block.clamp(1, self.frames)
    }

    /// A loop's or a scan's work in a window, without barriers, while all that run read weights of so many bytes in a step.
    fn task(self, task: &Task, partition: Partition, bytes: f64) -> f64 {
        let Speeds { near, far, memory, caches, .. } = self.speeds;
        let workers = self.workers;
        let (streams, by) = match partition {
            Partition::Serial | Partition::Time => (self.streams, By::ONE),
            Partition::Batch => (self.streams.div_ceil(workers), By::ONE),
            Partition::Units => (self.streams, By { workers, heads: 1 }),
            Partition::Heads => (self.streams, By { workers, heads: task.heads }),
        };
        let own = weight_bytes(&[task]) / by.parts() as f64;
        let reading = if bytes > caches.1 {
            memory
        } else if own > caches.0 {
            far
        } else {
            near
        };
        let rows = streams.saturating_mul(self.block(task));
        let ops = task.phases.iter().flat_map(|phase| &phase.ops);
        self.steps(task) * ops.map(|placed| self.op(&placed.op, rows, by, reading)).sum::<f64>()
    }

    /// An operation on some rows, by the worker that has the most units; weights come at a speed.
    fn op(self, op: &Op, rows: usize, by: By, reading: f64) -> f64 {
        let Speeds { product, other, step, .. } = self.speeds;
        let cost = Cost::of_op(op);
        let rows = rows as f64;
        let products =
            f64::max(cost.product_flops as f64 * rows / product, cost.weight_bytes as f64 / reading);
        let slice_len = match op {
            Op::MatMul(products) => products.iter().map(|p| p.slice_len).max(),
            Op::Map(map) => Some(map.slice_len),
            Op::Gather(look_ups) => look_ups.iter().map(|l| l.slice_len).max(),
            Op::Vector(vector) => Some(vector.slice_len),
            Op::WeightGradient(_) | Op::TableGradient(_) | Op::Reduce(_) => None,
        };
        let share = slice_len.map_or(1.0, |slice_len| by.share(slice_len));
        let begun = match op {
            // Nobody begins another's heads.
            Op::MatMul(products) => {
                products.iter().map(|p| if p.to.len < p.slice_len { share } else { 1.0 }).sum()
            }
            _ => rows,
        };
        (products + cost.other_flops as f64 * rows / other) * share + step * begun
    }

    /// Stages in time blocks of so many frames that what moves between them stays in a cache, if that is faster than all frames at
    /// once.
    fn time_block(self, pass: &Pass, time_block: TimeBlock) -> Option<TimeBlock> {
        let stages = &pass.stages[time_block.stages.0..=time_block.stages.1];
        let shared = stages.iter().any(|stage| stage.partition != Partition::Serial);
        let model = Model { workers: if shared { self.workers } else { 1 }, ..self };
        let all = model.moving(stages, self.frames);
        let lengths = std::iter::successors(Some(1usize), |frames| frames.checked_mul(2));
        // Each worker is to have rows of every time block.
        let lengths = lengths.filter(|&frames| frames.max(self.streams) >= model.workers);
        let times = lengths
            .take_while(|&frames| frames < self.frames)
            .map(|frames| (frames, model.moving(stages, frames)));
        let (frames, own) = times.min_by(|(_, a), (_, b)| a.total_cmp(b))?;
        let rest: f64 = stages.iter().map(|stage| self.us(stage, stage.partition)).sum();
        (rest + own < (rest + all) * Speeds::LEAST_GAIN_OF_TIME_BLOCKS)
            .then_some(TimeBlock { frames, ..time_block })
    }

    /// Microseconds of a window that some stages take to move their values, and matrices, in time blocks of so many frames; and to
    /// begin them.
    fn moving(self, stages: &[Stage], frames: usize) -> f64 {
        let Speeds { values, caches, far, step, barrier, .. } = self.speeds;
        let workers = self.workers as f64;
        let bytes = |views: &[View]| {
            4.0 * views.iter().map(|view| view.len as f64).sum::<f64>() * self.streams as f64
        };
        let mut views: Vec<View> = Vec::new();
        stages.iter().for_each(|stage| for_each_view(stage, &mut |view| views.push(view)));
        let moved = bytes(&views) * self.frames as f64;
        views.sort_unstable();
        views.dedup();
        let at_once = bytes(&views) * frames as f64;
        let speed = match () {
            () if at_once <= caches.0 * workers => values[0],
            () if at_once <= caches.1 => values[1],
            () => values[2],
        };
        // A loop reads its matrices in any case. Others are read, or gradients added to, once for so many rows.
        let frames_stages = stages.iter().filter(|stage| stage.kind == StageKind::Frames);
        let matrices: f64 = frames_stages.map(|stage| stage.cost.weight_bytes as f64).sum();
        let rows = (frames as f64 * self.streams as f64 / workers / Speeds::ROWS).ceil();
        let phases = stages.iter().flat_map(|stage| &stage.tasks).flat_map(|task| &task.phases);
        let ops = phases.map(|phase| phase.ops.len()).sum::<usize>() as f64;
        let barriers = if self.workers > 1 { stages.len() as f64 } else { 0.0 };
        let time_blocks = self.frames.div_ceil(frames) as f64;
        moved / workers / speed + time_blocks * (rows * matrices / far + step * ops + barrier * barriers)
    }

    /// How loops share the workers, and the microseconds of a window that the busiest of them takes.
    fn lanes(self, tasks: &[&Task]) -> (Vec<Lane>, f64) {
        let bytes = weight_bytes(tasks);
        let best = |task: &Task, workers: usize| {
            let part = Model { workers, ..self };
            let us = |partition: Partition| {
                let barriers = if workers > 1 { task.barriers_per_step(partition) } else { 0 };
                part.task(task, partition, bytes) + part.steps(task) * self.speeds.barrier * barriers as f64
            };
            fastest(&partitions(&[task]).map(|partition| (partition, us(partition))).collect::<Vec<_>>())
        };
        if tasks.len() >= self.workers {
            // The longest first, each to the worker that has the least.
            let mut loads = vec![0.0f64; self.workers];
            let us: Vec<f64> = tasks.iter().map(|task| best(task, 1).1).collect();
            let mut order: Vec<usize> = (0..tasks.len()).collect();
            order.sort_by(|&a, &b| us[b].total_cmp(&us[a]));
            let mut lanes = vec![Lane { workers: 0..1, partition: Partition::Serial }; tasks.len()];
            for task in order {
                let least = (0..self.workers).min_by(|&a, &b| loads[a].total_cmp(&loads[b])).unwrap_or(0);
                lanes[task].workers = least..least + 1;
                loads[least] += us[task];
            }
            return (lanes, loads.into_iter().fold(0.0, f64::max));
        }
        // One each, and the rest one by one to the loop that takes longest.
        let mut counts = vec![1; tasks.len()];
        let us = |counts: &[usize], task: usize| best(tasks[task], counts[task]).1;
        for _ in tasks.len()..self.workers {
            let slowest =
                (0..tasks.len()).max_by(|&a, &b| us(&counts, a).total_cmp(&us(&counts, b))).unwrap_or(0);
            counts[slowest] += 1;
        }
        let longest = (0..tasks.len()).map(|task| us(&counts, task)).fold(0.0, f64::max);
        let mut first = 0;
        let lanes = tasks.iter().zip(&counts).map(|(task, &count)| {
            first += count;
            Lane { workers: first - count..first, partition: best(task, count).0 }
        });
        (lanes.collect(), longest)
    }

    /// What loops take as a pipeline: in each round, workers first share out the rows of what stands between the loops, and then
    /// each has its loops' chunks.
    fn pipeline(self, candidate: &Candidate<'_>) -> Option<Timed<Lane>> {
        if candidate.tasks.len() == 1 {
            return None;
        }
        let (loops, longest) = self.lanes(&candidate.tasks);
        let between: Vec<Stage> = candidate.between().collect();
        let rows = |frames: usize| {
            let part = Model { frames, ..self };
            between.iter().map(|stage| part.all_frames(stage, Partition::Batch)).sum::<f64>()
        };
        let is_loop = |stage: &&Stage| stage.kind == StageKind::Loop;
        let (first, last) = candidate.stages;
        let behind = candidate.pass.stages[first..=last].iter().filter(is_loop).count() - 1;
        let barriers = if between.is_empty() { 1.0 } else { 2.0 } * self.speeds.barrier;
        let time = |chunks: usize| {
            let rounds = (chunks + behind) as f64;
            let between = chunks as f64 * rows(self.frames.div_ceil(chunks)) - rows(self.frames);
            rounds * (longest / chunks as f64 + barriers) + between
        };
        let counts = candidate.counts(self.frames, Speeds::MOST_CHUNKS);
        let chunks = counts.min_by(|&a, &b| time(a).total_cmp(&time(b)))?;
        Some(Timed { chunks, loops, us: time(chunks) })
    }
}

/// The fastest; of equal ones the first.
fn fastest(choices: &[(Partition, f64)]) -> (Partition, f64) {
    choices.iter().copied().fold(choices[0], |best, next| if next.1 < best.1 { next } else { best })
}

/// Bytes of the weights that a step of some loops reads.
fn weight_bytes(tasks: &[&Task]) -> f64 {
    let ops = tasks.iter().flat_map(|task| &task.phases).flat_map(|phase| &phase.ops);
    ops.map(|placed| Cost::of_op(&placed.op).weight_bytes as f64).sum()
}

/// Among whom the units of layers are shared out, and into how many heads those of a loop fall.
#[derive(Clone, Copy, Debug)]
struct By {
    workers: usize,
    heads: usize,
}

impl By {
    /// One worker has all.
    const ONE: By = By { workers: 1, heads: 1 };

    /// How many have some.
    fn parts(self) -> usize {
        if self.heads > 1 { self.workers.min(self.heads) } else { self.workers }
    }

    /// The largest share of a layer's units that a worker has.
    fn share(self, slice_len: usize) -> f64 {
        let grain = grain(slice_len, self.heads);
        let most = slice_len.div_ceil(grain).div_ceil(self.workers) * grain;
        (most as f64 / slice_len.max(1) as f64).min(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::PlanOptions;
    use rnnc_graph::{Activation, Connect, Graph, Init};

    /// Layers h = tanh(W below + U h[t-1]), each over the one before, or, if not stacked, all over the input.
    fn layers(count: usize, units: usize, stacked: bool) -> Graph {
        let mut graph = Graph::new("layers");
        let mut below = graph.input("x", units);
        for layer in 0..count {
            let h = graph.sum(format!("h{layer}"), units, Activation::Tanh);
            for (name, source, delay) in [("W", below, 0), ("U", h, 1)] {
                let name = format!("h{layer}.{name}");
                let weight = graph.weight(name, &[units, units], Init::Uniform(0.1));
                graph.connect(source, h, Connect::full(weight).delay(delay));
            }
            graph.output(format!("h{layer}"), h);
            if stacked {
                below = h;
            }
        }
        graph
    }

    fn plan(graph: &Graph, workers: usize, streams: usize, frames: usize) -> Plan {
        let options = PlanOptions { workers, ..PlanOptions::training(streams, frames) };
        Plan::new(graph, options).unwrap()
    }

    fn partitions(plan: &Plan) -> Vec<Partition> {
        plan.stages().filter(|stage| stage.kind == StageKind::Loop).map(|stage| stage.partition).collect()
    }

    /// Stages and chunks of each pass's pipelines.
    fn pipelines_of(plan: &Plan) -> Vec<Vec<((usize, usize), usize)>> {
        let passes = std::iter::once(&plan.forward_pass).chain(&plan.backward_pass);
        passes
            .map(|pass| pass.pipelines.iter().map(|pipeline| (pipeline.stages, pipeline.chunks)).collect())
            .collect()
    }

    #[test]
    fn a_pass_is_predicted_by_its_stages_as_they_are_partitioned() {
        let graph = layers(1, 512, false);
        let plan = |workers: usize| {
            let options = PlanOptions { workers, ..PlanOptions::inference(4, 256) };
            let plan = Plan::new(&graph, options).unwrap();
            (plan.forward_pass.predicted(options), plan)
        };
        let ((all, one), _) = plan(1);
        assert_eq!(all, one);
        let ((all, by_one), shared) = plan(8);
        assert_eq!(by_one, one);
        let stages = &shared.forward_pass.stages;
        let sum: f64 =
            stages.iter().map(|s| Model::new(Speeds::CORE, shared.options).us(s, s.partition)).sum();
        let barriers = stages.len() as f64 * Speeds::CORE.barrier;
        assert!((all - sum - barriers).abs() < 1e-9 * all, "{all}, of which {sum} are the stages'");
        assert!(all < one / 3.0, "{all} of {one}");
        // In a pipeline, its loops count once, together.
        let stacked = layers(2, 256, true);
        let options = PlanOptions { workers: 2, ..PlanOptions::inference(1, 256) };
        let plan = Plan::new(&stacked, options).unwrap();
        let pipelines = &plan.forward_pass.pipelines;
        assert!(!pipelines.is_empty(), "two loops, one above the other, make a pipeline");
        let (all, one) = plan.forward_pass.predicted(options);
        assert!(pipelines.iter().map(|w| w.us).sum::<f64>() <= all && all < one, "{all} of {one}");
    }

    #[test]
    fn stacked_small_loops_are_a_pipeline_in_both_passes_and_one_loop_is_none() {
        let pipelines = pipelines_of(&plan(&layers(2, 128, true), 2, 1, 256));
        assert!(
            pipelines.len() == 2 && pipelines.iter().all(|of| of.len() == 1 && of[0].1 > 1),
            "{pipelines:?}"
        );
        assert!(pipelines_of(&plan(&layers(1, 128, true), 2, 1, 256)).iter().all(Vec::is_empty));
        assert!(pipelines_of(&plan(&layers(2, 128, true), 1, 1, 256)).iter().all(Vec::is_empty));
    }

    #[test]
    fn independent_loops_run_side_by_side_without_chunks() {
        let plan = plan(&layers(2, 128, false), 2, 1, 256);
        for of in pipelines_of(&plan) {
            assert!(matches!(of[..], [((first, last), 1)] if first == last), "{of:?}");
        }
        let lanes: Vec<_> =
            plan.forward_pass.pipelines[0].loops.iter().map(|lane| lane.workers.clone()).collect();
        assert_eq!(lanes, [0..1, 1..2]);
    }

    #[test]
    fn a_third_loop_does_not_wait_for_its_turn_on_one_of_two_workers() {
        // Two on one worker would take as long as two shared out, and more.
        let plan = plan(&layers(3, 128, true), 2, 1, 256);
        for pass in [Some(&plan.forward_pass), plan.backward_pass.as_ref()].into_iter().flatten() {
            assert!(pass.pipelines.iter().all(|pipeline| pipeline.loops.len() == 2), "{:?}", pass.pipelines);
        }
    }

    #[test]
    fn five_workers_are_parted_among_two_loops() {
        let graph = layers(2, 512, true);
        let mut plan = plan(&graph, 5, 1, 256);
        plan.partition_stages_at(Speeds { barrier: 0.1, ..Speeds::CORE });
        // What is shared out among all is faster where barriers cost little.
        assert!(partitions(&plan).iter().all(|&partition| partition == Partition::Units));
        plan.partition_stages_at(Speeds { barrier: 3.0, ..Speeds::CORE });
        let Some(pipeline) = plan.forward_pass.pipelines.first() else { panic!("no pipeline") };
        let lanes: Vec<_> = pipeline.loops.iter().map(|lane| lane.workers.clone()).collect();
        assert!(lanes[0].end == lanes[1].start && lanes[1].end == 5, "{lanes:?}");
        assert!(pipeline.loops.iter().all(|lane| lane.partition == Partition::Units), "{pipeline:?}");
    }

    #[test]
    fn many_streams_are_shared_out_large_loops_by_units_and_small_ones_not_at_all() {
        let of = |units, streams| partitions(&plan(&layers(1, units, true), 2, streams, 256));
        assert_eq!(of(256, 32), [Partition::Batch; 2]);
        assert_eq!(of(512, 1), [Partition::Units; 2]);
        assert_eq!(of(16, 1), [Partition::Serial; 2]);
    }

    #[test]
    fn a_scan_is_cut_into_chunks_of_frames_where_lanes_are_fewer_than_workers() {
        let of = |units, workers, streams, frames| {
            let mut graph = Graph::new("scan");
            let [x, f] = ["x", "f"].map(|name| graph.input(name, units));
            let kept = graph.product("kept", units, Activation::Identity);
            let h = graph.sum("h", units, Activation::Identity);
            graph.connect(f, kept, Connect::identity());
            graph.connect(h, kept, Connect::identity().delay(1));
            graph.connect(kept, h, Connect::identity());
            graph.connect(x, h, Connect::identity());
            graph.output("h", h);
            let plan = plan(&graph, workers, streams, frames);
            let scans = plan.stages().filter(|stage| stage.kind == StageKind::Scan);
            scans.map(|stage| stage.partition).collect::<Vec<_>>()
        };
        assert_eq!(of(16, 8, 1, 4096), [Partition::Time]);
        assert_eq!(of(64, 16, 1, 4096), [Partition::Time]);
        // As many lanes as workers have wait for nobody.
        assert_eq!(of(1024, 8, 1, 4096), [Partition::Units]);
        assert_eq!(of(16, 8, 64, 4096), [Partition::Batch]);
        assert_eq!(of(64, 2, 1, 4096), [Partition::Units]);
        // Two would have too much to find for what they gain.
        assert_eq!(of(16, 2, 1, 4096), [Partition::Serial]);
        assert_eq!(of(16, 1, 1, 4096), [Partition::Serial]);
        assert_eq!(of(16, 8, 1, 4), [Partition::Serial]);
    }

    #[test]
    fn gradients_of_weights_are_shared_out_beside_a_loop_that_is_not() {
        let plan = plan(&layers(1, 48, true), 2, 1, 256);
        assert_eq!(partitions(&plan), [Partition::Serial; 2]);
        let last = plan.backward_pass.as_ref().and_then(|pass| pass.stages.last());
        assert_eq!(
            last.map(|stage| (stage.kind, stage.partition)),
            Some((StageKind::Frames, Partition::Batch))
        );
    }

    #[test]
    fn frame_by_frame_only_what_is_worth_waking_others_for_is_shared_out() {
        let of = |units| partitions(&plan(&layers(1, units, true), 2, 1, 1));
        assert!(of(256).iter().all(|&partition| partition == Partition::Serial));
        assert!(of(4096).iter().all(|&partition| partition == Partition::Units));
    }

    #[test]
    fn buffers_of_a_pipeline_lie_apart() {
        let plan = plan(&layers(2, 128, true), 2, 1, 256);
        let mut one_by_one = plan.clone();
        one_by_one.partition_stages(1, 1, 256);
        assert!(plan.memory(1, 256, false).buffers >= one_by_one.memory(1, 256, false).buffers);
        let placement = plan.place(1, 256, false);
        // What the stages of the pipeline touch.
        let pipeline = &plan.forward_pass.pipelines[0];
        let mut used = Vec::new();
        for stage in &plan.forward_pass.stages[pipeline.stages.0..=pipeline.stages.1] {
            crate::memory::for_each_view(stage, &mut |view| used.push(view.buffer.0));
        }
        used.sort_unstable();
        used.dedup();
        let end = |i: usize| placement.offsets[i] + placement.sizes[i];
        for (n, &a) in used.iter().enumerate() {
            for &b in &used[n + 1..] {
                assert!(end(a) <= placement.offsets[b] || end(b) <= placement.offsets[a], "{a} and {b}");
            }
        }
    }
}
