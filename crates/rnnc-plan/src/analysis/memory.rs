//! Memory: when each buffer is in use, and where those that need not outlive their stages share room.

use super::first_fit::FirstFit;
use crate::ir::{Buffer, BufferId, Plan};
use crate::optimizers::Optimizer;
use rnnc_graph::LayerKind;
use std::collections::HashMap;

/// Buffers begin at multiples of this many bytes: a cache line.
const ALIGNMENT: u128 = 64;

/// Buffers of more bytes count as of these, so that sums of them can be had. No machine has them.
const MOST: u128 = u128::MAX >> 40;

/// What an executor's schedule asks of memory. By default stages run level after level, and buffers have all frames.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Residency {
    /// Ranges of levels (see [`Plan::levels`]), the first and the last of each, whose stages may run at the same time.
    pub at_once: Vec<(usize, usize)>,
    /// Buffers that are rings, and the frames of each: fewer than a window's.
    pub rings: HashMap<BufferId, usize>,
    /// Whether residuals, what the backward pass reads of the forward pass, lie in a piece of memory of their own: so it
    /// can be kept from one to the other while all else is used again.
    pub residuals_apart: bool,
}

/// Where the buffers lie in one piece of memory, or, with residuals apart, in two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The first byte of each buffer, in its piece of memory.
    pub offsets: Vec<u128>,
    /// The bytes of each buffer.
    pub sizes: Vec<u128>,
    /// Which buffers lie among the residuals, if these are apart.
    pub residuals: Vec<bool>,
    /// Bytes of the one piece of memory.
    pub total: u128,
    /// Bytes of the residuals' piece, 0 if they are not apart.
    pub residuals_total: u128,
}

/// What running a plan takes, in bytes, beside the code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Memory {
    /// The values of layers.
    pub buffers: u128,
    /// The weights.
    pub weights: u128,
    /// Their gradients.
    pub gradients: u128,
    /// The optimizer's slots.
    pub slots: u128,
    /// What the executor takes beside: weights packed for its kernels, and what workers compute with.
    pub working: u128,
}

impl Memory {
    /// All of it.
    pub fn total(self) -> u128 {
        self.buffers + self.weights + self.gradients + self.slots + self.working
    }
}

impl Plan {
    /// Places the buffers for B streams and windows of `frames` frames, in numbers of 4 bytes. Buffers whose lifetimes
    /// do not overlap share room; with `keep`, those that the backward pass reads do not (older frames are
    /// kept when windows overlap).
    pub fn place(&self, streams: usize, frames: usize, keep: bool, residency: &Residency) -> Placement {
        let Residency { at_once, rings, residuals_apart } = residency;
        let frames = |buffer: usize| rings.get(&BufferId(buffer)).copied().unwrap_or(frames);
        let size = |(place, b): (usize, &Buffer)| {
            let rows = (frames(place) as u128 + b.history as u128).saturating_mul(streams as u128);
            rows.saturating_mul(b.width as u128 * 4).min(MOST).next_multiple_of(ALIGNMENT)
        };
        let sizes: Vec<u128> = self.buffers.iter().enumerate().map(size).collect();
        // Of each level, the first and the last of those with which it may run at once, if it is the last or the first of a
        // lifetime.
        let levels =
            self.buffers.iter().filter_map(|b| b.lifetime).map(|(_, last)| last + 1).max().unwrap_or(1);
        let levels = at_once.iter().map(|range| range.1 + 1).fold(levels, usize::max);
        let (mut firsts, mut lasts): (Vec<usize>, Vec<usize>) =
            (0..levels).map(|level| (level, level)).unzip();
        for &(first, last) in at_once {
            (firsts[last], lasts[first]) = (firsts[last].min(first), lasts[first].max(last));
        }
        (1..levels).rev().for_each(|level| firsts[level - 1] = firsts[level - 1].min(firsts[level]));
        (1..levels).for_each(|level| lasts[level] = lasts[level].max(lasts[level - 1]));
        let lifetime = |i: usize| match self.buffers[i].lifetime {
            Some((first, last)) if !(keep && self.buffers[i].saved) => (firsts[first], lasts[last]),
            _ => (0, usize::MAX),
        };
        let residuals =
            if *residuals_apart { self.residual_buffers() } else { vec![false; self.buffers.len()] };
        // The largest first, each at the lowest place that is free during its life.
        let mut order: Vec<usize> = (0..sizes.len()).collect();
        order.sort_by_key(|&i| (std::cmp::Reverse(sizes[i]), i));
        let mut offsets = vec![0u128; sizes.len()];
        let mut places = FirstFit::new(levels);
        let (mut total, mut residuals_total) = (0, 0);
        for i in order {
            if residuals[i] {
                // From their writing to their reading; so all of them are there at once.
                offsets[i] = residuals_total;
                residuals_total += sizes[i];
            } else {
                offsets[i] = places.take(sizes[i], lifetime(i));
                total = total.max(offsets[i] + sizes[i]);
            }
        }
        Placement { offsets, sizes, residuals, total, residuals_total }
    }

    /// Of each buffer, whether the backward pass reads what the forward pass, or whoever called it, has written there.
    pub fn residual_buffers(&self) -> Vec<bool> {
        let mut read = vec![false; self.buffers.len()];
        for stage in self.backward_pass.iter().flat_map(|pass| &pass.stages) {
            stage.for_each_view(&mut |view| read[view.buffer.0] = true);
        }
        let mut residuals = vec![false; self.buffers.len()];
        for view in self.forward_pass.storage.iter().flatten() {
            residuals[view.buffer.0] = read[view.buffer.0];
        }
        residuals
    }

    /// The level of each stage, counted through both passes. Buffers' lifetimes are in levels.
    pub fn levels(&self) -> Vec<usize> {
        let mut levels = Vec::new();
        let mut level = 0;
        for pass in std::iter::once(&self.forward_pass).chain(&self.backward_pass) {
            for stages in pass.stages.chunk_by(|a, b| a.level == b.level) {
                levels.extend(stages.iter().map(|_| level));
                level += 1;
            }
        }
        levels
    }

    /// The levels of some ranges of stages: the number of their pass's first stage among those of both passes, and the first and
    /// the last of a range in it.
    pub fn levels_of(&self, ranges: impl Iterator<Item = (usize, (usize, usize))>) -> Vec<(usize, usize)> {
        let levels = self.levels();
        ranges.map(|(pass, (from, to))| (levels[pass + from], levels[pass + to])).collect()
    }

    /// What running takes where buffers are so placed and that optimizer is to make updates, but for what the executor takes
    /// beside.
    pub fn memory(&self, placement: &Placement, optimizer: Optimizer) -> Memory {
        let weights = self.weights.total() as u128 * 4;
        let (gradients, slots) = match self.backward_pass {
            Some(_) => (weights, optimizer.slots().len() as u128 * self.weights.len() as u128 * 4),
            None => (0, 0),
        };
        Memory { buffers: placement.total + placement.residuals_total, weights, gradients, slots, working: 0 }
    }
}

/// Finds the stages between which each buffer holds something. Inputs, outputs and history outlive all stages.
pub(crate) fn find_lifetimes(plan: &mut Plan) {
    let mut lifetimes: Vec<Option<(usize, usize)>> = vec![None; plan.buffers.len()];
    // Stages of one level may run at the same time.
    let forward = plan.forward_pass.stages.chunk_by(|a, b| a.level == b.level).count();
    for (stage, level) in plan.stages().zip(plan.levels()) {
        stage.for_each_view(&mut |view| {
            let lifetime = &mut lifetimes[view.buffer.0];
            *lifetime = Some(lifetime.map_or((level, level), |(first, _)| (first, level)));
        });
    }
    let mut outlives: Vec<bool> = plan.buffers.iter().map(|b| b.history > 0).collect();
    let passes = [
        (Some(&plan.forward), Some(&plan.forward_pass)),
        (plan.adjoint.as_ref(), plan.backward_pass.as_ref()),
    ];
    for (graph, pass) in passes {
        let (Some(graph), Some(pass)) = (graph, pass) else { continue };
        let inputs = graph
            .layer_ids()
            .filter(|&l| matches!(graph.layer_at(l).kind, LayerKind::Input | LayerKind::Symbol));
        for layer in inputs.chain(graph.outputs().iter().map(|o| o.layer)) {
            if let Some(view) = pass.storage[layer.index()] {
                outlives[view.buffer.0] = true;
            }
        }
    }
    for (buffer, (lifetime, outlives)) in plan.buffers.iter_mut().zip(lifetimes.into_iter().zip(outlives)) {
        buffer.saved = lifetime.is_some_and(|(first, last)| first < forward && last >= forward);
        buffer.lifetime = if outlives { None } else { lifetime.or(Some((0, 0))) };
    }
}
