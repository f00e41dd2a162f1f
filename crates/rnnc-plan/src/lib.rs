//! From a network to a plan.
//!
//! In comes a [`rnnc_graph::Graph`]; out comes a [`Plan`]: buffers and stages of operations, forward and backward,
//! as data that can be printed and compared without a device; and the [`Executor`] trait that whatever runs
//! plans implements. The way through the files:
//! - `schedule.rs` gives each layer its stage and phase;
//! - `lower.rs` groups layers into maps and gives values their buffers;
//! - `layout.rs` lays out the weights; `maps.rs` writes the elementwise programs; `emit.rs` all other operations, which
//!   `fuse.rs` fuses;
//! - `once.rs` writes the programs of what depends on weights alone, which runs once a call;
//! - `memory.rs` finds lifetimes and shares room, as `first_fit.rs` finds it; `cost.rs` counts; `partition.rs` shares the work out among
//!   cores, by predicted times; `access.rs` and `pipelines.rs` find what can run at the same time, and `time_blocks.rs` what
//!   can run some frames at a time; `sink.rs` moves into cycles
//!   what is computed for them alone, for executors that ask for it; `heads.rs` parts loops whose heads are independent; `work.rs` counts what a window cannot do without;
//! - `recurrence.rs` and `affine.rs` say of a scan what a unit does in each frame, and what that makes of its state;
//! - `plan.rs` is the result, `executor.rs` the trait, `update.rs` the optimizer's step with its settings, `adam.rs` its formula; what all executors need: `checks.rs`
//!   refuses wrong arguments, `tracker.rs` says which reads cross a reset, `repeat.rs` which place of a repeated operand a unit
//!   reads, `verify.rs` whether a plan stays within its memory, `state.rs` what a run carries from window to window,
//!   `dropout.rs` draws masks, `available.rs` asks for memory; `figures.rs` has what
//!   there is to say of a plan in numbers, which `rnnc-report` prints and draws.

pub mod access;
mod adam;
pub mod affine;
mod available;
mod checks;
mod cost;
pub mod dropout;
mod emit;
mod executor;
mod figures;
mod first_fit;
mod fuse;
mod heads;
mod layout;
mod lower;
mod maps;
mod memory;
mod once;
mod overlaps;
pub mod pipelines;
mod plan;
pub mod recurrence;
mod repeat;
mod schedule;
mod sink;
mod state;
mod tracker;
mod update;
mod verify;
mod work;

pub use adam::{AdamSettings, AdamSlots, adam};
pub use available::check_available;
pub use checks::{check_len, check_range, check_resets};
pub use cost::Cost;
pub use executor::{
    ExecutionConfig, Executor, ExecutorError, NO_SYMBOL, ParameterArray, Precision, Values, ValuesMut,
};
pub use figures::{ComponentFigures, Figures, StageFigures};
pub use layout::{WeightLayout, WeightView};
pub use memory::{Memory, Placement, Residency};
pub use once::{Flat, Once, OnceMap, OnceOuter, OnceProduct, OnceRead, OnceStep, OnceVector};
pub use overlaps::{Overlaps, Views};
pub use plan::{
    Binary, Buffer, BufferId, Instruction, LookUp, Map, Matrix, Op, OuterSum, Partition, Pass, Phase, Placed,
    Plan, PlanError, PlanOptions, Product, Read, Register, RowSum, ScatterSum, Stage, StageKind, StartValue,
    Task, Vector, View,
};
pub use repeat::Repeat;
pub use state::{History, Kept, State};
pub use tracker::ResetTracker;
pub use update::{Bounds, Update};
pub use work::StageWork;
