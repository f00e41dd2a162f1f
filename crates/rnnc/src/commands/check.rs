//! `rnnc check`: gradients against differences, and an executor against the reference.

use crate::check::{Finding, agreement, differences};
use crate::executors::{ExecutorArgs, ExecutorKind, Precision};
use crate::failure::{Outcome, bad_input};
use crate::network::NetworkArgs;
use crate::trial::Trial;
use clap::Args;
use rnnc_graph::Graph;
use std::io::Write;

/// The most frames that are run if none are asked for: differences take many runs.
const MOST_FRAMES: u64 = 100;

/// The arguments.
#[derive(Args)]
#[command(after_help = "\
Weights, inputs, resets and gradients of outputs are random. The gradients of each weight and vector input are compared \
with differences, in double precision; then the executor's outputs, gradients and state with those of the reference \
executor. Exit code 1 if something differs by more than rounding explains: that of single precision, or, with --precision tf32 or \
bf16, of those, which are 8000 and 65000 times coarser.")]
pub struct Check {
    #[command(flatten)]
    network: NetworkArgs,
    #[command(flatten)]
    executor: ExecutorArgs,
    /// Streams side by side
    #[arg(long, default_value_t = 3, value_name = "B")]
    streams: usize,
    /// Frames to run [default: enough for the network's longest delay, from 12 to 100]
    #[arg(long, value_name = "T")]
    frames: Option<usize>,
    /// Leave out the differences, which take long for large networks
    #[arg(long)]
    no_differences: bool,
    /// What the random numbers begin with
    #[arg(long, default_value_t = 1, value_name = "S")]
    seed: u64,
}

impl Check {
    /// Checks, and prints what was found.
    pub fn run(&self) -> anyhow::Result<Outcome> {
        let graph = self.network.read()?;
        let frames = self.frames.unwrap_or_else(|| enough_frames(&graph));
        if frames == 0 || self.streams == 0 {
            return bad_input("a check needs at least 1 stream and 1 frame");
        }
        let ExecutorArgs { executor, precision, .. } = self.executor;
        if self.no_differences && executor == ExecutorKind::Reference {
            return bad_input(
                "the reference executor is compared with differences alone: leave out `--no-differences`",
            );
        }
        let trial = Trial::draw(&graph, self.streams, frames, 10, self.seed)?;
        let mut out = std::io::stdout().lock();
        writeln!(out, "network {}: {} streams, {frames} frames of random data", graph.name(), self.streams)?;

        let mut good = true;
        if !self.no_differences {
            let found = differences::check(&graph, &trial, self.seed)?;
            good &= report(&mut out, "gradients against differences", &found)?;
        }
        if executor != ExecutorKind::Reference {
            let found = agreement::check(&graph, &trial, &self.executor)?;
            let name = match precision {
                Some(precision @ (Precision::Tf32 | Precision::Bf16)) => {
                    &format!("{} in {}", executor.name(), precision.name())
                }
                _ => executor.name(),
            };
            good &= report(&mut out, &format!("{name} against reference"), &found)?;
        }
        Ok(if good { Outcome::Done } else { Outcome::Failed })
    }
}

fn enough_frames(graph: &Graph) -> usize {
    let longest = graph.connections().iter().map(|c| c.delay.unsigned_abs()).max().unwrap_or(0);
    // At most MOST_FRAMES, which fits.
    longest.saturating_mul(2).saturating_add(10).clamp(12, MOST_FRAMES) as usize
}

fn report(out: &mut impl Write, what: &str, found: &[Finding]) -> std::io::Result<bool> {
    let mut bad = 0;
    for finding in found {
        if let Some(problem) = &finding.problem {
            bad += 1;
            writeln!(out, "  {}: {problem}", finding.array)?;
        }
    }
    let worst = found.iter().max_by(|a, b| a.error.total_cmp(&b.error));
    let worst = worst.map(|f| format!("; largest relative difference {:.1e}, {}", f.error, f.array));
    let verdict = if bad == 0 { "ok".into() } else { format!("FAILED in {bad}") };
    writeln!(out, "{what}: {verdict} ({} arrays{})", found.len(), worst.unwrap_or_default())?;
    Ok(bad == 0)
}
