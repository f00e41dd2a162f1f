//! `rnnc bench`: how long a network takes, forward and backward.

mod measure;

use crate::executors::{ExecutorArgs, ExecutorKind};
use crate::failure::{Outcome, bad_input};
use crate::network::NetworkArgs;
use clap::{Args, ValueEnum};
use measure::{Measured, Spread};
use rnnc_cuda::Timed;
use rnnc_graph::Graph;
use std::io::Write;
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

With --schedule frame, the same network runs in windows of a single frame, one call a frame: nothing runs for all \
frames at once. Only the forward pass is timed then, since errors do not go back from window to window. On a GPU, all \
frames' passes stand in its queue one behind the other, and all have the same input.

With --kernels, each command of a pass runs alone, between two timestamps, which take time themselves: the sum is \
more than the pass takes.")]
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
    /// all frames of the window
    #[default]
    Window,
    /// one frame
    Frame,
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
        for (option, given) in [("--kernels", self.kernels), ("--prepare", self.prepare)] {
            if given && self.executor.executor != ExecutorKind::Cuda {
                return bad_input(format!(
                    "`{option}` goes with `--executor cuda`: other executors have no kernels"
                ));
            }
        }
        if self.schedule == Schedule::Frame && graph.looks_ahead() {
            return bad_input(
                "a network that looks ahead does not run frame by frame: leave out `--schedule`",
            );
        }
        if self.prepare {
            self.streams.iter().try_for_each(|&streams| self.prepare(&graph, streams))?;
            return Ok(Outcome::Done);
        }
        let mut out = std::io::stdout().lock();
        for (row, &streams) in self.streams.iter().enumerate() {
            let measured = self.measure(&graph, streams, time)?;
            match self.format {
                Format::Text => self.print(&mut out, &graph, streams, &measured, row == 0)?,
                Format::Json => writeln!(out, "{}", self.json(&graph, streams, &measured))?,
            }
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
                Schedule::Window => format!("{} frames a window", self.frames),
                Schedule::Frame => format!("{} frames, one by one", self.frames),
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
        let (forward, train) = (text(&times.forward), text(&times.train));
        writeln!(out, "{streams:>7}  {forward:>26}  {train:>26}  {executor}")?;
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
            "schedule": match self.schedule { Schedule::Window => "window", Schedule::Frame => "frame" },
            "threads": measured.threads,
            "executor": measured.executor,
            "timed": if measured.device.is_some() { "device" } else { "host" },
        });
        let round = |x: f64| (x * 1e3).round() / 1e3;
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
        if let Some(device) = &measured.device_name {
            line["device"] = device.as_str().into();
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
