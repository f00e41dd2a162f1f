//! Numbers into an executor, and out of it.

use crate::optimizers::Optimizer;
use std::ops::Range;

/// Numbers handed to an executor.
#[derive(Clone, Copy, Debug)]
pub enum Values<'a> {
    /// Numbers in single precision.
    F32(&'a [f32]),
    /// Numbers in double precision.
    F64(&'a [f64]),
    /// Symbols `[T, B]`; [`NO_SYMBOL`] reads as a vector of zeros.
    Symbols(&'a [u32]),
}

/// Room for numbers from an executor.
#[derive(Debug)]
pub enum ValuesMut<'a> {
    /// In single precision.
    F32(&'a mut [f32]),
    /// In double precision.
    F64(&'a mut [f64]),
}

/// In place of a symbol: none.
pub const NO_SYMBOL: u32 = u32::MAX;

impl<'a> Values<'a> {
    /// Of values of so many frames, some.
    ///
    /// # Panics
    /// If there are not as many frames.
    pub fn frames(self, frames: Range<usize>, of: usize) -> Values<'a> {
        let range = range_of(self.len(), frames, of);
        match self {
            Values::F32(v) => Values::F32(&v[range]),
            Values::F64(v) => Values::F64(&v[range]),
            Values::Symbols(v) => Values::Symbols(&v[range]),
        }
    }

    /// How many.
    pub fn len(&self) -> usize {
        match self {
            Values::F32(v) => v.len(),
            Values::F64(v) => v.len(),
            Values::Symbols(v) => v.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The numbers of some frames, among those of all.
fn range_of(len: usize, frames: Range<usize>, of: usize) -> Range<usize> {
    let frame = len / of.max(1);
    frame * frames.start..frame * frames.end
}

impl ValuesMut<'_> {
    /// Of room for so many frames, that for some.
    ///
    /// # Panics
    /// If there are not as many frames.
    pub fn frames_mut(&mut self, frames: Range<usize>, of: usize) -> ValuesMut<'_> {
        let range = range_of(self.len(), frames, of);
        match self {
            ValuesMut::F32(v) => ValuesMut::F32(&mut v[range]),
            ValuesMut::F64(v) => ValuesMut::F64(&mut v[range]),
        }
    }

    /// How many fit.
    pub fn len(&self) -> usize {
        match self {
            ValuesMut::F32(v) => v.len(),
            ValuesMut::F64(v) => v.len(),
        }
    }

    /// Whether none fit.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// An array that belongs to each weight, in the weight's canonical shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ParameterArray {
    /// The weight itself.
    Weight,
    /// Its gradient, as the last [`Executor::backward`](super::Executor::backward) left it.
    Gradient,
    /// What the optimizer keeps of it: one of [`Optimizer::slots`], by its place.
    Slot(usize),
}

impl ParameterArray {
    /// All that training changes: the weight, and the optimizer's slots.
    pub fn trained(optimizer: Optimizer) -> impl Iterator<Item = ParameterArray> {
        [ParameterArray::Weight].into_iter().chain((0..optimizer.slots().len()).map(ParameterArray::Slot))
    }
}
