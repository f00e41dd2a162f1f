//! The tape: what the backward call reads of the forward call, in one array of the caller's. Copies of the buffers that the
//! backward pass reads, of the weights that others give, and of the clock.

use crate::driver::Address;
use crate::driver::borders::ArrayMove;
use crate::executor::loaded::Loaded;
use crate::executor::memory::{Memory, NUMBER, Sizes};
use crate::program::{BufferPlace, Program};
use rnnc_plan::{ExecutionConfig, Plan};

/// Where everything lies on a tape.
pub(super) struct TapeLayout {
    /// Numbers of 4 bytes; 0 if there is no backward call.
    pub len: usize,
    /// Of each buffer that the backward pass reads: its place on the tape.
    buffers: Vec<(BufferPlace, usize)>,
    /// Of the derived weights: where they begin among the weights, how many, where on the tape.
    derived: (usize, usize, usize),
    /// Of the clock: how many numbers, where on the tape.
    clock: (usize, usize),
}

/// What lies on a tape begins at multiples of so many numbers.
const ALIGNMENT: usize = 16;

impl TapeLayout {
    pub fn new(plan: &Plan, config: ExecutionConfig, program: &Program, sizes: Sizes) -> TapeLayout {
        let mut len = 0;
        let mut add = |numbers: usize| {
            let at = len;
            len += numbers.next_multiple_of(ALIGNMENT);
            at
        };
        let derived = plan.weights.total() - plan.weights.len();
        let (clock, derived) =
            ((sizes.tracker, add(sizes.tracker)), (plan.weights.len(), derived, add(derived)));
        let saved = plan.buffers.iter().zip(&program.buffers).filter(|(buffer, _)| buffer.saved);
        let buffers =
            saved.map(|(_, place)| (*place, add((place.history + config.window) * place.frame))).collect();
        let len = if plan.backward_pass.is_some() { len } else { 0 };
        TapeLayout { len, buffers, derived, clock }
    }

    /// Where a tape has the numbers of its run.
    pub fn run(&self, tape: Address) -> Address {
        tape + self.clock.1 as u64 * NUMBER
    }

    /// Copies of a call of so many frames to the tape, or from it.
    pub fn moves(
        &self,
        loaded: &Loaded,
        memory: &Memory,
        tape: Address,
        frames: usize,
        to_tape: bool,
    ) -> Vec<ArrayMove> {
        let first = loaded.config.window - frames;
        let copy = |here: Address, place: usize, shape: [usize; 2]| {
            let there = tape + place as u64 * NUMBER;
            let (from, to) = if to_tape { (here, there) } else { (there, here) };
            let strides = [shape[1] as i64, 0, 1];
            ArrayMove {
                from,
                to,
                from_strides: strides,
                to_strides: strides,
                shape: [shape[0] as u32, 1, shape[1] as u32],
                ..ArrayMove::default()
            }
        };
        let mut moves = vec![copy(memory.tracker, self.clock.1, [1, self.clock.0])];
        let (begin, count, place) = self.derived;
        if count > 0 {
            moves.push(copy(memory.weights + begin as u64 * NUMBER, place, [1, count]));
        }
        for &(BufferPlace { offset, frame, history }, place) in &self.buffers {
            // With the frames before the first that it keeps.
            let here = memory.values + (offset + first * frame) as u64 * NUMBER;
            moves.push(copy(here, place, [history + frames, frame]));
        }
        moves
    }
}
