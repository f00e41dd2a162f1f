//! How a plan is to be run.

use crate::optimizers::Optimizer;

/// How a plan is to be run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ExecutionConfig {
    /// Streams side by side, B.
    pub streams: usize,
    /// The most frames that errors go back through, h.
    pub window: usize,
    /// The most new frames of one call of [`Executor::forward`](super::Executor::forward), h'. If less than `window`,
    /// older frames are kept.
    pub step: usize,
    /// Worker threads, the caller's included; 0 means as many as the process may use.
    pub threads: usize,
    /// Keys the dropout masks.
    pub seed: u64,
    /// Whether dropout is on.
    pub training: bool,
    /// How coarsely products of matrices may round their operands.
    pub precision: Precision,
    /// Whose slots there are, if the plan has gradients: updates are steps of this one.
    pub optimizer: Optimizer,
    /// The most bytes that a [`Functional`](super::Functional) keeps for its calls to work in. What one call needs is kept however
    /// little this is; calls at a time beyond it take memory of their own each (CPU), or one after the other (GPU).
    pub kept_bytes: u64,
}

/// How coarsely products of matrices may round their operands. Sums are in single precision, and all else is; an executor
/// may be more precise than it must.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Precision {
    /// Single precision throughout.
    #[default]
    F32,
    /// Operands of 11 significant bits (TF32): off by at most 0.05 percent each.
    Tf32,
    /// Operands of 8 significant bits (bfloat16): off by at most 0.4 percent each.
    Bf16,
}

impl ExecutionConfig {
    /// B streams in windows of `frames` frames, all of them new, on all cores, without dropout, in single precision, for updates
    /// by Adam; at most 1 GiB is kept for calls.
    pub fn new(streams: usize, frames: usize) -> ExecutionConfig {
        ExecutionConfig {
            streams,
            window: frames,
            step: frames,
            threads: 0,
            seed: 0,
            training: false,
            precision: Precision::F32,
            optimizer: Optimizer::Adam,
            kept_bytes: 1 << 30,
        }
    }

    /// How many calls' memory, of so many bytes each, is kept: as many as there is room for, at least one, and at most `most`.
    pub fn kept(&self, bytes: u128, most: usize) -> usize {
        (u128::from(self.kept_bytes) / bytes.max(1)).clamp(1, most as u128) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::ExecutionConfig;

    #[test]
    fn as_many_workspaces_are_kept_as_the_budget_has_room_for_and_never_none() {
        let counts = [(100, 30), (29, 30), (0, 30), (1 << 40, 30), (u64::MAX, 0)];
        let kept = |(kept_bytes, bytes)| {
            ExecutionConfig { kept_bytes, ..ExecutionConfig::new(1, 1) }.kept(bytes, 64)
        };
        assert_eq!(counts.map(kept), [3, 1, 1, 64, 64]);
    }
}
