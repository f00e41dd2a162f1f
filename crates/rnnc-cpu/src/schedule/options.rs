//! What a schedule is made for.

use super::speeds::Speeds;
use rnnc_plan::ExecutionConfig;

/// What a schedule is made for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScheduleOptions {
    /// Workers that share the work.
    pub workers: usize,
    /// Streams side by side.
    pub streams: usize,
    /// Frames of a call.
    pub frames: usize,
    /// What a core is taken to do.
    pub speeds: Speeds,
}

impl ScheduleOptions {
    /// For so many workers, and the calls of a config, on usual cores.
    pub fn new(workers: usize, config: ExecutionConfig) -> ScheduleOptions {
        let ExecutionConfig { streams, step: frames, .. } = config;
        ScheduleOptions { workers, streams, frames, speeds: Speeds::CORE }
    }
}
