//! An executor against the reference: outputs, gradients and state, window by window. How much they may differ follows from
//! how much rounding the network amplifies.

use crate::compare::{Finding, Tolerance, compare};
use crate::conditioning::{Rounding, altered};
use crate::error::VerifyError;
use crate::run::{Make, run, write_weights};
use crate::trial::Trial;
use rnnc_reference::ReferenceExecutor;

/// How often the reference runs with roundings.
const ALTERED: u64 = 3;

/// Compares all that an executor makes of a trial, in its windows, with what the reference does.
///
/// # Errors
/// Those of the executors.
pub fn agreement(trial: &Trial<'_>, make: Make<'_>, rounding: Rounding) -> Result<Vec<Finding>, VerifyError> {
    // First, for it may refuse.
    let mut executor = make(trial.plan()?, trial.config)?;
    write_weights(executor.as_mut(), &trial.weights)?;
    let found = run(executor.as_mut(), trial)?;
    let mut reference = ReferenceExecutor::new(trial.plan()?, trial.config)?;
    write_weights(&mut reference, &trial.weights)?;
    let expected = run(&mut reference, trial)?;
    let altered = altered(trial, rounding.unit, ALTERED)?;
    Ok(compare(&expected, &altered, &found, Tolerance::of(rounding.tolerance)))
}
