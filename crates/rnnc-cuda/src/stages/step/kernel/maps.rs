//! Fused maps in a loop: what they store goes where other blocks and later steps read it.

use super::{Kernel, Piece};
use crate::source::map;
use crate::stages::step::site::{LoopSite, Result};
use crate::stages::step::{copies, exchange, product};
use rnnc_graph::Direction;
use rnnc_plan::{Map, MapLeaf, View};
use std::fmt::Write;

impl<'a> Kernel<'a> {
    pub(super) fn map(&mut self, piece: &Piece<'a>, map: &'a Map, results: &mut Vec<Result>) {
        let mut stores = Vec::new();
        let late: Vec<View> = map.stores().filter(|&to| self.can_be_late(piece, map, to)).collect();
        for (from, &view) in map.program.stores() {
            let value = format!("kept{}", self.variables);
            self.variables += 1;
            self.line(&format!("            float {value} = 0.f;"));
            stores.push((from, Result { view, first: map.first, value }));
        }
        let (first, end) = (map.first, map.first + map.len);
        let inside = match (first, map.len == map.slice_len) {
            (_, true) => String::new(),
            _ => format!(" && unit >= {first}u && unit < {end}u"),
        };
        self.line(&format!("            if (mine{inside}) {{"));
        self.line(&format!("                const u32 u = unit - {first}u;"));
        let guard = format!("mine{inside}");
        let sign = if self.task.direction == Direction::Forward { 1 } else { -1 };
        let carries = self.carries.as_slice();
        let untouched = self.untouched(map);
        let mut site = LoopSite {
            places: self.places,
            groups: self.layout.choice.groups,
            stored: &self.stored,
            slice_len: map.slice_len,
            first: map.first,
            results,
            late: &late,
            untouched: &untouched,
            ahead: match self.ahead.is_some() {
                true => self.earlies.last_mut().map(|place| (&mut place.early, carries, sign)),
                false => None,
            },
        };
        let statements = map::statements(map, "r", &mut site);
        if let Some(place) = self.earlies.last_mut().filter(|_| self.ahead.is_some()) {
            place.early.end_map(&guard, first);
        }
        for line in statements.lines() {
            let _ = writeln!(self.out, "                {line}");
        }
        if !late.is_empty() {
            let _ =
                writeln!(self.late, "            if ({guard}) {{ const u32 u = unit - {first}u; (void)u;");
        }
        let items = self.items_of_a_warp(map.slice_len);
        for (from, result) in &stores {
            let _ = writeln!(self.out, "                {} = r{from};", result.value);
            for (p, lags) in self.layout.products.iter().zip(&self.lags).filter(|(p, _)| p.exchanged) {
                let sizes = (self.layout.work.rows, self.layout.choice.blocks);
                product::exchange(&mut self.out, p, sizes, result.view, lags, &format!("r{from}"));
            }
            for (k, p) in self.layout.products.iter().enumerate().filter(|(_, p)| p.copied) {
                copies::copy(&mut self.out, &k.to_string(), p, result.view, &format!("r{from}"));
            }
            if late.contains(&result.view) {
                let number = self.lates;
                self.lates += 1;
                let _ = writeln!(self.late_declarations, "        float late{number}[{items}];");
                let _ = writeln!(
                    self.late_declarations,
                    "        UNROLL for (u32 i = 0; i < {items}u; i++) late{number}[i] = 0.f;"
                );
                let _ = writeln!(self.out, "                late{number}[it] = r{from};");
                let address = self.places.address(result.view, "row", "u");
                let _ = writeln!(self.late, "                put({address}, late{number}[it]);");
            }
            for (at, carry) in self.carries.iter().enumerate() {
                if carry.slice_len != map.slice_len || !carry.is_part_of(result.view, result.first) {
                    continue;
                }
                let units = match (carry.first == map.first, carry.view.len == map.len) {
                    (true, true) => String::new(),
                    _ => {
                        format!("if (unit >= {}u && unit < {}u) ", carry.first, carry.first + carry.view.len)
                    }
                };
                let _ = writeln!(self.out, "                {units}next{at}[it] = r{from};");
            }
        }
        if !late.is_empty() {
            self.late.push_str("            }\n");
        }
        self.line("            }");
        results.extend(stores.into_iter().map(|(_, result)| result));
    }

    /// What a map reads of its own step where nothing but itself stores, later: what lay there before the loop.
    fn untouched(&self, map: &Map) -> Vec<View> {
        let instructions = || map.program.instructions.iter().enumerate();
        let stores = |view: View| {
            let stores = instructions().filter_map(|(at, instruction)| Some((at, instruction.store()?.1)));
            let later = stores.filter(move |&(_, &to)| exchange::overlap(to, view)).map(|(at, _)| at);
            (later.clone().min(), later.count())
        };
        let all = |view: View| self.stored.iter().filter(|s| exchange::overlap(s.view, view)).count();
        let loads = instructions().filter_map(|(at, instruction)| {
            let read = instruction.leaf().and_then(MapLeaf::read_by_unit)?;
            (read.delay == 0).then_some((at, read.view))
        });
        loads
            .filter(|&(at, view)| {
                let (first, count) = stores(view);
                first.is_some_and(|first| first > at) && count == all(view)
            })
            .map(|(_, view)| view)
            .collect()
    }
}
