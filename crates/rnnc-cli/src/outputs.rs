//! Outputs do not replace what the same command reads.

use crate::failure::BadInput;
use std::path::Path;

/// Refuses an output that is one of the command's inputs, however the two are spelled. `inputs` are what the command calls
/// them, and their paths.
pub fn check_output(option: &str, output: &Path, inputs: &[(&str, Option<&Path>)]) -> Result<(), BadInput> {
    // What is not there replaces nothing.
    let Ok(real) = output.canonicalize() else { return Ok(()) };
    // Devices and pipes can be both.
    if !real.is_file() {
        return Ok(());
    }
    let is_output = |path: &Path| path.canonicalize().is_ok_and(|input| input == real);
    match inputs.iter().find(|(_, path)| path.is_some_and(is_output)) {
        None => Ok(()),
        Some((what, _)) => {
            Err(BadInput(format!("`{option} {}` would replace {what}: name another file", output.display())))
        }
    }
}
