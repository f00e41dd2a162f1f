//! What an executor is: the one trait between a plan and whatever runs it.
//!
//! The borders are `[T, B, N]`: frame by frame, stream by stream, unit by unit. An executor keeps its own layout,
//! and its own precision, inside.

use crate::plan::Plan;
use crate::state::State;
use crate::update::Update;
use rnnc_graph::{WeightId, count};
use thiserror::Error;

/// How a plan is to be run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ExecutionConfig {
    /// Streams side by side, B.
    pub streams: usize,
    /// The most frames that errors go back through, h.
    pub window: usize,
    /// The most new frames of one call of [`Executor::forward`], h'. If less than `window`, older frames are kept.
    pub step: usize,
    /// Worker threads, the caller's included; 0 means as many as the process may use.
    pub threads: usize,
    /// Keys the dropout masks.
    pub seed: u64,
    /// Whether dropout is on.
    pub training: bool,
    /// How coarsely products of matrices may round their operands.
    pub precision: Precision,
}

/// How coarsely products of matrices may round their operands. Sums are in single precision, and all else is; an executor
/// may be more precise than it must.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Precision {
    /// Single precision throughout.
    #[default]
    F32,
    /// Operands of 11 significant bits (TF32): off by at most 0.05 percent each.
    Tf32,
    /// Operands of 8 significant bits (bfloat16): off by at most 0.4 percent each.
    Bf16,
}

impl ExecutionConfig {
    /// B streams in windows of `frames` frames, all of them new, on all cores, without dropout, in single precision.
    pub fn new(streams: usize, frames: usize) -> ExecutionConfig {
        ExecutionConfig {
            streams,
            window: frames,
            step: frames,
            threads: 0,
            seed: 0,
            training: false,
            precision: Precision::F32,
        }
    }
}

/// Numbers handed to an executor.
#[derive(Clone, Copy, Debug)]
pub enum Values<'a> {
    /// Numbers in single precision.
    F32(&'a [f32]),
    /// Numbers in double precision.
    F64(&'a [f64]),
    /// Symbols `[T, B]`; [`NO_SYMBOL`] reads as a vector of zeros.
    Symbols(&'a [u32]),
}

/// Room for numbers from an executor.
#[derive(Debug)]
pub enum ValuesMut<'a> {
    /// In single precision.
    F32(&'a mut [f32]),
    /// In double precision.
    F64(&'a mut [f64]),
}

/// In place of a symbol: none.
pub const NO_SYMBOL: u32 = u32::MAX;

impl Values<'_> {
    /// How many.
    pub fn len(&self) -> usize {
        match self {
            Values::F32(v) => v.len(),
            Values::F64(v) => v.len(),
            Values::Symbols(v) => v.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl ValuesMut<'_> {
    /// How many fit.
    pub fn len(&self) -> usize {
        match self {
            ValuesMut::F32(v) => v.len(),
            ValuesMut::F64(v) => v.len(),
        }
    }

    /// Whether none fit.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// An array that belongs to each weight, in the weight's canonical shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ParameterArray {
    /// The weight itself.
    Weight,
    /// Its gradient, as the last [`Executor::backward`] left it.
    Gradient,
    /// Adam's mean of gradients.
    Moment1,
    /// The root of Adam's mean of squared gradients.
    Moment2,
}

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
    /// it and the weights (and their moments), another executor of the same plan and config goes on as this one does.
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

/// What an executor refuses.
#[derive(Debug, Error, Clone, PartialEq)]
pub enum ExecutorError {
    /// A number of frames, streams or such outside its bounds.
    #[error("{what} must be {expected}, not {found}")]
    OutOfRange {
        /// Of what.
        what: &'static str,
        /// The bounds.
        expected: String,
        /// What was given.
        found: usize,
    },
    /// A setting of an update outside its bounds.
    #[error("{what} must be {expected}, not {found:?}")]
    Setting {
        /// Which.
        what: &'static str,
        /// The bounds.
        expected: &'static str,
        /// What was given.
        found: f64,
    },
    /// An array of the wrong length.
    #[error("`{name}` must hold {expected} values ({shape}), not {found}")]
    Length {
        /// The input, output, weight or layer.
        name: String,
        /// Its shape in words.
        shape: String,
        /// The right number.
        expected: usize,
        /// What was given.
        found: usize,
    },
    /// Symbols for a vector, or numbers for a symbol input.
    #[error("`{name}` takes {expected}, not {found}")]
    Type {
        /// The input.
        name: String,
        /// What it takes.
        expected: &'static str,
        /// What was given.
        found: &'static str,
    },
    /// A number that single precision cannot hold.
    #[error("`{name}`: number {place} (from 0) is {found:e}, and single precision holds at most 3.4e38")]
    TooLarge {
        /// The input, output, weight or layer.
        name: String,
        /// Which of its numbers.
        place: usize,
        /// The number.
        found: f64,
    },
    /// A symbol past the last.
    #[error(
        "`{name}`: symbol {found} in frame {frame} of stream {stream}, but there are only {symbols} (from 0)"
    )]
    Symbol {
        /// The input.
        name: String,
        /// How many there are.
        symbols: usize,
        /// What was given.
        found: u32,
        /// Where.
        frame: usize,
        /// Where.
        stream: usize,
    },
    /// The wrong number of arrays.
    #[error("{what}: {} needed, for {names}, and {found} given", arrays_are(*.expected))]
    Count {
        /// Of what.
        what: &'static str,
        /// The right number.
        expected: usize,
        /// Of which names.
        names: String,
        /// What was given.
        found: usize,
    },
    /// A state of another network or another number of streams.
    #[error("the state does not fit: {0}")]
    State(String),
    /// A call out of order.
    #[error("{0}")]
    Order(&'static str),
    /// More memory than there is, or than a machine can address.
    #[error("{what} would take {bytes} bytes; {available} are available")]
    Memory {
        /// The purpose.
        what: String,
        /// How much.
        bytes: u128,
        /// How much there is.
        available: u128,
    },
    /// Something that this executor cannot run.
    #[error("the {executor} executor cannot run {what}")]
    Unsupported {
        /// The executor.
        executor: &'static str,
        /// The layer and what it does.
        what: String,
    },
    /// An executor that needs what this machine lacks.
    #[error("the {executor} executor cannot run here: {what}")]
    Missing {
        /// The executor.
        executor: &'static str,
        /// What was not found.
        what: String,
    },
    /// A device that failed while it ran.
    #[error("the {executor} executor failed: {what}")]
    Device {
        /// The executor.
        executor: &'static str,
        /// What failed, and how.
        what: String,
    },
}

/// "1 array is", "2 arrays are"
fn arrays_are(number: usize) -> String {
    format!("{} {}", count(number, "array"), if number == 1 { "is" } else { "are" })
}

impl ExecutorError {
    /// There are no inputs for [`Executor::forward_prefetched`].
    pub const NOTHING_AHEAD: ExecutorError = ExecutorError::Order("no inputs were brought ahead");

    /// Whether what was asked for is at fault, rather than the order of calls or the device.
    pub fn is_bad_input(&self) -> bool {
        !matches!(self, ExecutorError::Order(_) | ExecutorError::Device { .. })
    }
}
