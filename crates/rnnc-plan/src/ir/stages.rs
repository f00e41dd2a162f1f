//! Stages of a plan: their tasks, where in these workers must synchronize, and what they touch.

use super::cost::Cost;
use super::ops::Op;
use super::views::{Read, View};
use rnnc_graph::Direction;
use serde::Serialize;

/// A group of components that run together, after the stages before.
#[derive(Clone, Debug, PartialEq)]
pub struct Stage {
    /// How it runs.
    pub kind: StageKind,
    /// Stages of one level can run side by side.
    pub level: usize,
    /// Independent of each other; they run in step.
    pub tasks: Vec<Task>,
    /// What it costs.
    pub cost: Cost,
}

impl Cost {
    /// Adds up the operations of some tasks.
    pub(crate) fn of(tasks: &[Task]) -> Cost {
        let mut cost = Cost::default();
        for op in tasks.iter().flat_map(|t| &t.phases).flat_map(|p| &p.ops) {
            cost.add(&op.op);
        }
        cost.barriers = tasks.iter().map(|t| t.barriers_per_step(Partition::Units) as u64).max().unwrap_or(0);
        cost
    }
}

/// How a stage runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum StageKind {
    /// All frames at once.
    Frames,
    /// An affine elementwise recurrence over time; each lane (unit of a stream) by itself.
    Scan,
    /// Frame after frame.
    Loop,
}

/// How a stage's work is shared out among workers: an executor's choice, by which the plan says where they must synchronize.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Partition {
    /// A worker has all units of some rows; of a loop, of some streams.
    Batch,
    /// A worker has some units of all rows.
    Units,
    /// The same, and of a loop whose layers fall into heads whole ones, which read less of each other, or nothing: see
    /// [`Task::heads`].
    Heads,
    /// A worker has all units and streams of some frames; of a scan alone, whose states go from chunk to chunk: see
    /// [`Chunks`](crate::Chunks).
    Time,
    /// One worker has all: there is too little to share.
    Serial,
}

/// One component's steps (or, in a frames stage, those of all its layers).
#[derive(Clone, Debug, PartialEq)]
pub struct Task {
    /// The components, by their place in [`Pass::components`](super::Pass::components).
    pub components: Vec<usize>,
    /// The direction of its steps.
    pub direction: Direction,
    /// Frames in a step; `usize::MAX`: all.
    pub block: usize,
    /// What is done in a step, in order. Between phases, workers that share out units must synchronize.
    pub phases: Vec<Phase>,
    /// Whether they must synchronize after the last phase too.
    pub barrier_at_end: bool,
    /// Into how many equal parts the units of its layers (or of slices of them) fall, such that the most is read within a
    /// part; 1 if there are no such parts. A layer that has no such parts is partitioned by units.
    pub heads: usize,
}

impl Stage {
    /// How many times workers synchronize in a step of its tasks, as they share out the work.
    pub fn barriers_per_step(&self, partition: Partition) -> usize {
        let phases = self.tasks.iter().map(|task| task.phases.len()).max().unwrap_or(0);
        let has_barrier = |&phase: &usize| self.tasks.iter().any(|task| task.has_barrier(phase, partition));
        (0..phases).filter(has_barrier).count()
    }

    /// Calls `each` with every view that it reads or writes.
    pub fn for_each_view(&self, each: &mut dyn FnMut(View)) {
        self.for_each_touch(&mut |view, _| each(view));
    }

    /// The same with how many frames back the view is read.
    pub fn for_each_touch(&self, each: &mut dyn FnMut(View, i64)) {
        fn read(read: &Read, each: &mut dyn FnMut(View, i64)) {
            each(read.view, read.delay);
        }
        for placed in self.tasks.iter().flat_map(|t| &t.phases).flat_map(|p| &p.ops) {
            match &placed.op {
                Op::MatMul(products) => products.iter().for_each(|p| {
                    each(p.to, 0);
                    read(&p.from, each);
                }),
                Op::Gather(look_ups) => look_ups.iter().for_each(|l| {
                    each(l.to, 0);
                    read(&l.symbol, each);
                }),
                Op::Map(map) => {
                    map.reads().for_each(|from| read(from, each));
                    map.stores().for_each(|to| each(to, 0));
                }
                Op::Vector(vector) => {
                    each(vector.to, 0);
                    vector.operands.iter().for_each(|from| read(from, each));
                }
                Op::WeightGradient(sums) => sums.iter().for_each(|s| {
                    each(s.error, 0);
                    read(&s.source, each);
                }),
                Op::TableGradient(sums) => sums.iter().for_each(|s| {
                    each(s.error, 0);
                    read(&s.symbol, each);
                }),
                Op::Reduce(sums) => sums.iter().for_each(|s| {
                    each(s.error, 0);
                    s.source.iter().for_each(|from| read(from, each));
                }),
            }
        }
    }
}

impl Task {
    /// Whether workers synchronize in a step behind a phase, as they share out the work.
    pub fn has_barrier(&self, phase: usize, partition: Partition) -> bool {
        match partition {
            Partition::Units => phase + 1 < self.phases.len() || self.barrier_at_end,
            Partition::Heads => self.phases.get(phase).is_some_and(|phase| phase.barrier_of_heads),
            Partition::Batch | Partition::Time | Partition::Serial => false,
        }
    }

    /// How many times workers synchronize in a step, as they share out the work.
    pub fn barriers_per_step(&self, partition: Partition) -> usize {
        (0..self.phases.len()).filter(|&phase| self.has_barrier(phase, partition)).count()
    }
}

/// Operations between which workers that share out units need not synchronize.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Phase {
    /// In order.
    pub ops: Vec<Placed>,
    /// Whether workers that share out heads must synchronize behind it, too.
    pub barrier_of_heads: bool,
}

/// An operation and which frames it does in a step.
#[derive(Clone, Debug, PartialEq)]
pub struct Placed {
    /// In step k of a loop it does `block` frames from frame `k * block + offset`, in the task's direction.
    pub offset: i64,
    /// What is done.
    pub op: Op,
}
