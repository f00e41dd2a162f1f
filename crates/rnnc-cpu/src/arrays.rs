//! Arrays of the caller, whatever their strides and elements: read as `f32`, and written.

#![allow(unsafe_code)] // the caller's memory, by address

use rnnc_plan::{Array, ArrayMut, Element, NO_SYMBOL, Values, ValuesMut};
use std::marker::PhantomData;
use std::ptr::{with_exposed_provenance, with_exposed_provenance_mut};

/// An array `[frames, B, N]` that is read. Symbols `[frames, B]` have N = 1, and are read as the bits of an `f32`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Strided<'a> {
    address: usize,
    element: Element,
    shape: [usize; 3],
    strides: [isize; 3],
    memory: PhantomData<&'a [u8]>,
}

/// The same, to write.
#[derive(Debug)]
pub(crate) struct StridedMut<'a>(Strided<'a>, PhantomData<&'a mut [u8]>);

impl<'a> Strided<'a> {
    /// An array `[frames, B, N]`, or symbols `[frames, B]`.
    pub fn of(array: &Array<'a>) -> Strided<'a> {
        Strided::padded(array, 0)
    }

    /// A vector of the state: the same, but without its frames where there is one.
    pub fn of_state(array: &Array<'a>, depth: usize) -> Strided<'a> {
        Strided::padded(array, usize::from(depth == 1))
    }

    /// A weight `[heads, rows, columns]`, `[rows, columns]` or `[columns]`.
    pub fn of_weight(array: &Array<'a>) -> Strided<'a> {
        Strided::padded(array, 3 - array.shape().len().min(3))
    }

    /// See [`Array::in_three`].
    fn padded(array: &Array<'a>, before: usize) -> Strided<'a> {
        let (shape, strides) = array.in_three(before);
        Strided { address: array.address(), element: array.element(), shape, strides, memory: PhantomData }
    }

    /// Numbers of so many streams and units, or symbols of so many streams.
    pub fn of_values(values: Values<'a>, streams: usize, units: usize) -> Strided<'a> {
        let (address, element) = match values {
            Values::F32(v) => (v.as_ptr().expose_provenance(), Element::F32),
            Values::F64(v) => (v.as_ptr().expose_provenance(), Element::F64),
            Values::Symbols(v) => (v.as_ptr().expose_provenance(), Element::U32),
        };
        Strided::contiguous(address, element, values.len(), streams, units)
    }

    fn contiguous(address: usize, element: Element, len: usize, streams: usize, units: usize) -> Strided<'a> {
        let strides = [(streams * units) as isize, units as isize, 1];
        let shape = [len / (streams * units).max(1), streams, units];
        Strided { address, element, shape, strides, memory: PhantomData }
    }

    /// `[frames, B, N]`
    pub fn shape(&self) -> [usize; 3] {
        self.shape
    }

    /// All from a frame on, if these are numbers in single precision one after the other.
    pub fn slice_from(&self, frame: usize) -> Option<&'a [f32]> {
        let [frames, streams, units] = self.shape;
        let len = frames.saturating_sub(frame) * streams * units;
        if !self.is_plain() || len == 0 {
            return None;
        }
        let from = with_exposed_provenance::<f32>(self.address).wrapping_add(frame * streams * units);
        // SAFETY: whoever made the array promised that its elements may be read, and these lie one after the other.
        Some(unsafe { std::slice::from_raw_parts(from, len) })
    }

    /// Whether rows of all streams lie one after the other, in single precision.
    fn is_plain(&self) -> bool {
        let [frames, streams, units] = self.shape;
        self.element == Element::F32
            && (units == 1 || self.strides[2] == 1)
            && (streams == 1 || self.strides[1] == units as isize)
            && (frames == 1 || self.strides[0] == (streams * units) as isize)
    }

    fn offset(&self, frame: usize, stream: usize, unit: usize) -> isize {
        let [frames, streams, units] = self.shape;
        assert!(frame < frames && stream < streams && unit < units, "a place outside the array");
        let at = |place: usize, index: usize| index as isize * self.strides[place];
        at(0, frame) + at(1, stream) + at(2, unit)
    }

    /// Units of a row, from one on.
    pub fn read(&self, frame: usize, stream: usize, first: usize, out: &mut [f32]) {
        let Some(last) = out.len().checked_sub(1) else { return };
        let at = self.offset(frame, stream, first);
        self.offset(frame, stream, first + last);
        let stride = self.strides[2];
        // SAFETY of each arm: the elements from the first to the last are the array's, as the two offsets have shown; whoever made it
        // promised that they may be read.
        match self.element {
            Element::F32 if stride == 1 => {
                let from = with_exposed_provenance::<f32>(self.address).wrapping_offset(at);
                // SAFETY: as above; they lie side by side.
                out.copy_from_slice(unsafe { std::slice::from_raw_parts(from, out.len()) });
            }
            // SAFETY: as above.
            Element::F32 => unsafe { self.each::<f32>(at, out, |x| x) },
            // SAFETY: as above.
            Element::F64 => unsafe { self.each::<f64>(at, out, |x| x as f32) },
            // SAFETY: as above.
            Element::U32 => unsafe { self.each::<u32>(at, out, f32::from_bits) },
            // SAFETY: as above.
            Element::I32 => unsafe { self.each::<i32>(at, out, |x| f32::from_bits(x as u32)) },
            Element::I64 => {
                let symbol = |x: i64| f32::from_bits(u32::try_from(x).unwrap_or(NO_SYMBOL));
                // SAFETY: as above.
                unsafe { self.each::<i64>(at, out, symbol) }
            }
            // SAFETY: as above.
            Element::U8 | Element::Bool => unsafe { self.each::<u8>(at, out, f32::from) },
            other => unreachable!("{other:?} is refused by the port"),
        }
    }

    /// # Safety
    ///
    /// The array is of such elements, and has so many from the offset on, with the stride of units.
    unsafe fn each<T: Copy>(&self, at: isize, out: &mut [f32], convert: impl Fn(T) -> f32) {
        let from = with_exposed_provenance::<T>(self.address).wrapping_offset(at);
        for (unit, out) in out.iter_mut().enumerate() {
            // SAFETY: the caller says so.
            *out = convert(unsafe { from.wrapping_offset(unit as isize * self.strides[2]).read() });
        }
    }

    /// All elements as numbers, in their order: for checks.
    pub fn find(&self, is_wrong: impl Fn(f64) -> bool) -> Option<([usize; 3], f64)> {
        let [frames, streams, units] = self.shape;
        for frame in 0..frames {
            for stream in 0..streams {
                for unit in 0..units {
                    let at = self.offset(frame, stream, unit);
                    let value = self.number(at);
                    if is_wrong(value) {
                        return Some(([frame, stream, unit], value));
                    }
                }
            }
        }
        None
    }

    /// The element at an offset of the array. Symbols without a sign of -1 are -1.
    fn number(&self, at: isize) -> f64 {
        fn load<T: Copy>(address: usize, at: isize) -> T {
            // SAFETY: whoever made the array promised that its elements may be read, and `at` is of one (`offset`).
            unsafe { with_exposed_provenance::<T>(address).wrapping_offset(at).read() }
        }
        match self.element {
            Element::F32 => load::<f32>(self.address, at).into(),
            Element::F64 => load(self.address, at),
            Element::I32 => load::<i32>(self.address, at).into(),
            Element::U32 => match load::<u32>(self.address, at) {
                NO_SYMBOL => -1.0,
                symbol => symbol.into(),
            },
            Element::I64 => load::<i64>(self.address, at) as f64,
            Element::U8 | Element::Bool => load::<u8>(self.address, at).into(),
            other => unreachable!("{other:?} is refused by the port"),
        }
    }

    /// Whether it is made of these.
    pub fn is_of(&self, element: Element) -> bool {
        self.element == element
    }
}

impl<'a> StridedMut<'a> {
    /// An array `[frames, B, N]`, or symbols `[frames, B]`.
    pub fn of(array: &'a mut ArrayMut<'_>) -> StridedMut<'a> {
        StridedMut(Strided::of(&array.as_array()).unbound(), PhantomData)
    }

    /// A vector of the state: see [`Strided::of_state`].
    pub fn of_state(array: &'a mut ArrayMut<'_>, depth: usize) -> StridedMut<'a> {
        StridedMut(Strided::of_state(&array.as_array(), depth).unbound(), PhantomData)
    }

    /// A weight: see [`Strided::of_weight`].
    pub fn of_weight(array: &'a mut ArrayMut<'_>) -> StridedMut<'a> {
        StridedMut(Strided::of_weight(&array.as_array()).unbound(), PhantomData)
    }

    /// Numbers of so many streams and units.
    pub fn of_values(values: ValuesMut<'a>, streams: usize, units: usize) -> StridedMut<'a> {
        let len = values.len();
        let (address, element) = match values {
            ValuesMut::F32(v) => (v.as_mut_ptr().expose_provenance(), Element::F32),
            ValuesMut::F64(v) => (v.as_mut_ptr().expose_provenance(), Element::F64),
        };
        StridedMut(Strided::contiguous(address, element, len, streams, units), PhantomData)
    }

    /// `[frames, B, N]`
    pub fn shape(&self) -> [usize; 3] {
        self.0.shape
    }

    /// Whether rows of all streams lie one after the other, in single precision.
    pub fn is_plain(&self) -> bool {
        self.0.is_plain()
    }

    /// Writes units of a row, from one on.
    ///
    /// # Safety
    ///
    /// No other thread writes the same row meanwhile.
    pub unsafe fn write(&self, frame: usize, stream: usize, first: usize, values: &[f32]) {
        let Some(last) = values.len().checked_sub(1) else { return };
        let at = self.0.offset(frame, stream, first);
        self.0.offset(frame, stream, first + last);
        let stride = self.0.strides[2];
        // SAFETY of each arm: the elements from the first to the last are the array's, as the two offsets have shown; whoever made it
        // promised that they may be written, and the caller that nobody else does.
        match self.0.element {
            Element::F32 if stride == 1 => {
                let to = with_exposed_provenance_mut::<f32>(self.0.address).wrapping_offset(at);
                // SAFETY: as above; they lie side by side. Values are the executor's own memory.
                unsafe { std::ptr::copy_nonoverlapping(values.as_ptr(), to, values.len()) };
            }
            // SAFETY: as above.
            Element::F32 => unsafe { self.each::<f32>(at, values, |x| x) },
            // SAFETY: as above.
            Element::F64 => unsafe { self.each::<f64>(at, values, f64::from) },
            // SAFETY: as above.
            Element::U32 => unsafe { self.each::<u32>(at, values, f32::to_bits) },
            // SAFETY: as above.
            Element::I32 => unsafe { self.each::<i32>(at, values, |x| x.to_bits() as i32) },
            Element::I64 => {
                let symbol = |x: f32| match x.to_bits() {
                    NO_SYMBOL => -1,
                    symbol => i64::from(symbol),
                };
                // SAFETY: as above.
                unsafe { self.each::<i64>(at, values, symbol) }
            }
            // No array of resets is written: that is refused before.
            Element::U8 | Element::Bool => {}
            other => unreachable!("{other:?} is refused by the port"),
        }
    }

    /// The rows from one on, one after the other, if they are plain.
    ///
    /// # Safety
    ///
    /// No other thread writes them meanwhile.
    pub unsafe fn write_plain(&self, row: usize, values: &[f32]) {
        let [frames, streams, units] = self.0.shape;
        assert!(
            self.is_plain() && row * units + values.len() <= frames * streams * units,
            "rows outside the array"
        );
        let to = with_exposed_provenance_mut::<f32>(self.0.address).wrapping_add(row * units);
        // SAFETY: they are the array's, and lie side by side; the caller says that nobody else writes them.
        unsafe { std::ptr::copy_nonoverlapping(values.as_ptr(), to, values.len()) };
    }

    /// # Safety
    ///
    /// The array is of such elements, and has so many from the offset on, with the stride of units; nobody else writes them.
    unsafe fn each<T>(&self, at: isize, values: &[f32], convert: impl Fn(f32) -> T) {
        let to = with_exposed_provenance_mut::<T>(self.0.address).wrapping_offset(at);
        for (unit, &value) in values.iter().enumerate() {
            // SAFETY: the caller says so.
            unsafe { to.wrapping_offset(unit as isize * self.0.strides[2]).write(convert(value)) };
        }
    }
}

impl Strided<'_> {
    /// For as long as whoever asks says.
    fn unbound<'b>(self) -> Strided<'b> {
        Strided { memory: PhantomData, ..self }
    }
}
