//! The least time that the passes of a plan could take on a machine.

use crate::machine::Machine;
use crate::schedule::{PassSchedule, Schedule};
use rnnc_plan::{BufferId, Pass, Plan, Stage, StageKind, StageWork};
use std::collections::HashSet;

/// What a pass cannot do without, of a call.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Least {
    /// Bytes of weights, as often as they are read, and of values.
    pub bytes: f64,
    /// Microseconds.
    pub us: f64,
}

/// The work of a stage, and how much of what it moves stays in caches.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Moving {
    work: StageWork,
    /// Of the bytes of values, what lies in rings, and is needed again before it is moved on.
    ring_bytes: u64,
    /// How much of that there is at once.
    ring_at_once: u64,
}

/// Of a call of the forward pass, and of the backward pass, as they are scheduled.
pub fn least(plan: &Plan, schedule: &Schedule, machine: &Machine) -> [Least; 2] {
    let rings: HashSet<BufferId> =
        schedule.residency(plan, schedule.options.frames).rings.into_keys().collect();
    let of = |pass: Option<&Pass>, own: Option<&PassSchedule>| {
        let Some((pass, own)) = pass.zip(own) else { return Least::default() };
        let stages = pass.stages.iter().enumerate();
        let stages: Vec<Moving> =
            stages.map(|(at, stage)| Moving::of(stage, own, at, schedule, &rings)).collect();
        Least::of(&stages, machine)
    };
    [
        of(Some(&plan.forward_pass), Some(&schedule.forward)),
        of(plan.backward_pass.as_ref(), schedule.backward.as_ref()),
    ]
}

impl Moving {
    fn of(
        stage: &Stage,
        own: &PassSchedule,
        at: usize,
        schedule: &Schedule,
        rings: &HashSet<BufferId>,
    ) -> Moving {
        let (streams, frames) = (schedule.options.streams, schedule.options.frames);
        let at_once = own.time_block_of(at).map_or(frames, |block| block.frames.min(frames));
        let ring = stage.values_moved(|view| rings.contains(&view.buffer)).saturating_mul(4);
        let bytes = |frames: usize| ring.saturating_mul((streams as u64).saturating_mul(frames as u64));
        Moving {
            work: StageWork::of(stage, streams, frames),
            ring_bytes: bytes(frames),
            ring_at_once: bytes(at_once),
        }
    }
}

impl Least {
    /// Stage after stage: its products, or the reading of their weights if that takes longer; and the moving of its
    /// values.
    fn of(stages: &[Moving], machine: &Machine) -> Least {
        let call: u64 = stages.iter().map(|stage| stage.work.weight_bytes).sum();
        let seconds = |stage: &Moving| {
            let work = &stage.work;
            let speed = match work.kind {
                StageKind::Loop => machine.packed_product,
                StageKind::Frames | StageKind::Scan => machine.product,
            };
            // What is read between two readings of the same weights: a loop's own, or those of all stages.
            let between = if work.readings > 1 { work.weight_bytes } else { call };
            let reading = (work.readings * work.weight_bytes) as f64 / machine.reading(between);
            let far = work.value_bytes - stage.ring_bytes;
            let moving = far as f64 / machine.copying(far)
                + stage.ring_bytes as f64 / machine.copying(stage.ring_at_once);
            (work.product_flops as f64 / speed).max(reading) + moving
        };
        Least {
            bytes: stages.iter().map(|stage| stage.work.bytes() as f64).sum(),
            us: stages.iter().map(seconds).sum::<f64>() * 1e6,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Bandwidth;

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

    fn stage(kind: StageKind, readings: u64, weight_bytes: u64, value_bytes: u64) -> Moving {
        let work =
            StageWork { kind, readings, weight_bytes, product_flops: 4000, other_flops: 5, value_bytes };
        Moving { work, ring_bytes: 0, ring_at_once: 0 }
    }

    #[test]
    fn a_loop_takes_as_long_as_its_products_or_as_reading_its_weights_from_the_cache_that_holds_them() {
        let us = |stage: Moving| Least::of(&[stage], &machine()).us;
        // 2 us of products, 1 us of reading 4 KiB at 4 bytes a ns.
        assert!((us(stage(StageKind::Loop, 2, 2000, 0)) - 2.0).abs() < 1e-9);
        // 4 us of reading 16,000 bytes.
        assert!((us(stage(StageKind::Loop, 8, 2000, 0)) - 4.0).abs() < 1e-9);
        // Two threads' caches do not hold 4 MiB.
        assert!((us(stage(StageKind::Loop, 2, 4 << 20, 0)) - 8192.0 * 1.024).abs() < 1e-6);
    }

    #[test]
    fn what_lies_in_rings_moves_at_the_speed_of_so_much_as_is_there_at_once() {
        let us = |stage: Moving| Least::of(&[stage], &machine()).us;
        let stage = stage(StageKind::Frames, 1, 0, 16 << 20);
        let in_rings = Moving { ring_bytes: 12 << 20, ring_at_once: 1000, ..stage };
        // All of it at half a byte a ns; and a quarter so, the rest at 8 bytes.
        assert!((us(stage) - (4.0 + 33554.432)).abs() < 1e-6);
        assert!((us(in_rings) - (4.0 + 8388.608 + 1572.864)).abs() < 1e-6, "{}", us(in_rings));
    }

    #[test]
    fn values_add_to_the_time_and_all_is_counted() {
        let stages = [stage(StageKind::Frames, 1, 100, 800), stage(StageKind::Scan, 1, 0, 4 << 20)];
        let found = Least::of(&stages, &machine());
        assert_eq!(found.bytes, 900.0 + 4194304.0);
        assert!((found.us - (4.0 + 0.1 + 4.0 + 8388.608)).abs() < 1e-6, "{found:?}");
    }
}
