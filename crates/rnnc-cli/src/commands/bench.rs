//! `rnnc bench`: how long a network takes, forward and backward.

mod args;
mod bound;
mod latency;
mod machine;
mod measure;
mod memory;
mod spread;

use crate::executors::ExecutorKind;
use crate::failure::{Outcome, bad_input};
pub use args::Bench;
use args::{Format, Schedule};
use bound::{fraction, put_bound};
use measure::Measured;
use rnnc_cuda::Timed;
use rnnc_graph::{Graph, count};
use spread::{Spread, round};
use std::io::Write;
use std::time::Duration;

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
