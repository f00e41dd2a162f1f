//! From a network to a plan, which is data and knows no device.
//!
//! In comes a [`rnnc_graph::Graph`]; out comes a [`Plan`]: buffers and stages of operations, forward and backward,
//! as data that can be printed and compared; and the [`Executor`] trait that whatever runs plans implements. How a device runs a
//! plan, its schedule, is the executor's. The way through the folders:
//! - `ir/`: the plan;
//! - `lower/`: how a network becomes one;
//! - `analysis/`: what follows from a plan, and what executors may make of it;
//! - `optimizers/`: one file an optimizer, as a rule;
//! - `runtime/`: the trait, and what all executors need.

mod analysis;
mod ir;
mod lower;
pub mod optimizers;
mod runtime;

pub use analysis::{
    Chunks, ComponentFigures, Figures, Memory, Overlaps, Placement, Residency, StageFigures, StageWork,
    Views, access, affine, pipelines, recurrence,
};
pub use ir::{
    Algebra, Binary, Buffer, BufferId, Cost, Flat, Floats, Instruction, Interpreter, Leaf, LookUp, Map,
    MapLeaf, Mask, Matrix, Once, OnceLeaf, OnceMap, OnceOuter, OnceProduct, OnceStep, OnceVector, Op,
    OuterSum, Partition, Pass, Phase, Placed, Plan, PlanError, PlanOptions, Product, Program, Read, Register,
    Repeat, RowSum, ScatterSum, Stage, StageKind, StartValue, Task, Vector, View, WeightLayout, WeightView,
};
pub use optimizers::{Optimizer, OptimizerSettings, SettingError};
pub use runtime::{
    Array, ArrayElement, ArrayError, ArrayMut, Backward, Element, ExecutionConfig, Executor, ExecutorError,
    Forward, Functional, History, Kept, MOST_DIMENSIONS, NO_SYMBOL, ParameterArray, Port, PortKind, Ports,
    Precision, Replayed, ResetTracker, State, StatePort, TapeHeader, Update, Values, ValuesMut, WeightPort,
    check_available, check_len, check_range, check_resets, dropout,
};
