//! Copies of what blocks exchange, in the order in which tensor cores read them, and in their precision.
//!
//! A product of tiles reads 8 streams by 16 columns at a time: from a copy, each lane's four numbers side by side, so that
//! a warp reads whole lines. Every frame has its own, so nothing waits for readers. What a loop's first frame needs of the
//! frame before is copied before the first step, which counts as a step.

use super::choice::{Choice, units};
use super::exchange::{self, Stored};
use super::product;
use super::product_layout::ProductLayout;
use crate::places::Places;
use rnnc_plan::{Precision, View};
use std::fmt::Write;

/// What says of a copy where it is: its first number in the scratch region, and its precision.
#[derive(Clone, Copy)]
pub(super) struct Copies {
    pub at: usize,
    pub precision: Precision,
}

impl Copies {
    pub fn halves(self) -> bool {
        self.precision == Precision::Bf16
    }

    /// The type of a lane's four numbers.
    pub fn four(self) -> &'static str {
        if self.halves() { "uint2" } else { "float4" }
    }

    /// The functions `copy_<id>(a, frame, stream, column, v)`, and `copied_<id>(a, frame, tile, chunk, lane, crossing)`, which
    /// reads the sources of `frame` for 8 streams.
    pub fn functions(self, out: &mut String, id: &str, p: &ProductLayout, places: &Places<'_>) {
        let (at, frame) = (self.at, p.copied_numbers());
        let (tiles, numbers) =
            (p.column_tiles(), p.copied_numbers() / p.streams.div_ceil(8) / p.column_tiles());
        let _ = writeln!(
            out,
            "DEVICE void copy_{id}(const Args& a, int frame, u32 stream, u32 column, float v) {{\n    float* const tile = a.scratch + ({at}ull + (u64)(u32)(frame + 1) * {frame}ull + (stream / 8u * {tiles}u + column / 16u) * {numbers}u);"
        );
        let place = "(stream % 8u * 4u + column % 16u / 4u) * 4u + column % 4u";
        let _ = match self.halves() {
            true => writeln!(out, "    put_bf16(tile, {place}, v);\n}}"),
            false => writeln!(out, "    put(tile + ({place}), v);\n}}"),
        };
        let four = self.four();
        let zero = if self.halves() { "{0u, 0u}" } else { "{0.f, 0.f, 0.f, 0.f}" };
        let _ = writeln!(
            out,
            "DEVICE {four} copied_{id}(const Args& a, int frame, u32 tile, u32 chunk, u32 lane, u32 crossing) {{\n    {four} x = {zero}; (void)crossing;"
        );
        // Every lane reads, whether its stream crosses or not: behind branches, reads would wait for each other.
        let parts = || p.parts.iter().zip(p.chunks.windows(2));
        let before = |delay: i64| (1 - delay).to_string();
        let mut slot = before(p.parts[0].from.delay);
        for (part, chunks) in parts().skip(1).filter(|(part, _)| part.from.delay != p.parts[0].from.delay) {
            let (begin, end) = (chunks[0], chunks[1]);
            slot = format!("(chunk >= {begin}u && chunk < {end}u ? {} : {slot})", before(part.from.delay));
        }
        let padded = tiles * 4 < p.padded_chunks();
        let column = if padded {
            format!("(chunk / 4u < {tiles}u ? chunk / 4u : {}u)", tiles - 1)
        } else {
            "chunk / 4u".into()
        };
        let fresh = if self.halves() { "fresh_bf16" } else { "fresh4" };
        let _ = writeln!(
            out,
            "    x = {fresh}(a.scratch + ({at}ull + (u64)(u32)(frame + ({slot})) * {frame}ull + (tile * {tiles}u + {column}) * {numbers}u + lane * {}u));",
            numbers / 32
        );
        let all = p.chunks.last().copied().unwrap_or(0);
        if all < p.padded_chunks() {
            let _ = writeln!(out, "    if (chunk >= {all}u) {{ const {four} none = {zero}; x = none; }}");
        }
        for (bit, (part, chunks)) in parts().enumerate().filter(|(_, (part, _))| part.from.delay != 0) {
            let (begin, end) = (chunks[0], chunks[1]);
            let start = |e: usize| places.start(&part.from, &format!("(chunk - {begin}u) * 4u + {e}u"));
            let within = product::within(p, begin, end);
            let within = if within.is_empty() { within } else { format!(" && {within}") };
            let _ = writeln!(
                out,
                "    if ((crossing >> {bit}u & 1u){within}) {{\n        float4 v; v.x = {}; v.y = {}; v.z = {}; v.w = {};",
                start(0),
                start(1),
                start(2),
                start(3)
            );
            let value = if self.halves() { "four_bf16(v)" } else { "v" };
            let _ = writeln!(out, "        x = {value};\n    }}");
        }
        out.push_str("    return x;\n}\n");
    }
}

/// The statements that copy the value of unit `u` of what a map stores.
pub(super) fn copy(out: &mut String, id: &str, p: &ProductLayout, stored: View, value: &str) {
    for (part, chunks) in p.parts.iter().zip(p.chunks.windows(2)) {
        let from = part.from.view;
        if !exchange::overlap(from, stored) {
            continue;
        }
        let shift = (chunks[0] * 4 + stored.column) as i64 - from.column as i64;
        let (first, end) = exchange::common(from, stored);
        let guard = match (first, end == stored.len) {
            (0, true) => String::new(),
            _ => format!("if (u >= {first}u && u < {end}u) "),
        };
        let _ = writeln!(
            out,
            "                {guard}copy_{id}(a, frame, stream, (u32)((int)u + ({shift})), {value});"
        );
    }
}

/// The statements that copy what the first step reads of the frame before it: each block its own units.
pub(super) fn first(
    out: &mut String,
    id: &str,
    p: &ProductLayout,
    stored: &[Stored],
    (choice, threads): (Choice, usize),
    crossing: &str,
) {
    for (part, chunks) in p.parts.iter().zip(p.chunks.windows(2)) {
        let (view, delay) = (part.from.view, part.from.delay);
        for s in stored.iter().filter(|s| delay != 0 && exchange::overlap(s.view, view)) {
            let own = units(s.slice_len, choice.blocks);
            let groups = choice.groups;
            let all = match groups.are_equal() {
                true => format!("{}u", p.streams * own),
                false => format!("{} * {own}u", groups.own()),
            };
            let _ = writeln!(
                out,
                "        for (u32 i = tid; i < {all}; i += {threads}u) {{\n            const u32 stream = i / {own}u, unit = g * {own}u + i % {own}u;"
            );
            let column = (s.view.column as i64) - (s.first as i64) - view.column as i64;
            let _ = writeln!(
                out,
                "            if (unit < {}u || unit >= {}u) continue;\n            const int column = (int)unit + ({column});\n            if (column < 0 || column >= {}) continue;",
                s.first,
                s.first + s.view.len,
                view.len
            );
            let begin = chunks[0];
            let _ = writeln!(
                out,
                "            const float4 x = source_{id}(a, frame, stream, {begin}u + (u32)column / 4u, {crossing});"
            );
            let _ = writeln!(
                out,
                "            const u32 e = (u32)column % 4u;\n            copy_{id}(a, frame - ({delay}), stream, {}u + (u32)column, e == 0 ? x.x : e == 1 ? x.y : e == 2 ? x.z : x.w);\n        }}",
                begin * 4
            );
        }
    }
}
