//! A fused elementwise program as straight-line code for one unit of one row.

use super::formula;
use crate::places::{Places, float};
use rnnc_plan::{Binary, Instruction, Map, Read, Repeat, View};
use std::fmt::Write;

/// Where a map stands: how the code around it reads and writes. Expressions are for unit `u`, counted from the map's
/// first, in row `row`.
pub(crate) trait Site {
    /// The value of a read, as an expression; `unit` is the place within its view.
    fn load(&mut self, read: &Read, unit: &str) -> String;

    /// The value of a weight vector that begins at `offset`, as an expression.
    fn weight(&mut self, offset: usize) -> String {
        format!("constant(a.weights + ({offset}ull + u))")
    }

    /// A statement that writes a register.
    fn store(&mut self, to: View, value: &str) -> String;

    /// Whether dropout is on.
    fn dropout(&self) -> bool;
}

/// The statements of a map. Variables `u`, `frame` and `stream` are defined by the code around; registers are called
/// `<prefix>0`, `<prefix>1`, ...
pub(crate) fn statements(map: &Map, prefix: &str, site: &mut dyn Site) -> String {
    let mut out = String::new();
    let r = |register: usize| format!("{prefix}{register}");
    for step in &map.program {
        let (to, value) = match *step {
            Instruction::Load { ref read, to } => (to, site.load(read, "u")),
            Instruction::LoadRepeated { ref read, repeat, to } => (to, site.load(read, &repeated(repeat))),
            Instruction::Weight { offset, to } => (to, site.weight(offset)),
            Instruction::Number { value, to } => (to, float(value)),
            Instruction::Mask { to, .. } if !site.dropout() => (to, float(1.0)),
            Instruction::Mask { key, probability, first, to } => {
                (to, mask(key, probability, &format!("{first}u + u")))
            }
            Instruction::Apply { function, from, to } => {
                (to, format!("{}({})", formula::name(function), r(from)))
            }
            Instruction::Scale { factor, from, to } => (to, format!("{} * {}", float(factor), r(from))),
            Instruction::Binary { op, a, b, to } => (to, binary(op, &r(a), &r(b))),
            Instruction::MulAdd { a, b, c, to } => (to, format!("fused({}, {}, {})", r(a), r(b), r(c))),
            Instruction::Store { from, to } => {
                let statement = site.store(to, &r(from));
                let _ = writeln!(out, "{statement}");
                continue;
            }
        };
        let _ = writeln!(out, "const float {} = {value};", r(to));
    }
    out
}

/// The place in its view that unit `u` of whoever reads it repeated reads, as an expression.
pub(crate) fn repeated(repeat: Repeat) -> String {
    format!("({}u + u) / {}u", repeat.first, repeat.times)
}

/// The expression of a dropout mask for a unit of its layer.
pub(crate) fn mask(key: u64, probability: f64, unit: &str) -> String {
    // The least hash that is kept: `hash >= p * 2^32`, of integers.
    let least = (probability * 4_294_967_296.0).ceil() as u64;
    let kept = float(1.0 / (1.0 - probability));
    format!("mask(a.run[RUN_SEED], {key}ull, absolute(a, frame), stream, {unit}, {least}ull, {kept})")
}

/// The expression of an operation.
pub(crate) fn binary(op: Binary, a: &str, b: &str) -> String {
    match op {
        Binary::Add => format!("{a} + {b}"),
        Binary::Mul => format!("{a} * {b}"),
        Binary::Div => format!("{a} / {b}"),
        Binary::Max => format!("b_max({a}, {b})"),
        Binary::Min => format!("b_min({a}, {b})"),
        Binary::Known => format!("b_known({a}, {b})"),
        Binary::Step => format!("b_step({a}, {b})"),
    }
}

/// A map over rows of memory, all reads from there: of frames stages.
pub(crate) struct Rows<'a> {
    pub places: &'a Places<'a>,
}

impl Site for Rows<'_> {
    fn load(&mut self, read: &Read, unit: &str) -> String {
        let value = format!("*({})", self.places.source_address(read, "row", unit));
        match self.places.crosses(read, "row", "frame") {
            None => value,
            Some(crosses) => format!("{crosses} ? {} : {value}", self.places.start(read, unit)),
        }
    }

    fn store(&mut self, to: View, value: &str) -> String {
        format!("*({}) = {value};", self.places.address(to, "row", "u"))
    }

    fn dropout(&self) -> bool {
        self.places.config.training
    }
}
