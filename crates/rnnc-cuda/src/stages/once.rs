//! What is computed once a call, of weights alone: one block, step after step.

use crate::builder::Builder;
use crate::driver::Geometry;
use crate::lanes::Draft;
use crate::program::{Command, Work};
use crate::source::program::{Site, statements};
use crate::stages::vector::{self, Lanes};
use rnnc_plan::access::Access;
use rnnc_plan::{
    BufferId, Flat, Matrix, OnceLeaf, OnceMap, OnceOuter, OnceProduct, OnceStep, OnceVector, Read,
    StartValue, Vector, View,
};

/// Threads of the block.
const THREADS: usize = 512;

/// The job that writes the derived weights; all others of the pass wait for it.
pub(crate) fn forward(builder: &mut Builder<'_>) -> Vec<Draft> {
    let steps = &builder.places.plan.once.forward;
    if steps.is_empty() {
        return Vec::new();
    }
    let command = kernel(builder, "once_forward", steps, "what weights alone give");
    vec![Draft { before_all: true, wide: 1, ..builder.job(vec![command], Access::default()) }]
}

/// The job that adds their gradients to those of the weights, once all gradients are there.
pub(crate) fn backward(builder: &mut Builder<'_>) -> Vec<Draft> {
    let plan = builder.places.plan;
    if plan.once.backward.is_empty() {
        return Vec::new();
    }
    let what = "gradients of what weights alone give";
    let command = kernel(builder, "once_backward", &plan.once.backward, what);
    let access = Access::of_gradients(0..plan.weights.total());
    vec![Draft { wide: 1, ..builder.job(vec![command], access) }]
}

fn kernel(builder: &mut Builder<'_>, name: &str, steps: &[OnceStep], what: &str) -> Command {
    builder.begin_source(what.into());
    let mut body = String::from("{\n");
    for step in steps {
        body.push_str(&match step {
            OnceStep::Map(map) => map_text(map),
            OnceStep::Vector(vector) => vector_text(vector),
            OnceStep::Product(product) => product_text(product),
            OnceStep::Outer(outer) => outer_text(outer),
        });
        // The next may read what other threads wrote.
        body.push_str("block_sync();\n");
    }
    body.push('}');
    // Vector functions take room for 32 doubles.
    let has_vectors = steps.iter().any(|step| matches!(step, OnceStep::Vector(_)));
    let shared_bytes = if has_vectors { 32 * 8 } else { 0 };
    let one = Geometry { blocks: 1, threads: THREADS, shared_bytes, cluster: 1, cooperative: false };
    builder.kernel(name, &body, what.into(), Work::Grid(one))
}

/// A number, as an expression of its place.
fn number(from: Flat, at: &str) -> String {
    match from {
        Flat::Weights(offset) => format!("a.weights[{offset}ull + {at}]"),
        Flat::Gradients(offset) => format!("a.gradients[{offset}ull + {at}]"),
    }
}

/// A statement that writes to weights, or adds to gradients.
fn put(to: Flat, at: &str, value: &str) -> String {
    let sign = match to {
        Flat::Weights(_) => "=",
        Flat::Gradients(_) => "+=",
    };
    format!("{} {sign} {value};", number(to, at))
}

fn element(matrix: Matrix, row: &str, column: &str) -> String {
    format!(
        "{}ull + (u64)({row}) * {}ull + (u64)({column}) * {}ull",
        matrix.offset, matrix.row_stride, matrix.column_stride
    )
}

fn map_text(map: &OnceMap) -> String {
    let mut text = format!("for (u32 u = thread(); u < {}u; u += {THREADS}u) {{\n", map.len);
    text.push_str(&statements(&map.program, "r", Unit));
    text + "}\n"
}

/// Unit `u` of a map.
struct Unit;

impl Site<OnceLeaf> for Unit {
    fn leaf(&mut self, leaf: &OnceLeaf) -> String {
        let at = if leaf.times == 1 { "u".into() } else { format!("u / {}u", leaf.times) };
        number(leaf.from, &at)
    }

    fn store(&mut self, to: &Flat, value: &str) -> String {
        put(*to, "u", value)
    }
}

/// The block has one group after the other.
fn vector_text(vector: &OnceVector) -> String {
    // Only how many units there are matters.
    let units = |len| View { buffer: BufferId(0), column: 0, len };
    let read = |&(_, len): &(Flat, usize)| Read {
        view: units(len),
        delay: 0,
        start: StartValue::Number(0.0),
        history: false,
    };
    let whole = Vector {
        operation: vector.operation,
        operands: vector.operands.iter().map(read).collect(),
        to: units(vector.len),
        slice_len: vector.len,
    };
    let (groups, _) = vector::groups(&whole);
    let body = vector::statements(&whole, Lanes::Block(THREADS), 32, &mut Flats(vector));
    format!("for (u32 group = 0; group < {groups}u; ++group) {{\nconst u32 lane = thread();\n{body}}}\n")
}

/// A warp for each row.
fn product_text(product: &OnceProduct) -> String {
    let OnceProduct { matrix, rows, columns, from, to } = *product;
    let weight = format!("a.weights[{}]", element(matrix, "row", "column"));
    format!(
        "for (u32 row = thread() / 32u; row < {rows}u; row += {}u) {{
float part = 0.f;
for (u32 column = thread() % 32u; column < {columns}u; column += 32u) part += {weight} * {};
const float sum = warp_sum(part);
if (thread() % 32u == 0u) {{ {} }}
}}
",
        THREADS / 32,
        number(from, "column"),
        put(to, "row", "sum")
    )
}

fn outer_text(outer: &OnceOuter) -> String {
    let OnceOuter { error, source, rows, columns, gradient } = *outer;
    format!(
        "for (u64 at = thread(); at < {rows}ull * {columns}ull; at += {THREADS}u) {{
a.gradients[{}] += {} * {};
}}
",
        element(gradient, &format!("at / {columns}u"), &format!("at % {columns}u")),
        number(error, &format!("at / {columns}u")),
        number(source, &format!("at % {columns}u"))
    )
}

/// Where a vector function's numbers lie.
struct Flats<'a>(&'a OnceVector);

impl vector::Site for Flats<'_> {
    fn load(&mut self, operand: usize, unit: &str) -> String {
        number(self.0.operands[operand].0, unit)
    }

    fn store(&mut self, unit: &str, value: &str) -> String {
        put(self.0.to, unit, value)
    }
}
