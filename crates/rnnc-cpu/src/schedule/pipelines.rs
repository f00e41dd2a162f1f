//! Pipelines on a CPU: loops that run at the same time each have workers of their own. What can be one,
//! [`rnnc_plan::pipelines`] says.

use super::model::{Model, weight_bytes};
use super::partition::{fastest, partitions};
use super::speeds::Speeds;
use rnnc_plan::pipelines::{Candidate, Timed};
use rnnc_plan::{Partition, Stage, StageKind, Task};
use std::ops::Range;

/// The workers of a loop in a pipeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerGroup {
    /// Which.
    pub workers: Range<usize>,
    /// How they share it out.
    pub partition: Partition,
}

impl Model {
    /// How loops share the workers, and the microseconds of a window that the busiest of them takes.
    fn groups(self, tasks: &[&Task]) -> (Vec<WorkerGroup>, f64) {
        let bytes = weight_bytes(tasks);
        let best = |task: &Task, workers: usize| {
            let part = Model { workers, ..self };
            let us = |partition: Partition| {
                let barriers = if workers > 1 { task.barriers_per_step(partition) } else { 0 };
                part.task(task, partition, bytes) + part.steps(task) * self.speeds.barrier * barriers as f64
            };
            fastest(&partitions(&[task]).map(|partition| (partition, us(partition))).collect::<Vec<_>>())
        };
        if tasks.len() >= self.workers {
            // The longest first, each to the worker that has the least.
            let mut loads = vec![0.0f64; self.workers];
            let us: Vec<f64> = tasks.iter().map(|task| best(task, 1).1).collect();
            let mut order: Vec<usize> = (0..tasks.len()).collect();
            order.sort_by(|&a, &b| us[b].total_cmp(&us[a]));
            let mut groups = vec![WorkerGroup { workers: 0..1, partition: Partition::Serial }; tasks.len()];
            for task in order {
                let least = (0..self.workers).min_by(|&a, &b| loads[a].total_cmp(&loads[b])).unwrap_or(0);
                groups[task].workers = least..least + 1;
                loads[least] += us[task];
            }
            return (groups, loads.into_iter().fold(0.0, f64::max));
        }
        // One each, and the rest one by one to the loop that takes longest.
        let mut counts = vec![1; tasks.len()];
        let us = |counts: &[usize], task: usize| best(tasks[task], counts[task]).1;
        for _ in tasks.len()..self.workers {
            let slowest =
                (0..tasks.len()).max_by(|&a, &b| us(&counts, a).total_cmp(&us(&counts, b))).unwrap_or(0);
            counts[slowest] += 1;
        }
        let longest = (0..tasks.len()).map(|task| us(&counts, task)).fold(0.0, f64::max);
        let mut first = 0;
        let groups = tasks.iter().zip(&counts).map(|(task, &count)| {
            first += count;
            WorkerGroup { workers: first - count..first, partition: best(task, count).0 }
        });
        (groups.collect(), longest)
    }

    /// What loops take as a pipeline: in each round, workers first share out the rows of what stands between the loops, and then
    /// each has its loops' chunks.
    pub fn pipeline(self, candidate: &Candidate<'_>) -> Option<Timed<WorkerGroup>> {
        if candidate.tasks.len() == 1 {
            return None;
        }
        let (loops, longest) = self.groups(&candidate.tasks);
        let between: Vec<Stage> = candidate.between().collect();
        let rows = |frames: usize| {
            let part = Model { frames, ..self };
            between.iter().map(|stage| part.all_frames(stage, Partition::Batch)).sum::<f64>()
        };
        let is_loop = |stage: &&Stage| stage.kind == StageKind::Loop;
        let (first, last) = candidate.stages;
        let behind = candidate.pass.stages[first..=last].iter().filter(is_loop).count() - 1;
        let barriers = if between.is_empty() { 1.0 } else { 2.0 } * self.speeds.barrier;
        let time = |chunks: usize| {
            let rounds = (chunks + behind) as f64;
            let between = chunks as f64 * rows(self.frames.div_ceil(chunks)) - rows(self.frames);
            rounds * (longest / chunks as f64 + barriers) + between
        };
        let counts = candidate.counts(self.frames, Speeds::MOST_CHUNKS);
        let chunks = counts.min_by(|&a, &b| time(a).total_cmp(&time(b)))?;
        Some(Timed { chunks, loops, us: time(chunks) })
    }
}
