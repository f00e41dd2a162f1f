//! The plan, as data that no other file of the crate is needed to read.
//!
//! `views.rs` has what is read and written, `program.rs` elementwise programs of any kind, `maps.rs` those of a plan, `ops.rs` all
//! operations, `stages.rs` what they are grouped into, `plan.rs` the whole. `repeat.rs` says which place of a repeated operand a unit reads, `weights.rs` where
//! weights lie, `once.rs` what runs once a call, `cost.rs` what operations cost.

mod cost;
mod maps;
mod once;
mod ops;
mod plan;
mod program;
mod repeat;
mod stages;
mod views;
mod weights;

pub use cost::Cost;
pub use maps::{Map, MapLeaf, Mask};
pub use once::{Flat, Once, OnceLeaf, OnceMap, OnceOuter, OnceProduct, OnceStep, OnceVector};
pub use ops::{LookUp, Op, OuterSum, Product, RowSum, ScatterSum, Vector};
pub use plan::{Buffer, Pass, Plan, PlanError, PlanOptions};
pub use program::{Algebra, Floats, Instruction, Interpreter, Leaf, Program, Register};
pub use repeat::Repeat;
pub use rnnc_graph::ops::Binary;
pub use stages::{Partition, Phase, Placed, Stage, StageKind, Task};
pub use views::{BufferId, Matrix, Read, StartValue, View};
pub use weights::{WeightLayout, WeightView};
