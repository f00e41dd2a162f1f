//! What can go wrong, in words that name the file, the array, the weight or the setting.

use rnnc_plan::{ExecutorError, PlanError};
use std::io;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Everything that this crate refuses or fails at.
#[derive(Debug, Error)]
pub enum TrainError {
    /// A file that cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file that cannot be written. A regular file is whole: as it was before, or all new.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file whose contents are not what they should be.
    #[error("{}: {problem}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// An array that is missing, or of the wrong shape, type or contents.
    #[error("{}: array `{array}`: expected {expected}, found {found}", path.display())]
    Array {
        /// The file.
        path: PathBuf,
        /// The array.
        array: String,
        /// What it should be.
        expected: String,
        /// What it is.
        found: String,
    },
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
            TrainError::Write { .. } | TrainError::NotFinite { .. } => false,
            TrainError::Executor(error) => error.is_bad_input(),
            _ => true,
        }
    }

    pub(crate) fn read(path: &Path, source: io::Error) -> TrainError {
        TrainError::Read { path: path.into(), source }
    }

    pub(crate) fn write(path: &Path, source: io::Error) -> TrainError {
        TrainError::Write { path: path.into(), source }
    }

    pub(crate) fn file(path: &Path, problem: impl Into<String>) -> TrainError {
        TrainError::File { path: path.into(), problem: problem.into() }
    }
}
