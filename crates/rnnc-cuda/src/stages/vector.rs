//! Vector functions: of whole groups of units, each group by one thread, one warp or one block.
//!
//! [`statements`] is the code for one group of one row; the code around says where operands are and what is written,
//! through a [`Site`]. [`kernel`] is such code for all rows of a pass. Where blocks have units each, [`own_sums`] are a
//! block's sums over its own, and [`results`] its units of the result, from the sums of all.

mod normalize;

use super::rows::{crossing_value, defined, index_type};
use crate::builder::Builder;
use crate::places::Places;
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
    /// Half a warp: all its lanes come with the same row and group.
    Half,
    /// A warp: all its lanes come with the same row and group.
    Warp,
    /// A block of so many threads: all of them come with the same row and group. Its shared memory holds 32 doubles
    /// at [`shared_memory`] meanwhile.
    Block(usize),
}

impl Lanes {
    pub(crate) fn count(self) -> usize {
        match self {
            Lanes::One => 1,
            Lanes::Half => 16,
            Lanes::Warp => 32,
            Lanes::Block(threads) => threads,
        }
    }

    /// The prefix of the reductions over the lanes.
    fn name(self) -> &'static str {
        match self {
            Lanes::One => "one",
            Lanes::Half => "half",
            Lanes::Warp => "warp",
            Lanes::Block(_) => "block",
        }
    }
}

/// The groups of a vector function and the units of each, as its largest operand (and mostly its result) has them.
pub(crate) fn groups(vector: &Vector) -> (usize, usize) {
    let units = vector.operands.iter().map(|read| read.view.len).max().unwrap_or(0);
    (vector.operation.groups(), units / vector.operation.groups().max(1))
}

/// The statements of a vector function for one group of one row. The code around defines `lane` and `group` (both u32)
/// and whatever the site's expressions name; names that begin with `g_` are this code's own. A lane keeps at most
/// `held` numbers of an operand in registers; larger groups are read again in each pass over them.
pub(crate) fn statements(vector: &Vector, lanes: Lanes, held: usize, site: &mut dyn Site) -> String {
    let (groups, size) = groups(vector);
    let per_lane = size.div_ceil(lanes.count());
    let unit = if groups == 1 { "g_at".into() } else { format!("(group * {size}u + g_at)") };
    let held = per_lane <= held;
    let text = "{\n".into();
    let mut code =
        Code { vector, lanes, size, scope: Scope::Whole, per_lane, held, unit, site, sums: Vec::new(), text };
    code.write();
    code.text + "}\n"
}

/// Units of a vector, shared out among blocks: of each slice of it so many each, the last ones to the last of `parts`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Partitioned {
    pub units: usize,
    /// Units of a slice: all of them, if there is but one.
    pub slice_len: usize,
    pub parts: usize,
}

/// The sums that [`own_sums`] makes of a part of the units; `None` of what has no such code.
fn sums(operation: Operation) -> Option<usize> {
    match operation {
        Operation::Softmax { .. } | Operation::LogSoftmax { .. } => Some(2),
        Operation::Normalize { center, .. } => Some(1 + usize::from(center)),
        Operation::NormalizeGradient { center, .. } => Some(2 + 2 * usize::from(center)),
        Operation::SoftmaxGradient { .. } | Operation::LogSoftmaxGradient { .. } => Some(1),
        Operation::GroupSum { .. }
        | Operation::CrossEntropy
        | Operation::CrossEntropyGradient
        | Operation::Divide
        | Operation::Max
        | Operation::Min
        | Operation::Known
        | Operation::Share
        | Operation::Compare { .. }
        | Operation::When
        | Operation::Unless
        | Operation::Mod
        | Operation::Floored
        | Operation::DropoutMask { .. } => None,
    }
}

/// The same where [`has_parts`] holds.
pub(crate) fn sums_of_a_part(vector: &Vector) -> usize {
    sums(vector.operation).unwrap_or(0)
}

/// Whether a vector function can be summed up by parts: if it has one group, and its result the units of its operands.
pub(crate) fn has_parts(vector: &Vector) -> bool {
    sums(vector.operation).is_some()
        && vector.operation.groups() == 1
        && vector.operands.iter().all(|read| read.view.len == vector.to.len)
}

/// The statements of half a warp, or all of it, that sum up a block's own units of a row; each sum is written by the
/// statement that `put` makes of its number and its name. The code around defines `lane` (among those of the row), and
/// of the block's units in a slice `own_first` and `own_end`; no unit, and nothing is read or written.
pub(crate) fn own_sums(
    vector: &Vector,
    lanes: Lanes,
    partitioned: Partitioned,
    site: &mut dyn Site,
    put: &dyn Fn(usize, &str) -> String,
) -> String {
    let mut code = Code::of_part(vector, lanes, partitioned, Scope::Own(partitioned), site);
    let slices = vector.to.len / partitioned.slice_len;
    code.line(&format!("const float g_count = (float)((own_end - own_first) * {slices}u); (void)g_count;"));
    code.write();
    for (number, name) in code.sums.clone().iter().enumerate() {
        code.line(&format!("if (lane == 0 && own_first < own_end) {{ {} }}", put(number, name)));
    }
    code.text + "}\n"
}

/// The statements of as many lanes for a block's own units of a row's result; the sums of part `g_part` are what `get`
/// makes of their number. The code around defines what [`own_sums`] says. If sums say themselves that they are there, the
/// lanes of a warp look `again` until all are: an expression, of `polls` and of whether some are `missing`.
pub(crate) fn results(
    vector: &Vector,
    lanes: Lanes,
    partitioned: Partitioned,
    site: &mut dyn Site,
    get: &dyn Fn(usize) -> String,
    again: Option<&str>,
) -> String {
    let names = {
        let mut code = Code::of_part(vector, lanes, partitioned, Scope::Own(partitioned), site);
        code.write();
        code.sums
    };
    let mut code = Code::of_part(vector, lanes, partitioned, Scope::Parts(partitioned), site);
    let each = partitioned.parts.div_ceil(lanes.count());
    code.line(&format!("const u32 g_parts = own_first < own_end ? {}u : 0u;", partitioned.parts));
    // All that is read is on its way before anything waits for it.
    for (number, name) in names.iter().enumerate() {
        code.line(&format!("float part_{name}[{each}];"));
        let get = get(number);
        code.each_part(&format!("part_{name}[g_k] = {get};"));
    }
    if let Some(again) = again {
        code.line("for (u32 polls = 0;;) {\nbool missing = false;");
        for name in &names {
            code.each_part(&format!("missing |= absent(part_{name}[g_k]);"));
        }
        code.line(&format!("if (!{again}) break;"));
        for (number, name) in names.iter().enumerate() {
            let get = get(number);
            code.each_part(&format!("if (absent(part_{name}[g_k])) part_{name}[g_k] = {get};"));
        }
        code.line("}");
    }
    code.write();
    code.text + "}\n"
}

/// Which units' sums and results are computed.
#[derive(Clone, Copy, Debug)]
enum Scope {
    /// A whole group's.
    Whole,
    /// The sums of a block's own units.
    Own(Partitioned),
    /// A block's own units of the result, from the sums of all parts.
    Parts(Partitioned),
}

/// Code as it is being written.
struct Code<'a> {
    vector: &'a Vector,
    lanes: Lanes,
    /// Units of a group.
    size: usize,
    scope: Scope,
    per_lane: usize,
    /// Whether operands are kept in registers.
    held: bool,
    /// The unit at `g_at`, as an expression.
    unit: String,
    site: &'a mut dyn Site,
    /// The names of the sums so far.
    sums: Vec<String>,
    text: String,
}

/// Minus infinity.
const LOWEST: &str = "as_float(0xff800000u)";

impl<'a> Code<'a> {
    /// For a block's own units.
    fn of_part(
        vector: &'a Vector,
        lanes: Lanes,
        partitioned: Partitioned,
        scope: Scope,
        site: &'a mut dyn Site,
    ) -> Code<'a> {
        let size = vector.to.len;
        let (unit, text) = ("g_at".into(), "{\n".into());
        let per_lane = (size / partitioned.slice_len * partitioned.units).div_ceil(lanes.count());
        Code {
            vector,
            lanes,
            size,
            scope,
            per_lane,
            held: per_lane <= 32,
            unit,
            site,
            sums: Vec::new(),
            text,
        }
    }

    fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    /// A loop of the lane over its units: `body` is for unit `g_at`, the lane's `g_k`th.
    fn each(&mut self, body: &str) {
        let (count, per_lane) = (self.lanes.count(), self.per_lane);
        let slices = match self.scope {
            Scope::Own(partitioned) | Scope::Parts(partitioned) if partitioned.slice_len < self.size => {
                Some(partitioned)
            }
            _ => None,
        };
        let (first, end, full) = match (self.scope, slices) {
            (Scope::Whole, _) => ("lane", format!("{}u", self.size), self.size.is_multiple_of(count)),
            (_, None) => ("own_first + lane", "own_end".into(), false),
            (_, Some(partitioned)) => {
                ("lane", format!("{}u", self.size / partitioned.slice_len * partitioned.units), false)
            }
        };
        let (at, body) = match slices {
            None => ("g_at", body.to_string()),
            Some(Partitioned { units, slice_len, .. }) => {
                let unit =
                    format!("const u32 g_at = own_first + g_i / {units}u * {slice_len}u + g_i % {units}u;");
                let unit = defined(body, &[("g_at", &unit)]);
                ("g_i", format!("if (own_first + g_i % {units}u < own_end) {{ {unit} {body} }}"))
            }
        };
        let text = if self.held {
            let body = if full { body } else { format!("if ({at} < {end}) {{ {body} }}") };
            let place = format!("const u32 {at} = {first} + g_k * {count}u;");
            let place = defined(&body, &[(at, &place)]);
            format!("UNROLL for (u32 g_k = 0; g_k < {per_lane}u; ++g_k) {{ {} {body} }}", place.trim_end())
        } else {
            format!("for (u32 {at} = {first}; {at} < {end}; {at} += {count}u) {{ {body} }}")
        };
        self.line(&text);
    }

    /// A loop of the lane over its parts: `body` is for part `g_part`, the lane's `g_k`th, of `g_count` units.
    fn each_part(&mut self, body: &str) {
        let Scope::Parts(Partitioned { units, slice_len, parts }) = self.scope else { return };
        let slices = self.size / slice_len;
        let (units, last) = (units * slices, (slice_len - (parts - 1) * units) * slices);
        let lanes = self.lanes.count();
        let (each, count) =
            (parts.div_ceil(lanes), format!("g_part == {}u ? {last}.f : {units}.f", parts - 1));
        let count = defined(body, &[("g_count", &format!("const float g_count = {count};"))]);
        self.line(&format!(
            "UNROLL for (u32 g_k = 0; g_k < {each}u; ++g_k) {{ const u32 g_part = lane + g_k * {lanes}u; if (g_part < g_parts) {{ {} {body} }} }}",
            count.trim_end()
        ));
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

    /// A constant with the sum of an expression over the group's units. Over parts, what adds to it of each is `merged`:
    /// `part_<name>[g_k]` is the part's own.
    fn sum(&mut self, name: &str, value: &str, merged: &str) {
        self.reduce(name, "0.f", "sum", |term| format!("{name}_ += {term};"), [value, merged]);
    }

    /// The same where the sum of all is that of the parts'.
    fn plain_sum(&mut self, name: &str, value: &str) {
        self.sum(name, value, &format!("part_{name}[g_k]"));
    }

    /// A constant with the largest of an expression over the group's units; NaN if one is.
    fn largest(&mut self, name: &str, value: &str) {
        let merged = format!("part_{name}[g_k]");
        let body = |term: &str| format!("{name}_ = b_max({name}_, {term});");
        self.reduce(name, LOWEST, "max", body, [value, &merged]);
    }

    fn reduce(
        &mut self,
        name: &str,
        neutral: &str,
        reduction: &str,
        body: impl Fn(&str) -> String,
        [value, merged]: [&str; 2],
    ) {
        let _ = writeln!(self.text, "float {name}_ = {neutral};");
        self.each_of_scope(&body(value), &body(merged));
        self.sums.push(name.into());
        let lanes = self.lanes.name();
        let _ = writeln!(self.text, "const float {name} = {lanes}_{reduction}({name}_);");
    }

    /// A line that only results need.
    fn for_results(&mut self, line: &str) {
        if !matches!(self.scope, Scope::Own(_)) {
            self.line(line);
        }
    }

    /// Writes a value to each unit.
    fn store_each(&mut self, value: &str) {
        if matches!(self.scope, Scope::Own(_)) {
            return;
        }
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

    /// Over a lane's units, or its parts.
    fn each_of_scope(&mut self, units: &str, parts: &str) {
        match self.scope {
            Scope::Parts(_) => self.each_part(parts),
            Scope::Whole | Scope::Own(_) => self.each(units),
        }
    }

    /// Of exp(x - `g_max`), as `g_sum`.
    fn sum_of_exponentials(&mut self, x: &str) {
        let value = match self.scope {
            // A part may have nothing but minus infinity.
            Scope::Own(_) => format!("(g_max == {LOWEST} ? 0.f : f_exp({x} - g_max))"),
            Scope::Whole | Scope::Parts(_) => format!("f_exp({x} - g_max)"),
        };
        let merged =
            format!("(part_g_max[g_k] == {LOWEST} ? 0.f : part_g_sum[g_k] * f_exp(part_g_max[g_k] - g_max))");
        self.sum("g_sum", &value, &merged);
    }

    fn write(&mut self) {
        match self.vector.operation {
            Operation::Softmax { .. } => {
                let x = self.operand(0);
                self.largest("g_max", &x);
                if self.held && matches!(self.scope, Scope::Whole) {
                    self.each(&format!("{x} = f_exp({x} - g_max);"));
                    self.plain_sum("g_sum", &x);
                    self.store_each(&format!("{x} / g_sum"));
                } else {
                    self.sum_of_exponentials(&x);
                    self.store_each(&format!("f_exp({x} - g_max) / g_sum"));
                }
            }
            Operation::LogSoftmax { .. } => {
                let x = self.operand(0);
                self.largest("g_max", &x);
                self.sum_of_exponentials(&x);
                self.for_results("const float g_log = f_log(g_sum);");
                self.store_each(&format!("({x} - g_max) - g_log"));
            }
            Operation::Normalize { center, epsilon, .. } => self.normalize(center, epsilon, false),
            Operation::GroupSum { groups } => {
                let x = self.operand(0);
                self.plain_sum("g_sum", &x);
                self.store_one(if groups == 1 { "0" } else { "group" }, "g_sum");
            }
            Operation::CrossEntropy => {
                self.symbol(1);
                let x = self.operand(0);
                self.largest("g_max", &x);
                self.sum_of_exponentials(&x);
                let x = self.site.load(0, "g_symbol");
                self.store_one("0", &format!("(g_symbol == ~0u ? 0.f : f_log(g_sum) - ({x} - g_max))"));
            }
            Operation::SoftmaxGradient { .. } => {
                let (e, y) = (self.operand(0), self.operand(1));
                self.plain_sum("g_dot", &format!("{e} * {y}"));
                self.store_each(&format!("{y} * ({e} - g_dot)"));
            }
            Operation::LogSoftmaxGradient { .. } => {
                let (e, y) = (self.operand(0), self.operand(1));
                self.plain_sum("g_sum", &e);
                self.store_each(&format!("{e} - f_exp({y}) * g_sum"));
            }
            Operation::NormalizeGradient { center, epsilon, .. } => self.normalize(center, epsilon, true),
            Operation::CrossEntropyGradient => {
                self.symbol(2);
                let error = self.site.load(0, "0");
                let _ = writeln!(self.text, "const float g_error = {error};");
                let x = self.operand(1);
                self.largest("g_max", &x);
                self.sum_of_exponentials(&x);
                self.store_each(&format!(
                    "(g_symbol == ~0u ? 0.f : g_error * (f_exp({x} - g_max) / g_sum) - (g_at == g_symbol ? g_error : 0.f))"
                ));
            }
            // Elementwise ones are steps of maps.
            Operation::Divide
            | Operation::Max
            | Operation::Min
            | Operation::Known
            | Operation::Share
            | Operation::Compare { .. }
            | Operation::When
            | Operation::Unless
            | Operation::Mod
            | Operation::Floored
            | Operation::DropoutMask { .. } => {}
        }
    }
}

/// A vector function over rows of memory.
struct InMemory<'a> {
    places: &'a Places<'a>,
    vector: &'a Vector,
}

impl Site for InMemory<'_> {
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
    let (lanes, item, items, lane, work) = if size <= ALONE {
        let work = Work::Elements { per_row: groups, fixed: 0 };
        (Lanes::One, "global_thread()", "global_threads()", "0u", work)
    } else if size <= WARP {
        let work = Work::Elements { per_row: groups * 32, fixed: 0 };
        (Lanes::Warp, "(global_thread() / 32)", "(global_threads() / 32)", "thread() % 32u", work)
    } else {
        let work = Work::Items { per_row: groups, fixed: 0, threads: BLOCK, shared_bytes: 32 * 8 };
        (Lanes::Block(BLOCK), "block()", "blocks()", "thread()", work)
    };
    let index = index_type(places, groups);
    let body = statements(vector, lanes, 32, &mut InMemory { places, vector });
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
