//! The kernel of a loop: steps in order, each its phases, each its operations in pieces that need no meeting inside.

use super::copies::{self, Copies};
use super::early::{self, Carry, Early, To};
use super::exchange::{self, Stored, Wait};
use super::layout::{Layout, ProductLayout, Tier, Way, is_in_step, units};
use super::product;
use super::site::{LoopSite, Result, result};
use super::tiles;
use crate::places::Places;
use crate::source::map;
use crate::stages::vector::{self, Lanes};
use rnnc_graph::Direction;
use rnnc_plan::{Instruction, Map, Op, Phase, Product, Track, Vector, View};
use std::fmt::Write;
use std::ops::Range;

/// Counters of a phase: groups of blocks count apart, so that a warp can wait for those alone whose units it reads.
pub(super) const GROUPS: usize = 8;

/// A kernel as it is being printed.
pub(super) struct Kernel<'a> {
    places: &'a Places<'a>,
    track: &'a Track,
    layout: &'a Layout,
    stored: Vec<Stored>,
    /// What each phase waits for.
    waits: Vec<Vec<Wait>>,
    /// The first counter, and the code of the fault flag.
    counters: usize,
    code: usize,
    /// Where each product's streamed weights begin in the scratch region.
    far: Vec<Option<usize>>,
    /// The copies of each product's sources.
    copies: Vec<Option<Copies>>,
    /// The variables of results are numbered through.
    variables: usize,
    /// Where values are read to a step ahead: in loops of one frame a step, all of whose operations do the same one.
    ahead: Option<To>,
    carries: Vec<Carry>,
    earlies: Vec<Place>,
    /// Of each exchanged product, the lags of its parts.
    lags: Vec<Vec<i64>>,
    /// How many stores of a step come after its exchange; the statements of those of the present phase.
    lates: usize,
    late: String,
    late_declarations: String,
    out: String,
}

/// A place that reads ahead: what opens its items, and what it reads.
struct Place {
    head: String,
    early: Early,
}

/// Numbers of an operand of a vector function that a lane keeps.
const HELD: usize = 32;

/// Registers that reading ahead may take: beside products of lanes, and of tiles, which take more themselves.
const AHEAD: [usize; 2] = [56, 36];

/// Operations of a phase that a block runs without meeting inside: products, then the maps behind them.
struct Piece<'a> {
    offset: i64,
    /// Places in [`Layout::products`].
    products: Vec<usize>,
    maps: Vec<&'a Map>,
    vector: Option<&'a Vector>,
}

impl<'a> Kernel<'a> {
    /// `scratch` is where [`Layout::streamed`] numbers of each block are free.
    pub fn new(
        places: &'a Places<'a>,
        track: &'a Track,
        layout: &'a Layout,
        scratch: usize,
        counters: usize,
        code: usize,
    ) -> Kernel<'a> {
        let stored = exchange::stored(track);
        let waits = (0..track.phases.len()).map(|p| exchange::waits(track, &stored, p)).collect();
        let mut at = scratch;
        let mut far = Vec::new();
        for p in &layout.products {
            let numbers = layout.streamed_of(p);
            far.push((numbers > 0).then_some(at));
            at += numbers * layout.blocks;
        }
        let window = places.setup.window;
        let copies = |p: &ProductLayout| {
            let copies = p.copied.then_some(Copies { at, precision: layout.precision });
            at += p.copied_numbers() * (window + 2);
            copies
        };
        let copies = layout.products.iter().map(copies).collect();
        let ahead = is_in_step(track).then_some(To::Registers);
        let lags = |p: &ProductLayout| {
            p.parts.iter().filter_map(|part| exchange::lag(track, &stored, part)).collect()
        };
        let lags = layout.products.iter().map(lags).collect();
        let carries = if ahead.is_some() { early::carries(track, &stored) } else { Vec::new() };
        Kernel {
            places,
            track,
            layout,
            stored,
            waits,
            counters,
            code,
            far,
            copies,
            variables: 0,
            ahead,
            carries,
            earlies: Vec::new(),
            lags,
            lates: 0,
            late: String::new(),
            late_declarations: String::new(),
            out: String::new(),
        }
    }

    /// The same that reads ahead to the cache only.
    fn with_cache(&self) -> Kernel<'a> {
        Kernel {
            ahead: Some(To::Cache),
            carries: Vec::new(),
            earlies: Vec::new(),
            variables: 0,
            lates: 0,
            late: String::new(),
            late_declarations: String::new(),
            out: String::new(),
            lags: self.lags.clone(),
            stored: self.stored.clone(),
            waits: self.waits.clone(),
            far: self.far.clone(),
            copies: self.copies.clone(),
            ..*self
        }
    }

    /// The text: functions, then the kernel.
    pub fn text(mut self, name: &str) -> String {
        let Layout { threads, blocks, .. } = *self.layout;
        for (k, product) in self.layout.products.iter().enumerate() {
            product::functions(&mut self.out, &k.to_string(), product, self.places);
            if product.exchanged {
                product::exchanged(&mut self.out, &k.to_string(), product, self.layout.rows, self.places);
            }
            if let Some(copies) = self.copies[k] {
                copies.functions(&mut self.out, &k.to_string(), product, self.places);
            }
        }
        self.line(&format!("LOOP_KERNEL({name}, {threads}) {{"));
        self.line("    float* const sm = shared_memory();");
        self.line("    const u32 tid = thread(), lane = tid & 31u, warp = tid / 32u, g = block();");
        let team = self.layout.team;
        self.line(&format!("    const u32 team = g / {team}u, member = g % {team}u; (void)member;"));
        self.line("    const int n = a.end - a.first;");
        self.line("    bool failed = false;");
        if self.layout.tier == Tier::Grid {
            let c = self.groups();
            self.line(&format!(
                "    const u32 members = lane < {c}u ? ((lane + 1u) * {blocks}u + {c}u - 1u) / {c}u - (lane * {blocks}u + {c}u - 1u) / {c}u : 0u;"
            ));
            for phase in 0..self.waits.len() {
                for (number, wait) in self.waits[phase].clone().iter().enumerate() {
                    let need = self.needs(phase, wait);
                    self.line(&format!(
                        "    const u32 members_{phase}_{number} = {need} >> lane & 1u ? members : 0u;"
                    ));
                }
            }
        }
        for (k, product) in self.layout.products.iter().enumerate() {
            let (id, far) = (k.to_string(), self.far[k]);
            match product.way {
                Way::Lanes => product::weights(&mut self.out, &id, product, threads, far),
                Way::Tiles => {
                    tiles::weights(&mut self.out, &id, product, threads, far, self.layout.precision);
                }
            }
        }
        let placed = || self.track.phases.iter().flat_map(|p| &p.ops).map(|p| p.offset);
        let (least, largest) = (placed().min().unwrap_or(0), placed().max().unwrap_or(0));
        let width = self.width() as i64;
        let begin = (-largest).div_euclid(width);
        self.line(&format!(
            "    const int begin = {begin}, stop = floor_div(n + {}, {width});",
            width - 1 - least
        ));
        let head = std::mem::take(&mut self.out);
        let track = self.track;
        for (number, phase) in track.phases.iter().enumerate() {
            self.phase(number, phase);
        }
        let registers: usize = self.earlies.iter().map(|place| place.early.registers()).sum();
        let most = AHEAD[usize::from(self.layout.choice.way == Way::Tiles)];
        if registers + self.carry_registers() + self.lates > most && self.ahead == Some(To::Registers) {
            return self.with_cache().text(name);
        }
        let body = std::mem::take(&mut self.out);
        self.out = head;
        self.before_the_first_step();
        self.first_sources();
        self.first_copies();
        // Weights in shared memory are their own thread's, so nothing has to be met for.
        self.line("    for (int step = begin; step < stop; step++) {");
        self.before_a_step();
        self.out.push_str(&body);
        self.after_a_step();
        self.line("    }");
        self.line("}");
        self.out
    }

    /// Brings the first step's sources to shared memory, where later ones will be put.
    fn first_sources(&mut self) {
        if self.layout.products.iter().all(|p| !p.exchanged) && self.layout.team == 1 {
            return;
        }
        let frame = self.step_frame("0");
        self.line(&format!("    const int begin_frame = {frame}; (void)begin_frame;"));
        let layout = self.layout;
        for (k, p) in layout.products.iter().enumerate().filter(|(_, p)| p.exchanged) {
            let crossing = self.crossing(k);
            product::first_sources(&mut self.out, &k.to_string(), p, layout.rows, layout.threads, &crossing);
        }
        // No block may put anything into another's memory before that has begun.
        match layout.tier == Tier::Cluster || layout.team > 1 {
            true => self.line("    cluster_arrive();\n    cluster_wait();"),
            false => self.line("    block_sync();"),
        }
    }

    /// Copies what the first step reads of the frame before it, if anything.
    fn first_copies(&mut self) {
        if !self.copies_first() {
            return;
        }
        let (layout, sizes) = (self.layout, (self.layout.blocks, self.layout.threads));
        self.line(&format!("    if (n > 0) {{ const int frame = {};", self.step_frame("begin")));
        for (k, p) in layout.products.iter().enumerate().filter(|(_, p)| p.copied) {
            let crossing = self.crossing(k);
            copies::first(&mut self.out, &k.to_string(), p, &self.stored, sizes, &crossing);
        }
        self.line("    }\n    block_sync();");
        let (c, blocks) = (self.groups(), self.layout.blocks);
        for phase in 0..self.track.phases.len() {
            if !self.is_waited_for(phase) {
                continue;
            }
            let counter = self.counter(phase);
            self.line(&format!(
                "    if (tid == 0) signal(a.counters + {counter}u + g * {c}u / {blocks}u * 32u);"
            ));
        }
    }

    /// Whether it does.
    fn copies_first(&self) -> bool {
        let delayed = |p: &ProductLayout| p.copied && p.parts.iter().any(|part| part.from.delay != 0);
        self.layout.products.iter().any(delayed)
    }

    /// The first counter of a phase.
    fn counter(&self, phase: usize) -> usize {
        self.counters + phase * GROUPS * 32
    }

    /// Registers for what threads keep.
    fn carry_registers(&self) -> usize {
        self.carries.iter().map(|c| 2 * self.items_of_a_warp(c.span)).sum()
    }

    /// Items of a block.
    fn items_of(&self, span: usize) -> usize {
        let (of_units, of_streams) = self.layout.item(span);
        units(span, self.layout.blocks).div_ceil(of_units) * self.places.streams().div_ceil(of_streams)
    }

    /// Items of a warp: a few units of a few streams each.
    fn items_of_a_warp(&self, span: usize) -> usize {
        self.items_of(span).div_ceil(self.layout.threads / 32)
    }

    /// The frame of the step with that number.
    fn step_frame(&self, step: &str) -> String {
        match self.track.direction {
            Direction::Forward => format!("a.first + {step}"),
            Direction::Backward => format!("a.end - 1 - ({step})"),
        }
    }

    /// Whether the one row's crossings are known a step ahead.
    fn crossings_ahead(&self) -> bool {
        self.ahead == Some(To::Registers) && self.layout.rows == 1
    }

    /// Tiles of streams whose ages are read before they are needed.
    fn tile_ages(&self) -> usize {
        let crosses =
            |p: &ProductLayout| p.way == Way::Tiles && p.parts.iter().any(|part| part.from.delay != 0);
        match self.layout.products.iter().any(crosses) {
            true => tiles::ages(self.layout.streams),
            false => 0,
        }
    }

    /// The statements that read the ages of a frame's streams into arrays with that prefix.
    fn read_tile_ages(&mut self, prefix: &str) {
        let (ages, streams) = (self.tile_ages(), self.places.streams());
        if ages > 0 {
            self.line(&format!(
                "        UNROLL for (u32 i = 0; i < {ages}u; i++) if (i * 8u + lane / 4u < {streams}u) {{ const u32 row = (u32)frame * {streams}u + i * 8u + lane / 4u; {prefix}_age[i] = early(a.ages + row); {prefix}_ahead[i] = early(a.ahead + row); }}"
            ));
        }
    }

    /// Their declaration.
    fn declare_tile_ages(&mut self, prefix: &str) {
        let ages = self.tile_ages();
        if ages > 0 {
            self.line(&format!(
                "    u32 {prefix}_age[{ages}], {prefix}_ahead[{ages}]; UNROLL for (u32 i = 0; i < {ages}u; i++) {prefix}_age[i] = {prefix}_ahead[i] = 0;"
            ));
        }
    }

    /// Which reads of a product cross, for `frame` and `stream`.
    fn crossing(&self, k: usize) -> String {
        let row = format!("(u32)frame * {}u + stream", self.places.streams());
        format!("crossing_{k}(a, frame, constant(a.ages + ({row})), constant(a.ahead + ({row})))")
    }

    fn before_the_first_step(&mut self) {
        if self.ahead != Some(To::Registers) {
            return;
        }
        for at in 0..self.carries.len() {
            let items = self.items_of_a_warp(self.carries[at].span);
            self.line(&format!("    float carry{at}[{items}], next{at}[{items}];"));
            self.line(&format!(
                "    UNROLL for (u32 i = 0; i < {items}u; i++) carry{at}[i] = next{at}[i] = 0.f;"
            ));
        }
        let products = if self.crossings_ahead() { self.layout.products.len() } else { 0 };
        if products > 0 {
            self.line("    u32 age = 0, ahead = 0;");
        }
        self.declare_tile_ages("tile");
        let earlies = std::mem::take(&mut self.earlies);
        earlies.iter().for_each(|place| self.out.push_str(&place.early.declarations('e')));
        self.line("    if (n > 0) {");
        self.line(&format!("        const int frame = {}; (void)frame;", self.step_frame("0")));
        self.read_tile_ages("tile");
        earlies.iter().for_each(|place| self.out.push_str(&place.early.loading('e', &place.head)));
        if products > 0 {
            self.line(
                "        age = early(a.ages + (u32)frame);\n        ahead = early(a.ahead + (u32)frame);",
            );
        }
        self.line("    }");
        self.earlies = earlies;
    }

    fn before_a_step(&mut self) {
        let Some(to) = self.ahead else { return };
        let products = if self.crossings_ahead() { self.layout.products.len() } else { 0 };
        if products > 0 {
            self.line("        u32 next_age = 0, next_ahead = 0;");
        }
        if to == To::Registers {
            self.declare_tile_ages("next");
        }
        let earlies = std::mem::take(&mut self.earlies);
        earlies.iter().for_each(|place| self.out.push_str(&place.early.declarations('n')));
        let late = std::mem::take(&mut self.late_declarations);
        self.out.push_str(&late);
        self.line("        if (step + 1 < stop) {");
        self.line(&format!("        const int frame = {}; (void)frame;", self.step_frame("step + 1")));
        if to == To::Registers {
            self.read_tile_ages("next");
        }
        earlies.iter().for_each(|place| self.out.push_str(&place.early.loading('n', &place.head)));
        if products > 0 {
            self.line("        next_age = early(a.ages + (u32)frame);\n        next_ahead = early(a.ahead + (u32)frame);");
        }
        self.line("        }");
        self.line(&format!("        const int frame = {}; (void)frame;", self.step_frame("step")));
        if to == To::Cache {
            self.declare_tile_ages("tile");
            self.read_tile_ages("tile");
        }
        self.earlies = earlies;
    }

    fn after_a_step(&mut self) {
        if self.ahead != Some(To::Registers) {
            return;
        }
        let earlies = std::mem::take(&mut self.earlies);
        earlies.iter().for_each(|place| self.out.push_str(&place.early.turn()));
        for at in 0..self.carries.len() {
            let items = self.items_of_a_warp(self.carries[at].span);
            self.line(&format!(
                "        UNROLL for (u32 i = 0; i < {items}u; i++) carry{at}[i] = next{at}[i];"
            ));
        }
        let products = if self.crossings_ahead() { self.layout.products.len() } else { 0 };
        if products > 0 {
            self.line("        age = next_age;\n        ahead = next_ahead;");
        }
        let ages = self.tile_ages();
        if ages > 0 {
            self.line(&format!(
                "        UNROLL for (u32 i = 0; i < {ages}u; i++) {{ tile_age[i] = next_age[i]; tile_ahead[i] = next_ahead[i]; }}"
            ));
        }
    }

    fn line(&mut self, line: &str) {
        self.out.push_str(line);
        self.out.push('\n');
    }

    /// Frames of a step.
    fn width(&self) -> usize {
        self.layout.rows / self.places.streams()
    }

    /// Groups of blocks that count apart.
    fn groups(&self) -> usize {
        GROUPS.min(self.layout.blocks)
    }

    /// Whether any phase waits for this one.
    fn is_waited_for(&self, phase: usize) -> bool {
        self.waits.iter().flatten().any(|w| w.phase == phase)
    }

    /// The groups of blocks that a warp must wait for, as bits: an expression.
    fn needs(&self, phase: usize, wait: &Wait) -> String {
        let all = (1u64 << self.groups()) - 1;
        let only_products = self.track.phases[phase].ops.iter().all(|placed| match &placed.op {
            Op::MatMul(_) => true,
            Op::Map(map) => !map.program.iter().any(|step| match step {
                Instruction::Load { read, .. } => {
                    exchange::origin(&self.stored, read, map.span, map.first) == exchange::Origin::OtherUnits
                }
                Instruction::LoadRepeated { .. } => true,
                _ => false,
            }),
            _ => false,
        });
        let warps = self.layout.threads / 32;
        let masks: Vec<u64> = (0..warps * self.layout.team)
            .map(|warp| {
                if !only_products {
                    return all;
                }
                let products = self.layout.products.iter().filter(|p| p.place.0 == phase);
                products.map(|p| self.read_groups(p, warp, wait.phase)).fold(0, |a, b| a | b)
            })
            .collect();
        if masks.iter().all(|&m| m == masks[0]) {
            return format!("{}u", masks[0]);
        }
        let mut text = String::new();
        for (warp, mask) in masks.iter().enumerate().skip(1) {
            let _ = write!(text, "member * {warps}u + warp == {warp}u ? {mask}u : ");
        }
        format!("({text}{}u)", masks[0])
    }

    /// The groups whose units a warp's columns of a product are, of those that a phase stores. Warps are counted through a
    /// team.
    fn read_groups(&self, p: &ProductLayout, warp: usize, phase: usize) -> u64 {
        let mut groups = 0;
        for own in self.read_chunks(p, warp) {
            for (part, chunks) in p.parts.iter().zip(p.chunks.windows(2)) {
                let (lo, hi) = (own.start.max(chunks[0]), own.end.min(chunks[1]));
                if lo < hi {
                    groups |= self.groups_of(part, (lo - chunks[0]) * 4, (hi - chunks[0]) * 4, phase);
                }
            }
        }
        groups
    }

    /// The chunks of a product's columns that a warp reads from memory.
    fn read_chunks(&self, p: &ProductLayout, warp: usize) -> Vec<Range<usize>> {
        if p.staged == 0 {
            let share = p.thread_chunks * p.column_lanes();
            let warps = self.layout.threads / 32;
            let first = (warp / warps * p.column_warps + warp % warps % p.column_warps) * share;
            return std::iter::once(first..first + share).collect();
        }
        let (threads, width) = (self.layout.threads, p.padded_chunks());
        let reads = (p.staged * width).div_ceil(threads);
        let at = |read: usize| (warp * 32 + read * threads) % width;
        (0..reads).map(|read| at(read)..at(read) + 32).collect()
    }

    /// The groups whose units some columns of a source are, of those that a phase stores.
    fn groups_of(&self, part: &Product, first: usize, end: usize, phase: usize) -> u64 {
        let view = part.from.view;
        let (first, end) = (view.column + first, view.column + end.min(view.len));
        let mut groups = 0;
        for s in self.stored.iter().filter(|s| s.phase == phase && s.view.buffer == view.buffer) {
            let (lo, hi) = (first.max(s.view.column), end.min(s.view.column + s.view.len));
            if lo >= hi {
                continue;
            }
            let units = units(s.span, self.layout.blocks);
            let block = |column: usize| (column - s.view.column + s.first) / units;
            for block in block(lo)..=block(hi - 1) {
                groups |= 1 << (block * self.groups() / self.layout.blocks);
            }
        }
        groups
    }

    fn phase(&mut self, number: usize, phase: &'a Phase) {
        let tier = self.layout.tier;
        if tier == Tier::Grid {
            for (n, wait) in self.waits[number].clone().iter().enumerate() {
                let counter = self.counter(wait.phase);
                let steps = format!("step - begin + {}", 1 - wait.behind + i64::from(self.copies_first()));
                let code = self.code;
                self.line(&format!(
                    "        wait_for(a, {counter}u, lane, members_{number}_{n}, {steps}, {code}u, failed);"
                ));
            }
        }
        let pieces = self.pieces(number, phase);
        for (n, piece) in pieces.iter().enumerate() {
            if n > 0 {
                self.line("        block_sync();");
            }
            self.piece(piece);
        }
        if self.is_waited_for(number) {
            match tier {
                Tier::Block => self.line("        block_sync();"),
                Tier::Cluster => {
                    self.line("        cluster_arrive();");
                    self.late_stores();
                    self.line("        cluster_wait();");
                }
                Tier::Grid => {
                    let counter = self.counter(number);
                    let (c, blocks) = (self.groups(), self.layout.blocks);
                    let alone = self.ends_in_one_warp(number, phase);
                    self.line(if alone { "        warp_sync();" } else { "        block_sync();" });
                    self.line(&format!(
                        "        if (tid == 0) signal(a.counters + {counter}u + g * {c}u / {blocks}u * 32u);"
                    ));
                }
            }
        } else if number + 1 < self.track.phases.len()
            || self.layout.buffers() == 1
            // Other threads read what a vector function stores.
            || pieces.last().is_some_and(|piece| piece.vector.is_some())
        {
            self.line("        block_sync();");
        }
        self.late_stores();
    }

    /// What need not be stored before other blocks are told.
    fn late_stores(&mut self) {
        let late = std::mem::take(&mut self.late);
        self.out.push_str(&late);
    }

    /// Whether nothing of this loop reads a store of a map from memory before the step's end.
    fn can_be_late(&self, piece: &Piece<'a>, map: &Map, view: View) -> bool {
        if self.ahead != Some(To::Registers) {
            return false;
        }
        let overlaps = |v: View| exchange::overlap(v, view);
        let sign = if self.track.direction == Direction::Forward { 1 } else { -1 };
        let position = piece.maps.iter().position(|m| std::ptr::eq(*m, map)).unwrap_or(0);
        let reads = |p: &ProductLayout| p.parts.iter().any(|part| overlaps(part.from.view));
        if self.layout.products.iter().any(|p| !p.exchanged && reads(p)) {
            return false;
        }
        let ops = self.track.phases.iter().flat_map(|p| &p.ops);
        ops.into_iter().all(|placed| match &placed.op {
            Op::Map(other) => other.program.iter().all(|step| match step {
                Instruction::Load { read, .. } if overlaps(read.view) => {
                    let same = exchange::origin(&self.stored, read, other.span, other.first)
                        == exchange::Origin::SameUnit;
                    let later = piece.maps.iter().position(|m| std::ptr::eq(*m, other));
                    let lag = sign * read.delay;
                    // Up to here, maps read what products left; later ones, what this one keeps.
                    let kept = lag == 0
                        && later.is_some_and(|at| {
                            at <= position
                                || view.column <= read.view.column
                                    && read.view.column + read.view.len <= view.column + view.len
                        });
                    let carried = lag == 1
                        && self
                            .carries
                            .iter()
                            .any(|c| c.view == read.view && c.first == other.first && c.span == other.span);
                    same && (kept || carried || lag >= 2)
                }
                Instruction::LoadRepeated { read, .. } => !overlaps(read.view),
                _ => true,
            }),
            Op::Vector(v) => !v.operands.iter().any(|read| overlaps(read.view)),
            _ => true,
        })
    }

    /// Whether all that a phase stores is the first warp's: then that signals by itself.
    fn ends_in_one_warp(&self, number: usize, phase: &'a Phase) -> bool {
        let pieces = self.pieces(number, phase);
        let [piece] = pieces.as_slice() else { return false };
        let products = piece.products.iter().map(|&k| self.layout.products[k].span());
        let mut spans = products.chain(piece.maps.iter().map(|m| m.span));
        let one = |span: usize| self.items_of(span) == 1;
        self.layout.buffers() == 2 && piece.vector.is_none() && spans.all(one)
    }

    /// Cuts a phase into pieces.
    fn pieces(&self, number: usize, phase: &'a Phase) -> Vec<Piece<'a>> {
        let mut pieces: Vec<Piece<'a>> = Vec::new();
        for (at, placed) in phase.ops.iter().enumerate() {
            let offset = placed.offset;
            let mut piece = Piece { offset, products: Vec::new(), maps: Vec::new(), vector: None };
            match &placed.op {
                Op::MatMul(_) => {
                    let own = |p: &ProductLayout| p.place == (number, at);
                    piece.products =
                        (0..self.layout.products.len()).filter(|&k| own(&self.layout.products[k])).collect();
                }
                Op::Map(map) => match pieces.last_mut() {
                    Some(last) if last.vector.is_none() && last.offset == offset => {
                        last.maps.push(map);
                        continue;
                    }
                    _ => piece.maps.push(map),
                },
                Op::Vector(vector) => piece.vector = Some(vector),
                // Refused before.
                _ => continue,
            }
            pieces.push(piece);
        }
        pieces
    }

    /// Opens a block in which `frame` is that of the step's frame `j`, if it has one; else continues the loop around.
    fn frame(&self, offset: i64, j: &str) -> String {
        let width = self.width();
        let frame = match self.track.direction {
            Direction::Forward => "a.first + i",
            Direction::Backward => "a.end - 1 - i",
        };
        format!(
            "{{ const int i = step * {width} + ({offset}) + (int)({j}); if (i < 0 || i >= n) continue; const int frame = {frame};"
        )
    }

    fn piece(&mut self, piece: &Piece<'a>) {
        let (streams, rows, threads) = (self.places.streams(), self.layout.rows, self.layout.threads);
        if let Some(vector) = piece.vector {
            return self.vector(vector, piece.offset);
        }
        let frame = self.frame(piece.offset, &format!("q / {streams}u"));
        let frame_of = format!("{frame} const u32 stream = q % {streams}u;");
        for (number, &k) in piece.products.iter().enumerate() {
            let p = &self.layout.products[k];
            if number > 0 && p.staged > 0 {
                // The one before is still being read.
                self.line("        block_sync();");
            }
            let mut opening = String::new();
            let crossing = match (p.way, self.crossings_ahead()) {
                (Way::Lanes, true) => format!("crossing_{k}(a, frame, age, ahead)"),
                (Way::Tiles, _) if self.tile_ages() > 0 => {
                    tiles::crossings(&mut opening, &k.to_string(), p, self.tile_ages())
                }
                _ => self.crossing(k),
            };
            self.line(&format!("        {{ const int frame = {}; (void)frame;", self.step_frame("step")));
            self.out.push_str(&opening);
            let buffers = self.layout.buffers();
            let around = product::Around { rows, threads, buffers, frame_of: &frame_of, crossing: &crossing };
            match p.way {
                Way::Lanes => product::sums(&mut self.out, &k.to_string(), p, &around),
                Way::Tiles => {
                    let (id, precision, copies) = (k.to_string(), self.layout.precision, self.copies[k]);
                    tiles::sums(&mut self.out, &id, p, &around, precision, copies);
                }
            }
            self.line("        }");
        }
        if !piece.products.is_empty() {
            self.line("        block_sync();");
        }
        if !piece.products.is_empty() && self.layout.team > 1 {
            for &k in &piece.products {
                tiles::gather(&mut self.out, &self.layout.products[k], rows, threads);
            }
            self.line("        cluster_arrive();\n        cluster_wait();");
        }
        let mut spans: Vec<usize> = Vec::new();
        let written = piece.products.iter().map(|&k| self.layout.products[k].span());
        for span in written.chain(piece.maps.iter().map(|m| m.span)) {
            if !spans.contains(&span) {
                spans.push(span);
            }
        }
        for span in spans {
            self.items(piece, span);
        }
    }

    /// The results and maps of all units of one size: a warp takes a few units of a stream at a time.
    fn items(&mut self, piece: &Piece<'a>, span: usize) {
        let streams = self.places.streams();
        let layout = self.layout;
        let own = units(span, layout.blocks);
        let (lanes, of_streams) = layout.item(span);
        let chunks = own.div_ceil(lanes);
        let warps = layout.threads / 32;
        let items = self.items_of_a_warp(span);
        let all = self.items_of(span);
        let row = format!(
            "            const u32 stream = item / {chunks}u * {of_streams}u + lane / {lanes}u % {of_streams}u, chunk = item % {chunks}u, row = (u32)frame * {streams}u + stream; (void)row;"
        );
        let unit = format!(
            "            const u32 inside = chunk * {lanes}u + lane % {lanes}u, unit = g * {own}u + inside;\n            const bool mine = lane < {}u && stream < {streams}u && inside < {own}u && unit < {span}u; (void)mine;",
            lanes * of_streams
        );
        if let Some(to) = self.ahead {
            let open = format!(
                "        UNROLL for (u32 it = 0; it < {items}u; it++) {{ const u32 item = warp + it * {warps}u; if (item < {all}u) {{"
            );
            let head = format!("{open}\n{row}\n{unit}");
            self.earlies.push(Place { head, early: Early::new(to, self.earlies.len(), items) });
            self.line(&open);
        } else {
            let frame = self.frame(piece.offset, "j");
            self.line(&format!("        for (u32 j = 0; j < {}u; j++) {frame}", self.width()));
            self.line(&format!("        for (u32 item = warp; item < {all}u; item += {warps}u) {{"));
        }
        self.line(&row);
        self.line(&unit);
        let mut results: Vec<Result> = Vec::new();
        let mut at = 0;
        // Where the results of each product of this span are, and its own or that of the product it adds to.
        let mut places: Vec<(usize, usize)> = Vec::new();
        for &k in &piece.products {
            let p = &layout.products[k];
            if p.span() == span {
                self.results(piece, k, at, lanes, &mut places, &mut results);
            }
            at += p.layers * 32;
        }
        let begin = self.late.len();
        for map in piece.maps.iter().filter(|m| m.span == span) {
            self.map(piece, map, &mut results);
        }
        if self.late.len() > begin {
            let puts = self.late.split_off(begin);
            if let Some(place) = self.earlies.last() {
                self.late.push_str(&format!("{}\n{puts}        }} }}\n", place.head));
            }
        }
        self.line("            warp_sync();");
        self.line("        } }");
    }

    /// Sums up the partial sums of one product's rows of an item.
    fn results(
        &mut self,
        piece: &Piece<'a>,
        k: usize,
        at: usize,
        lanes: usize,
        places: &mut Vec<(usize, usize)>,
        results: &mut Vec<Result>,
    ) {
        let layout = self.layout;
        let p = &layout.products[k];
        let (own, span, layers) = (p.own_units(), p.span(), p.layers);
        let per_warp: usize = layout.products.iter().map(|p| p.layers * 32).sum();
        let into = p.into.and_then(|(earlier, layer)| {
            places.iter().find(|&&(k, _)| k == earlier).map(|&(_, at)| (earlier, at, layer))
        });
        let (owner, at, shift) = into.unwrap_or((k, at, 0));
        // A lane sums up what it needs itself, or the lanes share the layers and hand each other the sums.
        let packs = layout.packs();
        let place = match packs {
            true => format!("sum{owner}[layer + {shift}u]"),
            false => format!(
                "sm[{}u + warp * {per_warp}u + {at}u + (layer + {shift}u) * {lanes}u + k]",
                layout.sums
            ),
        };
        let value = |layer: usize| match packs {
            true => format!("sum{owner}[{layer}]"),
            false => format!("sm[{}u + warp * {per_warp}u + {at}u + {}u + lane]", layout.sums, layer * lanes),
        };
        let at_once = if packs { 1 } else { 32 / lanes };
        let parts = layers.div_ceil(at_once);
        let place_of_lane = match packs {
            true => "const u32 layer = part;".to_string(),
            false => format!(
                "const u32 layer = part * {at_once}u + lane / {lanes}u, k = lane % {lanes}u, inside = chunk * {lanes}u + k, unit = g * {own}u + inside;"
            ),
        };
        let open =
            format!("            UNROLL for (u32 part = 0; part < {parts}u; part++) {{ {place_of_lane}");
        if packs && into.is_none() {
            self.line(&format!(
                "            float sum{k}[{layers}]; UNROLL for (u32 i = 0; i < {layers}u; i++) sum{k}[i] = 0.f;"
            ));
        }
        self.line(&open);
        let (first, end, column) = match p.partial() {
            true => (
                p.parts[0].first,
                p.parts[0].first + p.to().len,
                "unit - ".to_string() + &p.parts[0].first.to_string() + "u",
            ),
            false => (0, span, format!("layer * {span}u + unit")),
        };
        let lane = if packs { "mine".to_string() } else { format!("inside < {own}u") };
        let inside = format!(
            "                if (layer < {layers}u && {lane} && unit >= {first}u && unit < {end}u) {{"
        );
        self.line(&inside);
        let address = self.places.address(p.to(), "row", &column);
        let here = places.iter().any(|&(k, _)| exchange::overlap(layout.products[k].to(), p.to()));
        let before_it = here || exchange::is_stored_before(self.track, p.place, p.to());
        let before = match (p.parts[0].accumulate, into) {
            (false, _) => "0.f".into(),
            (true, Some(_)) => place.clone(),
            (true, None) => match self.earlies.last_mut().filter(|_| self.ahead.is_some() && !before_it) {
                None => format!("own({address})"),
                Some(site) => {
                    let (load, value) = site.early.element(parts, &address);
                    site.early
                        .load(&format!("{open}\n{inside}\n                {load}\n            }} }}\n"));
                    value
                }
            },
        };
        // The sums of warps, or of the team's blocks.
        let frame =
            if self.ahead.is_some() { String::new() } else { format!("j * {}u + ", self.places.streams()) };
        let (at_sums, stride, parts, next) = match layout.team {
            1 => (p.sums_at, p.sums_stride(), p.column_warps, p.padded_rows()),
            _ => (p.gathered_at, p.gathered_stride(), p.team, p.rows() / p.team),
        };
        let buffer = match layout.team > 1 || layout.buffers() > 1 {
            false => String::new(),
            true => format!("((u32)step & 1u) * {}u + ", layout.rows),
        };
        self.line(&format!("                    float s = {before};"));
        self.line(&format!(
            "                    const float* sums = sm + ({at_sums}u + ({buffer}{frame}stream) * {stride}u + layer * {own}u + inside);"
        ));
        self.line(&format!(
            "                    UNROLL for (u32 w = 0; w < {parts}u; w++) s += sums[w * {next}u];"
        ));
        self.line(&format!("                    {place} = s;"));
        if into.is_none() {
            places.push((k, at));
            for layer in 0..layers {
                let (view, first) = match p.partial() {
                    true => (p.to(), p.parts[0].first),
                    false => (p.to().part(layer * span, span), 0),
                };
                results.push(Result { view, first, value: value(layer) });
            }
        }
        if self.is_read_from_memory(piece, k) {
            self.line(&format!("                    put({address}, s);"));
        }
        self.line("                }");
        self.line("            }");
        if !packs {
            self.line("            warp_sync();");
        }
    }

    fn map(&mut self, piece: &Piece<'a>, map: &'a Map, results: &mut Vec<Result>) {
        let mut stores = Vec::new();
        let late: Vec<View> = map
            .program
            .iter()
            .filter_map(|step| match step {
                Instruction::Store { to, .. } if self.can_be_late(piece, map, *to) => Some(*to),
                _ => None,
            })
            .collect();
        for step in &map.program {
            if let Instruction::Store { from, to } = *step {
                let value = format!("kept{}", self.variables);
                self.variables += 1;
                self.line(&format!("            float {value} = 0.f;"));
                stores.push((from, Result { view: to, first: map.first, value }));
            }
        }
        let (first, end) = (map.first, map.first + map.len);
        let inside = match (first, map.len == map.span) {
            (_, true) => String::new(),
            _ => format!(" && unit >= {first}u && unit < {end}u"),
        };
        self.line(&format!("            if (mine{inside}) {{"));
        self.line(&format!("                const u32 u = unit - {first}u;"));
        let guard = format!("mine{inside}");
        let sign = if self.track.direction == Direction::Forward { 1 } else { -1 };
        let carries = self.carries.as_slice();
        let mut site = LoopSite {
            places: self.places,
            stored: &self.stored,
            span: map.span,
            first: map.first,
            results,
            late: &late,
            ahead: match self.ahead.is_some() {
                true => self.earlies.last_mut().map(|place| (&mut place.early, carries, sign)),
                false => None,
            },
        };
        let statements = map::statements(map, "r", &mut site);
        if let Some(place) = self.earlies.last_mut().filter(|_| self.ahead.is_some()) {
            place.early.end_map(&guard, first);
        }
        for line in statements.lines() {
            let _ = writeln!(self.out, "                {line}");
        }
        if !late.is_empty() {
            let _ =
                writeln!(self.late, "            if ({guard}) {{ const u32 u = unit - {first}u; (void)u;");
        }
        let items = self.items_of_a_warp(map.span);
        for (from, result) in &stores {
            let _ = writeln!(self.out, "                {} = r{from};", result.value);
            for (p, lags) in self.layout.products.iter().zip(&self.lags).filter(|(p, _)| p.exchanged) {
                let sizes = (self.layout.rows, self.layout.blocks);
                product::exchange(&mut self.out, p, sizes, result.view, lags, &format!("r{from}"));
            }
            for (k, p) in self.layout.products.iter().enumerate().filter(|(_, p)| p.copied) {
                copies::copy(&mut self.out, &k.to_string(), p, result.view, &format!("r{from}"));
            }
            if late.contains(&result.view) {
                let number = self.lates;
                self.lates += 1;
                let _ = writeln!(self.late_declarations, "        float late{number}[{items}];");
                let _ = writeln!(
                    self.late_declarations,
                    "        UNROLL for (u32 i = 0; i < {items}u; i++) late{number}[i] = 0.f;"
                );
                let _ = writeln!(self.out, "                late{number}[it] = r{from};");
                let address = self.places.address(result.view, "row", "u");
                let _ = writeln!(self.late, "                put({address}, late{number}[it]);");
            }
            for (at, carry) in self.carries.iter().enumerate() {
                if carry.span != map.span || !carry.is_part_of(result.view, result.first) {
                    continue;
                }
                let units = match (carry.first == map.first, carry.view.len == map.len) {
                    (true, true) => String::new(),
                    _ => {
                        format!("if (unit >= {}u && unit < {}u) ", carry.first, carry.first + carry.view.len)
                    }
                };
                let _ = writeln!(self.out, "                {units}next{at}[it] = r{from};");
            }
        }
        if !late.is_empty() {
            self.late.push_str("            }\n");
        }
        self.line("            }");
        results.extend(stores.into_iter().map(|(_, result)| result));
    }

    /// Whether what a product writes is read other than by the maps behind it in its piece.
    fn is_read_from_memory(&self, piece: &Piece<'a>, k: usize) -> bool {
        let plan = self.places.plan;
        let (view, span) = (self.layout.products[k].to(), self.layout.products[k].span());
        if plan.buffers[view.buffer.0].lifetime.is_none() || self.layout.is_added_to_in_memory(k) {
            return true;
        }
        let overlaps = |v: View| {
            v.buffer == view.buffer && v.column < view.column + view.len && view.column < v.column + v.len
        };
        let products = |p: &ProductLayout| -> Vec<Result> {
            let whole = |layer| Result {
                view: p.to().part(layer * p.span(), p.span()),
                first: 0,
                value: String::new(),
            };
            match p.partial() {
                true => vec![Result { view: p.to(), first: p.parts[0].first, value: String::new() }],
                false => (0..p.layers).map(whole).collect(),
            }
        };
        let own: Vec<Result> = piece
            .products
            .iter()
            .map(|&k| &self.layout.products[k])
            .filter(|p| p.span() == span && p.into.is_none())
            .flat_map(products)
            .collect();
        let is_own_map = |map: &Map| map.span == span && piece.maps.iter().any(|m| std::ptr::eq(*m, map));
        let is_own_products = |list: *const rnnc_plan::Product| {
            piece.products.iter().any(|&k| {
                let place = self.layout.products[k].place;
                matches!(&self.track.phases[place.0].ops[place.1].op, Op::MatMul(own) if std::ptr::eq(own.as_ptr(), list))
            })
        };
        // What maps behind it store in the same place is what all others read.
        let is_overwritten = |r: &Result| {
            let mut steps = piece.maps.iter().filter(|m| m.span == span).flat_map(|m| &m.program);
            steps.any(|s| {
                matches!(*s, Instruction::Store { to, .. } if to.buffer == r.view.buffer
                    && to.column <= r.view.column
                    && r.view.column + r.view.len <= to.column + to.len)
            })
        };
        let overwritten = own.iter().filter(|r| overlaps(r.view)).all(is_overwritten);
        let ops = plan.stages().flat_map(|s| &s.tracks).flat_map(|t| &t.phases).flat_map(|p| &p.ops);
        ops.into_iter().any(|placed| match &placed.op {
            Op::Map(map) if overwritten && !is_own_map(map) => false,
            Op::MatMul(list) => {
                let read = !overwritten && list.iter().any(|p| overlaps(p.from.view));
                // A product of another operation adds to it through memory.
                let added =
                    !is_own_products(list.as_ptr()) && list.iter().any(|p| p.accumulate && overlaps(p.to));
                read || added
            }
            Op::Gather(list) => list.iter().any(|l| l.accumulate && overlaps(l.to)),
            Op::Map(map) => map.program.iter().any(|step| match step {
                Instruction::Load { read, .. } if overlaps(read.view) => {
                    !(is_own_map(map) && read.delay == 0 && result(&own, read.view, map.first).is_some())
                }
                Instruction::LoadRepeated { read, .. } => overlaps(read.view),
                _ => false,
            }),
            _ if overwritten => false,
            Op::Vector(v) => v.operands.iter().any(|read| overlaps(read.view)),
            Op::WeightGradient(list) => list.iter().any(|o| overlaps(o.error) || overlaps(o.source.view)),
            Op::TableGradient(list) => list.iter().any(|o| overlaps(o.error)),
            Op::Reduce(list) => {
                list.iter().any(|o| overlaps(o.error) || o.source.is_some_and(|s| overlaps(s.view)))
            }
        })
    }

    fn vector(&mut self, op: &'a Vector, offset: i64) {
        let (streams, layout) = (self.places.streams(), self.layout);
        let (groups, _) = vector::groups(op);
        let size = (op.to.len / groups.max(1)).max(1);
        let own = units(op.to.len, layout.blocks);
        let most = (own.div_ceil(size) + 1).min(groups);
        let warps = layout.threads / 32;
        let items = layout.rows * most;
        // Few groups are the whole block's, one after the other.
        let together = items <= 2;
        let lanes = match together {
            true => Lanes::Block(layout.threads),
            false => Lanes::Warp,
        };
        self.line(&match together {
            true => format!("        for (u32 item = 0; item < {items}u; item++) {{"),
            false => format!("        for (u32 item = warp; item < {items}u; item += {warps}u) {{"),
        });
        self.line(&format!("            const u32 q = item / {most}u, stream = q % {streams}u;"));
        self.line(&format!("            {}", self.frame(offset, &format!("q / {streams}u"))));
        self.line(&format!("            const u32 row = (u32)frame * {streams}u + stream;"));
        self.line(&format!("            const u32 own_first = g * {own}u, own_end = own_first + {own}u;"));
        self.line(&format!("            const u32 group = own_first / {size}u + item % {most}u;"));
        self.line(&format!("            if (group < {groups}u && group * {size}u < own_end) {{"));
        let mut site = VectorSite { places: self.places, stored: &self.stored, op };
        let statements = vector::statements(op, lanes, HELD, &mut site);
        self.line(&match together {
            true => "            { const u32 lane = tid;".to_string(),
            false => "            {".to_string(),
        });
        self.out.push_str(&statements);
        self.line("            }");
        self.line("            } } }");
    }
}

/// A vector function in a loop: reads what other blocks wrote, writes the block's own units.
struct VectorSite<'a> {
    places: &'a Places<'a>,
    stored: &'a [Stored],
    op: &'a Vector,
}

impl vector::Site for VectorSite<'_> {
    fn load(&mut self, operand: usize, unit: &str) -> String {
        let read = &self.op.operands[operand];
        let inside = self.stored.iter().any(|s| {
            s.view.buffer == read.view.buffer
                && s.view.column < read.view.column + read.view.len
                && read.view.column < s.view.column + s.view.len
        });
        let reading = if inside { "fresh" } else { "constant" };
        let value = format!("{reading}({})", self.places.source_address(read, "row", unit));
        match self.places.crosses(read, "row", "frame") {
            None => value,
            Some(crosses) => format!("({crosses} ? {} : {value})", self.places.start(read, unit)),
        }
    }

    fn store(&mut self, unit: &str, value: &str) -> String {
        let address = self.places.address(self.op.to, "row", unit);
        format!("if (({unit}) >= own_first && ({unit}) < own_end) put({address}, {value});")
    }
}
