//! Where weights lie in one flat buffer. Gradients and the optimizer's slots lie in others alike.

use super::views::{Matrix, StartValue};
use rnnc_graph::{Start, Submatrix, WeightId};

/// All weights in one flat buffer.
#[derive(Clone, Debug, PartialEq)]
pub struct WeightLayout {
    pub(crate) views: Vec<WeightView>,
    pub(crate) len: usize,
    pub(crate) total: usize,
}

/// Where a weight's elements lie: element (head, row, column) of its canonical shape at
/// `offset + head * head_stride + row * row_stride + column * column_stride`. A vector has one column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // explained above
pub struct WeightView {
    pub offset: usize,
    pub heads: usize,
    pub rows: usize,
    pub columns: usize,
    pub head_stride: usize,
    pub row_stride: usize,
    pub column_stride: usize,
}

impl WeightView {
    /// The place of each element in canonical order.
    pub fn places(self) -> impl Iterator<Item = usize> {
        (0..self.heads).flat_map(move |h| {
            (0..self.rows).flat_map(move |r| {
                (0..self.columns).map(move |c| {
                    self.offset + h * self.head_stride + r * self.row_stride + c * self.column_stride
                })
            })
        })
    }

    /// A part of a matrix of one head, or all of it.
    pub fn part(self, part: Option<Submatrix>) -> WeightView {
        let Some(Submatrix { rows, columns }) = part else { return self };
        let offset = self.offset + rows.start * self.row_stride + columns.start * self.column_stride;
        WeightView { offset, rows: rows.len, columns: columns.len, ..self }
    }

    /// One head, as a matrix.
    pub fn matrix(self, head: usize) -> Matrix {
        Matrix {
            offset: self.offset + head * self.head_stride,
            row_stride: self.row_stride,
            column_stride: self.column_stride,
        }
    }
}

impl WeightLayout {
    /// Numbers in the flat buffer that are learned, gaps included (they stay 0).
    pub fn len(&self) -> usize {
        self.len
    }

    /// Numbers in the flat buffer, with those that are derived, which come last. Gradients have as many.
    pub fn total(&self) -> usize {
        self.total
    }

    /// Whether there are no weights.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Where a weight lies.
    pub fn view(&self, weight: WeightId) -> WeightView {
        self.views[weight.index()]
    }

    /// Where a layer's start lies, or what it is.
    pub fn start(&self, start: Start) -> StartValue {
        match start {
            Start::Zero => StartValue::Number(0.0),
            Start::Constant(number) => StartValue::Number(number),
            Start::Learned(weight) => StartValue::Weight(self.view(weight).offset),
        }
    }
}
