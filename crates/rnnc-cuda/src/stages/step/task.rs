//! What a loop's task asks of a layout.

use super::groups::Groups;
use rnnc_plan::{ExecutionConfig, Map, Op, Partition, Precision, Product, Task};

/// What a step of a loop takes, as far as it decides on a layout.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Work {
    /// Numbers of weights.
    pub weights: usize,
    /// Columns of its products, together.
    pub columns: usize,
    /// The size of its largest layer.
    pub slice_len: usize,
    /// Streams of a group.
    pub streams: usize,
    /// Rows (frames of a step, times streams) side by side.
    pub rows: usize,
    /// Times that blocks synchronize.
    pub barriers: usize,
    /// Functions of whole vectors.
    pub vectors: usize,
    /// Instructions of its maps, for a unit of its largest layer.
    pub elementwise: f64,
    /// Numbers of memory that its maps read and write for a row.
    pub values: usize,
    /// How coarsely products may round.
    pub precision: Precision,
}

impl Work {
    /// That of a task.
    pub fn of(task: &Task, config: ExecutionConfig) -> Work {
        Work {
            weights: weights(task),
            columns: products(task).map(|(_, p)| p.from.view.len).sum(),
            slice_len: slice_lens(task).max().unwrap_or(1),
            streams: config.streams,
            rows: task.block.clamp(1, 64) * config.streams,
            barriers: task.barriers_per_step(Partition::Units),
            vectors: vectors(task),
            elementwise: elementwise(task),
            values: values(task),
            precision: config.precision,
        }
    }

    /// The same of one group of streams.
    pub fn of_group(self, groups: Groups) -> Work {
        let frames = self.rows / self.streams.max(1);
        Work { streams: groups.streams, rows: frames * groups.streams, ..self }
    }

    /// Whether a lane sums up what it needs itself, however many units a block has: where streams fill a warp.
    pub(super) fn packs(&self) -> bool {
        self.streams >= 4
    }
}

/// Whether a task does one frame a step, the same in all its operations.
pub(super) fn is_in_step(task: &Task) -> bool {
    task.block == 1 && task.phases.iter().flat_map(|p| &p.ops).all(|placed| placed.offset == 0)
}

fn vectors(task: &Task) -> usize {
    let ops = task.phases.iter().flat_map(|p| &p.ops);
    ops.filter(|placed| matches!(placed.op, Op::Vector(_))).count()
}

fn maps(task: &Task) -> impl Iterator<Item = &Map> {
    task.phases.iter().flat_map(|p| &p.ops).filter_map(|placed| match &placed.op {
        Op::Map(map) => Some(map),
        _ => None,
    })
}

fn elementwise(task: &Task) -> f64 {
    let all: usize = maps(task).map(|map| map.program.instructions.len() * map.len).sum();
    all as f64 / slice_lens(task).max().unwrap_or(1).max(1) as f64
}

fn values(task: &Task) -> usize {
    maps(task)
        .map(|map| map.reads().map(|read| read.view.len).chain(map.stores().map(|to| to.len)).sum::<usize>())
        .sum()
}

/// The sizes of layers that a task's operations write.
pub(super) fn slice_lens(task: &Task) -> impl Iterator<Item = usize> + '_ {
    task.phases.iter().flat_map(|p| &p.ops).flat_map(|placed| match &placed.op {
        Op::MatMul(products) => products.iter().map(|p| p.slice_len).collect(),
        Op::Map(map) => vec![map.slice_len],
        Op::Vector(vector) => vec![vector.slice_len],
        _ => Vec::new(),
    })
}

/// The products of a task, with their places.
pub(super) fn products(task: &Task) -> impl Iterator<Item = ((usize, usize), &Product)> + '_ {
    task.phases.iter().enumerate().flat_map(|(p, phase)| {
        phase.ops.iter().enumerate().flat_map(move |(o, placed)| match &placed.op {
            Op::MatMul(products) => products.iter().map(|product| ((p, o), product)).collect(),
            _ => Vec::new(),
        })
    })
}

/// Numbers of a loop's weights.
pub fn weights(task: &Task) -> usize {
    products(task).map(|(_, p)| p.to.len * p.from.view.len).sum()
}
