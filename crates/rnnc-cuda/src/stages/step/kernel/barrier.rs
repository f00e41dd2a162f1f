//! For whom blocks wait: a warp for the groups of blocks whose units it reads.

use super::Kernel;
use crate::stages::step::choice::units;
use crate::stages::step::exchange::{self, Wait};
use crate::stages::step::product_layout::ProductLayout;
use rnnc_plan::{Op, Phase, Product, Task};
use std::fmt::Write;
use std::ops::Range;

/// Counters of a group of streams, each on a line of its own: for each phase and each group of blocks, and for what is before
/// the first step.
pub(crate) fn lines(task: &Task) -> usize {
    (task.phases.len() + 1) * GROUPS
}

/// Counters of a phase: groups of blocks count apart, so that a warp can wait for those alone whose units it reads.
const GROUPS: usize = 8;

impl<'a> Kernel<'a> {
    /// The expression of the first counter of a phase.
    pub(super) fn counter(&self, phase: usize) -> String {
        let first = self.counters + phase * GROUPS * 32;
        match self.layout.choice.groups.several() {
            true => format!("({first}u + group * {}u)", lines(self.task) * 32),
            false => format!("{first}u"),
        }
    }

    /// Groups of blocks that count apart.
    pub(super) fn groups(&self) -> usize {
        GROUPS.min(self.layout.choice.blocks)
    }

    /// Whether any phase waits for this one.
    pub(super) fn is_waited_for(&self, phase: usize) -> bool {
        self.waits.iter().flatten().any(|w| w.phase == phase)
    }

    /// Of each group of blocks, which a lane asks for: how many blocks it has, if its warp must wait for it.
    pub(super) fn members(&mut self) {
        let (c, blocks) = (self.groups(), self.layout.choice.blocks);
        self.line(&format!(
            "    const u32 members = lane < {c}u ? ((lane + 1u) * {blocks}u + {c}u - 1u) / {c}u - (lane * {blocks}u + {c}u - 1u) / {c}u : 0u;"
        ));
        for (phase, waits) in self.waits.clone().iter().enumerate() {
            for (number, wait) in waits.iter().enumerate() {
                let masks = self.needs(phase, wait);
                if !self.is_for_all(&masks) {
                    let mask = chosen(&masks, self.layout.threads / 32);
                    self.line(&format!(
                        "    const u32 members_{phase}_{number} = {mask} >> lane & 1u ? members : 0u;"
                    ));
                }
            }
        }
    }

    /// Waits for what a phase needs. What all warps need of all groups, one waits for: each that asks for all counters makes
    /// the others' answers come later.
    pub(super) fn wait(&mut self, phase: usize) {
        let mut one_waits = false;
        for (number, wait) in self.waits[phase].clone().iter().enumerate() {
            let (counter, code) = (self.counter(wait.phase), self.code);
            let steps = format!("step - begin + {}", 1 - wait.behind + i64::from(self.counts_first()));
            let all = self.is_for_all(&self.needs(phase, wait));
            one_waits |= all;
            let (warp, members) = match all {
                true => ("if (warp == 0) ", "members".to_string()),
                false => ("", format!("members_{phase}_{number}")),
            };
            self.line(&format!(
                "        {warp}wait_for(a, {counter}, lane, {members}, {steps}, {code}u, failed);"
            ));
        }
        if one_waits {
            self.line("        block_sync();");
        }
    }

    /// Whether all warps must wait for all groups of blocks.
    fn is_for_all(&self, masks: &[u64]) -> bool {
        let all = (1u64 << self.groups()) - 1;
        all > 1 && masks.iter().all(|&mask| mask == all)
    }

    /// The groups of blocks that each warp of a team must wait for, as bits.
    fn needs(&self, phase: usize, wait: &Wait) -> Vec<u64> {
        let all = (1u64 << self.groups()) - 1;
        let only_products = self.task.phases[phase].ops.iter().all(|placed| match &placed.op {
            Op::MatMul(_) => true,
            Op::Map(map) => {
                let leaves = map.program.leaves();
                !leaves.into_iter().any(|leaf| exchange::reads_other_units(&self.stored, map, leaf))
            }
            _ => false,
        });
        let warps = self.layout.threads / 32;
        let mask = |warp: usize| {
            if !only_products {
                return all;
            }
            let products = self.layout.products.iter().filter(|p| p.place.0 == phase && !p.polled);
            products.map(|p| self.read_groups(p, warp, wait.phase)).fold(0, |a, b| a | b)
        };
        (0..warps * self.layout.choice.team).map(mask).collect()
    }

    /// The groups whose units a warp's columns of a product are, of those that a phase stores. Warps are counted through a
    /// team.
    pub(super) fn read_groups(&self, p: &ProductLayout, warp: usize, phase: usize) -> u64 {
        let mut groups = 0;
        for own in self.read_chunks(p, warp) {
            for (part, chunks) in p.parts.iter().zip(p.chunks.windows(2)) {
                let (lo, hi) = (own.start.max(chunks[0]), own.end.min(chunks[1]));
                if lo < hi {
                    groups |= self.groups_of(part, (lo - chunks[0]) * 4, (hi - chunks[0]) * 4, phase);
                }
            }
        }
        groups
    }

    /// The chunks of a product's columns that a warp reads from memory.
    pub(super) fn read_chunks(&self, p: &ProductLayout, warp: usize) -> Vec<Range<usize>> {
        if p.staged == 0 {
            let share = p.thread_chunks * p.column_lanes;
            let warps = self.layout.threads / 32;
            let first = (warp / warps * p.column_warps + warp % warps % p.column_warps) * share;
            return std::iter::once(first..first + share).collect();
        }
        // Of all rows, one after the other.
        let (threads, width) = (self.layout.threads, p.padded_chunks());
        let all = p.staged * width;
        let reads = (warp * 32..all).step_by(threads).map(|first| first..(first + 32).min(all));
        reads
            .flat_map(|read| {
                let rows = read.start / width..read.end.div_ceil(width);
                rows.map(move |row| {
                    read.start.max(row * width) - row * width..read.end.min((row + 1) * width) - row * width
                })
            })
            .collect()
    }

    /// The groups whose units some columns of a source are, of those that a phase stores.
    pub(super) fn groups_of(&self, part: &Product, first: usize, end: usize, phase: usize) -> u64 {
        let view = part.from.view;
        let (first, end) = (view.column + first, view.column + end.min(view.len));
        let mut groups = 0;
        for s in self.stored.iter().filter(|s| s.phase == phase && s.view.buffer == view.buffer) {
            let (lo, hi) = (first.max(s.view.column), end.min(s.view.column + s.view.len));
            if lo >= hi {
                continue;
            }
            let units = units(s.slice_len, self.layout.choice.blocks);
            let block = |column: usize| (column - s.view.column + s.first) / units;
            for block in block(lo)..=block(hi - 1) {
                groups |= 1 << (block * self.groups() / self.layout.choice.blocks);
            }
        }
        groups
    }

    /// Whether all that a phase stores is the first warp's: then that signals by itself.
    pub(super) fn ends_in_one_warp(&self, number: usize, phase: &'a Phase) -> bool {
        let pieces = self.pieces(number, phase);
        let [piece] = pieces.as_slice() else { return false };
        let products = piece.products.iter().map(|&k| self.layout.products[k].slice_len());
        let mut slice_lens = products.chain(piece.maps.iter().map(|m| m.slice_len));
        let one = |slice_len: usize| self.items_of(slice_len) == 1;
        self.layout.buffers() == 2
            && piece.vector.is_none()
            && slice_lens.all(one)
            && !self.has_own_sums(number)
    }
}

/// The mask of a warp: an expression.
fn chosen(masks: &[u64], warps: usize) -> String {
    if masks.iter().all(|&m| m == masks[0]) {
        return format!("{}u", masks[0]);
    }
    let mut text = String::new();
    for (warp, mask) in masks.iter().enumerate().skip(1) {
        let _ = write!(text, "member * {warps}u + warp == {warp}u ? {mask}u : ");
    }
    format!("({text}{}u)", masks[0])
}
