//! The gradients of the state before a window: the plan's [`StateAdjoint`](rnnc_graph::StateAdjoint), on a small run of its own.

use super::Workspace;
use crate::arrays::{Strided, StridedMut};
use crate::compiled::Compiled;
use crate::run::Run;
use rnnc_graph::{StateVector, WeightId};
use rnnc_plan::{ResetTracker, StartValue, Values, ValuesMut};
use std::sync::Arc;

/// The gradients of the state before the frames of the last backward call.
pub(crate) struct Before {
    /// Runs the network over as many frames before a window's first as the state has, and as many from there on.
    run: Option<Box<Run>>,
    /// Of the state: D.
    depth: usize,
    /// The weights that its network reads, and whether they have changed since its run was given them.
    weights: Vec<WeightId>,
    pub stale: bool,
    /// Its inputs, the adjoint's errors in those frames: `[2 D, B, N]`.
    errors: Vec<Vec<f32>>,
    /// `[2 D, B]`
    resets: Vec<bool>,
    vectors: Vec<Vector>,
}

/// A vector of the state.
struct Vector {
    depth: usize,
    streams: usize,
    size: usize,
    /// Which output of the network is its gradient, if one is.
    output: Option<usize>,
    /// `[2 D, B, N]`, and of it the vector's own frames.
    all: Vec<f32>,
    /// `[depth, B, N]`
    gradient: Vec<f32>,
    /// The gradient of what the window leaves, `[depth, B, N]`, if it is not zero.
    left: Vec<f32>,
    has_left: bool,
    /// Where the layer's learned start lies among the weights, and the gradient of those frames of the state that have it.
    start: Option<usize>,
    start_gradient: Vec<f32>,
}

impl Vector {
    /// Numbers of a frame of all streams.
    fn frame(&self) -> usize {
        self.streams * self.size
    }
}

impl Before {
    /// For a plan with state gradients.
    pub fn new(compiled: &Compiled) -> Option<Before> {
        let state = compiled.plan.state_adjoint.as_ref()?;
        let (streams, frames) = (compiled.config.streams, 2 * state.depth);
        let graph = &compiled.plan.forward;
        let vector = |&StateVector { layer, depth, output }: &StateVector| {
            let layer = graph.layer_at(layer);
            let (size, frame) = (layer.size, streams * layer.size);
            let start = match compiled.plan.weights.start(layer.start) {
                StartValue::Weight(offset) => Some(offset),
                StartValue::Number(_) => None,
            };
            Vector {
                depth,
                streams,
                size,
                output,
                all: vec![0.0; if output.is_some() { frames * frame } else { 0 }],
                gradient: vec![0.0; depth * frame],
                left: vec![0.0; depth * frame],
                has_left: false,
                start,
                start_gradient: vec![0.0; if start.is_some() { size } else { 0 }],
            }
        };
        let size = |&input| frames * streams * state.graph.layer_at(input).size;
        Some(Before {
            run: compiled.before.as_ref().map(|before: &Arc<Compiled>| Box::new(Run::new(before))),
            depth: state.depth,
            weights: state.weights(),
            stale: true,
            errors: state.graph.inputs().iter().map(|input| vec![0.0; size(input)]).collect(),
            resets: vec![false; frames * streams],
            vectors: state.vectors.iter().map(vector).collect(),
        })
    }

    /// The gradient of a vector of the state: `[depth, B, N]`.
    pub fn gradient(&self, vector: usize) -> &[f32] {
        &self.vectors[vector].gradient
    }

    /// Takes the gradient of a vector of the state that the window leaves; `None` is zero.
    pub fn take_left(&mut self, vector: usize, gradient: Option<Strided<'_>>) {
        let vector = &mut self.vectors[vector];
        vector.has_left = gradient.is_some();
        let rows = vector.left.chunks_exact_mut(vector.size.max(1)).enumerate();
        match gradient {
            Some(gradient) => {
                rows.for_each(|(row, out)| gradient.read(row / vector.streams, row % vector.streams, 0, out));
            }
            None => vector.left.fill(0.0),
        }
    }

    /// What the window leaves of frames before a stream's last reset is the layer's start: so these gradients are the start's.
    pub fn cut_left(&mut self, tracker: &ResetTracker) {
        for vector in &mut self.vectors {
            vector.start_gradient.fill(0.0);
            let since = tracker.last_since_reset(1);
            for (row, left) in vector.left.chunks_exact_mut(vector.size.max(1)).enumerate() {
                let back = vector.depth - 1 - row / vector.streams;
                if (since[row % vector.streams] as usize) < back {
                    vector.start_gradient.iter_mut().zip(&*left).for_each(|(sum, x)| *sum += x);
                    left.fill(0.0);
                }
            }
        }
    }

    /// Before a pass: no start has a gradient.
    pub fn clear_starts(&self, gradients: &mut [f32]) {
        for vector in &self.vectors {
            if let Some(at) = vector.start {
                gradients[at..at + vector.size].fill(0.0);
            }
        }
    }

    /// Behind a pass: adds what [`Before::cut_left`] found.
    pub fn add_starts(&self, gradients: &mut [f32]) {
        for vector in &self.vectors {
            if let Some(at) = vector.start {
                let sums = &mut gradients[at..at + vector.size];
                sums.iter_mut().zip(&vector.start_gradient).for_each(|(sum, x)| *sum += x);
            }
        }
    }

    /// For a window of so many frames, those gradients that are of its own: the last ones, and how many they are.
    pub fn left(&self, vector: usize, frames: usize) -> Option<(Strided<'_>, usize)> {
        let vector = &self.vectors[vector];
        let own = vector.depth.min(frames);
        let values = Values::F32(&vector.left[(vector.depth - own) * vector.frame()..]);
        vector.has_left.then(|| (Strided::of_values(values, vector.streams, vector.size), own))
    }

    /// A window of so many frames begins. What it leaves of the frames before it is what it began with.
    fn begin(&mut self, frames: usize) {
        for vector in &mut self.vectors {
            vector.gradient.fill(0.0);
            let older = vector.depth.saturating_sub(frames) * vector.frame();
            let newest = vector.gradient.len() - older;
            vector.gradient[newest..].copy_from_slice(&vector.left[..older]);
        }
    }

    /// Where sequences begin around a window's first frame.
    fn find_resets(&mut self, tracker: &ResetTracker, streams: usize, first: usize, frames: usize) {
        self.resets.fill(false);
        let since = |frame: usize, stream: usize| tracker.since_reset()[frame * streams + stream] as usize;
        for stream in 0..streams {
            // The sequence to which the first frame belongs, and those within the window.
            if let Some(begins) = self.depth.checked_sub(since(first, stream)) {
                self.resets[begins * streams + stream] = true;
            }
            for frame in 0..self.depth.min(frames) {
                self.resets[(self.depth + frame) * streams + stream] |= since(first + frame, stream) == 0;
            }
        }
    }
}

/// Computes the gradients of the state before a window that the adjoint has just run through, from its frame `first` on.
pub(crate) fn run(of: &mut Workspace, compiled: &Compiled, residuals: &[f32], first: usize) {
    let Some(mut before) = of.before.take() else { return };
    let (streams, frames) = (compiled.config.streams, compiled.config.window - first);
    before.begin(frames);
    if let (Some(mut run), Some(adjoint)) = (before.run.take(), &compiled.plan.adjoint) {
        before.find_resets(&of.tracker, streams, first, frames);
        if std::mem::take(&mut before.stale) {
            run.take_weights(&before.weights, compiled, of.weights.as_slice());
        }
        let outputs = adjoint.outputs();
        let outputs = &outputs[outputs.len() - before.errors.len()..];
        let known = before.depth.min(frames);
        for (output, errors) in outputs.iter().zip(&mut before.errors) {
            let frame = errors.len() / (2 * before.depth);
            let errors = &mut errors[before.depth * frame..];
            let (now, later) = errors.split_at_mut(known * frame);
            later.fill(0.0);
            let Some(view) = compiled.view(true, output.layer) else {
                panic!("the adjoint hands out `{}`", output.name)
            };
            let out = StridedMut::of_values(ValuesMut::F32(now), streams, view.len);
            of.copy_out(compiled, residuals, view, first as i64, &out);
        }
        run.clear();
        let errors = &before.errors;
        let all = 2 * before.depth;
        let sizes = |place: usize| errors[place].len() / (all * streams);
        let given = |place: usize| {
            Some((Strided::of_values(Values::F32(errors.get(place)?), streams, sizes(place)), all))
        };
        run.forward_given(all, Some(&before.resets), &given);
        for vector in &mut before.vectors {
            let Some(output) = vector.output else { continue };
            let copied = run.output(output, ValuesMut::F32(&mut vector.all));
            assert_eq!(copied, Ok(()), "the state's adjoint has that output");
            let own = (before.depth - vector.depth) * vector.frame()..before.depth * vector.frame();
            vector.gradient.iter_mut().zip(&vector.all[own]).for_each(|(sum, x)| *sum += x);
        }
        before.run = Some(run);
    }
    of.before = Some(before);
}
