//! `rnnc evaluate`: what a trained network reaches on data.

use crate::executors::{Precision, RunExecutorArgs, make};
use crate::failure::{Outcome, bad_input};
use crate::network::compile;
use crate::outputs::directory_of;
use crate::settings::SetArgs;
use crate::signals::stop_on_signals;
use clap::{Args, ValueEnum};
use rnnc_io::read_network;
use rnnc_train::{
    Config, DataPart, EvaluateOn, Evaluation, EvaluationJob, RunDirectory, evaluate, settings_of_run,
};
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// The arguments.
#[derive(Args)]
#[command(after_help = "\
The loss and the metrics are those of the settings, over whole sequences with their state carried on. Of a run's own validation and \
test data they are what the run has reported, to the last digit on the same machine and number of threads.

RUN is a run's directory, one of its checkpoints, or the settings that it was started with. Unless a checkpoint is named, \
`best.safetensors` is evaluated where there is one, else `checkpoint.safetensors`.

Examples:
  rnnc evaluate run
  rnnc evaluate run/checkpoint.safetensors --on validation
  rnnc evaluate train.toml --files 'other/*.npz'
  rnnc evaluate train.toml --set 'training.metrics=[\"accuracy\", \"f1\"]'")]
pub struct Evaluate {
    /// A run's directory, one of its checkpoints, or its settings
    #[arg(value_name = "RUN|CHECKPOINT|TRAIN.toml")]
    run: PathBuf,
    /// Other weights
    #[arg(long, value_name = "W.safetensors")]
    weights: Option<PathBuf>,
    /// A part of the run's data; without, validation and test data
    #[arg(long, value_enum, conflicts_with = "files")]
    on: Option<Part>,
    /// Files and globs of the same kind instead
    #[arg(long, value_name = "FILES", num_args = 1..)]
    files: Vec<String>,
    #[command(flatten)]
    executor: RunExecutorArgs,
    #[command(flatten)]
    set: SetArgs,
    /// How coarsely products of matrices may round their operands [default: as the run did]
    #[arg(long, value_enum)]
    precision: Option<Precision>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// what was learned from
    Training,
    /// what was watched meanwhile
    Validation,
    /// what was reported at the end
    Test,
}

impl Evaluate {
    /// Evaluates.
    pub fn run(&self) -> anyhow::Result<Outcome> {
        let (mut config, weights) = self.settings()?;
        let kind = self.executor.of(&mut config)?;
        let text = read_network(&config.network.file)?;
        let graph = compile(&config.network.file, &text, config.network.name.as_deref())?;
        let stop = Arc::new(AtomicBool::new(false));
        stop_on_signals(&stop)?;
        let part = self.on.map(|part| match part {
            Part::Training => DataPart::Training,
            Part::Validation => DataPart::Validation,
            Part::Test => DataPart::Test,
        });
        let parts = part.map_or(vec![DataPart::Validation, DataPart::Test], |part| vec![part]);
        let job = EvaluationJob {
            config: &config,
            network: &graph,
            make: &|plan, config| make(kind, plan, config, self.precision),
            weights: &weights,
            on: if self.files.is_empty() {
                EvaluateOn::Parts(&parts)
            } else {
                EvaluateOn::Files(&self.files)
            },
            stop: &stop,
        };
        let found = evaluate(&job)?;
        let mut out = std::io::stdout().lock();
        writeln!(out, "weights: {}", weights.display())?;
        for (part, Evaluation { loss, metrics }) in &found {
            let name = match part {
                Some(DataPart::Training) => "training",
                Some(DataPart::Validation) => "validation",
                Some(DataPart::Test) => "test",
                None => "files",
            };
            write!(out, "{name}: loss {loss:?}")?;
            for (metric, value) in &metrics.0 {
                write!(out, ", {} {value:?}", metric.name())?;
            }
            writeln!(out)?;
        }
        Ok(Outcome::Done)
    }

    /// The settings, and the file of the weights.
    fn settings(&self) -> anyhow::Result<(Config, PathBuf)> {
        let is_checkpoint = self.run.extension().is_some_and(|extension| extension == "safetensors");
        let of_run = match (is_checkpoint, self.run.is_dir()) {
            (true, _) => Some(directory_of(&self.run)),
            (false, true) => Some(&*self.run),
            (false, false) => None,
        };
        let config = match of_run {
            Some(directory) => self.set.change(settings_of_run(directory)?)?,
            None => self.set.load(&self.run)?,
        };
        let weights = match (&self.weights, is_checkpoint) {
            (Some(_), true) => {
                return bad_input("there are weights twice, as a checkpoint and as --weights: leave out one");
            }
            (Some(weights), false) => weights.clone(),
            (None, true) => self.run.clone(),
            (None, false) => {
                let directory = RunDirectory::open(of_run.unwrap_or(&config.run.directory))?;
                let best = directory.best();
                if best.is_file() { best } else { directory.checkpoint() }
            }
        };
        Ok((config, weights))
    }
}
