//! How a command ends: 0, 1 for a failed run, 2 for bad input; and the message.

use rnnc::UnknownExecutor;
use rnnc_cpu::SessionError;
use rnnc_graph::GraphError;
use rnnc_io::FileError;
use rnnc_lang::Errors;
use rnnc_plan::{ExecutorError, PlanError};
use rnnc_report::PictureError;
use rnnc_train::TrainError;
use rnnc_verify::VerifyError;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

/// Input that cannot be worked with, where no library says so.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct BadInput(pub String);

/// An error that is the input's fault.
pub fn bad_input<T>(problem: impl Into<String>) -> anyhow::Result<T> {
    Err(BadInput(problem.into()).into())
}

/// What a command that ran to its end found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// All is well.
    Done,
    /// With this input a check can tell nothing, or not all; the command has said why.
    Unfit,
    /// A check did not hold; the command has said which.
    Failed,
}

/// Prints the error, if there is one, and gives the exit code.
pub fn conclude(result: anyhow::Result<Outcome>) -> ExitCode {
    match result {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::Failed) => ExitCode::from(1),
        Ok(Outcome::Unfit) => ExitCode::from(2),
        // Whoever read the output has seen enough.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            let color = colors(&io::stderr());
            let text = match error.downcast_ref::<Errors>() {
                Some(errors) => errors.render(color),
                None if color => format!("\x1b[1;31merror:\x1b[0m {}", described(&error)),
                None => format!("error: {}", described(&error)),
            };
            // A terminal that is closed shows nothing, and the exit code says it too.
            let _ = writeln!(io::stderr(), "{text}");
            ExitCode::from(if is_bad_input(&error) { 2 } else { 1 })
        }
    }
}

/// An error in words. Names in files and paths may have signs that steer a terminal: these are shown, not sent.
fn described(error: &anyhow::Error) -> String {
    // Where a file is written, its name is said; the others are standard output's.
    let begin = if error.is::<io::Error>() { "cannot write to standard output: " } else { "" };
    let signs = |c: char| match c {
        '\n' | '\t' => c.to_string(),
        c if c.is_control() => c.escape_default().to_string(),
        c => c.to_string(),
    };
    format!("{begin}{error}").chars().map(signs).collect()
}

/// Whether what goes there may be coloured (<https://no-color.org>).
pub fn colors(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let file = match error.downcast_ref::<TrainError>() {
        Some(TrainError::File(file)) => Some(file),
        _ => error.downcast_ref::<FileError>(),
    };
    let source = match file {
        Some(FileError::Write { source, .. }) => Some(source),
        _ => error.downcast_ref::<io::Error>(),
    };
    source.is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
}

fn is_bad_input(error: &anyhow::Error) -> bool {
    if let Some(error) = error.downcast_ref::<TrainError>() {
        return error.is_bad_input();
    }
    if let Some(error) = error.downcast_ref::<FileError>() {
        return error.is_bad_input();
    }
    if let Some(error) = error.downcast_ref::<ExecutorError>() {
        return error.is_bad_input();
    }
    if let Some(error) = error.downcast_ref::<SessionError>() {
        return error.is_bad_input();
    }
    if let Some(error) = error.downcast_ref::<VerifyError>() {
        return match error {
            VerifyError::Executor(error) => error.is_bad_input(),
            VerifyError::Plan(_) => true,
        };
    }
    error.is::<BadInput>()
        || error.is::<UnknownExecutor>()
        || error.is::<Errors>()
        || error.is::<GraphError>()
        || error.is::<PlanError>()
        || error.is::<PictureError>()
}
