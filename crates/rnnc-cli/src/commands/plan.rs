//! `rnnc plan`: what becomes of a network.

use crate::executors::{ExecutorKind, Precision, in_words};
use crate::failure::{BadInput, Outcome, bad_input};
use crate::network::NetworkArgs;
use crate::outputs::check_output;
use clap::{Args, ValueEnum};
use rnnc_cpu::Foreseen;
use rnnc_cuda::device::Device;
use rnnc_cuda::driver::{Cuda, Driver};
use rnnc_cuda::explain::explain;
use rnnc_plan::{ExecutionConfig, ExecutorError, Optimizer, Plan as Lowered, PlanOptions};
use std::io::Write;
use std::path::PathBuf;

/// The arguments.
#[derive(Args)]
#[command(after_help = "\
Examples:
  rnnc plan net.rnn
  rnnc plan net.rnn --verbose
  rnnc plan net.rnn --streams 16 --frames 128 --format svg --output net.svg
  rnnc plan net.rnn --executor cuda --device h200")]
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
    /// Whose slots training takes memory for, as `optimizer` in a file of settings [default: adam]
    #[arg(long, conflicts_with = "inference", value_name = "NAME", value_parser = optimizer)]
    optimizer: Option<Optimizer>,
    /// Plan the gradients of the inputs too, as `bench` and `grad` do
    #[arg(long, conflicts_with = "inference")]
    input_gradients: bool,
    /// What is to run it: the cpu executor's plan, or what becomes of it on a GPU
    #[arg(long, value_enum, default_value_t)]
    executor: ExecutorKind,
    /// With `--executor cuda`: the GPU by name; no such device is needed [default: this machine's]
    #[arg(long, value_name = "NAME")]
    device: Option<String>,
    /// How coarsely products of matrices may round their operands [default: f32]
    #[arg(long, value_enum)]
    precision: Option<Precision>,
    /// How to say it
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Say all of it: every component, stage, operation and barrier, with sizes and costs
    #[arg(long)]
    verbose: bool,
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
        if self.verbose && self.format != Format::Text {
            return bad_input("`--verbose` goes with `--format text`");
        }
        self.executor.check_threads(self.threads)?;
        if let Some(path) = &self.output {
            check_output("--output", path, &[("the network", Some(&*self.network.file))])?;
        }
        let graph = self.network.read()?;
        let options = match self.inference {
            true => PlanOptions::inference(self.streams, self.frames),
            false => PlanOptions::training(self.streams, self.frames),
        };
        let options = if self.input_gradients { options.with_input_gradients() } else { options };
        let workers = match (self.executor, self.threads) {
            // Of another machine's cores, too.
            (ExecutorKind::Cpu, 1..) => self.threads,
            (executor, threads) => executor.workers(threads),
        };
        let plan = Lowered::new(&graph, options)?;
        let precision = self.precision.unwrap_or_default().of_config();
        let optimizer = self.optimizer.unwrap_or_default();
        let config =
            ExecutionConfig { precision, optimizer, ..ExecutionConfig::new(self.streams, self.frames) };
        let mut text = match self.executor {
            ExecutorKind::Cpu => {
                if self.device.is_some() {
                    return bad_input("`--device` goes with `--executor cuda`");
                }
                let foreseen = Foreseen::new(plan, config, workers);
                let (plan, notes) = (&foreseen.plan, foreseen.notes());
                match self.format {
                    Format::Text if self.verbose => rnnc_report::text(plan, Some(&notes)),
                    Format::Text => {
                        let summary = rnnc_report::summary(plan, Some(&foreseen.brief()));
                        format!(
                            "{summary}\n`--verbose` lists all stages and operations, `--format svg` draws the network."
                        )
                    }
                    Format::Json => serde_json::to_string_pretty(&rnnc_report::json(plan, Some(&notes)))?,
                    Format::Dot => rnnc_report::dot(plan),
                    Format::Svg => rnnc_report::svg(plan)?,
                }
            }
            ExecutorKind::Cuda => self.on_a_gpu(&plan, config)?,
            ExecutorKind::Reference => {
                return bad_input("the reference executor has no plan: it runs the network frame by frame");
            }
        };
        if !text.ends_with('\n') {
            text.push('\n');
        }
        match &self.output {
            Some(path) => rnnc_io::write_whole(path, |out| out.write_all(text.as_bytes()))?,
            None => std::io::stdout().lock().write_all(text.as_bytes())?,
        }
        Ok(Outcome::Done)
    }

    /// What becomes of a plan on a GPU.
    fn on_a_gpu(&self, plan: &Lowered, config: ExecutionConfig) -> anyhow::Result<String> {
        let device = match &self.device {
            Some(name) => known_device(name)?,
            None => this_device()?,
        };
        let explanation = explain(plan, config, &device);
        let explanation = explanation.map_err(ExecutorError::from)?;
        match self.format {
            Format::Text if self.verbose => Ok(explanation.to_string()),
            Format::Text => {
                let summary = rnnc_report::summary(plan, Some(&explanation.brief()));
                Ok(format!("{summary}\n`--verbose` lists all stages and kernels, and where weights stay."))
            }
            Format::Json => Ok(serde_json::to_string_pretty(&explanation)?),
            Format::Dot | Format::Svg => {
                bad_input("pictures show the network, whatever runs it: leave out `--executor cuda`")
            }
        }
    }
}

fn optimizer(name: &str) -> Result<Optimizer, String> {
    let known: Vec<String> = Optimizer::NAMES.iter().map(|name| format!("`{name}`")).collect();
    Optimizer::from_name(name).ok_or_else(|| format!("there are {}", in_words(&known)))
}

fn known_device(name: &str) -> Result<Device, BadInput> {
    Device::named(name).ok_or_else(|| {
        let known: Vec<String> = Device::known().iter().map(|d| format!("`{}`", d.name)).collect();
        BadInput(format!(
            "no device `{name}` is known; there are {}. Without `--device`, it is this machine's",
            in_words(&known)
        ))
    })
}

/// The GPU of this machine.
fn this_device() -> Result<Device, ExecutorError> {
    match Cuda::chosen(rnnc_plan::Precision::F32).map_err(ExecutorError::from) {
        Ok(cuda) => Ok(cuda.device().clone()),
        Err(ExecutorError::Missing { executor, what }) => Err(ExecutorError::Missing {
            executor,
            what: format!("{what}; `--device h200` explains a plan with no GPU at hand"),
        }),
        Err(other) => Err(other),
    }
}
