//! What an executor says of how it runs a plan. Reports print it beside what the plan says by itself.

use rnnc_plan::{Optimizer, Partition, Placement};
use serde_json::Value;

/// What an executor says of a plan.
#[derive(Clone, Debug)]
pub struct Notes {
    /// What runs it: `2 workers`.
    pub runner: String,
    /// Of each pass, in the order of [`Plan::passes`](rnnc_plan::Plan::passes).
    pub passes: Vec<PassNotes>,
    /// Labels, and what is said of each, of the work in all.
    pub work: Vec<(String, String)>,
    /// Where buffers lie.
    pub placement: Placement,
    /// Bytes that it takes beside, and of what.
    pub working: (u128, String),
    /// The optimizer that has slots, if there are gradients.
    pub optimizer: Optimizer,
    /// For tools, of the plan.
    pub json: Value,
}

/// What an executor says of a pass.
#[derive(Clone, Debug)]
pub struct PassNotes {
    /// Of each stage.
    pub stages: Vec<StageNotes>,
    /// For tools, of the pass.
    pub json: Value,
}

/// What an executor says of a stage.
#[derive(Clone, Debug)]
pub struct StageNotes {
    /// Paragraphs. Stages are numbered through both passes, from 1 on.
    pub text: Vec<String>,
    /// How each task is shared out, which says where workers synchronize.
    pub partitions: Vec<Partition>,
    /// For tools, of the stage.
    pub json: Value,
}
