//! The kernel of a loop: steps in order, each its phases, each its operations in pieces that need no barrier inside.

mod ahead;
pub(super) mod barrier;
mod first;
mod items;
mod maps;
mod vectors;

use super::choice::{Choice, Tier, Way, units};
use super::copies::Copies;
use super::early::{self, Carry, Early, To};
use super::exchange::{self, Reader, Stored, Wait};
use super::layout::Layout;
use super::posts;
use super::product_layout::ProductLayout;
use super::sums::Summed;
use super::task::is_in_step;
use super::{product, tiles};
use crate::places::Places;
use rnnc_graph::Direction;
use rnnc_plan::{Map, Op, Phase, Task, Vector};

/// A kernel as it is being printed.
pub(super) struct Kernel<'a> {
    places: &'a Places<'a>,
    task: &'a Task,
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
    /// Which functions of vectors are summed up by parts, and where the sums begin.
    summed: Vec<(Summed<'a>, usize)>,
    /// The variables of results are numbered through.
    variables: usize,
    /// Where values are read to a step ahead: in loops of one frame a step, all of whose operations do the same one.
    ahead: Option<To>,
    carries: Vec<Carry>,
    earlies: Vec<ReadAhead>,
    /// Of each exchanged product, the lags of its parts.
    lags: Vec<Vec<i64>>,
    /// How many stores of a step come after its exchange; the statements of those of the present phase.
    lates: usize,
    late: String,
    late_declarations: String,
    out: String,
}

/// A place that reads ahead: what opens its items, and what it reads.
struct ReadAhead {
    head: String,
    early: Early,
}

/// Registers that reading ahead may take: beside products of lanes, and of tiles, which take more themselves.
const AHEAD: [usize; 2] = [56, 36];

/// Operations of a phase that a block runs without barrier inside: products, then the maps behind them.
struct Piece<'a> {
    offset: i64,
    /// Places in [`Layout::products`].
    products: Vec<usize>,
    maps: Vec<&'a Map>,
    vector: Option<&'a Vector>,
}

impl<'a> Kernel<'a> {
    /// `scratch` is where [`Layout::streamed`] numbers of each block are free, and behind them [`Layout::copied`] ones and
    /// those of the sums.
    pub fn new(
        places: &'a Places<'a>,
        task: &'a Task,
        layout: &'a Layout,
        summed: Vec<Summed<'a>>,
        scratch: usize,
        counters: usize,
        code: usize,
    ) -> Kernel<'a> {
        let stored = exchange::stored(task);
        let says_itself = |place: (usize, usize), reader: Reader<'_>| match reader {
            Reader::Product(product) => {
                let here = |p: &&ProductLayout| p.place == place && p.parts.contains(product);
                layout.products.iter().find(here).is_some_and(|p| p.polled)
            }
            Reader::Vector(v) => summed.iter().any(|s| s.polled && std::ptr::eq(s.vector, v)),
        };
        let waits = (0..task.phases.len()).map(|p| exchange::waits(task, &stored, p, &says_itself)).collect();
        let mut at = scratch;
        let mut far = Vec::new();
        for p in &layout.products {
            let numbers = layout.streamed_of(p);
            far.push((numbers > 0).then_some(at));
            at += numbers * layout.choice.all_blocks();
        }
        let window = places.config.window;
        let copies = |p: &ProductLayout| {
            let copies = p.copied.then_some(Copies { at, precision: layout.work.precision });
            at += p.copied_numbers() * (window + 2);
            copies
        };
        let copies = layout.products.iter().map(copies).collect();
        let with_place = |s: Summed<'a>| {
            let begin = at;
            at += s.numbers(window, layout.work.streams);
            (s, begin)
        };
        let summed = summed.into_iter().map(with_place).collect();
        let ahead = is_in_step(task).then_some(To::Registers);
        let lags = |p: &ProductLayout| {
            p.parts.iter().filter_map(|part| exchange::lag(task, &stored, part)).collect()
        };
        let lags = layout.products.iter().map(lags).collect();
        let carries = if ahead.is_some() { early::carries(task, &stored) } else { Vec::new() };
        Kernel {
            places,
            task,
            layout,
            stored,
            waits,
            counters,
            code,
            far,
            copies,
            summed,
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

    /// Opens what is done for each group of streams, where there are several: `a` is then the group's.
    fn begin_group(&mut self) {
        let Choice { blocks, groups, .. } = self.layout.choice;
        if !groups.several() {
            return;
        }
        let (count, launched, streams, all) = (groups.count(), groups.launched, groups.streams, groups.all);
        let scratch = self.layout.exchanged(self.task, self.places.config.window);
        self.line("    const Args& args = a;");
        self.line(&format!(
            "    for (u32 group = block() / {blocks}u; group < {count}u; group += {launched}u) {{"
        ));
        self.line(&format!(
            "    const GroupArgs a = group_args(args, group * {streams}u, {streams}u, {all}u, args.scratch + (u64)group * {scratch}ull);"
        ));
    }

    /// Closes it. Whoever goes on finds what the block has in shared memory read.
    fn end_group(&mut self) {
        let groups = self.layout.choice.groups;
        if groups.turns() > 1 {
            self.line("    block_sync();");
        }
        if groups.several() {
            self.line("    }");
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
            summed: self.summed.clone(),
            ..*self
        }
    }

    /// The text: functions, then the kernel.
    pub fn text(mut self, name: &str) -> String {
        let (threads, groups) = (self.layout.threads, self.layout.choice.groups);
        for (k, product) in self.layout.products.iter().enumerate() {
            product::functions(&mut self.out, &k.to_string(), product, self.places, groups);
            if product.exchanged {
                product::exchanged(
                    &mut self.out,
                    &k.to_string(),
                    product,
                    self.layout.work.rows,
                    self.places,
                );
            }
            match self.copies[k] {
                Some(Copies { at, .. }) if product.polled => {
                    posts::functions(&mut self.out, &k.to_string(), product, self.places, at);
                }
                Some(copies) => copies.functions(&mut self.out, &k.to_string(), product, self.places),
                None => {}
            }
        }
        self.line(&format!("LOOP_KERNEL({name}, {threads}) {{"));
        self.line("    float* const sm = shared_memory();");
        let blocks = self.layout.choice.blocks;
        // Of the group, and of all.
        let [g, block] = match groups.several() {
            true => [format!("block() % {blocks}u"), "block()".into()],
            false => [if blocks == 1 { "0u".into() } else { "block()".to_string() }, "g".into()],
        };
        self.line(&format!("    const u32 tid = thread(), lane = tid & 31u, warp = tid / 32u, g = {g};"));
        let team = self.layout.choice.team;
        self.line(&format!("    const u32 team = g / {team}u, member = g % {team}u; (void)member;"));
        self.line("    const int n = a.end - a.first;");
        self.line("    bool failed = false;");
        if self.layout.choice.tier == Tier::Grid {
            self.members();
        }
        for (k, product) in self.layout.products.iter().enumerate() {
            let (id, far) = (k.to_string(), self.far[k]);
            match product.way {
                Way::Lanes => product::weights(&mut self.out, &id, product, threads, far, &block),
                Way::Tiles => {
                    let precision = self.layout.work.precision;
                    tiles::weights(&mut self.out, &id, product, threads, far, precision, &block);
                }
            }
        }
        let placed = || self.task.phases.iter().flat_map(|p| &p.ops).map(|p| p.offset);
        let (least, largest) = (placed().min().unwrap_or(0), placed().max().unwrap_or(0));
        let width = self.width() as i64;
        let begin = (-largest).div_euclid(width);
        self.line(&format!(
            "    const int begin = {begin}, stop = floor_div(n + {}, {width});",
            width - 1 - least
        ));
        let head = std::mem::take(&mut self.out);
        let task = self.task;
        for (number, phase) in task.phases.iter().enumerate() {
            self.phase(number, phase);
        }
        let registers: usize = self.earlies.iter().map(|place| place.early.registers()).sum();
        let most = AHEAD[usize::from(self.layout.choice.way == Way::Tiles)];
        if registers + self.carry_registers() + self.lates > most && self.ahead == Some(To::Registers) {
            return self.with_cache().text(name);
        }
        let body = std::mem::take(&mut self.out);
        self.out = head;
        self.begin_group();
        self.before_the_first_step();
        self.first_sources();
        self.first_copies();
        self.first_barrier();
        // Weights in shared memory are their own thread's, so nothing has to be met for.
        self.line("    for (int step = begin; step < stop; step++) {");
        self.before_a_step();
        self.out.push_str(&body);
        self.after_a_step();
        self.line("    }");
        self.end_group();
        self.line("}");
        self.out
    }

    /// Items of a block.
    fn items_of(&self, slice_len: usize) -> usize {
        let (of_units, of_streams) = self.layout.item(slice_len);
        units(slice_len, self.layout.choice.blocks).div_ceil(of_units) * self.streams().div_ceil(of_streams)
    }

    /// Items of a warp: a few units of a few streams each.
    fn items_of_a_warp(&self, slice_len: usize) -> usize {
        self.items_of(slice_len).div_ceil(self.layout.threads / 32)
    }

    /// The frame of the step with that number.
    fn step_frame(&self, step: &str) -> String {
        match self.task.direction {
            Direction::Forward => format!("a.first + {step}"),
            Direction::Backward => format!("a.end - 1 - ({step})"),
        }
    }

    /// Which reads of a product cross, for `frame` and `stream`.
    fn crossing(&self, k: usize) -> String {
        let row = self.row();
        format!("crossing_{k}(a, frame, constant(a.since_reset + ({row})), constant(a.ahead + ({row})))")
    }

    fn line(&mut self, line: &str) {
        self.out.push_str(line);
        self.out.push('\n');
    }

    /// Frames of a step.
    fn width(&self) -> usize {
        self.layout.work.rows / self.streams()
    }

    /// Streams of a group.
    fn streams(&self) -> usize {
        self.layout.work.streams
    }

    /// The expression of the row of `frame` and `stream`.
    fn row(&self) -> String {
        self.layout.choice.groups.row("stream")
    }

    fn phase(&mut self, number: usize, phase: &'a Phase) {
        let tier = self.layout.choice.tier;
        if tier == Tier::Grid {
            self.wait(number);
        }
        let pieces = self.pieces(number, phase);
        for (n, piece) in pieces.iter().enumerate() {
            if n > 0 {
                self.line("        block_sync();");
            }
            self.piece(piece);
        }
        self.own_sums(number);
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
                    let (c, blocks) = (self.groups(), self.layout.choice.blocks);
                    let alone = self.ends_in_one_warp(number, phase);
                    self.line(if alone { "        warp_sync();" } else { "        block_sync();" });
                    self.line(&format!(
                        "        if (tid == 0) signal(a.counters + {counter} + g * {c}u / {blocks}u * 32u);"
                    ));
                }
            }
        } else if number + 1 < self.task.phases.len()
            || self.layout.buffers() == 1 && !self.begins_by_staging()
            // Other threads read what a vector function stores.
            || pieces.last().is_some_and(|piece| piece.vector.is_some())
        {
            self.line("        block_sync();");
        }
        self.late_stores();
    }

    /// Whether all threads of a block meet in a step before any sums are written: where they bring sources to shared memory.
    fn begins_by_staging(&self) -> bool {
        let first = self.task.phases.first().map(|phase| self.pieces(0, phase));
        let piece = first.and_then(|pieces| pieces.into_iter().next());
        piece.is_some_and(|p| p.products.first().is_some_and(|&k| self.layout.products[k].staged > 0))
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
        let (index, frame) = self.index_and_frame(offset, j);
        format!("{{ const int i = {index}; if (i < 0 || i >= n) continue; const int frame = {frame};")
    }

    /// The expressions of a step's frame `j`, in the order of steps, and, from that (`i`), of the frame itself.
    fn index_and_frame(&self, offset: i64, j: &str) -> (String, &'static str) {
        let width = self.width();
        let frame = match self.task.direction {
            Direction::Forward => "a.first + i",
            Direction::Backward => "a.end - 1 - i",
        };
        (format!("step * {width} + ({offset}) + (int)({j})"), frame)
    }

    fn piece(&mut self, piece: &Piece<'a>) {
        let (streams, rows, threads) = (self.streams(), self.layout.work.rows, self.layout.threads);
        if let Some(vector) = piece.vector {
            return self.vector(vector, piece.offset);
        }
        let frame = self.frame(piece.offset, &format!("q / {streams}u"));
        let groups = self.layout.choice.groups;
        let absent = if groups.are_equal() { "" } else { " if (stream >= a.streams) continue;" };
        let frame_of = format!("{frame} const u32 stream = q % {streams}u;{absent}");
        for (number, &k) in piece.products.iter().enumerate() {
            let p = &self.layout.products[k];
            if number > 0 && p.staged > 0 && !p.shares {
                // The one before is still being read.
                self.line("        block_sync();");
            }
            let mut opening = String::new();
            let crossing = match (p.way, self.crossings_ahead()) {
                (Way::Lanes, true) => format!("crossing_{k}(a, frame, since_reset, ahead)"),
                (Way::Tiles, _) if self.tile_since_reset() > 0 => {
                    tiles::crossings(&mut opening, &k.to_string(), p, self.tile_since_reset())
                }
                _ => self.crossing(k),
            };
            self.line(&format!("        {{ const int frame = {}; (void)frame;", self.step_frame("step")));
            self.out.push_str(&opening);
            let buffers = self.layout.buffers();
            let code = self.code;
            let around = product::Around {
                rows,
                threads,
                buffers,
                frame_of: &frame_of,
                groups,
                crossing: &crossing,
                code,
            };
            match p.way {
                Way::Lanes => product::sums(&mut self.out, &k.to_string(), p, &around),
                Way::Tiles => {
                    let (id, precision, copies) = (k.to_string(), self.layout.work.precision, self.copies[k]);
                    tiles::sums(&mut self.out, &id, p, &around, precision, copies);
                }
            }
            self.line("        }");
        }
        if !piece.products.is_empty() {
            self.line("        block_sync();");
        }
        if !piece.products.is_empty() && self.layout.choice.team > 1 {
            for &k in &piece.products {
                tiles::gather(&mut self.out, &self.layout.products[k], rows, threads);
            }
            self.line("        cluster_arrive();\n        cluster_wait();");
        }
        let mut slice_lens: Vec<usize> = Vec::new();
        let written = piece.products.iter().map(|&k| self.layout.products[k].slice_len());
        for slice_len in written.chain(piece.maps.iter().map(|m| m.slice_len)) {
            if !slice_lens.contains(&slice_len) {
                slice_lens.push(slice_len);
            }
        }
        for slice_len in slice_lens {
            self.items(piece, slice_len);
        }
    }
}
