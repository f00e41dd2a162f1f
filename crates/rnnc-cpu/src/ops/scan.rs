//! Scans: affine recurrences over time, a tile of frames of few lanes at a time.
//!
//! All that does not depend on the state is computed for the frames of a tile at once, as are then, the states being known,
//! the values that do depend on it: only the states themselves go from frame to frame.
//!
//! So run scans whose lanes are fewer than workers, and whose frames are partitioned instead: see [`rnnc_plan::Chunks`].

#![allow(unsafe_code)] // rows of the shared buffers

use super::tile::{TileCode, TileRow, draw};
use super::{Local, Share, TILE};
use crate::kernels::isa::multiversion;
use crate::kernels::recurrence::{Affine, LANES, LARGEST_ORDER, Line, TileRows, What, advance};
use crate::memory::{Shared, assert_inside};
use crate::places::{Source, Target};
use rnnc_plan::{Mask, Repeat};
use std::ops::Range;

/// The most lanes of a tile.
const WIDTH: usize = 64;

/// Numbers of a tile: enough frames that beginning one is little beside. Maps go through it piece by piece.
pub(crate) const ROOM: usize = 4 * TILE;

/// A recurrence ready to run.
pub(crate) struct ScanOp {
    /// How many units of the task's layers.
    pub len: usize,
    pub affine: Affine,
    /// What tiles are filled with: first what the coefficients need, so many.
    pub early: usize,
    pub feeds: Vec<Feed>,
    /// Computes the coefficients of all frames, and what follows from the states.
    pub before: TileMap,
    pub after: TileMap,
    /// Where each number of the state is read.
    pub slots: Vec<Source>,
    /// Where tiles are stored.
    pub stores: Vec<(Target, usize)>,
    /// How many tiles have a place of their own.
    pub tiles: usize,
    /// Where, among all that is found, this recurrence's begins.
    pub found: usize,
}

/// A tile that comes from outside.
pub(crate) struct Feed {
    pub what: Fill,
    pub tile: usize,
}

/// With what a tile is filled.
pub(crate) enum Fill {
    /// Repeated, or as it is.
    Read { from: Source, repeat: Option<Repeat> },
    /// From this place on.
    Weight(usize),
    /// Units of a mask.
    Mask(Mask),
}

/// A program from tiles to tiles: where its loads and stores are.
pub(crate) struct TileMap {
    pub loads: Vec<usize>,
    pub stores: Vec<usize>,
    pub code: TileCode,
}

impl ScanOp {
    /// How many tiles of maps it needs, with room for its own.
    pub fn all_tiles(&self) -> usize {
        self.tiles * (ROOM / TILE) + self.before.code.tiles.max(self.after.code.tiles)
    }

    /// Numbers of what all chunks but the first and the last make of the state.
    pub fn found_len(&self, streams: usize, workers: usize) -> usize {
        self.blocks(0..streams).count() * self.form_len() * workers.saturating_sub(1)
    }

    /// Numbers of what one chunk makes of a block's state: what a state of zero leads to, and where each of its numbers does.
    fn form_len(&self) -> usize {
        let order = self.affine.order();
        (1 + order) * order * WIDTH
    }

    /// Lanes in blocks, each of which fits a row of a tile: some units of some streams.
    fn blocks(&self, streams: Range<usize>) -> impl Iterator<Item = Lanes> + use<> {
        let len = self.len;
        let high = (WIDTH / len.max(1)).max(1);
        let end = streams.end;
        streams.step_by(high).flat_map(move |b| {
            let streams = b..(b + high).min(end);
            (0..len)
                .step_by(WIDTH)
                .map(move |u| Lanes { units: u..(u + WIDTH).min(len), streams: streams.clone() })
        })
    }

    /// The rows of a tile: as many for all lanes, so that their frames are next to each other.
    fn rows(&self, streams: &Range<usize>) -> usize {
        let widest = self.blocks(streams.clone()).map(|lanes| lanes.lines()).max().unwrap_or(1);
        ROOM / LANES / widest.max(1)
    }
}

/// Some units, counted from the recurrence's first, of some streams.
struct Lanes {
    units: Range<usize>,
    streams: Range<usize>,
}

impl Lanes {
    /// Lines of a row.
    fn lines(&self) -> usize {
        (self.units.len() * self.streams.len()).div_ceil(LANES)
    }
}

/// Runs a chunk. `after` is its number and the share of chunk 1, unless the state before it stands in the buffers.
pub(crate) fn run(
    shared: &Shared<'_>,
    op: &ScanOp,
    share: &Share,
    after: Option<(usize, &Share)>,
    local: &mut Local,
) {
    let mut after = after;
    for frames in tiles(share, op.rows(&share.streams)) {
        for (place, lanes) in op.blocks(share.streams.clone()).enumerate() {
            let tile = FrameTile { shared, op, lanes, frames: frames.clone(), backward: share.backward };
            let mut state = State::default();
            match after {
                None => tile.read_state(&tile.frames, &mut state),
                Some((chunk, known)) => {
                    tile.read_state(&known.frames, &mut state);
                    (1..chunk).for_each(|before| tile.pass_on(before, place, &mut state));
                }
            }
            tile.feed(&op.feeds, local);
            tile.compute(&op.before, local);
            tile.advance(What::States, local, &mut state);
            tile.compute(&op.after, local);
            tile.store(local);
        }
        after = None;
    }
}

/// Finds what a chunk makes of the state before it.
pub(crate) fn find(shared: &Shared<'_>, op: &ScanOp, share: &Share, chunk: usize, local: &mut Local) {
    let order = op.affine.order();
    let mut begun = false;
    let none = share.frames.start..share.frames.start;
    // At least once, for the function of a chunk without frames.
    for frames in tiles(share, op.rows(&share.streams)).chain([none]) {
        for (place, lanes) in op.blocks(share.streams.clone()).enumerate() {
            let tile = FrameTile { shared, op, lanes, frames: frames.clone(), backward: share.backward };
            let form = tile.form(chunk, place);
            let size = order * tile.lanes.lines();
            // SAFETY: this chunk's part is this worker's alone until all synchronize.
            let form = unsafe { std::slice::from_raw_parts_mut(form.cast::<Line>(), (1 + order) * size) };
            shared.writes(form.as_mut_ptr().cast(), form.len() * LANES);
            if !begun {
                form.fill([0.0; LANES]);
                for slot in 0..order {
                    form[(1 + slot) * size + slot * tile.lanes.lines()..][..tile.lanes.lines()]
                        .fill([1.0; LANES]);
                }
            }
            if frames.is_empty() {
                continue;
            }
            tile.feed(&op.feeds[..op.early], local);
            tile.compute(&op.before, local);
            for (n, part) in form.chunks_exact_mut(size).enumerate() {
                tile.advance(if n == 0 { What::Rest } else { What::Coefficients }, local, part);
            }
        }
        begun = true;
    }
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
struct FrameTile<'a> {
    shared: &'a Shared<'a>,
    op: &'a ScanOp,
    /// Units counted from the recurrence's first.
    lanes: Lanes,
    frames: Range<usize>,
    backward: bool,
}

impl FrameTile<'_> {
    /// Numbers of a row.
    fn width(&self) -> usize {
        self.lanes.lines() * LANES
    }

    /// Calls `each` with the place of each row in a tile, and with its frame and stream.
    #[inline(always)]
    fn each_row(&self, mut each: impl FnMut(usize, usize, usize)) {
        let (width, units) = (self.width(), self.lanes.units.len());
        for (row, t) in self.frames.clone().enumerate() {
            for (n, b) in self.lanes.streams.clone().enumerate() {
                each(row * width + n * units, t, b);
            }
        }
    }

    fn feed(&self, feeds: &[Feed], local: &mut Local) {
        let tiles = local.tiles.as_mut_slice();
        let (shared, units) = (self.shared, &self.lanes.units);
        let len = units.len();
        for feed in feeds {
            let tile = &mut tiles[self.place(feed.tile)..][..ROOM];
            match feed.what {
                Fill::Read { ref from, repeat: None } => {
                    assert_inside(units.start as isize, len, from.len);
                    if from.delay != 0 && self.frames.clone().any(|t| shared.may_cross(from, t)) {
                        self.each_row(|at, t, b| {
                            // SAFETY: the view has all of the recurrence's units.
                            let from = unsafe {
                                let from = shared.source(from, t, b).add(units.start);
                                std::slice::from_raw_parts(from, len)
                            };
                            shared.reads(from.as_ptr(), len);
                            tile[at..at + len].copy_from_slice(from);
                        });
                        continue;
                    }
                    for (n, b) in self.lanes.streams.clone().enumerate() {
                        let rows = shared.uncrossed(from, self.frames.start, b);
                        // SAFETY: the view has all of the recurrence's units.
                        let rows = unsafe { rows.add(units.start) };
                        let from = (rows, shared.streams * from.width);
                        let to = (tile[n * len..].as_mut_ptr(), self.width());
                        (0..self.frames.len()).for_each(|t| shared.reads(rows.wrapping_add(t * from.1), len));
                        copy_rows(shared.isa, from, to, self.frames.len(), len);
                    }
                }
                Fill::Read { ref from, repeat: Some(repeat) } => self.each_row(|at, t, b| {
                    assert_inside(repeat.place(units.end - 1) as isize, 1, from.len);
                    let from = shared.source(from, t, b);
                    // SAFETY: the view has all places that the recurrence's units read.
                    let from = unsafe { std::slice::from_raw_parts(from, repeat.place(units.end - 1) + 1) };
                    let read = &from[repeat.place(units.start)..];
                    shared.reads(read.as_ptr(), read.len());
                    for (to, unit) in tile[at..at + len].iter_mut().zip(units.clone()) {
                        *to = from[repeat.place(unit)];
                    }
                }),
                Fill::Weight(offset) => {
                    assert_inside((offset + units.start) as isize, len, shared.room.weights);
                    // SAFETY: a weight has all of the recurrence's units.
                    let from =
                        unsafe { std::slice::from_raw_parts(shared.weights.add(offset + units.start), len) };
                    self.each_row(|at, _, _| tile[at..at + len].copy_from_slice(from));
                }
                Fill::Mask(ref mask) => self.each_row(|at, t, b| {
                    draw(shared, mask, (t, b, units.start), &mut tile[at..at + len]);
                }),
            }
        }
    }

    /// Where a tile begins in the worker's memory: behind those of the maps.
    fn place(&self, tile: usize) -> usize {
        self.op.before.code.tiles.max(self.op.after.code.tiles) * TILE + tile * ROOM
    }

    /// Runs a program over the tile.
    fn compute(&self, map: &TileMap, local: &mut Local) {
        let tiles = local.tiles.as_mut_ptr();
        for (pointer, &tile) in local.pointers.iter_mut().zip(map.loads.iter().chain(&map.stores)) {
            // SAFETY: the worker's memory has all of the recurrence's tiles.
            *pointer = unsafe { tiles.add(self.place(tile)) };
        }
        let all = self.frames.len() * self.width();
        for first in (0..all).step_by(TILE) {
            let (shared, pointers, len) = (self.shared, &local.pointers, TILE.min(all - first));
            TileRow { shared, code: &map.code, pointers, tiles, t: 0, b: 0, first, len }.run();
        }
    }

    /// What the first of some frames reads of those before, from where they were stored.
    fn read_state(&self, frames: &Range<usize>, state: &mut [Line]) {
        let frame = if self.backward { frames.end.saturating_sub(1) } else { frames.start };
        for slot in 0..self.op.slots.len() {
            assert_inside(self.lanes.units.start as isize, self.lanes.units.len(), self.op.slots[slot].len);
            for b in self.lanes.streams.clone() {
                let from = self.shared.source(&self.op.slots[slot], frame, b);
                self.set_state(state, slot, b, Some(from));
            }
        }
    }

    /// Where what a chunk makes of these lanes' state begins; `place` is that of the block.
    fn form(&self, chunk: usize, place: usize) -> *mut f32 {
        let blocks = self.op.blocks(0..self.shared.streams).count();
        // SAFETY: the compiler made room for all blocks of chunks 1 to one less than there are workers.
        unsafe { self.shared.found.add(self.op.found + ((chunk - 1) * blocks + place) * self.op.form_len()) }
    }

    /// Makes of the state before a chunk the one after it.
    fn pass_on(&self, chunk: usize, place: usize, state: &mut State) {
        let order = self.op.affine.order();
        let size = order * self.width();
        // SAFETY: all have met since it was found, and nobody changes it before they synchronize again.
        let form = unsafe { std::slice::from_raw_parts(self.form(chunk, place), (1 + order) * size) };
        self.shared.reads(form.as_ptr(), form.len());
        let (rest, coefficients) = form.split_at(size);
        let mut next = State::default();
        let to = &mut next.as_flattened_mut()[..size];
        to.copy_from_slice(rest);
        for (coefficients, old) in
            coefficients.chunks_exact(size).zip(state.as_flattened().chunks_exact(self.width()))
        {
            for (to, coefficients) in
                to.chunks_exact_mut(self.width()).zip(coefficients.chunks_exact(self.width()))
            {
                for ((to, coefficient), old) in to.iter_mut().zip(coefficients).zip(old) {
                    // What a coefficient has grown to does not matter to a state of zero.
                    *to += if *old == 0.0 { 0.0 } else { coefficient * old };
                }
            }
        }
        *state = next;
    }

    /// Puts values into a number of a stream's state; `None`: zeros.
    fn set_state(&self, state: &mut [Line], slot: usize, stream: usize, from: Option<*const f32>) {
        let (width, units) = (self.width(), &self.lanes.units);
        let at = slot * width + (stream - self.lanes.streams.start) * units.len();
        let to = &mut state.as_flattened_mut()[at..at + units.len()];
        match from {
            Some(from) => {
                // SAFETY: a state's view, and its start, have all of the recurrence's units.
                let from = unsafe { std::slice::from_raw_parts(from.add(units.start), units.len()) };
                self.shared.reads(from.as_ptr(), from.len());
                to.copy_from_slice(from);
            }
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
                        let start = (what != What::Coefficients).then(|| shared.start(slot));
                        self.set_state(state, place, b, start);
                    }
                }
            }
            let end = (n + 1..count).find(|&n| crosses(n)).unwrap_or(count);
            let range = if self.backward { count - end..count - n } else { n..end };
            let rows =
                TileRows { tile: ROOM / LANES, lines: self.lanes.lines(), range, backward: self.backward };
            advance(shared.isa, &op.affine, what, &rows, tiles, state);
            n = end;
        }
    }

    fn store(&self, local: &mut Local) {
        let tiles = local.tiles.as_mut_slice();
        let (shared, units) = (self.shared, &self.lanes.units);
        for &(ref to, tile) in &self.op.stores {
            assert_inside(units.start as isize, units.len(), to.len);
            let tile = &tiles[self.place(tile)..][..ROOM];
            for (n, b) in self.lanes.streams.clone().enumerate() {
                let from = (tile[n * units.len()..].as_ptr(), self.width());
                // SAFETY: the view has all of the recurrence's units, and no other worker has these.
                let rows = unsafe { shared.target(to, self.frames.start, b).add(units.start) };
                let to = (rows, shared.streams * to.width);
                (0..self.frames.len()).for_each(|t| shared.writes(rows.wrapping_add(t * to.1), units.len()));
                copy_rows(shared.isa, from, to, self.frames.len(), units.len());
            }
        }
    }
}

multiversion! {
    /// Copies rows of `len` numbers, given where the first begins and how far it is to the next.
    fn copy_rows(from: (*const f32, usize), to: (*mut f32, usize), rows: usize, len: usize) = copy_rows_body;
}

#[inline(always)]
fn copy_rows_body<const FMA: bool>(
    from: (*const f32, usize),
    to: (*mut f32, usize),
    rows: usize,
    len: usize,
) {
    for row in 0..rows {
        // SAFETY: the caller has so many rows, here and there.
        let (from, to) = unsafe { (from.0.add(row * from.1), to.0.add(row * to.1)) };
        // Rows are short: a line at a time, without a call.
        for line in 0..len / LANES {
            // SAFETY: as above; the rows that are read are none of those written.
            unsafe {
                to.add(line * LANES).cast::<Line>().write(from.add(line * LANES).cast::<Line>().read())
            };
        }
        for n in len / LANES * LANES..len {
            // SAFETY: as above.
            unsafe { to.add(n).write(from.add(n).read()) };
        }
    }
}
