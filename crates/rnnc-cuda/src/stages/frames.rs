//! Stages over all frames at once: a job for each part of an operation.

use super::halves::{self, Source};
use super::{gradients, rows, vector};
use crate::builder::Builder;
use crate::lanes::Draft;
use crate::program::{Command, MatrixPlace, Region, RowsProduct};
use crate::source::map::{self, Site};
use rnnc_plan::access::Access;
use rnnc_plan::{LookUp, Map, Op, Product, Read, Stage, View};
use std::fmt::Write;

/// The jobs of a stage.
pub(crate) fn stage(
    builder: &mut Builder<'_>,
    name: &str,
    stage: &Stage,
    accesses: Vec<Access>,
) -> Vec<Draft> {
    let mut accesses = accesses.into_iter();
    let mut jobs = Vec::new();
    let ops = stage.tasks.iter().flat_map(|task| &task.phases).flat_map(|phase| &phase.ops);
    for (number, placed) in ops.enumerate() {
        let name = format!("{name}_{number}");
        let words = builder.words(&placed.op);
        let mut words = words.into_iter().chain(std::iter::repeat_with(|| placed.op.name().to_string()));
        let mut what = || words.next().unwrap_or_default();
        let mut add = |builder: &mut Builder<'_>, commands: Vec<Command>| {
            jobs.push(builder.job(commands, accesses.next().unwrap_or_default()));
        };
        match &placed.op {
            Op::MatMul(products) => {
                for (part, product) in products.iter().enumerate() {
                    let commands = matmul(builder, &format!("{name}_copy_{part}"), product, &what());
                    add(builder, commands);
                }
            }
            Op::Gather(look_ups) => {
                for (part, look_up) in look_ups.iter().enumerate() {
                    let command = gather(builder, &format!("{name}_gather_{part}"), look_up, what());
                    add(builder, vec![command]);
                }
            }
            Op::Map(op) => {
                let command = elementwise(builder, &format!("{name}_map"), op, what());
                add(builder, vec![command]);
            }
            Op::Vector(op) => {
                let command = vector::kernel(builder, &format!("{name}_vector"), op, what());
                add(builder, vec![command]);
            }
            Op::WeightGradient(sums) => {
                for (part, sum) in sums.iter().enumerate() {
                    let commands = gradients::outer(builder, &format!("{name}_copy_{part}"), sum, &what());
                    add(builder, commands);
                }
            }
            Op::TableGradient(sums) => {
                for (part, sum) in sums.iter().enumerate() {
                    let commands = gradients::table(builder, &format!("{name}_table_{part}"), sum, &what());
                    add(builder, commands);
                }
            }
            Op::Reduce(sums) => {
                let what: Vec<String> = sums.iter().map(|_| what()).collect();
                let commands = gradients::reduce(builder, &format!("{name}_reduce"), sums, &what);
                add(builder, commands);
            }
        }
    }
    jobs
}

/// A product with a weight matrix: the rows of the source times the transposed matrix.
fn matmul(builder: &mut Builder<'_>, name: &str, product: &Product, what: &str) -> Vec<Command> {
    let (to, from, weight) = (product.to.len, product.from.view.len, product.weight);
    // One of a matrix's strides is 1; of a single row or column, the other is any.
    let transposed = weight.column_stride == 1 && (to == 1 || weight.row_stride >= from);
    let row = if transposed { weight.row_stride.max(from) } else { weight.column_stride.max(to) };
    let weights =
        MatrixPlace { region: Region::Weights, offset: weight.offset, per_frame: 0, row, transposed };
    let lying = if transposed { [to, from] } else { [from, to] };
    let operands = [Source::Rows(&product.from), Source::Weights(weights, lying)];
    let (mut commands, [a, b], halves) =
        halves::operands(builder, name, what, [None, Some(to), Some(from)], operands);
    let c = rows::lying(builder.places, builder.places.spot(product.to));
    let accumulate = product.accumulate;
    let product = RowsProduct { m: None, n: to, k: Some(from), a, b, c, halves, accumulate };
    commands.push(Command::Product(product));
    commands
}

/// A look-up: the table's row of each row's symbol, zeros where there is none.
fn gather(builder: &mut Builder<'_>, name: &str, look_up: &LookUp, what: String) -> Command {
    let places = builder.places;
    let (to, table) = (places.spot(look_up.to), look_up.table);
    let wide = rows::is_wide(to)
        && table.row_stride == 1
        && [table.offset, table.column_stride].iter().all(|n| n.is_multiple_of(4));
    let symbol = rows::crossing_value(places, &look_up.symbol, "0");
    let (offset, of_symbol, of_unit) = (table.offset, table.column_stride, table.row_stride);
    let from = format!("a.weights + ({offset}ull + symbol * {of_symbol}ull + (u64)u * {of_unit}ull)");
    let address = places.address(look_up.to, "row", "u");
    let inner = match (wide, look_up.accumulate) {
        (false, false) => format!("*({address}) = symbol == ~0u ? 0.f : constant({from});\n"),
        (false, true) => format!("if (symbol != ~0u) *({address}) += constant({from});\n"),
        (true, false) => format!(
            "float v[4] = {{0.f, 0.f, 0.f, 0.f}};\nif (symbol != ~0u) get4(v, {from});\nset4({address}, v);\n"
        ),
        (true, true) => format!(
            "if (symbol != ~0u) {{\nfloat v[4], w[4];\nget4(v, {address});\nget4(w, {from});
UNROLL for (u32 i = 0; i < 4; ++i) v[i] += w[i];\nset4({address}, v);\n}}\n"
        ),
    };
    let inner = format!("const u32 symbol = as_u32({symbol});\n{inner}");
    let (text, work) = rows::over_rows(places, to.len, wide, &inner);
    builder.kernel(name, &text, what, work)
}

/// The most numbers of a unit that a map may load and store to be done for four units at once: they are in registers.
const WIDE_NUMBERS: usize = 20;

/// A map. Such a kernel waits for memory: a thread has four units where all of them lie so.
fn elementwise(builder: &mut Builder<'_>, name: &str, op: &Map, what: String) -> Command {
    let places = builder.places;
    let views = op.reads_by_unit().map(|read| read.view).chain(op.stores());
    let wide = op.len.is_multiple_of(4)
        && views.clone().count() <= WIDE_NUMBERS
        && views.clone().all(|view| rows::is_wide(places.spot(view)));
    let inner = if wide {
        let mut site =
            Four { rows: map::InMemory { places }, before: String::new(), after: String::new(), numbers: 0 };
        let body = map::statements(op, "r", &mut site);
        let Four { before, after, .. } = site;
        let u = rows::defined(&body, &[("u", "const u32 u = first_unit + j;")]);
        format!("{before}UNROLL for (u32 j = 0; j < 4; ++j) {{\n{u}{body}}}\n{after}")
    } else {
        map::statements(op, "r", &mut map::InMemory { places })
    };
    let (text, work) = rows::over_rows(places, op.len, wide, &inner);
    builder.kernel(name, &text, what, work)
}

/// A map over rows of memory, for four units: their numbers are loaded before the units' own code and stored after it.
struct Four<'a> {
    rows: map::InMemory<'a>,
    before: String,
    after: String,
    numbers: usize,
}

impl Site for Four<'_> {
    fn load(&mut self, read: &Read, unit: &str) -> String {
        if unit != "u" {
            return self.rows.load(read, unit);
        }
        let name = format!("x{}", self.numbers);
        self.numbers += 1;
        self.before += &rows::load_four(self.rows.places, read, &name);
        format!("{name}[j]")
    }

    fn store(&mut self, to: View, value: &str) -> String {
        let name = format!("x{}", self.numbers);
        self.numbers += 1;
        let _ = writeln!(self.before, "float {name}[4];");
        let _ = writeln!(self.after, "set4({}, {name});", self.rows.places.address(to, "row", "u"));
        format!("{name}[j] = {value};")
    }

    fn dropout(&self) -> bool {
        self.rows.dropout()
    }
}
