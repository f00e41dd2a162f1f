//! What is chosen about a loop, and what can be: its tier, its blocks, how they share rows, and how they multiply.

use super::task::{is_in_step, products, slice_lens};
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

impl Way {
    /// The most registers of a thread that weights take: tiles need more beside them.
    pub fn most_registers(self) -> usize {
        match self {
            Way::Lanes => 144,
            Way::Tiles => 128,
        }
    }

    /// Bytes of a weight where it stays.
    pub(super) fn weight_bytes(self, precision: Precision) -> usize {
        match (self, precision) {
            (Way::Tiles, Precision::Bf16) => 2,
            _ => 4,
        }
    }
}

/// What is chosen about a loop, of which all else follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// What its blocks share.
    pub tier: Tier,
    /// Blocks.
    pub blocks: usize,
    /// Blocks that share rows: each multiplies a part of the columns for all of them. Such a team is a cluster.
    pub team: usize,
    /// How its threads multiply.
    pub way: Way,
}

/// Units that a block has of a layer.
pub fn units(slice_len: usize, blocks: usize) -> usize {
    slice_len.div_ceil(blocks).max(1)
}

/// What a task can be laid out as, on at most `most` blocks.
pub(super) fn candidates(task: &Task, rows: usize, device: &Device, most: usize) -> Vec<Choice> {
    /// Streams beyond which the sums of a block no longer fit.
    const STREAMS: usize = 128;
    let slice_len = slice_lens(task).max().unwrap_or(1);
    let mut ways = vec![Way::Lanes];
    if is_in_step(task) && products(task).next().is_some() && (4..=STREAMS).contains(&rows) {
        ways.push(Way::Tiles);
    }
    let mut out = Vec::new();
    for way in ways {
        let mut add = |tier, blocks, team| out.push(Choice { tier, blocks, team, way });
        add(Tier::Block, 1, 1);
        let mut size = 2;
        while size <= device.cluster.min(most) && size <= slice_len {
            add(Tier::Cluster, size, 1);
            size *= 2;
        }
        let mut team = 1;
        while team == 1 || way == Way::Tiles && team <= device.cluster.min(8) {
            // What does not fit into whole clusters stays free.
            let most = if team > 2 { most - most / 11 } else { most } / team * team;
            let fewest = units(slice_len, most.max(1));
            // Powers of two fill the lanes; and fewer blocks may do as well, or better: each reads all.
            let round = fewest.next_power_of_two();
            for units in [fewest, round, 2 * round, 4 * round] {
                let blocks = slice_len.div_ceil(units).next_multiple_of(team);
                if blocks > 1 && blocks <= most {
                    add(Tier::Grid, blocks, team);
                }
            }
            team *= 2;
        }
    }
    out
}
