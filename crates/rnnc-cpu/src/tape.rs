//! The memory of a call: what a forward pass leaves for the backward one, what both compute with, and the calls themselves.
//!
//! Tapes of one [`Compiled`] are independent of each other: there may be several forward calls before their backward calls, each
//! with its own, and from any threads.

mod before;
mod state;

use crate::compiled::{Compiled, Sizes};
use crate::flush::FlushSubnormals;
use crate::foreseen::Working;
use crate::memory::{Aligned, Room, Shared};
use crate::ops::border::{self, BufferRows};
use crate::ops::{Local, Share, TILE, once};
use crate::owners::{self, Owners};
use crate::pass;
use crate::team::{Experience, Work, Worker};
use before::Before;
use rnnc_graph::WeightId;
use rnnc_plan::{
    ExecutionConfig, ExecutorError, ParameterArray, ResetTracker, Values, ValuesMut, View, check_len,
};
use std::sync::{Arc, Mutex, PoisonError};

/// Memory to run a [`Compiled`] in. No call allocates after the first window.
///
/// A tape has weights of its own, and a history: the last frames of what the network reads with a delay. So it may be used as
/// one run that goes on from window to window, or, with weights and state handed in each time, as a function.
pub struct Tape {
    pub(crate) compiled: Arc<Compiled>,
    pub(crate) values: Aligned,
    pub(crate) weights: Aligned,
    pub(crate) gradients: Aligned,
    packed: Aligned,
    found: Aligned,
    /// What the steps of `Plan::once` compute with.
    once: Aligned,
    /// Of each worker.
    locals: Vec<Mutex<Local>>,
    /// Debug builds: which share touches what of these.
    owners: Option<Owners>,
    /// Locked only where results are copied out; whoever changes the tape has it to themselves.
    pub(crate) experience: Mutex<Experience>,
    tracker: ResetTracker,
    /// New frames of the last forward call, 0 before the first.
    new_frames: usize,
    /// Frames that errors can go back through.
    valid_frames: usize,
    /// Frames of the last backward call.
    backward_frames: usize,
    /// Whether the weights were packed since they changed, for each pass.
    packed_for: [bool; 2],
    /// The gradients of the state, if the plan has them.
    before: Option<Before>,
}

impl Tape {
    /// Takes the memory. Weights begin as 0, every stream at its start.
    pub fn new(compiled: &Arc<Compiled>) -> Tape {
        let Sizes { values, weights, gradients, working } = compiled.sizes;
        let Working { packed, found, tiles, pointers, group, outer } = working;
        let local = || {
            Mutex::new(Local {
                tiles: Aligned::new(tiles),
                group: Aligned::new(group),
                outer: Aligned::new(outer),
                pointers: vec![std::ptr::null_mut(); pointers],
            })
        };
        let (config, workers) = (compiled.config, compiled.workers());
        Tape {
            values: Aligned::new(values),
            weights: Aligned::new(weights),
            gradients: Aligned::new(gradients),
            packed: Aligned::new(packed),
            found: Aligned::new(found),
            once: Aligned::new(compiled.plan.once.room(TILE)),
            locals: (0..workers).map(|_| local()).collect(),
            owners: Owners::new(values + gradients + packed + found, workers),
            experience: Mutex::default(),
            tracker: ResetTracker::new(config.streams, config.window),
            new_frames: 0,
            valid_frames: 0,
            backward_frames: 0,
            packed_for: [false; 2],
            before: Before::new(compiled),
            compiled: Arc::clone(compiled),
        }
    }

    /// What it is a tape of.
    pub fn compiled(&self) -> &Arc<Compiled> {
        &self.compiled
    }

    pub(crate) fn experience(&mut self) -> &mut Experience {
        self.experience.get_mut().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets a weight, in its canonical shape.
    ///
    /// # Errors
    ///
    /// No such weight; values that are not as many as it has, or that single precision cannot hold.
    pub fn write(&mut self, weight: WeightId, values: Values<'_>) -> Result<(), ExecutorError> {
        let plan = &self.compiled.plan;
        plan.check_written(self.compiled.config, ParameterArray::Weight, weight, values)?;
        scatter(values, plan.weights.view(weight).places(), self.weights.as_mut_slice());
        self.weights_changed();
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
        gather(self.gradients.as_slice(), plan.weights.view(weight).places(), into);
        Ok(())
    }

    /// The weights have changed.
    pub(crate) fn weights_changed(&mut self) {
        self.packed_for = [false; 2];
        if let Some(before) = &mut self.before {
            before.stale = true;
        }
    }

    /// Runs a pass over the frames from `first` on. `given` has the values of an input in the last so many of them.
    fn run<'a>(
        &mut self,
        backward: bool,
        first: usize,
        given: &(dyn Fn(usize) -> Option<(Values<'a>, usize)> + Sync),
    ) {
        /// Fewer numbers than these are not worth a barrier.
        const SHARED: usize = 1 << 16;
        // No pass has run since weights changed.
        if self.packed_for == [false; 2] {
            self.derive(false);
        }
        let compiled = &*self.compiled;
        let config = compiled.config;
        let program = if backward { compiled.backward.as_ref() } else { Some(&compiled.forward) };
        let Some(program) = program else { return };
        for range in &program.cleared {
            self.gradients.as_mut_slice()[range.clone()].fill(0.0);
        }
        let packed = self.packed_for[usize::from(backward)];
        let shared = Shared {
            values: self.values.as_mut_ptr(),
            weights: self.weights.as_slice().as_ptr(),
            gradients: self.gradients.as_mut_ptr(),
            constants: compiled.constants.as_slice().as_ptr(),
            packed: self.packed.as_mut_ptr(),
            found: self.found.as_mut_ptr(),
            room: Room {
                values: self.values.as_slice().len(),
                weights: self.weights.as_slice().len(),
                gradients: self.gradients.as_slice().len(),
                constants: compiled.constants.as_slice().len(),
                packed: self.packed.as_slice().len(),
                found: self.found.as_slice().len(),
            },
            owners: self.owners.as_ref(),
            tracker: &self.tracker,
            isa: compiled.isa,
            streams: config.streams,
            first,
            end: config.window,
            dropout: config.training.then_some(config.seed),
        };
        let locals = &self.locals;
        let this_run = self.owners.as_ref().map_or(0, Owners::next_run);
        let (inputs, window) = (&program.inputs, config.window);
        let fill = |share: &Share| {
            for (place, to) in inputs.iter().enumerate() {
                if let Some(to) = to {
                    let (values, new) = given(place).unzip();
                    border::fill(&shared, to, share, window - new.unwrap_or(0), values);
                }
            }
        };
        let width: usize = inputs.iter().flatten().map(|to| to.len).sum();
        let by_all = !program.alone && (window - first) * shared.streams * width >= SHARED;
        if !by_all {
            owners::enters(0);
            fill(&pass::whole(&shared));
        }
        let job = |worker: Worker<'_>| {
            owners::enters(this_run);
            // Its own worker is the only one to take it.
            let mut local = locals[worker.index].lock().unwrap_or_else(PoisonError::into_inner);
            for index in pass::shares(&worker).filter(|_| by_all) {
                if let Some(share) = pass::first_share(&shared, program, (index, worker.count)) {
                    fill(&share);
                }
            }
            if !packed {
                pass::pack(&shared, program, &worker);
            }
            if by_all || !packed {
                worker.barrier();
            }
            pass::run(&shared, program, &worker, &mut local);
        };
        if program.alone {
            compiled.team.alone(&job);
        } else {
            let kind = if backward { Work::Backward } else { Work::Forward };
            let experience = self.experience.get_mut().unwrap_or_else(PoisonError::into_inner);
            compiled.team.share(experience, kind, window - first, &job);
        }
        // Not where a panic has left them half packed.
        self.packed_for[usize::from(backward)] = true;
    }

    /// Computes what depends on weights alone, or, backward, adds its gradients to those of the weights.
    fn derive(&mut self, backward: bool) {
        let once = &self.compiled.plan.once;
        let steps = if backward { &once.backward } else { &once.forward };
        let (weights, gradients) = (self.weights.as_mut_slice(), self.gradients.as_mut_slice());
        let buffers = once::Buffers { weights, gradients };
        once::run(self.compiled.isa, steps, buffers, self.once.as_mut_slice());
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
        let _flush = FlushSubnormals::begin();
        let streams = self.compiled.config.streams;
        check_len(name, &[frames, streams, view.len], into.len())?;
        let to = self.compiled.target(view);
        let start = to.base as i64 + first * (streams * to.width) as i64;
        let values = &self.values.as_slice()[start as usize..];
        let rows = BufferRows { values, width: to.width, len: view.len };
        let (team, experience) = (&self.compiled.team, &self.experience);
        match into {
            ValuesMut::F32(out) => border::copy_out(team, experience, &rows, out),
            ValuesMut::F64(out) => border::copy_out(team, experience, &rows, out),
        }
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
        self.forward_given(frames, resets, &|place| Some((*inputs.get(place)?, frames)));
        Ok(())
    }

    /// The same with inputs that fit, by their places.
    fn forward_given<'a>(
        &mut self,
        frames: usize,
        resets: Option<&[bool]>,
        given: &(dyn Fn(usize) -> Option<(Values<'a>, usize)> + Sync),
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
                self.values.as_mut_slice().copy_within(end - kept * place.frame..end, to);
            }
        }
        self.tracker.advance(frames, resets);
        self.run(false, window - frames, given);
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
            let given = |place: usize| Some((part(*inputs.get(place)?, first, now, frames), now));
            self.forward_given(now, resets, &given);
            for (output, into) in outputs.iter_mut().enumerate() {
                self.output(output, part_mut(into, first, now, frames))?;
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
        let Compiled { plan, config, .. } = &*self.compiled;
        plan.check_output_gradients(*config, new, most, frames, output_gradients)?;
        plan.check_state_gradients(*config, state_gradients)?;
        let _flush = FlushSubnormals::begin();
        let (window, outputs) = (config.window, plan.forward.outputs().len());
        let compiled = Arc::clone(&self.compiled);
        let vectors = compiled.plan.state_adjoint.as_ref().map_or(&[][..], |state| &state.vectors);
        // The adjoint's inputs: errors of the new frames, then of the state's last ones.
        let given = |place: usize| match place.checked_sub(outputs) {
            None => Some((output_gradients[place]?, new)),
            Some(vector) => {
                let values = state_gradients.get(vector).copied().flatten()?;
                let of = vectors.get(vector)?.depth;
                let new = of.min(frames);
                Some((part(values, of - new, new, of), new))
            }
        };
        self.run(true, window - frames, &given);
        if self.compiled.backward.is_some() {
            self.derive(true);
        }
        self.backward_frames = frames;
        before::run(self, window - frames, state_gradients);
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
        let gradient = self.before.as_ref().map_or(&[][..], |before| before.gradient(vector));
        match into {
            ValuesMut::F32(out) => out.copy_from_slice(gradient),
            ValuesMut::F64(out) => out.iter_mut().zip(gradient).for_each(|(out, x)| *out = f64::from(*x)),
        }
        Ok(())
    }

    /// Begins all streams anew.
    pub fn clear(&mut self) {
        self.tracker.clear();
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

/// Of values of so many frames, some: from the frame `first` on.
fn part(values: Values<'_>, first: usize, frames: usize, of: usize) -> Values<'_> {
    let range = |len: usize| len / of.max(1) * first..len / of.max(1) * (first + frames);
    match values {
        Values::F32(values) => Values::F32(&values[range(values.len())]),
        Values::F64(values) => Values::F64(&values[range(values.len())]),
        Values::Symbols(values) => Values::Symbols(&values[range(values.len())]),
    }
}

/// The same, to change.
fn part_mut<'a>(values: &'a mut ValuesMut<'_>, first: usize, frames: usize, of: usize) -> ValuesMut<'a> {
    let range = |len: usize| len / of.max(1) * first..len / of.max(1) * (first + frames);
    match values {
        ValuesMut::F32(values) => {
            let range = range(values.len());
            ValuesMut::F32(&mut values[range])
        }
        ValuesMut::F64(values) => {
            let range = range(values.len());
            ValuesMut::F64(&mut values[range])
        }
    }
}
