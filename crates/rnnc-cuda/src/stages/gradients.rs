//! Gradients of weights: sums over all rows. The order in which rows are added depends on nothing but their number.

use super::halves::{self, Source};
use super::rows::{self, crossing_value, defined, index_type};
use crate::builder::Builder;
use crate::places::{Places, float};
use crate::program::{Command, MatrixPlace, Region, RowsProduct, Work};
use rnnc_plan::{OuterSum, Read, RowSum, ScatterSum, StartValue};
use std::fmt::Write;

/// The gradient of a matrix: errors transposed times sources.
pub(crate) fn outer(builder: &mut Builder<'_>, name: &str, sum: &OuterSum, what: &str) -> Vec<Command> {
    let (units, columns, gradient) = (sum.error.len, sum.source.view.len, sum.gradient);
    let error = Read { view: sum.error, delay: 0, start: StartValue::Number(0.0), history: false };
    // A matrix that lies transposed is the product the other way round.
    let upright = gradient.column_stride == 1 && (units == 1 || gradient.row_stride >= columns);
    let (reads, m, n, row) = match upright {
        true => ([&error, &sum.source], units, columns, gradient.row_stride.max(columns)),
        false => ([&sum.source, &error], columns, units, gradient.column_stride.max(units)),
    };
    let (mut commands, [a, b], halves) =
        halves::operands(builder, name, what, [Some(m), Some(n), None], reads.map(Source::Rows));
    let place = MatrixPlace {
        region: Region::Gradients,
        offset: gradient.offset,
        per_frame: 0,
        row,
        transposed: false,
    };
    let (a, accumulate) = (MatrixPlace { transposed: true, ..a }, sum.accumulate);
    let product = RowsProduct { m: Some(m), n, k: None, a, b, c: place, halves, accumulate };
    commands.push(Command::Product(product));
    commands
}

/// Threads of a block of the kernels below.
const THREADS: usize = 256;

/// The most symbols that a block sums at once.
const SYMBOLS: usize = 32;

/// Rows that a block looks through before it adds those it found: as many bits as its lists have for them.
const ROUND: usize = 4 * THREADS;

/// Parts that the rows are split into where there are few symbols: each sums apart.
const PARTS: usize = 32;

/// The gradient of a table. A block has some symbols, and some units of them; it looks through the symbols of all rows,
/// lists those that are its own, and adds their errors in the order of rows. Where that makes too few blocks, each
/// sums a part of the rows, and a second kernel adds the parts.
pub(crate) fn table(builder: &mut Builder<'_>, name: &str, sum: &ScatterSum, what: &str) -> Vec<Command> {
    let places = builder.places;
    let (streams, units, symbols) = (places.streams(), sum.error.len, sum.symbols);
    let tiles = units.div_ceil(THREADS);
    let blocks = builder.device.multiprocessors * 8;
    // The more symbols a block has, the fewer blocks look through all rows.
    let fit = (builder.device.shared_bytes / 4).saturating_sub(ROUND + THREADS / 32) / THREADS;
    let own = (symbols * tiles / blocks).min(fit).clamp(1, SYMBOLS);
    let groups = symbols.div_ceil(own);
    let rows = rows::rows(places);
    let parts = (blocks / (groups * tiles)).clamp(1, PARTS).min(rows.div_ceil(4 * ROUND));
    let per_part = rows.div_ceil(parts).next_multiple_of(ROUND);
    let index = index_type(places, 1);
    let g = sum.gradient;
    let adds = if sum.accumulate { "+=" } else { "=" };
    let place = |symbol: &str, unit: &str| {
        format!(
            "a.gradients[{}ull + (u64)({symbol}) * {}ull + (u64)({unit}) * {}ull]",
            g.offset, g.column_stride, g.row_stride
        )
    };
    let whole = symbols.saturating_mul(units);
    let scratch = if parts > 1 { builder.scratch(whole.saturating_mul(parts)) } else { 0 };
    let result = if parts == 1 {
        format!("{} {adds} sums[s * {THREADS}u + thread()]", place("lowest + s", "unit"))
    } else {
        format!(
            "a.scratch[{scratch}ull + ((u64)part * {symbols}u + lowest + s) * {units}ull + unit] = sums[s * {THREADS}u + thread()]"
        )
    };
    let symbol = crossing_value(places, &sum.symbol, "0");
    let error = error_at(places, sum.error, "(start + (entry & 1023u))", "unit");
    let frame = defined(&symbol, &[("frame", &format!("const int frame = (int)(row / {streams}u);"))]);
    let body = format!(
        "{{
float* sums = shared_memory();
u32* list = (u32*)(sums + {sums}u);
u32* counts = list + {ROUND}u;
const {index} begin = ({index})a.first * {streams}u, end = ({index})a.end * {streams}u;
for (u32 item = block(); item < {items}u; item += blocks()) {{
const u32 part = item / {group_tiles}u, lowest = item / {tiles}u % {groups}u * {own}u, unit = item % {tiles}u * {THREADS}u + thread();
for (u32 s = 0; s < {own}u; ++s) sums[s * {THREADS}u + thread()] = 0.f;
const {index} from = begin + ({index})part * {per_part}u, to = from + {per_part}u < end ? from + {per_part}u : end;
for ({index} start = from; start < to; start += {ROUND}u) {{
// Each warp has some of these rows; all list what they find, in the order of rows.
const u32 warp = thread() / 32u, lane = thread() % 32u;
u32 found[4], symbols[4], count = 0;
UNROLL for (u32 i = 0; i < 4; ++i) {{
const {index} row = start + warp * 128u + i * 32u + lane;
symbols[i] = ~0u;
if (row < to) {{
{frame}symbols[i] = as_u32({symbol});
}}
found[i] = ballot(symbols[i] < {symbols}u && symbols[i] - lowest < {own}u);
count += count_ones(found[i]);
}}
if (lane == 0) counts[warp] = count;
block_sync();
u32 at = 0, total = 0;
UNROLL for (u32 w = 0; w < {warps}u; ++w) {{
if (w < warp) at += counts[w];
total += counts[w];
}}
UNROLL for (u32 i = 0; i < 4; ++i) {{
const u32 before = count_ones(found[i] & ((1u << lane) - 1u));
if (found[i] >> lane & 1u) list[at + before] = (symbols[i] - lowest) << 10 | (warp * 128u + i * 32u + lane);
at += count_ones(found[i]);
}}
block_sync();
if (unit < {units}u) {{
for (u32 i = 0; i < total; i += 8) {{
// The errors of several rows on their way at once.
float errors[8];
UNROLL for (u32 j = 0; j < 8; ++j) {{
const u32 entry = list[i + j < total ? i + j : i];
errors[j] = {error};
}}
UNROLL for (u32 j = 0; j < 8; ++j) {{
if (i + j < total) sums[(list[i + j] >> 10) * {THREADS}u + thread()] += errors[j];
}}
}}
}}
}}
if (unit < {units}u) {{
for (u32 s = 0; s < {own}u && lowest + s < {symbols}u; ++s) {result};
}}
}}
}}",
        sums = own * THREADS,
        items = parts * groups * tiles,
        group_tiles = groups * tiles,
        warps = THREADS / 32,
    );
    let work = Work::Items {
        per_row: 0,
        fixed: parts * groups * tiles,
        threads: THREADS,
        shared_bytes: (own * THREADS + ROUND + THREADS / 32) * 4,
    };
    let mut commands = vec![builder.kernel(name, &body, what.into(), work)];
    if parts > 1 {
        let body = format!(
            "{{
for (u64 i = global_thread(); i < {whole}ull; i += global_threads()) {{
float sum = 0.f;
UNROLL for (u32 part = 0; part < {parts}u; ++part) sum += constant(a.scratch + ({scratch}ull + part * {whole}ull + i));
{} {adds} sum;
}}
}}",
            place(&format!("i / {units}u"), &format!("i % {units}u"))
        );
        let work = Work::Elements { per_row: 0, fixed: whole };
        commands.push(builder.kernel(&format!("{name}_sum"), &body, format!("{what}, all parts"), work));
    }
    commands
}

/// The error at a row and unit, as an expression.
fn error_at(places: &Places<'_>, error: rnnc_plan::View, row: &str, unit: &str) -> String {
    format!("constant({})", places.address(error, row, unit))
}

/// Columns that a block sums side by side: a warp's lanes.
const TILE: usize = 32;

/// The most sums of a kernel, which has code of its own for each.
const SUMS: usize = 16;

/// Gradients of vectors: sums over rows. Blocks sum chunks of rows, then the chunks are added in their order.
pub(crate) fn reduce(
    builder: &mut Builder<'_>,
    name: &str,
    sums: &[RowSum],
    what: &[String],
) -> Vec<Command> {
    let mut commands = Vec::new();
    let mut rest = (sums, what);
    while !rest.0.is_empty() {
        let count = independent(rest.0).min(SUMS);
        let name = format!("{name}_{}", sums.len() - rest.0.len());
        commands.extend(reduce_some(builder, &name, &rest.0[..count], rest.1[..count].join("; ")));
        rest = (&rest.0[count..], &rest.1[count..]);
    }
    commands
}

/// How many sums come before one that adds to what an earlier one writes.
fn independent(sums: &[RowSum]) -> usize {
    let place = |sum: &RowSum| sum.gradient..sum.gradient + sum.error.len;
    let overlap = |a: &RowSum, b: &RowSum| place(a).start < place(b).end && place(b).start < place(a).end;
    (1..sums.len()).find(|&n| sums[..n].iter().any(|sum| overlap(sum, &sums[n]))).unwrap_or(sums.len())
}

fn reduce_some(builder: &mut Builder<'_>, name: &str, sums: &[RowSum], what: String) -> Vec<Command> {
    let places = builder.places;
    let (streams, rows) = (places.streams(), rows::rows(places));
    let columns: usize = sums.iter().map(|sum| sum.error.len).sum();
    let tiles: usize = sums.iter().map(|sum| sum.error.len.div_ceil(TILE)).sum();
    // Short chunks where there are few columns, so that all multiprocessors have some. A lane adds an eighth of a
    // chunk's rows at most: rounding errors stay small.
    let wanted = (rows / (builder.device.multiprocessors * 8)).saturating_mul(tiles);
    let chunk = wanted.next_multiple_of(64).clamp(64, 512);
    let chunks = rows.div_ceil(chunk);
    let scratch = if chunks > 1 { builder.scratch(chunks.saturating_mul(columns)) } else { 0 };
    let index = index_type(places, 1);
    let count = format!("(a.end - a.first) * {streams}ull");
    let groups = THREADS / TILE;

    let mut cases = String::new();
    let mut results = String::new();
    let (mut tile, mut column) = (0, 0);
    for sum in sums {
        let (len, next) = (sum.error.len, tile + sum.error.len.div_ceil(TILE));
        let otherwise = if tile == 0 { "if (" } else { "else if (" };
        let error = error_at(places, sum.error, "row", "u");
        let value = match &sum.source {
            None => format!("sum += {error};"),
            Some(source) => format!("sum = fused({error}, {}, sum);", crossing_value(places, source, "u")),
        };
        let start = StartValue::Number(0.0);
        let crosses = sum.crossing.map(|delay| Read { view: sum.error, delay, start, history: true });
        let crosses = crosses.and_then(|read| places.crosses(&read, "row", "frame"));
        let value = match (sum.crossing, crosses) {
            (None, _) => value,
            (Some(_), Some(crosses)) => format!("if ({crosses}) {value}"),
            // A read without a delay never crosses.
            (Some(_), None) => String::new(),
        };
        let gradient = |unit: &str, value: &str| {
            let adds = if sum.accumulate { "+=" } else { "=" };
            let scaled =
                if sum.scale == 1.0 { value.into() } else { format!("{} * {value}", float(sum.scale)) };
            format!("a.gradients[{}ull + {unit}] {adds} {scaled};", sum.gradient)
        };
        let result = if chunks > 1 {
            format!("a.scratch[{scratch}ull + chunk * {columns}ull + {column}u + u] = total;")
        } else {
            gradient("u", "total")
        };
        let frame = defined(&value, &[("frame", &format!("const int frame = (int)(row / {streams}u);"))]);
        // Four rows on their way at once.
        let _ = writeln!(
            cases,
            "{otherwise}tile < {next}u) {{
const u32 u = (tile - {tile}u) * {TILE}u + lane;
if (u < {len}u) {{
UNROLL4 for ({index} row = from + group; row < to; row += {groups}u) {{
{frame}{value}
}}
}}
parts[thread()] = sum;
block_sync();
if (group == 0 && u < {len}u) {{
float total = 0.f;
UNROLL for (u32 i = 0; i < {groups}u; ++i) total += parts[i * {TILE}u + lane];
{result}
}}
block_sync();
}}"
        );
        let _ = writeln!(
            results,
            "{otherwise}i < {}u) {{ {} }}",
            column + len,
            gradient(&format!("(i - {column}u)"), "total")
        );
        (tile, column) = (next, column + len);
    }
    let body = format!(
        "{{
float* parts = shared_memory();
const u32 lane = thread() % {TILE}u, group = thread() / {TILE}u;
const {index} begin = ({index})a.first * {streams}u, end = ({index})a.end * {streams}u;
for (u64 item = block(); item < {items}ull; item += blocks()) {{
const u32 tile = (u32)(item % {tiles}u);
const u64 chunk = item / {tiles}u;
const {index} from = begin + ({index})chunk * {chunk}u, to = from + {chunk}u < end ? from + {chunk}u : end;
float sum = 0.f;
{cases}}}
}}",
        items = tiles * chunks,
    );
    let work = Work::Items { per_row: 0, fixed: tiles * chunks, threads: THREADS, shared_bytes: THREADS * 4 };
    let mut commands = vec![builder.kernel(name, &body, what.clone(), work)];
    if chunks > 1 {
        let body = format!(
            "{{
const u64 chunks = ({count} + {}u) / {chunk}u;
for (u32 i = (u32)global_thread(); i < {columns}u; i += (u32)global_threads()) {{
float total = 0.f;
UNROLL4 for (u64 chunk = 0; chunk < chunks; ++chunk) total += constant(a.scratch + ({scratch}ull + chunk * {columns}ull + i));
{results}}}
}}",
            chunk - 1
        );
        let work = Work::Elements { per_row: 0, fixed: columns };
        commands.push(builder.kernel(&format!("{name}_sum"), &body, format!("{what}, all chunks"), work));
    }
    commands
}
