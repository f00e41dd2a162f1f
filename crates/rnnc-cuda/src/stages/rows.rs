//! What kernels over rows share: the loop over all elements of all rows, four at a time where they lie so, and reads
//! that may cross.

use crate::builder::Builder;
use crate::places::{Places, Spot};
use crate::program::{Command, MatrixPlace, Region, Work};
use rnnc_plan::{Read, StartValue};

/// The type in which elements are counted, `per_row` of each row of a window: 32 bits where they suffice.
pub(crate) fn index_type(places: &Places<'_>, per_row: usize) -> &'static str {
    // A stride of the grid more must fit too.
    let elements = places.config.window as u128 * places.streams() as u128 * per_row as u128;
    if elements < 1 << 31 { "u32" } else { "u64" }
}

/// The rows of a window.
pub(crate) fn rows(places: &Places<'_>) -> usize {
    places.config.window * places.streams()
}

/// Whether the units of a view, and of all rows, can be taken four at a time.
pub(crate) fn is_wide(spot: Spot) -> bool {
    [spot.base, spot.width, spot.len].iter().all(|n| n.is_multiple_of(4))
}

/// The value of a read that no thread of the kernel writes, as an expression of `row`, `frame` and the unit.
pub(crate) fn crossing_value(places: &Places<'_>, read: &Read, unit: &str) -> String {
    let value = format!("constant({})", places.source_address(read, "row", unit));
    match places.crosses(read, "row", "frame") {
        None => value,
        Some(crosses) => format!("({crosses} ? {} : {value})", places.start(read, unit)),
    }
}

/// Those definitions whose names some code has in it, one a line: compilers tell of others.
pub(crate) fn defined(code: &str, definitions: &[(&str, &str)]) -> String {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let names = |name: &str| code.split(|c| !is_part(c)).any(|word| word == name);
    definitions.iter().filter(|(name, _)| names(name)).map(|(_, text)| format!("{text}\n")).collect()
}

/// A kernel's body: `inner` for each unit of `len` of each row; for each four of them if `wide`. Defines `e`, the
/// element (or the four) counted from the pass's first row, `row`, `frame`, `stream`, and `u`, the (first) unit.
pub(crate) fn over_rows(places: &Places<'_>, len: usize, wide: bool, inner: &str) -> (String, Work) {
    let units = if wide { 4 } else { 1 };
    let (streams, per_row, index) = (places.streams(), len / units, index_type(places, len));
    let times = if wide { " * 4u" } else { "" };
    let u = format!("const u32 u = (u32)(e % {per_row}u){times};");
    let frame = format!("const int frame = (int)(row / {streams}u);");
    let stream = format!("const u32 stream = (u32)(row % {streams}u);");
    let row = format!("const {index} row = first + e / {per_row}u;");
    let names = defined(inner, &[("row", &row), ("u", &u), ("first_unit", "const u32 first_unit = u;")]);
    let tracker = defined(inner, &[("frame", &frame), ("stream", &stream)]);
    let text = format!(
        "{{
const {index} first = ({index})a.first * {streams}u, total = ({index})(a.end - a.first) * {streams}u * {per_row}u;
for ({index} e = ({index})global_thread(); e < total; e += ({index})global_threads()) {{
{names}{tracker}{inner}}}
}}"
    );
    (text, Work::Elements { per_row, fixed: 0 })
}

/// Statements that fill `float name[4]` with four units of a read, from unit `u` on; of a wide spot.
pub(crate) fn load_four(places: &Places<'_>, read: &Read, name: &str) -> String {
    let load = format!("get4({name}, {});", places.source_address(read, "row", "u"));
    let Some(crosses) = places.crosses(read, "row", "frame") else {
        return format!("float {name}[4]; {load}\n");
    };
    let start = match read.start {
        StartValue::Weight(offset) => {
            format!(
                "UNROLL for (u32 i = 0; i < 4; ++i) {name}[i] = constant(a.weights + ({offset}ull + u + i));"
            )
        }
        StartValue::Number(_) => {
            format!("UNROLL for (u32 i = 0; i < 4; ++i) {name}[i] = {};", places.start(read, "u"))
        }
    };
    format!("float {name}[4]; if ({crosses}) {{ {start} }} else {{ {load} }}\n")
}

/// The rows of a read as a matrix: as they lie if there is no delay; else copied into the scratch region with the starts
/// in place, since any of them may cross.
pub(crate) fn matrix(
    builder: &mut Builder<'_>,
    name: &str,
    what: &str,
    read: &Read,
) -> (Option<Command>, MatrixPlace) {
    let places = builder.places;
    let spot = places.spot(read.view);
    if read.delay == 0 {
        return (None, lying(places, spot));
    }
    let len = spot.len;
    let scratch = builder.scratch(rows(places).saturating_mul(len));
    let wide = is_wide(spot);
    let inner = if wide {
        format!("{}set4(a.scratch + ({scratch}ull + (u64)e * 4u), v);\n", load_four(places, read, "v"))
    } else {
        format!("a.scratch[{scratch}ull + e] = {};\n", crossing_value(places, read, "u"))
    };
    let (text, work) = over_rows(places, len, wide, &inner);
    let copy = builder.kernel(name, &text, format!("copy for {what}"), work);
    let place =
        MatrixPlace { region: Region::Scratch, offset: scratch, per_frame: 0, row: len, transposed: false };
    (Some(copy), place)
}

/// Columns of a buffer as a matrix of the pass's rows.
pub(crate) fn lying(places: &Places<'_>, spot: Spot) -> MatrixPlace {
    MatrixPlace {
        region: Region::Values,
        offset: spot.base,
        per_frame: places.streams() * spot.width,
        row: spot.width,
        transposed: false,
    }
}
