//! What operations read and write: columns of buffers, values of other frames, and matrices among the weights.

use serde::Serialize;

/// A buffer, by its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct BufferId(pub usize);

/// Some columns of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct View {
    /// The buffer.
    pub buffer: BufferId,
    /// The first column.
    pub column: usize,
    /// How many.
    pub len: usize,
}

impl View {
    /// Some of the columns.
    pub fn part(self, start: usize, len: usize) -> View {
        View { column: self.column + start, len, ..self }
    }

    /// Layers of so many units, or slices of one, that lie side by side in it.
    pub fn slices(self, slice_len: usize) -> impl Iterator<Item = View> {
        (0..self.len / slice_len.max(1)).map(move |slice| self.part(slice * slice_len, slice_len))
    }
}

/// What a read gives where it crosses a reset.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub enum StartValue {
    /// A number in every unit (of symbols: no symbol).
    Number(f64),
    /// Units of a weight, by their place in the flat buffer.
    Weight(usize),
}

/// Values of another frame.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Read {
    /// Where.
    pub view: View,
    /// Frame t reads frame t - delay.
    pub delay: i64,
    /// Where that crosses a reset.
    pub start: StartValue,
    /// Whether frames before the pass's first hold values (of the forward pass), or are as far as a reset (of the
    /// backward pass).
    pub history: bool,
}

impl Read {
    /// Some of what it reads.
    pub fn part(self, start: usize, len: usize) -> Read {
        let from = match self.start {
            StartValue::Weight(offset) => StartValue::Weight(offset + start),
            number => number,
        };
        Read { view: self.view.part(start, len), start: from, ..self }
    }
}

/// A matrix in the flat weight (or gradient) buffer: element (row, column) at
/// `offset + row * row_stride + column * column_stride`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Matrix {
    /// Of element (0, 0).
    pub offset: usize,
    /// Between rows (the units written).
    pub row_stride: usize,
    /// Between columns (the units read).
    pub column_stride: usize,
}
