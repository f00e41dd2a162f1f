//! How a loop is laid out on a device: which block has which units, which thread which weights, and where those stay while
//! the loop runs. All of it follows from the plan, the device and a choice.

use super::choice::{Choice, Tier, Way, units};
use super::exchange;
use super::product_layout::ProductLayout;
use super::sums;
use super::task::{Work, is_in_step, products};
use crate::device::Device;
use crate::stages::vector::Lanes;
use rnnc_plan::{Op, Product, Task};

/// A loop (one component, one direction) on a device.
#[derive(Clone, Debug)]
pub struct Layout {
    /// What was chosen.
    pub choice: Choice,
    /// What a group of streams does.
    pub work: Work,
    /// Threads of a block.
    pub threads: usize,
    /// Its products.
    pub products: Vec<ProductLayout>,
    /// Numbers of shared memory for partial sums and results.
    pub sums: usize,
    /// Those before the weights.
    pub fixed: usize,
    /// Functions of whole vectors of which blocks post sums.
    pub summed: usize,
    /// Whether a lane sums up what it needs itself, rather than lanes share the sums and hand them to each other.
    pub packs: bool,
}

/// The most products that are one: which of their reads cross are the bits of a number.
const PARTS: usize = 32;

/// The most sums that a lane adds for a unit of the only stream, where units fill a warp's lanes.
const MOST_SUMS: usize = 16;

impl Layout {
    /// The layout that follows from a choice; `work` is that of all streams.
    pub fn with(task: &Task, work: Work, device: &Device, choice: Choice) -> Layout {
        let Choice { tier, team, way, .. } = choice;
        let work = work.of_group(choice.groups);
        let rows = work.rows;
        let threads = device.loop_threads;
        let mut ops = task.phases.iter().flat_map(|p| &p.ops);
        // Sums over a block's threads, perhaps in double precision, take the first numbers.
        let sums = if ops.any(|placed| matches!(placed.op, Op::Vector(_))) { 64 } else { 0 };
        let summed = sums::summed(task, work, choice).iter().filter(|s| s.polled).count();
        let packs = work.packs();
        let mut layout =
            Layout { choice, work, threads, products: Vec::new(), sums, fixed: 0, summed, packs };
        for (place, product) in products(task) {
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
        let mut registers = (device.registers / threads / 2).min(choice.most_registers());
        // A warp may be a step ahead of the one that sums, if that alone signals.
        let buffers = layout.buffers();
        let stages = layout.stages(task);
        // All products' an eighth of shared memory at most.
        let most_sums = device.shared_bytes / 32 / (buffers * rows * layout.products.len()).max(1);
        for product in &mut layout.products {
            product.partition(threads / 32, tier == Tier::Grid && !stages, most_sums);
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
        let sums_itself = |p: &ProductLayout| p.own_units() >= 32 && p.layers * p.column_warps <= MOST_SUMS;
        layout.packs |= layout.products.iter().all(sums_itself);
        // Beside partial sums, results and the exchange, what is left of shared memory holds weights.
        let results: usize = layout.results();
        let mut at = (layout.sums + results).next_multiple_of(4);
        let room = device.shared_bytes / 4;
        if tier != Tier::Grid && is_in_step(task) {
            let stored = exchange::stored(task);
            for product in &mut layout.products {
                let numbers = 2 * rows.next_multiple_of(product.together()) * product.source_chunks() * 4;
                let known = |p: &Product| exchange::lag(task, &stored, p).is_some();
                if at + numbers <= room && product.parts.iter().all(known) {
                    product.exchanged = true;
                    product.exchange_at = at;
                    at += numbers;
                }
            }
        }
        if way == Way::Tiles && tier == Tier::Grid {
            let stored = exchange::stored(task);
            let known =
                |p: &Product| p.from.view.len.is_multiple_of(4) && exchange::lag(task, &stored, p).is_some();
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
        for k in 1..layout.products.len() {
            let [before, product] = [k - 1, k].map(|k| &layout.products[k]);
            layout.products[k].shares = product.has_sources_of(before, rows);
        }
        if tier == Tier::Grid && stages {
            let stored = exchange::stored(task);
            let known = |p: &Product| exchange::lag(task, &stored, p).is_some();
            for product in layout.products.iter_mut().filter(|p| p.staged > 0) {
                let [polled, counted] =
                    [true, false].map(|polled| product.exchange_time(threads, choice.blocks, polled));
                product.polled = polled < counted && product.parts.iter().all(known);
                product.copied = product.polled && !product.shares;
            }
        }
        layout.fixed = at;
        for product in &mut layout.products {
            let chunk = product.kept_words() * threads;
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

    /// At how many barriers of a step blocks look for numbers that others post.
    pub fn posted(&self) -> usize {
        let found = self.summed + usize::from(self.products.iter().any(|p| p.polled));
        found.min(self.work.barriers)
    }

    /// Buffers of partial sums.
    pub fn buffers(&self) -> usize {
        if self.work.rows == 1 { 2 } else { 1 }
    }

    /// Whether sources are brought to shared memory: where all rows of a step are of its one frame, so that warps with
    /// different rows read them from there.
    fn stages(&self, task: &Task) -> bool {
        is_in_step(task) && self.products.iter().all(|p| p.way == Way::Lanes)
    }

    /// Numbers of shared memory for the results of products, until maps read them: for each warp, those of one item.
    pub fn results(&self) -> usize {
        if self.packs {
            return 0;
        }
        self.products.iter().map(|p| p.layers * 32).sum::<usize>() * (self.threads / 32)
    }

    /// Bytes of shared memory of a block.
    pub fn shared_bytes(&self) -> usize {
        let weights = self.products.iter().map(|p| p.in_shared * p.kept_words() * self.threads);
        4 * (self.fixed + weights.sum::<usize>())
    }

    /// Numbers of a group's exchange in device memory: copies of what its products read, and sums of functions of vectors.
    pub fn exchanged(&self, task: &Task, window: usize) -> usize {
        let summed = sums::summed(task, self.work, self.choice);
        let sums: usize = summed.iter().map(|s| s.numbers(window, self.work.streams)).sum();
        match self.choice.groups.several() {
            // Each group's begin on a line.
            true => (self.copied(window) + sums).next_multiple_of(32),
            false => self.copied(window) + sums,
        }
    }

    /// Numbers of a block's weights that are read from device memory in every step.
    pub fn streamed(&self) -> usize {
        self.products.iter().map(|p| self.streamed_of(p)).sum()
    }

    /// The same of one product.
    pub fn streamed_of(&self, p: &ProductLayout) -> usize {
        (p.thread_chunks - p.in_registers - p.in_shared) * p.kept_words() * self.threads
    }

    /// Numbers of device memory for copies of sources: those of a window's frames, and of one before and one behind.
    pub fn copied(&self, window: usize) -> usize {
        self.products.iter().map(|p| p.copied_numbers() * (window + 2)).sum()
    }

    /// Units and streams of an item, which are a warp's: the same for all operations on layers of that size, so that a unit
    /// is always the same thread's. With few streams, the lanes hold units of all layers that one of its products writes.
    pub fn item(&self, slice_len: usize) -> (usize, usize) {
        if self.packs {
            let units = units(slice_len, self.choice.blocks).next_power_of_two().min(32);
            return (units, 32 / units);
        }
        let layers =
            self.products.iter().filter(|p| p.slice_len() == slice_len).map(|p| p.layers).max().unwrap_or(1);
        let most = (32 / layers.min(32)).max(1);
        let most = if most.is_power_of_two() { most } else { most.next_power_of_two() / 2 };
        (most.min(units(slice_len, self.choice.blocks).next_power_of_two()), 1)
    }

    /// Who makes the sums and results of a function of whole vectors, for a row: half a warp, if there are rows enough.
    pub(super) fn lanes_of_a_row(&self) -> Lanes {
        match self.work.rows > self.threads / 32 {
            true => Lanes::Half,
            false => Lanes::Warp,
        }
    }
}
