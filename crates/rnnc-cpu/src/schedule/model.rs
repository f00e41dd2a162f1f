//! What a stage takes, in microseconds of a window: predicted from counts of the plan and from [`Speeds`], never measured.

use super::options::ScheduleOptions;
use super::speeds::Speeds;
use rnnc_plan::Chunks;
use rnnc_plan::{Cost, Op, Partition, Stage, StageKind, Task};

/// Predicts times for so many workers, and windows of so many frames of so many streams.
#[derive(Clone, Copy, Debug)]
pub(super) struct Model {
    pub speeds: Speeds,
    pub workers: usize,
    pub streams: usize,
    pub frames: usize,
}

impl Model {
    pub fn new(options: ScheduleOptions) -> Model {
        let ScheduleOptions { workers, streams, frames, speeds } = options;
        Model { speeds, workers: workers.max(1), streams: streams.max(1), frames: frames.max(1) }
    }

    /// Microseconds of a window that a stage takes, without a barrier behind it.
    pub fn us(self, stage: &Stage, partition: Partition) -> f64 {
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

    /// The same of a frames stage.
    pub fn all_frames(self, stage: &Stage, partition: Partition) -> f64 {
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
            // Shared out by weights, if at all.
            Op::WeightGradient(_) | Op::TableGradient(_) | Op::Reduce(_) => {
                let workers = if partition == Partition::Serial { 1 } else { workers };
                self.op(&placed.op, all, By::ONE, self.speeds.far) / workers as f64
            }
            _ => self.op(&placed.op, rows, by, self.speeds.far),
        })
        .sum()
    }

    /// How many steps a loop has.
    pub fn steps(self, task: &Task) -> f64 {
        self.frames.div_ceil(self.block(task)) as f64
    }

    fn block(self, task: &Task) -> usize {
        task.block.clamp(1, self.frames)
    }

    /// A loop's or a scan's work in a window, without barriers, while all that run read weights of so many bytes in a step.
    pub fn task(self, task: &Task, partition: Partition, bytes: f64) -> f64 {
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

    /// Microseconds of a window of a scan whose frames are shared out, if they can be.
    pub fn chunks(self, stage: &Stage) -> Option<f64> {
        // A state's way from chunk to chunk.
        let Speeds { step, barrier, .. } = self.speeds;
        let chunks = Chunks::of(&stage.tasks, self.workers).filter(|_| self.workers > 1)?;
        let alone = self.us(stage, Partition::Serial);
        Some(alone * chunks.share() * Speeds::IN_CHUNKS + barrier + step * self.workers as f64)
    }
}

/// Of layers, or slices of them, that many units are shared out together: those of a head, if they fall into so many of more than
/// one, or a cache line's.
pub(crate) fn grain(slice_len: usize, heads: usize) -> usize {
    const LINE: usize = 16;
    if heads > 1 && slice_len.is_multiple_of(heads) { slice_len / heads } else { LINE }
}

/// Bytes of the weights that a step of some loops reads.
pub(super) fn weight_bytes(tasks: &[&Task]) -> f64 {
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
