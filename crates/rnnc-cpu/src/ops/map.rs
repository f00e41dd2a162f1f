//! Fused elementwise programs: tile after tile of a row's units, step after step.

#![allow(unsafe_code)] // rows of the shared buffers

use super::{Local, Share, TILE};
use crate::kernels::ahead;
use crate::kernels::elementwise::{self, Binary};
use crate::kernels::functions;
use crate::memory::{Shared, assert_inside};
use crate::program::{Source, Target};
use rnnc_graph::Function;
use rnnc_plan::{Repeat, dropout};

/// A map ready to run.
#[derive(Default)]
pub(crate) struct MapOp {
    pub slice_len: usize,
    pub first: usize,
    pub len: usize,
    pub loads: Vec<Source>,
    pub stores: Vec<Target>,
    pub steps: Vec<Step>,
    /// How many tiles it needs at once.
    pub tiles: usize,
}

/// Where an operand is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Argument {
    /// In a buffer: a load, by its place.
    Load(usize),
    /// Among the weights: the place of the map's first unit.
    Weight(usize),
    /// In a tile.
    Tile(usize),
    /// In a buffer, where this map stored it.
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

/// A step of a map. A tile it writes is none of those it reads; a place in a buffer may be what it reads, where the
/// compiler says that it can.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
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
        key: u64,
        probability: f64,
        first: usize,
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

/// Runs a map over a worker's rows and units.
pub(crate) fn map(shared: &Shared<'_>, map: &MapOp, share: &Share, local: &mut Local) {
    let units = share.units(map.slice_len);
    let (lo, hi) = (
        units.start.clamp(map.first, map.first + map.len) - map.first,
        units.end.clamp(map.first, map.first + map.len) - map.first,
    );
    if lo >= hi {
        return;
    }
    // Those of many frames lie one after the other, which the CPU sees by itself.
    let step = share.frames.len() == 1;
    for frame in 0..share.frames.len() {
        // In the order of time, since a row may read what the map wrote in the row before.
        let t = if share.backward { share.frames.end - 1 - frame } else { share.frames.start + frame };
        for b in share.streams.clone() {
            for (pointer, load) in local.pointers.iter_mut().zip(&map.loads) {
                *pointer = shared.source(load, t, b).cast_mut();
                if load.saved && step {
                    let row = (shared.streams * load.width) as isize;
                    let next = pointer.wrapping_offset(if share.backward { -row } else { row });
                    ahead::bring(next.wrapping_add(lo), hi - lo);
                }
            }
            for (pointer, store) in local.pointers[map.loads.len()..].iter_mut().zip(&map.stores) {
                *pointer = shared.target(store, t, b);
            }
            let mut first = lo;
            while first < hi {
                let len = TILE.min(hi - first);
                let row = Row {
                    shared,
                    map,
                    pointers: &local.pointers,
                    tiles: local.tiles.as_mut_ptr(),
                    t,
                    b,
                    first,
                    len,
                };
                for step in &map.steps {
                    row.step(step);
                }
                first += len;
            }
        }
    }
}

/// A dropout mask: of some units, from one on, in a frame of a stream.
pub(super) fn mask(
    shared: &Shared<'_>,
    key: u64,
    probability: f64,
    (t, b, unit): (usize, usize, usize),
    out: &mut [f32],
) {
    let kept = (1.0 / (1.0 - probability)) as f32;
    let Some(seed) = shared.dropout else { return out.fill(1.0) };
    let frame = shared.tracker.absolute(t);
    for (i, out) in out.iter_mut().enumerate() {
        let keeps = dropout::keeps(seed, key, frame, b as u64, (unit + i) as u64, probability);
        *out = if keeps { kept } else { 0.0 };
    }
}

/// A tile of a row.
pub(super) struct Row<'a> {
    pub shared: &'a Shared<'a>,
    pub map: &'a MapOp,
    pub pointers: &'a [*mut f32],
    pub tiles: *mut f32,
    pub t: usize,
    pub b: usize,
    /// The tile's first unit, counted from the map's.
    pub first: usize,
    pub len: usize,
}

impl Row<'_> {
    #[inline]
    fn place(&self, from: Argument) -> *const f32 {
        if cfg!(debug_assertions) {
            let (first, len) = (self.first as isize, self.len);
            match from {
                Argument::Load(at) => assert_inside(first, len, self.map.loads[at].len),
                Argument::Weight(at) => assert_inside(at as isize + first, len, self.shared.room.weights),
                Argument::Tile(at) => assert_inside(at as isize, 1, self.map.tiles),
                Argument::Store(_) => {}
            }
        }
        // SAFETY: loads, stores and weights are as long as the map; a tile has room for `len`.
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
                Slot::Tile(at) => assert_inside(at as isize, 1, self.map.tiles),
                Slot::Store(at) => assert_inside(self.first as isize, self.len, self.map.stores[at].len),
            }
        }
        // SAFETY: as above.
        unsafe {
            match to {
                Slot::Tile(at) => self.tiles.add(at * TILE),
                Slot::Store(at) => self.pointers[self.map.loads.len() + at].add(self.first),
            }
        }
    }

    #[inline]
    fn read(&self, from: Argument) -> &[f32] {
        self.shared.reads(self.place(from), self.len);
        // SAFETY: as above. What is written meanwhile is another tile, or a place that the step does not read, or, if it
        // does, reads by writing it in place.
        unsafe { std::slice::from_raw_parts(self.place(from), self.len) }
    }

    #[inline]
    #[allow(clippy::mut_from_ref)] // tiles and stores are told apart by number
    fn write(&self, to: Slot) -> &mut [f32] {
        self.shared.writes(self.write_place(to), self.len);
        // SAFETY: as above: no operand of the step is there, but for the one that it says it changes in place.
        unsafe { std::slice::from_raw_parts_mut(self.write_place(to), self.len) }
    }

    /// Whether an operand lies where the result goes.
    #[inline]
    fn there(&self, from: Argument, to: Slot) -> bool {
        std::ptr::eq(self.place(from), self.write_place(to))
    }

    #[inline]
    pub fn step(&self, step: &Step) {
        let isa = self.shared.isa;
        match *step {
            Step::Repeat { load, repeat, to } => {
                let (first, last) = (repeat.place(self.first), repeat.place(self.first + self.len - 1));
                assert_inside(last as isize, 1, self.map.loads[load].len);
                // SAFETY: the load has all places that the map's units read.
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
            Step::Fill { value, to } => self.write(to).fill(value),
            Step::Mask { key, probability, first, to } => {
                let place = (self.t, self.b, first + self.first);
                mask(self.shared, key, probability, place, self.write(to));
            }
            Step::Apply { function, from, to } => {
                if self.there(from, to) {
                    return functions::unary_in_place(isa, function, self.write(to));
                }
                functions::unary(isa, function, self.read(from), self.write(to))
            }
            Step::ApplyToSum { function, a, b, to } => {
                for (a, b) in [(a, b), (b, a)] {
                    if self.there(a, to) {
                        return functions::unary_of_sum_in_place(isa, function, self.write(to), self.read(b));
                    }
                }
                functions::unary_of_sum(isa, function, self.read(a), self.read(b), self.write(to))
            }
            Step::ApplyTimes { function, from, by, to } => {
                functions::unary_times(isa, function, self.read(from), self.read(by), self.write(to))
            }
            Step::Scale { factor, from, to } => {
                if self.there(from, to) {
                    return elementwise::scale_in_place(isa, factor, self.write(to));
                }
                elementwise::scale(isa, factor, self.read(from), self.write(to))
            }
            Step::Binary { op, a, b, to } => {
                if self.there(a, to) {
                    return elementwise::binary_in_place(isa, op, self.write(to), self.read(b));
                }
                if self.there(b, to) {
                    return elementwise::binary_in_place_right(isa, op, self.read(a), self.write(to));
                }
                elementwise::binary(isa, op, self.read(a), self.read(b), self.write(to))
            }
            Step::MulAdd { a, b, c, to } => {
                if self.there(c, to) {
                    return elementwise::mul_add_into(isa, self.read(a), self.read(b), self.write(to));
                }
                elementwise::mul_add_to(isa, self.read(a), self.read(b), self.read(c), self.write(to));
            }
            Step::Store { from, store } => {
                assert_inside(self.first as isize, self.len, self.map.stores[store].len);
                let from = self.read(from).as_ptr();
                // SAFETY: a store has room for the map's units, this worker's alone; it may be where the value was
                // loaded, so the copy minds overlap.
                unsafe {
                    let to = self.pointers[self.map.loads.len() + store].add(self.first);
                    self.shared.writes(to, self.len);
                    std::ptr::copy(from, to, self.len);
                }
            }
        }
    }
}
