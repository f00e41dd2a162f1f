//! Maps: what they read and write becomes places in memory, and what they compute operations over tiles.

use super::Compiler;
use super::tile::{Port, TileLeaf, compile};
use crate::ops::map::MapOp;
use crate::ops::tile::TileCode;
use crate::places::{Source, Target};
use rnnc_plan::{Map, MapLeaf};

impl Compiler<'_> {
    pub(super) fn map(&mut self, map: &Map) -> MapOp {
        let loads: Vec<Source> = map.reads().map(|read| self.source(read)).collect();
        let stores: Vec<Target> = map.stores().map(|to| self.target(to)).collect();
        let (mut load, mut store) = (0.., 0..);
        let mut next = |columns| Port { number: load.next().unwrap_or_default(), columns };
        let program = map.program.map_leaves(
            |leaf| match *leaf {
                // What other frames hold is not written in this one.
                MapLeaf::Read(read) => TileLeaf::Load(next((read.delay == 0).then_some(read.view))),
                MapLeaf::Repeated(read, repeat) => TileLeaf::Repeated(next(Some(read.view)), repeat),
                MapLeaf::Weight(offset) => TileLeaf::Weight(offset),
                MapLeaf::Mask(mask) => TileLeaf::Mask(mask),
            },
            |&to| Port { number: store.next().unwrap_or_default(), columns: Some(to) },
        );
        let lens = (loads.iter().map(|l| l.len).collect(), stores.iter().map(|s| s.len).collect());
        let code = compile(&program, lens.0, lens.1);
        self.note(&code);
        MapOp { slice_len: map.slice_len, first: map.first, len: map.len, loads, stores, code }
    }

    /// Makes room for what a program needs.
    pub(super) fn note(&mut self, code: &TileCode) {
        self.tiles = self.tiles.max(code.tiles);
        self.pointers = self.pointers.max(code.loads.len() + code.stores.len());
    }
}
