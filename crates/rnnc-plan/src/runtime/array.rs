//! Arrays of the caller's: an address, what lies there, a shape and strides. Executors read and write them where they are.
//!
//! An array is made of a slice, or, `unsafe`, of an address in this process or on a device. Making it checks all that can be
//! checked of it alone; whether it fits a port, the call does (`ports.rs`).

#![allow(unsafe_code)] // whoever makes an array of an address promises what lies there

use std::marker::PhantomData;
use thiserror::Error;

/// The most dimensions of an array.
pub const MOST_DIMENSIONS: usize = 4;

/// What an array is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Element {
    /// Numbers in single precision.
    F32,
    /// Numbers in double precision.
    F64,
    /// Symbols, of 32 bits; -1: none.
    I32,
    /// Symbols, of 64 bits; -1: none.
    I64,
    /// Symbols without a sign; [`NO_SYMBOL`](super::NO_SYMBOL): none.
    U32,
    /// Resets: 0 is no reset, all else is one.
    U8,
    /// Resets, a byte each. In memory that is not Rust's, all but 0 is one.
    Bool,
}

impl Element {
    /// Bytes of one.
    pub fn bytes(self) -> usize {
        match self {
            Element::F32 | Element::I32 | Element::U32 => 4,
            Element::F64 | Element::I64 => 8,
            Element::U8 | Element::Bool => 1,
        }
    }

    /// Its name in messages.
    pub fn name(self) -> &'static str {
        match self {
            Element::F32 => "f32",
            Element::F64 => "f64",
            Element::I32 => "i32",
            Element::I64 => "i64",
            Element::U32 => "u32",
            Element::U8 => "u8",
            Element::Bool => "bool",
        }
    }
}

mod sealed {
    pub trait Sealed {}
}

/// Types of which arrays are made.
pub trait ArrayElement: Copy + sealed::Sealed {
    /// Which.
    const ELEMENT: Element;
}

macro_rules! elements {
    ($($of:ty: $element:ident),*) => {$(
        impl sealed::Sealed for $of {}
        impl ArrayElement for $of {
            const ELEMENT: Element = Element::$element;
        }
    )*};
}
elements!(f32: F32, f64: F64, i32: I32, i64: I64, u32: U32, u8: U8, bool: Bool);

/// Why there is no such array. The text goes after the name of what the array is for: "input `x`" + "has ..".
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ArrayError {
    /// Too many dimensions.
    #[error("has {0} dimensions; at most {MOST_DIMENSIONS} are possible")]
    Dimensions(usize),
    /// Not a stride for each dimension.
    #[error("has {shape} dimensions and {strides} strides; each dimension has a stride")]
    Strides {
        /// Dimensions.
        shape: usize,
        /// Strides.
        strides: usize,
    },
    /// A slice of another length.
    #[error("has {found} elements, and its shape and strides reach over {expected}")]
    Length {
        /// The elements from the first to the last.
        expected: usize,
        /// Those of the slice.
        found: usize,
    },
    /// Strides that go before the slice's first element.
    #[error("has a negative stride: a slice begins with the array's first element")]
    Before,
    /// It reaches beyond what can be addressed.
    #[error("reaches beyond what can be addressed: shape {shape:?}, strides {strides:?}")]
    TooLarge {
        /// The shape.
        shape: Vec<usize>,
        /// The strides.
        strides: Vec<isize>,
    },
    /// An address that is no multiple of the element's size.
    #[error(
        "lies at {address:#x}, which is no address of {element} elements: these are multiples of {bytes}"
    )]
    Misaligned {
        /// The address.
        address: usize,
        /// The element's name.
        element: &'static str,
        /// Its bytes.
        bytes: usize,
    },
    /// Elements that share memory, in an array that is written.
    #[error("is written, and has elements that share memory: shape {shape:?}, strides {strides:?}")]
    Overlap {
        /// The shape.
        shape: Vec<usize>,
        /// The strides.
        strides: Vec<isize>,
    },
    /// No address.
    #[error("has elements, and no address")]
    Null,
}

/// What both kinds of arrays are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Parts {
    address: usize,
    element: Element,
    dimensions: usize,
    shape: [usize; MOST_DIMENSIONS],
    strides: [isize; MOST_DIMENSIONS],
}

impl Parts {
    fn new(
        address: usize,
        element: Element,
        shape: &[usize],
        strides: Option<&[isize]>,
    ) -> Result<Parts, ArrayError> {
        if shape.len() > MOST_DIMENSIONS {
            return Err(ArrayError::Dimensions(shape.len()));
        }
        if let Some(strides) = strides.filter(|strides| strides.len() != shape.len()) {
            return Err(ArrayError::Strides { shape: shape.len(), strides: strides.len() });
        }
        let mut parts = Parts {
            address,
            element,
            dimensions: shape.len(),
            shape: [1; MOST_DIMENSIONS],
            strides: [0; MOST_DIMENSIONS],
        };
        parts.shape[..shape.len()].copy_from_slice(shape);
        match strides {
            Some(strides) => parts.strides[..shape.len()].copy_from_slice(strides),
            None => {
                let mut stride: usize = 1;
                for place in (0..shape.len()).rev() {
                    parts.strides[place] = isize::try_from(stride).unwrap_or(isize::MAX);
                    stride = stride.saturating_mul(shape[place].max(1));
                }
            }
        }
        let too_large =
            || ArrayError::TooLarge { shape: parts.shape().into(), strides: parts.strides().into() };
        let (least, most) = parts.reach().ok_or_else(too_large)?;
        if parts.len() == 0 {
            return Ok(parts);
        }
        // Of a slice, the address is known to be right.
        if address == 0 {
            return Err(ArrayError::Null);
        }
        if !address.is_multiple_of(element.bytes()) {
            let (element, bytes) = (element.name(), element.bytes());
            return Err(ArrayError::Misaligned { address, element, bytes });
        }
        let at =
            |elements: isize| address.checked_add_signed(elements.checked_mul(element.bytes() as isize)?);
        let end = at(most).and_then(|last| last.checked_add(element.bytes()));
        at(least).zip(end).ok_or_else(too_large)?;
        Ok(parts)
    }

    /// The first and the last element's distance from the one that the address is of; `None` if it cannot be counted.
    fn reach(&self) -> Option<(isize, isize)> {
        let bytes = self.element.bytes() as isize;
        let mut all: usize = 1;
        let (mut least, mut most) = (0isize, 0isize);
        for (&size, &stride) in self.shape().iter().zip(self.strides()) {
            all = all.checked_mul(size.max(1))?;
            let last = isize::try_from(size.saturating_sub(1)).ok()?.checked_mul(stride)?;
            (least, most) = (least.checked_add(last.min(0))?, most.checked_add(last.max(0))?);
        }
        let fits = isize::try_from(all).ok()?.checked_mul(bytes).is_some();
        (fits && least.checked_mul(bytes).is_some() && most.checked_add(1)?.checked_mul(bytes).is_some())
            .then_some((least, most))
    }

    /// Whether no two elements share memory, as strides tell that are each at least as long as what lies within.
    fn is_apart(&self) -> bool {
        let mut order = [0, 1, 2, 3];
        order.sort_unstable_by_key(|&place| self.strides[place].unsigned_abs());
        let mut within: usize = 1;
        let wide = order.into_iter().filter(|&place| self.shape[place] > 1);
        for place in wide {
            let stride = self.strides[place].unsigned_abs();
            if stride < within {
                return false;
            }
            within += (self.shape[place] - 1).saturating_mul(stride);
        }
        true
    }

    fn in_slice(self, found: usize) -> Result<Parts, ArrayError> {
        let (least, most) =
            if self.len() == 0 { (0, -1) } else { self.reach().unwrap_or((0, isize::MAX - 1)) };
        let expected = (most + 1) as usize;
        match () {
            () if least < 0 => Err(ArrayError::Before),
            () if expected > found => Err(ArrayError::Length { expected, found }),
            () => Ok(self),
        }
    }

    fn written(self) -> Result<Parts, ArrayError> {
        if self.is_apart() || self.len() == 0 {
            return Ok(self);
        }
        Err(ArrayError::Overlap { shape: self.shape().into(), strides: self.strides().into() })
    }

    fn shape(&self) -> &[usize] {
        &self.shape[..self.dimensions]
    }

    fn strides(&self) -> &[isize] {
        &self.strides[..self.dimensions]
    }

    fn in_three(&self, before: usize) -> ([usize; 3], [isize; 3]) {
        let (mut shape, mut strides) = ([1; 3], [0; 3]);
        let known = self.shape().iter().zip(self.strides());
        for (place, (&size, &stride)) in (before..3).zip(known) {
            (shape[place], strides[place]) = (size, stride);
        }
        (shape, strides)
    }

    fn len(&self) -> usize {
        self.shape().iter().product()
    }

    fn is_contiguous(&self) -> bool {
        let mut within = 1;
        self.len() == 0
            || (0..self.dimensions).rev().all(|place| {
                let fits = self.shape[place] == 1 || self.strides[place] == within;
                within *= self.shape[place] as isize;
                fits
            })
    }
}

macro_rules! describe {
    ($array:ident) => {
        impl $array<'_> {
            /// Of the element whose place is 0 in every dimension; in this process, exposed
            /// ([`std::ptr::with_exposed_provenance`]).
            pub fn address(&self) -> usize {
                self.0.address
            }

            /// What it is made of.
            pub fn element(&self) -> Element {
                self.0.element
            }

            /// How many elements each dimension has.
            pub fn shape(&self) -> &[usize] {
                self.0.shape()
            }

            /// From an element to the next, in elements, in each dimension.
            pub fn strides(&self) -> &[isize] {
                self.0.strides()
            }

            /// Shape and strides in three dimensions: of those that are missing, of one element each, `before` stand in front and
            /// the others behind.
            pub fn in_three(&self, before: usize) -> ([usize; 3], [isize; 3]) {
                self.0.in_three(before)
            }

            /// How many elements it has.
            pub fn len(&self) -> usize {
                self.0.len()
            }

            /// Whether it has none.
            pub fn is_empty(&self) -> bool {
                self.len() == 0
            }

            /// Whether its elements lie one after the other, the last dimension's side by side.
            pub fn is_contiguous(&self) -> bool {
                self.0.is_contiguous()
            }
        }
    };
}

/// An array that is read.
///
/// ```
/// use rnnc_plan::Array;
/// // A batch-first tensor [2, 3] of one unit, as [T, B, N].
/// let values = [1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0];
/// let x = Array::strided(&values, &[3, 2, 1], &[1, 3, 1])?;
/// assert_eq!((x.len(), x.is_contiguous()), (6, false));
/// # Ok::<(), rnnc_plan::ArrayError>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Array<'a>(Parts, PhantomData<&'a [u8]>);

/// An array that is written.
#[derive(Debug)]
pub struct ArrayMut<'a>(Parts, PhantomData<&'a mut [u8]>);

describe!(Array);
describe!(ArrayMut);

impl<'a> Array<'a> {
    /// A slice in that shape, row-major: the last dimension's elements lie side by side.
    ///
    /// # Errors
    /// Too many dimensions; a slice that is not as long.
    pub fn from_slice<T: ArrayElement>(values: &'a [T], shape: &[usize]) -> Result<Array<'a>, ArrayError> {
        let parts = Parts::new(values.as_ptr().expose_provenance(), T::ELEMENT, shape, None)?;
        let expected = parts.len();
        if expected != values.len() {
            return Err(ArrayError::Length { expected, found: values.len() });
        }
        Ok(Array(parts, PhantomData))
    }

    /// Elements of a slice, from its first on. Strides are in elements; they may be 0, and must not be negative.
    ///
    /// # Errors
    /// Too many dimensions; an element that is not in the slice.
    pub fn strided<T: ArrayElement>(
        values: &'a [T],
        shape: &[usize],
        strides: &[isize],
    ) -> Result<Array<'a>, ArrayError> {
        let parts = Parts::new(values.as_ptr().expose_provenance(), T::ELEMENT, shape, Some(strides))?;
        Ok(Array(parts.in_slice(values.len())?, PhantomData))
    }

    /// An array of whatever lies at an address. Strides are in elements, and may be 0 or negative.
    ///
    /// # Errors
    /// Too many dimensions; not as many strides; an address that is 0 or no multiple of the element's size; what cannot be
    /// addressed.
    ///
    /// # Safety
    /// For as long as the array is used, all of its elements lie in memory that may be read by whatever the array is handed to
    /// (this process, or the device whose address it is), that has been initialized, and that nobody writes meanwhile. An address in this process is exposed.
    pub unsafe fn from_raw_parts(
        address: usize,
        element: Element,
        shape: &[usize],
        strides: &[isize],
    ) -> Result<Array<'a>, ArrayError> {
        Ok(Array(Parts::new(address, element, shape, Some(strides))?, PhantomData))
    }
}

impl<'a> ArrayMut<'a> {
    /// A slice in that shape, row-major: the last dimension's elements lie side by side.
    ///
    /// # Errors
    /// Too many dimensions; a slice that is not as long.
    pub fn from_slice<T: ArrayElement>(
        values: &'a mut [T],
        shape: &[usize],
    ) -> Result<ArrayMut<'a>, ArrayError> {
        let found = values.len();
        let parts = Parts::new(values.as_mut_ptr().expose_provenance(), T::ELEMENT, shape, None)?;
        let expected = parts.len();
        if expected != found {
            return Err(ArrayError::Length { expected, found });
        }
        Ok(ArrayMut(parts, PhantomData))
    }

    /// Elements of a slice, from its first on. Strides are in elements; they must not be negative, nor so that elements
    /// share memory.
    ///
    /// # Errors
    /// Too many dimensions; an element that is not in the slice; elements that share memory.
    pub fn strided<T: ArrayElement>(
        values: &'a mut [T],
        shape: &[usize],
        strides: &[isize],
    ) -> Result<ArrayMut<'a>, ArrayError> {
        let found = values.len();
        let parts = Parts::new(values.as_mut_ptr().expose_provenance(), T::ELEMENT, shape, Some(strides))?;
        Ok(ArrayMut(parts.in_slice(found)?.written()?, PhantomData))
    }

    /// An array of whatever lies at an address. Strides are in elements, and may be negative.
    ///
    /// # Errors
    /// Those of [`Array::from_raw_parts`]; elements that share memory.
    ///
    /// # Safety
    /// For as long as the array is used, all of its elements lie in memory that may be read and written by whatever the array is
    /// handed to, and that nobody else reads or writes meanwhile: no other array of the same call has any of it. Bytes of
    /// [`Element::Bool`] that Rust is to read afterwards are 0 or 1. An address in this process is exposed.
    pub unsafe fn from_raw_parts(
        address: usize,
        element: Element,
        shape: &[usize],
        strides: &[isize],
    ) -> Result<ArrayMut<'a>, ArrayError> {
        Ok(ArrayMut(Parts::new(address, element, shape, Some(strides))?.written()?, PhantomData))
    }

    /// The same, to read.
    pub fn as_array(&self) -> Array<'_> {
        Array(self.0, PhantomData)
    }
}

// What follows reads and writes arrays in this process, for whoever has no faster way.

impl Parts {
    /// The offsets of all elements, row-major.
    fn offsets(&self) -> impl Iterator<Item = isize> {
        let [_, b, c, d] = self.shape;
        let strides = self.strides;
        (0..self.len()).map(move |place| {
            let index = [place / d / c / b, place / d / c % b, place / d % c, place % d];
            index.iter().zip(strides).map(|(&index, stride)| index as isize * stride).sum()
        })
    }

    /// # Safety
    ///
    /// There is such an element at the offset, and it may be read.
    unsafe fn read<T: Copy>(&self, offset: isize) -> T {
        // SAFETY: the caller says so.
        unsafe { std::ptr::with_exposed_provenance::<T>(self.address).wrapping_offset(offset).read() }
    }

    /// # Safety
    ///
    /// There is such an element at the offset, and it may be written.
    unsafe fn write<T>(&self, offset: isize, value: T) {
        // SAFETY: the caller says so.
        unsafe {
            std::ptr::with_exposed_provenance_mut::<T>(self.address).wrapping_offset(offset).write(value)
        }
    }
}

impl Array<'_> {
    /// The elements of an array of this process as numbers, row-major. Of symbols, -1 is none; of resets, all but 0 is one.
    pub(super) fn to_numbers(self) -> Vec<f64> {
        let number = |offset| {
            // SAFETY of each arm: the offset is of an element, of that type, which whoever made the array said may be read.
            match self.element() {
                // SAFETY: as above.
                Element::F32 => unsafe { self.0.read::<f32>(offset) }.into(),
                // SAFETY: as above.
                Element::F64 => unsafe { self.0.read(offset) },
                // SAFETY: as above.
                Element::I32 => unsafe { self.0.read::<i32>(offset) }.into(),
                // SAFETY: as above.
                Element::I64 => unsafe { self.0.read::<i64>(offset) as f64 },
                // SAFETY: as above.
                Element::U32 => match unsafe { self.0.read::<u32>(offset) } {
                    super::NO_SYMBOL => -1.0,
                    symbol => symbol.into(),
                },
                // SAFETY: as above.
                Element::U8 | Element::Bool => unsafe { self.0.read::<u8>(offset) }.into(),
            }
        };
        self.0.offsets().map(number).collect()
    }

    /// The bits of the first numbers of an array in single precision.
    pub(super) fn bits(&self, first: usize) -> Vec<u32> {
        assert_eq!(self.element(), Element::F32);
        // SAFETY: offsets are of elements, of that size, which whoever made the array said may be read.
        self.0.offsets().take(first).map(|offset| unsafe { self.0.read(offset) }).collect()
    }
}

impl ArrayMut<'_> {
    /// Writes all elements, row-major; symbols and numbers only.
    pub(super) fn set_numbers(&mut self, numbers: &[f64]) {
        for (offset, &x) in self.0.offsets().zip(numbers) {
            // SAFETY of each arm: the offset is of an element, of that type, which whoever made the array said may be written.
            match self.element() {
                // SAFETY: as above.
                Element::F32 => unsafe { self.0.write(offset, x as f32) },
                // SAFETY: as above.
                Element::F64 => unsafe { self.0.write(offset, x) },
                // SAFETY: as above.
                Element::I32 => unsafe { self.0.write(offset, x as i32) },
                // SAFETY: as above.
                Element::I64 => unsafe { self.0.write(offset, x as i64) },
                // SAFETY: as above.
                Element::U32 => unsafe {
                    self.0.write(offset, if x < 0.0 { super::NO_SYMBOL } else { x as u32 });
                },
                Element::U8 | Element::Bool => {}
            }
        }
    }

    /// Writes the bits of the first numbers of an array in single precision.
    pub(super) fn set_bits(&mut self, bits: &[u32]) {
        assert_eq!(self.element(), Element::F32);
        // SAFETY: offsets are of elements, of that size, which whoever made the array said may be written.
        self.0.offsets().zip(bits).for_each(|(offset, &bits)| unsafe { self.0.write(offset, bits) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(address: usize, shape: &[usize], strides: &[isize]) -> Result<Array<'static>, ArrayError> {
        // SAFETY: nothing is read.
        unsafe { Array::from_raw_parts(address, Element::F32, shape, strides) }
    }

    #[test]
    fn an_array_lies_within_its_slice() {
        let values = [0.0f32; 6];
        Array::from_slice(&values, &[3, 2]).unwrap();
        let length = |expected| ArrayError::Length { expected, found: 6 };
        assert_eq!(Array::from_slice(&values, &[3, 3]).unwrap_err(), length(9));
        assert_eq!(Array::from_slice(&values, &[5]).unwrap_err(), length(5));
        Array::strided(&values, &[2, 3], &[1, 2]).unwrap();
        Array::strided(&values, &[9, 6], &[0, 1]).unwrap();
        Array::strided(&values, &[0, 600], &[7, 1]).unwrap();
        assert_eq!(Array::strided(&values, &[2, 3], &[2, 2]).unwrap_err(), length(7));
        assert_eq!(Array::strided(&values, &[2], &[-1]).unwrap_err(), ArrayError::Before);
        assert_eq!(Array::from_slice(&values, &[1, 1, 1, 1, 6]).unwrap_err(), ArrayError::Dimensions(5));
        let strides = ArrayError::Strides { shape: 2, strides: 1 };
        assert_eq!(Array::strided(&values, &[2, 3], &[1]).unwrap_err(), strides);
    }

    #[test]
    fn what_cannot_be_addressed_is_no_array() {
        let too_large = |array: Result<Array<'_>, ArrayError>| {
            assert!(matches!(array, Err(ArrayError::TooLarge { .. })), "{array:?}");
        };
        too_large(raw(64, &[usize::MAX], &[1]));
        too_large(raw(64, &[usize::MAX, usize::MAX], &[0, 0]));
        too_large(raw(64, &[2], &[isize::MAX]));
        too_large(raw(64, &[2], &[isize::MIN]));
        too_large(raw(64, &[3, 3], &[isize::MAX / 8, isize::MAX / 8]));
        too_large(raw(64, &[100], &[-1]));
        too_large(raw(usize::MAX - 3, &[2], &[1]));
        raw(512, &[100], &[-1]).unwrap();
        assert_eq!(raw(0, &[1], &[1]).unwrap_err(), ArrayError::Null);
        raw(0, &[0], &[1]).unwrap();
        assert!(matches!(raw(62, &[1], &[1]), Err(ArrayError::Misaligned { .. })));
    }

    #[test]
    fn elements_that_are_written_share_no_memory() {
        let written = |shape: &[usize], strides: &[isize]| {
            // SAFETY: nothing is written.
            unsafe { ArrayMut::from_raw_parts(1 << 20, Element::F32, shape, strides) }
                .map(|array| array.is_contiguous())
        };
        assert_eq!(written(&[3, 2], &[2, 1]), Ok(true));
        assert_eq!(written(&[3, 2], &[1, 3]), Ok(false));
        assert_eq!(written(&[3, 2], &[-2, 1]), Ok(false));
        assert_eq!(written(&[1, 2], &[0, 1]), Ok(true), "the stride of one element says nothing");
        assert_eq!(written(&[0, 2], &[0, 0]), Ok(true));
        for (shape, strides) in
            [(&[3, 2], &[0, 1]), (&[3, 2], &[1, 1]), (&[3, 2], &[1, 2]), (&[2, 3], &[2, 1])]
        {
            assert!(matches!(written(shape, strides), Err(ArrayError::Overlap { .. })), "{strides:?}");
        }
    }
}
