//! Arrays on their way in and out of executors, in the precision of their executor.

use rnnc_io::{Array, Elements};
use rnnc_plan::{Values, ValuesMut};
use rnnc_train::TrainError;
use std::ops::Range;

/// The numbers or symbols of an array, row-major.
#[derive(Clone, Debug, PartialEq)]
pub enum Numbers {
    /// In single precision.
    Single(Vec<f32>),
    /// In double precision.
    Double(Vec<f64>),
    /// Symbols.
    Symbols(Vec<u32>),
}

impl Numbers {
    /// So many zeros.
    pub fn zeros(count: usize, double: bool) -> Numbers {
        if double { Numbers::Double(vec![0.0; count]) } else { Numbers::Single(vec![0.0; count]) }
    }

    /// What the zeros of some layers of these sizes take, in so many frames of so many streams.
    pub fn bytes(frames: usize, streams: usize, sizes: &[usize], double: bool) -> u128 {
        let row: u128 = sizes.iter().map(|&size| size as u128).sum();
        let rows = (frames as u128).saturating_mul(streams as u128);
        rows.saturating_mul(row).saturating_mul(if double { 8 } else { 4 })
    }

    /// Adds those of another array of the same kind.
    pub fn append(&mut self, other: Numbers) {
        match (self, other) {
            (Numbers::Single(to), Numbers::Single(from)) => to.extend(from),
            (Numbers::Double(to), Numbers::Double(from)) => to.extend(from),
            (Numbers::Symbols(to), Numbers::Symbols(from)) => to.extend(from),
            (to, from) => *to = from,
        }
    }

    /// Those of a row of so many.
    pub fn row(&self, row: usize, size: usize) -> Vec<f64> {
        let range = row * size..(row + 1) * size;
        match self {
            Numbers::Single(values) => values[range].iter().map(|&x| x.into()).collect(),
            Numbers::Double(values) => values[range].to_vec(),
            Numbers::Symbols(values) => values[range].iter().map(|&x| x.into()).collect(),
        }
    }

    /// A copy of some of them.
    pub fn copied(&self, range: Range<usize>) -> Numbers {
        match self {
            Numbers::Single(values) => Numbers::Single(values[range].to_vec()),
            Numbers::Double(values) => Numbers::Double(values[range].to_vec()),
            Numbers::Symbols(values) => Numbers::Symbols(values[range].to_vec()),
        }
    }

    /// The floats of an array.
    pub fn floats(array: &Array, double: bool) -> Result<Numbers, TrainError> {
        Ok(if double {
            Numbers::Double(array.f64s()?.into_owned())
        } else {
            Numbers::Single(array.f32s()?.into_owned())
        })
    }

    /// Some of them, for an executor to read.
    pub fn part(&self, range: Range<usize>) -> Values<'_> {
        match self {
            Numbers::Single(v) => Values::F32(&v[range]),
            Numbers::Double(v) => Values::F64(&v[range]),
            Numbers::Symbols(v) => Values::Symbols(&v[range]),
        }
    }

    /// All of them, for an executor to read.
    pub fn all(&self) -> Values<'_> {
        match self {
            Numbers::Single(v) => Values::F32(v),
            Numbers::Double(v) => Values::F64(v),
            Numbers::Symbols(v) => Values::Symbols(v),
        }
    }

    /// Room for an executor to write into; none in symbols, which no executor writes.
    pub fn part_mut(&mut self, range: Range<usize>) -> ValuesMut<'_> {
        match self {
            Numbers::Single(v) => ValuesMut::F32(&mut v[range]),
            Numbers::Double(v) => ValuesMut::F64(&mut v[range]),
            Numbers::Symbols(_) => ValuesMut::F32(&mut []),
        }
    }

    /// In single precision; none of symbols.
    pub fn into_singles(self) -> Vec<f32> {
        match self {
            Numbers::Single(v) => v,
            Numbers::Double(v) => v.into_iter().map(|x| x as f32).collect(),
            Numbers::Symbols(_) => Vec::new(),
        }
    }

    /// As an array for a file.
    pub fn into_array(self, name: impl Into<String>, shape: &[usize]) -> Array {
        let elements = match self {
            Numbers::Single(v) => Elements::F32(v),
            Numbers::Double(v) => Elements::F64(v),
            Numbers::Symbols(v) => Elements::Integers(v.into_iter().map(i64::from).collect()),
        };
        Array::new(name, shape, elements)
    }
}
