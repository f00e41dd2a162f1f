//! What the operations of a plan do, each for one worker's share of the rows or units.
//!
//! | file | operations |
//! | --- | --- |
//! | [`matmul`] | products, look-ups |
//! | [`map`] | fused elementwise programs, of what [`tile`] has |
//! | [`scan`] | affine recurrences, tiles of frames at a time |
//! | [`vector`] | softmax, normalization and their like |
//! | [`gradient`] | gradients of weights: sums over all rows |
//! | [`once`] | what weights alone give, once a call |
//! | [`update`] | the optimizer's step |
//! | [`border`] | none: values from the caller's arrays |

pub(crate) mod border;
pub(crate) mod gradient;
pub(crate) mod map;
pub(crate) mod matmul;
pub(crate) mod once;
pub(crate) mod scan;
pub(crate) mod tile;
pub(crate) mod update;
pub(crate) mod vector;

use crate::memory::{Aligned, Shared, assert_inside};
use crate::places::{Source, StartPlace, Target};
use crate::units::unit_range;
use rnnc_plan::Matrix;
use std::ops::Range;

/// Units of a tile: a few tiles fit the first-level cache.
pub(crate) const TILE: usize = 256;

/// What part of an operation a worker does.
#[derive(Clone, Debug)]
pub(crate) struct Share {
    /// Frames of the window.
    pub frames: Range<usize>,
    pub streams: Range<usize>,
    /// Of the units, this worker's part: (worker, workers); (0, 1) where rows are partitioned.
    pub part: (usize, usize),
    /// Into how many heads layers fall, if whole ones are partitioned; else 1.
    pub heads: usize,
    /// Whether time runs from the last frame to the first.
    pub backward: bool,
}

impl Share {
    /// The worker's units of a layer.
    pub fn units(&self, slice_len: usize) -> Range<usize> {
        unit_range(slice_len, self.heads, self.part.0, self.part.1)
    }

    /// How many rows.
    pub fn rows(&self) -> usize {
        self.frames.len() * self.streams.len()
    }
}

/// A worker's own memory.
pub(crate) struct Local {
    /// Tiles of maps.
    pub tiles: Aligned,
    /// Room for a group of a vector function.
    pub group: Aligned,
    /// Packed errors and sources of a weight's gradient.
    pub outer: Aligned,
    /// Where the loads and stores of a map are in the present row, as places in the buffers or addresses.
    pub pointers: Vec<*mut f32>,
}

#[allow(unsafe_code)]
// SAFETY: the pointers are written before each use; between uses they mean nothing.
unsafe impl Send for Local {}

#[allow(unsafe_code)] // the one place where places become addresses
impl Shared<'_> {
    /// Where a row of a target begins.
    #[inline]
    pub fn target(&self, to: &Target, frame: usize, stream: usize) -> *mut f32 {
        let row = to.ring.place(frame as i64) * self.streams as isize + stream as isize;
        let place = to.base as isize + row * to.width as isize;
        assert_inside(place, to.len, self.room.values[to.region as usize]);
        // SAFETY: frames and streams lie within the window, whose buffers the compiler placed within `values`.
        unsafe { self.values[to.region as usize].offset(place) }
    }

    /// Where the values of a read begin, for a row: those of another frame, or the start's.
    #[inline]
    pub fn source(&self, from: &Source, frame: usize, stream: usize) -> *const f32 {
        if from.delay != 0 && self.crosses(from, frame, stream) {
            return self.start(from);
        }
        self.uncrossed(from, frame, stream)
    }

    /// The same for a read that does not cross.
    #[inline]
    pub fn uncrossed(&self, from: &Source, frame: usize, stream: usize) -> *const f32 {
        let row = from.ring.place(frame as i64 - from.delay) * self.streams as isize + stream as isize;
        let place = from.base as isize + row * from.width as isize;
        assert_inside(place, from.len, self.room.values[from.region as usize]);
        // SAFETY: a read that does not cross lies within the window, or the history before it.
        unsafe { self.values[from.region as usize].offset(place) }
    }

    /// Where a read's start values are.
    #[inline]
    pub fn start(&self, from: &Source) -> *const f32 {
        match from.start {
            StartPlace::Constant(place) => {
                assert_inside(place as isize, from.len, self.room.constants);
                // SAFETY: the compiler made a vector for each constant.
                unsafe { self.constants.add(place) }
            }
            StartPlace::Weight(place) => {
                assert_inside(place as isize, from.len, self.room.weights);
                // SAFETY: weights are as long as their layers.
                unsafe { self.weights.add(place) }
            }
        }
    }

    /// Whether a read crosses a reset, or an end of what its buffer holds.
    #[inline]
    pub fn crosses(&self, from: &Source, frame: usize, stream: usize) -> bool {
        self.tracker.crosses(from.delay, frame, stream) || self.outside(from, frame)
    }

    /// Whether it does in any stream of a frame.
    #[inline]
    pub fn may_cross(&self, from: &Source, frame: usize) -> bool {
        self.tracker.any_crosses(from.delay, frame) || self.outside(from, frame)
    }

    /// Values of the backward pass exist within it only.
    #[inline]
    fn outside(&self, from: &Source, frame: usize) -> bool {
        !from.history && from.delay > 0 && (frame as i64) - from.delay < self.first as i64
    }
}

/// Stops a debug build where a matrix of the flat weights, or gradients, is not all there, of so many numbers.
#[track_caller]
fn assert_matrix(matrix: Matrix, rows: usize, columns: usize, room: usize) {
    let Matrix { offset, row_stride, column_stride } = matrix;
    let last = rows.saturating_sub(1) * row_stride + columns.saturating_sub(1) * column_stride;
    assert_inside((offset + last) as isize, 1, room);
}
