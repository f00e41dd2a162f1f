//! How a loop is laid out on a device: its tier, which block has which units, which thread which weights, and where
//! those stay while the loop runs. All of it follows from the plan and the device alone.

use super::exchange;
use crate::device::Device;
use rnnc_plan::{Op, Product, Track, View};
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

/// A loop (one component, one direction) on a device.
#[derive(Clone, Debug)]
pub struct Layout {
    /// Its tier.
    pub tier: Tier,
    /// Its blocks.
    pub blocks: usize,
    /// Threads of a block.
    pub threads: usize,
    /// Rows (frames of a block of the schedule, times streams) that run side by side.
    pub rows: usize,
    /// Its products.
    pub products: Vec<ProductLayout>,
    /// Numbers of shared memory for partial sums and results.
    pub sums: usize,
    /// Those before the weights.
    pub fixed: usize,
}

/// Products of one operation into the same units, and how a block computes them.
///
/// A block has `units` units of each of the `layers` it writes: rows `r = layer * units + unit`. Its warps stand in
/// `row_groups` times `column_warps`; a thread has `thread_rows` rows and, of the columns in chunks of four, every 32nd
/// chunk of its warp's share.
#[derive(Clone, Debug)]
pub struct ProductLayout {
    /// Where it stands: (phase, operation).
    pub place: (usize, usize),
    /// In the order of their columns. All write the same.
    pub parts: Vec<Product>,
    /// The product before it (a place in [`Layout::products`]) to whose result it adds, and which of that one's layers its
    /// first is.
    pub into: Option<(usize, usize)>,
    /// Layers side by side.
    pub layers: usize,
    /// Units of a block, of each layer.
    pub units: usize,
    /// The first chunk of each part, and one past the last.
    pub chunks: Vec<usize>,
    /// Warps along the rows.
    pub row_groups: usize,
    /// Warps along the columns.
    pub column_warps: usize,
    /// Rows of a thread: a multiple of `fold`.
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
    /// How many rows of its sources are brought to shared memory together; 0: threads read them where they are.
    pub staged: usize,
    /// Where they are.
    pub staged_at: usize,
    /// Whether its sources come through shared memory, where the blocks that compute them put them: two buffers of all
    /// rows.
    pub exchanged: bool,
    /// Where they are.
    pub exchange_at: usize,
    /// Where its weights begin in shared memory.
    pub weights_at: usize,
}

impl ProductLayout {
    /// Rows of a block.
    pub fn rows(&self) -> usize {
        self.layers * self.units
    }

    /// Rows of a block with those that only fill up.
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

    /// Chunks of all threads: at least those of all parts.
    pub fn padded_chunks(&self) -> usize {
        self.column_warps * self.thread_chunks * 32
    }

    /// Rows of sources that a thread multiplies together.
    pub fn together(&self) -> usize {
        (32 / self.thread_rows).clamp(1, 4)
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
    pub fn choose(track: &Track, streams: usize, device: &Device, most: usize) -> Layout {
        let block = track.block.min(64);
        let rows = block.max(1) * streams;
        let span = spans(track).max().unwrap_or(1);
        let weights: usize = products(track).map(|(_, p)| p.to.len * p.from.view.len).sum();
        let barriers = track.barriers_per_step();
        let mut candidates = vec![(Tier::Block, 1)];
        let mut cluster = 2;
        while cluster <= device.cluster.min(most) && cluster <= span {
            candidates.push((Tier::Cluster, cluster));
            cluster *= 2;
        }
        let grid = span.div_ceil(units(span, most.max(1)));
        if grid > 1 {
            candidates.push((Tier::Grid, grid));
        }
        let time =
            |&(tier, blocks): &(Tier, usize)| frame_time(tier, blocks, weights, rows, barriers, device);
        let best = candidates.iter().copied().min_by(|a, b| time(a).total_cmp(&time(b)));
        let (tier, blocks) = best.unwrap_or((Tier::Block, 1));
        Layout::with(track, rows, device, tier, blocks)
    }

    fn with(track: &Track, rows: usize, device: &Device, tier: Tier, blocks: usize) -> Layout {
        let threads = device.loop_threads;
        let mut ops = track.phases.iter().flat_map(|p| &p.ops);
        // Sums over a block's threads take the first numbers.
        let sums = if ops.any(|placed| matches!(placed.op, Op::Vector(_))) { 32 } else { 0 };
        let mut layout = Layout { tier, blocks, threads, rows, products: Vec::new(), sums, fixed: 0 };
        for (place, product) in products(track) {
            match layout.products.last_mut() {
                // A later product into the same units adds to the one before.
                Some(last) if last.place == place && last.to() == product.to && last.parts.len() < PARTS => {
                    last.parts.push(*product);
                }
                _ => {
                    let next = ProductLayout::new(place, *product, blocks);
                    let into = layout.result_for(&next);
                    layout.products.push(ProductLayout { into, ..next });
                }
            }
        }
        let mut registers = (device.registers / threads / 2).min(144);
        // A warp may be a step ahead of the one that sums, if that alone signals.
        let buffers = layout.buffers();
        let stages = layout.stages(track);
        for product in &mut layout.products {
            product.deal(threads / 32, tier == Tier::Grid && !stages);
            let weights = product.thread_rows * 4;
            product.in_registers = product.thread_chunks.min(registers / weights);
            registers -= product.in_registers * weights;
            product.sums_at = layout.sums;
            layout.sums += buffers * rows * product.column_warps * product.padded_rows();
        }
        // Beside partial sums, results and the exchange, what is left of shared memory holds weights.
        let results: usize = layout.results();
        let mut at = (layout.sums + results).next_multiple_of(4);
        let room = device.shared_bytes / 4;
        if tier != Tier::Grid && is_in_step(track) {
            let stored = exchange::stored(track);
            for product in &mut layout.products {
                let numbers = 2 * rows.next_multiple_of(product.together()) * product.padded_chunks() * 4;
                let known = |p: &Product| exchange::lag(track, &stored, p).is_some();
                if at + numbers <= room && product.parts.iter().all(known) {
                    product.exchanged = true;
                    product.exchange_at = at;
                    at += numbers;
                }
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
            let chunk = product.thread_rows * 4 * threads;
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
        is_in_step(track)
    }

    /// Numbers of shared memory for the results of products, until maps read them: for each warp, those of one item.
    pub fn results(&self) -> usize {
        self.products.iter().map(|p| p.layers * 32).sum::<usize>() * (self.threads / 32)
    }

    /// Bytes of shared memory of a block.
    pub fn shared_bytes(&self) -> usize {
        let weights = self.products.iter().map(|p| p.in_shared * p.thread_rows * 4 * self.threads);
        4 * (self.fixed + weights.sum::<usize>())
    }

    /// Numbers of a block's weights that are read from device memory in every step.
    pub fn streamed(&self) -> usize {
        self.products.iter().map(|p| self.streamed_of(p)).sum()
    }

    /// The same of one product.
    pub fn streamed_of(&self, p: &ProductLayout) -> usize {
        (p.thread_chunks - p.in_registers - p.in_shared) * p.thread_rows * 4 * self.threads
    }

    /// Units of a layer that share an item: a warp's lanes hold the same units of all layers that one of its products
    /// writes. The same for all operations on layers of that size, so that a unit is always the same thread's.
    pub fn item_units(&self, span: usize) -> usize {
        let layers = self.products.iter().filter(|p| p.span() == span).map(|p| p.layers).max().unwrap_or(1);
        let most = (32 / layers.min(32)).max(1);
        let most = if most.is_power_of_two() { most } else { most.next_power_of_two() / 2 };
        most.min(units(span, self.blocks).next_power_of_two())
    }
}

impl ProductLayout {
    fn new(place: (usize, usize), product: Product, blocks: usize) -> ProductLayout {
        let layers = if product.to.len < product.span { 1 } else { product.to.len / product.span };
        ProductLayout {
            place,
            parts: vec![product],
            into: None,
            layers,
            units: units(product.span, blocks),
            chunks: Vec::new(),
            row_groups: 1,
            column_warps: 1,
            thread_rows: 1,
            fold: 1,
            thread_chunks: 0,
            in_registers: 0,
            in_shared: 0,
            sums_at: 0,
            staged: 0,
            staged_at: 0,
            exchanged: false,
            exchange_at: 0,
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

/// Microseconds of a step, as predicted: what a frame costs at least in the tier, what blocks exchange, and the products.
/// Its constants were fitted to LSTMs and GRUs of 128 to 1024 units on an H200, where it is within a third of what was
/// measured, but for the backward loops of many streams, which take up to 2.2 times as long.
pub fn frame_time(
    tier: Tier,
    blocks: usize,
    weights: usize,
    rows: usize,
    barriers: usize,
    device: &Device,
) -> f64 {
    let rates = device.rates;
    let own = weights as f64 / blocks as f64;
    let threads = device.loop_threads as f64;
    let registers = (device.registers as f64 / threads / 2.0).min(144.0) * threads;
    let shared = (own - registers).clamp(0.0, device.shared_bytes as f64 / 4.0 * 0.8);
    let streamed = (own - registers - shared).max(0.0);
    // Cycles: 128 products each, 32 numbers of shared memory each, about 10 from the second-level cache.
    let cycles = own * rows as f64 / 128.0 * 1.5 + shared / 32.0 + streamed / 10.0;
    // A cluster's blocks put their results into each other's memory, one after the other.
    let (rest, exchange) = match tier {
        Tier::Block => (0.43, 0.0),
        Tier::Cluster => (0.43, 0.03 * blocks as f64),
        Tier::Grid => (0.73, 0.0),
    };
    let meeting = rates.frame_us[tier as usize] + exchange;
    barriers.max(1) as f64 * meeting + rest + 0.13 * (rows - 1) as f64 + cycles / (rates.clock_ghz * 1e3)
}
