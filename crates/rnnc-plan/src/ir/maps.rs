//! Elementwise programs.

use super::repeat::Repeat;
use super::views::{Read, View};
use rnnc_graph::ops::Binary;
use rnnc_graph::{Function, LayerId};

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
    /// In order; registers are assigned once.
    pub program: Vec<Instruction>,
    /// How many registers there are.
    pub registers: usize,
}

/// A register of a map: one number a unit.
pub type Register = usize;

/// A step of a map. All views and weights have the map's `len` units, but for repeated ones.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs)] // `to` is the register written, the others are read
pub enum Instruction {
    /// Values of a buffer.
    Load { read: Read, to: Register },
    /// Values of a buffer, repeated: all that it views, and nothing else.
    LoadRepeated { read: Read, repeat: Repeat, to: Register },
    /// A weight vector, from its place in the flat buffer.
    Weight { offset: usize, to: Register },
    /// A number.
    Number { value: f64, to: Register },
    /// Of the dropout mask with that key, the units from `first` on.
    Mask { key: u64, probability: f64, first: usize, to: Register },
    /// f(from)
    Apply { function: Function, from: Register, to: Register },
    /// factor * from
    Scale { factor: f64, from: Register, to: Register },
    /// a op b
    Binary { op: Binary, a: Register, b: Register, to: Register },
    /// a * b + c
    MulAdd { a: Register, b: Register, c: Register, to: Register },
    /// Into a buffer.
    Store { from: Register, to: View },
}
