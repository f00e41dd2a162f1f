//! What a step reads before the one before it is done, and stores after it has told others: nobody waits for either.

use super::{Kernel, Piece};
use crate::stages::step::choice::Way;
use crate::stages::step::early::To;
use crate::stages::step::product_layout::ProductLayout;
use crate::stages::step::{exchange, tiles};
use rnnc_graph::Direction;
use rnnc_plan::{Map, MapLeaf, Op, View};

impl<'a> Kernel<'a> {
    /// Registers for what threads keep.
    pub(super) fn carry_registers(&self) -> usize {
        self.carries.iter().map(|c| 2 * self.items_of_a_warp(c.slice_len)).sum()
    }

    /// Whether the one row's crossings are known a step ahead.
    pub(super) fn crossings_ahead(&self) -> bool {
        self.ahead == Some(To::Registers) && self.layout.work.rows == 1
    }

    /// The expression of the one row of `frame`.
    fn only_row(&self) -> String {
        let groups = self.layout.choice.groups;
        if groups.several() { format!("({})", groups.row("0u")) } else { "(u32)frame".into() }
    }

    /// Tiles of streams whose steps since reset are read before they are needed.
    pub(super) fn tile_since_reset(&self) -> usize {
        let crosses =
            |p: &ProductLayout| p.way == Way::Tiles && p.parts.iter().any(|part| part.from.delay != 0);
        match self.layout.products.iter().any(crosses) {
            true => tiles::since_reset(self.layout.work.streams),
            false => 0,
        }
    }

    /// The statements that read the steps since reset of a frame's streams into arrays with that prefix.
    pub(super) fn read_tile_since_reset(&mut self, prefix: &str) {
        let (since_reset, groups) = (self.tile_since_reset(), self.layout.choice.groups);
        if since_reset > 0 {
            self.line(&format!(
                "        UNROLL for (u32 i = 0; i < {since_reset}u; i++) if (i * 8u + lane / 4u < {}) {{ const u32 row = {}; {prefix}_since_reset[i] = early(a.since_reset + row); {prefix}_ahead[i] = early(a.ahead + row); }}",
                groups.own(),
                groups.row("i * 8u + lane / 4u")
            ));
        }
    }

    /// Their declaration.
    pub(super) fn declare_tile_since_reset(&mut self, prefix: &str) {
        let since_reset = self.tile_since_reset();
        if since_reset > 0 {
            self.line(&format!(
                "    u32 {prefix}_since_reset[{since_reset}], {prefix}_ahead[{since_reset}]; UNROLL for (u32 i = 0; i < {since_reset}u; i++) {prefix}_since_reset[i] = {prefix}_ahead[i] = 0;"
            ));
        }
    }

    pub(super) fn before_the_first_step(&mut self) {
        if self.ahead != Some(To::Registers) {
            return;
        }
        for at in 0..self.carries.len() {
            let items = self.items_of_a_warp(self.carries[at].slice_len);
            self.line(&format!("    float carry{at}[{items}], next{at}[{items}];"));
            self.line(&format!(
                "    UNROLL for (u32 i = 0; i < {items}u; i++) carry{at}[i] = next{at}[i] = 0.f;"
            ));
        }
        let products = if self.crossings_ahead() { self.layout.products.len() } else { 0 };
        if products > 0 {
            self.line("    u32 since_reset = 0, ahead = 0;");
        }
        self.declare_tile_since_reset("tile");
        let earlies = std::mem::take(&mut self.earlies);
        earlies.iter().for_each(|place| self.out.push_str(&place.early.declarations('e')));
        self.line("    if (n > 0) {");
        self.line(&format!("        const int frame = {}; (void)frame;", self.step_frame("0")));
        self.read_tile_since_reset("tile");
        earlies.iter().for_each(|place| self.out.push_str(&place.early.loading('e', &place.head)));
        if products > 0 {
            let row = self.only_row();
            self.line(&format!(
                "        since_reset = early(a.since_reset + {row});\n        ahead = early(a.ahead + {row});"
            ));
        }
        self.line("    }");
        self.earlies = earlies;
    }

    pub(super) fn before_a_step(&mut self) {
        let Some(to) = self.ahead else { return };
        let products = if self.crossings_ahead() { self.layout.products.len() } else { 0 };
        if products > 0 {
            self.line("        u32 next_since_reset = 0, next_ahead = 0;");
        }
        if to == To::Registers {
            self.declare_tile_since_reset("next");
        }
        let earlies = std::mem::take(&mut self.earlies);
        earlies.iter().for_each(|place| self.out.push_str(&place.early.declarations('n')));
        let late = std::mem::take(&mut self.late_declarations);
        self.out.push_str(&late);
        self.line("        if (step + 1 < stop) {");
        self.line(&format!("        const int frame = {}; (void)frame;", self.step_frame("step + 1")));
        if to == To::Registers {
            self.read_tile_since_reset("next");
        }
        earlies.iter().for_each(|place| self.out.push_str(&place.early.loading('n', &place.head)));
        if products > 0 {
            let row = self.only_row();
            self.line(&format!("        next_since_reset = early(a.since_reset + {row});\n        next_ahead = early(a.ahead + {row});"));
        }
        self.line("        }");
        self.line(&format!("        const int frame = {}; (void)frame;", self.step_frame("step")));
        if to == To::Cache {
            self.declare_tile_since_reset("tile");
            self.read_tile_since_reset("tile");
        }
        self.earlies = earlies;
    }

    pub(super) fn after_a_step(&mut self) {
        if self.ahead != Some(To::Registers) {
            return;
        }
        let earlies = std::mem::take(&mut self.earlies);
        earlies.iter().for_each(|place| self.out.push_str(&place.early.turn()));
        for at in 0..self.carries.len() {
            let items = self.items_of_a_warp(self.carries[at].slice_len);
            self.line(&format!(
                "        UNROLL for (u32 i = 0; i < {items}u; i++) carry{at}[i] = next{at}[i];"
            ));
        }
        let products = if self.crossings_ahead() { self.layout.products.len() } else { 0 };
        if products > 0 {
            self.line("        since_reset = next_since_reset;\n        ahead = next_ahead;");
        }
        let since_reset = self.tile_since_reset();
        if since_reset > 0 {
            self.line(&format!(
                "        UNROLL for (u32 i = 0; i < {since_reset}u; i++) {{ tile_since_reset[i] = next_since_reset[i]; tile_ahead[i] = next_ahead[i]; }}"
            ));
        }
    }

    /// What need not be stored before other blocks are told.
    pub(super) fn late_stores(&mut self) {
        let late = std::mem::take(&mut self.late);
        self.out.push_str(&late);
    }

    /// Whether nothing of this loop reads a store of a map from memory before the step's end.
    pub(super) fn can_be_late(&self, piece: &Piece<'a>, map: &Map, view: View) -> bool {
        if self.ahead != Some(To::Registers) {
            return false;
        }
        let overlaps = |v: View| exchange::overlap(v, view);
        let sign = if self.task.direction == Direction::Forward { 1 } else { -1 };
        let position = piece.maps.iter().position(|m| std::ptr::eq(*m, map)).unwrap_or(0);
        let reads = |p: &ProductLayout| p.parts.iter().any(|part| overlaps(part.from.view));
        if self.layout.products.iter().any(|p| !p.exchanged && !p.polled && reads(p)) {
            return false;
        }
        let ops = self.task.phases.iter().flat_map(|p| &p.ops);
        ops.into_iter().all(|placed| match &placed.op {
            Op::Map(other) => other.program.leaves().all(|leaf| match leaf {
                MapLeaf::Read(read) if overlaps(read.view) => {
                    let same = exchange::origin(&self.stored, read, other.slice_len, other.first)
                        == exchange::Origin::SameUnit;
                    let later = piece.maps.iter().position(|m| std::ptr::eq(*m, other));
                    let lag = sign * read.delay;
                    // Up to here, maps read what products left; later ones, what this one keeps.
                    let kept = lag == 0
                        && later.is_some_and(|at| {
                            at <= position
                                || view.column <= read.view.column
                                    && read.view.column + read.view.len <= view.column + view.len
                        });
                    let carried = lag == 1
                        && self.carries.iter().any(|c| {
                            c.view == read.view && c.first == other.first && c.slice_len == other.slice_len
                        });
                    same && (kept || carried || lag >= 2)
                }
                MapLeaf::Repeated(read, _) => !overlaps(read.view),
                MapLeaf::Read(_) | MapLeaf::Weight(_) | MapLeaf::Mask(_) => true,
            }),
            Op::Vector(v) => !v.operands.iter().any(|read| overlaps(read.view)),
            _ => true,
        })
    }
}
