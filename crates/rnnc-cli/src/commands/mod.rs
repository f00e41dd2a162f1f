//! The commands, one file each.

mod bench;
mod cells;
mod check;
mod config;
mod evaluate;
mod generate;
mod grad;
mod init;
mod new;
mod plan;
mod run;
mod train;

use crate::failure::Outcome;
use clap::Subcommand;

/// What to do.
#[derive(Subcommand)]
pub enum Command {
    /// Make a directory with a network, settings and data, ready to train
    New(new::New),
    /// List the library's cells, or print the equations of one
    Cells(cells::Cells),
    /// Say what runs in parallel in a network, what does not, and why
    Plan(plan::Plan),
    /// Check a network's gradients against differences, and executors against each other
    Check(check::Check),
    /// Write a network's initial weights
    Init(init::Init),
    /// Run a network over input arrays and write its outputs
    Run(run::Run),
    /// Compute the gradients of all weights and vector inputs
    Grad(grad::Grad),
    /// Time a network, forward and backward
    Bench(bench::Bench),
    /// Train a network, or go on training it
    Train(train::Train),
    /// Say what a trained network reaches on data: its loss and metrics
    Evaluate(evaluate::Evaluate),
    /// Print the settings of a training run as they are in effect, or list all that there are
    Config(config::ShowConfig),
    /// Let a trained network write text
    Generate(generate::Generate),
}

impl Command {
    /// Does it.
    pub fn run(&self) -> anyhow::Result<Outcome> {
        match self {
            Command::New(new) => new.run(),
            Command::Cells(cells) => cells.run(),
            Command::Plan(plan) => plan.run(),
            Command::Check(check) => check.run(),
            Command::Init(init) => init.run(),
            Command::Run(run) => run.run(),
            Command::Grad(grad) => grad.run(),
            Command::Bench(bench) => bench.run(),
            Command::Train(train) => train.run(),
            Command::Evaluate(evaluate) => evaluate.run(),
            Command::Config(config) => config.run(),
            Command::Generate(generate) => generate.run(),
        }
    }
}
