//! What can be wrong with a file, in words that name the file and the array.

use rnnc_plan::ExecutorError;
use std::io;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Why a file cannot be read or written.
#[derive(Debug, Error)]
pub enum FileError {
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
    Contents {
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
    /// Memory that is not there, or numbers that an executor refuses.
    #[error(transparent)]
    Executor(#[from] ExecutorError),
}

impl FileError {
    /// Whether the input is at fault, rather than the machine.
    pub fn is_bad_input(&self) -> bool {
        match self {
            FileError::Write { .. } => false,
            FileError::Executor(error) => error.is_bad_input(),
            FileError::Read { .. } | FileError::Contents { .. } | FileError::Array { .. } => true,
        }
    }

    /// That `path` cannot be read.
    pub fn read(path: &Path, source: io::Error) -> FileError {
        FileError::Read { path: path.into(), source }
    }

    /// That `path` cannot be written.
    pub fn write(path: &Path, source: io::Error) -> FileError {
        FileError::Write { path: path.into(), source }
    }

    /// That the contents of `path` are wrong.
    pub fn contents(path: &Path, problem: impl Into<String>) -> FileError {
        FileError::Contents { path: path.into(), problem: problem.into() }
    }
}
