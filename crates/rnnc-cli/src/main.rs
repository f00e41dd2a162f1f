//! The command `rnnc`.
//!
//! Each command is a file of `commands/`, with its arguments and what it does. What several share:
//! - `network.rs`, `sequence.rs` and `numbers.rs` read and write what passes in and out;
//! - `executors.rs` knows the executors;
//! - `settings.rs` reads a run's settings, with what the command line changes of them;
//! - `screen.rs` shows training as it goes, and `signals.rs` ends it early;
//! - `outputs.rs` keeps outputs from replacing inputs;
//! - `failure.rs` says how a command ends.

mod commands;
mod executors;
mod failure;
mod network;
mod numbers;
mod outputs;
mod screen;
mod sequence;
mod settings;
mod signals;
mod tables;

use clap::{Arg, CommandFactory, FromArgMatches, Parser};
use commands::Command;
use std::process::ExitCode;

/// A compiler and trainer for recurrent networks.
///
/// Exit codes: 0; 1 for a failed run; 2 for bad input.
#[derive(Parser)]
#[command(name = "rnnc", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

fn main() -> ExitCode {
    // A negative number is a value, for its option to refuse, and no option that is not known.
    let negative = |argument: Arg| {
        let has_value = argument.get_action().takes_values();
        if has_value { argument.allow_negative_numbers(true) } else { argument }
    };
    let command = Cli::command().mut_subcommands(|command| command.mut_args(negative));
    let cli = Cli::from_arg_matches(&command.get_matches()).unwrap_or_else(|error| error.exit());
    failure::conclude(cli.command.run())
}
