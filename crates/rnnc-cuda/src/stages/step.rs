//! Loops: one persistent kernel for each component.

use crate::compile::Builder;
use crate::driver::DriverError;
use crate::program::Command;
use rnnc_plan::Stage;

/// The commands of a stage.
pub(crate) fn stage(
    _builder: &mut Builder<'_>,
    _name: &str,
    _stage: &Stage,
) -> Result<Vec<Command>, DriverError> {
    Ok(Vec::new())
}
