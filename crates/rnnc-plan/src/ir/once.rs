//! The programs of what runs once a call, over weights alone.

use super::program::{Leaf, Program};
use super::views::Matrix;
use rnnc_graph::Operation;

/// What runs once a call.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Once {
    /// The names of the layers.
    pub layers: Vec<String>,
    /// Before the forward pass, if weights have changed.
    pub forward: Vec<OnceStep>,
    /// After the backward pass.
    pub backward: Vec<OnceStep>,
}

/// Some of the flat weights, or of the flat gradients, from a place on. Results are written to weights, and added to gradients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // explained above
pub enum Flat {
    Weights(usize),
    Gradients(usize),
}

/// A step over one row.
#[derive(Clone, Debug, PartialEq)]
pub enum OnceStep {
    /// Unit by unit.
    Map(OnceMap),
    /// A vector function.
    Vector(OnceVector),
    /// A matrix times a vector.
    Product(OnceProduct),
    /// The gradient of a matrix.
    Outer(OnceOuter),
}

/// An elementwise program over units.
#[derive(Clone, Debug, PartialEq)]
pub struct OnceMap {
    /// How many units.
    pub len: usize,
    /// Whatever is made of registers has a later one. No two results overlap, unless they are of the same numbers.
    pub program: Program<OnceLeaf>,
}

/// Numbers for each unit of a map.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OnceLeaf {
    /// The first.
    pub from: Flat,
    /// How many units in a row read the same.
    pub times: usize,
}

impl Leaf for OnceLeaf {
    type Target = Flat;
}

/// A vector function: of whole groups of units.
#[derive(Clone, Debug, PartialEq)]
pub struct OnceVector {
    /// The function.
    pub operation: Operation,
    /// Its operands in order: where they begin, and their units.
    pub operands: Vec<(Flat, usize)>,
    /// Its result.
    pub to: Flat,
    /// The units of the result.
    pub len: usize,
}

/// A matrix of the weights times a vector.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OnceProduct {
    /// Of `rows` rows and `columns` columns.
    pub matrix: Matrix,
    /// Numbers of the result.
    pub rows: usize,
    /// Numbers read.
    pub columns: usize,
    /// The vector.
    pub from: Flat,
    /// The result.
    pub to: Flat,
}

/// A column times a row, added to a matrix of the gradients.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OnceOuter {
    /// One number for each row.
    pub error: Flat,
    /// One number for each column.
    pub source: Flat,
    /// The numbers of `error`.
    pub rows: usize,
    /// The numbers of `source`.
    pub columns: usize,
    /// Where in the flat gradients.
    pub gradient: Matrix,
}

impl Flat {
    /// The same, so many numbers on.
    pub fn skip(self, count: usize) -> Flat {
        match self {
            Flat::Weights(offset) => Flat::Weights(offset + count),
            Flat::Gradients(offset) => Flat::Gradients(offset + count),
        }
    }
}

impl Once {
    /// How many numbers the steps compute with, beside weights and gradients, if registers hold `tile` each: of a map its
    /// registers, of a vector function its result and as much again as its operand.
    pub fn room(&self, tile: usize) -> usize {
        let room = |step: &OnceStep| match step {
            OnceStep::Map(map) => map.program.registers * tile,
            OnceStep::Vector(vector) => {
                vector.len + vector.operands.iter().map(|&(_, len)| len).max().unwrap_or(0)
            }
            OnceStep::Product(_) | OnceStep::Outer(_) => 0,
        };
        self.forward.iter().chain(&self.backward).map(room).max().unwrap_or(0)
    }
}
