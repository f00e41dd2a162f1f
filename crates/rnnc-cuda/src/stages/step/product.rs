//! The products of a loop: where each thread's weights are, and the sums of a block's rows.

use super::layout::ProductLayout;
use crate::places::{Places, Spot};
use rnnc_plan::Product;
use std::fmt::Write;

/// A product's functions: `weight_<id>(a, g, row, chunk, e)` and `source_<id>(a, t, stream, chunk)`.
pub(super) fn functions(out: &mut String, id: &str, product: &ProductLayout, places: &Places<'_>) {
    let (units, span) = (product.units, product.span());
    let _ = writeln!(out, "DEVICE float weight_{id}(const Args& a, u32 g, u32 row, u32 chunk, u32 e) {{");
    let _ = writeln!(out, "    const u32 layer = row / {units}u, unit = g * {units}u + row % {units}u;");
    let rows = product.rows();
    if product.partial() {
        let (first, end) = (product.parts[0].first, product.parts[0].first + product.to().len);
        let _ = writeln!(out, "    if (row >= {rows}u || unit < {first}u || unit >= {end}u) return 0.f;");
        let _ = writeln!(out, "    const u32 place = layer + unit - {first}u;");
    } else {
        let _ = writeln!(out, "    if (row >= {rows}u || unit >= {span}u) return 0.f;");
        let _ = writeln!(out, "    const u32 place = layer * {span}u + unit;");
    }
    for (part, chunks) in product.parts.iter().zip(product.chunks.windows(2)) {
        let (begin, end, len) = (chunks[0], chunks[1], part.from.view.len);
        let m = part.weight;
        let _ = writeln!(out, "    if (chunk >= {begin}u && chunk < {end}u) {{");
        let _ = writeln!(out, "        const u32 column = (chunk - {begin}u) * 4u + e;");
        let _ = writeln!(
            out,
            "        return column < {len}u ? constant(a.weights + ({}ull + (u64)place * {}ull + (u64)column * {}ull)) : 0.f;",
            m.offset, m.row_stride, m.column_stride
        );
        out.push_str("    }\n");
    }
    out.push_str("    return 0.f;\n}\n");

    let _ = writeln!(out, "DEVICE float4 source_{id}(const Args& a, int frame, u32 stream, u32 chunk) {{");
    let _ = writeln!(out, "    const u32 row = (u32)frame * {}u + stream;", places.streams());
    out.push_str("    float4 x = {0.f, 0.f, 0.f, 0.f};\n");
    for (part, chunks) in product.parts.iter().zip(product.chunks.windows(2)) {
        let (begin, end) = (chunks[0], chunks[1]);
        let _ = writeln!(out, "    if (chunk >= {begin}u && chunk < {end}u) {{");
        let _ = writeln!(out, "        const u32 column = (chunk - {begin}u) * 4u;");
        source(out, part, places);
        out.push_str("    }\n");
    }
    out.push_str("    return x;\n}\n");
}

/// The statements that read four columns of one part into `x`.
fn source(out: &mut String, part: &Product, places: &Places<'_>) {
    let read = &part.from;
    let len = read.view.len;
    let mut indent = "        ";
    let crosses = places.crosses(read, "row", "frame");
    if let Some(crosses) = &crosses {
        let _ = writeln!(out, "        if ({crosses}) {{");
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

/// The statements that bring a thread's weights to where they stay. Variables: `g`, `tid`, `lane`, `warp`, `sm`.
pub(super) fn weights(out: &mut String, id: &str, p: &ProductLayout, threads: usize, far: Option<usize>) {
    let ProductLayout {
        row_groups: _,
        column_warps,
        thread_rows,
        thread_chunks,
        in_registers,
        in_shared,
        ..
    } = *p;
    let _ = writeln!(out, "    const u32 rows_{id} = warp / {column_warps}u * {thread_rows}u;");
    let _ =
        writeln!(out, "    const u32 chunk_{id} = warp % {column_warps}u * {}u + lane;", thread_chunks * 32);
    if in_registers > 0 {
        let _ = writeln!(out, "    float w_{id}[{thread_rows}][{}];", in_registers * 4);
        let _ = writeln!(out, "    UNROLL for (u32 r = 0; r < {thread_rows}u; r++)");
        let _ = writeln!(out, "        UNROLL for (u32 c = 0; c < {}u; c++)", in_registers * 4);
        let _ = writeln!(
            out,
            "            w_{id}[r][c] = weight_{id}(a, g, rows_{id} + r, chunk_{id} + c / 4u * 32u, c % 4u);"
        );
    }
    let mut place = |name: &str, array: String, from: usize, count: usize| {
        let _ = writeln!(out, "    float4* const {name}_{id} = (float4*)({array});");
        let _ = writeln!(out, "    for (u32 j = 0; j < {count}u; j++)");
        let _ = writeln!(out, "        for (u32 r = 0; r < {thread_rows}u; r++) {{");
        let _ = writeln!(out, "            const u32 chunk = chunk_{id} + ({from}u + j) * 32u;");
        out.push_str("            float4 w;\n");
        for (e, c) in ["x", "y", "z", "w"].iter().enumerate() {
            let _ = writeln!(out, "            w.{c} = weight_{id}(a, g, rows_{id} + r, chunk, {e}u);");
        }
        let _ = writeln!(out, "            {name}_{id}[(j * {thread_rows}u + r) * {threads}u + tid] = w;");
        out.push_str("        }\n");
    };
    if in_shared > 0 {
        place("near", format!("sm + {}u", p.weights_at), in_registers, in_shared);
    }
    if let Some(far) = far {
        let count = thread_chunks - in_registers - in_shared;
        let numbers = count * thread_rows * threads * 4;
        place(
            "far",
            format!("a.scratch + ({far}ull + (u64)g * {numbers}ull)"),
            in_registers + in_shared,
            count,
        );
    }
}

/// The statements that leave the partial sums of all rows of a step in shared memory. `frame_of` opens a block in which
/// `frame` and `stream` are those of row `q`.
pub(super) fn sums(
    out: &mut String,
    id: &str,
    p: &ProductLayout,
    rows: usize,
    threads: usize,
    frame_of: &str,
) {
    let ProductLayout { column_warps, thread_rows, thread_chunks, in_registers, in_shared, fold, .. } = *p;
    let padded = p.padded_rows();
    let _ = writeln!(out, "        for (u32 q = 0; q < {rows}u; q++) {{");
    let _ = writeln!(out, "            {frame_of}");
    let _ = writeln!(out, "            float4 x[{thread_chunks}];");
    let _ = writeln!(out, "            UNROLL for (u32 j = 0; j < {thread_chunks}u; j++)");
    let _ = writeln!(out, "                x[j] = source_{id}(a, frame, stream, chunk_{id} + j * 32u);");
    let _ = writeln!(out, "            float sum[{thread_rows}];");
    let _ = writeln!(out, "            UNROLL for (u32 r = 0; r < {thread_rows}u; r++) sum[r] = 0.f;");
    let add = |out: &mut String, from: usize, count: usize, weight: &dyn Fn(&str) -> String| {
        if count == 0 {
            return;
        }
        let _ = writeln!(out, "            UNROLL for (u32 j = {from}u; j < {}u; j++)", from + count);
        let _ = writeln!(out, "                UNROLL for (u32 r = 0; r < {thread_rows}u; r++) {{");
        let _ = writeln!(out, "                    {}", weight("r"));
        out.push_str("                    sum[r] = fused(w.x, x[j].x, fused(w.y, x[j].y, fused(w.z, x[j].z, fused(w.w, x[j].w, sum[r]))));\n");
        out.push_str("                }\n");
    };
    add(out, 0, in_registers, &|r| {
        let w = |e: usize| format!("w_{id}[{r}][j * 4u + {e}u]");
        format!("float4 w; w.x = {}; w.y = {}; w.z = {}; w.w = {};", w(0), w(1), w(2), w(3))
    });
    let kept = |name: &str, from: usize| {
        let name = name.to_string();
        move |r: &str| {
            format!(
                "const float4 w = {name}_{id}[((j - {from}u) * {thread_rows}u + {r}) * {threads}u + tid];"
            )
        }
    };
    add(out, in_registers, in_shared, &kept("near", in_registers));
    let near = in_registers + in_shared;
    add(out, near, thread_chunks - near, &kept("far", near));
    let _ = writeln!(out, "            UNROLL for (u32 tile = 0; tile < {}u; tile++) {{", thread_rows / fold);
    let _ = writeln!(out, "                float v[{fold}];");
    let _ = writeln!(
        out,
        "                UNROLL for (u32 r = 0; r < {fold}u; r++) v[r] = sum[tile * {fold}u + r];"
    );
    let _ = writeln!(out, "                const float total = fold<{fold}>(v, lane);");
    let _ = writeln!(
        out,
        "                if (lane < {fold}u) sm[{}u + (((u32)step & 1u) * {rows}u + q) * {}u + warp % {column_warps}u * {padded}u + rows_{id} + tile * {fold}u + lane] = total;",
        p.sums_at,
        column_warps * padded
    );
    out.push_str("            }\n            }\n        }\n");
}
