//! A pass ready to run: operations with the kernels they use, and the order in which workers go through them. `compile.rs` makes it of a plan, `pass.rs` runs it.

use crate::ops::map::MapOp;
use crate::ops::scan::ScanOp;
use crate::places::{Source, Target};
use rnnc_graph::Operation;
use rnnc_plan::{Chunks, Matrix, Partition, StageKind};
use std::ops::Range;

/// Operations ready to run.
pub(crate) enum OpCode {
    MatMul(Vec<ProductOp>),
    Gather(Vec<GatherOp>),
    Map(MapOp),
    Vector(VectorOp),
    WeightGradient(Vec<OuterOp>),
    TableGradient(Vec<ScatterOp>),
    Reduce(Vec<ReduceOp>),
}

pub(crate) struct ProductOp {
    pub to: Target,
    pub slice_len: usize,
    pub first: usize,
    pub from: Source,
    pub weight: Matrix,
    pub accumulate: bool,
    pub kernel: Kernel,
    /// Whether packed weights are of half the bytes.
    pub coarse: bool,
}

/// How a product reads its weights.
#[derive(Clone, Debug)]
pub(crate) enum Kernel {
    /// As they lie, a row of the matrix for each output.
    Dot,
    /// As they lie, a row of the matrix for each input.
    Axpy,
    /// Packed: where, for each worker (one entry if all share), each of its runs of outputs.
    Packed(Vec<usize>),
}

pub(crate) struct GatherOp {
    pub to: Target,
    pub slice_len: usize,
    pub symbol: Source,
    pub table: Matrix,
    pub symbols: usize,
    pub accumulate: bool,
}

pub(crate) struct VectorOp {
    pub operation: Operation,
    pub operands: Vec<Source>,
    pub to: Target,
    pub slice_len: usize,
}

pub(crate) struct OuterOp {
    pub error: Target,
    pub source: Source,
    pub gradient: Matrix,
    pub accumulate: bool,
}

pub(crate) struct ScatterOp {
    pub error: Target,
    pub symbol: Source,
    pub gradient: Matrix,
    pub symbols: usize,
    pub accumulate: bool,
}

pub(crate) struct ReduceOp {
    pub error: Target,
    pub source: Option<Source>,
    pub crossing: Option<i64>,
    pub scale: f32,
    pub gradient: usize,
    pub accumulate: bool,
}

/// A pass ready to run.
pub(crate) struct Program {
    /// In order; workers synchronize after each.
    pub sections: Vec<Section>,
    /// Whether no stage is worth sharing.
    pub alone: bool,
    /// Gradients to clear first.
    pub cleared: Vec<Range<usize>>,
    /// For each input of the pass's graph, where its values go; `None` if nothing reads it.
    pub inputs: Vec<Option<Target>>,
    /// How they are shared out: as is the first stage's work, which reads them.
    pub first_partition: Option<(StageKind, Partition)>,
}

/// Stages that run together.
pub(crate) enum Section {
    /// Time block after time block of so many frames (of a stage by itself: all), in each one stage after the other.
    TimeBlocks { frames: usize, backward: bool, stages: Vec<DepthCode> },
    /// A pipeline: chunk after chunk, each depth a chunk behind the one before.
    Pipeline { chunks: usize, backward: bool, depths: Vec<DepthCode> },
}

impl Section {
    /// What runs in it.
    pub fn depths(&self) -> &[DepthCode] {
        match self {
            Section::TimeBlocks { stages: depths, .. } | Section::Pipeline { depths, .. } => depths,
        }
    }
}

/// What runs for some frames: frames stages, and then loops or scans.
#[derive(Default)]
pub(crate) struct DepthCode {
    pub frames: Vec<StageCode>,
    pub groups: Vec<GroupCode>,
}

/// All frames of a chunk at once, by all workers.
pub(crate) struct StageCode {
    pub partition: Partition,
    pub tasks: Vec<TaskCode>,
}

/// Loops or scans that run in step, by some of the workers.
pub(crate) struct GroupCode {
    pub kind: StageKind,
    pub workers: Range<usize>,
    pub partition: Partition,
    /// Of a scan whose frames are partitioned: how.
    pub chunks: Option<Chunks>,
    pub tasks: Vec<TaskCode>,
}

pub(crate) struct TaskCode {
    pub backward: bool,
    pub block: usize,
    /// The least and the largest offset of its operations.
    pub offsets: (i64, i64),
    pub phases: Vec<Vec<(i64, OpCode)>>,
    /// Whether workers synchronize behind each phase of a step.
    pub barriers: Vec<bool>,
    /// Into how many heads layers fall, if whole ones are partitioned; else 1.
    pub heads: usize,
    /// Of a scan in chunks: its recurrences.
    pub scan: Vec<ScanOp>,
}

impl TaskCode {
    /// Its operation, if it has but one.
    pub fn only_op(&self) -> Option<&OpCode> {
        match &self.phases[..] {
            [phase] if phase.len() == 1 => Some(&phase[0].1),
            _ => None,
        }
    }
}
