//! A run that goes on from window to window: its values, and the calls forward, backward, and of its state.
//!
//! Runs of one [`Compiled`] are independent of each other: there may be several forward calls before their backward calls, each
//! in its own, and from any threads.

mod state;

use crate::arrays::{Strided, StridedMut};
use crate::compiled::Compiled;
use crate::flush::FlushSubnormals;
use crate::memory::Aligned;
use crate::places::Region;
use crate::workspace::{PassCall, Residuals, Workspace, before};
use rnnc_graph::WeightId;
use rnnc_plan::{ExecutionConfig, ExecutorError, ParameterArray, Values, ValuesMut, View, check_len};
use std::sync::Arc;

/// Memory to run a [`Compiled`] in. No call allocates after the first window.
///
/// A run has weights of its own, and a history: the last frames of what the network reads with a delay. Whoever has those
/// themselves calls [`Compiled::forward`] instead, as a function.
pub struct Run {
    pub(crate) compiled: Arc<Compiled>,
    pub(crate) work: Workspace,
    residuals: Aligned,
    /// New frames of the last forward call, 0 before the first.
    new_frames: usize,
    /// Frames that errors can go back through.
    valid_frames: usize,
    /// Frames of the last backward call.
    backward_frames: usize,
}

impl Run {
    /// Takes the memory. Weights begin as 0, every stream at its start.
    pub fn new(compiled: &Arc<Compiled>) -> Run {
        Run {
            work: Workspace::new(compiled),
            residuals: Aligned::new(compiled.sizes.residuals),
            new_frames: 0,
            valid_frames: 0,
            backward_frames: 0,
            compiled: Arc::clone(compiled),
        }
    }

    /// What it is a run of.
    pub fn compiled(&self) -> &Arc<Compiled> {
        &self.compiled
    }

    /// Sets a weight, in its canonical shape.
    ///
    /// # Errors
    ///
    /// No such weight; values that are not as many as it has, or that single precision cannot hold.
    pub fn write(&mut self, weight: WeightId, values: Values<'_>) -> Result<(), ExecutorError> {
        let plan = &self.compiled.plan;
        plan.check_written(self.compiled.config, ParameterArray::Weight, weight, values)?;
        scatter(values, plan.weights.view(weight).places(), self.work.weights.as_mut_slice());
        self.work.weights_changed();
        Ok(())
    }

    /// Copies the gradient of a weight, in its canonical shape.
    ///
    /// # Errors
    ///
    /// No such weight, or no gradients; an array of another length.
    pub fn gradient(&self, weight: WeightId, into: ValuesMut<'_>) -> Result<(), ExecutorError> {
        let plan = &self.compiled.plan;
        plan.check_weight(self.compiled.config, ParameterArray::Gradient, weight, into.len())?;
        gather(self.work.gradients.as_slice(), plan.weights.view(weight).places(), into);
        Ok(())
    }

    /// Takes some weights from those of another plan of the same network.
    pub(crate) fn take_weights(&mut self, weights: &[WeightId], of: &Compiled, values: &[f32]) {
        let to_values = self.work.weights.as_mut_slice();
        for &weight in weights {
            let from = of.plan.weights.view(weight).places();
            let to = self.compiled.plan.weights.view(weight).places();
            from.zip(to).for_each(|(from, to)| to_values[to] = values[from]);
        }
        self.work.weights_changed();
    }

    /// Copies rows out of a view: frames `first ..` of the window.
    fn copy_out(
        &self,
        view: View,
        first: i64,
        frames: usize,
        name: &str,
        into: ValuesMut<'_>,
    ) -> Result<(), ExecutorError> {
        let streams = self.compiled.config.streams;
        check_len(name, &[frames, streams, view.len], into.len())?;
        let out = StridedMut::of_values(into, streams, view.len);
        self.work.copy_out(&self.compiled, self.residuals.as_slice(), view, first, &out);
        Ok(())
    }

    /// [`Executor::forward`](rnnc_plan::Executor::forward)
    ///
    /// # Errors
    ///
    /// What does not fit the plan.
    pub fn forward(
        &mut self,
        frames: usize,
        inputs: &[Values<'_>],
        resets: Option<&[bool]>,
    ) -> Result<(), ExecutorError> {
        let Compiled { plan, config, .. } = &*self.compiled;
        plan.check_inputs(*config, frames, inputs, resets)?;
        let streams = config.streams;
        let given = |place: usize| Some((strided(*inputs.get(place)?, frames, streams), frames));
        self.forward_given(frames, resets, &given);
        Ok(())
    }

    /// The same with inputs that fit, by their places.
    pub(crate) fn forward_given<'a>(
        &mut self,
        frames: usize,
        resets: Option<&[bool]>,
        given: &(dyn Fn(usize) -> Option<(Strided<'a>, usize)> + Sync),
    ) {
        let _flush = FlushSubnormals::begin();
        let compiled = &*self.compiled;
        let config = compiled.config;
        let window = config.window;
        // Move what is kept to the front: the frames before the new ones, as far as history (or, where windows
        // overlap, the window) goes back.
        for (buffer, place) in compiled.plan.buffers.iter().zip(&compiled.buffers) {
            let kept = if config.step < window && buffer.saved {
                buffer.history + window - frames
            } else {
                buffer.history
            };
            if kept > 0 {
                let end = place.offset + (buffer.history + window) * place.frame;
                let to = place.offset + (buffer.history + window - frames - kept) * place.frame;
                let values = match place.region {
                    Region::Working => &mut self.work.values,
                    Region::Residuals => &mut self.residuals,
                };
                values.as_mut_slice().copy_within(end - kept * place.frame..end, to);
            }
        }
        self.work.tracker.advance(frames, resets);
        let residuals = Residuals::of(self.residuals.as_mut_slice());
        let call = PassCall { backward: false, first: window - frames, residuals, seed: config.seed };
        self.work.run(compiled, call, given);
        self.new_frames = frames;
        self.backward_frames = 0;
        let kept = if config.step < window { window - frames } else { 0 };
        self.valid_frames = self.valid_frames.min(kept) + frames;
    }

    /// Runs one frame or more, as many at a time as there may be, and copies all outputs.
    pub(crate) fn run_blocks(
        &mut self,
        frames: usize,
        inputs: &[Values<'_>],
        resets: Option<&[bool]>,
        outputs: &mut [ValuesMut<'_>],
    ) -> Result<(), ExecutorError> {
        let Compiled { plan, config, .. } = &*self.compiled;
        let (streams, block) = (config.streams, config.step);
        // All that is given is checked before anything runs.
        plan.check_inputs(ExecutionConfig { step: usize::MAX, ..*config }, frames, inputs, resets)?;
        plan.check_outputs(*config, frames, outputs)?;
        for first in (0..frames).step_by(block) {
            let now = block.min(frames - first);
            let resets = resets.map(|resets| &resets[first * streams..(first + now) * streams]);
            let given = |place: usize| {
                let values = inputs.get(place)?.frames(first..first + now, frames);
                Some((strided(values, now, streams), now))
            };
            self.forward_given(now, resets, &given);
            for (output, into) in outputs.iter_mut().enumerate() {
                self.output(output, into.frames_mut(first..first + now, frames))?;
            }
        }
        Ok(())
    }

    /// [`Executor::output`](rnnc_plan::Executor::output)
    ///
    /// # Errors
    ///
    /// No such output; an array of another length.
    pub fn output(&self, output: usize, into: ValuesMut<'_>) -> Result<(), ExecutorError> {
        let output = self.compiled.plan.check_output(output)?;
        let view = self.compiled.view(false, output.layer);
        let view = view.ok_or(ExecutorError::Order("the output is not stored"))?;
        let first = (self.compiled.config.window - self.new_frames) as i64;
        self.copy_out(view, first, self.new_frames, &output.name, into)
    }

    /// [`Executor::backward_from`](rnnc_plan::Executor::backward_from)
    ///
    /// # Errors
    ///
    /// What does not fit the plan or the last forward call.
    pub fn backward(
        &mut self,
        frames: usize,
        output_gradients: &[Option<Values<'_>>],
        state_gradients: &[Option<Values<'_>>],
    ) -> Result<(), ExecutorError> {
        let (new, most) = (self.new_frames, self.valid_frames);
        let compiled = Arc::clone(&self.compiled);
        let Compiled { plan, config, .. } = &*compiled;
        plan.check_output_gradients(*config, new, most, frames, output_gradients)?;
        plan.check_state_gradients(*config, state_gradients)?;
        let _flush = FlushSubnormals::begin();
        let (window, streams) = (config.window, config.streams);
        for (vector, of) in plan.state_adjoint.iter().flat_map(|state| &state.vectors).enumerate() {
            let left = state_gradients.get(vector).copied().flatten();
            let left = left.map(|values| strided(values, of.depth, streams));
            self.work.before.iter_mut().for_each(|before| before.take_left(vector, left));
        }
        let errors = |place: usize| Some((strided(output_gradients[place]?, new, streams), new));
        let residuals = Residuals::of(self.residuals.as_mut_slice());
        let call = PassCall { backward: true, first: window - frames, residuals, seed: config.seed };
        self.work.run_backward(&compiled, call, &errors);
        self.backward_frames = frames;
        before::run(&mut self.work, &compiled, self.residuals.as_slice(), window - frames);
        Ok(())
    }

    /// [`Executor::input_gradient`](rnnc_plan::Executor::input_gradient)
    ///
    /// # Errors
    ///
    /// No such gradient; an array of another length.
    pub fn input_gradient(&self, input: usize, into: ValuesMut<'_>) -> Result<(), ExecutorError> {
        let Compiled { plan, config, .. } = &*self.compiled;
        let layer = plan.check_input_gradient(input, self.backward_frames)?;
        let view = self.compiled.view(true, layer);
        let view = view.ok_or(ExecutorError::Order("the gradient is not stored"))?;
        let name = plan.adjoint.as_ref().map_or("", |adjoint| &*adjoint.layer_at(layer).name);
        let first = (config.window - self.backward_frames) as i64;
        self.copy_out(view, first, self.backward_frames, name, into)
    }

    /// [`Executor::state_gradient`](rnnc_plan::Executor::state_gradient)
    ///
    /// # Errors
    ///
    /// No such gradient; an array of another length.
    pub fn state_gradient(&self, vector: usize, into: ValuesMut<'_>) -> Result<(), ExecutorError> {
        let Compiled { plan, config, .. } = &*self.compiled;
        let (layer, depth) = plan.check_state_gradient(vector, self.backward_frames)?;
        let layer = plan.forward.layer_at(layer);
        check_len(&layer.name, &[depth, config.streams, layer.size], into.len())?;
        let gradient = self.work.before.as_ref().map_or(&[][..], |before| before.gradient(vector));
        match into {
            ValuesMut::F32(out) => out.copy_from_slice(gradient),
            ValuesMut::F64(out) => out.iter_mut().zip(gradient).for_each(|(out, x)| *out = f64::from(*x)),
        }
        Ok(())
    }

    /// Begins all streams anew.
    pub fn clear(&mut self) {
        self.work.tracker.clear();
        self.new_frames = 0;
        self.valid_frames = 0;
        self.backward_frames = 0;
    }
}

/// Puts numbers to their places in a flat buffer.
pub(crate) fn scatter(values: Values<'_>, places: impl Iterator<Item = usize>, to: &mut [f32]) {
    match values {
        Values::F32(values) => places.zip(values).for_each(|(at, value)| to[at] = *value),
        Values::F64(values) => places.zip(values).for_each(|(at, value)| to[at] = *value as f32),
        // No weight is made of symbols: that is refused before.
        Values::Symbols(_) => {}
    }
}

/// Takes numbers from their places in a flat buffer.
pub(crate) fn gather(from: &[f32], places: impl Iterator<Item = usize>, into: ValuesMut<'_>) {
    match into {
        ValuesMut::F32(out) => out.iter_mut().zip(places).for_each(|(out, at)| *out = from[at]),
        ValuesMut::F64(out) => out.iter_mut().zip(places).for_each(|(out, at)| *out = f64::from(from[at])),
    }
}

/// All values of so many frames of so many streams, which were counted before.
fn strided(values: Values<'_>, frames: usize, streams: usize) -> Strided<'_> {
    Strided::of_values(values, streams, values.len() / (frames * streams))
}
