//! The products of a loop: where each thread's weights are, and the sums of a block's rows.

use super::groups::Groups;
use super::product_layout::ProductLayout;
use crate::places::{Places, Spot};
use rnnc_plan::{Product, View};
use std::fmt::Write;

/// A product's functions: `weight_<id>(a, team, row, chunk, e)` and `source_<id>(a, frame, stream, chunk, crossing)`; bit i of
/// `crossing` says that the read of part i crosses, as `crossing_<id>(a, frame, since_reset, ahead)` finds out.
pub(super) fn functions(
    out: &mut String,
    id: &str,
    product: &ProductLayout,
    places: &Places<'_>,
    groups: Groups,
) {
    let (units, slice_len) = (product.units, product.slice_len());
    let _ = writeln!(out, "DEVICE float weight_{id}(const Args& a, u32 team, u32 row, u32 chunk, u32 e) {{");
    let _ = writeln!(out, "    const u32 layer = row / {units}u, unit = team * {units}u + row % {units}u;");
    let rows = product.rows();
    if product.partial() {
        let (first, end) = (product.parts[0].first, product.parts[0].first + product.to().len);
        let _ = writeln!(out, "    if (row >= {rows}u || unit < {first}u || unit >= {end}u) return 0.f;");
        let _ = writeln!(out, "    const u32 place = layer + unit - {first}u;");
    } else {
        let _ = writeln!(out, "    if (row >= {rows}u || unit >= {slice_len}u) return 0.f;");
        let _ = writeln!(out, "    const u32 place = layer * {slice_len}u + unit;");
    }
    for (part, chunks) in product.parts.iter().zip(product.chunks.windows(2)) {
        let (begin, end, len) = (chunks[0], chunks[1], part.from.view.len);
        let m = part.weight;
        let _ = writeln!(out, "    {}{{", inside(product, begin, end));
        let _ = writeln!(out, "        const u32 column = (chunk - {begin}u) * 4u + e;");
        let _ = writeln!(
            out,
            "        return column < {len}u ? constant(a.weights + ({}ull + (u64)place * {}ull + (u64)column * {}ull)) : 0.f;",
            m.offset, m.row_stride, m.column_stride
        );
        out.push_str("    }\n");
    }
    out.push_str("    return 0.f;\n}\n");

    let _ =
        writeln!(out, "DEVICE u32 crossing_{id}(const Args& a, int frame, u32 since_reset, u32 ahead) {{");
    out.push_str("    (void)a; (void)frame; (void)since_reset; (void)ahead;\n");
    let bits: Vec<String> = product
        .parts
        .iter()
        .enumerate()
        .filter_map(|(bit, part)| {
            let crosses = places.crosses_at(&part.from, "since_reset", "ahead", "frame")?;
            Some(format!("({crosses} ? {}u : 0u)", 1u64 << bit))
        })
        .collect();
    let bits = if bits.is_empty() { "0u".into() } else { bits.join(" | ") };
    let _ = writeln!(out, "    return {bits};\n}}");
    let _ = writeln!(
        out,
        "DEVICE float4 source_{id}(const {}& a, int frame, u32 stream, u32 chunk, u32 crossing) {{",
        groups.args()
    );
    let _ = writeln!(out, "    const u32 row = {};", groups.row("stream"));
    out.push_str("    float4 x = {0.f, 0.f, 0.f, 0.f};\n");
    for (bit, (part, chunks)) in product.parts.iter().zip(product.chunks.windows(2)).enumerate() {
        let (begin, end) = (chunks[0], chunks[1]);
        let _ = writeln!(out, "    {}{{", inside(product, begin, end));
        let _ = writeln!(out, "        const u32 column = (chunk - {begin}u) * 4u;");
        source(out, part, bit, places);
        out.push_str("    }\n");
    }
    out.push_str("    return x;\n}\n");
}

/// The condition that a chunk is one of a part's, unless all are.
fn inside(product: &ProductLayout, begin: usize, end: usize) -> String {
    match within(product, begin, end) {
        within if within.is_empty() => within,
        within => format!("if ({within}) "),
    }
}

/// The same as an expression.
pub(super) fn within(product: &ProductLayout, begin: usize, end: usize) -> String {
    match begin == 0 && end == product.padded_chunks() {
        true => String::new(),
        false => format!("chunk >= {begin}u && chunk < {end}u"),
    }
}

/// The statements that read four columns of one part into `x`.
fn source(out: &mut String, part: &Product, bit: usize, places: &Places<'_>) {
    let read = &part.from;
    let len = read.view.len;
    let mut indent = "        ";
    let crosses = places.crosses(read, "row", "frame");
    if crosses.is_some() {
        let _ = writeln!(out, "        if (crossing >> {bit}u & 1u) {{");
        for (e, name) in ["x", "y", "z", "w"].iter().enumerate() {
            let start = places.start(read, &format!("column + {e}u"));
            let _ = writeln!(out, "            if (column + {e}u < {len}u) x.{name} = {start};");
        }
        out.push_str("        } else {\n");
        indent = "            ";
    }
    let Spot { base, width, .. } = places.spot(read.view);
    let aligned = [base, width, len].iter().all(|n| n.is_multiple_of(4));
    let _ = writeln!(out, "{indent}const float* from = {};", places.source_address(read, "row", "column"));
    if aligned {
        let _ = writeln!(out, "{indent}x = fresh4(from);");
    } else {
        for (e, name) in ["x", "y", "z", "w"].iter().enumerate() {
            let _ = writeln!(out, "{indent}if (column + {e}u < {len}u) x.{name} = fresh(from + {e});");
        }
    }
    if crosses.is_some() {
        out.push_str("        }\n");
    }
}

/// The statements that bring a thread's weights to where they stay. Variables: `g`, `team`, `tid`, `lane`, `warp`, `sm`.
pub(super) fn weights(
    out: &mut String,
    id: &str,
    p: &ProductLayout,
    threads: usize,
    far: Option<usize>,
    block: &str,
) {
    let ProductLayout {
        column_warps, column_lanes, thread_rows, thread_chunks, in_registers, in_shared, ..
    } = *p;
    let row_lanes = p.row_lanes();
    let own = match row_lanes {
        1 => format!("warp / {column_warps}u"),
        _ => format!("(warp / {column_warps}u * {row_lanes}u + lane / {column_lanes}u)"),
    };
    let _ = writeln!(out, "    const u32 rows_{id} = {own} * {thread_rows}u;");
    let _ = writeln!(
        out,
        "    const u32 chunk_{id} = warp % {column_warps}u * {}u + lane % {column_lanes}u;",
        thread_chunks * column_lanes
    );
    if in_registers > 0 {
        let _ = writeln!(out, "    float w_{id}[{thread_rows}][{}];", in_registers * 4);
        let _ = writeln!(out, "    UNROLL for (u32 r = 0; r < {thread_rows}u; r++)");
        let _ = writeln!(out, "        UNROLL for (u32 c = 0; c < {}u; c++)", in_registers * 4);
        let _ = writeln!(
            out,
            "            w_{id}[r][c] = weight_{id}(a, team, rows_{id} + r, chunk_{id} + c / 4u * {column_lanes}u, c % 4u);"
        );
    }
    let Kept { kind, rows, keep, .. } = Kept::of(p);
    let sets = thread_rows / rows;
    let mut place = |name: &str, array: String, from: usize, count: usize| {
        let _ = writeln!(out, "    {kind}* const {name}_{id} = ({kind}*)({array});");
        let _ = writeln!(out, "    for (u32 j = 0; j < {count}u; j++)");
        let _ = writeln!(out, "        for (u32 s = 0; s < {sets}u; s++) {{");
        let _ = writeln!(out, "            const u32 chunk = chunk_{id} + ({from}u + j) * {column_lanes}u;");
        let _ = writeln!(out, "            float4 w[{rows}];");
        let _ = writeln!(out, "            UNROLL for (u32 r = 0; r < {rows}u; r++) {{");
        for (e, c) in ["x", "y", "z", "w"].iter().enumerate() {
            let _ = writeln!(
                out,
                "                w[r].{c} = weight_{id}(a, team, rows_{id} + s * {rows}u + r, chunk, {e}u);"
            );
        }
        out.push_str("            }\n");
        let _ = writeln!(out, "            {name}_{id}[(j * {sets}u + s) * {threads}u + tid] = {keep};");
        out.push_str("        }\n");
    };
    if in_shared > 0 {
        place("near", format!("sm + {}u", p.weights_at), in_registers, in_shared);
    }
    if let Some(far) = far {
        let count = thread_chunks - in_registers - in_shared;
        let numbers = count * p.kept_words() * threads;
        place(
            "far",
            format!("a.scratch + ({far}ull + (u64){block} * {numbers}ull)"),
            in_registers + in_shared,
            count,
        );
    }
}

/// How a thread keeps weights in memory: four columns of one row or two, in single precision or in bf16, by as wide a read as
/// there is.
struct Kept {
    /// The type.
    kind: &'static str,
    /// Rows of one.
    rows: usize,
    /// What makes one of the weights `w[0] ..`.
    keep: &'static str,
    /// The weights of row `r`, of one that is called `kept`.
    weights: &'static str,
}

impl Kept {
    fn of(p: &ProductLayout) -> Kept {
        match (p.weight_bytes, p.thread_rows % 2) {
            (2, 0) => Kept {
                kind: "float4",
                rows: 2,
                keep: "two_in_bf16(w[0], w[1])",
                weights: "one_of_two(kept, r % 2u)",
            },
            (2, _) => Kept {
                kind: "uint2",
                rows: 1,
                keep: "four_bf16(w[0])",
                weights: "four_of_bf16(kept.x, kept.y)",
            },
            _ => Kept { kind: "float4", rows: 1, keep: "w[0]", weights: "kept" },
        }
    }
}

/// How the code around products stands.
pub(super) struct Around<'a> {
    /// Rows of a step, and threads of a block.
    pub rows: usize,
    pub threads: usize,
    /// Buffers of partial sums.
    pub buffers: usize,
    /// Opens a block in which `frame` and `stream` are those of row `q`, or continues the loop over rows.
    pub frame_of: &'a str,
    /// How streams are dealt out.
    pub groups: Groups,
    /// What says which reads cross, for `frame` and `stream`.
    pub crossing: &'a str,
    /// The code of the fault flag.
    pub code: usize,
}

/// The statements that bring the sources of the first step to where their blocks put those of later ones.
pub(super) fn first_sources(
    out: &mut String,
    id: &str,
    p: &ProductLayout,
    threads: usize,
    groups: Groups,
    crossing: &str,
) {
    let (at, width) = (p.exchange_at, p.source_chunks());
    let (rows, own) = (p.streams, groups.own());
    let all = rows.next_multiple_of(p.together()) * width;
    let _ = writeln!(out, "    for (u32 i = tid; i < {all}u; i += {threads}u) {{");
    let _ = writeln!(out, "        const u32 stream = i / {width}u; const int frame = begin_frame;");
    out.push_str("        float4 x = {0.f, 0.f, 0.f, 0.f};\n");
    let _ = writeln!(
        out,
        "        if (n > 0 && stream < {own}) x = source_{id}(a, frame, stream, i % {width}u, {crossing});"
    );
    let _ = writeln!(out, "        ((float4*)(sm + {at}u))[i] = ((float4*)(sm + {at}u))[{all}u + i] = x;");
    out.push_str("    }\n");
}

/// The function that reads four columns of a source from shared memory: `exchanged_<id>(a, sm, step, q, chunk, crossing)`.
pub(super) fn exchanged(out: &mut String, id: &str, p: &ProductLayout, rows: usize, places: &Places<'_>) {
    let (at, width) = (p.exchange_at, p.source_chunks());
    let all = rows.next_multiple_of(p.together()) * width;
    let _ = writeln!(
        out,
        "DEVICE float4 exchanged_{id}(const Args& a, const float* sm, int step, u32 q, u32 chunk, u32 crossing) {{"
    );
    let _ = writeln!(
        out,
        "    float4 x = ((const float4*)(sm + {at}u))[((u32)step & 1u) * {all}u + q * {width}u + chunk];"
    );
    for (bit, (part, chunks)) in p.parts.iter().zip(p.chunks.windows(2)).enumerate() {
        if part.from.delay == 0 {
            continue;
        }
        let (begin, end, len) = (chunks[0], chunks[1], part.from.view.len);
        let _ = writeln!(out, "    if ((crossing >> {bit}u & 1u) && chunk >= {begin}u && chunk < {end}u) {{");
        let _ = writeln!(out, "        const u32 column = (chunk - {begin}u) * 4u;");
        for (e, name) in ["x", "y", "z", "w"].iter().enumerate() {
            let start = places.start(&part.from, &format!("column + {e}u"));
            let _ = writeln!(out, "        if (column + {e}u < {len}u) x.{name} = {start};");
        }
        out.push_str("    }\n");
    }
    out.push_str("    return x;\n}\n");
}

/// The statements that put the value of unit `u` (of a view that a source overlaps) into the blocks' shared memory.
pub(super) fn exchange(
    out: &mut String,
    p: &ProductLayout,
    (rows, blocks): (usize, usize),
    stored: View,
    lags: &[i64],
    value: &str,
) {
    let width = p.source_chunks() * 4;
    let all = rows.next_multiple_of(p.together()) * width;
    for ((part, chunks), lag) in p.parts.iter().zip(p.chunks.windows(2)).zip(lags) {
        let from = part.from.view;
        if !super::exchange::overlap(from, stored) {
            continue;
        }
        // The place among the product's columns of the store's first.
        let shift = (chunks[0] * 4 + stored.column) as i64 - from.column as i64;
        let (first, end) = super::exchange::common(from, stored);
        let guard = match (first, end == stored.len) {
            (0, true) => String::new(),
            _ => format!("if (u >= {first}u && u < {end}u) "),
        };
        let place = format!(
            "sm + ({}u + ((u32)(step + {lag}) & 1u) * {all}u + stream * {width}u + (u32)((int)u + ({shift})))",
            p.exchange_at
        );
        let _ = match blocks {
            1 => writeln!(out, "                {guard}*({place}) = {value};"),
            _ => writeln!(
                out,
                "                {guard}UNROLL for (u32 rank = 0; rank < {blocks}u; rank++) put_shared({place}, rank, {value});"
            ),
        };
    }
}

/// The statements that leave the partial sums of all rows of a step in shared memory.
pub(super) fn sums(out: &mut String, id: &str, p: &ProductLayout, around: &Around<'_>) {
    let Around { rows, frame_of, crossing, groups, .. } = *around;
    let (chunks, lanes) = (p.thread_chunks, p.column_lanes);
    if p.exchanged {
        let together = p.together();
        let _ = writeln!(out, "        for (u32 q = 0; q < {rows}u; q += {together}u) {{");
        let _ = writeln!(out, "            u32 crossing[{together}];");
        let _ = writeln!(
            out,
            "            UNROLL for (u32 b = 0; b < {together}u; b++) {{ const u32 stream = q + b; (void)stream; crossing[b] = stream < {} ? {crossing} : 0u; }}",
            groups.own()
        );
        let source = format!("exchanged_{id}(a, sm, step, q + b, chunk_{id} + j * {lanes}u, crossing[b])");
        rows_together(out, id, p, around, together, &source);
        out.push_str("        }\n");
        return;
    }
    if p.staged == 0 {
        let _ = writeln!(out, "        for (u32 q = 0; q < {rows}u; q++) {{");
        let _ = writeln!(out, "            {frame_of}");
        let _ = writeln!(out, "            float4 x[{chunks}];");
        let _ = writeln!(out, "            UNROLL for (u32 j = 0; j < {chunks}u; j++)");
        let _ = writeln!(
            out,
            "                x[j] = source_{id}(a, frame, stream, chunk_{id} + j * {lanes}u, {crossing});"
        );
        rows_together(out, id, p, around, 1, "x[j]");
        out.push_str("            }\n        }\n");
        return;
    }
    let (staged, together, width, at) = (p.staged, p.together(), p.padded_chunks(), p.staged_at);
    let _ = writeln!(out, "        for (u32 q0 = 0; q0 < {rows}u; q0 += {staged}u) {{");
    let _ = writeln!(out, "            float4* const stage = (float4*)(sm + {at}u);");
    if staged < rows {
        out.push_str("            if (q0 > 0) block_sync();\n");
    }
    if !p.shares {
        stage(out, id, p, around);
        out.push_str("            block_sync();\n");
    }
    let _ = writeln!(out, "            for (u32 q1 = 0; q1 < {staged}u; q1 += {together}u) {{");
    out.push_str("            const u32 q = q0 + q1;\n");
    let source = format!("stage[(q1 + b) * {width}u + chunk_{id} + j * {lanes}u]");
    rows_together(out, id, p, around, together, &source);
    out.push_str("            }\n        }\n");
}

/// The statements that bring sources of the rows from `q0` on to shared memory.
fn stage(out: &mut String, id: &str, p: &ProductLayout, around: &Around<'_>) {
    /// Reads that a thread has under way together.
    const READS: usize = 8;
    let Around { threads, crossing, code, groups, .. } = *around;
    let own = groups.own();
    let (staged, width) = (p.staged, p.padded_chunks());
    let items = staged * width;
    let reads = READS.min(items.div_ceil(threads));
    let _ = writeln!(
        out,
        "            for (u32 i0 = tid; i0 < {}u; i0 += {}u) {{\n                float4 x[{reads}];",
        // Lanes of a warp stay together.
        items.next_multiple_of(32),
        threads * reads
    );
    let each = format!(
        "                UNROLL for (u32 k = 0; k < {reads}u; k++) {{ const u32 i = i0 + k * {threads}u;"
    );
    let _ = writeln!(out, "{each} const u32 stream = q0 + i / {width}u;");
    out.push_str("                    x[k].x = x[k].y = x[k].z = x[k].w = 0.f;\n");
    let from = if p.polled { "posted" } else { "source" };
    let read = format!("x[k] = {from}_{id}(a, frame, stream, i % {width}u, {crossing});");
    let _ = writeln!(out, "                    if (i < {items}u && stream < {own}) {read} }}");
    if p.polled {
        let missing = format!("i < {items}u && stream < {own} && absent(x[k])");
        out.push_str("                for (u32 polls = 0;;) {\n                bool missing = false;\n");
        let _ = writeln!(out, "{each} const u32 stream = q0 + i / {width}u; missing |= {missing}; }}");
        let _ = writeln!(out, "                if (!looks_again(a, missing, polls, {code}u, failed)) break;");
        let _ = writeln!(out, "{each} const u32 stream = q0 + i / {width}u; if ({missing}) {read} }}");
        out.push_str("                }\n");
    }
    let _ = writeln!(out, "{each} if (i < {items}u) stage[i] = x[k]; }}\n            }}");
}

/// The sums of `together` rows from `q` on: `source` is the expression of four columns of row `b`, chunk `j`.
fn rows_together(
    out: &mut String,
    id: &str,
    p: &ProductLayout,
    around: &Around<'_>,
    together: usize,
    source: &str,
) {
    let Around { rows, threads, buffers, .. } = *around;
    let ProductLayout { column_warps, column_lanes, thread_rows, thread_chunks, .. } = *p;
    let ProductLayout { in_registers, in_shared, fold, .. } = *p;
    let padded = p.padded_rows();
    let _ = writeln!(out, "            float sum[{together}][{thread_rows}];");
    let _ = writeln!(
        out,
        "            UNROLL for (u32 b = 0; b < {together}u; b++) UNROLL for (u32 r = 0; r < {thread_rows}u; r++) sum[b][r] = 0.f;"
    );
    let add = |out: &mut String, from: usize, count: usize, weight: &str| {
        if count == 0 {
            return;
        }
        let _ = writeln!(out, "            UNROLL for (u32 j = {from}u; j < {}u; j++) {{", from + count);
        let _ = writeln!(out, "                float4 v[{together}];");
        let _ =
            writeln!(out, "                UNROLL for (u32 b = 0; b < {together}u; b++) v[b] = {source};");
        let _ = writeln!(out, "                UNROLL for (u32 r = 0; r < {thread_rows}u; r++) {{");
        let _ = writeln!(out, "                    {weight}");
        let _ = writeln!(
            out,
            "                    UNROLL for (u32 b = 0; b < {together}u; b++) sum[b][r] = fused(w.x, v[b].x, fused(w.y, v[b].y, fused(w.z, v[b].z, fused(w.w, v[b].w, sum[b][r]))));"
        );
        out.push_str("                }\n            }\n");
    };
    let w = |e: usize| format!("w_{id}[r][j * 4u + {e}u]");
    let kept = format!("float4 w; w.x = {}; w.y = {}; w.z = {}; w.w = {};", w(0), w(1), w(2), w(3));
    add(out, 0, in_registers, &kept);
    let near = in_registers + in_shared;
    let Kept { kind, rows: of_one, weights, .. } = Kept::of(p);
    for (name, from, to) in [("near", in_registers, near), ("far", near, thread_chunks)] {
        let place = format!("((j - {from}u) * {}u + r / {of_one}u) * {threads}u + tid", thread_rows / of_one);
        add(
            out,
            from,
            to - from,
            &format!("const {kind} kept = {name}_{id}[{place}]; const float4 w = {weights};"),
        );
    }
    let _ = writeln!(out, "            UNROLL for (u32 b = 0; b < {together}u; b++)");
    let _ = writeln!(out, "            UNROLL for (u32 tile = 0; tile < {}u; tile++) {{", thread_rows / fold);
    let _ = writeln!(out, "                float v[{fold}];");
    let _ = writeln!(
        out,
        "                UNROLL for (u32 r = 0; r < {fold}u; r++) v[r] = sum[b][tile * {fold}u + r];"
    );
    let _ = writeln!(out, "                const float total = fold<{fold}, {column_lanes}>(v, lane);");
    let of_lane = if column_lanes == 32 { "lane".into() } else { format!("lane % {column_lanes}u") };
    let buffer = if buffers > 1 { format!("((u32)step & 1u) * {rows}u + ") } else { String::new() };
    let _ = writeln!(
        out,
        "                if ({of_lane} < {fold}u && q + b < {rows}u) sm[{}u + ({buffer}q + b) * {}u + warp % {column_warps}u * {padded}u + rows_{id} + tile * {fold}u + {of_lane}] = total;",
        p.sums_at,
        column_warps * padded
    );
    out.push_str("            }\n");
}
