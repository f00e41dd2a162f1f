//! The tape: what the backward call reads of the forward call, in one array of the caller's. Copies of the buffers that the
//! backward pass reads, of the weights that others give, and of the clock.

use crate::driver::Address;
use crate::driver::borders::{ArrayMove, From};
use crate::executor::loaded::Loaded;
use crate::executor::memory::{Memory, NUMBER, Sizes};
use crate::program::{BufferPlace, Program};
use rnnc_graph::LayerKind;
use rnnc_plan::{Buffer, BufferId, ExecutionConfig, Plan};

/// Where everything lies on a tape.
pub(super) struct TapeLayout {
    /// Numbers of 4 bytes; 0 if there is no backward call.
    pub len: usize,
    /// Of each buffer that the backward pass reads: its place on the tape.
    buffers: Vec<(BufferPlace, usize, Contents)>,
    /// Of the derived weights: where they begin among the weights, how many, where on the tape.
    derived: (usize, usize, usize),
    /// Of the clock: how many numbers, where on the tape.
    clock: (usize, usize),
}

/// What a buffer holds.
enum Contents {
    Numbers,
    /// Of each column, how many symbols there are.
    Symbols(Vec<u32>),
}

/// Which way copies go.
#[derive(Clone, Copy)]
pub(super) enum Way {
    ToTape,
    /// Where it is raised, as a fault of that code, that a symbol is beyond the last: no forward call has left such a tape, and the
    /// backward pass would follow it out of its table.
    FromTape {
        flag: Address,
        code: u32,
    },
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
        let saved = plan.buffers.iter().zip(&program.buffers).enumerate();
        let saved = saved.filter(|(_, (buffer, _))| buffer.saved).map(|(id, (buffer, place))| {
            let at = add((place.history + config.window) * place.frame);
            (*place, at, Contents::of(plan, BufferId(id), buffer))
        });
        let buffers = saved.collect();
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
        way: Way,
    ) -> Vec<ArrayMove> {
        let first = loaded.config.window - frames;
        let copy = |here: Address, place: usize, shape: [usize; 2]| {
            let there = tape + place as u64 * NUMBER;
            let (from, to) = match way {
                Way::ToTape => (here, there),
                Way::FromTape { .. } => (there, here),
            };
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
        for (BufferPlace { offset, frame, history }, place, contents) in &self.buffers {
            // With the frames before the first that it keeps.
            let here = memory.values + (offset + first * frame) as u64 * NUMBER;
            let all = copy(here, *place, [history + frames, *frame]);
            match (contents, way) {
                (Contents::Symbols(counts), Way::FromTape { flag, code }) => {
                    let width = counts.len();
                    let column = |(column, &limit): (usize, &u32)| {
                        let strides = [*frame as i64, width as i64, 1];
                        let shape = [all.shape[0], (frame / width) as u32, 1];
                        let [from, to] = [all.from, all.to].map(|at| at + column as u64 * NUMBER);
                        ArrayMove {
                            from,
                            to,
                            from_strides: strides,
                            to_strides: strides,
                            shape,
                            from_kind: From::I32,
                            limit,
                            flag,
                            code,
                            ..all
                        }
                    };
                    moves.extend(counts.iter().enumerate().map(column));
                }
                _ => moves.push(all),
            }
        }
        moves
    }
}

impl Contents {
    fn of(plan: &Plan, id: BufferId, buffer: &Buffer) -> Contents {
        if !buffer.symbols {
            return Contents::Numbers;
        }
        let mut counts = vec![0; buffer.width];
        for (layer, view) in plan.forward.layers().iter().zip(&plan.forward_pass.storage) {
            if let Some(view) = view.filter(|view| view.buffer == id && layer.kind == LayerKind::Symbol) {
                counts[view.column] = u32::try_from(layer.size).unwrap_or(u32::MAX);
            }
        }
        Contents::Symbols(counts)
    }
}
