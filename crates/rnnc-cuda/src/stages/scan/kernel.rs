//! The code of a recurrence in each shape.
//!
//! In chunks, a block takes a ticket for the next chunk of some lanes, loads its inputs once and keeps them. Each thread
//! has a few frames of one lane: what they make of the state is an affine map of it, found without knowing the state
//! (Blelloch 1990). The block composes these maps, waits for the state that the chunk before leaves, publishes its own,
//! and only then do its threads compute their frames. States go from chunk to chunk in order, never by way of whichever
//! came first, so results repeat bit for bit; and tickets are handed out in the order of chunks, so who is waited for runs.

use super::text::Text;
use crate::places::Places;
use rnnc_plan::Program;
use rnnc_plan::recurrence::{Recurrence, ScanLeaf};
use std::fmt::Write;

/// Frame after frame, a thread a lane. `at` is the block, among those of this recurrence.
pub(crate) fn ordered(places: &Places<'_>, recurrence: &Recurrence, threads: usize, tile: usize) -> String {
    let mut text = Text::new(places, recurrence);
    let lanes = recurrence.len * places.streams();
    let replay = text.replay("now", tile, "frames", "s");
    let mut out = format!(
        "const u32 lane = at * {threads}u + thread();\nif (lane >= {lanes}u) return;\n{}{}",
        lane_of(recurrence),
        text.weights()
    );
    for (state, delay, slot) in slots(recurrence) {
        let _ = writeln!(out, "float s{slot} = {};", text.initial(state, delay));
    }
    let _ = write!(
        out,
        "{}Tile now, next;\n{}for (int t0 = 0; t0 < frames; t0 += {tile}) {{\n{}{replay}now = next;\n}}\n",
        text.tile(tile),
        text.load("now", "0", tile),
        text.load("next", &format!("t0 + {tile}"), tile),
    );
    out
}

/// `stream` and `u` of `lane`, and the frames of the pass.
fn lane_of(recurrence: &Recurrence) -> String {
    let len = recurrence.len;
    format!("const u32 stream = lane / {len}u, u = lane % {len}u;\nconst int frames = a.end - a.first;\n")
}

/// The numbers of the state: which, how many frames before, and the place.
fn slots(recurrence: &Recurrence) -> impl Iterator<Item = (usize, usize, usize)> {
    let states = recurrence.states.iter().enumerate();
    states.flat_map(|(n, s)| (1..=s.depth).map(move |d| (n, d))).map(|(n, d)| (n, d, recurrence.slot(n, d)))
}

/// A recurrence in chunks.
pub(crate) struct Chunked<'a> {
    pub places: &'a Places<'a>,
    pub recurrence: &'a Recurrence,
    /// What of it the state needs.
    pub affine: &'a Program<ScanLeaf>,
    pub threads: usize,
    /// Lanes of a block.
    pub lanes: usize,
    /// Frames of a thread.
    pub tile: usize,
    /// Its first number in the scratch region.
    pub scratch: usize,
    /// Its first counter: that of tickets; those of the blocks' lanes follow, each on a line of its own.
    pub counters: usize,
    /// What a wait without end raises.
    pub code: usize,
}

impl Chunked<'_> {
    /// Rounds of threads: each has the frames after those of the round before.
    fn rows(&self) -> usize {
        self.threads / self.lanes
    }

    /// How many blocks stand side by side.
    fn columns(&self) -> usize {
        (self.recurrence.len * self.places.streams()).div_ceil(self.lanes)
    }

    /// Lines of counters.
    pub fn lines(&self) -> usize {
        1 + self.columns()
    }

    /// The states between chunks.
    pub fn scratch_len(&self, chunks: usize) -> usize {
        (chunks - 1) * self.recurrence.order() * self.columns() * self.lanes
    }

    /// Shared memory: a ticket, the state before the chunk, and each thread's map of it.
    pub fn shared_bytes(&self) -> usize {
        let order = self.recurrence.order();
        4 * (4 + order * self.lanes + (order * (order + 1) + 1) * self.threads)
    }

    pub fn text(&self) -> String {
        let Chunked { places, recurrence, lanes, tile, counters, code, .. } = *self;
        let (order, rows, columns) = (recurrence.order(), self.rows(), self.columns());
        let all = recurrence.len * places.streams();
        let mut text = Text::new(places, recurrence);
        let summary = text.summary("now", tile, self.affine);
        let replay = text.replay("now", tile, "last", "s");
        let width = columns * lanes;
        let mut out = format!(
            "float* const before = shared_memory() + 4;
float* const maps = before + {order} * {lanes};
if (thread() == 0) *(u32*)shared_memory() = ticket(a.counters + {counters}u);
block_sync();
const u32 turn = *(const u32*)shared_memory();
const u32 chunk = turn / {columns}u, column = turn % {columns}u;
const u32 x = thread() % {lanes}u, y = thread() / {lanes}u, place = column * {lanes}u + x;
const u32 lane = place < {all}u ? place : {last_lane}u;
{lane_of}const int start = (int)chunk * {chunk_len};
if (start >= frames) return;
const int t0 = start + (int)y * {tile};
{weights}{tile_type}Tile now;
{load}",
            last_lane = all - 1,
            lane_of = lane_of(recurrence),
            chunk_len = rows * tile,
            weights = text.weights(),
            tile_type = text.tile(tile),
            load = text.load("now", "t0", tile),
        );
        let _ = writeln!(out, "bool cut = false;");
        for slot in 0..order {
            let _ = write!(out, "float b{slot} = 0.f;");
            (0..order).for_each(|j| {
                let _ = write!(out, " float m{slot}_{j} = {}.f;", u32::from(slot == j));
            });
            out.push('\n');
        }
        let _ = write!(
            out,
            "{summary}{keep}
UNROLL for (u32 by = 1; by < {rows}u; by *= 2) {{
block_sync();
const bool joins = y >= by && !cut;
{fetch}block_sync();
if (joins) {{
{compose}{keep}}}
}}
const u32* const counter = a.counters + {lines}u + column * 32u;
if (y == {rows}u - 1) {{
{wait}{leave}}}
block_sync();
if (thread() == 0) signal((u32*)counter);
",
            keep = self.keep(),
            fetch = self.fetch("joins", &format!("thread() - by * {lanes}u")),
            compose = self.compose(),
            lines = counters + 32,
            wait = self.wait(&text, width, code),
            leave = self.leave(width),
        );
        // Each thread's frames begin with what the chunk's state and the threads before make.
        let _ = write!(
            out,
            "{}",
            (0..order).map(|s| format!("float s{s} = before[{s} * {lanes} + x];\n")).collect::<String>()
        );
        let _ = write!(
            out,
            "if (y > 0) {{\n{fetch}{apply}}}\nconst int last = place < {all}u ? frames : 0;\n{replay}",
            fetch = self.fetch("true", &format!("thread() - {lanes}u")),
            apply = self.apply("e", "s", "n")
                + &(0..order).map(|s| format!("s{s} = n{s};\n")).collect::<String>(),
        );
        out
    }

    /// Where a part of a thread's map lies in shared memory.
    fn part(&self, part: usize, thread: &str) -> String {
        format!("maps[{part} * {} + {thread}]", self.threads)
    }

    /// The parts of a map, by name: whether it depends on the state at all, constants, coefficients.
    fn parts(&self) -> Vec<String> {
        let order = self.recurrence.order();
        let coefficients = (0..order).flat_map(|s| (0..order).map(move |j| format!("m{s}_{j}")));
        (0..order).map(|s| format!("b{s}")).chain(coefficients).collect()
    }

    /// Puts the thread's map where the others see it.
    fn keep(&self) -> String {
        let mut out = format!("{} = cut ? 1.f : 0.f;\n", self.part(0, "thread()"));
        for (n, part) in self.parts().iter().enumerate() {
            let _ = writeln!(out, "{} = {part};", self.part(n + 1, "thread()"));
        }
        out
    }

    /// Reads another thread's map, its names preceded by `e`.
    fn fetch(&self, when: &str, thread: &str) -> String {
        let mut out = format!("const u32 from = {when} ? {thread} : 0u;\n");
        let _ = writeln!(out, "const bool ecut = {} != 0.f;", self.part(0, "from"));
        for (n, part) in self.parts().iter().enumerate() {
            let _ = writeln!(out, "const float e{part} = {};", self.part(n + 1, "from"));
        }
        out
    }

    /// The thread's map after another's.
    fn compose(&self) -> String {
        let order = self.recurrence.order();
        let sum = |s: usize, of: &dyn Fn(usize) -> String, last: &str| {
            (0..order).rev().fold(last.to_string(), |sum, k| format!("add_share(m{s}_{k}, {}, {sum})", of(k)))
        };
        let mut out = String::new();
        for s in 0..order {
            let _ = writeln!(out, "b{s} = {};", sum(s, &|k| format!("eb{k}"), &format!("b{s}")));
            for j in 0..order {
                let _ = writeln!(out, "const float p{s}_{j} = {};", sum(s, &|k| format!("em{k}_{j}"), "0.f"));
            }
        }
        for (s, j) in (0..order).flat_map(|s| (0..order).map(move |j| (s, j))) {
            let _ = writeln!(out, "m{s}_{j} = p{s}_{j};");
        }
        out.push_str("cut = ecut;\n");
        out
    }

    /// What a map, its names preceded by `map`, makes of a state.
    fn apply(&self, map: &str, state: &str, to: &str) -> String {
        let order = self.recurrence.order();
        let mut out = String::new();
        for s in 0..order {
            let constant = format!("{map}b{s}");
            let sum = (0..order)
                .rev()
                .fold(constant.clone(), |sum, j| format!("add_share({map}m{s}_{j}, {state}{j}, {sum})"));
            let _ = writeln!(out, "const float {to}{s} = {map}cut ? {constant} : {sum};");
        }
        out
    }

    /// The state before the chunk, in `i0`, ...
    fn wait(&self, text: &Text<'_>, width: usize, code: usize) -> String {
        let (order, lanes) = (self.recurrence.order(), self.lanes);
        let mut out = String::new();
        for slot in 0..order {
            let _ = writeln!(out, "float i{slot};");
        }
        out.push_str("if (chunk == 0) {\n");
        for (state, delay, slot) in slots(self.recurrence) {
            let _ = writeln!(out, "i{slot} = {};", text.initial(state, delay));
        }
        let _ = writeln!(out, "}} else {{\nwait_until(a, counter, chunk, {code}u);");
        let _ = writeln!(
            out,
            "const float* const from = a.scratch + {}ull + (u64)(chunk - 1) * {}ull + place;",
            self.scratch,
            order * width
        );
        for slot in 0..order {
            let _ = writeln!(out, "i{slot} = fresh(from + {});", slot * width);
        }
        out.push_str("}\n");
        for slot in 0..order {
            let _ = writeln!(out, "before[{slot} * {lanes} + x] = i{slot};");
        }
        out
    }

    /// Publishes the state after the chunk, if there is one more.
    fn leave(&self, width: usize) -> String {
        let order = self.recurrence.order();
        let chunk = self.rows() * self.tile;
        let mut out = self.apply("", "i", "o");
        let _ = writeln!(
            out,
            "if (start + {chunk} < frames) {{\nfloat* const to = a.scratch + {}ull + (u64)chunk * {}ull + place;",
            self.scratch,
            order * width
        );
        for slot in 0..order {
            let _ = writeln!(out, "put(to + {}, o{slot});", slot * width);
        }
        out.push_str("}\n");
        out
    }
}
