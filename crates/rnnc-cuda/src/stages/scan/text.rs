//! A recurrence's frames as text: what a tile of frames loads, and what each of them computes.

use crate::places::{Places, float};
use crate::source::map;
use crate::source::program::{Names, Printer};
use rnnc_graph::Direction;
use rnnc_plan::affine::{self, Form, Frame};
use rnnc_plan::recurrence::{Input, Recurrence, ScanLeaf};
use rnnc_plan::{Mask, Program, Read, StartValue, View};
use std::collections::HashMap;
use std::fmt::Write;

/// Prints the code of one recurrence. Variables of the code around: `lane`'s `stream` and `u`, the unit counted from the
/// recurrence's first; `frames` of the pass; `t`, a frame of the pass counted along the direction.
pub(crate) struct Text<'a> {
    pub places: &'a Places<'a>,
    pub recurrence: &'a Recurrence,
    /// Weights that frames use, by their place: read once.
    weights: Vec<usize>,
}

impl<'a> Text<'a> {
    pub fn new(places: &'a Places<'a>, recurrence: &'a Recurrence) -> Text<'a> {
        Text { places, recurrence, weights: Vec::new() }
    }

    /// `frame` of frame `t`.
    fn frame(&self) -> &'static str {
        match self.recurrence.direction {
            Direction::Forward => "const int frame = a.first + t;",
            Direction::Backward => "const int frame = a.end - 1 - t;",
        }
    }

    /// Its `frame` and `row`.
    fn frame_and_row(&self) -> String {
        format!("{} const u64 row = (u64)frame * {}ull + stream;", self.frame(), self.places.streams())
    }

    /// The type of what a tile of frames loads: values, and how near the next reset is.
    pub fn tile(&self, frames: usize) -> String {
        let mut out = String::from("struct Tile {");
        for n in 0..self.recurrence.inputs.len() {
            let _ = write!(out, " float x{n}[{frames}];");
        }
        for name in self.clocks() {
            let _ = write!(out, " u32 {name}[{frames}];");
        }
        out.push_str(" };\n");
        out
    }

    /// Which of the arguments' clocks tell whether reads cross.
    fn clocks(&self) -> Vec<&'static str> {
        let (r, back) = (self.recurrence, self.recurrence.direction == Direction::Backward);
        let delays = || r.inputs.iter().map(|input| input.read.delay);
        let since_reset = delays().any(|d| d > 0) || (!r.states.is_empty() && !back);
        let ahead = delays().any(|d| d < 0) || (!r.states.is_empty() && back);
        [(since_reset, "since_reset"), (ahead, "ahead")]
            .into_iter()
            .filter(|(needed, _)| *needed)
            .map(|(_, n)| n)
            .collect()
    }

    /// How many numbers a frame loads.
    pub fn loads(&self) -> usize {
        self.recurrence.inputs.len() + self.clocks().len()
    }

    /// Loads a tile from frame `from` on. Frames past the last load the last: nothing depends on them, and so no load
    /// waits for a condition.
    pub fn load(&self, tile: &str, from: &str, frames: usize) -> String {
        let mut out = format!(
            "UNROLL for (int i = 0; i < {frames}; ++i) {{\nint t = {from} + i; t = t < frames ? t : frames - 1; {}\n",
            self.frame_and_row()
        );
        for name in self.clocks() {
            let _ = writeln!(out, "{tile}.{name}[i] = constant(a.{name} + row);");
        }
        for (n, input) in self.recurrence.inputs.iter().enumerate() {
            let _ = writeln!(out, "{tile}.x{n}[i] = *({});", self.source(input));
        }
        out.push_str("}\n");
        out
    }

    /// Where an input is read, if it does not cross; else somewhere that can be read.
    fn source(&self, input: &Input) -> String {
        let streams = self.places.streams();
        let unit = input.repeat.map_or("u".into(), map::repeated);
        let Read { view, delay, history, .. } = input.read;
        if delay == 0 || (delay > 0 && history) {
            return self.places.source_address(&input.read, "row", &unit);
        }
        let (source, last) = if delay > 0 {
            (format!("frame - {delay}"), format!("(frame < a.first + {delay} ? a.first : "))
        } else {
            (format!("frame + {}", -delay), format!("(frame >= a.end - {} ? a.end - 1 : ", -delay))
        };
        self.places.address(view, &format!("{last}{source}) * {streams}ull + stream"), &unit)
    }

    /// The number of the state `delay` frames before the pass's first: what history holds.
    pub fn initial(&self, state: usize, delay: usize) -> String {
        let state = &self.recurrence.states[state];
        if self.recurrence.direction == Direction::Backward || !state.history {
            // Whatever reads it crosses.
            return float(0.0);
        }
        let read =
            Read { view: state.view, delay: delay as i64, start: StartValue::Number(0.0), history: true };
        let row = format!("(u64)a.first * {}ull + stream", self.places.streams());
        format!("*({})", self.places.source_address(&read, &row, "u"))
    }

    /// The weights, read once. To be printed before all frames, when these have been made.
    pub fn weights(&self) -> String {
        let weight = |(n, offset): (usize, &usize)| {
            format!("const float w{n} = constant(a.weights + ({offset}ull + u));\n")
        };
        self.weights.iter().enumerate().map(weight).collect()
    }

    /// The frames of a tile from frame `t0` on, before frame `end`: from the state in variables `<state>0`, ... on.
    pub fn replay(&mut self, tile: &str, frames: usize, end: &str, state: &str) -> String {
        let recurrence = self.recurrence;
        let slots: Vec<Form<String>> =
            (0..recurrence.order()).map(|slot| Form::free(format!("{state}{slot}"))).collect();
        let mut printer = Printer::new(Names::Counted(0), FrameSite::new(self, tile));
        // Without coefficients everything is affine.
        let after = affine::run(recurrence, &recurrence.program, &slots, &mut printer).unwrap_or_default();
        let mut body = printer.text;
        push(&mut body, recurrence, &after, 0, |slot, _| format!("{state}{slot}"));
        over_tile(frames, end, &self.frame_and_row(), &body)
    }

    /// The same, of affine forms: constants in `<constant>0`, ..., coefficients in `<coefficient>0_0`, ...; only what the state needs.
    /// `cut` is set where a new sequence begins, after which nothing depends on the state.
    pub fn summary(&mut self, tile: &str, frames: usize, affine: &Program<ScanLeaf>) -> String {
        let recurrence = self.recurrence;
        let order = recurrence.order();
        let slots: Vec<Form<String>> = (0..order)
            .map(|slot| Form {
                constant: format!("b{slot}"),
                coefficients: (0..order).map(|j| format!("m{slot}_{j}")).collect(),
            })
            .collect();
        let site = FrameSite::new(self, tile);
        let (delay, history) = site.own(1);
        let begins = site.condition(delay, history);
        let mut printer = Printer::new(Names::Counted(0), site);
        let mut body = format!("if ({begins}) {{ cut = true; ");
        for slot in 0..order {
            // All reads of it will cross: whatever it was must not be seen again, were it infinite.
            let _ = write!(body, "b{slot} = 0.f; ");
            (0..order).for_each(|j| {
                let _ = write!(body, "m{slot}_{j} = 0.f; ");
            });
        }
        body.push_str("}\n");
        let after = affine::run(recurrence, affine, &slots, &mut printer).unwrap_or_default();
        body.push_str(&printer.text);
        push(&mut body, recurrence, &after, order, |slot, j| match j {
            None => format!("b{slot}"),
            Some(j) => format!("m{slot}_{j}"),
        });
        // Not every recurrence uses the frame's number.
        over_tile(frames, "frames", &format!("{} (void)frame;", self.frame()), &body)
    }
}

/// The frames of a tile that come before frame `end`.
fn over_tile(frames: usize, end: &str, head: &str, body: &str) -> String {
    format!(
        "UNROLL for (int i = 0; i < {frames}; ++i) {{\nconst int t = t0 + i;\nif (t < {end}) {{ {head}\n{body}}}\n}}\n"
    )
}

/// Moves the state on by a frame: its constants, and the first `coefficients` of its coefficients. `name` is that of a slot's
/// constant, or of one of its coefficients.
fn push(
    out: &mut String,
    recurrence: &Recurrence,
    after: &[Form<String>],
    coefficients: usize,
    name: impl Fn(usize, Option<usize>) -> String,
) {
    let parts = || std::iter::once(None).chain((0..coefficients).map(Some));
    for (n, (state, after)) in recurrence.states.iter().zip(after).enumerate() {
        for (delay, part) in (2..=state.depth).rev().flat_map(|delay| parts().map(move |part| (delay, part)))
        {
            let (to, from) = (recurrence.slot(n, delay), recurrence.slot(n, delay - 1));
            let _ = writeln!(out, "{} = {};", name(to, part), name(from, part));
        }
        for part in parts() {
            let value = match part {
                None => &after.constant,
                Some(j) => after.coefficients.get(j).map_or("0.f", |coefficient| coefficient),
            };
            let _ = writeln!(out, "{} = {value};", name(recurrence.slot(n, 1), part));
        }
    }
}

/// How frames read and write.
struct FrameSite<'a, 'b> {
    text: &'a mut Text<'b>,
    tile: &'a str,
    /// Conditions already printed, by delay and whether there is history.
    conditions: HashMap<(i64, bool), String>,
}

impl<'a, 'b> FrameSite<'a, 'b> {
    fn new(text: &'a mut Text<'b>, tile: &'a str) -> FrameSite<'a, 'b> {
        FrameSite { text, tile, conditions: HashMap::new() }
    }

    /// The condition under which a read with that delay crosses.
    fn condition(&self, delay: i64, history: bool) -> String {
        let tile = self.tile;
        match delay {
            1.. if history => format!("{tile}.since_reset[i] < {delay}u"),
            1.. => format!("{tile}.since_reset[i] < {delay}u || frame - {delay} < a.first"),
            _ => format!("{tile}.ahead[i] <= {}u", -delay),
        }
    }

    /// The delay of a read of the recurrence's own, and whether there is history.
    fn own(&self, delay: usize) -> (i64, bool) {
        let recurrence = self.text.recurrence;
        // They are layers of one component, and so alike in this.
        let history = recurrence.states.iter().all(|state| state.history);
        let delay = delay as i64;
        (if recurrence.direction == Direction::Forward { delay } else { -delay }, history)
    }
}

/// Where a read crosses its start, else its value.
fn select(
    printer: &mut Printer<FrameSite<'_, '_>>,
    (delay, history): (i64, bool),
    start: &str,
    value: &str,
) -> String {
    let site = &mut printer.site;
    let name = match site.conditions.get(&(delay, history)) {
        Some(name) => name.clone(),
        None => {
            let name = format!("c{}", site.conditions.len());
            let _ = writeln!(printer.text, "const bool {name} = {};", site.condition(delay, history));
            site.conditions.insert((delay, history), name.clone());
            name
        }
    };
    printer.result(format!("{name} ? {start} : {value}"))
}

impl Frame for Printer<FrameSite<'_, '_>> {
    fn input(&mut self, place: usize) -> String {
        let value = format!("{}.x{place}[i]", self.site.tile);
        let Input { read, repeat } = self.site.text.recurrence.inputs[place];
        if read.delay == 0 {
            return value;
        }
        let start = match (read.start, repeat) {
            (StartValue::Weight(offset), Some(repeat)) => {
                format!("constant(a.weights + ({offset}ull + {}))", map::repeated(repeat))
            }
            (start, _) => self.start(&start),
        };
        select(self, (read.delay, read.history), &start, &value)
    }

    fn weight(&mut self, offset: usize) -> String {
        let weights = &mut self.site.text.weights;
        let place = weights.iter().position(|&other| other == offset).unwrap_or_else(|| {
            weights.push(offset);
            weights.len() - 1
        });
        format!("w{place}")
    }

    fn mask(&mut self, mask: &Mask) -> String {
        if !self.site.text.places.config.training {
            return float(1.0);
        }
        self.result(map::mask(mask, "stream"))
    }

    fn start(&mut self, start: &StartValue) -> String {
        match *start {
            StartValue::Number(number) => float(number),
            StartValue::Weight(offset) => self.weight(offset),
        }
    }

    fn crossing(&mut self, delay: usize, start: String, value: String) -> String {
        let own = self.site.own(delay);
        select(self, own, &start, &value)
    }

    fn store(&mut self, to: View, value: String) {
        let address = self.site.text.places.address(to, "row", "u");
        let _ = writeln!(self.text, "*({address}) = {value};");
    }
}
