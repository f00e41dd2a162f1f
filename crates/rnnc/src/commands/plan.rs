//! `rnnc plan`: what becomes of a network.

use crate::executors::ExecutorKind;
use crate::failure::{Outcome, bad_input};
use crate::network::NetworkArgs;
use clap::{Args, ValueEnum};
use rnnc_plan::{Plan as Lowered, PlanOptions, report};
use std::io::Write;
use std::path::PathBuf;

/// The arguments.
#[derive(Args)]
pub struct Plan {
    #[command(flatten)]
    network: NetworkArgs,
    /// Streams side by side
    #[arg(long, default_value_t = 1, value_name = "B")]
    streams: usize,
    /// Frames of a window
    #[arg(long, default_value_t = 256, value_name = "T")]
    frames: usize,
    /// Threads to share the work out to; 0 means as many as there are cores
    #[arg(long, default_value_t = 0, value_name = "N")]
    threads: usize,
    /// Plan the forward pass only
    #[arg(long)]
    inference: bool,
    /// How to say it
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Where to write it, instead of stdout
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// for people
    #[default]
    Text,
    /// for tools
    Json,
    /// a picture of layers and components, for Graphviz
    Dot,
    /// the picture itself
    Svg,
}

impl Plan {
    /// Prints the plan.
    pub fn run(&self) -> anyhow::Result<Outcome> {
        if self.frames == 0 || self.streams == 0 {
            return bad_input("a plan needs at least 1 stream and 1 frame");
        }
        let graph = self.network.read()?;
        let options = match self.inference {
            true => PlanOptions::inference(self.streams, self.frames),
            false => PlanOptions::training(self.streams, self.frames),
        };
        let options = PlanOptions { workers: ExecutorKind::Cpu.workers(self.threads), ..options };
        let plan = Lowered::new(&graph, options)?;
        let mut text = match self.format {
            Format::Text => report::text(&plan),
            Format::Json => serde_json::to_string_pretty(&report::json(&plan))?,
            Format::Dot => report::dot(&plan),
            Format::Svg => report::svg(&plan)?,
        };
        if !text.ends_with('\n') {
            text.push('\n');
        }
        match &self.output {
            Some(path) => rnnc_train::write_whole(path, |out| out.write_all(text.as_bytes()))?,
            None => std::io::stdout().lock().write_all(text.as_bytes())?,
        }
        Ok(Outcome::Done)
    }
}
