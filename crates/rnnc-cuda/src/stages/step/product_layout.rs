//! How the products of one operation are laid out: which warp and lane has which rows and columns, and where weights and
//! sums stay.

use super::choice::{Choice, Way, units, weight_bytes};
use super::task::Work;
use rnnc_plan::{Product, View};
use std::mem;

/// Products of one operation into the same units, and how a block computes them.
///
/// A team of blocks has `units` units of each of the `layers` it writes: rows `r = layer * units + unit`. A block's warps
/// stand in `row_groups` times `column_warps`, and a warp's lanes in `row_lanes` times `column_lanes`: a lane has `thread_rows` rows
/// and, of the columns in chunks of four, a share, of which it has every `column_lanes`th. ([`Way::Tiles`] has four lanes along
/// the columns, and a lane 2 rows of each tile of 16.)
#[derive(Clone, Debug)]
pub struct ProductLayout {
    /// Where it stands: (phase, operation).
    pub place: (usize, usize),
    /// In the order of their columns. All write the same.
    pub parts: Vec<Product>,
    /// How it is computed.
    pub way: Way,
    /// Blocks of a team.
    pub team: usize,
    /// Bytes of a weight where it is not in registers.
    pub weight_bytes: usize,
    /// Streams.
    pub streams: usize,
    /// The product before it (a place in [`Layout::products`]) to whose result it adds, and which of that one's layers its
    /// first is.
    pub into: Option<(usize, usize)>,
    /// Layers side by side.
    pub layers: usize,
    /// Units of a team, of each layer.
    pub units: usize,
    /// The first chunk of each part, and one past the last.
    pub chunks: Vec<usize>,
    /// Warps along the rows.
    pub row_groups: usize,
    /// Warps along the columns.
    pub column_warps: usize,
    /// Lanes of a warp along the columns: a power of two.
    pub column_lanes: usize,
    /// Rows of a lane, a multiple of `fold`; of a warp's tiles, a multiple of 16.
    pub thread_rows: usize,
    /// Rows that are summed over a row's lanes together: a power of two.
    pub fold: usize,
    /// Chunks of a thread.
    pub thread_chunks: usize,
    /// Of those, how many stay in registers, and how many in shared memory; the rest is read from device memory in every
    /// frame.
    pub in_registers: usize,
    /// As above.
    pub in_shared: usize,
    /// Where its partial sums begin in shared memory.
    pub sums_at: usize,
    /// Where the sums of a team's blocks for this block's units do, in two buffers; none without a team.
    pub gathered_at: usize,
    /// How many rows of its sources are brought to shared memory together; 0: threads read them where they are.
    pub staged: usize,
    /// Where they are.
    pub staged_at: usize,
    /// Whether the product before it has brought them there: it has the same sources.
    pub shares: bool,
    /// Whether its sources come through shared memory, where the blocks that compute them put them: two buffers of all
    /// rows.
    pub exchanged: bool,
    /// Where they are.
    pub exchange_at: usize,
    /// Whether maps of the loop leave copies of all its sources in device memory, in the order in which they are read.
    pub copied: bool,
    /// Whether numbers of those copies say themselves that they are there, so that nobody signals.
    pub polled: bool,
    /// Where its weights begin in shared memory.
    pub weights_at: usize,
}

impl ProductLayout {
    /// Microseconds of its exchange on the grid, relative to those of an empty frame. Fitted to LSTMs of 512 to 1024 units and
    /// one stream on an H100.
    pub(super) fn exchange_time(&self, threads: usize, blocks: usize, polled: bool) -> f64 {
        match polled {
            // All blocks look at the same: the more of them, and the more a thread looks for, the longer a look takes.
            true => {
                let reads = self.streams * self.reads(threads);
                0.06 + 0.004 * blocks as f64 + 0.3 * reads.saturating_sub(1) as f64
            }
            // A warp that asks for several counters waits longer for each.
            false => 1.0 + 0.6 * (self.units_read(threads) - 1) as f64,
        }
    }

    pub(super) fn new(place: (usize, usize), product: Product, choice: Choice, work: Work) -> ProductLayout {
        let layers = if product.to.len < product.slice_len { 1 } else { product.to.len / product.slice_len };
        ProductLayout {
            place,
            parts: vec![product],
            way: choice.way,
            team: choice.team,
            weight_bytes: weight_bytes(work.precision),
            streams: work.rows,
            into: None,
            layers,
            units: units(product.slice_len, choice.blocks) * choice.team,
            chunks: Vec::new(),
            row_groups: 1,
            column_warps: 1,
            column_lanes: 1,
            thread_rows: 1,
            fold: 1,
            thread_chunks: 0,
            in_registers: 0,
            in_shared: 0,
            sums_at: 0,
            gathered_at: 0,
            staged: 0,
            staged_at: 0,
            shares: false,
            exchanged: false,
            exchange_at: 0,
            copied: false,
            polled: false,
            weights_at: 0,
        }
    }

    /// Chooses how warps and lanes stand: few shuffles want many row groups, few reads of the sources want one. `room` is how many
    /// partial sums there may be of a stream, if so few can do.
    pub(super) fn partition(&mut self, warps: usize, far: bool, room: usize) {
        let mut at = 0;
        self.chunks = vec![0];
        for part in &self.parts {
            at += part.from.view.len.div_ceil(4);
            self.chunks.push(at);
        }
        if self.way == Way::Tiles {
            return self.partition_tiles(at, warps, far);
        }
        let powers =
            |most: usize| std::iter::successors(Some(1), |&n| Some(2 * n)).take_while(move |&n| n <= most);
        // More lanes along the columns first: what costs the same has fewer reads.
        let stands = powers(warps).flat_map(|row_groups| powers(32).map(move |n| (row_groups, 32 / n)));
        let stood = stands.map(|(row_groups, column_lanes)| {
            let rows = self.rows().div_ceil(row_groups * 32 / column_lanes);
            let fold = rows.next_power_of_two().min(column_lanes);
            let (thread_rows, column_warps) = (rows.next_multiple_of(fold), warps / row_groups);
            let thread_chunks = at.div_ceil(column_lanes * column_warps);
            ProductLayout {
                row_groups,
                column_warps,
                column_lanes,
                thread_rows,
                fold,
                thread_chunks,
                chunks: Vec::new(),
                parts: Vec::new(),
                ..*self
            }
        });
        let cost = |p: &ProductLayout| {
            // In four cycles. A shuffle comes with choices and a sum, and those of a level wait for the level before; a read of four
            // numbers takes as many turns of shared memory as it fills, and more from further away; one sum after the other
            // takes four cycles each, so there must be some side by side.
            let levels = p.column_lanes.ilog2() as usize;
            let folds = p.fold - 1 + (p.column_lanes / p.fold).ilog2() as usize;
            let shuffles = 2 * p.thread_rows / p.fold * folds + 7 * levels;
            let reads = p.thread_chunks * (if far { 20 } else { 4 } * p.column_lanes).div_ceil(32);
            let products = p.thread_rows.max(4) * p.thread_chunks * 2;
            let sums = p.sums_stride();
            (if sums > room { sums } else { 0 }, shuffles + reads + products + 4 * p.column_warps)
        };
        if let Some(best) = stood.min_by_key(cost) {
            let (chunks, parts) = (mem::take(&mut self.chunks), mem::take(&mut self.parts));
            *self = ProductLayout { chunks, parts, ..best };
        }
    }

    /// The same with tensor cores: each group of rows reads the sources, and each part of the columns leaves sums.
    fn partition_tiles(&mut self, chunks: usize, warps: usize, far: bool) {
        self.column_lanes = 4;
        let mut best = usize::MAX;
        let mut row_groups = 1;
        while row_groups <= warps {
            let column_warps = warps / row_groups;
            let tiles = self.rows().div_ceil(16).div_ceil(row_groups);
            let thread_chunks = chunks.div_ceil(4 * column_warps * self.team);
            // In numbers that pass: from the second-level cache at a fifth of shared memory's speed.
            let reads = row_groups * column_warps * thread_chunks * 16 * if far { 5 } else { 1 };
            let sums = 2 * column_warps * row_groups * tiles * 16;
            let products = row_groups * tiles * column_warps * thread_chunks * 4;
            let cost = reads + sums + products;
            if cost < best {
                best = cost;
                (self.row_groups, self.column_warps) = (row_groups, column_warps);
                (self.thread_rows, self.thread_chunks) = (16 * tiles, thread_chunks);
            }
            row_groups *= 2;
        }
    }

    /// Rows of a team.
    pub fn rows(&self) -> usize {
        self.layers * self.units
    }

    /// The same with those that only fill up.
    pub fn padded_rows(&self) -> usize {
        self.row_groups * self.row_lanes() * self.thread_rows
    }

    /// Lanes of a warp that have rows of their own.
    pub fn row_lanes(&self) -> usize {
        match self.way {
            Way::Lanes => 32 / self.column_lanes,
            Way::Tiles => 1,
        }
    }

    /// What it writes.
    pub fn to(&self) -> View {
        self.parts[0].to
    }

    /// The size of the layers it writes.
    pub fn slice_len(&self) -> usize {
        self.parts[0].slice_len
    }

    /// Whether it writes a part of one layer only.
    pub fn partial(&self) -> bool {
        self.to().len < self.slice_len()
    }

    /// Which of its layers another's first is, if it writes all that the other does.
    pub(super) fn layer_of(&self, other: &ProductLayout) -> Option<usize> {
        let (own, to) = (self.to(), other.to());
        let inside = own.buffer == to.buffer
            && self.slice_len() == other.slice_len()
            && own.column <= to.column
            && to.column + to.len <= own.column + own.len;
        // Where the layers begin of which they write the first units.
        let begin = |p: &ProductLayout| p.to().column.checked_sub(p.parts[0].first);
        inside.then_some((begin(other)?.checked_sub(begin(self)?)?) / self.slice_len())
    }

    /// Whether what another product of its operation brings to shared memory, all rows at once, is what it needs there.
    pub(super) fn has_sources_of(&self, other: &ProductLayout, rows: usize) -> bool {
        let sources = |p: &ProductLayout| p.parts.iter().map(|part| part.from).collect::<Vec<_>>();
        self.place == other.place
            && self.padded_chunks() == other.padded_chunks()
            && [self, other].iter().all(|p| p.staged >= rows)
            && sources(self) == sources(other)
    }

    /// Chunks of all threads of a team: at least those of all parts.
    pub fn padded_chunks(&self) -> usize {
        self.team * self.column_warps * self.thread_chunks * self.column_lanes
    }

    /// Chunks from one row of sources in shared memory to the next.
    pub fn source_chunks(&self) -> usize {
        match self.way {
            Way::Lanes => self.padded_chunks(),
            // Eight lanes read two rows at a time: from different banks.
            Way::Tiles => self.padded_chunks().next_multiple_of(8) + 4,
        }
    }

    /// Rows of sources that a thread multiplies together.
    pub fn together(&self) -> usize {
        match self.way {
            Way::Lanes => (32 / self.thread_rows).clamp(1, 4).min(self.streams.max(1)),
            Way::Tiles => 8 * self.stream_tiles(),
        }
    }

    /// Tiles of rows of a warp.
    pub fn tiles(&self) -> usize {
        self.thread_rows / 16
    }

    /// Tiles of streams that are multiplied together.
    pub fn stream_tiles(&self) -> usize {
        // Their sums take registers beside the weights.
        (8 / self.tiles().max(1)).clamp(1, self.streams.div_ceil(8).clamp(1, 4))
    }

    /// Weights of a chunk that a thread has.
    fn chunk_weights(&self) -> usize {
        match self.way {
            Way::Lanes => self.thread_rows * 4,
            Way::Tiles => self.tiles() * 8,
        }
    }

    /// Bytes of a weight in registers, which have it as it is multiplied.
    pub fn register_bytes(&self) -> usize {
        match self.way {
            Way::Lanes => 4,
            Way::Tiles => self.weight_bytes,
        }
    }

    /// Registers that a chunk's weights take in a thread: a multiple of four.
    pub fn words(&self) -> usize {
        self.chunk_weights() * self.register_bytes() / 4
    }

    /// Numbers of memory that they take elsewhere.
    pub fn kept_words(&self) -> usize {
        self.chunk_weights() * self.weight_bytes / 4
    }

    /// Numbers of shared memory from one row's partial sums to the next.
    pub fn sums_stride(&self) -> usize {
        let numbers = self.column_warps * self.padded_rows();
        match self.way {
            Way::Lanes => numbers,
            // Lanes that write sums of different streams do so to different banks.
            Way::Tiles => numbers + 4,
        }
    }

    /// Numbers of what a team's blocks gather for one row of sources.
    pub fn gathered_stride(&self) -> usize {
        self.rows().next_multiple_of(4)
    }

    /// Numbers of device memory that the copies of a frame's sources take: rows, or tiles of 8 streams by 16 columns.
    pub fn copied_numbers(&self) -> usize {
        match (self.copied, self.way) {
            (false, _) => 0,
            (true, Way::Lanes) => self.streams * self.copied_chunks() * 4,
            (true, Way::Tiles) => self.streams.div_ceil(8) * self.column_tiles() * 32 * self.weight_bytes,
        }
    }

    /// Chunks of all parts.
    pub fn copied_chunks(&self) -> usize {
        self.chunks.last().copied().unwrap_or(0)
    }

    /// Reads of four numbers by which a thread brings a row of sources to shared memory.
    pub fn reads(&self, threads: usize) -> usize {
        self.copied_chunks().div_ceil(threads)
    }

    /// How many ranges of units a warp's reads of a row of sources are of: those of a thread are `threads` chunks apart.
    pub fn units_read(&self, threads: usize) -> usize {
        let slice_len = self.slice_len().max(1);
        let mut first: Vec<usize> =
            (0..self.reads(threads)).map(|read| read * threads * 4 % slice_len).collect();
        first.sort_unstable();
        first.dedup();
        first.len().max(1)
    }

    /// Tiles of 16 columns.
    pub fn column_tiles(&self) -> usize {
        self.copied_chunks().div_ceil(4)
    }

    /// Units of a block, of each layer.
    pub fn own_units(&self) -> usize {
        self.units / self.team
    }
}
