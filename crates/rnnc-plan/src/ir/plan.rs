//! The plan as data: buffers, and stages of operations over them. It knows no device.
//!
//! A row is one frame of one stream; a buffer holds `width` numbers a row. Executors choose how rows lie in memory.

use super::once::Once;
use super::stages::Stage;
use super::views::View;
use super::weights::WeightLayout;
use rnnc_graph::{Components, Constants, Graph, GraphError, StateAdjoint};
use serde::Serialize;
use thiserror::Error;

/// What a plan is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlanOptions {
    /// Whether there is a backward pass.
    pub gradients: bool,
    /// Whether the backward pass computes the gradients of vector inputs too.
    pub input_gradients: bool,
    /// Whether it takes the gradients of the state that a window leaves, and computes those of the state that it begins with.
    pub state_gradients: bool,
    /// Streams side by side, for the plan's figures. It runs with any number.
    pub streams: usize,
    /// Frames of a window, for the plan's figures. It runs with any number.
    pub frames: usize,
}

impl PlanOptions {
    /// Forward only.
    pub fn inference(streams: usize, frames: usize) -> PlanOptions {
        PlanOptions { gradients: false, input_gradients: false, state_gradients: false, streams, frames }
    }

    /// With the gradients of all weights.
    pub fn training(streams: usize, frames: usize) -> PlanOptions {
        PlanOptions { gradients: true, ..PlanOptions::inference(streams, frames) }
    }

    /// With the gradients of vector inputs too.
    pub fn with_input_gradients(self) -> PlanOptions {
        PlanOptions { gradients: true, input_gradients: true, ..self }
    }

    /// With the gradients of the state too.
    pub fn with_state_gradients(self) -> PlanOptions {
        PlanOptions { gradients: true, state_gradients: true, ..self }
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
    /// What makes the gradients of the state before a window, if they were asked for.
    pub state_adjoint: Option<StateAdjoint>,
    /// How all weights lie in one flat buffer (as do gradients and optimizer state).
    pub weights: WeightLayout,
    /// The buffers of both passes.
    pub buffers: Vec<Buffer>,
    /// The forward pass.
    pub forward_pass: Pass,
    /// The backward pass.
    pub backward_pass: Option<Pass>,
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
}

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

impl Plan {
    /// Both passes, with their names and the graphs that they run.
    pub fn passes(&self) -> impl Iterator<Item = (&'static str, &Graph, &Pass)> {
        let forward = [("forward", &self.forward, &self.forward_pass)];
        let backward = self.adjoint.as_ref().zip(self.backward_pass.as_ref());
        forward.into_iter().chain(backward.map(|(graph, pass)| ("backward", graph, pass)))
    }

    /// The stages of both passes in the order in which they run.
    pub fn stages(&self) -> impl Iterator<Item = &Stage> {
        self.forward_pass.stages.iter().chain(self.backward_pass.iter().flat_map(|pass| &pass.stages))
    }
}
