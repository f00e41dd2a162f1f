//! `rnnc train`: a training run.

use crate::executors::{Precision, RunExecutorArgs, make};
use crate::failure::Outcome;
use crate::network::compile;
use crate::screen::{Screen, duration, evaluation, quoted};
use crate::settings::SetArgs;
use crate::signals::stop_on_signals;
use clap::Args;
use rnnc_io::read_network;
use rnnc_train::{Best, Config, DataKind, Job, Summary, train};
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// The arguments.
#[derive(Args)]
#[command(after_help = "\
Ctrl-C, SIGTERM and SIGHUP end the run after the current window, with a checkpoint; a second one ends it at once. The \
run's directory holds checkpoint, metrics, and copies of network and settings: `--resume` goes on from there, `rnnc \
generate` writes text, and the checkpoint serves as --weights of `rnnc run`. One `rnnc train` at a time writes there. No file \
that is not the run's is replaced: a copy ends with a line that says what it is, and who changes it makes it his own.

docs/training.md has all settings, as has `rnnc config --reference`.

Examples:
  rnnc train train.toml
  rnnc train train.toml --set training.learning_rate=1e-3 --set run.directory=fast
  rnnc train train.toml --resume --threads 4

Validation and test data are whole sequences (files of text, columns or lists of arrays) from the end of the data, as near to \
the settings' shares as they come; where none begins near there, the tail of one is taken, and begins without the state \
before it. Where arrays have a `mask`, the output of a frame that it leaves out may be anything, even NaN; what the output is \
computed from must be finite, for gradients are products with it. Reported losses are those of whole sequences with their state carried on.")]
pub struct Train {
    /// The settings
    #[arg(value_name = "TRAIN.toml")]
    config: PathBuf,
    /// Go on from the checkpoint in the run's directory
    #[arg(long)]
    resume: bool,
    #[command(flatten)]
    executor: RunExecutorArgs,
    #[command(flatten)]
    set: SetArgs,
    /// How coarsely products of matrices may round their operands [default: f32, or that of the checkpoint with --resume]
    #[arg(long, value_enum)]
    precision: Option<Precision>,
}

impl Train {
    /// Trains.
    pub fn run(&self) -> anyhow::Result<Outcome> {
        let mut config = self.set.load(&self.config)?;
        let kind = self.executor.of(&mut config)?;
        let text = read_network(&config.network.file)?;
        let graph = compile(&config.network.file, &text, config.network.name.as_deref())?;

        let stop = Arc::new(AtomicBool::new(false));
        stop_on_signals(&stop)?;

        let job = Job {
            config: &config,
            network: &graph,
            network_text: &text,
            make: &|plan, config| make(kind, plan, config, self.precision),
            resume: self.resume,
            stop: &stop,
        };
        let mut screen = Screen::new(config.data.kind == DataKind::Text);
        let result = train(&job, &mut |event: rnnc_train::Event<'_>| screen.show(event));
        screen.finish();
        self.conclude(&result?, &config)?;
        Ok(Outcome::Done)
    }

    fn conclude(&self, summary: &Summary, config: &Config) -> std::io::Result<()> {
        let mut out = std::io::stdout().lock();
        let took = duration(summary.seconds);
        let of_text = config.data.kind == DataKind::Text;
        let what = if summary.stopped { "stopped" } else { "done" };
        writeln!(out, "\n{what} after {} updates in {took}", summary.updates)?;
        if summary.out_of_patience {
            writeln!(out, "ended early: no validation found a smaller loss any more")?;
        }
        for (data, evaluated) in [("validation", &summary.validation), ("test", &summary.test)] {
            if let Some(evaluated) = evaluated {
                writeln!(out, "{data}: {}", evaluation(evaluated, of_text))?;
            }
        }
        if let Some(Best { update, .. }) = summary.best.filter(|best| best.update != summary.updates)
            && config.run.keep_best
        {
            let best = summary.directory.best();
            writeln!(out, "the best weights are those after update {update}, in {}", best.display())?;
        }
        writeln!(out, "the run is in {}", summary.directory.path().display())?;
        if summary.stopped {
            writeln!(out, "  go on:  rnnc train {} --resume", quoted(&self.config))?;
        }
        if of_text {
            writeln!(out, "  write:  rnnc generate {}", quoted(summary.directory.path()))?;
        }
        Ok(())
    }
}
