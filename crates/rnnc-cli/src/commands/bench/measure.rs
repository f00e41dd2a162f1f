//! Measuring: a network with random data, called again and again.

use super::args::{Bench, Schedule};
use super::bound::Bounds;
use super::machine::Machine;
use super::memory;
use super::spread::Spread;
use crate::executors::{ExecutorArgs, ExecutorKind, make};
use rnnc_cuda::{CudaExecutor, Speeds, Timed, Times, Timing};
use rnnc_graph::Graph;
use rnnc_plan::{ExecutionConfig, Executor, ExecutorError, Plan, PlanOptions};
use rnnc_verify::{Trial, write_weights};
use std::time::{Duration, Instant};

/// Calls before the first that counts, at most.
const WARM_UP: usize = 3;

/// How often a measurement calls, and what.
#[derive(Clone, Copy)]
pub struct Effort {
    /// Time of the calls that count, at least.
    pub time: Duration,
    /// How many there are, at least.
    pub calls: usize,
    /// Whether only the forward pass is timed.
    pub forward: bool,
}

/// What was found.
pub struct Measured {
    /// On the host: of whole calls.
    pub host: PassTimes,
    /// On the device, if there is one: of the passes alone.
    pub device: Option<PassTimes>,
    /// What the device is called.
    pub device_name: Option<String>,
    /// Each command of a call, if that was asked for.
    pub forward: Vec<Timed>,
    /// The same of the backward pass.
    pub backward: Vec<Timed>,
    /// Frames of a call.
    pub frames_per_call: usize,
    pub executor: &'static str,
    pub threads: usize,
    /// The least that a call could take.
    pub bounds: Option<Bounds>,
    /// Bytes of the executor, planned and found.
    pub memory: Option<(u64, u64)>,
}

/// Per frame. A pass that is not timed has none.
#[derive(Default)]
pub struct PassTimes {
    pub forward: Option<Spread>,
    pub train: Option<Spread>,
}

/// What executors are handed: random data, in calls of some frames.
pub struct Data<'a> {
    pub trial: Trial<'a>,
    frames: usize,
}

impl<'a> Data<'a> {
    /// Draws so many frames, in calls of `step`.
    pub fn draw(
        graph: &'a Graph,
        streams: usize,
        frames: usize,
        step: usize,
        seed: u64,
    ) -> Result<Data<'a>, ExecutorError> {
        let config = ExecutionConfig { seed, ..ExecutionConfig::new(streams, step) };
        let trial = Trial::draw(graph, config, &vec![step; frames / step], 0.0, rnnc_verify::Spread::PLAIN)?;
        Ok(Data { trial, frames })
    }

    /// Runs all frames forward, call after call.
    fn forward(&self, executor: &mut dyn Executor) -> Result<(), ExecutorError> {
        self.trial.windows.iter().try_for_each(|window| window.forward(executor))
    }

    /// Runs the first call's frames forward.
    fn forward_once(&self, executor: &mut dyn Executor) -> Result<(), ExecutorError> {
        self.trial.windows[0].forward(executor)
    }

    /// Runs all frames, which are one call's, forward and back.
    fn train(&self, executor: &mut dyn Executor) -> Result<(), ExecutorError> {
        self.forward(executor)?;
        self.trial.windows[0].backward(executor, self.frames)
    }
}

impl Bench {
    /// The plan, how it is set up, and the frames of a call.
    fn plan(&self, graph: &Graph, streams: usize) -> anyhow::Result<(Plan, ExecutionConfig, usize)> {
        let threads = self.executor.threads;
        let step = match self.schedule {
            Schedule::Window => self.frames,
            Schedule::Frame | Schedule::Session => 1,
        };
        let options = match self.inference {
            true => PlanOptions::inference(streams, step),
            false => PlanOptions::training(streams, step).with_input_gradients(),
        };
        Ok((
            Plan::new(graph, options)?,
            ExecutionConfig { threads, ..ExecutionConfig::new(streams, step) },
            step,
        ))
    }

    /// Compiles kernels, for the cache.
    pub(super) fn prepare(&self, graph: &Graph, streams: usize) -> anyhow::Result<()> {
        let (plan, config, _) = self.plan(graph, streams)?;
        self.executor.cuda(plan, config)?;
        Ok(())
    }

    pub(super) fn measure(
        &self,
        graph: &Graph,
        streams: usize,
        time: Duration,
        machine: Option<&Machine>,
    ) -> anyhow::Result<Measured> {
        let effort = Effort { time, calls: self.calls, forward: self.forward || self.inference };
        let ExecutorArgs { executor: kind, threads, precision } = self.executor;
        let (plan, config, step) = self.plan(graph, streams)?;
        // Before the data, for the executor refuses what memory does not hold.
        if kind == ExecutorKind::Cuda {
            let executor = self.executor.cuda(plan, config)?;
            let speeds = match machine {
                Some(Machine::Gpu(speeds)) => Some(speeds),
                _ => None,
            };
            speeds.map_or(Ok(()), |speeds| self.check_device(speeds, &executor.device().name))?;
            let data = Data::draw(graph, streams, self.frames, step, self.seed)?;
            return Ok(on_a_device(executor, &data, step, effort, self.kernels, speeds)?);
        }
        let before = memory::resident();
        // The reference has no bound, and keeps its values in other ways than the plan's.
        let (mut executor, bounds, planned): (Box<dyn Executor>, _, _) = match kind {
            ExecutorKind::Cpu => {
                let executor = self.executor.cpu(plan, config)?;
                let bounds = match machine {
                    Some(Machine::Cpu(machine)) => {
                        Some(Bounds::on_cpu(executor.plan(), executor.schedule(), machine))
                    }
                    _ => None,
                };
                let planned = executor.memory().total();
                (Box::new(executor), bounds, Some(planned))
            }
            _ => (make(kind, plan, config, precision)?, None, None),
        };
        let made = memory::resident();
        let data = Data::draw(graph, streams, self.frames, step, self.seed)?;
        write_weights(&mut *executor, &data.trial.weights)?;
        let ready = memory::resident().filter(|_| memory::forget_peak().is_some());
        let host = on_the_host(&mut *executor, &data, step, effort)?;
        // What calls took beside what making it took: not all memory is there before it is first written.
        let taken = match (before, made, ready, memory::peak()) {
            (Some(before), Some(made), Some(ready), Some(peak)) => {
                Some(made.saturating_sub(before) + peak.saturating_sub(ready))
            }
            _ => None,
        };
        Ok(Measured {
            host,
            device: None,
            device_name: None,
            forward: Vec::new(),
            backward: Vec::new(),
            frames_per_call: step,
            executor: executor.name(),
            threads: kind.workers(threads),
            bounds,
            memory: planned
                .zip(taken)
                .map(|(planned, taken)| (u64::try_from(planned).unwrap_or(u64::MAX), taken)),
        })
    }
}

/// Of whole calls, and of the passes on the device.
fn on_a_device(
    mut executor: CudaExecutor,
    data: &Data<'_>,
    step: usize,
    effort: Effort,
    kernels: bool,
    speeds: Option<&Speeds>,
) -> Result<Measured, ExecutorError> {
    write_weights(&mut executor, &data.trial.weights)?;
    // Recordings are made anew where timing changes, so calls of each kind warm up.
    let host = on_the_host(&mut executor, data, step, effort)?;
    let device = if step < data.frames {
        let forward = repeat(effort, || {
            data.forward_once(&mut executor)?;
            executor.repeat_forward(data.frames / step)
        })?;
        PassTimes { forward: Spread::of(forward, data.frames), train: None }
    } else {
        executor.set_timing(Timing::Passes);
        let forward = repeat(effort, || {
            data.forward(&mut executor)?;
            Ok::<_, ExecutorError>(Times::total_us(&executor.times()?.forward))
        })?;
        let train = match effort.forward {
            true => Vec::new(),
            false => repeat(effort, || {
                data.train(&mut executor)?;
                let times = executor.times()?;
                Ok::<_, ExecutorError>(Times::total_us(&times.forward) + Times::total_us(&times.backward))
            })?,
        };
        PassTimes { forward: Spread::of(forward, data.frames), train: Spread::of(train, data.frames) }
    };
    let (mut forward, mut backward) = (Vec::new(), Vec::new());
    if kernels {
        executor.set_timing(Timing::Commands);
        let mut all = Vec::new();
        repeat(Effort { time: Duration::ZERO, ..effort }, || {
            if step < data.frames || effort.forward {
                data.forward_once(&mut executor)?;
            } else {
                data.train(&mut executor)?;
            }
            all.push(executor.times()?);
            Ok::<_, ExecutorError>(0.0)
        })?;
        all.drain(..effort.warm_up().min(all.len()));
        forward = medians(all.iter().map(|times| &times.forward));
        backward = medians(all.iter().map(|times| &times.backward));
    }
    Ok(Measured {
        host,
        device: Some(device),
        device_name: Some(executor.device().name.clone()),
        forward,
        backward,
        frames_per_call: step,
        executor: executor.name(),
        threads: 1,
        bounds: speeds.map(|speeds| Bounds::on_gpu(&executor, speeds)),
        memory: None,
    })
}

/// Of whole calls, until their results are there.
fn on_the_host(
    executor: &mut dyn Executor,
    data: &Data<'_>,
    step: usize,
    effort: Effort,
) -> Result<PassTimes, ExecutorError> {
    let clocked = |executor: &mut dyn Executor,
                   call: &dyn Fn(&mut dyn Executor) -> Result<(), ExecutorError>| {
        let start = Instant::now();
        call(executor)?;
        executor.finish()?;
        Ok::<_, ExecutorError>(start.elapsed().as_secs_f64() * 1e6)
    };
    let forward = repeat(effort, || clocked(executor, &|e| data.forward(e)))?;
    let train = match step == data.frames && !effort.forward {
        true => repeat(effort, || clocked(executor, &|e| data.train(e)))?,
        false => Vec::new(),
    };
    Ok(PassTimes { forward: Spread::of(forward, data.frames), train: Spread::of(train, data.frames) })
}

/// Of lists of the same commands, the median of each one's times.
fn medians<'a>(mut lists: impl Iterator<Item = &'a Vec<Timed>>) -> Vec<Timed> {
    let Some(first) = lists.next() else { return Vec::new() };
    let mut times: Vec<Vec<f64>> = first.iter().map(|command| vec![command.us]).collect();
    for list in lists {
        times.iter_mut().zip(list).for_each(|(times, command)| times.push(command.us));
    }
    let median = |mut times: Vec<f64>| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    };
    first.iter().zip(times).map(|(c, times)| Timed { what: c.what.clone(), us: median(times) }).collect()
}

impl Effort {
    /// Calls that do not count: fewer than those that do, for where a call takes seconds one may do.
    fn warm_up(self) -> usize {
        WARM_UP.min(self.calls - 1)
    }
}

/// Calls again and again; what each call took.
fn repeat<E>(effort: Effort, mut call: impl FnMut() -> Result<f64, E>) -> Result<Vec<f64>, E> {
    for _ in 0..effort.warm_up() {
        call()?;
    }
    let (begun, mut times) = (Instant::now(), Vec::new());
    while times.len() < effort.calls || begun.elapsed() < effort.time {
        times.push(call()?);
    }
    Ok(times)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rnnc_cuda::device::Device;
    use rnnc_cuda::driver::Recorder;
    use rnnc_plan::Precision;

    const TEXT: &str = "network n { input x : symbol(4)  h = lstm(x; 8)  output h }";

    fn measured(step: usize) -> Measured {
        let graph = rnnc_lang::compile("n.rnn", TEXT, None).unwrap();
        let plan = Plan::new(&graph, PlanOptions::training(2, step)).unwrap();
        let (recorder, _) = Recorder::new(Device::named("h200").unwrap());
        let executor =
            CudaExecutor::with_driver(plan, ExecutionConfig::new(2, step), Box::new(recorder)).unwrap();
        let small = Device { memory_bytes: 1 << 20, ..Device::named("h200").unwrap() };
        let speeds = Speeds::with_driver(&mut Recorder::new(small).0, Precision::F32, None).unwrap();
        let data = Data::draw(&graph, 2, 6, step, 1).unwrap();
        let effort = Effort { time: Duration::ZERO, calls: 10, forward: false };
        on_a_device(executor, &data, step, effort, true, Some(&speeds)).unwrap()
    }

    #[test]
    fn on_a_device_both_the_passes_and_the_calls_are_timed() {
        let found = measured(6);
        for times in [&found.host, found.device.as_ref().unwrap()] {
            let [forward, train] = [&times.forward, &times.train].map(|s| s.as_ref().unwrap());
            assert!(forward.low >= 0.0 && forward.low <= forward.median && train.median <= train.high);
        }
        let has = |commands: &[Timed], what: &str| commands.iter().any(|c| c.what.contains(what));
        assert!(has(&found.forward, "stage 1") && has(&found.backward, "stage "));
        assert_eq!(found.frames_per_call, 6);
    }

    #[test]
    fn on_a_device_times_stand_beside_a_bound() {
        let window = measured(6).bounds.unwrap();
        for bound in [window.forward, window.train] {
            for count in [bound.flops, bound.bytes, bound.us] {
                assert!(count.is_finite() && count > 0.0, "{bound:?}");
            }
        }
        assert!(window.train.flops > window.forward.flops && window.train.us > window.forward.us);
        let frame = measured(1).bounds.unwrap();
        assert_eq!(frame.forward.flops, window.forward.flops / 6.0);
    }

    #[derive(clap::Parser)]
    struct Command {
        #[command(flatten)]
        bench: Bench,
    }

    #[test]
    fn a_bound_of_a_device_is_printed_as_that_of_a_cpu() {
        let Command { bench } = clap::Parser::parse_from(["bench", "n.rnn", "--executor", "cuda"]);
        let (graph, mut found) = (rnnc_lang::compile("n.rnn", TEXT, None).unwrap(), measured(6));
        let line = bench.json(&graph, 2, &found);
        for (prefix, time) in [("forward_", "forward_us_per_step"), ("", "train_us_per_step")] {
            let number = |key: &str| line[key].as_f64().unwrap();
            let of = |name: &str| number(&format!("{prefix}{name}"));
            assert!(of("flops") > 0.0 && of("bytes") > 0.0, "{line}");
            let fraction = of("bound_us_per_step") / number(time);
            assert!((of("fraction_of_bound") / fraction - 1.0).abs() < 0.1, "{line}");
        }
        let printed = |found: &Measured| {
            let mut text = Vec::new();
            bench.print(&mut text, &graph, 2, found, true).unwrap();
            String::from_utf8(text).unwrap()
        };
        assert!(printed(&found).contains(" of the bound"));
        found.bounds = None;
        assert!(bench.json(&graph, 2, &found)["fraction_of_bound"].is_null());
        assert!(!printed(&found).contains("bound"));
    }

    #[test]
    fn frame_by_frame_only_the_forward_pass_is_timed() {
        let found = measured(1);
        for times in [&found.host, found.device.as_ref().unwrap()] {
            assert!(times.forward.is_some() && times.train.is_none());
        }
        assert!(!found.forward.is_empty() && found.backward.is_empty());
    }
}
