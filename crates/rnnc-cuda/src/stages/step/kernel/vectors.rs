//! Functions of whole vectors in a loop: each block computes those that have units of its own, of the whole vector or of
//! the sums that all blocks made of their own units.

use super::Kernel;
use crate::places::Places;
use crate::stages::step::choice::units;
use crate::stages::step::exchange::Stored;
use crate::stages::step::sums::Summed;
use crate::stages::vector::{self, Lanes};
use rnnc_plan::Vector;

/// Numbers of an operand of a vector function that a lane keeps.
const HELD: usize = 32;

impl<'a> Kernel<'a> {
    pub(super) fn vector(&mut self, op: &'a Vector, offset: i64) {
        let of_parts = self.summed.iter().find(|(s, _)| std::ptr::eq(s.vector, op));
        match of_parts.copied() {
            Some((summed, at)) => self.of_sums(summed, at),
            None => self.whole(op, offset),
        }
    }

    fn whole(&mut self, op: &'a Vector, offset: i64) {
        let (streams, layout) = (self.streams(), self.layout);
        let (groups, _) = vector::groups(op);
        let size = (op.to.len / groups.max(1)).max(1);
        let slice_len = op.slice_len;
        let own = units(slice_len, layout.choice.blocks);
        // A group has units of one block or more, or is that of some slices: then each block has some of its units.
        let sliced = slice_len < op.to.len;
        let most = if sliced { groups } else { (own.div_ceil(size) + 1).min(groups) };
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
        if !layout.choice.groups.are_equal() {
            self.line("            if (stream >= a.streams) continue;");
        }
        self.line(&format!("            const u32 row = {};", self.row()));
        self.line(&format!("            const u32 own_first = g * {own}u, own_end = own_first + {own}u;"));
        let (group, any) = match sliced {
            true => (format!("item % {most}u"), format!("own_first < {slice_len}u")),
            false => (
                format!("own_first / {size}u + item % {most}u"),
                format!("group < {groups}u && group * {size}u < own_end"),
            ),
        };
        self.line(&format!("            const u32 group = {group};"));
        self.line(&format!("            if ({any}) {{"));
        let mut site = VectorSite { places: self.places, stored: &self.stored, op, inside: "fresh" };
        let statements = vector::statements(op, lanes, HELD, &mut site);
        self.line(&match together {
            true => "            { const u32 lane = tid;".to_string(),
            false => "            {".to_string(),
        });
        self.out.push_str(&statements);
        self.line("            }");
        self.line("            } } }");
    }

    /// Whether blocks sum up their own units at a phase's end.
    pub(super) fn has_own_sums(&self, phase: usize) -> bool {
        self.summed.iter().any(|(s, _)| s.phase == phase)
    }

    /// A block's sums of all functions whose operands are complete behind a phase, before others may read them.
    pub(super) fn own_sums(&mut self, phase: usize) {
        if self.has_own_sums(phase) {
            // Other warps' units are read.
            self.line("        block_sync();");
        }
        for (summed, at) in self.summed.clone().into_iter().filter(|(s, _)| s.phase == phase) {
            let Summed { vector: op, partitioned, .. } = summed;
            let mut site = VectorSite { places: self.places, stored: &self.stored, op, inside: "own" };
            let streams = self.streams();
            let put = |number: usize, name: &str| {
                let address = summed.address(at, streams, number, "g");
                match summed.polled {
                    true => format!("post({address}, present({name}));"),
                    false => format!("put({address}, {name});"),
                }
            };
            let text = vector::own_sums(op, self.layout.lanes_of_a_row(), partitioned, &mut site, &put);
            self.each_row(summed, &text);
        }
    }

    /// A block's units of a result, of the sums of all blocks.
    fn of_sums(&mut self, summed: Summed<'a>, at: usize) {
        let Summed { vector: op, partitioned, .. } = summed;
        let mut site = VectorSite { places: self.places, stored: &self.stored, op, inside: "own" };
        let streams = self.streams();
        let get = |number: usize| {
            let how = if summed.polled { "look" } else { "fresh" };
            format!("{how}({})", summed.address(at, streams, number, "g_part"))
        };
        let again = format!("looks_again(a, missing, polls, {}u, failed)", self.code);
        let again = summed.polled.then_some(again.as_str());
        let text = vector::results(op, self.layout.lanes_of_a_row(), partitioned, &mut site, &get, again);
        self.each_row(summed, &text);
    }

    /// Some lanes for each row of a step, in blocks that have units of a function's result. Lanes of a warp stay
    /// together: a row that is not there has no units.
    fn each_row(&mut self, summed: Summed<'a>, body: &str) {
        let (streams, layout) = (self.streams(), self.layout);
        let (rows, threads) = (layout.work.rows, layout.threads);
        let (own, len) = (summed.partitioned.units, summed.partitioned.slice_len);
        let lanes = self.layout.lanes_of_a_row().count();
        let at_once = threads / lanes;
        let absent = if layout.choice.groups.are_equal() { "" } else { " || stream >= a.streams" };
        let (index, frame) = self.index_and_frame(summed.offset, &format!("q / {streams}u"));
        self.line(&format!(
            "        if (g * {own}u < {len}u) for (u32 q0 = 0; q0 < {rows}u; q0 += {at_once}u) {{"
        ));
        self.line(&format!(
            "            const u32 q = q0 + tid / {lanes}u, lane = tid % {lanes}u, stream = q % {streams}u;"
        ));
        self.line(&format!("            const int i = {index}, frame = {frame};"));
        self.line(&format!("            const u32 row = {}, own_first = g * {own}u;", self.row()));
        self.line(&format!(
            "            const u32 own_end = q >= {rows}u || i < 0 || i >= n{absent} ? 0u : own_first + {own}u < {len}u ? own_first + {own}u : {len}u;"
        ));
        self.out.push_str(body);
        self.line("        }");
    }
}

/// A vector function in a loop: reads what this and other blocks wrote, writes the block's own units.
struct VectorSite<'a> {
    places: &'a Places<'a>,
    stored: &'a [Stored],
    op: &'a Vector,
    /// How what the loop itself stores is read.
    inside: &'static str,
}

impl vector::Site for VectorSite<'_> {
    fn load(&mut self, operand: usize, unit: &str) -> String {
        let read = &self.op.operands[operand];
        let inside = self.stored.iter().any(|s| {
            s.view.buffer == read.view.buffer
                && s.view.column < read.view.column + read.view.len
                && read.view.column < s.view.column + s.view.len
        });
        let reading = if inside { self.inside } else { "constant" };
        let value = format!("{reading}({})", self.places.source_address(read, "row", unit));
        match self.places.crosses(read, "row", "frame") {
            None => value,
            Some(crosses) => format!("({crosses} ? {} : {value})", self.places.start(read, unit)),
        }
    }

    fn store(&mut self, unit: &str, value: &str) -> String {
        let address = self.places.address(self.op.to, "row", unit);
        let place = match self.op.slice_len < self.op.to.len {
            true => format!("({unit}) % {}u", self.op.slice_len),
            false => format!("({unit})"),
        };
        format!("if ({place} >= own_first && {place} < own_end) put({address}, {value});")
    }
}
