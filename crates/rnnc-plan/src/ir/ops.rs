//! The operations of a plan.

use super::maps::Map;
use super::views::{Matrix, Read, View};
use rnnc_graph::Operation;

/// An operation on rows.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// Products with weight matrices.
    MatMul(Vec<Product>),
    /// Look-ups in tables.
    Gather(Vec<LookUp>),
    /// A fused elementwise program.
    Map(Map),
    /// A vector function.
    Vector(Vector),
    /// Gradients of weight matrices.
    WeightGradient(Vec<OuterSum>),
    /// Gradients of tables.
    TableGradient(Vec<ScatterSum>),
    /// Gradients of vectors: sums over rows.
    Reduce(Vec<RowSum>),
}

impl Op {
    /// Its name in listings.
    pub fn name(&self) -> &'static str {
        match self {
            Op::MatMul(_) => "matmul",
            Op::Gather(_) => "gather",
            Op::Map(_) => "map",
            Op::Vector(_) => "vector",
            Op::WeightGradient(_) => "weight gradient",
            Op::TableGradient(_) => "table gradient",
            Op::Reduce(_) => "reduce",
        }
    }
}

/// to (+)= W from
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Product {
    /// The units written: those of `to.len / slice_len` layers (or slices of one) side by side, or a part of one.
    pub to: View,
    /// The size of the layers (or slices) written, by which units are shared out.
    pub slice_len: usize,
    /// The first of the layer's units written, if a part.
    pub first: usize,
    /// The units read.
    pub from: Read,
    /// `to.len` rows, `from.view.len` columns.
    pub weight: Matrix,
    /// Add to what is there.
    pub accumulate: bool,
}

/// to (+)= the table's row of the symbol
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LookUp {
    /// The units written: those of `to.len / slice_len` layers (or slices of one) side by side.
    pub to: View,
    /// The size of the layers (or slices) written, by which units are shared out.
    pub slice_len: usize,
    /// The symbol.
    pub symbol: Read,
    /// `to.len` rows, one column a symbol.
    pub table: Matrix,
    /// How many there are.
    pub symbols: usize,
    /// Add to what is there.
    pub accumulate: bool,
}

/// A vector function: of whole groups of units.
#[derive(Clone, Debug, PartialEq)]
pub struct Vector {
    /// The function.
    pub operation: Operation,
    /// Its operands, in order.
    pub operands: Vec<Read>,
    /// Its result.
    pub to: View,
    /// The size of the slices in which its units are shared out: all of them, if there is but one.
    pub slice_len: usize,
}

/// gradient (+)= sum over rows of error outer source
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OuterSum {
    /// The rows of the matrix.
    pub error: View,
    /// The columns of the matrix.
    pub source: Read,
    /// Where in the flat gradient buffer.
    pub gradient: Matrix,
    /// Add to what is there.
    pub accumulate: bool,
}

/// The gradient of a table: the error is added to the symbol's column.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScatterSum {
    /// The rows of the table.
    pub error: View,
    /// The symbol.
    pub symbol: Read,
    /// Where in the flat gradient buffer.
    pub gradient: Matrix,
    /// How many symbols.
    pub symbols: usize,
    /// Add to what is there.
    pub accumulate: bool,
}

/// gradient (+)= scale * sum over rows of error (times source)
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RowSum {
    /// One number a unit of the gradient.
    pub error: View,
    /// Multiplied in, unit by unit.
    pub source: Option<Read>,
    /// Only rows in which a read with this delay crosses a reset.
    pub crossing: Option<i64>,
    /// The factor.
    pub scale: f64,
    /// Where in the flat gradient buffer, one number after the other.
    pub gradient: usize,
    /// Add to what is there.
    pub accumulate: bool,
}
