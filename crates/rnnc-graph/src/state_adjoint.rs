//! The gradients of the state that a window begins with, as a network of their own.
//!
//! The state is the last frames of the layers that are read with a delay. A frame before the window has no error of its own:
//! all that comes back to it are the errors of reads in the window that found it. So with frame 0 the window's first, the
//! gradient of layer l in frame t < 0 is
//!
//! ```text
//! g_l(t) = sum over the reads of l with a delay d > -t, each turned round, of the error in frame t + d
//! ```
//!
//! That is a network without cycles: its inputs are errors that the adjoint computes, its reads look ahead, and the rule for
//! resets is the one of all reads. It runs over the frames -D .. D, D the state's depth, with its inputs 0 before frame 0 and
//! from the window's end on; its outputs in the frames before 0 are the gradients.

use crate::graph::{Connect, Graph};
use crate::parts::{Connection, ConnectionKind, LayerId, LayerKind, WeightId};
use std::collections::HashMap;

/// What makes the gradients of the state before a window of the errors within it.
#[derive(Clone, Debug, PartialEq)]
pub struct StateAdjoint {
    /// The network. Inputs: the adjoint's last outputs, as many and in their order. Outputs: `d_state_NAME` for each vector that
    /// has one. Weights: those of the network.
    pub graph: Graph,
    /// The vectors of the state, in the order of [`state_vectors`].
    pub vectors: Vec<StateVector>,
    /// Frames before the window that it computes, D: the most that a vector with an output has.
    pub depth: usize,
}

impl StateAdjoint {
    /// The weights that its network reads, each once, in order.
    pub fn weights(&self) -> Vec<WeightId> {
        let mut weights: Vec<WeightId> = (self.graph.connections().iter())
            .filter_map(|c| match c.kind {
                ConnectionKind::Full { weight, .. } | ConnectionKind::Diagonal { weight } => Some(weight),
                ConnectionKind::Identity { .. }
                | ConnectionKind::Broadcast { .. }
                | ConnectionKind::Constant { .. } => None,
            })
            .collect();
        weights.sort_unstable();
        weights.dedup();
        weights
    }
}

/// A vector of the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateVector {
    /// The layer of the forward network whose last frames it is.
    pub layer: LayerId,
    /// How many frames.
    pub depth: usize,
    /// Which output of the network is its gradient; if none is, no error comes back to it from the window.
    pub output: Option<usize>,
}

/// The layers of a network that are vectors of its state, and how many of their last frames are: those that are read with a
/// positive delay, but for symbols, which have no gradient.
pub fn state_vectors(graph: &Graph) -> impl Iterator<Item = (LayerId, usize)> + '_ {
    let depths = graph.history_depths();
    graph
        .layer_ids()
        .map(move |id| (id, depths[id.index()]))
        .filter(|&(id, depth)| depth > 0 && graph.layer_at(id).kind != LayerKind::Symbol)
}

/// Whether a connection may find a vector of the state before the window.
pub(crate) fn reads_state(graph: &Graph, c: &Connection) -> bool {
    c.delay > 0 && c.source.is_some_and(|source| graph.layer_at(source).kind != LayerKind::Symbol)
}

/// The reads of the state.
#[derive(Debug, Default)]
pub(crate) struct StateReads(Vec<StateRead>);

/// A read of the state, turned round.
#[derive(Debug)]
pub(crate) struct StateRead {
    /// The layer of the forward network that is read.
    pub layer: LayerId,
    /// The adjoint's layer whose error comes back.
    pub error: LayerId,
    /// How it does.
    pub back: Connect,
}

impl StateReads {
    pub fn add(&mut self, read: StateRead) {
        self.0.push(read);
    }

    /// The network of these reads. What it takes becomes outputs of the adjoint.
    pub fn adjoint(self, forward: &Graph, adjoint: &mut Graph) -> StateAdjoint {
        let mut graph = Graph::with_weights_of(format!("state adjoint of {}", forward.name()), forward);
        let mut errors: HashMap<LayerId, LayerId> = HashMap::new();
        for &StateRead { error, .. } in &self.0 {
            errors.entry(error).or_insert_with(|| {
                let layer = adjoint.layer_at(error);
                let name = format!("error {}: {}", graph.inputs().len(), layer.name);
                let input = graph.input(&*name, layer.size);
                adjoint.output(name, error);
                input
            });
        }
        let mut gradients: HashMap<LayerId, LayerId> = HashMap::new();
        for StateRead { layer, error, back } in self.0 {
            let gradient = *gradients.entry(layer).or_insert_with(|| {
                let layer = forward.layer_at(layer);
                graph.layer(format!("d_state_{}", layer.name), layer.size, LayerKind::Sum)
            });
            graph.connect(errors[&error], gradient, back);
        }
        let vectors: Vec<StateVector> = state_vectors(forward)
            .map(|(layer, depth)| {
                let output = gradients.get(&layer).map(|&gradient| {
                    graph.output(graph.layer_at(gradient).name.clone(), gradient);
                    graph.outputs().len() - 1
                });
                StateVector { layer, depth, output }
            })
            .collect();
        // Of histories, which may be longer than these reads: others may stop the gradient.
        let depths = vectors.iter().filter(|vector| vector.output.is_some()).map(|vector| vector.depth);
        let depth = depths.max().unwrap_or(0);
        StateAdjoint { graph, vectors, depth }
    }
}
