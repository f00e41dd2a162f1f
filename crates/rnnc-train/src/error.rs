//! What can go wrong, in words that name the file, the array, the weight or the setting.

use rnnc_io::FileError;
use rnnc_plan::{ExecutorError, PlanError};
use std::io;
use std::path::Path;
use thiserror::Error;

/// Everything that this crate refuses or fails at.
#[derive(Debug, Error)]
pub enum TrainError {
    /// A file that cannot be read or written, or whose contents are wrong.
    #[error(transparent)]
    File(#[from] FileError),
    /// A setting that makes no sense, alone or beside the network and the data.
    #[error("{0}")]
    Setting(String),
    /// A network that does not fit the loss, the data or the task.
    #[error("network `{network}`: {problem}")]
    Network {
        /// The network.
        network: String,
        /// What is wrong.
        problem: String,
    },
    /// A loss, weight or gradient that is no longer finite. The last checkpoint is as it was.
    #[error("update {update}: {problem}")]
    NotFinite {
        /// The update that was being made, from 1.
        update: u64,
        /// What went non-finite, and where.
        problem: String,
    },
    /// A network that cannot be planned.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// Something that the executor refused.
    #[error(transparent)]
    Executor(#[from] ExecutorError),
}

impl TrainError {
    /// Whether the input is at fault, rather than the run or the machine.
    pub fn is_bad_input(&self) -> bool {
        match self {
            TrainError::NotFinite { .. } => false,
            TrainError::File(error) => error.is_bad_input(),
            TrainError::Executor(error) => error.is_bad_input(),
            _ => true,
        }
    }

    pub(crate) fn read(path: &Path, source: io::Error) -> TrainError {
        FileError::read(path, source).into()
    }

    pub(crate) fn write(path: &Path, source: io::Error) -> TrainError {
        FileError::write(path, source).into()
    }

    pub(crate) fn file(path: &Path, problem: impl Into<String>) -> TrainError {
        FileError::contents(path, problem).into()
    }
}
