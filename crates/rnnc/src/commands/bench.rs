//! `rnnc bench`: how long a network takes, forward and backward.

use crate::executors::{ExecutorArgs, ExecutorKind};
use crate::failure::{Outcome, bad_input};
use crate::network::NetworkArgs;
use crate::numbers::Numbers;
use crate::trial::Trial;
use clap::{Args, ValueEnum};
use rnnc_graph::{Graph, WeightId};
use rnnc_plan::{Executor, Part, Plan, PlanOptions, Setup, Values};
use std::io::Write;
use std::time::{Duration, Instant};

/// Calls before the first that counts.
const WARM_UP: usize = 3;

/// Calls that count, at least.
const CALLS: usize = 10;

/// The arguments.
#[derive(Args)]
#[command(after_help = "\
Times are microseconds per frame, all streams together: of the forward pass as in training, and of forward and backward \
passes with the gradients of all weights and vector inputs, without an update. Each is the median of repeated calls, \
between the quantiles at 10 and 90 percent.")]
pub struct Bench {
    #[command(flatten)]
    network: NetworkArgs,
    /// Numbers of streams to time, by commas
    #[arg(long, default_value = "1,4", value_delimiter = ',', value_name = "B,B")]
    streams: Vec<usize>,
    /// Frames of a window
    #[arg(long, default_value_t = 256, value_name = "T")]
    frames: usize,
    /// How long each measurement takes, in seconds
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// How to print: a table, or one JSON object a line
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    #[command(flatten)]
    executor: ExecutorArgs,
    /// What the random numbers begin with
    #[arg(long, default_value_t = 1, value_name = "S")]
    seed: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    #[default]
    Text,
    Json,
}

impl Bench {
    /// Times the network for each number of streams.
    pub fn run(&self) -> anyhow::Result<Outcome> {
        let graph = self.network.read()?;
        let time = Duration::try_from_secs_f64(self.seconds);
        let Ok(time) = time else { return bad_input("`--seconds` must be at least 0") };
        if self.frames == 0 || self.streams.contains(&0) {
            return bad_input("a measurement needs at least 1 stream and 1 frame");
        }
        let mut out = std::io::stdout().lock();
        for (row, &streams) in self.streams.iter().enumerate() {
            let measured = self.measure(&graph, streams, time)?;
            if self.format == Format::Text && row == 0 {
                let (name, frames) = (graph.name(), self.frames);
                writeln!(out, "network {name}, {frames} frames a window; microseconds per frame")?;
                writeln!(out, "{:>7}  {:>26}  {:>26}", "streams", "forward", "forward + backward")?;
            }
            match self.format {
                Format::Text => {
                    let text = |s: &Spread| format!("{:.2} ({:.2} .. {:.2})", s.median, s.low, s.high);
                    let Measured { forward, train, executor, threads } = &measured;
                    let threads = match (self.executor.executor, threads) {
                        (ExecutorKind::Cuda, _) => String::new(),
                        (_, 1) => ", 1 thread".into(),
                        (_, threads) => format!(", {threads} threads"),
                    };
                    writeln!(
                        out,
                        "{streams:>7}  {:>26}  {:>26}  {executor}{threads}",
                        text(forward),
                        text(train)
                    )?;
                }
                Format::Json => writeln!(out, "{}", self.json(&graph, streams, &measured))?,
            }
            out.flush()?;
        }
        Ok(Outcome::Done)
    }

    fn measure(&self, graph: &Graph, streams: usize, time: Duration) -> anyhow::Result<Measured> {
        let ExecutorArgs { executor: kind, threads } = self.executor;
        let frames = self.frames;
        let options = PlanOptions::training(streams, frames).with_input_gradients();
        let options = PlanOptions { workers: kind.workers(threads), ..options };
        let setup = Setup { threads, ..Setup::new(streams, frames) };
        // Before the data, for the executor refuses what memory does not hold.
        let mut executor = kind.make(Plan::new(graph, options)?, setup)?;
        let trial = Trial::draw(graph, streams, frames, 0, self.seed)?;
        for (place, weight) in trial.weights.iter().enumerate() {
            executor.write(Part::Weight, WeightId::from_index(place), Values::F64(weight))?;
        }
        let single = |v: &[f64]| v.iter().map(|&x| x as f32).collect::<Vec<f32>>();
        let inputs: Vec<Numbers> = trial
            .inputs
            .into_iter()
            .map(|input| match input {
                Numbers::Double(v) => Numbers::Single(single(&v)),
                other => other,
            })
            .collect();
        let errors: Vec<Vec<f32>> = trial.output_gradients.iter().map(|g| single(g)).collect();
        let inputs: Vec<Values<'_>> = inputs.iter().map(Numbers::all).collect();
        let errors: Vec<_> = errors.iter().map(|g| Some(Values::F32(g))).collect();

        let executor: &mut dyn Executor = &mut *executor;
        let forward = repeat(time, || {
            executor.forward(frames, &inputs, None)?;
            executor.finish()
        })?;
        let train = repeat(time, || {
            executor.forward(frames, &inputs, None)?;
            executor.backward(frames, &errors)?;
            executor.finish()
        })?;
        let per_frame = |times| Spread::of(times, frames);
        Ok(Measured {
            forward: per_frame(forward),
            train: per_frame(train),
            executor: executor.name(),
            threads: kind.workers(threads),
        })
    }

    fn json(&self, graph: &Graph, streams: usize, measured: &Measured) -> serde_json::Value {
        let Measured { forward, train, executor, threads } = measured;
        let round = |x: f64| (x * 1e3).round() / 1e3;
        serde_json::json!({
            "network": graph.name(),
            "streams": streams,
            "frames": self.frames,
            "threads": threads,
            "executor": executor,
            "forward_us_per_step": round(forward.median),
            "forward_us_per_step_low": round(forward.low),
            "forward_us_per_step_high": round(forward.high),
            "train_us_per_step": round(train.median),
            "train_us_per_step_low": round(train.low),
            "train_us_per_step_high": round(train.high),
        })
    }
}

struct Measured {
    forward: Spread,
    train: Spread,
    executor: &'static str,
    threads: usize,
}

/// Microseconds: the median, and the quantiles at 10 and 90 percent.
struct Spread {
    median: f64,
    low: f64,
    high: f64,
}

impl Spread {
    fn of(mut times: Vec<Duration>, frames: usize) -> Spread {
        times.sort();
        let quantile = |share: f64| {
            let place = (share * (times.len() - 1) as f64) as usize;
            times[place].as_secs_f64() * 1e6 / frames as f64
        };
        Spread { median: quantile(0.5), low: quantile(0.1), high: quantile(0.9) }
    }
}

/// Calls again and again, for so long.
fn repeat<E>(time: Duration, mut call: impl FnMut() -> Result<(), E>) -> Result<Vec<Duration>, E> {
    for _ in 0..WARM_UP {
        call()?;
    }
    let (begun, mut times) = (Instant::now(), Vec::new());
    while times.len() < CALLS || begun.elapsed() < time {
        let start = Instant::now();
        call()?;
        times.push(start.elapsed());
    }
    Ok(times)
}
