//! Elementwise programs as they run: operation after operation over a tile of units, each on slices that stay in the first-level
//! cache. `compile/tile.rs` makes them.

#![allow(unsafe_code)] // rows of the shared buffers

use super::TILE;
use crate::kernels::elementwise;
use crate::kernels::functions;
use crate::memory::{Shared, assert_inside};
use rnnc_graph::Function;
use rnnc_plan::{Binary, Mask, Repeat, dropout};

/// A program ready to run.
#[derive(Default)]
pub(crate) struct TileCode {
    /// In order.
    pub ops: Vec<TileOp>,
    /// How many tiles it needs at once.
    pub tiles: usize,
    /// How many numbers there are where each of its loads and stores is.
    pub loads: Vec<usize>,
    pub stores: Vec<usize>,
}

/// Where an operand is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Argument {
    /// In a buffer: a load, by its place.
    Load(usize),
    /// Among the weights: the place of the first unit.
    Weight(usize),
    /// In a tile.
    Tile(usize),
    /// In a buffer, where this program stored it.
    Store(usize),
}

/// Where a result goes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Slot {
    /// To a tile.
    Tile(usize),
    /// To a buffer: a store, by its place.
    Store(usize),
}

/// An operation over a tile. A tile it writes is none of those it reads; a place in a buffer may be what it reads, where the
/// compiler says that it can.
#[derive(Clone, Copy, Debug)]
pub(crate) enum TileOp {
    Repeat {
        load: usize,
        repeat: Repeat,
        to: Slot,
    },
    Fill {
        value: f32,
        to: Slot,
    },
    Mask {
        mask: Mask,
        to: Slot,
    },
    Apply {
        function: Function,
        from: Argument,
        to: Slot,
    },
    /// function(a + b)
    ApplyToSum {
        function: Function,
        a: Argument,
        b: Argument,
        to: Slot,
    },
    /// by function(from)
    ApplyTimes {
        function: Function,
        from: Argument,
        by: Argument,
        to: Slot,
    },
    Scale {
        factor: f32,
        from: Argument,
        to: Slot,
    },
    Binary {
        op: Binary,
        a: Argument,
        b: Argument,
        to: Slot,
    },
    MulAdd {
        a: Argument,
        b: Argument,
        c: Argument,
        to: Slot,
    },
    Store {
        from: Argument,
        store: usize,
    },
}

/// Draws a dropout mask for some units, from one on, in a frame of a stream.
pub(super) fn draw(shared: &Shared<'_>, mask: &Mask, (t, b, unit): (usize, usize, usize), out: &mut [f32]) {
    let Mask { key, probability, first } = *mask;
    let kept = (1.0 / (1.0 - probability)) as f32;
    let Some(seed) = shared.dropout else { return out.fill(1.0) };
    let frame = shared.tracker.absolute(t);
    for (i, out) in out.iter_mut().enumerate() {
        let keeps = dropout::keeps(seed, key, frame, b as u64, (first + unit + i) as u64, probability);
        *out = if keeps { kept } else { 0.0 };
    }
}

/// A tile of a row.
pub(super) struct TileRow<'a> {
    pub shared: &'a Shared<'a>,
    pub code: &'a TileCode,
    /// Where its loads are, and then its stores.
    pub pointers: &'a [*mut f32],
    pub tiles: *mut f32,
    pub t: usize,
    pub b: usize,
    /// The tile's first unit, counted from the program's.
    pub first: usize,
    pub len: usize,
}

impl TileRow<'_> {
    /// Runs the program.
    pub fn run(&self) {
        self.code.ops.iter().for_each(|op| self.op(op));
    }

    #[inline]
    fn place(&self, from: Argument) -> *const f32 {
        if cfg!(debug_assertions) {
            let (first, len) = (self.first as isize, self.len);
            match from {
                Argument::Load(at) => assert_inside(first, len, self.code.loads[at]),
                Argument::Weight(at) => assert_inside(at as isize + first, len, self.shared.room.weights),
                Argument::Tile(at) => assert_inside(at as isize, 1, self.code.tiles),
                Argument::Store(_) => {}
            }
        }
        // SAFETY: loads, stores and weights are as long as the program's units are many; a tile has room for `len`.
        unsafe {
            match from {
                Argument::Load(at) => self.pointers[at].add(self.first).cast_const(),
                Argument::Weight(at) => self.shared.weights.add(at + self.first),
                Argument::Tile(at) => self.tiles.add(at * TILE).cast_const(),
                Argument::Store(at) => self.write_place(Slot::Store(at)).cast_const(),
            }
        }
    }

    #[inline]
    fn write_place(&self, to: Slot) -> *mut f32 {
        if cfg!(debug_assertions) {
            match to {
                Slot::Tile(at) => assert_inside(at as isize, 1, self.code.tiles),
                Slot::Store(at) => assert_inside(self.first as isize, self.len, self.code.stores[at]),
            }
        }
        // SAFETY: as above.
        unsafe {
            match to {
                Slot::Tile(at) => self.tiles.add(at * TILE),
                Slot::Store(at) => self.pointers[self.code.loads.len() + at].add(self.first),
            }
        }
    }

    #[inline]
    fn read(&self, from: Argument) -> &[f32] {
        self.shared.reads(self.place(from), self.len);
        // SAFETY: as above. What is written meanwhile is another tile, or a place that the operation does not read, or, if it
        // does, reads by writing it in place.
        unsafe { std::slice::from_raw_parts(self.place(from), self.len) }
    }

    #[inline]
    #[allow(clippy::mut_from_ref)] // tiles and stores are told apart by number
    fn write(&self, to: Slot) -> &mut [f32] {
        self.shared.writes(self.write_place(to), self.len);
        // SAFETY: as above: no operand of the operation is there, but for the one that it says it changes in place.
        unsafe { std::slice::from_raw_parts_mut(self.write_place(to), self.len) }
    }

    /// Whether an operand lies where the result goes.
    #[inline]
    fn there(&self, from: Argument, to: Slot) -> bool {
        std::ptr::eq(self.place(from), self.write_place(to))
    }

    #[inline]
    fn op(&self, op: &TileOp) {
        let isa = self.shared.isa;
        match *op {
            TileOp::Repeat { load, repeat, to } => {
                let (first, last) = (repeat.place(self.first), repeat.place(self.first + self.len - 1));
                assert_inside(last as isize, 1, self.code.loads[load]);
                // SAFETY: the load has all places that the units read.
                let from = unsafe { std::slice::from_raw_parts(self.pointers[load], last + 1) };
                self.shared.reads(&raw const from[first], last + 1 - first);
                let out = self.write(to);
                if first == last {
                    out.fill(from[first]);
                } else {
                    for (i, out) in out.iter_mut().enumerate() {
                        *out = from[repeat.place(self.first + i)];
                    }
                }
            }
            TileOp::Fill { value, to } => self.write(to).fill(value),
            TileOp::Mask { ref mask, to } => {
                draw(self.shared, mask, (self.t, self.b, self.first), self.write(to));
            }
            TileOp::Apply { function, from, to } => {
                if self.there(from, to) {
                    return functions::unary_in_place(isa, function, self.write(to));
                }
                functions::unary(isa, function, self.read(from), self.write(to))
            }
            TileOp::ApplyToSum { function, a, b, to } => {
                for (a, b) in [(a, b), (b, a)] {
                    if self.there(a, to) {
                        return functions::unary_of_sum_in_place(isa, function, self.write(to), self.read(b));
                    }
                }
                functions::unary_of_sum(isa, function, self.read(a), self.read(b), self.write(to))
            }
            TileOp::ApplyTimes { function, from, by, to } => {
                functions::unary_times(isa, function, self.read(from), self.read(by), self.write(to))
            }
            TileOp::Scale { factor, from, to } => {
                if self.there(from, to) {
                    return elementwise::scale_in_place(isa, factor, self.write(to));
                }
                elementwise::scale(isa, factor, self.read(from), self.write(to))
            }
            TileOp::Binary { op, a, b, to } => {
                if self.there(a, to) {
                    return elementwise::binary_in_place(isa, op, self.write(to), self.read(b));
                }
                if self.there(b, to) {
                    return elementwise::binary_in_place_right(isa, op, self.read(a), self.write(to));
                }
                elementwise::binary(isa, op, self.read(a), self.read(b), self.write(to))
            }
            TileOp::MulAdd { a, b, c, to } => {
                if self.there(c, to) {
                    return elementwise::mul_add_into(isa, self.read(a), self.read(b), self.write(to));
                }
                elementwise::mul_add_to(isa, self.read(a), self.read(b), self.read(c), self.write(to));
            }
            TileOp::Store { from, store } => {
                assert_inside(self.first as isize, self.len, self.code.stores[store]);
                let from = self.read(from).as_ptr();
                // SAFETY: a store has room for all units, this worker's alone; it may be where the value was
                // loaded, so the copy minds overlap.
                unsafe {
                    let to = self.pointers[self.code.loads.len() + store].add(self.first);
                    self.shared.writes(to, self.len);
                    std::ptr::copy(from, to, self.len);
                }
            }
        }
    }
}
