//! `rnnc bench`: how long a network takes, forward and backward.

mod bound;
mod latency;
mod machine;
mod measure;
mod memory;

use crate::executors::{ExecutorArgs, ExecutorKind};
use crate::failure::{Outcome, bad_input};
use crate::network::NetworkArgs;
use bound::{fraction, put_bound};
use clap::{Args, ValueEnum};
use measure::{Measured, Spread};
use rnnc_cuda::Timed;
use rnnc_graph::{Graph, count};
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

/// The arguments.
#[derive(Args)]
#[command(after_help = "\
Times are microseconds per frame, all streams together: of the forward pass as in training, and of forward and backward \
passes with the gradients of all weights and vector inputs, without an update. Each is the median of repeated calls, \
between the quantiles at 10 and 90 percent.

On a GPU, they are the passes' times on the device, by its own clock, with inputs and the outputs' gradients there. What \
calls take on the host, copies of these arrays from its memory included, stands beside them. In JSON, `timed` says \
`device` or `host`, and `host_forward_us_per_step` and so on are there as well.

Times stand beside a bound: the least that the plan's work could take on this machine, whose speeds are measured at the \
start. A bound takes the plan as it is: a better plan may have a lower one. In JSON, `flops`, `bytes` and \
`bound_us_per_step` are those of a frame of all streams, forward and backward, and `fraction_of_bound` is the bound \
divided by the median; with `forward_` before the names, of the forward pass. `machine` has what was measured.

On a CPU, half a second measures as many threads: the arithmetic of a large product and of one of few rows with packed \
weights, and the bandwidths of caches and memory. The bound adds up, stage by stage, products at the first of these \
speeds, those inside loops at the second, or, where that takes longer, the reading of their weights in every step from \
the cache that holds them; and every value that other operations touch, once a stage, at the speed of copying \
as much, or, where stages take turns, as much as is there at a time. It \
leaves out the arithmetic of activations, waiting between threads, the packing of weights and the copying of inputs and \
outputs; and it has weights in single precision whatever --precision says. In JSON, `memory_planned` and \
`memory_measured` are the bytes that the plan foresees and those that the executor took.

On a GPU, a large product in the precision that is asked for, one in TF32, and copies within its memory are measured. A job (a \
loop, the scans of a stage, an operation over all frames) takes what takes longest of three: its products, at the first of \
these speeds, on tensor cores in loops at the second, or a third of it in f32 and twice in bf16; the moving of its weights and \
of every value that it touches, once, at the speed of copying as much; and, in a loop, the barriers of its blocks (of the \
threads of a single one) in every step but the first: each an empty frame of such a loop, but no more than 0.4 microseconds \
where blocks look for what others post. What barriers take is not measured then, but known of some devices, and of others \
taken to be an H200's. The bound of a pass is the longest row of jobs that follow each other, or the products, or the moving, \
of all jobs together, if that takes longer: jobs side by side, in chunks of frames among them, do not add up. It leaves out \
starting kernels, all arithmetic but products, what loops exchange, and zeros. In JSON, `bytes` are what is moved so.

With --inference, nothing is saved for a backward pass, and only the forward pass is timed.

With --schedule frame, the same network runs in windows of a single frame, one call a frame: nothing runs for all \
frames at once. Only the forward pass is timed then, since errors do not go back from window to window. On a GPU, all \
frames' passes stand in its queue one behind the other, and all have the same input.

With --schedule session, a session without gradients steps through the frames, and each step is timed by itself, from \
inputs in to outputs out: the times are a distribution, in JSON `latency_us`.

With --kernels, each command of a pass runs alone, between two timestamps, which take time themselves: the sum is \
more than the pass takes.

Examples:
  rnnc bench net.rnn --streams 1,16 --frames 128
  rnnc bench net.rnn --schedule session --streams 1 --format json")]
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
    #[arg(long, default_value_t = 2.0, value_name = "S")]
    seconds: f64,
    /// Calls of each measurement, at least; of a session, times that it goes through the window's frames
    #[arg(long, default_value_t = 10, value_name = "N")]
    calls: usize,
    /// Time the forward pass alone
    #[arg(long)]
    forward: bool,
    /// Plan the forward pass only, as `run` does, and time that
    #[arg(long)]
    inference: bool,
    /// Do not measure the machine, and say nothing of the bound
    #[arg(long)]
    no_bound: bool,
    /// Take the machine's speeds from a file, the `machine` of a line of JSON, instead of measuring them
    #[arg(long, value_name = "FILE", conflicts_with = "no_bound")]
    machine: Option<PathBuf>,
    /// What a call runs
    #[arg(long, value_enum, default_value_t)]
    schedule: Schedule,
    /// With `--executor cuda`: time each command of the passes too
    #[arg(long)]
    kernels: bool,
    /// With `--executor cuda`: only compile the kernels, for the cache, and time nothing
    #[arg(long)]
    prepare: bool,
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

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Schedule {
    /// all frames of the window, as planned
    #[default]
    #[value(alias = "plan")]
    Window,
    /// one frame
    Frame,
    /// one frame of a session, each timed by itself
    Session,
}

impl Schedule {
    fn name(self) -> &'static str {
        match self {
            Schedule::Window => "window",
            Schedule::Frame => "frame",
            Schedule::Session => "session",
        }
    }
}

impl Bench {
    /// Times the network for each number of streams.
    pub fn run(&self) -> anyhow::Result<Outcome> {
        let graph = self.network.read()?;
        let time = Duration::try_from_secs_f64(self.seconds);
        let Ok(time) = time else { return bad_input("`--seconds` must be at least 0, and finite") };
        if self.frames == 0 || self.streams.contains(&0) {
            return bad_input("a measurement needs at least 1 stream and 1 frame");
        }
        for (option, given) in [("--kernels", self.kernels), ("--prepare", self.prepare)] {
            if given && self.executor.executor != ExecutorKind::Cuda {
                return bad_input(format!(
                    "`{option}` goes with `--executor cuda`: other executors have no kernels"
                ));
            }
        }
        if self.calls == 0 {
            return bad_input("a measurement needs at least 1 call");
        }
        if self.schedule == Schedule::Session && self.executor.executor != ExecutorKind::Cpu {
            return bad_input("`--schedule session` goes with `--executor cpu`: others have no sessions");
        }
        if self.schedule != Schedule::Window && graph.looks_ahead() {
            return bad_input(
                "a network that looks ahead does not run frame by frame: leave out `--schedule`",
            );
        }
        if self.prepare {
            self.streams.iter().try_for_each(|&streams| self.prepare(&graph, streams))?;
            return Ok(Outcome::Done);
        }
        let machine = self.machine()?;
        let mut out = std::io::stdout().lock();
        if let (Format::Text, Some(machine)) = (self.format, &machine) {
            writeln!(out, "{}", machine.text())?;
        }
        for (row, &streams) in self.streams.iter().enumerate() {
            let mut line = if self.schedule == Schedule::Session {
                let latency = self.latency(&graph, streams, time)?;
                match self.format {
                    Format::Text => {
                        latency.print(&mut out, &graph, streams, row == 0)?;
                        continue;
                    }
                    Format::Json => self.latency_json(&graph, streams, &latency, machine.as_ref())?,
                }
            } else {
                let measured = self.measure(&graph, streams, time, machine.as_ref())?;
                match self.format {
                    Format::Text => {
                        self.print(&mut out, &graph, streams, &measured, row == 0)?;
                        continue;
                    }
                    Format::Json => self.json(&graph, streams, &measured),
                }
            };
            if let Some(machine) = &machine {
                line["machine"] = machine.json();
            }
            writeln!(out, "{line}")?;
            out.flush()?;
        }
        Ok(Outcome::Done)
    }

    fn print(
        &self,
        out: &mut impl Write,
        graph: &Graph,
        streams: usize,
        measured: &Measured,
        first: bool,
    ) -> std::io::Result<()> {
        if first {
            let frames = match self.schedule {
                Schedule::Window => format!("{} a window", count(self.frames, "frame")),
                Schedule::Frame | Schedule::Session => format!("{}, one by one", count(self.frames, "frame")),
            };
            let clock = if measured.device.is_some() { " on the device" } else { "" };
            writeln!(out, "network {}, {frames}; microseconds per frame{clock}", graph.name())?;
            writeln!(out, "{:>7}  {:>26}  {:>26}", "streams", "forward", "forward + backward")?;
        }
        let text = |s: &Option<Spread>| match s {
            Some(s) => format!("{:.2} ({:.2} .. {:.2})", s.median, s.low, s.high),
            None => "-".into(),
        };
        let times = measured.device.as_ref().unwrap_or(&measured.host);
        let executor = match (&measured.device, measured.threads) {
            (Some(_), _) => {
                let host = &measured.host;
                let medians: Vec<String> = [&host.forward, &host.train]
                    .into_iter()
                    .flatten()
                    .map(|s| format!("{:.2}", s.median))
                    .collect();
                format!("{}; from and to the host's memory {}", measured.executor, medians.join(" and "))
            }
            (None, 1) => format!("{}, 1 thread", measured.executor),
            (None, threads) => format!("{}, {threads} threads", measured.executor),
        };
        let bounds = measured.bounds.iter();
        let fractions: Vec<String> = bounds
            .flat_map(|bounds| [(bounds.forward, &times.forward), (bounds.train, &times.train)])
            .filter_map(|(bound, spread)| fraction(bound, spread.as_ref()?, measured.frames_per_call))
            .map(|fraction| format!("{fraction:.2}"))
            .collect();
        let of_bound = match fractions.is_empty() {
            true => String::new(),
            false => format!("; {} of the bound", fractions.join(" and ")),
        };
        let (forward, train) = (text(&times.forward), text(&times.train));
        writeln!(out, "{streams:>7}  {forward:>26}  {train:>26}  {executor}{of_bound}")?;
        for (name, commands) in [("forward", &measured.forward), ("backward", &measured.backward)] {
            if !commands.is_empty() {
                print_commands(out, name, commands, measured.frames_per_call)?;
            }
        }
        Ok(())
    }

    fn json(&self, graph: &Graph, streams: usize, measured: &Measured) -> serde_json::Value {
        let mut line = serde_json::json!({
            "network": graph.name(),
            "streams": streams,
            "frames": self.frames,
            "schedule": self.schedule.name(),
            "inference": self.inference,
            "threads": measured.threads,
            "executor": measured.executor,
            "timed": if measured.device.is_some() { "device" } else { "host" },
        });
        let mut put = |prefix: &str, name: &str, spread: &Option<Spread>| {
            if let Some(Spread { median, low, high }) = *spread {
                for (suffix, value) in [("", median), ("_low", low), ("_high", high)] {
                    line[format!("{prefix}{name}_us_per_step{suffix}")] = round(value).into();
                }
            }
        };
        let times = measured.device.as_ref().unwrap_or(&measured.host);
        put("", "forward", &times.forward);
        put("", "train", &times.train);
        if measured.device.is_some() {
            put("host_", "forward", &measured.host.forward);
            put("host_", "train", &measured.host.train);
        }
        let frames = measured.frames_per_call;
        if let Some(bounds) = &measured.bounds {
            if let Some(spread) = &times.forward {
                put_bound(&mut line, "forward_", bounds.forward, spread, frames);
                put_bound(&mut line, "", bounds.forward, spread, frames);
            }
            if let Some(spread) = &times.train {
                put_bound(&mut line, "", bounds.train, spread, frames);
            }
        }
        if let Some((planned, found)) = measured.memory {
            line["memory_planned"] = planned.into();
            line["memory_measured"] = found.into();
        }
        if let Some(device) = &measured.device_name {
            line["device"] = device.as_str().into();
        }
        if self.executor.executor != ExecutorKind::Reference {
            line["precision"] = self.executor.precision.unwrap_or_default().name().into();
        }
        if self.kernels {
            let list = |commands: &[Timed]| -> serde_json::Value {
                commands.iter().map(|c| serde_json::json!({ "what": c.what, "us": round(c.us) })).collect()
            };
            line["kernels"] = serde_json::json!({
                "frames": measured.frames_per_call,
                "forward": list(&measured.forward),
                "backward": list(&measured.backward),
            });
        }
        line
    }
}

/// What is more than this is noise.
fn round(x: f64) -> f64 {
    (x * 1e3).round() / 1e3
}

/// A table of the commands of a pass.
fn print_commands(
    out: &mut impl Write,
    name: &str,
    commands: &[Timed],
    frames: usize,
) -> std::io::Result<()> {
    let total: f64 = commands.iter().map(|c| c.us).sum();
    writeln!(out, "\n  {name:<60}  {:>10}  {:>10}  {:>6}", "us", "us a frame", "share")?;
    let mut row = |what: &str, us: f64| {
        let (each, share) = (us / frames as f64, 100.0 * us / total.max(f64::MIN_POSITIVE));
        writeln!(out, "  {what:<60}  {us:>10.1}  {each:>10.3}  {share:>5.1}%")
    };
    commands.iter().try_for_each(|c| row(&c.what, c.us))?;
    row("all", total)
}
