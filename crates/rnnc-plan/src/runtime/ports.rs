//! One forward call of a network as a pure function, and the backward call of that: what goes in and what comes out.
//!
//! ```text
//! forward (weights, inputs, resets?, state_in?, seed)        -> outputs, state_out, tape
//! backward(weights, resets?, tape, d_outputs?, d_state_out?) -> d_weights, d_inputs, d_state_in
//! ```
//!
//! All memory that survives a call is the caller's. So any number of forward calls may be made before their backward calls,
//! from any threads, each with its tape. [`Functional`] is the trait; [`Executor`](super::Executor) is a run that goes on instead,
//! with weights and state of its own.

use super::array::{Array, ArrayMut};
use super::config::ExecutionConfig;
use super::errors::ExecutorError;
use crate::ir::Plan;
use rnnc_graph::{Layer, LayerId, LayerKind};

/// What an input, an output or a vector of the state is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PortKind {
    /// Vectors of numbers: `f32` or `f64`.
    Numbers,
    /// Symbols: `i32`, `i64` or `u32`; -1 ([`NO_SYMBOL`](super::NO_SYMBOL)) is none.
    Symbols,
}

/// An input or an output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// As users know it.
    pub name: String,
    /// Numbers or symbols.
    pub kind: PortKind,
    /// Units, N; of symbols, how many there are.
    pub size: usize,
    /// The layer of the plan's forward network.
    pub layer: LayerId,
}

/// A vector of the state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatePort {
    /// The layer whose last values it is.
    pub name: String,
    /// Numbers or symbols.
    pub kind: PortKind,
    /// Units, N; of symbols, how many there are.
    pub size: usize,
    /// How many of its last frames.
    pub depth: usize,
    /// The layer of the plan's forward network.
    pub layer: LayerId,
    /// Its place among the network's [`state_vectors`](rnnc_graph::state_vectors), to which [`Executor`](super::Executor)'s gradients of the
    /// state refer; symbols have none.
    pub vector: Option<usize>,
}

/// A weight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WeightPort {
    /// Where it stands in the network: `h.i.W.x`.
    pub name: String,
    /// Its canonical shape: `[n]`, `[rows, columns]`, or `[heads, rows / heads, columns / heads]`.
    pub shape: Vec<usize>,
}

/// All that a network takes and gives, in the order in which calls have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ports {
    /// Numbers: `[T, B, N]`. Symbols: `[T, B]`.
    pub inputs: Vec<Port>,
    /// `[T, B, N]`
    pub outputs: Vec<Port>,
    /// Of numbers, `[B, N]` if the depth is 1, else `[depth, B, N]`, oldest first. Symbols: `[B]`, or `[depth, B]`.
    ///
    /// First the layers that the network holds ([`Graph::hold`](rnnc_graph::Graph::hold)), in their order; then what else it reads
    /// with a delay.
    pub state: Vec<StatePort>,
    /// In their canonical shapes.
    pub weights: Vec<WeightPort>,
    /// Whether there is a backward call: that gives gradients of weights.
    pub gradients: bool,
    /// Whether it gives those of inputs.
    pub input_gradients: bool,
    /// Whether it takes and gives those of the state.
    pub state_gradients: bool,
}

impl Ports {
    /// Those of a plan.
    pub fn of(plan: &Plan) -> Ports {
        let graph = &plan.forward;
        let kind = |layer: &Layer| match layer.kind {
            LayerKind::Symbol => PortKind::Symbols,
            _ => PortKind::Numbers,
        };
        let port = |name: &str, id: LayerId| {
            let layer = graph.layer_at(id);
            Port { name: name.into(), kind: kind(layer), size: layer.size, layer: id }
        };
        let depths = graph.history_depths();
        let vectors: Vec<LayerId> = rnnc_graph::state_vectors(graph).map(|(layer, _)| layer).collect();
        let mut others = depths.clone();
        graph.held().iter().for_each(|id| others[id.index()] = 0);
        let others = graph.layer_ids().filter(|id| others[id.index()] > 0);
        let state = graph.held().iter().copied().chain(others).map(|id| {
            let layer = graph.layer_at(id);
            StatePort {
                name: layer.name.clone(),
                kind: kind(layer),
                size: layer.size,
                depth: depths[id.index()],
                layer: id,
                vector: vectors.binary_search(&id).ok(),
            }
        });
        Ports {
            inputs: graph.inputs().iter().map(|&id| port(&graph.layer_at(id).name, id)).collect(),
            outputs: graph.outputs().iter().map(|output| port(&output.name, output.layer)).collect(),
            state: state.collect(),
            weights: (graph.weights().iter())
                .map(|weight| WeightPort { name: weight.name.clone(), shape: weight.shape.clone() })
                .collect(),
            gradients: plan.options.gradients,
            input_gradients: plan.options.input_gradients,
            state_gradients: plan.options.state_gradients,
        }
    }
}

/// A forward call. Arrays of shape `[T, B, ..]` have T = `frames` and B the streams of the config.
///
/// Lists have an entry for each port, in the order of [`Ports`]. A list of optional arrays may be empty instead: it has none.
#[derive(Debug)]
pub struct Forward<'c, 'm> {
    /// T: 1 to the window.
    pub frames: usize,
    /// `f32` or `f64`, in their canonical shapes.
    pub weights: &'c [Array<'c>],
    /// If the caller counts the changes of its weights, the count: calls of one [`Functional`] with the same number have the same weights.
    /// These are then not read again. `None`: they are read in each call.
    pub weights_version: Option<u64>,
    /// `[T, B, N]`, or symbols `[T, B]`.
    pub inputs: &'c [Array<'c>],
    /// `[T, B]`, `bool` or `u8`: frame t of stream b begins a new sequence.
    pub resets: Option<Array<'c>>,
    /// The values of the state before the first frame: `[B, N]` or `[depth, B, N]`; all of them are known. `None`: every stream
    /// begins.
    pub state_in: Option<&'c [Array<'c>]>,
    /// Keys the dropout masks, in place of the config's seed.
    pub seed: u64,
    /// The number of the first frame, by which dropout masks are keyed too: a sequence in two calls has the masks of one if the second
    /// begins with the number of frames of the first.
    pub first_frame: u64,
    /// `[T, B, N]`
    pub outputs: &'c mut [Option<ArrayMut<'m>>],
    /// The values of the state behind the last frame: `[B, N]` or `[depth, B, N]`. They are what a read with a delay would find there:
    /// frames before a stream's last reset, or its beginning, have the layer's start.
    pub state_out: &'c mut [Option<ArrayMut<'m>>],
    /// What the backward call reads of this one: `f32`, contiguous, [`tape_len`](Functional::tape_len) of them or more, at an address that is
    /// a multiple of 64. Its contents before do not matter. `None`: there will be no backward call.
    pub tape: Option<ArrayMut<'c>>,
}

impl<'c, 'm> Forward<'c, 'm> {
    /// So many frames from the beginning of every stream, and nothing to come out.
    pub fn new(frames: usize, weights: &'c [Array<'c>], inputs: &'c [Array<'c>]) -> Forward<'c, 'm> {
        Forward {
            frames,
            weights,
            weights_version: None,
            inputs,
            resets: None,
            state_in: None,
            seed: 0,
            first_frame: 0,
            outputs: &mut [],
            state_out: &mut [],
            tape: None,
        }
    }
}

/// The backward call of a forward call, with the same frames, weights and resets.
///
/// Gradients are written, not added. Lists are as in [`Forward`]; an absent gradient of an output is zero.
#[derive(Debug)]
pub struct Backward<'c, 'm> {
    /// Those of the forward call.
    pub frames: usize,
    /// Those of the forward call.
    pub weights: &'c [Array<'c>],
    /// As in [`Forward::weights_version`].
    pub weights_version: Option<u64>,
    /// Those of the forward call.
    pub resets: Option<Array<'c>>,
    /// As the forward call left it. It is read only: there may be several backward calls of one forward call.
    pub tape: Array<'c>,
    /// Gradients with respect to the outputs: `[T, B, N]`.
    pub d_outputs: &'c [Option<Array<'c>>],
    /// Gradients with respect to the state behind the last frame; those of symbols are absent.
    pub d_state_out: &'c [Option<Array<'c>>],
    /// Gradients of the weights, in their canonical shapes.
    pub d_weights: &'c mut [Option<ArrayMut<'m>>],
    /// Gradients of the inputs: `[T, B, N]`; symbols have none.
    pub d_inputs: &'c mut [Option<ArrayMut<'m>>],
    /// Gradients of the state before the first frame; symbols have none. Zeros, where the forward call had no state.
    pub d_state_in: &'c mut [Option<ArrayMut<'m>>],
}

impl<'c, 'm> Backward<'c, 'm> {
    /// Back through a tape of so many frames, with no gradients yet to go back, and none to come out.
    pub fn new(frames: usize, weights: &'c [Array<'c>], tape: Array<'c>) -> Backward<'c, 'm> {
        Backward {
            frames,
            weights,
            weights_version: None,
            resets: None,
            tape,
            d_outputs: &[],
            d_state_out: &[],
            d_weights: &mut [],
            d_inputs: &mut [],
            d_state_in: &mut [],
        }
    }
}

/// A network as a pure function, for so many streams and a window of so many frames. Calls may come from any threads at a time.
///
/// # Errors
///
/// What does not fit is refused before anything runs or is written, by the name of its port: [`ExecutorError::Port`], and for a
/// symbol past the last [`ExecutorError::Symbol`].
pub trait Functional: Send + Sync {
    /// What it takes and gives.
    fn ports(&self) -> &Ports;

    /// Streams, window, and whether dropout is on. The seed is each call's.
    fn config(&self) -> ExecutionConfig;

    /// How many `f32` a tape has, 0 if there is no backward call.
    fn tape_len(&self) -> usize;

    /// Runs some frames.
    ///
    /// # Errors
    /// An array that does not fit its port; a number of frames that is 0 or more than the window.
    fn forward(&self, call: Forward<'_, '_>) -> Result<(), ExecutorError>;

    /// Computes gradients.
    ///
    /// # Errors
    /// An array that does not fit its port; a tape of something else, or of other frames or resets; a plan without these
    /// gradients.
    fn backward(&self, call: Backward<'_, '_>) -> Result<(), ExecutorError>;
}
