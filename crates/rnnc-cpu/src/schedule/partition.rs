//! How a stage is shared out among workers: by rows, by units, a loop by whole heads and a scan by chunks of frames too, or not at
//! all.

use super::model::Model;
use rnnc_plan::{Partition, Stage, StageKind, Task};

impl Model {
    /// Each way to share out a stage with its microseconds of a window, the simplest first.
    pub fn choices(self, stage: &Stage) -> Vec<(Partition, f64)> {
        let tasks: Vec<&Task> = stage.tasks.iter().collect();
        let choices = partitions(&tasks).map(|partition| (partition, self.us(stage, partition)));
        let chunks = if stage.kind == StageKind::Scan { self.chunks(stage) } else { None };
        choices.chain(chunks.map(|us| (Partition::Time, us))).collect()
    }

    /// The fastest way to share out a stage; of equal ones the simplest.
    pub fn best(self, stage: &Stage) -> (Partition, f64) {
        fastest(&self.choices(stage))
    }
}

/// The ways to share out some tasks, but for chunks of frames, the simplest first.
pub(super) fn partitions(tasks: &[&Task]) -> impl Iterator<Item = Partition> {
    let heads = tasks.iter().any(|task| task.heads > 1).then_some(Partition::Heads);
    [Partition::Serial, Partition::Batch, Partition::Units].into_iter().chain(heads)
}

/// The fastest; of equal ones the first.
pub(super) fn fastest(choices: &[(Partition, f64)]) -> (Partition, f64) {
    choices.iter().copied().fold(choices[0], |best, next| if next.1 < best.1 { next } else { best })
}
