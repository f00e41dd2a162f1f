//! Products of a loop by tensor cores: tiles of 16 rows by 16 columns of weights, times 8 streams.
//!
//! The order of a tile's columns is free, as long as weights and sources have the same. So that a lane reads four columns
//! side by side, it has columns `4 (lane % 4) ..` of both: rows `lane / 4` and 8 below of the weights, stream `lane / 4` of the
//! sources. `source/tiles.cuh` multiplies one tile.

use super::copies::Copies;
use super::product::Around;
use super::product_layout::ProductLayout;
use rnnc_plan::Precision;
use std::fmt::Write;

/// Instructions of tensor cores that are printed one after the other; beyond, groups of streams are a loop.
const UNROLLED: usize = 400;

/// What [`Precision`] is called in the functions of `source/tiles.cuh`.
fn suffix(precision: Precision) -> &'static str {
    match precision {
        Precision::F32 => "f32",
        Precision::Tf32 => "tf32",
        Precision::Bf16 => "bf16",
    }
}

/// Turns that tensor cores take for a product of two tiles.
pub(super) fn turns(precision: Precision) -> usize {
    match precision {
        Precision::F32 => 6,
        Precision::Tf32 => 2,
        Precision::Bf16 => 1,
    }
}

/// Operations in TF32 that take tensor cores as long as one in that precision.
pub(super) fn beside_tf32(precision: Precision) -> f64 {
    turns(precision) as f64 / turns(Precision::Tf32) as f64
}

/// Groups of streams that are multiplied one after the other.
fn groups(p: &ProductLayout) -> usize {
    p.streams.div_ceil(p.together())
}

/// Groups whose reads go on through their borders; the others' begin anew.
fn flat_groups(p: &ProductLayout, precision: Precision) -> usize {
    match groups(p) * p.tiles() * p.stream_tiles() * p.thread_chunks * turns(precision) {
        products if products <= UNROLLED => groups(p),
        _ => 1,
    }
}

/// Tiles of streams, if their steps since reset may be read a step ahead.
pub(super) fn since_reset(streams: usize) -> usize {
    match streams.div_ceil(8) {
        tiles if tiles <= 8 => tiles,
        _ => 0,
    }
}

/// The statements that find out, for each part, in which tiles this lane's stream crosses, from steps since reset that were read ahead;
/// and the expression of what that says of one `tile`.
pub(super) fn crossings(out: &mut String, id: &str, p: &ProductLayout, since_reset: usize) -> String {
    let parts = p.parts.len();
    let _ = writeln!(
        out,
        "        u32 cross_{id}[{parts}]; UNROLL for (u32 p = 0; p < {parts}u; p++) cross_{id}[p] = 0u;"
    );
    let _ = writeln!(out, "        UNROLL for (u32 i = 0; i < {since_reset}u; i++) {{");
    let _ = writeln!(
        out,
        "            const u32 crossing = crossing_{id}(a, frame, tile_since_reset[i], tile_ahead[i]);"
    );
    let _ = writeln!(
        out,
        "            UNROLL for (u32 p = 0; p < {parts}u; p++) cross_{id}[p] |= (crossing >> p & 1u) << i;"
    );
    out.push_str("        }\n");
    let bits: Vec<String> = (0..parts).map(|p| format!("(cross_{id}[{p}] >> tile & 1u) << {p}")).collect();
    format!("({})", bits.join(" | "))
}

/// The statements that bring a thread's weights to where they stay. Variables: `team`, `member`, `tid`, `lane`, `warp`, `sm`.
pub(super) fn weights(
    out: &mut String,
    id: &str,
    p: &ProductLayout,
    threads: usize,
    far: Option<usize>,
    precision: Precision,
    block: &str,
) {
    let (tiles, words, suffix) = (p.tiles(), p.words() / p.tiles(), suffix(precision));
    let (column_warps, rows, chunks) = (p.column_warps, p.thread_rows, p.thread_chunks);
    let _ = writeln!(out, "    const u32 rows_{id} = warp / {column_warps}u * {rows}u;");
    let _ = writeln!(
        out,
        "    const u32 chunk_{id} = (member * {column_warps}u + warp % {column_warps}u) * {}u + lane % 4u;",
        chunks * 4
    );
    if p.in_registers > 0 {
        let kept = p.in_registers;
        let _ = writeln!(out, "    u32 w_{id}[{kept}][{tiles}][{words}];");
        let _ = writeln!(
            out,
            "    UNROLL for (u32 j = 0; j < {kept}u; j++) UNROLL for (u32 t = 0; t < {tiles}u; t++)"
        );
        one_tile(out, "        ", id, suffix, &format!("w_{id}[j][t]"), &format!("chunk_{id} + j * 4u"));
    }
    let mut place = |name: &str, array: String, from: usize, count: usize| {
        let _ = writeln!(out, "    float4* const {name}_{id} = (float4*)({array});");
        let _ = writeln!(out, "    for (u32 j = 0; j < {count}u; j++) for (u32 t = 0; t < {tiles}u; t++) {{");
        let _ = writeln!(out, "        u32 w[{words}];");
        one_tile(out, "        ", id, suffix, "w", &format!("chunk_{id} + ({from}u + j) * 4u"));
        let _ = writeln!(
            out,
            "        UNROLL for (u32 k = 0; k < {}u; k++) keep4({name}_{id} + ((j * {tiles}u + t) * {}u + k) * {threads}u + tid, w + 4u * k);",
            words / 4,
            words / 4
        );
        out.push_str("    }\n");
    };
    if p.in_shared > 0 {
        place("near", format!("sm + {}u", p.weights_at), p.in_registers, p.in_shared);
    }
    if let Some(far) = far {
        let kept = p.in_registers + p.in_shared;
        let numbers = (chunks - kept) * p.kept_words() * threads;
        place("far", format!("a.scratch + ({far}ull + (u64){block} * {numbers}ull)"), kept, chunks - kept);
    }
}

/// The statements that fill the registers `to` with tile `t` of a chunk's weights.
fn one_tile(out: &mut String, indent: &str, id: &str, suffix: &str, to: &str, chunk: &str) {
    let _ = writeln!(out, "{indent}{{ float v[8];");
    let _ = writeln!(
        out,
        "{indent}UNROLL for (u32 i = 0; i < 8u; i++) v[i] = weight_{id}(a, team, rows_{id} + t * 16u + lane / 4u + i / 4u * 8u, {chunk}, i % 4u);"
    );
    let _ = writeln!(out, "{indent}tile_{suffix}({to}, v); }}");
}

/// The statements that leave the partial sums of all streams in shared memory.
pub(super) fn sums(
    out: &mut String,
    id: &str,
    p: &ProductLayout,
    around: &Around<'_>,
    precision: Precision,
    copies: Option<Copies>,
) {
    let Around { rows, threads, crossing, groups: of_streams, .. } = *around;
    let (tiles, streams, chunks) = (p.tiles(), p.stream_tiles(), p.thread_chunks);
    let (words, suffix) = (p.words() / tiles, suffix(precision));
    let flat = flat_groups(p, precision);
    // Reads of four columns under way: those of a chunk, for all streams of a group, together.
    // In bf16, of which each takes half the registers, more are worth it.
    let (registers, of_a_read) = if copies.is_some_and(Copies::halves) { (48, 2) } else { (32, 4) };
    let depth = if p.exchanged { 2 } else { (registers / of_a_read / streams).max(1) };
    let depth = depth.min(flat * chunks);
    let mut line = |text: &str| {
        out.push_str("        ");
        out.push_str(text);
        out.push('\n');
    };
    let rolled = if flat < groups(p) { "ROLLED " } else { "" };
    line(&format!("{rolled}for (u32 q0 = 0; q0 < {}u; q0 += {flat}u) {{", groups(p)));
    let four = copies.map_or("float4", Copies::four);
    line(&format!("    {four} x[{depth}][{streams}];"));
    line("    const auto read = [&](u32 i, u32 s) {");
    // Lanes without a stream read the last one's: their sums are dropped.
    let stream = match (rows % p.together(), of_streams.are_equal()) {
        (_, false) => "of_lane < a.streams ? of_lane : a.streams - 1u".to_string(),
        (0, true) => "of_lane".to_string(),
        (_, true) => format!("of_lane < {rows}u ? of_lane : {}u", rows - 1),
    };
    line(&format!(
        "        const u32 tile = (q0 + i / {chunks}u) * {streams}u + s, of_lane = tile * 8u + lane / 4u, stream = {stream}, chunk = chunk_{id} + i % {chunks}u * 4u; (void)tile;"
    ));
    let inside = if rows % p.together() == 0 { String::new() } else { format!("if (stream < {rows}u) ") };
    line(&match (p.exchanged, copies) {
        (true, _) => format!("        return exchanged_{id}(a, sm, step, stream, chunk, {crossing});"),
        (false, Some(_)) => {
            // A group may have more tiles than there are: those read the last one's.
            let last = rows.div_ceil(8) - 1;
            let tile = match last + 1 == groups(p) * streams {
                _ if !of_streams.are_equal() => "stream / 8u".into(),
                true => "tile".into(),
                false => format!("tile < {last}u ? tile : {last}u"),
            };
            format!(
                "        return copied_{id}(a, frame, {tile}, chunk, stream % 8u * 4u + lane % 4u, {crossing});"
            )
        }
        (false, None) => format!("        return source_{id}(a, frame, stream, chunk, {crossing});"),
    });
    line("    };");
    line(&format!(
        "    UNROLL for (u32 i = 0; i < {depth}u; i++) UNROLL for (u32 s = 0; s < {streams}u; s++) x[i][s] = read(i, s);"
    ));
    line(&format!("    UNROLL for (u32 q = 0; q < {flat}u; q++) {{"));
    line(&format!("        float sum[{tiles}][{streams}][4];"));
    line(&format!(
        "        UNROLL for (u32 t = 0; t < {tiles}u; t++) UNROLL for (u32 s = 0; s < {streams}u; s++) UNROLL for (u32 e = 0; e < 4u; e++) sum[t][s][e] = 0.f;"
    ));
    line(&format!("        UNROLL for (u32 j = 0; j < {chunks}u; j++) {{"));
    line(&format!("            const u32 i = q * {chunks}u + j;"));
    line(&format!("            UNROLL for (u32 t = 0; t < {tiles}u; t++) {{"));
    line(&format!("                u32 w[{words}];"));
    let near = p.in_registers + p.in_shared;
    let mut otherwise = "";
    if p.in_registers > 0 {
        line(&format!(
            "                if (j < {}u) {{ UNROLL for (u32 k = 0; k < {words}u; k++) w[k] = w_{id}[j < {}u ? j : 0u][t][k]; }}",
            p.in_registers, p.in_registers
        ));
        otherwise = "else ";
    }
    for (name, from, to) in [("near", p.in_registers, near), ("far", near, chunks)] {
        if from == to {
            continue;
        }
        line(&format!(
            "                {otherwise}if (j < {to}u) {{ UNROLL for (u32 k = 0; k < {}u; k++) kept4(w + 4u * k, {name}_{id} + (((j - {from}u) * {tiles}u + t) * {}u + k) * {threads}u + tid); }}",
            words / 4,
            words / 4
        ));
        otherwise = "else ";
    }
    line(&format!(
        "                UNROLL for (u32 s = 0; s < {streams}u; s++) multiply_{suffix}(sum[t][s], w, x[i % {depth}u][s]);"
    ));
    line("            }");
    line(&format!(
        "            if (i + {depth}u < {}u) UNROLL for (u32 s = 0; s < {streams}u; s++) x[i % {depth}u][s] = read(i + {depth}u, s);",
        flat * chunks
    ));
    line("        }");
    line(&format!(
        "        UNROLL for (u32 t = 0; t < {tiles}u; t++) UNROLL for (u32 s = 0; s < {streams}u; s++) UNROLL for (u32 e = 0; e < 4u; e++) {{"
    ));
    line(&format!(
        "            const u32 stream = ((q0 + q) * {streams}u + s) * 8u + lane % 4u * 2u + e % 2u, row = rows_{id} + t * 16u + e / 2u * 8u + lane / 4u;"
    ));
    line(&format!(
        "            {inside}sm[{}u + stream * {}u + warp % {}u * {}u + row] = sum[t][s][e];",
        p.sums_at,
        p.sums_stride(),
        p.column_warps,
        p.padded_rows()
    ));
    line("        }");
    line("    }");
    line("}");
}

/// The statements that hand a block's sums to the blocks of its team whose units they are of: four units at a time, where
/// blocks have them by fours.
pub(super) fn gather(out: &mut String, p: &ProductLayout, rows: usize, threads: usize) {
    let (all, units, own) = (p.rows(), p.units, p.own_units());
    let (count, number, get, put) = match own.is_multiple_of(4) {
        true => (4, "float4", "*(const float4*)", "put_shared4"),
        false => (1, "float", "*", "put_shared"),
    };
    let groups = all / count;
    let _ = writeln!(out, "        for (u32 i = tid; i < {}u; i += {threads}u) {{", rows * groups);
    let _ = writeln!(
        out,
        "            const u32 row = i % {groups}u * {count}u, stream = i / {groups}u, layer = row / {units}u, unit = row % {units}u;"
    );
    let _ = writeln!(
        out,
        "            const float* sums = sm + ({}u + stream * {}u + row);",
        p.sums_at,
        p.sums_stride()
    );
    let _ = writeln!(out, "            {number} s = {get}sums;");
    let add = match count {
        4 => "const float4 v = *(const float4*)sums; s.x += v.x; s.y += v.y; s.z += v.z; s.w += v.w;",
        _ => "s += *sums;",
    };
    let (more, padded) = (p.column_warps, p.padded_rows());
    let _ =
        writeln!(out, "            UNROLL for (u32 w = 1; w < {more}u; w++) {{ sums += {padded}u; {add} }}");
    let _ = writeln!(
        out,
        "            {put}(sm + ({}u + (((u32)step & 1u) * {rows}u + stream) * {}u + member * {}u + layer * {own}u + unit % {own}u), unit / {own}u, s);",
        p.gathered_at,
        p.gathered_stride(),
        all / p.team
    );
    out.push_str("        }\n");
}
