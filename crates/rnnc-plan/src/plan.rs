//! The plan as data: buffers, and stages of operations over them. It knows no device.
//!
//! A row is one frame of one stream; a buffer holds `width` numbers a row. Executors choose how rows lie in memory.

use crate::cost::Cost;
use crate::emit::emit;
use crate::layout::WeightLayout;
use crate::lower::{Lowering, Residuals};
use crate::memory;
use crate::once::Once;
use crate::partition::Lane;
use crate::pipelines::Pipeline;
use crate::repeat::Repeat;
use crate::time_blocks::TimeBlock;
use rnnc_graph::ops::Pair;
use rnnc_graph::{
    Adjoint, AdjointOptions, Components, Constants, Direction, Function, Graph, GraphError, LayerId,
    LayerKind, Operation, WeightId,
};
use serde::Serialize;
use std::collections::HashSet;
use thiserror::Error;

/// What a plan is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlanOptions {
    /// Whether there is a backward pass.
    pub gradients: bool,
    /// Whether the backward pass computes the gradients of vector inputs too.
    pub input_gradients: bool,
    /// Streams side by side, for the cost model. The plan runs with any number.
    pub streams: usize,
    /// Frames of a window, for the cost model. The plan runs with any number.
    pub frames: usize,
    /// Workers, for the cost model.
    pub workers: usize,
}

impl PlanOptions {
    /// Forward only.
    pub fn inference(streams: usize, frames: usize) -> PlanOptions {
        PlanOptions { gradients: false, input_gradients: false, streams, frames, workers: 1 }
    }

    /// With the gradients of all weights.
    pub fn training(streams: usize, frames: usize) -> PlanOptions {
        PlanOptions { gradients: true, ..PlanOptions::inference(streams, frames) }
    }

    /// Ask for the gradients of vector inputs too.
    pub fn with_input_gradients(self) -> PlanOptions {
        PlanOptions { input_gradients: true, ..self }
    }
}

/// What cannot be planned.
#[derive(Debug, Error, Clone, PartialEq)]
pub enum PlanError {
    /// The network is none.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// Its weights or buffers are more than can be addressed.
    #[error("{what} would take more numbers than can be addressed")]
    TooLarge {
        /// Of what.
        what: String,
    },
}

/// A network lowered to stages.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What it was made for.
    pub options: PlanOptions,
    /// The network, in normal form; layers that depend on parameters alone are parameters of derived weights.
    pub forward: Graph,
    /// What derives these, if there are any.
    pub constants: Option<Constants>,
    /// The same, as programs.
    pub once: Once,
    /// Its adjoint, if gradients were asked for.
    pub adjoint: Option<Graph>,
    /// How all weights lie in one flat buffer (as do gradients and optimizer state).
    pub weights: WeightLayout,
    /// The buffers of both passes.
    pub buffers: Vec<Buffer>,
    /// The forward pass.
    pub forward_pass: Pass,
    /// The backward pass.
    pub backward_pass: Option<Pass>,
    /// Bytes that the executor takes beside values, weights and their like, for the streams, frames and workers of the
    /// options; 0 until it has said so.
    pub working: u128,
}

/// One direction of a plan.
#[derive(Clone, Debug)]
pub struct Pass {
    /// The components of its graph.
    pub components: Components,
    /// In an order in which they can run.
    pub stages: Vec<Stage>,
    /// For each layer of its graph, where its values are; `None` if they exist only inside a map, or are weights.
    pub storage: Vec<Option<View>>,
    /// Parts (place, length) of the flat gradient buffer that must be 0 before the first stage: those that are only
    /// ever added to.
    pub cleared: Vec<(usize, usize)>,
    /// Loops that run at the same time on the cores of a CPU.
    pub pipelines: Vec<Pipeline<Lane>>,
    /// Stages that run time block after time block of the frames on the cores of a CPU.
    pub time_blocks: Vec<TimeBlock>,
}

/// A buffer, by its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct BufferId(pub usize);

/// Room for numbers in every row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Buffer {
    /// After its layers.
    pub name: String,
    /// Numbers in a row.
    pub width: usize,
    /// How many frames before a window's first it keeps.
    pub history: usize,
    /// Whether it holds symbols rather than numbers.
    pub symbols: bool,
    /// The first and the last level whose stages use it, counted through both passes; `None` if it must outlive them.
    pub lifetime: Option<(usize, usize)>,
    /// Whether the backward pass reads it (a buffer of the forward pass).
    pub saved: bool,
}

/// Some columns of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct View {
    /// The buffer.
    pub buffer: BufferId,
    /// The first column.
    pub column: usize,
    /// How many.
    pub len: usize,
}

impl Plan {
    /// Both passes, with their names and the graphs that they run.
    pub fn passes(&self) -> impl Iterator<Item = (&'static str, &Graph, &Pass)> {
        let forward = [("forward", &self.forward, &self.forward_pass)];
        let backward = self.adjoint.as_ref().zip(self.backward_pass.as_ref());
        forward.into_iter().chain(backward.map(|(graph, pass)| ("backward", graph, pass)))
    }

    /// Plans a network. The graph is validated first.
    pub fn new(graph: &Graph, options: PlanOptions) -> Result<Plan, PlanError> {
        rnnc_graph::validate(graph)?;
        let (forward, constants) = rnnc_graph::split_constants(rnnc_graph::normalize(graph));
        let (forward, adjoint) = if options.gradients {
            let wanted = AdjointOptions { input_gradients: options.input_gradients };
            let Adjoint { forward, graph: adjoint } = Adjoint::of_normal(forward, wanted)?;
            (forward, Some(adjoint))
        } else {
            (forward, None)
        };
        let saved = adjoint.as_ref().map(Residuals::of).unwrap_or_default();
        let mut buffers = Vec::new();

        let mut lowering = Lowering::new(&forward, None, Components::find(&forward)?, &saved);
        let bundles = lowering.bundles_by_source();
        let weights = WeightLayout::new(&forward, &bundles)?;
        lowering.store(bundles, |_| None, &saved, &mut buffers)?;
        let forward_pass = emit(lowering, &weights);

        let (once, touched) = match &constants {
            Some(constants) => Once::new(constants, &weights, options.gradients)?,
            None => Default::default(),
        };
        let mut backward_pass = match &adjoint {
            None => None,
            Some(adjoint) => {
                let none = Residuals::default();
                let mut lowering = Lowering::new(adjoint, Some(&forward), Components::find(adjoint)?, &none);
                let mut bundles = lowering.bundles_by_source();
                bundles.extend(lowering.bundles_by_target(&weights));
                let given = |layer: LayerId| match adjoint.layer_at(layer).kind {
                    LayerKind::Residual(of) => forward_pass.storage[of.index()],
                    _ => None,
                };
                lowering.store(bundles, given, &none, &mut buffers)?;
                Some(emit(lowering, &weights))
            }
        };
        if let (Some(pass), Some(adjoint)) = (&mut backward_pass, &adjoint) {
            // What is only added to after the pass begins as 0.
            let written: HashSet<WeightId> = adjoint.accumulations().iter().map(|a| a.weight).collect();
            let added = touched.into_iter().filter(|weight| !written.contains(weight));
            pass.cleared.extend(added.map(|w| (weights.view(w).offset, forward.weight_at(w).len())));
            pass.cleared.sort_unstable();
        }
        let mut plan = Plan {
            options,
            forward,
            constants,
            once,
            adjoint,
            weights,
            buffers,
            forward_pass,
            backward_pass,
            working: 0,
        };
        memory::find_lifetimes(&mut plan);
        plan.partition_stages(options.workers, options.streams, options.frames);
        debug_assert_eq!(plan.verify(), Ok(()));
        Ok(plan)
    }

    /// The stages of both passes in the order in which they run.
    pub fn stages(&self) -> impl Iterator<Item = &Stage> {
        self.forward_pass.stages.iter().chain(self.backward_pass.iter().flat_map(|pass| &pass.stages))
    }
}

impl View {
    /// Some of the columns.
    pub fn part(self, start: usize, len: usize) -> View {
        View { column: self.column + start, len, ..self }
    }

    /// Layers of so many units, or slices of one, that lie side by side in it.
    pub fn slices(self, slice_len: usize) -> impl Iterator<Item = View> {
        (0..self.len / slice_len.max(1)).map(move |slice| self.part(slice * slice_len, slice_len))
    }
}

/// What a read gives where it crosses a reset.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub enum StartValue {
    /// A number in every unit (of symbols: no symbol).
    Number(f64),
    /// Units of a weight, by their place in the flat buffer.
    Weight(usize),
}

/// Values of another frame.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Read {
    /// Where.
    pub view: View,
    /// Frame t reads frame t - delay.
    pub delay: i64,
    /// Where that crosses a reset.
    pub start: StartValue,
    /// Whether frames before the pass's first hold values (of the forward pass), or are as far as a reset (of the
    /// backward pass).
    pub history: bool,
}

impl Read {
    /// Some of what it reads.
    pub fn part(self, start: usize, len: usize) -> Read {
        let from = match self.start {
            StartValue::Weight(offset) => StartValue::Weight(offset + start),
            number => number,
        };
        Read { view: self.view.part(start, len), start: from, ..self }
    }
}

/// A matrix in the flat weight (or gradient) buffer: element (row, column) at
/// `offset + row * row_stride + column * column_stride`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Matrix {
    /// Of element (0, 0).
    pub offset: usize,
    /// Between rows (the units written).
    pub row_stride: usize,
    /// Between columns (the units read).
    pub column_stride: usize,
}

/// A group of components that run together, after the stages before.
#[derive(Clone, Debug, PartialEq)]
pub struct Stage {
    /// How it runs.
    pub kind: StageKind,
    /// Stages of one level can run side by side.
    pub level: usize,
    /// Independent of each other; they run in step.
    pub tasks: Vec<Task>,
    /// How the work is shared out.
    pub partition: Partition,
    /// What it costs.
    pub cost: Cost,
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

/// How a stage's work is shared out among workers.
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
    /// [`Chunks`](crate::recurrence::Chunks).
    Time,
    /// One worker has all: there is too little to share.
    Serial,
}

/// One component's steps (or, in a frames stage, those of all its layers).
#[derive(Clone, Debug, PartialEq)]
pub struct Task {
    /// The components, by their place in [`Pass::components`].
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

/// An operation on rows.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// Products with weight matrices.
    MatMul(Vec<Product>),
    /// Look-ups in tables.
    Gather(Vec<LookUp>),
    /// A fused elementwise program.
    Map(Map),
    /// A vector function.
    Vector(Vector),
    /// Gradients of weight matrices.
    WeightGradient(Vec<OuterSum>),
    /// Gradients of tables.
    TableGradient(Vec<ScatterSum>),
    /// Gradients of vectors: sums over rows.
    Reduce(Vec<RowSum>),
}

impl Op {
    /// Its name in listings.
    pub fn name(&self) -> &'static str {
        match self {
            Op::MatMul(_) => "matmul",
            Op::Gather(_) => "gather",
            Op::Map(_) => "map",
            Op::Vector(_) => "vector",
            Op::WeightGradient(_) => "weight gradient",
            Op::TableGradient(_) => "table gradient",
            Op::Reduce(_) => "reduce",
        }
    }
}

/// to (+)= W from
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Product {
    /// The units written: those of `to.len / slice_len` layers (or slices of one) side by side, or a part of one.
    pub to: View,
    /// The size of the layers (or slices) written, by which units are shared out.
    pub slice_len: usize,
    /// The first of the layer's units written, if a part.
    pub first: usize,
    /// The units read.
    pub from: Read,
    /// `to.len` rows, `from.view.len` columns.
    pub weight: Matrix,
    /// Add to what is there.
    pub accumulate: bool,
}

/// to (+)= the table's row of the symbol
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LookUp {
    /// The units written: those of `to.len / slice_len` layers (or slices of one) side by side.
    pub to: View,
    /// The size of the layers (or slices) written, by which units are shared out.
    pub slice_len: usize,
    /// The symbol.
    pub symbol: Read,
    /// `to.len` rows, one column a symbol.
    pub table: Matrix,
    /// Add to what is there.
    pub accumulate: bool,
}

/// A vector function: of whole groups of units.
#[derive(Clone, Debug, PartialEq)]
pub struct Vector {
    /// The function.
    pub operation: Operation,
    /// Its operands, in order.
    pub operands: Vec<Read>,
    /// Its result.
    pub to: View,
    /// The size of the slices in which its units are shared out: all of them, if there is but one.
    pub slice_len: usize,
}

/// gradient (+)= sum over rows of error outer source
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OuterSum {
    /// The rows of the matrix.
    pub error: View,
    /// The columns of the matrix.
    pub source: Read,
    /// Where in the flat gradient buffer.
    pub gradient: Matrix,
    /// Add to what is there.
    pub accumulate: bool,
}

/// The gradient of a table: the error is added to the symbol's column.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScatterSum {
    /// The rows of the table.
    pub error: View,
    /// The symbol.
    pub symbol: Read,
    /// Where in the flat gradient buffer.
    pub gradient: Matrix,
    /// How many symbols.
    pub symbols: usize,
    /// Add to what is there.
    pub accumulate: bool,
}

/// gradient (+)= scale * sum over rows of error (times source)
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RowSum {
    /// One number a unit of the gradient.
    pub error: View,
    /// Multiplied in, unit by unit.
    pub source: Option<Read>,
    /// Only rows in which a read with this delay crosses a reset.
    pub crossing: Option<i64>,
    /// The factor.
    pub scale: f64,
    /// Where in the flat gradient buffer, one number after the other.
    pub gradient: usize,
    /// Add to what is there.
    pub accumulate: bool,
}

/// A fused elementwise program over some units of every row. In a block of several frames it may read what it wrote in
/// the frames before (in the task's direction): those come first.
#[derive(Clone, Debug, PartialEq)]
pub struct Map {
    /// The size of its layers (or slices of them), by which units are shared out.
    pub slice_len: usize,
    /// The first of their units that it computes.
    pub first: usize,
    /// How many.
    pub len: usize,
    /// The layers it computes, for listings.
    pub layers: Vec<LayerId>,
    /// In order; registers are assigned once.
    pub program: Vec<Instruction>,
    /// How many registers there are.
    pub registers: usize,
}

/// A register of a map: one number a unit.
pub type Register = usize;

/// A step of a map. All views and weights have the map's `len` units, but for repeated ones.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs)] // `to` is the register written, the others are read
pub enum Instruction {
    /// Values of a buffer.
    Load { read: Read, to: Register },
    /// Values of a buffer, repeated: all that it views, and nothing else.
    LoadRepeated { read: Read, repeat: Repeat, to: Register },
    /// A weight vector, from its place in the flat buffer.
    Weight { offset: usize, to: Register },
    /// A number.
    Number { value: f64, to: Register },
    /// Of the dropout mask with that key, the units from `first` on.
    Mask { key: u64, probability: f64, first: usize, to: Register },
    /// f(from)
    Apply { function: Function, from: Register, to: Register },
    /// factor * from
    Scale { factor: f64, from: Register, to: Register },
    /// a op b
    Binary { op: Binary, a: Register, b: Register, to: Register },
    /// a * b + c
    MulAdd { a: Register, b: Register, c: Register, to: Register },
    /// Into a buffer.
    Store { from: Register, to: View },
}

/// Elementwise functions of two operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[allow(missing_docs)] // named as what they do; see `rnnc_graph::Operation`
pub enum Binary {
    Add,
    Mul,
    Div,
    Max,
    Min,
    Step,
}

impl Binary {
    /// What a layer's operation is, if it is one of two operands, unit by unit.
    pub(crate) fn of(operation: Operation) -> Option<Binary> {
        operation.pair().map(|pair| match pair {
            Pair::Divide => Binary::Div,
            Pair::Max => Binary::Max,
            Pair::Min => Binary::Min,
            Pair::Step => Binary::Step,
        })
    }

    /// Operations that it counts as.
    pub(crate) fn flops(self) -> u64 {
        match self {
            Binary::Add | Binary::Mul => 1,
            Binary::Div => Operation::Divide.flops(),
            Binary::Max => Operation::Max.flops(),
            Binary::Min => Operation::Min.flops(),
            Binary::Step => Operation::Step.flops(),
        }
    }
}
