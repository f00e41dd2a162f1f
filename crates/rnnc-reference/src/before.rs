//! The gradients of the state before a window: [`rnnc_graph::StateAdjoint`], run over the frames around the window's first.

use crate::borders;
use crate::network::{Network, Surroundings};
use crate::order::{self, Pair};
use crate::window::Window;
use rnnc_graph::{Graph, StateAdjoint, StateVector};
use rnnc_plan::Values;
use std::ops::Range;

/// A vector of the state: its layer's last frames.
#[derive(Clone, Debug)]
struct Vector {
    /// Which output of the network is its gradient, if one is.
    output: Option<usize>,
    /// How many frames, D.
    depth: usize,
    /// Numbers of a frame of all streams.
    frame_len: usize,
    /// The gradient of the state that the window leaves, and then of the state that it began with: `[D, B, N]`.
    left: Vec<f64>,
    gradient: Vec<f64>,
}

/// What carries errors to the state before a window.
pub(crate) struct Before {
    network: Network,
    depth: usize,
    vectors: Vec<Vector>,
}

impl Before {
    pub fn new(state: &StateAdjoint, forward: &Graph, streams: usize) -> Before {
        let vector = |&StateVector { layer, depth, output }: &StateVector| {
            let frame_len = streams * forward.layer_at(layer).size;
            let zeros = vec![0.0; depth * frame_len];
            Vector { output, depth, frame_len, left: zeros.clone(), gradient: zeros }
        };
        Before {
            network: Network::new(&state.graph, streams),
            depth: state.depth,
            vectors: state.vectors.iter().map(vector).collect(),
        }
    }

    /// Takes the gradients of the state that a window of so many frames leaves. What it leaves of the frames before it is what
    /// it began with.
    pub fn begin(&mut self, gradients: &[Option<Values<'_>>], frames: usize) {
        for (place, vector) in self.vectors.iter_mut().enumerate() {
            vector.left.fill(0.0);
            if let Some(values) = gradients.get(place).copied().flatten() {
                borders::copy_in(values, &mut vector.left);
            }
            vector.gradient.fill(0.0);
            let older = vector.depth.saturating_sub(frames) * vector.frame_len;
            let newest = vector.gradient.len() - older;
            vector.gradient[newest..].copy_from_slice(&vector.left[..older]);
        }
    }

    /// Hands the adjoint what was taken, as inputs behind the `outputs` first ones, in a window's last frames.
    pub fn seed(&self, adjoint: &mut Network, outputs: usize, window: Range<usize>) {
        for (vector, input) in self.vectors.iter().zip(&adjoint.graph.inputs()[outputs..]) {
            let frames = vector.depth.min(window.len());
            let newest = &vector.left[(vector.depth - frames) * vector.frame_len..];
            let values = &mut adjoint.layer_values[input.index()].values;
            values[(window.end - frames) * vector.frame_len..][..newest.len()].copy_from_slice(newest);
        }
    }

    /// Runs, once the adjoint has run in the window.
    pub fn run(
        mut self,
        adjoint: &Network,
        around: &Surroundings<'_>,
        window: Range<usize>,
    ) -> Result<Before, Pair> {
        let (depth, streams) = (self.depth, around.window.streams());
        if depth == 0 {
            return Ok(self);
        }
        // The frames before the window's first, as many from there on.
        let mut resets = vec![false; 2 * depth * streams];
        for stream in 0..streams {
            // Where the sequence begins to which the first frame belongs, and those within the window.
            let since = around.window.since_reset(window.start, stream);
            if let Some(begins) = usize::try_from(since).ok().and_then(|since| depth.checked_sub(since)) {
                resets[begins * streams + stream] = true;
            }
            for frame in 0..depth.min(window.len()) {
                let begins = around.window.since_reset(window.start + frame, stream) == 0;
                resets[(depth + frame) * streams + stream] |= begins;
            }
        }
        let mut frames = Window::new(streams);
        frames.push(2 * depth, Some(&resets));
        for of_layer in &mut self.network.layer_values {
            of_layer.values.clear();
            of_layer.values.resize(2 * depth * of_layer.frame_len(), 0.0);
        }
        let errors =
            &adjoint.graph.outputs()[adjoint.graph.outputs().len() - self.network.graph.inputs().len()..];
        for (input, error) in self.network.graph.inputs().iter().zip(errors) {
            let error = &adjoint.layer_values[error.layer.index()];
            let len = error.frame_len();
            let first = &error.values[window.start * len..][..depth.min(window.len()) * len];
            self.network.layer_values[input.index()].values[depth * len..][..first.len()]
                .copy_from_slice(first);
        }
        let around = Surroundings { window: &frames, first: 0, saved: None, ..*around };
        order::run(&mut self.network, &around, 0..2 * depth)?;
        let outputs = self.network.graph.outputs();
        for vector in &mut self.vectors {
            let Some(output) = vector.output else { continue };
            let values = &self.network.layer_values[outputs[output].layer.index()].values;
            let values = &values[(depth - vector.depth) * vector.frame_len..depth * vector.frame_len];
            vector.gradient.iter_mut().zip(values).for_each(|(gradient, value)| *gradient += value);
        }
        Ok(self)
    }

    /// The gradient of a vector of the state: `[D, B, N]`.
    pub fn gradient(&self, vector: usize) -> &[f64] {
        &self.vectors[vector].gradient
    }
}
