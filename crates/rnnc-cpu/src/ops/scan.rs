//! Scans: affine recurrences over time, a tile of frames of few lanes at a time.
//!
//! All that does not depend on the state is computed for the frames of a tile at once, as are then, the states being known,
//! the values that do depend on it: only the states themselves go from frame to frame.
//!
//! Where lanes are fewer than workers, frames are dealt instead: see [`chunk`].

#![allow(unsafe_code)] // rows of the shared buffers

use super::map::{MapOp, Row};
use super::{Local, Share, TILE};
use crate::compile::{Source, Target};
use crate::kernels::recurrence::{Affine, LANES, LARGEST_ORDER, Line, Rows, What, advance};
use crate::memory::Shared;
use rnnc_plan::dropout;
use std::ops::Range;

/// The most lanes of a tile.
const WIDTH: usize = 64;

/// A recurrence ready to run.
pub(crate) struct ScanOp {
    /// The first unit of the track's layers, and how many.
    pub first: usize,
    pub len: usize,
    pub affine: Affine,
    /// What tiles are filled with: first what the coefficients need, so many.
    pub early: usize,
    pub feeds: Vec<Feed>,
    /// Computes the coefficients of all frames, and what follows from the states.
    pub before: MapOp,
    pub after: MapOp,
    /// Where each number of the state is read.
    pub slots: Vec<Source>,
    /// Where tiles are stored.
    pub stores: Vec<(Target, usize)>,
    /// How many tiles have a place of their own.
    pub tiles: usize,
}

/// A tile that comes from outside.
pub(crate) struct Feed {
    pub what: Fill,
    pub tile: usize,
}

/// With what a tile is filled.
pub(crate) enum Fill {
    /// Unit u of the track's layers reads place u / repeat; `None`: place u, counted from the recurrence's first.
    Read {
        from: Source,
        repeat: Option<usize>,
    },
    /// From this place on.
    Weight(usize),
    Mask {
        key: u64,
        probability: f64,
    },
}

impl ScanOp {
    /// How many tiles it needs, those of its maps included.
    pub fn all_tiles(&self) -> usize {
        self.tiles + self.before.tiles.max(self.after.tiles)
    }
}

/// A worker's share of a recurrence: its units, and its streams.
struct Lanes {
    units: Range<usize>,
    streams: Range<usize>,
}

impl Lanes {
    /// In blocks, each of which fits a tile's row: some units of some streams.
    fn blocks(&self) -> impl Iterator<Item = Lanes> + use<> {
        let (units, streams) = (self.units.clone(), self.streams.clone());
        let wide = units.len().clamp(1, WIDTH);
        let high = (WIDTH / wide).max(1);
        streams.clone().step_by(high).flat_map(move |b| {
            let streams = b..(b + high).min(streams.end);
            let end = units.end;
            units
                .clone()
                .step_by(wide)
                .map(move |u| Lanes { units: u..(u + wide).min(end), streams: streams.clone() })
        })
    }

    /// Lines of a row.
    fn lines(&self) -> usize {
        (self.units.len() * self.streams.len()).div_ceil(LANES)
    }
}

/// Runs a recurrence over a worker's frames, streams and units.
pub(crate) fn scan(shared: &Shared<'_>, op: &ScanOp, share: &Share, span: usize, local: &mut Local) {
    let Some(lanes) = lanes(op, share, span) else { return };
    // The longest tile, so that in each step all lanes' frames are next to each other.
    let widest = lanes.blocks().map(|block| block.lines()).max().unwrap_or(1);
    for frames in tiles(share, TILE / LANES / widest) {
        for block in lanes.blocks() {
            let tile = Tile { shared, op, lanes: block, frames: frames.clone(), backward: share.backward };
            let mut state = State::default();
            tile.read_state(&mut state);
            tile.feed(&op.feeds, local);
            tile.compute(&op.before, local);
            tile.advance(What::States, local, &mut state);
            tile.compute(&op.after, local);
            tile.store(local);
        }
    }
}

fn lanes(op: &ScanOp, share: &Share, span: usize) -> Option<Lanes> {
    let units = share.units(span);
    let units = units.start.clamp(op.first, op.first + op.len) - op.first
        ..units.end.clamp(op.first, op.first + op.len) - op.first;
    (!units.is_empty() && share.rows() > 0).then(|| Lanes { units, streams: share.streams.clone() })
}

/// A share's frames, so many at a time, in the order of its direction.
fn tiles(share: &Share, rows: usize) -> impl Iterator<Item = Range<usize>> + use<> {
    let (frames, backward) = (share.frames.clone(), share.backward);
    (0..frames.len()).step_by(rows.max(1)).map(move |n| {
        let end = (n + rows.max(1)).min(frames.len());
        if backward { frames.end - end..frames.end - n } else { frames.start + n..frames.start + end }
    })
}

/// The state of a tile's lanes: of each number, a row.
type State = [Line; LARGEST_ORDER * WIDTH / LANES];

/// Some frames of some lanes.
struct Tile<'a> {
    shared: &'a Shared<'a>,
    op: &'a ScanOp,
    /// Units counted from the recurrence's first.
    lanes: Lanes,
    frames: Range<usize>,
    backward: bool,
}

impl Tile<'_> {
    /// Numbers of a row.
    fn width(&self) -> usize {
        self.lanes.lines() * LANES
    }

    /// Where each row of a tile begins, and which frame and stream it is.
    fn rows(&self) -> impl Iterator<Item = (usize, usize, usize)> + use<> {
        let (width, units, streams) = (self.width(), self.lanes.units.len(), self.lanes.streams.clone());
        self.frames.clone().enumerate().flat_map(move |(row, t)| {
            streams.clone().enumerate().map(move |(n, b)| (row * width + n * units, t, b))
        })
    }

    fn feed(&self, feeds: &[Feed], local: &mut Local) {
        let tiles = local.tiles.as_mut_slice();
        let Lanes { units, .. } = &self.lanes;
        let len = units.len();
        for feed in feeds {
            let tile = &mut tiles[self.place(feed.tile)..][..TILE];
            for (at, t, b) in self.rows() {
                let to = &mut tile[at..at + len];
                match feed.what {
                    Fill::Read { ref from, repeat: None } => {
                        // SAFETY: the view has all of the recurrence's units.
                        let from = unsafe { self.shared.source(from, t, b).add(units.start) };
                        // SAFETY: as above.
                        copy(unsafe { std::slice::from_raw_parts(from, len) }, to);
                    }
                    Fill::Read { ref from, repeat: Some(repeat) } => {
                        let from = self.shared.source(from, t, b);
                        for (i, to) in to.iter_mut().enumerate() {
                            let unit = self.op.first + units.start + i;
                            // SAFETY: unit u of the layers reads place u / repeat, and there are as many.
                            *to = unsafe { from.add(unit / repeat).read() };
                        }
                    }
                    Fill::Weight(offset) => {
                        // SAFETY: a weight has all of the recurrence's units.
                        let from = unsafe { self.shared.weights.add(offset + units.start) };
                        // SAFETY: as above.
                        copy(unsafe { std::slice::from_raw_parts(from, len) }, to);
                    }
                    Fill::Mask { key, probability } => {
                        let unit = self.op.first + units.start;
                        dropout_mask(self.shared, key, probability, (t, b, unit), to);
                    }
                }
            }
        }
    }

    /// Where a tile begins in the worker's memory: behind those of the maps.
    fn place(&self, tile: usize) -> usize {
        (self.op.before.tiles.max(self.op.after.tiles) + tile) * TILE
    }

    /// Runs a map over the tile.
    fn compute(&self, map: &MapOp, local: &mut Local) {
        let tiles = local.tiles.as_mut_ptr();
        let places = map.loads.iter().map(|load| load.base).chain(map.stores.iter().map(|store| store.base));
        for (pointer, tile) in local.pointers.iter_mut().zip(places) {
            // SAFETY: the worker's memory has all of the recurrence's tiles.
            *pointer = unsafe { tiles.add(self.place(tile)) };
        }
        let row = Row {
            shared: self.shared,
            map,
            pointers: &local.pointers,
            tiles,
            t: 0,
            b: 0,
            first: 0,
            len: self.frames.len() * self.width(),
        };
        map.steps.iter().for_each(|step| row.step(step));
    }

    /// What the first frame reads of those before, from where they were stored.
    fn read_state(&self, state: &mut [Line]) {
        let frame = if self.backward { self.frames.end - 1 } else { self.frames.start };
        for slot in 0..self.op.slots.len() {
            for b in self.lanes.streams.clone() {
                let from = self.shared.source(&self.op.slots[slot], frame, b);
                self.set_state(state, slot, b, Some(from));
            }
        }
    }

    /// Puts values into a number of a stream's state; `None`: zeros.
    fn set_state(&self, state: &mut [Line], slot: usize, stream: usize, from: Option<*const f32>) {
        let (width, units) = (self.width(), &self.lanes.units);
        let at = slot * width + (stream - self.lanes.streams.start) * units.len();
        let to = &mut state.as_flattened_mut()[at..at + units.len()];
        match from {
            // SAFETY: a state's view, and its start, have all of the recurrence's units.
            Some(from) => copy(unsafe { std::slice::from_raw_parts(from.add(units.start), units.len()) }, to),
            None => to.fill(0.0),
        }
    }

    /// Takes a state through the frames. Where a read crosses, it begins anew: what is read of it later crosses too.
    fn advance(&self, what: What, local: &mut Local, state: &mut [Line]) {
        let (shared, op) = (self.shared, self.op);
        let tiles = &mut local.tiles.as_mut_lines()[self.place(0) / LANES..];
        let count = self.frames.len();
        let frame = |n: usize| if self.backward { self.frames.end - 1 - n } else { self.frames.start + n };
        let crosses = |n: usize| op.slots.iter().any(|slot| shared.may_cross(slot, frame(n)));
        let mut n = 0;
        while n < count {
            if crosses(n) {
                for (place, slot) in op.slots.iter().enumerate() {
                    for b in self.lanes.streams.clone().filter(|&b| shared.crosses(slot, frame(n), b)) {
                        let start = (what != What::Slopes).then(|| shared.start(slot));
                        self.set_state(state, place, b, start);
                    }
                }
            }
            let end = (n + 1..count).find(|&n| crosses(n)).unwrap_or(count);
            let range = if self.backward { count - end..count - n } else { n..end };
            let rows = Rows { tile: TILE / LANES, lines: self.lanes.lines(), range, backward: self.backward };
            advance(shared.isa, &op.affine, what, &rows, tiles, state);
            n = end;
        }
    }

    fn store(&self, local: &mut Local) {
        let tiles = local.tiles.as_mut_slice();
        let Lanes { units, .. } = &self.lanes;
        for &(ref to, tile) in &self.op.stores {
            let tile = &tiles[self.place(tile)..][..TILE];
            for (at, t, b) in self.rows() {
                // SAFETY: the view has all of the recurrence's units, and no other worker has these.
                let to = unsafe { self.shared.target(to, t, b).add(units.start) };
                // SAFETY: as above.
                copy(&tile[at..at + units.len()], unsafe { std::slice::from_raw_parts_mut(to, units.len()) });
            }
        }
    }
}

/// Rows are short: a line at a time, without a call.
#[inline(always)]
fn copy(from: &[f32], to: &mut [f32]) {
    let (from, rest) = from.as_chunks::<LANES>();
    let (to, rest_to) = to.as_chunks_mut::<LANES>();
    to.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
    rest_to.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
}

/// The mask of a row from some unit on.
fn dropout_mask(shared: &Shared<'_>, key: u64, probability: f64, at: (usize, usize, usize), to: &mut [f32]) {
    let kept = (1.0 / (1.0 - probability)) as f32;
    let Some(seed) = shared.dropout else { return to.fill(1.0) };
    let (t, b, unit) = at;
    let frame = shared.clock.absolute(t);
    for (i, to) in to.iter_mut().enumerate() {
        let keeps = dropout::keeps(seed, key, frame, b as u64, (unit + i) as u64, probability);
        *to = if keeps { kept } else { 0.0 };
    }
}
