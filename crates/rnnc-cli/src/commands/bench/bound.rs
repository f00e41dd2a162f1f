//! The least time that a plan's work could take on this machine.

use super::spread::{Spread, round};
use rnnc_cpu::{Machine, Schedule, ScheduleOptions};
use rnnc_cuda::{CudaExecutor, Least, Speeds};
use rnnc_graph::Graph;
use rnnc_plan::{ExecutionConfig, Executor, Plan, PlanError, PlanOptions, StageWork};
use std::ops::Add;

/// What a call of some frames cannot do without. All counts are of a call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bound {
    pub flops: f64,
    pub bytes: f64,
    pub us: f64,
}

/// The bounds of what is timed.
pub struct Bounds {
    pub forward: Bound,
    /// Forward and backward.
    pub train: Bound,
}

impl Bounds {
    fn new([forward, backward]: [Bound; 2]) -> Bounds {
        Bounds { forward, train: forward + backward }
    }

    /// Of what an executor runs on a CPU.
    pub fn on_cpu(plan: &Plan, schedule: &Schedule, machine: &Machine) -> Bounds {
        let of = |(work, least): (Vec<StageWork>, rnnc_cpu::Least)| Bound {
            flops: flops(&work),
            bytes: least.bytes,
            us: least.us,
        };
        let [forward, backward] = rnnc_cpu::least(plan, schedule, machine);
        Bounds::new([(plan.forward_work(), forward), (plan.backward_work(), backward)].map(of))
    }

    /// Of a plan without gradients, for frame after frame.
    pub fn of_frames(graph: &Graph, streams: usize, machine: &Machine) -> Result<Bounds, PlanError> {
        let plan = Plan::new(graph, PlanOptions::inference(streams, 1))?;
        let options = ScheduleOptions::new(1, ExecutionConfig::new(streams, 1));
        Ok(Bounds::on_cpu(&plan, &Schedule::new(&plan, options), machine))
    }

    /// Of what an executor runs on a GPU.
    pub fn on_gpu(executor: &CudaExecutor, speeds: &Speeds) -> Bounds {
        let plan = executor.plan();
        let [forward, backward] = executor.least(speeds);
        let of = |work: Vec<StageWork>, least: Least| Bound {
            flops: flops(&work),
            bytes: least.bytes,
            us: least.us,
        };
        Bounds::new([of(plan.forward_work(), forward), of(plan.backward_work(), backward)])
    }
}

impl Add for Bound {
    type Output = Bound;

    /// Of one after the other.
    fn add(self, next: Bound) -> Bound {
        Bound { flops: self.flops + next.flops, bytes: self.bytes + next.bytes, us: self.us + next.us }
    }
}

fn flops(stages: &[StageWork]) -> f64 {
    stages.iter().map(|stage| stage.flops() as f64).sum()
}

/// A bound as a fraction of a time.
pub fn fraction(bound: Bound, spread: &Spread, frames_per_call: usize) -> Option<f64> {
    (spread.median > 0.0).then(|| bound.us / frames_per_call as f64 / spread.median)
}

/// Puts a bound's fields into a line of JSON, with counts and times of a frame.
pub fn put_bound(
    line: &mut serde_json::Value,
    prefix: &str,
    bound: Bound,
    spread: &Spread,
    frames_per_call: usize,
) {
    let each = |x: f64| round(x / frames_per_call as f64);
    line[format!("{prefix}flops")] = each(bound.flops).into();
    line[format!("{prefix}bytes")] = each(bound.bytes).into();
    line[format!("{prefix}bound_us_per_step")] = each(bound.us).into();
    line[format!("{prefix}fraction_of_bound")] = fraction(bound, spread, frames_per_call).map(round).into();
}
