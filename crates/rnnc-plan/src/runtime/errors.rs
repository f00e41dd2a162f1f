//! What executors refuse, and what may fail.

use crate::optimizers::SettingError;
use rnnc_graph::count;
use thiserror::Error;

/// What an executor refuses.
#[derive(Debug, Error, Clone, PartialEq)]
#[non_exhaustive]
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
    /// A setting of an update that is refused.
    #[error(transparent)]
    Setting(#[from] SettingError),
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
    /// An array that does not fit its port.
    #[error("{port} {problem}")]
    Port {
        /// Which: "input `x`".
        port: String,
        /// What it has, and what it must have.
        problem: String,
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
        found: i64,
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
    /// There are no inputs for [`Executor::forward_prefetched`](super::Executor::forward_prefetched).
    pub const NOTHING_AHEAD: ExecutorError = ExecutorError::Order("no inputs were brought ahead");

    /// Of executors that compute no gradients of the state.
    pub fn no_state_gradients(executor: &'static str) -> ExecutorError {
        let what = "gradients of the state; the cpu, the cuda and the reference executor can".into();
        ExecutorError::Unsupported { executor, what }
    }

    /// Whether what was asked for is at fault, rather than the order of calls or the device.
    pub fn is_bad_input(&self) -> bool {
        !matches!(self, ExecutorError::Order(_) | ExecutorError::Device { .. })
    }
}
