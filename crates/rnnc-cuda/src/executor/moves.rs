//! Which frames are kept, and moved on, when new ones come.

use crate::program::{BufferPlace, Program};
use rnnc_plan::{ExecutionConfig, Plan};

/// A buffer of which older frames are kept when new ones come.
pub(super) struct Move {
    pub buffer: BufferPlace,
    /// Whether errors go back through its older frames.
    pub saved: bool,
}

/// The buffers that have something to keep.
pub(super) fn moves(plan: &Plan, program: &Program, config: ExecutionConfig) -> Vec<Move> {
    let buffers = plan.buffers.iter().zip(&program.buffers);
    buffers
        .map(|(buffer, place)| Move { buffer: *place, saved: buffer.saved && config.step < config.window })
        .filter(|m| m.saved || m.buffer.history > 0)
        .collect()
}

impl Move {
    /// How many frames before the new ones are kept.
    pub fn kept(&self, frames: usize, config: ExecutionConfig) -> usize {
        self.buffer.history + if self.saved { config.window - frames } else { 0 }
    }

    /// The most numbers that are moved to where they overlap with themselves.
    pub fn most_overlapping(&self, config: ExecutionConfig) -> usize {
        let kept = self.kept(1, config);
        if kept > 1 { kept * self.buffer.frame } else { 0 }
    }
}
