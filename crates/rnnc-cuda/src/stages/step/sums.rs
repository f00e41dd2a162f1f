//! Vector functions in a loop that need no whole vector: each block sums up its own units before blocks synchronize, and reads
//! only the others' sums behind that. Every row has its own sums, so nothing waits for readers.

use super::choice::{Choice, Tier, units};
use super::exchange::{self, Origin, Stored, overlap};
use super::task::Work;
use crate::stages::vector::{Partitioned, has_parts, sums_of_a_part};
use rnnc_plan::{Op, Read, Task, Vector};

/// A vector function of which blocks make sums.
#[derive(Clone, Copy, Debug)]
pub(super) struct Summed<'a> {
    pub vector: &'a Vector,
    /// The phase at whose end they do.
    pub phase: usize,
    /// The offset of the frames of both.
    pub offset: i64,
    pub partitioned: Partitioned,
    /// Sums of a part.
    pub count: usize,
    /// Whether sums say themselves that they are there.
    pub polled: bool,
}

impl Summed<'_> {
    /// Numbers of device memory for the sums of a window's rows.
    pub fn numbers(&self, window: usize, streams: usize) -> usize {
        window * self.frame(streams)
    }

    /// Those of a frame.
    pub fn frame(&self, streams: usize) -> usize {
        self.partitioned.parts * self.part(streams)
    }

    /// Those of a part of a frame. What a block posts has sectors of its own: where many write, all who look wait.
    fn part(&self, streams: usize) -> usize {
        const SECTOR: usize = 8;
        match self.polled {
            true => (streams * self.count).next_multiple_of(SECTOR),
            false => streams * self.count,
        }
    }

    /// Where a sum of a part of `frame` and `stream` is: an expression.
    pub fn address(&self, at: usize, streams: usize, number: usize, part: &str) -> String {
        let (frame, of_part, count) = (self.frame(streams), self.part(streams), self.count);
        let place = match self.polled {
            true => format!("({part}) * {of_part}u + stream * {count}u + {number}u"),
            // Those of a row lie side by side.
            false => format!("(stream * {count}u + {number}u) * {}u + {part}", self.partitioned.parts),
        };
        format!("a.scratch + {at}ull + ((u64)(u32)frame * {frame}ull + {place})")
    }
}

/// The vector functions of a task that its blocks sum up.
pub(super) fn summed<'a>(task: &'a Task, work: Work, choice: Choice) -> Vec<Summed<'a>> {
    if choice.blocks == 1 {
        return Vec::new();
    }
    let stored = exchange::stored(task);
    let mut out = Vec::new();
    for (phase, placed) in task.phases.iter().enumerate().flat_map(|(p, x)| x.ops.iter().map(move |o| (p, o)))
    {
        let Op::Vector(vector) = &placed.op else { continue };
        if !has_parts(vector) {
            continue;
        }
        let (slice_len, offset) = (vector.slice_len, placed.offset);
        let last = last_stored(vector, &stored, offset).filter(|&last| last < phase);
        if let Some(phase) = last {
            let units = units(slice_len, choice.blocks);
            let partitioned = Partitioned { units, slice_len, parts: slice_len.div_ceil(units) };
            // With many streams, it would be too much to look for.
            let polled = choice.tier == Tier::Grid && !work.packs();
            let count = sums_of_a_part(vector);
            out.push(Summed { vector, phase, offset, partitioned, count, polled });
        }
    }
    out
}

/// The last phase that stores some of a function's operands, if blocks store, in the same frame, just the units of them
/// that they have of the result.
fn last_stored(vector: &Vector, stored: &[Stored], offset: i64) -> Option<usize> {
    let mut last = None;
    for read in &vector.operands {
        let others = |view| {
            exchange::origin(stored, &Read { view, ..*read }, vector.slice_len, 0) == Origin::OtherUnits
        };
        if read.delay != 0 || read.view.slices(vector.slice_len).any(others) {
            return None;
        }
        for s in stored.iter().filter(|s| overlap(s.view, read.view)) {
            if s.offset != offset {
                return None;
            }
            last = last.max(Some(s.phase));
        }
    }
    last
}
