//! Functions of whole vectors in a loop: each block computes those that have units of its own.

use super::Kernel;
use crate::places::Places;
use crate::stages::step::choice::units;
use crate::stages::step::exchange::Stored;
use crate::stages::vector::{self, Lanes};
use rnnc_plan::Vector;

/// Numbers of an operand of a vector function that a lane keeps.
const HELD: usize = 32;

impl<'a> Kernel<'a> {
    pub(super) fn vector(&mut self, op: &'a Vector, offset: i64) {
        let (streams, layout) = (self.places.streams(), self.layout);
        let (groups, _) = vector::groups(op);
        let size = (op.to.len / groups.max(1)).max(1);
        let own = units(op.to.len, layout.choice.blocks);
        let most = (own.div_ceil(size) + 1).min(groups);
        let warps = layout.threads / 32;
        let items = layout.work.rows * most;
        // Few groups are the whole block's, one after the other.
        let together = items <= 2;
        let lanes = match together {
            true => Lanes::Block(layout.threads),
            false => Lanes::Warp,
        };
        self.line(&match together {
            true => format!("        for (u32 item = 0; item < {items}u; item++) {{"),
            false => format!("        for (u32 item = warp; item < {items}u; item += {warps}u) {{"),
        });
        self.line(&format!("            const u32 q = item / {most}u, stream = q % {streams}u;"));
        self.line(&format!("            {}", self.frame(offset, &format!("q / {streams}u"))));
        self.line(&format!("            const u32 row = (u32)frame * {streams}u + stream;"));
        self.line(&format!("            const u32 own_first = g * {own}u, own_end = own_first + {own}u;"));
        self.line(&format!("            const u32 group = own_first / {size}u + item % {most}u;"));
        self.line(&format!("            if (group < {groups}u && group * {size}u < own_end) {{"));
        let mut site = VectorSite { places: self.places, stored: &self.stored, op };
        let statements = vector::statements(op, lanes, HELD, &mut site);
        self.line(&match together {
            true => "            { const u32 lane = tid;".to_string(),
            false => "            {".to_string(),
        });
        self.out.push_str(&statements);
        self.line("            }");
        self.line("            } } }");
    }
}

/// A vector function in a loop: reads what other blocks wrote, writes the block's own units.
struct VectorSite<'a> {
    places: &'a Places<'a>,
    stored: &'a [Stored],
    op: &'a Vector,
}

impl vector::Site for VectorSite<'_> {
    fn load(&mut self, operand: usize, unit: &str) -> String {
        let read = &self.op.operands[operand];
        let inside = self.stored.iter().any(|s| {
            s.view.buffer == read.view.buffer
                && s.view.column < read.view.column + read.view.len
                && read.view.column < s.view.column + s.view.len
        });
        let reading = if inside { "fresh" } else { "constant" };
        let value = format!("{reading}({})", self.places.source_address(read, "row", unit));
        match self.places.crosses(read, "row", "frame") {
            None => value,
            Some(crosses) => format!("({crosses} ? {} : {value})", self.places.start(read, unit)),
        }
    }

    fn store(&mut self, unit: &str, value: &str) -> String {
        let address = self.places.address(self.op.to, "row", unit);
        format!("if (({unit}) >= own_first && ({unit}) < own_end) put({address}, {value});")
    }
}
