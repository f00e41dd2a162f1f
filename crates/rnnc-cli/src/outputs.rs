//! Outputs do not replace what the same command reads.

use crate::failure::bad_input;
use rnnc_io::FileError;
use std::io;
use std::path::Path;

/// Refuses an output that is one of the command's inputs, however the two are spelled, and, before anything is computed, one
/// that is a directory or whose directory is not there. `inputs` are what the command calls them, and their paths.
pub fn check_output(option: &str, output: &Path, inputs: &[(&str, Option<&Path>)]) -> anyhow::Result<()> {
    let fail = |source: io::Error| Err(FileError::Write { path: output.into(), source }.into());
    let Ok(real) = output.canonicalize() else {
        // What is not there replaces nothing.
        return directory_of(output).metadata().map(|_| ()).or_else(fail);
    };
    if real.is_dir() {
        return fail(io::ErrorKind::IsADirectory.into());
    }
    // Devices and pipes can be both.
    if !real.is_file() {
        return Ok(());
    }
    let is_output = |path: &Path| path.canonicalize().is_ok_and(|input| input == real);
    match inputs.iter().find(|(_, path)| path.is_some_and(is_output)) {
        None => Ok(()),
        Some((what, _)) => {
            bad_input(format!("`{option} {}` would replace {what}: name another file", output.display()))
        }
    }
}

/// Whether two outputs are one file, though it may not be there yet.
pub fn are_same(a: &Path, b: &Path) -> bool {
    let real = |path: &Path| match path.canonicalize() {
        Ok(real) => real,
        Err(_) => {
            let directory = directory_of(path).canonicalize().unwrap_or_else(|_| directory_of(path).into());
            directory.join(path.file_name().unwrap_or_default())
        }
    };
    real(a) == real(b)
}

/// The directory that a file is in.
pub fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
