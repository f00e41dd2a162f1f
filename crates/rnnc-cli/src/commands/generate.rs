//! `rnnc generate`: text out of a trained network.

use crate::executors::{RunExecutorArgs, make};
use crate::failure::{Outcome, bad_input};
use crate::network::compile;
use clap::Args;
use rnnc_graph::LayerKind;
use rnnc_io::Weights;
use rnnc_train::{Config, DataKind, RunDirectory, Sampler};
use std::io::Write;
use std::path::PathBuf;

/// The arguments.
#[derive(Args)]
#[command(after_help = "\
Example:
  rnnc generate my_model/run --prompt 'fn ' --length 1000")]
pub struct Generate {
    /// The directory of a run, as `rnnc train` leaves it
    #[arg(value_name = "RUN_DIR")]
    directory: PathBuf,
    /// What the text begins with [default: the settings' `run.sample_prompt`]
    #[arg(long, value_name = "TEXT")]
    prompt: Option<String>,
    /// Bytes to write after the prompt
    #[arg(long, default_value_t = 400, value_name = "N")]
    length: usize,
    /// Below 1 the likely becomes likelier; 0 takes the likeliest always
    #[arg(long, default_value_t = 0.7, value_name = "X")]
    temperature: f64,
    /// What the random numbers begin with
    #[arg(long, default_value_t = 1, value_name = "S")]
    seed: u64,
    #[command(flatten)]
    executor: RunExecutorArgs,
}

impl Generate {
    /// Writes text to stdout, byte by byte.
    pub fn run(&self) -> anyhow::Result<Outcome> {
        let directory = RunDirectory::open(&self.directory)?;
        let mut config = Config::load(&directory.config())?;
        let kind = self.executor.of(&mut config)?;
        let prompt = self.prompt.as_deref().unwrap_or(&config.run.sample_prompt);
        let graph =
            compile(&directory.network(), &directory.network_text()?, config.network.name.as_deref())?;
        let reads_symbols = match graph.inputs() {
            &[input] => graph.layer_at(input).kind == LayerKind::Symbol,
            _ => false,
        };
        if config.data.kind != DataKind::Text && !reads_symbols {
            return bad_input(format!(
                "{}: this run was not trained on text, and its network writes none: `rnnc run` runs it",
                self.directory.display()
            ));
        }
        let weights = Weights::load(&directory.checkpoint(), &graph)?;
        let output = config.training.output.as_deref();
        let make = |plan, config| make(kind, plan, config, None);
        let mut sampler = Sampler::new(&graph, &weights, output, config.run.threads, self.seed, &make)?;

        // The prompt is repeated only once it is known to be one; a failed write ends the writing.
        sampler.check(prompt.as_bytes(), self.temperature)?;
        let mut out = std::io::stdout().lock();
        let mut written = out.write_all(prompt.as_bytes());
        sampler.write(prompt.as_bytes(), self.length, self.temperature, &mut |byte| {
            if written.is_ok() {
                written = out.write_all(&[byte]);
            }
            written.is_ok()
        })?;
        written.and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush())?;
        Ok(Outcome::Done)
    }
}
