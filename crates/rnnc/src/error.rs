//! Why a model cannot be had, run or trained.

use rnnc_io::FileError;
use rnnc_plan::ExecutorError;
use thiserror::Error;

/// Why a model cannot be had, run or trained.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ModelError {
    /// A text that is no network.
    #[error("{0}")]
    Text(#[from] rnnc_lang::Errors),
    /// A file that cannot be read or written, or is of another network.
    #[error(transparent)]
    File(#[from] FileError),
    /// Weights of another network.
    #[error("network `{network}` has weights of {expected:?} numbers, not of {found:?}")]
    OtherWeights {
        /// The network.
        network: String,
        /// The sizes of its weights.
        expected: Vec<usize>,
        /// Those that were given.
        found: Vec<usize>,
    },
    /// Something that an executor refused.
    #[error(transparent)]
    Executor(#[from] ExecutorError),
    /// A network that cannot run frame by frame.
    #[cfg(feature = "cpu")]
    #[error(transparent)]
    Session(#[from] rnnc_cpu::SessionError),
    /// Training that cannot begin or go on.
    #[cfg(feature = "train")]
    #[error(transparent)]
    Training(#[from] rnnc_train::TrainError),
}
