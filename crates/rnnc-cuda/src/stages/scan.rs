//! Scans: affine elementwise recurrences, in parallel over time.

use crate::compile::Builder;
use crate::program::Command;
use rnnc_plan::Stage;

/// The commands of a stage.
pub(crate) fn stage(_builder: &mut Builder<'_>, _name: &str, _stage: &Stage) -> Vec<Command> {
    Vec::new()
}
