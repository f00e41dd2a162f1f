//! Vector functions: of whole groups of units, each group by one thread, one warp or one block.
//!
//! [`statements`] is the code for one group of one row; the code around says where operands are and what is written,
//! through a [`Site`]. [`kernel`] is such code for all rows of a pass.

use super::rows::{crossing_value, defined, index_type};
use crate::compile::Builder;
use crate::places::{Places, float};
use crate::program::{Command, Work};
use rnnc_graph::Operation;
use rnnc_plan::Vector;
use std::fmt::Write;

/// Where a vector function stands: how the code around reads and writes. Units are expressions: places within the
/// operand's, or the result's, view.
pub(crate) trait Site {
    /// The value of an operand, as an expression (of symbols: their bits as a number).
    fn load(&mut self, operand: usize, unit: &str) -> String;

    /// A statement that writes a unit of the result. All units of the group are stored, each by one lane; a site that
    /// owns only some of them writes only those.
    fn store(&mut self, unit: &str, value: &str) -> String;
}

/// Who computes a group, together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lanes {
    /// One thread.
    One,
    /// A warp: all its lanes come with the same row and group.
    Warp,
    /// A block of so many threads: all of them come with the same row and group. Its shared memory holds 32 numbers
    /// at [`shared_memory`] meanwhile.
    Block(usize),
}

impl Lanes {
    fn count(self) -> usize {
        match self {
            Lanes::One => 1,
            Lanes::Warp => 32,
            Lanes::Block(threads) => threads,
        }
    }

    /// The prefix of the reductions over the lanes.
    fn name(self) -> &'static str {
        match self {
            Lanes::One => "one",
            Lanes::Warp => "warp",
            Lanes::Block(_) => "block",
        }
    }
}

/// The groups of a vector function and the units of each, as its operands (and mostly its result) have them.
pub(crate) fn groups(vector: &Vector) -> (usize, usize) {
    let units = |operand: usize| vector.operands.get(operand).map_or(0, |read| read.view.len);
    match vector.operation {
        Operation::Softmax { groups }
        | Operation::LogSoftmax { groups }
        | Operation::Normalize { groups, .. }
        | Operation::GroupSum { groups }
        | Operation::SoftmaxGradient { groups }
        | Operation::LogSoftmaxGradient { groups }
        | Operation::NormalizeGradient { groups, .. } => (groups, units(0) / groups.max(1)),
        Operation::CrossEntropyGradient => (1, units(1)),
        _ => (1, units(0)),
    }
}

/// The statements of a vector function for one group of one row. The code around defines `lane` and `group` (both u32)
/// and whatever the site's expressions name; names that begin with `g_` are this code's own. A lane keeps at most
/// `held` numbers of an operand in registers; larger groups are read again in each pass over them.
pub(crate) fn statements(vector: &Vector, lanes: Lanes, held: usize, site: &mut dyn Site) -> String {
    let (groups, size) = groups(vector);
    let per_lane = size.div_ceil(lanes.count());
    let unit = if groups == 1 { "g_at".into() } else { format!("(group * {size}u + g_at)") };
    let mut code =
        Code { vector, lanes, size, per_lane, held: per_lane <= held, unit, site, text: "{\n".into() };
    code.write();
    code.text + "}\n"
}

/// Code as it is being written.
struct Code<'a> {
    vector: &'a Vector,
    lanes: Lanes,
    /// Units of a group.
    size: usize,
    per_lane: usize,
    /// Whether operands are kept in registers.
    held: bool,
    /// The unit at `g_at`, as an expression.
    unit: String,
    site: &'a mut dyn Site,
    text: String,
}

impl Code<'_> {
    fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    /// A loop of the lane over its units: `body` is for unit `g_at`, the lane's `g_k`th.
    fn each(&mut self, body: &str) {
        let (count, size, per_lane) = (self.lanes.count(), self.size, self.per_lane);
        let text = if self.held {
            let full = size.is_multiple_of(count);
            let body = if full { body.into() } else { format!("if (g_at < {size}u) {{ {body} }}") };
            let at = format!("const u32 g_at = lane + g_k * {count}u;");
            let at = defined(&body, &[("g_at", &at)]);
            format!("UNROLL for (u32 g_k = 0; g_k < {per_lane}u; ++g_k) {{ {} {body} }}", at.trim_end())
        } else {
            format!("for (u32 g_at = lane; g_at < {size}u; g_at += {count}u) {{ {body} }}")
        };
        self.line(&text);
    }

    /// The expression of an operand's unit `g_at`; loads all of the lane's first, if they are kept.
    fn operand(&mut self, operand: usize) -> String {
        let value = self.site.load(operand, &self.unit);
        if !self.held {
            return format!("({value})");
        }
        let name = format!("g_x{operand}");
        let _ = writeln!(self.text, "float {name}[{}];", self.per_lane);
        self.each(&format!("{name}[g_k] = {value};"));
        format!("{name}[g_k]")
    }

    /// A constant with the sum of an expression over the group's units.
    fn sum(&mut self, name: &str, value: &str) {
        self.reduce(name, "0.f", &format!("{name}_ += {value};"), "sum");
    }

    /// A constant with the largest of an expression over the group's units; NaN if one is.
    fn largest(&mut self, name: &str, value: &str) {
        self.reduce(name, "as_float(0xff800000u)", &format!("{name}_ = b_max({name}_, {value});"), "max");
    }

    fn reduce(&mut self, name: &str, neutral: &str, body: &str, reduction: &str) {
        let _ = writeln!(self.text, "float {name}_ = {neutral};");
        self.each(body);
        let lanes = self.lanes.name();
        let _ = writeln!(self.text, "const float {name} = {lanes}_{reduction}({name}_);");
    }

    /// Writes a value to each unit.
    fn store_each(&mut self, value: &str) {
        let unit = self.unit.clone();
        let statement = self.site.store(&unit, value);
        self.each(&statement);
    }

    /// Writes the group's one value.
    fn store_one(&mut self, unit: &str, value: &str) {
        let statement = self.site.store(unit, value);
        let _ = writeln!(self.text, "if (lane == 0) {{ {statement} }}");
    }

    /// The symbol of a row, with that name.
    fn symbol(&mut self, operand: usize) {
        let bits = self.site.load(operand, "0");
        let _ = writeln!(self.text, "const u32 g_symbol = as_u32({bits});");
    }

    /// Of x, with those names: the mean (0 if not centered) and 1 / deviation.
    fn statistics(&mut self, x: &str, center: bool, epsilon: f64) {
        let n = float(self.size as f64);
        if center {
            self.sum("g_total", x);
            let _ = writeln!(self.text, "const float g_mean = g_total / {n};");
        } else {
            self.line("const float g_mean = 0.f;");
        }
        self.sum("g_squares", &format!("f_square({x} - g_mean)"));
        let epsilon = float(epsilon);
        let _ = writeln!(self.text, "const float g_inverse = 1.f / f_sqrt(g_squares / {n} + {epsilon});");
    }

    fn write(&mut self) {
        match self.vector.operation {
            Operation::Softmax { .. } => {
                let x = self.operand(0);
                self.largest("g_max", &x);
                if self.held {
                    self.each(&format!("{x} = f_exp({x} - g_max);"));
                    self.sum("g_sum", &x);
                    self.store_each(&format!("{x} / g_sum"));
                } else {
                    let e = format!("f_exp({x} - g_max)");
                    self.sum("g_sum", &e);
                    self.store_each(&format!("{e} / g_sum"));
                }
            }
            Operation::LogSoftmax { .. } => {
                let x = self.operand(0);
                self.largest("g_max", &x);
                self.sum("g_sum", &format!("f_exp({x} - g_max)"));
                self.line("const float g_log = f_log(g_sum);");
                self.store_each(&format!("({x} - g_max) - g_log"));
            }
            Operation::Normalize { center, epsilon, .. } => {
                let x = self.operand(0);
                self.statistics(&x, center, epsilon);
                self.store_each(&format!("({x} - g_mean) * g_inverse"));
            }
            Operation::GroupSum { groups } => {
                let x = self.operand(0);
                self.sum("g_sum", &x);
                self.store_one(if groups == 1 { "0" } else { "group" }, "g_sum");
            }
            Operation::CrossEntropy => {
                self.symbol(1);
                let x = self.operand(0);
                self.largest("g_max", &x);
                self.sum("g_sum", &format!("f_exp({x} - g_max)"));
                let x = self.site.load(0, "g_symbol");
                self.store_one("0", &format!("(g_symbol == ~0u ? 0.f : f_log(g_sum) - ({x} - g_max))"));
            }
            Operation::SoftmaxGradient { .. } => {
                let (e, y) = (self.operand(0), self.operand(1));
                self.sum("g_dot", &format!("{e} * {y}"));
                self.store_each(&format!("{y} * ({e} - g_dot)"));
            }
            Operation::LogSoftmaxGradient { .. } => {
                let (e, y) = (self.operand(0), self.operand(1));
                self.sum("g_sum", &e);
                self.store_each(&format!("{e} - f_exp({y}) * g_sum"));
            }
            // With h the normalized x and r = 1 / deviation: r (e - mean(e) - h mean(e h)), the first mean only if
            // centered (Ba, Kiros & Hinton 2016, supplement).
            Operation::NormalizeGradient { center, epsilon, .. } => {
                let (e, x) = (self.operand(0), self.operand(1));
                self.statistics(&x, center, epsilon);
                let n = float(self.size as f64);
                if center {
                    self.sum("g_errors", &e);
                    let _ = writeln!(self.text, "const float g_error = g_errors / {n};");
                } else {
                    self.line("const float g_error = 0.f;");
                }
                self.sum("g_dot", &format!("{e} * ({x} - g_mean)"));
                let _ = writeln!(self.text, "const float g_along = g_dot * g_inverse * g_inverse / {n};");
                self.store_each(&format!("g_inverse * ({e} - g_error - ({x} - g_mean) * g_along)"));
            }
            Operation::CrossEntropyGradient => {
                self.symbol(2);
                let error = self.site.load(0, "0");
                let _ = writeln!(self.text, "const float g_error = {error};");
                let x = self.operand(1);
                self.largest("g_max", &x);
                self.sum("g_sum", &format!("f_exp({x} - g_max)"));
                self.store_each(&format!(
                    "(g_symbol == ~0u ? 0.f : g_error * (f_exp({x} - g_max) / g_sum) - (g_at == g_symbol ? g_error : 0.f))"
                ));
            }
            // Elementwise ones are steps of maps.
            _ => {}
        }
    }
}

/// A vector function over rows of memory.
struct Rows<'a> {
    places: &'a Places<'a>,
    vector: &'a Vector,
}

impl Site for Rows<'_> {
    fn load(&mut self, operand: usize, unit: &str) -> String {
        // No operand is the result.
        crossing_value(self.places, &self.vector.operands[operand], unit)
    }

    fn store(&mut self, unit: &str, value: &str) -> String {
        format!("*({}) = {value};", self.places.address(self.vector.to, "row", unit))
    }
}

/// Groups as small as this are a thread's; larger ones a warp's, as far as [`WARP`].
const ALONE: usize = 8;

/// Groups as small as this are a warp's; larger ones a block's.
const WARP: usize = 1024;

/// Threads of a block that has a group.
const BLOCK: usize = 256;

/// The kernel of a vector function over all rows of a pass.
pub(crate) fn kernel(builder: &mut Builder<'_>, name: &str, vector: &Vector, what: String) -> Command {
    let places = builder.places;
    let streams = places.streams();
    let (groups, size) = groups(vector);
    let lanes = if size <= ALONE {
        Lanes::One
    } else if size <= WARP {
        Lanes::Warp
    } else {
        Lanes::Block(BLOCK)
    };
    let (item, items, lane, work) = match lanes {
        Lanes::One => {
            ("global_thread()", "global_threads()", "0u", Work::Elements { per_row: groups, fixed: 0 })
        }
        Lanes::Warp => (
            "(global_thread() / 32)",
            "(global_threads() / 32)",
            "thread() % 32u",
            Work::Elements { per_row: groups * 32, fixed: 0 },
        ),
        Lanes::Block(threads) => (
            "block()",
            "blocks()",
            "thread()",
            Work::Items { per_row: groups, fixed: 0, threads, shared_bytes: 32 * 4 },
        ),
    };
    let index = index_type(places, groups);
    let body = statements(vector, lanes, 32, &mut Rows { places, vector });
    let group = format!("const u32 group = (u32)(item % {groups}u);");
    let frame = format!("const int frame = (int)(row / {streams}u);");
    let names = defined(&body, &[("group", &group), ("frame", &frame)]);
    let text = format!(
        "{{
const u32 lane = {lane};
const {index} first = ({index})a.first * {streams}u, total = ({index})(a.end - a.first) * {streams}u * {groups}u;
for ({index} item = ({index}){item}; item < total; item += ({index}){items}) {{
const {index} row = first + item / {groups}u;
{names}{body}}}
}}"
    );
    builder.kernel(name, &text, what, work)
}
