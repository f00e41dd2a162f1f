//! The gradients of the state before a window: the plan's [`StateAdjoint`](rnnc_graph::StateAdjoint), on a small tape of its own.

use super::Tape;
use crate::compiled::Compiled;
use rnnc_graph::{ConnectionKind, StateVector, WeightId};
use rnnc_plan::{ResetTracker, Values, ValuesMut};
use std::sync::Arc;

/// The gradients of the state before the frames of the last backward call.
pub(super) struct Before {
    /// Runs the network over as many frames before a window's first as the state has, and as many from there on.
    tape: Option<Box<Tape>>,
    /// Of the state: D.
    depth: usize,
    /// The weights that its network reads, and whether they have changed since its tape was given them.
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
    /// Numbers of a frame of all streams.
    frame: usize,
    /// Which output of the network is its gradient, if one is.
    output: Option<usize>,
    /// `[2 D, B, N]`, and of it the vector's own frames.
    all: Vec<f32>,
    /// `[depth, B, N]`
    gradient: Vec<f32>,
}

impl Before {
    /// For a plan with state gradients.
    pub fn new(compiled: &Compiled) -> Option<Before> {
        let state = compiled.plan.state_adjoint.as_ref()?;
        let (streams, frames) = (compiled.config.streams, 2 * state.depth);
        let graph = &compiled.plan.forward;
        let vector = |&StateVector { layer, depth, output }: &StateVector| {
            let frame = streams * graph.layer_at(layer).size;
            let all = vec![0.0; if output.is_some() { frames * frame } else { 0 }];
            Vector { depth, frame, output, all, gradient: vec![0.0; depth * frame] }
        };
        let mut weights: Vec<WeightId> = (state.graph.connections().iter())
            .filter_map(|c| match c.kind {
                ConnectionKind::Full { weight, .. } | ConnectionKind::Diagonal { weight } => Some(weight),
                ConnectionKind::Identity { .. }
                | ConnectionKind::Broadcast { .. }
                | ConnectionKind::Constant { .. } => None,
            })
            .collect();
        weights.sort_unstable();
        weights.dedup();
        let size = |&input| frames * streams * state.graph.layer_at(input).size;
        Some(Before {
            tape: compiled.before.as_ref().map(|before: &Arc<Compiled>| Box::new(Tape::new(before))),
            depth: state.depth,
            weights,
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

    /// A window of so many frames, that leaves a state of these gradients, begins. What it leaves of the frames before it is
    /// what it began with.
    fn begin(&mut self, frames: usize, left: &[Option<Values<'_>>]) {
        for (place, vector) in self.vectors.iter_mut().enumerate() {
            vector.gradient.fill(0.0);
            let older = vector.depth.saturating_sub(frames) * vector.frame;
            let newest = vector.gradient.len() - older;
            let to = &mut vector.gradient[newest..];
            match left.get(place).copied().flatten() {
                Some(Values::F32(values)) => to.copy_from_slice(&values[..older]),
                Some(Values::F64(values)) => to.iter_mut().zip(values).for_each(|(to, x)| *to = *x as f32),
                Some(Values::Symbols(_)) | None => {}
            }
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

/// Computes the gradients of the state before a window that the adjoint has just run through, from its frame `first` on, and
/// that left a state with these gradients.
pub(super) fn run(of: &mut Tape, first: usize, left: &[Option<Values<'_>>]) {
    let Some(mut before) = of.before.take() else { return };
    let compiled = Arc::clone(&of.compiled);
    let (streams, frames) = (compiled.config.streams, compiled.config.window - first);
    before.begin(frames, left);
    if let (Some(mut tape), Some(adjoint)) = (before.tape.take(), &compiled.plan.adjoint) {
        before.find_resets(&of.tracker, streams, first, frames);
        if std::mem::take(&mut before.stale) {
            for &weight in &before.weights {
                let from = compiled.plan.weights.view(weight).places();
                let to = tape.compiled.plan.weights.view(weight).places();
                let (from_values, to_values) = (of.weights.as_slice(), tape.weights.as_mut_slice());
                from.zip(to).for_each(|(from, to)| to_values[to] = from_values[from]);
            }
            tape.weights_changed();
        }
        let outputs = adjoint.outputs();
        let outputs = &outputs[outputs.len() - before.errors.len()..];
        let known = before.depth.min(frames);
        for (output, errors) in outputs.iter().zip(&mut before.errors) {
            let frame = errors.len() / (2 * before.depth);
            let errors = &mut errors[before.depth * frame..];
            let (now, later) = errors.split_at_mut(known * frame);
            later.fill(0.0);
            let view = compiled.view(true, output.layer);
            let copied =
                view.map(|view| of.copy_out(view, first as i64, known, &output.name, ValuesMut::F32(now)));
            assert!(matches!(copied, Some(Ok(()))), "the adjoint hands out `{}`", output.name);
        }
        tape.clear();
        let errors = &before.errors;
        let all = 2 * before.depth;
        tape.forward_given(all, Some(&before.resets), &|place| Some((Values::F32(errors.get(place)?), all)));
        for vector in &mut before.vectors {
            let Some(output) = vector.output else { continue };
            let copied = tape.output(output, ValuesMut::F32(&mut vector.all));
            assert_eq!(copied, Ok(()), "the state's adjoint has that output");
            let own = (before.depth - vector.depth) * vector.frame..before.depth * vector.frame;
            vector.gradient.iter_mut().zip(&vector.all[own]).for_each(|(sum, x)| *sum += x);
        }
        before.tape = Some(tape);
    }
    of.before = Some(before);
}
