//! Loops whose heads are independent: as one loop, or as several of some heads each, that run side by side and exchange nothing,
//! whichever is predicted to be faster. All that is compiled, or explained, is a plan with that choice made.

use crate::device::Device;
use crate::stages::step::shares;
use rnnc_plan::{ExecutionConfig, Partition, Pass, Plan, Stage, StageKind, Task};
use std::borrow::Cow;

/// The most parts of a loop: as many as there are lanes for.
const MOST_PARTS: usize = 8;

/// The plan as it runs on a device.
pub(crate) fn choose<'a>(plan: &'a Plan, config: ExecutionConfig, device: &Device) -> Cow<'a, Plan> {
    let never_meet = |task: &Task| task.heads > 1 && task.barriers_per_step(Partition::Heads) == 0;
    let has_heads = |stage: &Stage| stage.kind == StageKind::Loop && stage.tasks.iter().any(never_meet);
    if !plan.stages().any(has_heads) {
        return Cow::Borrowed(plan);
    }
    let mut plan = plan.clone();
    let part = |pass: &mut Pass| {
        for stage in pass.stages.iter_mut().filter(|stage| has_heads(stage)) {
            stage.tasks = fastest(std::mem::take(&mut stage.tasks), config, device);
        }
    };
    std::iter::once(&mut plan.forward_pass).chain(&mut plan.backward_pass).for_each(part);
    debug_assert_eq!(plan.verify(), Ok(()));
    Cow::Owned(plan)
}

/// The loops of a stage, in parts if that is faster.
fn fastest(tasks: Vec<Task>, config: ExecutionConfig, device: &Device) -> Vec<Task> {
    let time = |tasks: &[Task]| {
        let loops = shares::choose(&tasks.iter().collect::<Vec<_>>(), config, device);
        shares::time(&loops) + device.rates.launch_us * tasks.len() as f64
    };
    let in_parts = |most: usize| -> Vec<Task> {
        let parted = |task: &Task| {
            let parts = (2..=most).rev().find(|&parts| task.heads.is_multiple_of(parts));
            parts.and_then(|parts| task.parted(parts)).unwrap_or_else(|| vec![task.clone()])
        };
        tasks.iter().flat_map(parted).collect()
    };
    let mut best = (time(&tasks), None);
    for most in 2..=MOST_PARTS {
        let parted = in_parts(most);
        let us = time(&parted);
        if us < best.0 {
            best = (us, Some(parted));
        }
    }
    best.1.unwrap_or(tasks)
}
