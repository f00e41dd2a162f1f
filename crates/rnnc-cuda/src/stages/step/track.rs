//! What a loop's track asks of a layout.

use super::choice::Way;
use rnnc_plan::{Deal, Op, Precision, Product, Setup, Track};

/// What a step of a loop takes, as far as it decides on a layout.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Work {
    /// Numbers of weights.
    pub weights: usize,
    /// Columns of its products, together.
    pub columns: usize,
    /// The size of its largest layer.
    pub span: usize,
    /// Streams.
    pub streams: usize,
    /// Rows (frames of a step, times streams) side by side.
    pub rows: usize,
    /// Times that blocks meet.
    pub barriers: usize,
    /// Functions of whole vectors.
    pub vectors: usize,
    /// How coarsely products may round.
    pub precision: Precision,
}

impl Work {
    /// That of a track.
    pub fn of(track: &Track, setup: Setup) -> Work {
        Work {
            weights: weights(track),
            columns: products(track).map(|(_, p)| p.from.view.len).sum(),
            span: spans(track).max().unwrap_or(1),
            streams: setup.streams,
            rows: track.block.clamp(1, 64) * setup.streams,
            barriers: track.barriers_per_step(Deal::Units),
            vectors: vectors(track),
            precision: setup.precision,
        }
    }

    /// Bytes of a weight where it stays.
    pub(super) fn weight_bytes(&self, way: Way) -> usize {
        match (way, self.precision) {
            (Way::Tiles, Precision::Bf16) => 2,
            _ => 4,
        }
    }
}

/// Whether a track does one frame a step, the same in all its operations.
pub(super) fn is_in_step(track: &Track) -> bool {
    track.block == 1 && track.phases.iter().flat_map(|p| &p.ops).all(|placed| placed.offset == 0)
}

fn vectors(track: &Track) -> usize {
    let ops = track.phases.iter().flat_map(|p| &p.ops);
    ops.filter(|placed| matches!(placed.op, Op::Vector(_))).count()
}

/// The sizes of layers that a track's operations write.
pub(super) fn spans(track: &Track) -> impl Iterator<Item = usize> + '_ {
    track.phases.iter().flat_map(|p| &p.ops).flat_map(|placed| match &placed.op {
        Op::MatMul(products) => products.iter().map(|p| p.span).collect(),
        Op::Map(map) => vec![map.span],
        Op::Vector(vector) => vec![vector.span],
        _ => Vec::new(),
    })
}

/// The products of a track, with their places.
pub(super) fn products(track: &Track) -> impl Iterator<Item = ((usize, usize), &Product)> + '_ {
    track.phases.iter().enumerate().flat_map(|(p, phase)| {
        phase.ops.iter().enumerate().flat_map(move |(o, placed)| match &placed.op {
            Op::MatMul(products) => products.iter().map(|product| ((p, o), product)).collect(),
            _ => Vec::new(),
        })
    })
}

/// Numbers of a loop's weights.
pub fn weights(track: &Track) -> usize {
    products(track).map(|(_, p)| p.to.len * p.from.view.len).sum()
}
