//! Numbers that say themselves that they are there: no signal, no counter, one trip from the block that has them to those
//! that wait.
//!
//! Every frame has its own numbers in the scratch region. Before the first step, all of them are made absent: a NaN of
//! certain bits, which none that is posted has ([`source::LOOPS`](crate::source::LOOPS)). Who needs some looks until none is
//! absent. So little is exchanged that each thread of a block looks for its own few and brings them to shared memory: the
//! sources of products with few streams, and the sums of functions of whole vectors. All that a loop's first frame needs of
//! the frame before is posted before the first step, behind which all blocks synchronize once.

use super::product;
use super::product_layout::ProductLayout;
use crate::places::Places;
use std::fmt::Write;

/// Numbers of the scratch region, so many for each frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct Posts {
    /// The first of the window's first frame.
    pub at: usize,
    /// Of a frame.
    pub numbers: usize,
}

impl Posts {
    /// The statement by which all blocks make absent what the loop will post; `whose` names those of a group.
    pub fn make_absent(self, whose: &str) -> String {
        let Posts { at, numbers } = self;
        format!(
            "make_absent(a.scratch + ({at}ull + (u64)(u32)a.first * {numbers}ull), (u64)(u32)n * {numbers}ull{whose});"
        )
    }
}

/// The functions `copy_<id>(a, frame, stream, column, v)`, which posts a number of a product's sources, and
/// `posted_<id>(a, frame, stream, chunk, crossing)`, which looks for four of those of `frame`. `at` is where copies begin.
pub(super) fn functions(out: &mut String, id: &str, p: &ProductLayout, places: &Places<'_>, at: usize) {
    let (frame, row) = (p.copied_numbers(), p.copied_chunks() * 4);
    let _ = writeln!(
        out,
        "DEVICE void copy_{id}(const Args& a, int frame, u32 stream, u32 column, float v) {{\n    post(a.scratch + ({at}ull + (u64)(u32)(frame + 1) * {frame}ull + stream * {row}u + column), present(v));\n}}"
    );
    let _ = writeln!(
        out,
        "DEVICE float4 posted_{id}(const Args& a, int frame, u32 stream, u32 chunk, u32 crossing) {{\n    float4 x = {{0.f, 0.f, 0.f, 0.f}}; (void)crossing;"
    );
    for (bit, (part, chunks)) in p.parts.iter().zip(p.chunks.windows(2)).enumerate() {
        let (begin, end, len) = (chunks[0], chunks[1], part.from.view.len);
        let within = product::within(p, begin, end);
        let within = if within.is_empty() { within } else { format!("if ({within}) ") };
        let _ = writeln!(
            out,
            "    {within}{{\n        const u32 column = (chunk - {begin}u) * 4u; (void)column;"
        );
        let look = format!(
            "x = look4(a.scratch + ({at}ull + (u64)(u32)(frame + ({})) * {frame}ull + stream * {row}u + chunk * 4u));",
            1 - part.from.delay
        );
        match part.from.delay {
            0 => {
                let _ = writeln!(out, "        {look}");
            }
            _ => {
                let start = |e: usize| places.start(&part.from, &format!("column + {e}u"));
                let _ = writeln!(out, "        if (crossing >> {bit}u & 1u) {{");
                for (e, name) in ["x", "y", "z", "w"].iter().enumerate() {
                    let _ = writeln!(
                        out,
                        "            if (column + {e}u < {len}u) x.{name} = present({});",
                        start(e)
                    );
                }
                let _ = writeln!(out, "        }} else {look}");
            }
        }
        if !len.is_multiple_of(4) {
            // Nobody posts what only fills up.
            for (e, name) in ["y", "z", "w"].iter().enumerate() {
                let _ = writeln!(out, "        if (column + {}u >= {len}u) x.{name} = 0.f;", e + 1);
            }
        }
        out.push_str("    }\n");
    }
    out.push_str("    return x;\n}\n");
}
