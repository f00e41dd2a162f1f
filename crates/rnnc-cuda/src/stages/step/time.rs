//! What a step of a loop takes in a layout, as predicted: by that, layouts are chosen.

use super::choice::{Choice, Tier, Way, candidates, units, weight_bytes};
use super::groups::Groups;
use super::layout::Layout;
use super::product_layout::ProductLayout;
use super::task::Work;
use super::tiles;
use crate::device::Device;
use rnnc_plan::{ExecutionConfig, Task};

/// What a barrier costs that is not a frame's first, by tier, beside an empty frame's: what is met for has to be written, and
/// read again by all. Measured in LSTMs whose gates are one layer, of clusters on an H200, of the grid on an H100.
const AGAIN_US: [f64; 3] = [0.0, 0.3, 0.2];

/// What a barrier costs for which blocks post their sums.
const POSTED_US: f64 = 0.4;

/// Predictions are not exact, those of several groups less so than those of one, to which they were fitted: what several may take
/// at most of the time of one.
const LEAST_GAIN: f64 = 0.9;

/// Bytes that are taken to stay in the second-level cache from step to step.
const CACHED: f64 = 40e6;

/// Bytes that a multiprocessor gets of the second-level cache in a cycle, when all read.
const CACHE_BYTES: f64 = 13.0;

/// Items of a warp that take no time of their own, and microseconds of an instruction of a map in each further one: of two warps
/// that take turns, some five instructions of the device each.
const ITEMS: f64 = 2.0;
const STEP_US: f64 = 0.007;

impl Layout {
    /// Chooses the layout of a task on at most `most` blocks.
    pub fn choose(task: &Task, config: ExecutionConfig, device: &Device, most: usize) -> Layout {
        let work = Work::of(task, config);
        let layouts = candidates(task, work, device, most);
        let layouts = layouts.into_iter().map(|choice| Layout::with(task, work, device, choice));
        // Sums of many streams may not fit.
        let fits = |layout: &Layout| layout.shared_bytes() <= device.shared_bytes;
        let time = |layout: &Layout| match layout.choice.groups.several() {
            true => layout.step_time(device) / LEAST_GAIN,
            false => layout.step_time(device),
        };
        let best = layouts.filter(fits).min_by(|a, b| time(a).total_cmp(&time(b)));
        let streams = device.group_streams.0.clamp(1, config.streams.max(1));
        let groups = Groups { streams, ..Groups::one(config.streams) };
        let groups = Groups { launched: groups.count().min(most).max(1), ..groups };
        let one = Choice { tier: Tier::Block, blocks: 1, team: 1, way: Way::Lanes, groups };
        best.unwrap_or_else(|| Layout::with(task, work, device, one))
    }

    /// Of the grid's products by lanes, the exchange that takes longest, relative to an empty frame.
    fn first_exchange(&self) -> f64 {
        let each = self.products.iter().map(|p| p.exchange_time(self.threads, self.choice.blocks, p.polled));
        each.reduce(f64::max).unwrap_or(1.0)
    }

    /// Microseconds of a step of all streams, as predicted: groups that do not run side by side take turns, and those that do
    /// share the memory.
    pub fn step_time(&self, device: &Device) -> f64 {
        let groups = self.choice.groups;
        let streamed = 4.0 * (self.streamed() * self.choice.all_blocks()) as f64;
        let streamed = if streamed > CACHED { streamed } else { 0.0 };
        let values = 4.0 * (self.work.values * self.work.rows / self.work.streams.max(1) * groups.all) as f64;
        let moved = (streamed * groups.turns() as f64 + values) / (device.rates.memory_tbs * 1e6);
        (self.frame_time(device) * groups.turns() as f64).max(moved)
    }

    /// Microseconds of a step of one group, as predicted: what a frame costs at least in the tier, what blocks exchange, and the
    /// products. Its constants were fitted to LSTMs of 128 to 1024 units and 1 to 64 streams on an H200, where it is within
    /// a third of what was measured.
    pub fn frame_time(&self, device: &Device) -> f64 {
        let Layout { work, choice: Choice { tier, blocks, team, way, .. }, .. } = *self;
        let rates = device.rates;
        let rows = self.work.rows as f64;
        let threads = self.threads as f64;
        let own_units = units(work.slice_len, blocks) as f64;
        let (cycles, sharing) = match way {
            Way::Lanes => (self.cycles_of_lanes(device), 0.13 * (rows - 1.0)),
            Way::Tiles => {
                // What a thread passes to its team.
                let passed = self.products.iter().map(|p| p.rows()).sum::<usize>() as f64 * rows / threads;
                let passed =
                    if units(work.slice_len, blocks).is_multiple_of(4) { passed / 3.0 } else { passed };
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
                let values = work.columns as f64 / work.slice_len.max(1) as f64;
                let puts = if self.work.rows < 8 { 1.0 } else { items * values };
                (0.43, 0.03 * blocks as f64 * puts)
            }
            Tier::Grid if way == Way::Lanes => (0.73, 0.0),
            // The more blocks there are, the more of them read the same.
            Tier::Grid => (0.11 + 0.0023 * blocks as f64, 0.0),
        };
        let empty = rates.frame_us[tier as usize];
        let again = work.barriers.saturating_sub(1);
        let posted = self.summed.min(again);
        let counted = (again - posted) as f64 * (empty + exchange + AGAIN_US[tier as usize]);
        let first = match (tier, way) {
            (Tier::Grid, Way::Lanes) => self.first_exchange() * empty,
            _ => empty + exchange,
        };
        let us = |cycles: f64| cycles / (rates.clock_ghz * 1e3);
        let time = first
            + counted
            + posted as f64 * POSTED_US
            + self.vectors()
            + rest
            + sharing
            + self.more_items()
            + us(cycles);
        time.max(first + us(self.cycles_of_reads()))
    }

    /// What sources take to come from the second-level cache, at its speed: each group of a block's rows reads all.
    fn cycles_of_reads(&self) -> f64 {
        let bytes = |p: &ProductLayout| match (p.exchanged || p.shares, p.staged > 0, p.copied) {
            (true, ..) => 0,
            (false, true, _) => 4,
            (false, false, true) => p.row_groups * p.weight_bytes,
            (false, false, false) => p.row_groups * 4,
        };
        let row: usize = self.products.iter().map(|p| bytes(p) * p.copied_chunks() * 4 / p.team).sum();
        (row * self.work.rows) as f64 / CACHE_BYTES
    }

    /// Microseconds that the barriers of a step take at least: each as long as an empty frame of the tier, and where blocks
    /// look for what others post, no longer than such a barrier is found to take.
    pub fn barriers_us(&self, device: &Device) -> f64 {
        let empty = device.rates.frame_us[self.choice.tier as usize];
        let posted = self.posted();
        let counted = self.work.barriers - posted;
        counted as f64 * empty + posted as f64 * empty.min(POSTED_US)
    }

    /// Of functions of whole vectors: a trip to the second-level cache and back for as many rows as there are lanes for.
    fn vectors(&self) -> f64 {
        let at_once = self.threads / self.lanes_of_a_row().count();
        let turns = self.work.rows.div_ceil(at_once.max(1)) as f64;
        let each = turns * 0.8 + 0.07 * self.work.rows as f64;
        if self.choice.tier == Tier::Block { 0.0 } else { self.work.vectors as f64 * each }
    }

    /// Of what a warp has to do beside products: the first items are in what was fitted.
    fn more_items(&self) -> f64 {
        let lanes = 32.0 * (self.threads / 32) as f64;
        let items = (units(self.work.slice_len, self.choice.blocks) * self.work.rows) as f64 / lanes;
        (items - ITEMS).max(0.0) * STEP_US * self.work.elementwise
    }

    fn cycles_of_lanes(&self, device: &Device) -> f64 {
        let own = self.work.weights as f64 / self.choice.blocks as f64;
        let threads = self.threads as f64;
        let registers =
            (device.registers as f64 / threads / 2.0).min(self.choice.most_registers() as f64) * threads;
        let bytes = weight_bytes(self.work.precision) as f64;
        let shared = (own - registers).clamp(0.0, device.shared_bytes as f64 / bytes * 0.8);
        let streamed = (own - registers - shared).max(0.0);
        // 128 products each, 32 numbers of shared memory each, about 10 from the second-level cache.
        own * self.work.rows as f64 / 128.0 * 1.5 + (shared / 32.0 + streamed / 10.0) * bytes / 4.0
    }

    fn cycles_of_tiles(&self, p: &ProductLayout) -> f64 {
        let turns = tiles::turns(self.work.precision) as f64;
        let groups = self.work.rows.div_ceil(p.together()) as f64;
        let padded = p.padded_rows() as f64;
        let columns = (p.column_warps * p.thread_chunks * 16) as f64;
        let products = padded * columns * groups * p.together() as f64 / 1024.0 * turns;
        let sums = padded * (p.column_warps * self.work.rows) as f64 / 11.0;
        // Each group of streams needs all weights.
        let words = |chunks: usize| (chunks * p.kept_words() * self.threads) as f64;
        let shared = words(p.in_shared) / 23.0;
        let streamed = words(p.thread_chunks - p.in_registers - p.in_shared) / 8.0;
        // Shared memory has 32 numbers a cycle.
        let near = columns * (self.work.rows * p.row_groups) as f64 / 32.0;
        let reads = if p.exchanged { near } else { 0.0 };
        products + sums + (shared + streamed) * groups + reads
    }

    /// Trips to the second-level cache, one after the other: one for eight reads of a thread, and half of one where copies
    /// are in bf16.
    fn trips(&self, p: &ProductLayout) -> f64 {
        let reads = self.work.rows.div_ceil(p.together()) * p.thread_chunks * p.stream_tiles();
        match (p.exchanged, p.copied) {
            (true, _) => 0.0,
            (false, true) => (reads * p.weight_bytes) as f64 / 32.0,
            (false, false) => reads as f64 / 8.0,
        }
    }
}
