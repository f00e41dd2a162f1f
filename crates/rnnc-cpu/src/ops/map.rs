//! Fused elementwise programs: tile after tile of a row's units, step after step.

#![allow(unsafe_code)] // rows of the shared buffers

use super::{Local, Share, TILE};
use crate::compile::{Source, Target};
use crate::kernels::elementwise::{self, Binary};
use crate::memory::Shared;
use rnnc_graph::Function;
use rnnc_plan::dropout;

/// A map ready to run.
#[derive(Default)]
pub(crate) struct MapOp {
    pub span: usize,
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
}

/// A step of a map; `to` is a tile, and none of those it reads.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    Repeat { load: usize, repeat: usize, to: usize },
    Fill { value: f32, to: usize },
    Mask { key: u64, probability: f64, to: usize },
    Apply { function: Function, from: Argument, to: usize },
    Scale { factor: f32, from: Argument, to: usize },
    Binary { op: Binary, a: Argument, b: Argument, to: usize },
    MulAdd { a: Argument, b: Argument, c: Argument, to: usize },
    Store { from: Argument, store: usize },
}

/// Runs a map over a worker's rows and units.
pub(crate) fn map(shared: &Shared<'_>, map: &MapOp, share: &Share, local: &mut Local) {
    let units = share.units(map.span);
    let (lo, hi) = (
        units.start.clamp(map.first, map.first + map.len) - map.first,
        units.end.clamp(map.first, map.first + map.len) - map.first,
    );
    if lo >= hi {
        return;
    }
    for frame in 0..share.frames.len() {
        // In the order of time, since a row may read what the map wrote in the row before.
        let t = if share.backward { share.frames.end - 1 - frame } else { share.frames.start + frame };
        for b in share.streams.clone() {
            for (pointer, load) in local.pointers.iter_mut().zip(&map.loads) {
                *pointer = shared.source(load, t, b).cast_mut();
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

/// A tile of a row.
struct Row<'a> {
    shared: &'a Shared<'a>,
    map: &'a MapOp,
    pointers: &'a [*mut f32],
    tiles: *mut f32,
    t: usize,
    b: usize,
    /// The tile's first unit, counted from the map's.
    first: usize,
    len: usize,
}

impl Row<'_> {
    #[inline]
    fn read(&self, from: Argument) -> &[f32] {
        // SAFETY: loads and weights are as long as the map; a tile has room for `len`. What is written meanwhile is
        // another tile, or a store, which no step reads by itself.
        unsafe {
            let start = match from {
                Argument::Load(at) => self.pointers[at].add(self.first).cast_const(),
                Argument::Weight(at) => self.shared.weights.add(at + self.first),
                Argument::Tile(at) => self.tiles.add(at * TILE).cast_const(),
            };
            std::slice::from_raw_parts(start, self.len)
        }
    }

    #[inline]
    #[allow(clippy::mut_from_ref)] // tiles are told apart by number
    fn write(&self, to: usize) -> &mut [f32] {
        // SAFETY: the compiler gave this tile to no operand of the step that writes it.
        unsafe { std::slice::from_raw_parts_mut(self.tiles.add(to * TILE), self.len) }
    }

    #[inline]
    fn step(&self, step: &Step) {
        let isa = self.shared.isa;
        match *step {
            Step::Repeat { load, repeat, to } => {
                let source = self.pointers[load];
                let first = self.map.first + self.first;
                let out = self.write(to);
                if (first % repeat) + out.len() <= repeat {
                    // SAFETY: unit u of the layer reads place u / repeat, and the load has as many.
                    out.fill(unsafe { source.add(first / repeat).read() });
                } else {
                    for (i, out) in out.iter_mut().enumerate() {
                        // SAFETY: as above.
                        *out = unsafe { source.add((first + i) / repeat).read() };
                    }
                }
            }
            Step::Fill { value, to } => self.write(to).fill(value),
            Step::Mask { key, probability, to } => {
                let kept = (1.0 / (1.0 - probability)) as f32;
                let Some(seed) = self.shared.dropout else { return self.write(to).fill(1.0) };
                let frame = self.shared.clock.absolute(self.t);
                let unit = self.map.first + self.first;
                for (i, out) in self.write(to).iter_mut().enumerate() {
                    let keeps =
                        dropout::keeps(seed, key, frame, self.b as u64, (unit + i) as u64, probability);
                    *out = if keeps { kept } else { 0.0 };
                }
            }
            Step::Apply { function, from, to } => {
                elementwise::unary(isa, function, self.read(from), self.write(to))
            }
            Step::Scale { factor, from, to } => {
                elementwise::scale(isa, factor, self.read(from), self.write(to))
            }
            Step::Binary { op, a, b, to } => {
                elementwise::binary(isa, op, self.read(a), self.read(b), self.write(to))
            }
            Step::MulAdd { a, b, c, to } => {
                elementwise::mul_add_to(isa, self.read(a), self.read(b), self.read(c), self.write(to));
            }
            Step::Store { from, store } => {
                let from = self.read(from).as_ptr();
                // SAFETY: a store has room for the map's units, this worker's alone; it may be where the value was
                // loaded, so the copy minds overlap.
                unsafe {
                    let to = self.pointers[self.map.loads.len() + store].add(self.first);
                    std::ptr::copy(from, to, self.len);
                }
            }
        }
    }
}
