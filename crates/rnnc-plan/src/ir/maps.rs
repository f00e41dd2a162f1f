//! Fused elementwise programs of a plan: what they read and write in every row.

use super::program::{Leaf, Program};
use super::repeat::Repeat;
use super::views::{Read, View};
use rnnc_graph::{LayerId, Operation};

/// A fused elementwise program over some units of every row. In a block of several frames it may read what it wrote in
/// the frames before (in the task's direction): those come first.
#[derive(Clone, Debug, PartialEq)]
pub struct Map {
    /// The size of its layers (or slices of them), by which units are shared out.
    pub slice_len: usize,
    /// The first of their units that it computes.
    pub first: usize,
    /// How many.
    pub len: usize,
    /// The layers it computes, for listings.
    pub layers: Vec<LayerId>,
    /// What it computes.
    pub program: Program<MapLeaf>,
}

/// What a map reads. All views and weights have the map's `len` units, but for repeated ones.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum MapLeaf {
    /// Values of a buffer.
    Read(Read),
    /// Values of a buffer, repeated: all that it views, and nothing else.
    Repeated(Read, Repeat),
    /// A weight vector, from its place in the flat buffer.
    Weight(usize),
    /// A dropout mask.
    Mask(Mask),
}

/// Of the dropout mask with that key, the units from `first` on.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs)] // as above
pub struct Mask {
    pub key: u64,
    pub probability: f64,
    pub first: usize,
}

impl Mask {
    /// Floating-point operations of a unit.
    pub fn flops(&self) -> u64 {
        Operation::DropoutMask { probability: self.probability, key: self.key }.flops()
    }

    /// What units from `start` on draw.
    pub fn part(self, start: usize) -> Mask {
        Mask { first: self.first + start, ..self }
    }
}

impl Leaf for MapLeaf {
    /// Into a buffer.
    type Target = View;
}

impl MapLeaf {
    /// What `len` of the map's units read, from unit `start` on.
    pub fn part(self, start: usize, len: usize) -> MapLeaf {
        match self {
            MapLeaf::Read(read) => MapLeaf::Read(read.part(start, len)),
            MapLeaf::Repeated(read, repeat) => {
                let (read, repeat) = repeat.part(read, start, len);
                MapLeaf::Repeated(read, repeat)
            }
            MapLeaf::Weight(offset) => MapLeaf::Weight(offset + start),
            MapLeaf::Mask(mask) => MapLeaf::Mask(mask.part(start)),
        }
    }

    /// What it reads of a buffer, repeated or not.
    pub fn read(&self) -> Option<&Read> {
        match self {
            MapLeaf::Read(read) | MapLeaf::Repeated(read, _) => Some(read),
            MapLeaf::Weight(_) | MapLeaf::Mask(_) => None,
        }
    }

    /// What it reads of a buffer unit by unit.
    pub fn read_by_unit(&self) -> Option<&Read> {
        match self {
            MapLeaf::Read(read) => Some(read),
            MapLeaf::Repeated(..) | MapLeaf::Weight(_) | MapLeaf::Mask(_) => None,
        }
    }
}

impl Map {
    /// What it reads of buffers, repeated or not.
    pub fn reads(&self) -> impl Iterator<Item = &Read> + Clone {
        self.program.leaves().filter_map(MapLeaf::read)
    }

    /// The same, but for what is repeated.
    pub fn reads_by_unit(&self) -> impl Iterator<Item = &Read> + Clone {
        self.program.leaves().filter_map(MapLeaf::read_by_unit)
    }

    /// What it writes.
    pub fn stores(&self) -> impl Iterator<Item = View> + Clone {
        self.program.stores().map(|(_, to)| *to)
    }
}
