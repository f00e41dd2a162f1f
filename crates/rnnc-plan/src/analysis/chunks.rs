//! Scans whose frames are partitioned among workers: how they are cut into chunks.

use super::affine;
use super::recurrence::{Recurrence, ScanLeaf};
use crate::ir::{Instruction, Program, Task};

/// How a scan's frames are cut into chunks for some workers, which have one each, and the first two.
///
/// A chunk can begin once it is known what state the one before leaves. As that is an affine function of the state before
/// it, workers find these functions first, side by side, and so all states in between, and then run their chunks. The first
/// worker, which knows its state, runs a chunk meanwhile, and in the second half the last one, of which nobody needs the
/// function. So chunk 0 is shorter than the others, as finding the function takes less than running.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Chunks {
    /// What it takes to find a chunk's affine function, in shares of what it takes to run it.
    pub finding: f64,
    /// Among how many workers.
    pub workers: usize,
}

impl Chunks {
    /// For a stage's tasks; `None` if it is no scan, or one that has to be run as it stands.
    pub fn of(tasks: &[Task], workers: usize) -> Option<Chunks> {
        let (mut finding, mut running) = (0, 0);
        for task in tasks {
            for recurrence in Recurrence::of(task)? {
                let (len, order) = (recurrence.len as u64, recurrence.order() as u64);
                running += len * operations(&recurrence.program);
                // The state that a start of zero leads to, and where each of its numbers does.
                finding += len * (operations(&affine::part(&recurrence)?) + 2 * order * order);
            }
        }
        (running > 0).then(|| Chunks { finding: finding as f64 / running as f64, workers: workers.max(1) })
    }

    /// The frame with which a chunk begins, of `frames`; chunk `workers` is the last, and ends where the next would begin.
    pub fn begin(&self, chunk: usize, frames: usize) -> usize {
        match chunk {
            0 => 0,
            _ if chunk > self.workers => frames,
            // In whole numbers of frames, less than all.
            _ => (frames as f64 * (self.finding + (chunk - 1) as f64) / self.all()) as usize,
        }
    }

    /// How long it takes, in shares of what one worker takes.
    pub fn share(&self) -> f64 {
        (1.0 + self.finding) / self.all()
    }

    /// All chunks, in chunks of the usual length.
    fn all(&self) -> f64 {
        self.workers as f64 + self.finding
    }
}

/// Operations of a unit in a frame; one of moving a number counts as one.
fn operations(program: &Program<ScanLeaf>) -> u64 {
    let arithmetic = program.instructions.iter().map(Instruction::flops).sum::<u64>();
    let leaves = program.leaves().map(ScanLeaf::operations).sum::<u64>();
    arithmetic + leaves + program.stores().count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_have_every_frame_once_and_gain_with_every_worker() {
        for finding in [0.0, 0.4, 1.0, 1.7] {
            let mut last = f64::INFINITY;
            for workers in 1..20 {
                let chunks = Chunks { finding, workers };
                for frames in [0, 1, 2, 7, 1000, 65_536] {
                    let begins: Vec<usize> =
                        (0..workers + 2).map(|chunk| chunks.begin(chunk, frames)).collect();
                    assert!(begins.is_sorted(), "{begins:?}");
                    assert_eq!((begins[0], begins[workers + 1]), (0, frames));
                }
                assert!(chunks.share() <= 1.0 && chunks.share() < last);
                last = chunks.share();
            }
        }
    }
}
