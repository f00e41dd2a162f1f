//! Fused elementwise programs of a plan: row after row, tile after tile.

use super::tile::{TileCode, TileRow};
use super::{Local, Share, TILE};
use crate::kernels::ahead;
use crate::memory::Shared;
use crate::places::{Source, Target};

/// A map ready to run.
#[derive(Default)]
pub(crate) struct MapOp {
    pub slice_len: usize,
    pub first: usize,
    pub len: usize,
    pub loads: Vec<Source>,
    pub stores: Vec<Target>,
    pub code: TileCode,
}

/// Runs a map over a worker's rows and units.
pub(crate) fn map(shared: &Shared<'_>, map: &MapOp, share: &Share, local: &mut Local) {
    let units = share.units(map.slice_len);
    let (lo, hi) = (
        units.start.clamp(map.first, map.first + map.len) - map.first,
        units.end.clamp(map.first, map.first + map.len) - map.first,
    );
    if lo >= hi {
        return;
    }
    // Those of many frames lie one after the other, which the CPU sees by itself.
    let single = share.frames.len() == 1;
    for frame in 0..share.frames.len() {
        // In the order of time, since a row may read what the map wrote in the row before.
        let t = if share.backward { share.frames.end - 1 - frame } else { share.frames.start + frame };
        for b in share.streams.clone() {
            for (pointer, load) in local.pointers.iter_mut().zip(&map.loads) {
                *pointer = shared.source(load, t, b).cast_mut();
                if load.saved && single {
                    let row = (shared.streams * load.width) as isize;
                    let next = pointer.wrapping_offset(if share.backward { -row } else { row });
                    ahead::bring(next.wrapping_add(lo), hi - lo);
                }
            }
            for (pointer, store) in local.pointers[map.loads.len()..].iter_mut().zip(&map.stores) {
                *pointer = shared.target(store, t, b);
            }
            let mut first = lo;
            while first < hi {
                let len = TILE.min(hi - first);
                let (code, pointers, tiles) = (&map.code, &local.pointers, local.tiles.as_mut_ptr());
                TileRow { shared, code, pointers, tiles, t, b, first, len }.run();
                first += len;
            }
        }
    }
}
