//! Numbers into an executor, and out of it.

use crate::optimizers::Optimizer;

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

impl Values<'_> {
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

impl ValuesMut<'_> {
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
