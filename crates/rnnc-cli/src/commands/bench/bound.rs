//! The least time that a plan's work could take on this machine.

use super::measure::Spread;
use super::round;
use rnnc_cuda::{CudaExecutor, Least, Speeds};
use rnnc_graph::Graph;
use rnnc_plan::{Executor, Plan, PlanError, PlanOptions, StageKind, StageWork};
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

    /// Of a plan on a CPU.
    pub fn on_cpu(plan: &Plan, machine: &rnnc_cpu::Machine) -> Bounds {
        Bounds::new([plan.forward_work(), plan.backward_work()].map(|work| Bound::on_cpu(&work, machine)))
    }

    /// Of a plan without gradients, for frame after frame.
    pub fn of_frames(
        graph: &Graph,
        streams: usize,
        machine: &rnnc_cpu::Machine,
    ) -> Result<Bounds, PlanError> {
        Ok(Bounds::on_cpu(&Plan::new(graph, PlanOptions::inference(streams, 1))?, machine))
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

impl Bound {
    /// Stage after stage: its products, or the reading of their weights if that takes longer; and the moving of its
    /// values.
    fn on_cpu(stages: &[StageWork], machine: &rnnc_cpu::Machine) -> Bound {
        let call: u64 = stages.iter().map(|stage| stage.weight_bytes).sum();
        let seconds = |stage: &StageWork| {
            let speed = match stage.kind {
                StageKind::Loop => machine.packed_product,
                StageKind::Frames | StageKind::Scan => machine.product,
            };
            // What is read between two readings of the same weights: a loop's own, or those of all stages.
            let between = if stage.readings > 1 { stage.weight_bytes } else { call };
            let reading = (stage.readings * stage.weight_bytes) as f64 / machine.reading(between);
            let far = stage.value_bytes - stage.ring_bytes;
            let moving = far as f64 / machine.copying(far)
                + stage.ring_bytes as f64 / machine.copying(stage.ring_at_once);
            (stage.product_flops as f64 / speed).max(reading) + moving
        };
        Bound {
            flops: flops(stages),
            bytes: stages.iter().map(|stage| stage.bytes() as f64).sum(),
            us: stages.iter().map(seconds).sum::<f64>() * 1e6,
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use rnnc_cpu::{Bandwidth, Machine};

    fn machine() -> Machine {
        let curve = |speeds: [f64; 2]| {
            let point = |(bytes, bytes_per_second)| Bandwidth { bytes, bytes_per_second };
            [1 << 10, 1 << 20].into_iter().zip(speeds).map(point).collect::<Vec<_>>()
        };
        Machine {
            threads: 2,
            product: 1e9,
            packed_product: 2e9,
            read: curve([4e9, 1e9]),
            copy: curve([8e9, 0.5e9]),
        }
    }

    fn stage(kind: StageKind, readings: u64, weight_bytes: u64, value_bytes: u64) -> StageWork {
        StageWork {
            kind,
            readings,
            weight_bytes,
            product_flops: 4000,
            other_flops: 5,
            value_bytes,
            ring_bytes: 0,
            ring_at_once: 0,
        }
    }

    #[test]
    fn a_loop_takes_as_long_as_its_products_or_as_reading_its_weights_from_the_cache_that_holds_them() {
        let us = |work: StageWork| Bound::on_cpu(&[work], &machine()).us;
        // 2 us of products, 1 us of reading 4 KiB at 4 bytes a ns.
        assert!((us(stage(StageKind::Loop, 2, 2000, 0)) - 2.0).abs() < 1e-9);
        // 4 us of reading 16,000 bytes.
        assert!((us(stage(StageKind::Loop, 8, 2000, 0)) - 4.0).abs() < 1e-9);
        // Two threads' caches do not hold 4 MiB.
        assert!((us(stage(StageKind::Loop, 2, 4 << 20, 0)) - 8192.0 * 1.024).abs() < 1e-6);
    }

    #[test]
    fn what_lies_in_rings_moves_at_the_speed_of_so_much_as_is_there_at_once() {
        let us = |work: StageWork| Bound::on_cpu(&[work], &machine()).us;
        let stage = stage(StageKind::Frames, 1, 0, 16 << 20);
        let in_rings = StageWork { ring_bytes: 12 << 20, ring_at_once: 1000, ..stage };
        // All of it at half a byte a ns; and a quarter so, the rest at 8 bytes.
        assert!((us(stage) - (4.0 + 33554.432)).abs() < 1e-6);
        assert!((us(in_rings) - (4.0 + 8388.608 + 1572.864)).abs() < 1e-6, "{}", us(in_rings));
    }

    #[test]
    fn values_add_to_the_time_and_all_is_counted() {
        let stages = [stage(StageKind::Frames, 1, 100, 800), stage(StageKind::Scan, 1, 0, 4 << 20)];
        let found = Bound::on_cpu(&stages, &machine());
        assert_eq!((found.flops, found.bytes), (8010.0, 900.0 + 4194304.0));
        assert!((found.us - (4.0 + 0.1 + 4.0 + 8388.608)).abs() < 1e-6, "{found:?}");
    }
}
