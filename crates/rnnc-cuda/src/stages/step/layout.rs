//! How a loop is laid out on a device: its tier, which block has which units, which thread which weights, and where
//! those stay while the loop runs. All of it follows from the plan and the device alone.

use super::exchange;
use crate::device::Device;
use rnnc_plan::{Op, Precision, Product, Setup, Track, View};
use serde::Serialize;

/// What the blocks of a loop share, and so how they exchange what each other needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Tier {
    /// One block has all units.
    Block,
    /// A cluster of blocks, which has a barrier in hardware.
    Cluster,
    /// Blocks on all multiprocessors, which count in device memory.
    Grid,
}

/// How the threads of a block multiply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// A lane multiplies rows of weights with some columns of a stream; the lanes' sums are added up. For few streams.
    Lanes,
    /// Tensor cores multiply tiles: 16 rows by 16 columns of weights, with 8 streams.
    Tiles,
}

/// What is chosen about a loop, of which all else follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// What its blocks share.
    pub tier: Tier,
    /// Blocks.
    pub blocks: usize,
    /// Blocks that share rows: each multiplies a part of the columns for all of them. Such a team is a cluster.
    pub team: usize,
    /// How its threads multiply.
    pub way: Way,
}

/// A loop (one component, one direction) on a device.
#[derive(Clone, Debug)]
pub struct Layout {
    /// What was chosen: the next three follow.
    pub choice: Choice,
    /// Its tier.
    pub tier: Tier,
    /// Its blocks.
    pub blocks: usize,
    /// Blocks of a team.
    pub team: usize,
    /// How coarsely products may round.
    pub precision: Precision,
    /// Threads of a block.
    pub threads: usize,
    /// Rows (frames of a block of the schedule, times streams) that run side by side.
    pub rows: usize,
    /// Streams.
    pub streams: usize,
    /// Its products.
    pub products: Vec<ProductLayout>,
    /// Numbers of shared memory for partial sums and results.
    pub sums: usize,
    /// Those before the weights.
    pub fixed: usize,
}

/// Products of one operation into the same units, and how a block computes them.
///
/// A team of blocks has `units` units of each of the `layers` it writes: rows `r = layer * units + unit`. A block's warps
/// stand in `row_groups` times `column_warps`; a warp has `thread_rows` rows and, of the columns in chunks of four, a share,
/// of which a lane has every 32nd ([`Way::Lanes`], for all rows) or every fourth ([`Way::Tiles`], for 2 of 16 rows).
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
    /// Bytes of a weight.
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
    /// Rows of a warp: a multiple of `fold`, or of 16.
    pub thread_rows: usize,
    /// Rows that are summed over lanes together: a power of two.
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
    /// Whether its sources come through shared memory, where the blocks that compute them put them: two buffers of all
    /// rows.
    pub exchanged: bool,
    /// Where they are.
    pub exchange_at: usize,
    /// Whether maps of the loop leave copies of all its sources in device memory, in the order in which tensor cores read
    /// them.
    pub copied: bool,
    /// Where its weights begin in shared memory.
    pub weights_at: usize,
}

impl ProductLayout {
    /// Rows of a team.
    pub fn rows(&self) -> usize {
        self.layers * self.units
    }

    /// The same with those that only fill up.
    pub fn padded_rows(&self) -> usize {
        self.row_groups * self.thread_rows
    }

    /// What it writes.
    pub fn to(&self) -> View {
        self.parts[0].to
    }

    /// The size of the layers it writes.
    pub fn span(&self) -> usize {
        self.parts[0].span
    }

    /// Whether it writes a part of one layer only.
    pub fn partial(&self) -> bool {
        self.to().len < self.span()
    }

    /// Which of its layers another's first is, if it writes all that the other does.
    fn layer_of(&self, other: &ProductLayout) -> Option<usize> {
        let (own, to) = (self.to(), other.to());
        let inside = own.buffer == to.buffer
            && self.span() == other.span()
            && own.column <= to.column
            && to.column + to.len <= own.column + own.len;
        // Where the layers begin of which they write the first units.
        let begin = |p: &ProductLayout| p.to().column.checked_sub(p.parts[0].first);
        inside.then_some((begin(other)?.checked_sub(begin(self)?)?) / self.span())
    }

    /// Lanes side by side along the columns.
    pub fn column_lanes(&self) -> usize {
        match self.way {
            Way::Lanes => 32,
            Way::Tiles => 4,
        }
    }

    /// Chunks of all threads of a team: at least those of all parts.
    pub fn padded_chunks(&self) -> usize {
        self.team * self.column_warps * self.thread_chunks * self.column_lanes()
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
            Way::Lanes => (32 / self.thread_rows).clamp(1, 4),
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

    /// Registers that a chunk's weights take in a thread: a multiple of four.
    pub fn words(&self) -> usize {
        match self.way {
            Way::Lanes => self.thread_rows * 4,
            Way::Tiles => self.tiles() * 2 * self.weight_bytes,
        }
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

    /// Numbers of device memory that the copies of a frame's sources take: of tiles of 8 streams by 16 columns.
    pub fn copied_numbers(&self) -> usize {
        match self.copied {
            true => self.streams.div_ceil(8) * self.column_tiles() * 32 * self.weight_bytes,
            false => 0,
        }
    }

    /// Tiles of 16 columns.
    pub fn column_tiles(&self) -> usize {
        self.chunks.last().map_or(0, |chunks| chunks.div_ceil(4))
    }

    /// Units of a block, of each layer.
    pub fn own_units(&self) -> usize {
        self.units / self.team
    }
}

/// The most products that are one: which of their reads cross are the bits of a number.
const PARTS: usize = 32;

/// Units that a block has of a layer.
pub fn units(span: usize, blocks: usize) -> usize {
    span.div_ceil(blocks).max(1)
}

impl Layout {
    /// Chooses the layout of a track on at most `most` blocks.
    pub fn choose(track: &Track, setup: Setup, device: &Device, most: usize) -> Layout {
        let work = Work::of(track, setup);
        let layouts = candidates(track, work.rows, device, most);
        let layouts = layouts.into_iter().map(|choice| Layout::with(track, work, device, choice));
        // Sums of many streams may not fit.
        let fits = |layout: &Layout| layout.shared_bytes() <= device.shared_bytes;
        let time = |layout: &Layout| layout.frame_time(work, device);
        let best = layouts.filter(fits).min_by(|a, b| time(a).total_cmp(&time(b)));
        let one = Choice { tier: Tier::Block, blocks: 1, team: 1, way: Way::Lanes };
        best.unwrap_or_else(|| Layout::with(track, work, device, one))
    }

    /// The layout that follows from a choice.
    pub fn with(track: &Track, work: Work, device: &Device, choice: Choice) -> Layout {
        let Choice { tier, blocks, team, way } = choice;
        let Work { rows, precision, .. } = work;
        let threads = device.loop_threads;
        let mut ops = track.phases.iter().flat_map(|p| &p.ops);
        // Sums over a block's threads take the first numbers.
        let sums = if ops.any(|placed| matches!(placed.op, Op::Vector(_))) { 32 } else { 0 };
        let mut layout = Layout {
            choice,
            tier,
            blocks,
            team,
            precision,
            threads,
            rows,
            streams: work.streams,
            products: Vec::new(),
            sums,
            fixed: 0,
        };
        for (place, product) in products(track) {
            match layout.products.last_mut() {
                // A later product into the same units adds to the one before.
                Some(last) if last.place == place && last.to() == product.to && last.parts.len() < PARTS => {
                    last.parts.push(*product);
                }
                _ => {
                    let next = ProductLayout::new(place, *product, choice, work);
                    let into = layout.result_for(&next);
                    layout.products.push(ProductLayout { into, ..next });
                }
            }
        }
        // Tiles need more registers beside the weights.
        let most = if way == Way::Tiles { 128 } else { 144 };
        let mut registers = (device.registers / threads / 2).min(most);
        // A warp may be a step ahead of the one that sums, if that alone signals.
        let buffers = layout.buffers();
        let stages = layout.stages(track);
        for product in &mut layout.products {
            product.deal(threads / 32, tier == Tier::Grid && !stages);
            let weights = product.words();
            product.in_registers = product.thread_chunks.min(registers / weights);
            registers -= product.in_registers * weights;
            product.sums_at = layout.sums;
            layout.sums += buffers * rows * product.sums_stride();
            if team > 1 {
                product.gathered_at = layout.sums;
                layout.sums += 2 * rows * product.gathered_stride();
            }
        }
        // Beside partial sums, results and the exchange, what is left of shared memory holds weights.
        let results: usize = layout.results();
        let mut at = (layout.sums + results).next_multiple_of(4);
        let room = device.shared_bytes / 4;
        if tier != Tier::Grid && is_in_step(track) {
            let stored = exchange::stored(track);
            for product in &mut layout.products {
                let numbers = 2 * rows.next_multiple_of(product.together()) * product.source_chunks() * 4;
                let known = |p: &Product| exchange::lag(track, &stored, p).is_some();
                if at + numbers <= room && product.parts.iter().all(known) {
                    product.exchanged = true;
                    product.exchange_at = at;
                    at += numbers;
                }
            }
        }
        if way == Way::Tiles && tier == Tier::Grid {
            let stored = exchange::stored(track);
            let known =
                |p: &Product| p.from.view.len.is_multiple_of(4) && exchange::lag(track, &stored, p).is_some();
            for product in &mut layout.products {
                product.copied = product.parts.iter().all(known);
            }
        }
        if stages {
            // Products take turns with the same room.
            let row = |p: &ProductLayout| p.padded_chunks() * 4;
            let widest = layout.products.iter().map(row).max().unwrap_or(0);
            for product in layout.products.iter_mut().filter(|p| !p.exchanged) {
                let together = product.together();
                let fit = room.saturating_sub(at) / row(product).max(1) / together * together;
                product.staged = fit.min(rows.next_multiple_of(together));
                product.staged_at = at;
            }
            let most = layout.products.iter().map(|p| p.staged * row(p)).max().unwrap_or(0);
            at += most.max(if most > 0 { widest } else { 0 });
        }
        layout.fixed = at;
        for product in &mut layout.products {
            let chunk = product.words() * threads;
            let left = product.thread_chunks - product.in_registers;
            product.in_shared = left.min(room.saturating_sub(at) / chunk);
            product.weights_at = at;
            at += product.in_shared * chunk;
        }
        layout
    }

    /// Where [`ProductLayout::into`] says a product adds: to the last result of its operation that has any of its units, if
    /// that has all of them. Otherwise it adds to what lies in memory.
    fn result_for(&self, next: &ProductLayout) -> Option<(usize, usize)> {
        let results = self.products.iter().enumerate().rev();
        let mut results = results.filter(|(_, p)| p.place == next.place && p.into.is_none());
        let (number, last) = results.find(|(_, p)| exchange::overlap(p.to(), next.to()))?;
        Some((number, last.layer_of(next)?)).filter(|_| next.parts[0].accumulate)
    }

    /// Whether a later product of the same operation adds in memory to what this one leaves there.
    pub fn is_added_to_in_memory(&self, product: usize) -> bool {
        let own = &self.products[product];
        let later = self.products[product + 1..].iter().filter(|p| p.place == own.place);
        later.into_iter().any(|p| p.into.is_none() && exchange::overlap(p.to(), own.to()))
    }

    /// Buffers of partial sums.
    pub fn buffers(&self) -> usize {
        if self.rows == 1 { 2 } else { 1 }
    }

    /// Whether sources are brought to shared memory: where all rows of a step are of its one frame, so that warps with
    /// different rows read them from there.
    fn stages(&self, track: &Track) -> bool {
        is_in_step(track) && self.products.iter().all(|p| p.way == Way::Lanes)
    }

    /// Numbers of shared memory for the results of products, until maps read them: for each warp, those of one item.
    pub fn results(&self) -> usize {
        if self.packs() {
            return 0;
        }
        self.products.iter().map(|p| p.layers * 32).sum::<usize>() * (self.threads / 32)
    }

    /// Bytes of shared memory of a block.
    pub fn shared_bytes(&self) -> usize {
        let weights = self.products.iter().map(|p| p.in_shared * p.words() * self.threads);
        4 * (self.fixed + weights.sum::<usize>())
    }

    /// Numbers of a block's weights that are read from device memory in every step.
    pub fn streamed(&self) -> usize {
        self.products.iter().map(|p| self.streamed_of(p)).sum()
    }

    /// The same of one product.
    pub fn streamed_of(&self, p: &ProductLayout) -> usize {
        (p.thread_chunks - p.in_registers - p.in_shared) * p.words() * self.threads
    }

    /// Numbers of device memory for copies of sources: those of a window's frames, and of one before and one behind.
    pub fn copied(&self, window: usize) -> usize {
        self.products.iter().map(|p| p.copied_numbers() * (window + 2)).sum()
    }

    /// Units and streams of an item, which are a warp's: the same for all operations on layers of that size, so that a unit
    /// is always the same thread's. With few streams, the lanes hold units of all layers that one of its products writes.
    pub fn item(&self, span: usize) -> (usize, usize) {
        if self.packs() {
            let units = units(span, self.blocks).next_power_of_two().min(32);
            return (units, 32 / units);
        }
        let layers = self.products.iter().filter(|p| p.span() == span).map(|p| p.layers).max().unwrap_or(1);
        let most = (32 / layers.min(32)).max(1);
        let most = if most.is_power_of_two() { most } else { most.next_power_of_two() / 2 };
        (most.min(units(span, self.blocks).next_power_of_two()), 1)
    }

    /// Whether a lane sums up what it needs itself: where streams fill a warp.
    pub fn packs(&self) -> bool {
        self.streams >= 4
    }
}

impl ProductLayout {
    fn new(place: (usize, usize), product: Product, choice: Choice, work: Work) -> ProductLayout {
        let layers = if product.to.len < product.span { 1 } else { product.to.len / product.span };
        ProductLayout {
            place,
            parts: vec![product],
            way: choice.way,
            team: choice.team,
            weight_bytes: work.weight_bytes(choice.way),
            streams: work.rows,
            into: None,
            layers,
            units: units(product.span, choice.blocks) * choice.team,
            chunks: Vec::new(),
            row_groups: 1,
            column_warps: 1,
            thread_rows: 1,
            fold: 1,
            thread_chunks: 0,
            in_registers: 0,
            in_shared: 0,
            sums_at: 0,
            gathered_at: 0,
            staged: 0,
            staged_at: 0,
            exchanged: false,
            exchange_at: 0,
            copied: false,
            weights_at: 0,
        }
    }

    /// Chooses how warps stand: few shuffles want many row groups, few reads of the sources want one.
    fn deal(&mut self, warps: usize, far: bool) {
        let mut at = 0;
        self.chunks = vec![0];
        for part in &self.parts {
            at += part.from.view.len.div_ceil(4);
            self.chunks.push(at);
        }
        if self.way == Way::Tiles {
            return self.deal_tiles(at, warps, far);
        }
        let mut best: Option<(usize, usize, usize, usize, usize, usize)> = None;
        let mut row_groups = 1;
        while row_groups <= warps {
            let rows = self.rows().div_ceil(row_groups);
            let fold = rows.next_power_of_two().min(32);
            let thread_rows = rows.next_multiple_of(fold);
            let column_warps = warps / row_groups;
            let chunks = at.div_ceil(32 * column_warps);
            // A shuffle comes with choices and a sum; a read of four numbers by a warp takes four turns of shared memory,
            // and more from further away.
            let shuffles = 8 * thread_rows / fold * (fold - 1 + (32 / fold).ilog2() as usize);
            let reads = chunks * if far { 20 } else { 4 };
            let products = thread_rows * chunks * 2;
            let cost = shuffles + reads + products + 4 * column_warps;
            if best.is_none_or(|(least, ..)| cost < least) {
                best = Some((cost, row_groups, column_warps, thread_rows, fold, chunks));
            }
            row_groups *= 2;
        }
        if let Some((_, row_groups, column_warps, thread_rows, fold, chunks)) = best {
            self.row_groups = row_groups;
            self.column_warps = column_warps;
            self.thread_rows = thread_rows;
            self.fold = fold;
            self.thread_chunks = chunks;
        }
    }

    /// The same with tensor cores: each group of rows reads the sources, and each part of the columns leaves sums.
    fn deal_tiles(&mut self, chunks: usize, warps: usize, far: bool) {
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
}

/// What a step of a loop takes, as far as it decides on a layout.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Work {
    /// Numbers of weights.
    pub weights: usize,
    /// Columns of its products, together.
    pub columns: usize,
    /// The size of its largest layer.
    pub span: usize,
    /// Streams.
    pub streams: usize,
    /// Rows (frames of a step, times streams) side by side.
    pub rows: usize,
    /// Times that blocks meet.
    pub barriers: usize,
    /// How coarsely products may round.
    pub precision: Precision,
}

impl Work {
    /// That of a track.
    pub fn of(track: &Track, setup: Setup) -> Work {
        Work {
            weights: products(track).map(|(_, p)| p.to.len * p.from.view.len).sum(),
            columns: products(track).map(|(_, p)| p.from.view.len).sum(),
            span: spans(track).max().unwrap_or(1),
            streams: setup.streams,
            rows: track.block.clamp(1, 64) * setup.streams,
            barriers: track.barriers_per_step(),
            precision: setup.precision,
        }
    }

    /// Bytes of a weight where it stays.
    fn weight_bytes(&self, way: Way) -> usize {
        match (way, self.precision) {
            (Way::Tiles, Precision::Bf16) => 2,
            _ => 4,
        }
    }
}

/// What a track can be laid out as, on at most `most` blocks.
fn candidates(track: &Track, rows: usize, device: &Device, most: usize) -> Vec<Choice> {
    /// Streams beyond which the sums of a block no longer fit.
    const STREAMS: usize = 128;
    let span = spans(track).max().unwrap_or(1);
    let mut ways = vec![Way::Lanes];
    if is_in_step(track) && products(track).next().is_some() && (4..=STREAMS).contains(&rows) {
        ways.push(Way::Tiles);
    }
    let mut out = Vec::new();
    for way in ways {
        let mut add = |tier, blocks, team| out.push(Choice { tier, blocks, team, way });
        add(Tier::Block, 1, 1);
        let mut size = 2;
        while size <= device.cluster.min(most) && size <= span {
            add(Tier::Cluster, size, 1);
            size *= 2;
        }
        let mut team = 1;
        while team == 1 || way == Way::Tiles && team <= device.cluster.min(8) {
            // What does not fit into whole clusters stays free.
            let most = if team > 2 { most - most / 11 } else { most } / team * team;
            let fewest = units(span, most.max(1));
            // Powers of two fill the lanes; and fewer blocks may do as well.
            let round = fewest.next_power_of_two();
            for units in [fewest, round, 2 * round] {
                let blocks = span.div_ceil(units).next_multiple_of(team);
                if blocks > 1 && blocks <= most {
                    add(Tier::Grid, blocks, team);
                }
            }
            team *= 2;
        }
    }
    out
}

/// Whether a track does one frame a step, the same in all its operations.
pub(super) fn is_in_step(track: &Track) -> bool {
    track.block == 1 && track.phases.iter().flat_map(|p| &p.ops).all(|placed| placed.offset == 0)
}

/// The sizes of layers that a track's operations write.
fn spans(track: &Track) -> impl Iterator<Item = usize> + '_ {
    track.phases.iter().flat_map(|p| &p.ops).flat_map(|placed| match &placed.op {
        Op::MatMul(products) => products.iter().map(|p| p.span).collect(),
        Op::Map(map) => vec![map.span],
        Op::Vector(vector) => vec![vector.to.len],
        _ => Vec::new(),
    })
}

/// The products of a track, with their places.
fn products(track: &Track) -> impl Iterator<Item = ((usize, usize), &Product)> + '_ {
    track.phases.iter().enumerate().flat_map(|(p, phase)| {
        phase.ops.iter().enumerate().flat_map(move |(o, placed)| match &placed.op {
            Op::MatMul(products) => products.iter().map(|product| ((p, o), product)).collect(),
            _ => Vec::new(),
        })
    })
}

impl Layout {
    /// Microseconds of a step, as predicted: what a frame costs at least in the tier, what blocks exchange, and the
    /// products. Its constants were fitted to LSTMs of 128 to 1024 units and 1 to 64 streams on an H200, where it is within
    /// a third of what was measured.
    pub fn frame_time(&self, work: Work, device: &Device) -> f64 {
        let Choice { tier, blocks, team, way } = self.choice;
        let rates = device.rates;
        let rows = self.rows as f64;
        let threads = self.threads as f64;
        let own_units = units(work.span, blocks) as f64;
        let (cycles, sharing) = match way {
            Way::Lanes => (self.cycles_of_lanes(work, device), 0.13 * (rows - 1.0)),
            Way::Tiles => {
                // What a thread passes to its team.
                let passed = self.products.iter().map(|p| p.rows()).sum::<usize>() as f64 * rows / threads;
                let passed = if units(work.span, blocks).is_multiple_of(4) { passed / 3.0 } else { passed };
                let team = if team > 1 { 0.35 + 0.05 * team as f64 + 0.09 * passed } else { 0.0 };
                let trips: f64 = self.products.iter().map(|p| self.trips(p)).sum();
                let cycles: f64 = self.products.iter().map(|p| self.cycles_of_tiles(p)).sum();
                (cycles * rates.tiles, team + 0.4 * trips)
            }
        };
        // A cluster's blocks put their results into each other's memory, one after the other: with many streams all that
        // an item has.
        let (rest, exchange) = match tier {
            Tier::Block => (0.43, 0.0),
            Tier::Cluster => {
                let items = (own_units * rows / 32.0 / (threads / 32.0)).ceil();
                let values = work.columns as f64 / work.span.max(1) as f64;
                let puts = if self.rows < 8 { 1.0 } else { items * values };
                (0.43, 0.03 * blocks as f64 * puts)
            }
            Tier::Grid if way == Way::Lanes => (0.73, 0.0),
            Tier::Grid => (0.41, 0.0),
        };
        let meeting = rates.frame_us[tier as usize] + exchange;
        work.barriers.max(1) as f64 * meeting + rest + sharing + cycles / (rates.clock_ghz * 1e3)
    }

    fn cycles_of_lanes(&self, work: Work, device: &Device) -> f64 {
        let own = work.weights as f64 / self.blocks as f64;
        let threads = self.threads as f64;
        let registers = (device.registers as f64 / threads / 2.0).min(144.0) * threads;
        let shared = (own - registers).clamp(0.0, device.shared_bytes as f64 / 4.0 * 0.8);
        let streamed = (own - registers - shared).max(0.0);
        // 128 products each, 32 numbers of shared memory each, about 10 from the second-level cache.
        own * self.rows as f64 / 128.0 * 1.5 + shared / 32.0 + streamed / 10.0
    }

    fn cycles_of_tiles(&self, p: &ProductLayout) -> f64 {
        let turns = match self.precision {
            Precision::F32 => 6.0,
            Precision::Tf32 => 2.0,
            Precision::Bf16 => 1.0,
        };
        let groups = self.rows.div_ceil(p.together()) as f64;
        let padded = p.padded_rows() as f64;
        let columns = (p.column_warps * p.thread_chunks * 16) as f64;
        let products = padded * columns * groups * p.together() as f64 / 1024.0 * turns;
        let sums = padded * (p.column_warps * self.rows) as f64 / 11.0;
        // Each group of streams needs all weights.
        let words = |chunks: usize| (chunks * p.words() * self.threads) as f64;
        let shared = words(p.in_shared) / 23.0;
        let streamed = words(p.thread_chunks - p.in_registers - p.in_shared) / 8.0;
        // Shared memory has 32 numbers a cycle.
        let near = columns * (self.rows * p.row_groups) as f64 / 32.0;
        let reads = if p.exchanged { near } else { 0.0 };
        products + sums + (shared + streamed) * groups + reads
    }

    /// Trips to the second-level cache, one after the other: one for eight reads of a thread, and half of one where copies
    /// are in bf16.
    fn trips(&self, p: &ProductLayout) -> f64 {
        let reads = self.rows.div_ceil(p.together()) * p.thread_chunks * p.stream_tiles();
        match (p.exchanged, p.copied) {
            (true, _) => 0.0,
            (false, true) => (reads * p.weight_bytes) as f64 / 32.0,
            (false, false) => reads as f64 / 8.0,
        }
    }
}
