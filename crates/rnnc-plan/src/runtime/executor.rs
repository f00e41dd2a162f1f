//! What an executor is: the one trait between a plan and whatever runs it.
//!
//! The borders are `[T, B, N]`: frame by frame, stream by stream, unit by unit. An executor keeps its own layout,
//! and its own precision, inside.

use super::config::ExecutionConfig;
use super::errors::ExecutorError;
use super::state::State;
use super::update::Update;
use super::values::{ParameterArray, Values, ValuesMut};
use crate::ir::Plan;
use rnnc_graph::WeightId;

/// Runs a plan. The contract, in the order of use:
///
/// 1. [`write`](Executor::write) the weights (they begin as 0).
/// 2. [`forward`](Executor::forward) runs some new frames, carrying history on from the last call; they may be handed
///    in ahead, by [`prefetch`](Executor::prefetch).
/// 3. [`backward`](Executor::backward) sends errors back through the last frames and leaves gradients.
/// 4. [`update`](Executor::update) changes the weights.
///
/// No call allocates after the first window, or the first that was handed in ahead.
pub trait Executor: Send {
    /// Its name in messages and on the command line.
    fn name(&self) -> &'static str;

    /// The plan it runs.
    fn plan(&self) -> &Plan;

    /// How it was set up.
    fn config(&self) -> ExecutionConfig;

    /// Runs `frames` new frames, 1 to `step`. `inputs` has one entry per input of the graph, in its order:
    /// `[frames, B, N]`, or symbols `[frames, B]`. `resets` is `[frames, B]`.
    fn forward(
        &mut self,
        frames: usize,
        inputs: &[Values<'_>],
        resets: Option<&[bool]>,
    ) -> Result<(), ExecutorError>;

    /// Hands in the next frames ahead, so that an executor with memory of its own brings them there while it still does what
    /// was asked before. Whether it does: then [`forward_prefetched`](Executor::forward_prefetched) runs them, and a call of
    /// `forward` drops them, as another of this one does. The arrays may be reused when this returns.
    ///
    /// # Errors
    /// What `forward` would say of these frames and inputs; that there is no memory for them.
    fn prefetch(&mut self, frames: usize, inputs: &[Values<'_>]) -> Result<bool, ExecutorError> {
        self.plan().check_inputs(self.config(), frames, inputs, None)?;
        Ok(false)
    }

    /// [`forward`](Executor::forward), of the frames and inputs that the last call of [`prefetch`](Executor::prefetch)
    /// brought.
    ///
    /// # Errors
    /// Nothing was brought, or there was a forward call since; those of `forward`.
    fn forward_prefetched(&mut self, resets: Option<&[bool]>) -> Result<(), ExecutorError> {
        let _ = resets;
        Err(ExecutorError::NOTHING_AHEAD)
    }

    /// Copies an output of the last forward call, by its place in the graph's list: `[frames, B, N]`. Calls of
    /// [`backward`](Executor::backward) leave it as it is.
    fn output(&self, output: usize, into: ValuesMut<'_>) -> Result<(), ExecutorError>;

    /// Computes all gradients of a scalar from its gradients with respect to the outputs in the new frames of
    /// the last forward call (one `[new frames, B, N]` per output; `None` is zeros), going back through the
    /// last `frames` frames: the new ones and, where the step is shorter than the window, those before them that
    /// are kept: up to the window, and no more than have been run.
    fn backward(
        &mut self,
        frames: usize,
        output_gradients: &[Option<Values<'_>>],
    ) -> Result<(), ExecutorError>;

    /// [`backward`](Executor::backward) where the scalar depends on the state that the last forward call left, too; with its
    /// gradients with respect to that: one `[depth, B, N]` for each of the network's [`state_vectors`](rnnc_graph::state_vectors),
    /// oldest frame first; `None` is zeros, and so is no array at all. Only for plans made with state gradients.
    ///
    /// # Errors
    /// Those of `backward`; arrays that are not those of the state.
    fn backward_from(
        &mut self,
        frames: usize,
        output_gradients: &[Option<Values<'_>>],
        state_gradients: &[Option<Values<'_>>],
    ) -> Result<(), ExecutorError> {
        self.plan().check_state_gradients(self.config(), state_gradients)?;
        match state_gradients {
            [] => self.backward(frames, output_gradients),
            _ => Err(ExecutorError::no_state_gradients(self.name())),
        }
    }

    /// Copies the gradient of a vector of the state before the frames of the last backward call, by its place among the
    /// network's [`state_vectors`](rnnc_graph::state_vectors): `[depth, B, N]`, oldest frame first. Only for plans made with
    /// state gradients.
    fn state_gradient(&self, vector: usize, into: ValuesMut<'_>) -> Result<(), ExecutorError> {
        let _ = (vector, into);
        Err(ExecutorError::no_state_gradients(self.name()))
    }

    /// Copies the gradient of an input, by its place in the graph's list, over the frames of the last backward
    /// call: `[frames, B, N]`. Only for plans made with input gradients.
    fn input_gradient(&self, input: usize, into: ValuesMut<'_>) -> Result<(), ExecutorError>;

    /// Changes the weights along their gradients; returns the gradients' norm before clipping. If that is not finite,
    /// since a gradient is not, nothing changes.
    fn update(&mut self, update: &Update) -> Result<f64, ExecutorError>;

    /// Copies out an array of a weight.
    fn read(&self, part: ParameterArray, weight: WeightId, into: ValuesMut<'_>) -> Result<(), ExecutorError>;

    /// Copies in an array of a weight.
    fn write(
        &mut self,
        part: ParameterArray,
        weight: WeightId,
        values: Values<'_>,
    ) -> Result<(), ExecutorError>;

    /// All that calls of [`step`](ExecutionConfig::step) frames, forward and backward, will read of the frames run so far: with
    /// it and the weights (and their slots), another executor of the same plan and config goes on as this one does.
    fn state(&self) -> Result<State, ExecutorError>;

    /// The same without the kept frames: all that forward calls will read. Much less, where the step is shorter than
    /// the window.
    fn forward_state(&self) -> Result<State, ExecutorError>;

    /// What [`forward_state`](Executor::forward_state) was before the last forward call: where to begin to run that again.
    /// The same as now if there was none since the state was set.
    fn state_before(&self) -> Result<State, ExecutorError>;

    /// Goes on from a state. Of its kept frames, those are taken that this executor would keep itself; all other
    /// frames are forgotten.
    fn set_state(&mut self, state: &State) -> Result<(), ExecutorError>;

    /// Goes back to the beginning: every stream at its start.
    fn clear_state(&mut self);

    /// Waits until all that was asked for is done, and says if something failed. Other calls may return before, where a
    /// device works on; those that read numbers wait by themselves.
    fn finish(&self) -> Result<(), ExecutorError> {
        Ok(())
    }
}
