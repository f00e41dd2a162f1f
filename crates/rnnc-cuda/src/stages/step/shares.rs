//! How many multiprocessors each loop of a stage gets: loops that do not depend on each other run side by side, where that
//! is predicted to be faster than one after the other on the whole device.

use super::layout::Layout;
use super::task::weights;
use crate::device::Device;
use rnnc_plan::{ExecutionConfig, Task};

/// A loop's layout, and where it stands among the loops of its stage.
#[derive(Clone, Debug)]
pub struct Share {
    /// Its layout.
    pub layout: Layout,
    /// Loops of one level run side by side; levels follow each other.
    pub level: usize,
    /// Predicted microseconds of a window.
    pub us: f64,
}

/// Predicted microseconds of a window.
pub fn time(shares: &[Share]) -> f64 {
    let longest = |level: &[Share]| level.iter().map(|share| share.us).fold(0.0, f64::max);
    shares.chunk_by(|a, b| a.level == b.level).map(longest).sum()
}

/// The layouts of loops that do not depend on each other.
pub fn choose(tasks: &[&Task], config: ExecutionConfig, device: &Device) -> Vec<Share> {
    let mut best = by_levels(tasks, 1, config, device);
    let mut beside = 2;
    while beside < 2 * tasks.len() && beside <= device.multiprocessors {
        let found = by_levels(tasks, beside.min(tasks.len()), config, device);
        if time(&found) < time(&best) {
            best = found;
        }
        beside *= 2;
    }
    best
}

/// So many at a time.
fn by_levels(tasks: &[&Task], at_once: usize, config: ExecutionConfig, device: &Device) -> Vec<Share> {
    let levels = tasks.chunks(at_once).enumerate();
    levels
        .flat_map(|(level, tasks)| {
            beside(tasks, config, device).into_iter().map(move |share| Share { level, ..share })
        })
        .collect()
}

/// The layouts of loops that run side by side, each with multiprocessors by its work: no more than the device has, of as
/// many loops.
pub fn beside(tasks: &[&Task], config: ExecutionConfig, device: &Device) -> Vec<Share> {
    let all: f64 = tasks.iter().map(|task| work(task)).sum();
    // One each, the rest by work.
    let rest = device.multiprocessors.saturating_sub(tasks.len()) as f64;
    let share = |&task: &&Task| {
        let most = match tasks.len() {
            1 => device.multiprocessors,
            _ => 1 + (rest * work(task) / all) as usize,
        };
        let layout = Layout::choose(task, config, device, most);
        let us = predicted(task, &layout, config, device);
        Share { layout, level: 0, us }
    };
    tasks.iter().map(share).collect()
}

/// What a frame takes, relative to other loops': weights count, and each loop has some work beside.
fn work(task: &Task) -> f64 {
    (1 + weights(task)) as f64
}

/// Predicted microseconds of a loop over a window.
fn predicted(task: &Task, layout: &Layout, config: ExecutionConfig, device: &Device) -> f64 {
    layout.step_time(device) * steps(task, config) as f64
}

/// Steps of a loop over a window.
pub fn steps(task: &Task, config: ExecutionConfig) -> usize {
    config.window.div_ceil(task.block.clamp(1, config.window.max(1)))
}
