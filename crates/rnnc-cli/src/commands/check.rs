//! `rnnc check`: gradients against differences, and an executor against the reference.

mod progress;
mod ranges;

use crate::executors::{ExecutorArgs, ExecutorKind, Precision, make};
use crate::failure::{Outcome, bad_input};
use crate::network::NetworkArgs;
use crate::sequence::{OutputGradients, Sequence};
use clap::Args;
use progress::Progress;
use ranges::{DrawRange, draw_from};
use rnnc_graph::{Graph, count};
use rnnc_io::Weights;
use rnnc_plan::{ExecutionConfig, Executor, ExecutorError, Plan};
use rnnc_reference::ReferenceExecutor;
use rnnc_verify::{Differences, Finding, Rounding, Spread, Trial, agreement, differences};
use std::io::Write;
use std::path::PathBuf;

/// The most frames that are run if none are asked for: differences take many runs.
const MOST_FRAMES: u64 = 100;

/// The arguments.
#[derive(Args)]
#[command(after_help = "\
Weights, inputs, resets and gradients of outputs are random, but for those that are given. The gradients of each weight and \
vector input are compared with differences, in double precision: along one random direction through all of its entries, and \
along some of its entries alone. A difference that is off by less and less as its step shrinks is no fault, nor one at a \
kink. Then the executor's outputs, gradients and state are compared with those of the reference executor.

Where the data leaves the domain of a function (the square root of a negative number), nothing can be said of the gradients, \
and the layer is named: give ranges that stay inside. The same where a derivative is infinite or no number (the square root \
at 0): there, training would stop too. An epsilon in the network helps, as in `sqrt(x + 1e-6)`, or other data.

Exit code 1 if something differs by more than rounding explains: that of single precision, or, with --precision tf32 or \
bf16, of those, which are 8000 and 65000 times coarser. Else 2 if gradients were not checked, for outputs or derivatives are \
not finite with this data.

Examples:
  rnnc check net.rnn
  rnnc check net.rnn --range x=0.1:2 --range h.W.x=0:1
  rnnc check net.rnn --weights w.safetensors --input in.npz --dropout")]
pub struct Check {
    #[command(flatten)]
    network: NetworkArgs,
    #[command(flatten)]
    executor: ExecutorArgs,
    /// Streams side by side
    #[arg(long, default_value_t = 3, value_name = "B", conflicts_with = "input")]
    streams: usize,
    /// Frames to run [default: enough for the network's longest delay, from 12 to 100]
    #[arg(long, value_name = "T", conflicts_with = "input")]
    frames: Option<usize>,
    /// These weights instead of random ones
    #[arg(long, value_name = "W.safetensors")]
    weights: Option<PathBuf>,
    /// These inputs instead of random ones, as `run` reads them; gradients of outputs, `d_NAME`, may be there too
    #[arg(long, value_name = "IN.npz")]
    input: Option<PathBuf>,
    /// Draw the numbers of an input or a weight from here, or without a name those of all vector inputs; may be given
    /// several times
    #[arg(long, value_name = "[NAME=]LOW:HIGH", allow_hyphen_values = true)]
    range: Vec<DrawRange>,
    /// Draw dropout masks, as in training; else nothing is dropped
    #[arg(long)]
    dropout: bool,
    /// Entries of each array that are moved alone
    #[arg(long, default_value_t = 3, value_name = "N", conflicts_with = "no_differences")]
    entries: usize,
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
        let ExecutorArgs { executor, precision, .. } = self.executor;
        if self.no_differences && executor == ExecutorKind::Reference {
            return bad_input(
                "the reference executor is compared with differences alone: leave out `--no-differences`",
            );
        }
        executor.check_threads(self.executor.threads)?;
        let trial = self.trial(&graph)?;
        let mut out = std::io::stdout().lock();
        let data = if self.input.is_some() { "of the file's data" } else { "of random data" };
        let dropout = match (graph.has_dropout(), self.dropout) {
            (true, true) => ", with dropout",
            (true, false) => ", without dropout (`--dropout` draws its masks)",
            (false, _) => "",
        };
        let ExecutionConfig { streams, window: frames, .. } = trial.config;
        let (of_streams, of_frames) = (count(streams, "stream"), count(frames, "frame"));
        writeln!(out, "network {}: {of_streams}, {of_frames} {data}{dropout}", graph.name())?;

        for delayed in graph.connections().iter().filter(|c| c.delay.unsigned_abs() >= frames as u64) {
            let name = delayed.source.map_or("", |source| &graph.layer_at(source).name);
            writeln!(
                out,
                "note: `{name}[t{:+}]` reaches further than {of_frames}, and reads its start alone: give --frames {}",
                -delayed.delay,
                delayed.delay.unsigned_abs().saturating_mul(2)
            )?;
        }

        // First, though told last: an executor that cannot run says so before anything is found.
        let agreed = match executor {
            ExecutorKind::Reference => None,
            _ => Some(self.agreement(&trial)?),
        };
        let mut outcome = Outcome::Done;
        if !self.no_differences {
            let found = against_differences(&trial, self.entries)?;
            outcome = outcome.max(report_differences(&mut out, &found, self.entries)?);
        }
        if let Some(found) = agreed {
            let name = match precision {
                Some(precision @ (Precision::Tf32 | Precision::Bf16)) => {
                    &format!("{} in {}", executor.name(), precision.name())
                }
                _ => executor.name(),
            };
            outcome = outcome.max(report(&mut out, &format!("{name} against reference"), &found, "")?);
        }
        Ok(outcome)
    }

    /// The executor against the reference, in two windows where the network allows it.
    fn agreement(&self, trial: &Trial<'_>) -> anyhow::Result<Vec<Finding>> {
        let ExecutorArgs { executor, precision, threads } = self.executor;
        let mut trial = trial.halved();
        trial.config.threads = threads;
        let rounding = Rounding::of(precision.unwrap_or_default().of_config());
        Ok(agreement(&trial, &|plan, config| make(executor, plan, config, precision), rounding)?)
    }

    /// The data that is asked for.
    fn trial<'a>(&self, graph: &'a Graph) -> anyhow::Result<Trial<'a>> {
        if self.input.is_some() && self.range.iter().any(|range| range.is_of_inputs(graph)) {
            return bad_input(
                "`--range` of inputs and `--input`: the inputs are those of the file; leave out one",
            );
        }
        if self.weights.is_some() && self.range.iter().any(|range| !range.is_of_inputs(graph)) {
            return bad_input(
                "`--range` of weights and `--weights`: the weights are those of the file; leave out one",
            );
        }
        let given = match &self.input {
            Some(path) => Some(Sequence::read(path, graph, OutputGradients::IfThere, false)?),
            None => None,
        };
        let (streams, frames) = match &given {
            Some(sequence) => (sequence.streams, sequence.frames),
            None => (self.streams, self.frames.unwrap_or_else(|| enough_frames(graph))),
        };
        if frames == 0 || streams == 0 {
            return bad_input("a check needs at least 1 stream and 1 frame");
        }
        let config = ExecutionConfig {
            training: self.dropout,
            seed: self.seed,
            ..ExecutionConfig::new(streams, frames)
        };
        let mut trial = Trial::draw(graph, config, &[frames], 0.1, Spread::PLAIN)?;
        draw_from(&self.range, &mut trial)?;
        if let Some(path) = &self.weights {
            let single = |values: Vec<f64>| values.into_iter().map(|x| x as f32).collect();
            trial.weights = Weights::load(path, graph)?.0.into_iter().map(single).collect();
        }
        if let Some(sequence) = given {
            sequence.give(&mut trial.windows[0]);
        }
        Ok(trial)
    }
}

fn against_differences(trial: &Trial<'_>, entries: usize) -> anyhow::Result<Differences> {
    let reference = |plan: Plan, config: ExecutionConfig| -> Result<Box<dyn Executor>, ExecutorError> {
        Ok(Box::new(ReferenceExecutor::new(plan, config)?))
    };
    let mut bar = None;
    let mut progress = |done, total| {
        bar.get_or_insert_with(|| Progress::new("derivatives", total)).set(done);
    };
    Ok(differences(trial, entries, &reference, &mut progress)?)
}

fn enough_frames(graph: &Graph) -> usize {
    let longest = graph.connections().iter().map(|c| c.delay.unsigned_abs()).max().unwrap_or(0);
    // At most MOST_FRAMES, which fits.
    longest.saturating_mul(2).saturating_add(10).clamp(12, MOST_FRAMES) as usize
}

fn report_differences(out: &mut impl Write, found: &Differences, entries: usize) -> std::io::Result<Outcome> {
    const WHAT: &str = "gradients against differences";
    if let Some(outside) = &found.outside {
        writeln!(out, "{WHAT}: not checked ({})", count(found.findings.len(), "array"))?;
        writeln!(
            out,
            "  {outside}: the data leaves the domain of a function. Draw it from where it stays inside, inputs and weights \
             by name, as in `--range x=0.1:2`, or give inputs and weights of your own (`--input`, `--weights`)"
        )?;
        return Ok(Outcome::Unfit);
    }
    let sampled = match (found.sampled, entries) {
        (false, _) => "; every entry".into(),
        (true, 0) => "; each along a random direction, with `--entries N` along entries too".into(),
        (true, n) => {
            format!("; each along a random direction and {n} of its entries, with `--entries N` more")
        }
    };
    let mut outcome = report(out, WHAT, &found.findings, &sampled)?;
    if let Some(place) = &found.non_finite {
        outcome = outcome.max(Outcome::Unfit);
        writeln!(
            out,
            "  {place}: gradients that go through there are not finite, and training would stop. Keep the network away from \
             there by an epsilon, as in `sqrt(x + 1e-6)` or `a / (b + 1e-6)`; or check with other data, drawn as in \
             `--range x=0.1:2` or your own (`--input`, `--weights`)"
        )?;
    }
    Ok(outcome)
}

fn report(out: &mut impl Write, what: &str, found: &[Finding], how: &str) -> std::io::Result<Outcome> {
    let (mut bad, mut unchecked) = (0, 0);
    for finding in found {
        if let Some(problem) = &finding.problem {
            bad += 1;
            writeln!(out, "  {}: {problem}", finding.array)?;
        } else if let Some(why) = &finding.unchecked {
            unchecked += 1;
            writeln!(out, "  {}: not checked in full: {why}", finding.array)?;
        }
    }
    let worst = found.iter().max_by(|a, b| a.error.total_cmp(&b.error));
    let worst = worst.map(|f| format!("; largest relative difference {:.1e}, {}", f.error, f.array));
    let mut verdict: String = if bad == 0 { "ok".into() } else { format!("FAILED in {bad}") };
    if unchecked == found.len() && bad == 0 && unchecked > 0 {
        verdict = "not checked in full".into();
    } else if unchecked > 0 {
        verdict.push_str(&format!(", {unchecked} not checked in full"));
    }
    writeln!(out, "{what}: {verdict} ({}{}{how})", count(found.len(), "array"), worst.unwrap_or_default())?;
    Ok(if bad == 0 { Outcome::Done } else { Outcome::Failed })
}
