//! Why a check could not be made.

use rnnc_plan::{ExecutorError, PlanError};
use thiserror::Error;

/// Why a check could not be made.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum VerifyError {
    /// The network has no plan.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// An executor refuses the plan or a call.
    #[error(transparent)]
    Executor(#[from] ExecutorError),
}
