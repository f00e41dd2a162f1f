//! What is chosen about a loop, and what can be: its tier, its blocks, how they share rows, and how they multiply.

use super::groups::Groups;
use super::task::{Work, is_in_step, products, slice_lens};
use crate::device::Device;
use rnnc_plan::{Precision, Task};
use serde::Serialize;

/// What the blocks of a loop share, and so how they exchange what each other needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Tier {
    /// One block has all units.
    Block,
    /// A cluster of blocks, which has a barrier in hardware.
    Cluster,
    /// Blocks on all multiprocessors, which count in device memory.
    Grid,
}

/// How the threads of a block multiply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// A lane multiplies rows of weights with some columns of a stream; the lanes' sums are added up. For few streams.
    Lanes,
    /// Tensor cores multiply tiles: 16 rows by 16 columns of weights, with 8 streams.
    Tiles,
}

/// Bytes of a weight where it stays.
pub(super) fn weight_bytes(precision: Precision) -> usize {
    match precision {
        Precision::Bf16 => 2,
        Precision::F32 | Precision::Tf32 => 4,
    }
}

/// What is chosen about a loop, of which all else follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// What its blocks share.
    pub tier: Tier,
    /// Blocks of a group of streams.
    pub blocks: usize,
    /// Blocks that share rows: each multiplies a part of the columns for all of them. Such a team is a cluster.
    pub team: usize,
    /// How its threads multiply.
    pub way: Way,
    /// How streams are dealt out.
    pub groups: Groups,
}

impl Choice {
    /// The most registers of a thread that weights take: tiles need more beside them, and most where a group has more units a
    /// block and arguments of its own.
    pub fn most_registers(self) -> usize {
        match (self.way, self.groups.several()) {
            (Way::Lanes, _) => 144,
            (Way::Tiles, false) => 128,
            (Way::Tiles, true) => 96,
        }
    }

    /// Blocks of all groups that are launched.
    pub fn all_blocks(self) -> usize {
        self.blocks * self.groups.launched
    }
}

/// Units that a block has of a layer.
pub fn units(slice_len: usize, blocks: usize) -> usize {
    slice_len.div_ceil(blocks).max(1)
}

/// Streams beyond which the sums of a block no longer fit.
const MOST_ROWS: usize = 128;

/// What a task can be laid out as, on at most `most` blocks.
pub(super) fn candidates(task: &Task, work: Work, device: &Device, most: usize) -> Vec<Choice> {
    let slice_len = slice_lens(task).max().unwrap_or(1);
    let multiplies = is_in_step(task) && products(task).next().is_some();
    let mut out = Vec::new();
    for streams in sizes_of_groups(work.streams, device, most) {
        let groups = Groups { streams, ..Groups::one(work.streams) };
        let rows = work.of_group(groups).rows;
        let mut ways = vec![Way::Lanes];
        if multiplies && (4..=MOST_ROWS).contains(&rows) {
            ways.push(Way::Tiles);
        }
        for way in ways {
            let mut add = |tier, blocks, team, launched| {
                let groups = Groups { launched, ..groups };
                out.push(Choice { tier, blocks, team, way, groups });
            };
            let launched = |size: usize| groups.count().min(side_by_side(size, most) / size).max(1);
            add(Tier::Block, 1, 1, launched(1));
            let mut size = 2;
            while size <= device.cluster.min(most) && size <= slice_len {
                add(Tier::Cluster, size, 1, launched(size));
                size *= 2;
            }
            let mut team = 1;
            while team == 1 || way == Way::Tiles && team <= device.cluster.min(8) {
                let mut launched = 1;
                while launched <= groups.count() {
                    let most = side_by_side(team, most / launched);
                    let fewest = units(slice_len, most.max(1));
                    // Powers of two fill the lanes; and fewer blocks may do as well, or better: each reads all.
                    let round = fewest.next_power_of_two();
                    for units in [fewest, round, 2 * round, 4 * round] {
                        let blocks = slice_len.div_ceil(units).next_multiple_of(team);
                        if blocks > 1 && blocks <= most {
                            add(Tier::Grid, blocks, team, launched);
                        }
                    }
                    launched = if launched < groups.count() {
                        (2 * launched).min(groups.count())
                    } else {
                        launched + 1
                    };
                }
                team *= 2;
            }
        }
    }
    out
}

/// Blocks that clusters of a size have, of those that fit on `most` multiprocessors: what does not fit into whole clusters
/// stays free.
fn side_by_side(size: usize, most: usize) -> usize {
    (if size > 2 { most - most / 11 } else { most }) / size * size
}

/// How many streams a group may have: all, or powers of two, or so many that groups of some blocks fill the device, perhaps in
/// tiles of tensor cores.
fn sizes_of_groups(streams: usize, device: &Device, multiprocessors: usize) -> Vec<usize> {
    const TILE: usize = 8;
    let powers =
        |most: usize| std::iter::successors(Some(1usize), |&n| Some(2 * n)).take_while(move |&n| n <= most);
    let filling = powers(multiprocessors).flat_map(|blocks| {
        let groups =
            [multiprocessors, side_by_side(blocks, multiprocessors)].map(|all| (all / blocks).max(1));
        groups.map(|groups| streams.div_ceil(groups))
    });
    let in_tiles = filling.clone().map(|n| n.next_multiple_of(TILE));
    let all = std::iter::once(streams).chain(powers(MOST_ROWS)).chain(filling).chain(in_tiles);
    let (fewest, most) = device.group_streams;
    let mut sizes = Vec::new();
    for size in all.filter(|&n| n <= streams) {
        let size = size.clamp(fewest, most).min(streams).max(1);
        if !sizes.contains(&size) {
            sizes.push(size);
        }
    }
    sizes
}
