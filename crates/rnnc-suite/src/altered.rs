//! The reference executor with something changed: what the suite must see, and what it must not.

use rnnc_graph::WeightId;
use rnnc_plan::{
    ExecutionConfig, Executor, ExecutorError, ParameterArray, Plan, State, Update, Values, ValuesMut,
};
use rnnc_reference::ReferenceExecutor;
use rnnc_verify::Array;

/// What is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alteration {
    /// Nothing.
    Nothing,
    /// Resets are not seen.
    NoResets,
    /// Gradients miss the oldest frame.
    ShortBackward,
    /// The first value of each gradient is a hundredth too large.
    Gradient,
    /// The first value of each output is a hundredth too large.
    Output,
    /// Gradients of inputs are those of the frame before.
    LateInputGradient,
    /// Going on from a state does nothing.
    NoState,
    /// The state before the last call is that behind it.
    LateBefore,
    /// A state has no kept frames.
    NoKept,
    /// Clearing the state does nothing.
    NoClear,
    /// Weights that are written after the first forward call have no bearing.
    OldWeights,
    /// A forward call takes what was handed in ahead, whatever it is given.
    TakesPrefetched,
    /// The first value of each output is a hundredth too large once there was a backward call.
    OutputBehind,
    /// Gradients are not clipped.
    NoClip,
    /// The optimizer keeps nothing from update to update.
    NoSlots,
}

/// A [`ReferenceExecutor`] with an alteration.
pub struct Altered {
    inner: ReferenceExecutor,
    alteration: Alteration,
    /// Frames and inputs that were handed in ahead.
    prefetched: Option<(usize, Vec<Array>)>,
    /// Whether there was a forward call.
    begun: bool,
    /// Whether there was a backward call behind the last forward call.
    behind: bool,
}

impl Altered {
    /// Makes one.
    ///
    /// # Errors
    /// Those of [`ReferenceExecutor::new`].
    pub fn make(
        plan: Plan,
        config: ExecutionConfig,
        alteration: Alteration,
    ) -> Result<Box<dyn Executor>, ExecutorError> {
        let inner = ReferenceExecutor::new(plan, config)?;
        Ok(Box::new(Altered { inner, alteration, prefetched: None, begun: false, behind: false }))
    }

    /// All slots of all weights.
    fn slots(&self) -> Vec<(WeightId, ParameterArray)> {
        let slots = self.config().optimizer.slots().len();
        let weights = (0..self.plan().forward.weights().len()).map(WeightId::from_index);
        weights.flat_map(|weight| (0..slots).map(move |slot| (weight, ParameterArray::Slot(slot)))).collect()
    }

    fn is(&self, alteration: Alteration) -> bool {
        self.alteration == alteration
    }
}

fn raise_first(into: ValuesMut<'_>) {
    match into {
        ValuesMut::F32(values) => values.iter_mut().take(1).for_each(|x| *x += 0.01 * (x.abs() + 1.0)),
        ValuesMut::F64(values) => values.iter_mut().take(1).for_each(|x| *x += 0.01 * (x.abs() + 1.0)),
    }
}

impl Executor for Altered {
    fn name(&self) -> &'static str {
        "altered reference"
    }

    fn plan(&self) -> &Plan {
        self.inner.plan()
    }

    fn config(&self) -> ExecutionConfig {
        self.inner.config()
    }

    fn forward(
        &mut self,
        frames: usize,
        inputs: &[Values<'_>],
        resets: Option<&[bool]>,
    ) -> Result<(), ExecutorError> {
        let resets = if self.is(Alteration::NoResets) { None } else { resets };
        (self.begun, self.behind) = (true, false);
        match self.prefetched.take() {
            Some((prefetched, arrays)) if prefetched == frames => {
                let inputs: Vec<Values<'_>> = arrays.iter().map(Array::values).collect();
                self.inner.forward(frames, &inputs, resets)
            }
            _ => self.inner.forward(frames, inputs, resets),
        }
    }

    fn prefetch(&mut self, frames: usize, inputs: &[Values<'_>]) -> Result<bool, ExecutorError> {
        let brings = self.inner.prefetch(frames, inputs)?;
        let array = |values: &Values<'_>| match *values {
            Values::F32(v) => Array::Numbers(v.to_vec()),
            Values::F64(v) => Array::Numbers(v.iter().map(|&x| x as f32).collect()),
            Values::Symbols(v) => Array::Symbols(v.to_vec()),
        };
        if self.is(Alteration::TakesPrefetched) {
            self.prefetched = Some((frames, inputs.iter().map(array).collect()));
        }
        Ok(brings)
    }

    fn forward_prefetched(&mut self, resets: Option<&[bool]>) -> Result<(), ExecutorError> {
        self.inner.forward_prefetched(resets)
    }

    fn output(&self, output: usize, into: ValuesMut<'_>) -> Result<(), ExecutorError> {
        match into {
            ValuesMut::F64(values)
                if self.is(Alteration::Output) || self.behind && self.is(Alteration::OutputBehind) =>
            {
                self.inner.output(output, ValuesMut::F64(values))?;
                raise_first(ValuesMut::F64(values));
                Ok(())
            }
            into => self.inner.output(output, into),
        }
    }

    fn backward(&mut self, frames: usize, errors: &[Option<Values<'_>>]) -> Result<(), ExecutorError> {
        self.inner.backward(frames, errors)?;
        self.behind = true;
        if !self.is(Alteration::ShortBackward) || frames < 2 {
            return Ok(());
        }
        // A window shorter by one where there are older frames; else errors that vanish in the oldest.
        match self.inner.backward(frames - 1, errors) {
            Err(ExecutorError::OutOfRange { .. }) => {
                let rows = |values: &Values<'_>| match values {
                    Values::F32(v) => v.iter().map(|&x| f64::from(x)).collect::<Vec<_>>(),
                    Values::F64(v) => v.to_vec(),
                    Values::Symbols(_) => Vec::new(),
                };
                let mut kept: Vec<Option<Vec<f64>>> = errors.iter().map(|e| e.as_ref().map(rows)).collect();
                for values in kept.iter_mut().flatten() {
                    let frame = values.len() / frames;
                    values[..frame].fill(0.0);
                }
                let kept: Vec<_> = kept.iter().map(|e| e.as_deref().map(Values::F64)).collect();
                self.inner.backward(frames, &kept)
            }
            other => other,
        }
    }

    fn input_gradient(&self, input: usize, into: ValuesMut<'_>) -> Result<(), ExecutorError> {
        match into {
            ValuesMut::F64(values) if self.is(Alteration::LateInputGradient) => {
                self.inner.input_gradient(input, ValuesMut::F64(values))?;
                values.rotate_right(1);
                Ok(())
            }
            into => self.inner.input_gradient(input, into),
        }
    }

    fn update(&mut self, update: &Update) -> Result<f64, ExecutorError> {
        if self.is(Alteration::NoClip) {
            return self.inner.update(&Update { clip_norm: None, ..*update });
        }
        if self.is(Alteration::NoSlots) {
            for (weight, slot) in self.slots() {
                let zeros = vec![0.0; self.plan().forward.weight_at(weight).len()];
                self.inner.write(slot, weight, Values::F64(&zeros))?;
            }
        }
        self.inner.update(update)
    }

    fn read(&self, part: ParameterArray, weight: WeightId, into: ValuesMut<'_>) -> Result<(), ExecutorError> {
        match into {
            ValuesMut::F64(values) if self.is(Alteration::Gradient) && part == ParameterArray::Gradient => {
                self.inner.read(part, weight, ValuesMut::F64(values))?;
                raise_first(ValuesMut::F64(values));
                Ok(())
            }
            into => self.inner.read(part, weight, into),
        }
    }

    fn write(
        &mut self,
        part: ParameterArray,
        weight: WeightId,
        values: Values<'_>,
    ) -> Result<(), ExecutorError> {
        match values {
            _ if self.begun && part == ParameterArray::Weight && self.is(Alteration::OldWeights) => Ok(()),
            values => self.inner.write(part, weight, values),
        }
    }

    fn state(&self) -> Result<State, ExecutorError> {
        self.inner.state()
    }

    fn forward_state(&self) -> Result<State, ExecutorError> {
        self.inner.forward_state()
    }

    fn state_before(&self) -> Result<State, ExecutorError> {
        if self.is(Alteration::LateBefore) { self.inner.forward_state() } else { self.inner.state_before() }
    }

    fn set_state(&mut self, state: &State) -> Result<(), ExecutorError> {
        match self.alteration {
            Alteration::NoState => Ok(()),
            Alteration::NoKept => self.inner.set_state(&State { kept: None, ..state.clone() }),
            _ => self.inner.set_state(state),
        }
    }

    fn clear_state(&mut self) {
        if !self.is(Alteration::NoClear) {
            self.inner.clear_state();
        }
    }
}
