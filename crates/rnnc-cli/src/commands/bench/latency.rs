//! How long a frame takes in a session, as a distribution.

use super::args::Bench;
use super::bound::{Bounds, put_bound};
use super::machine::Machine;
use super::measure::Data;
use super::spread::{Spread, round};
use crate::executors::ExecutorArgs;
use rnnc_cpu::{Session, SessionOptions};
use rnnc_graph::{Graph, WeightId};
use rnnc_plan::{Values, ValuesMut};
use rnnc_verify::Window;
use std::io::Write;
use std::time::{Duration, Instant};

/// Of all frames timed, in microseconds.
pub struct Latency {
    pub frames: usize,
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p999: f64,
    pub longest: f64,
}

/// Frames before the first that counts.
const WARM_UP: usize = 100;

/// Times that are kept, at most: longer runs keep the first ones.
const MOST: usize = 10_000_000;

impl Latency {
    fn of(mut times: Vec<f64>) -> Latency {
        times.sort_by(f64::total_cmp);
        let last = times.len().saturating_sub(1);
        let at = |share: f64| times.get((share * last as f64).round() as usize).copied().unwrap_or(f64::NAN);
        Latency {
            frames: times.len(),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            longest: at(1.0),
        }
    }

    /// A row of the table; before the first one, its head.
    pub fn print(
        &self,
        out: &mut impl Write,
        graph: &Graph,
        streams: usize,
        first: bool,
    ) -> std::io::Result<()> {
        if first {
            writeln!(out, "network {}, frame by frame in a session; microseconds a frame", graph.name())?;
            let columns = ["p50", "p90", "p99", "p99.9", "longest"].map(|name| format!("{name:>9}"));
            writeln!(out, "{:>7}  {:>9}  {}", "streams", "frames", columns.join("  "))?;
        }
        let times = [self.p50, self.p90, self.p99, self.p999, self.longest];
        let times = times.map(|us| format!("{us:>9.2}")).join("  ");
        writeln!(out, "{streams:>7}  {:>9}  {times}", self.frames)
    }
}

impl Bench {
    /// Steps a session through the window's frames, again and again, from inputs in to outputs out.
    pub(super) fn latency(&self, graph: &Graph, streams: usize, time: Duration) -> anyhow::Result<Latency> {
        let ExecutorArgs { threads, precision, .. } = self.executor;
        let precision = precision.unwrap_or_default().of_config();
        let options = SessionOptions { streams, threads, precision, ..SessionOptions::default() };
        let mut session = Session::with(graph, options)?;
        let data = Data::draw(graph, streams, self.frames, 1, self.seed)?;
        for (place, weight) in data.trial.weights.iter().enumerate() {
            session.write(WeightId::from_index(place), Values::F32(weight))?;
        }
        let sizes = graph.outputs().iter().map(|o| streams * graph.layer_at(o.layer).size);
        let mut outputs: Vec<Vec<f32>> = sizes.map(|size| vec![0.0; size]).collect();
        let frames: Vec<Vec<Values<'_>>> = data.trial.windows.iter().map(Window::inputs).collect();
        let mut step = |inputs: &[Values<'_>]| {
            let begun = Instant::now();
            session.step(inputs, None)?;
            for (place, output) in outputs.iter_mut().enumerate() {
                session.output(place, ValuesMut::F32(output))?;
            }
            Ok::<_, anyhow::Error>(begun.elapsed().as_secs_f64() * 1e6)
        };
        for inputs in frames.iter().cycle().take(WARM_UP) {
            step(inputs)?;
        }
        let (begun, mut times) = (Instant::now(), Vec::new());
        for inputs in frames.iter().cycle() {
            times.push(step(inputs)?);
            let enough = times.len() >= self.calls.saturating_mul(self.frames) && begun.elapsed() >= time;
            if enough || times.len() >= MOST {
                break;
            }
        }
        Ok(Latency::of(times))
    }

    pub(super) fn latency_json(
        &self,
        graph: &Graph,
        streams: usize,
        latency: &Latency,
        machine: Option<&Machine>,
    ) -> anyhow::Result<serde_json::Value> {
        let mut line = serde_json::json!({
            "network": graph.name(),
            "streams": streams,
            "frames": latency.frames,
            "schedule": self.schedule.name(),
            "threads": self.executor.executor.workers(self.executor.threads),
            "executor": self.executor.executor.name(),
            "precision": self.executor.precision.unwrap_or_default().name(),
            "timed": "host",
            "latency_us": {
                "p50": round(latency.p50),
                "p90": round(latency.p90),
                "p99": round(latency.p99),
                "p999": round(latency.p999),
                "max": round(latency.longest),
            },
        });
        if let Some(Machine::Cpu(machine)) = machine {
            let bound = Bounds::of_frames(graph, streams, machine)?.forward;
            let median = Spread { median: latency.p50, low: latency.p50, high: latency.p50 };
            put_bound(&mut line, "", bound, &median, 1);
        }
        Ok(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_times_that_were_measured() {
        let found = Latency::of((0..=1000).rev().map(f64::from).collect());
        assert_eq!((found.frames, found.p50, found.p90, found.p99), (1001, 500.0, 900.0, 990.0));
        assert_eq!((found.p999, found.longest), (999.0, 1000.0));
    }
}
