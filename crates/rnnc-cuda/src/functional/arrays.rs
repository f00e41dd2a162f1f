//! Arrays as copies have them: three dimensions, whatever the caller's have.

use crate::driver::Address;
use crate::driver::borders::{ArrayMove, From, To};
use crate::executor::before::weight_strides;
use crate::executor::memory::NUMBER;
use rnnc_plan::{Array, ArrayMut, Element, WeightView};

/// An array of device memory, in three dimensions.
#[derive(Clone, Copy, Debug)]
pub(super) struct Strided {
    pub address: Address,
    pub shape: [u32; 3],
    /// In elements.
    pub strides: [i64; 3],
    element: Element,
    /// Whether it is the program's, where numbers and symbols have 4 bytes.
    programs: bool,
}

impl Strided {
    /// `[T, B, N]`, or symbols or resets `[T, B]`.
    pub fn rows(array: &Array<'_>) -> Strided {
        Strided::padded(array, 0)
    }

    pub fn rows_mut(array: &ArrayMut<'_>) -> Strided {
        Strided::rows(&array.as_array())
    }

    /// A vector of the state: `[depth, B, N]`, or without its frames if there is one; symbols are without units.
    pub fn state(array: &Array<'_>, depth: usize) -> Strided {
        Strided::padded(array, usize::from(depth == 1))
    }

    pub fn state_mut(array: &ArrayMut<'_>, depth: usize) -> Strided {
        Strided::state(&array.as_array(), depth)
    }

    /// A weight in its canonical shape, as heads, rows and columns. A vector has rows.
    pub fn weight(array: &Array<'_>) -> Strided {
        Strided::padded(array, usize::from(array.shape().len() < 3))
    }

    pub fn weight_mut(array: &ArrayMut<'_>) -> Strided {
        Strided::weight(&array.as_array())
    }

    /// Numbers or symbols where the program has them.
    pub fn of_program(address: Address, shape: [u32; 3], strides: [i64; 3]) -> Strided {
        Strided { address, shape, strides, element: Element::F32, programs: true }
    }

    /// A weight where the program has it.
    pub fn of_weight(memory: Address, view: WeightView) -> Strided {
        let shape = [view.heads, view.rows, view.columns].map(|len| len as u32);
        Strided::of_program(memory + view.offset as u64 * NUMBER, shape, weight_strides(view))
    }

    /// See [`Array::in_three`].
    fn padded(array: &Array<'_>, before: usize) -> Strided {
        let (shape, strides) = array.in_three(before);
        // Its port, which the array fits, is no larger.
        let (shape, strides) = (shape.map(|len| len as u32), strides.map(|stride| stride as i64));
        let address = array.address() as Address;
        Strided { address, shape, strides, element: array.element(), programs: false }
    }

    /// Some of its frames.
    pub fn frames(self, first: usize, frames: usize) -> Strided {
        let elements = first as i64 * self.strides[0];
        let address = self.address.wrapping_add_signed(elements * self.element.bytes() as i64);
        Strided { address, shape: [frames as u32, self.shape[1], self.shape[2]], ..self }
    }

    pub fn is_f64(&self) -> bool {
        self.element == Element::F64
    }

    /// How it is added to.
    pub fn added_to(&self) -> To {
        if self.is_f64() { To::AddF64 } else { To::AddF32 }
    }

    /// The program's, filled from an array.
    pub fn filled_from(&self, from: &Strided) -> ArrayMove {
        from.copied_to(self)
    }

    /// Copied to an array of that shape.
    pub fn copied_to(&self, to: &Strided) -> ArrayMove {
        let from_kind = match self.element {
            // The program's symbols are those of 32 bits already.
            _ if self.programs => From::F32,
            Element::F64 => From::F64,
            Element::I64 => From::I64,
            Element::I32 | Element::U32 => From::I32,
            // Resets are read by kernels that know them.
            Element::F32 | Element::U8 | Element::Bool => From::F32,
            other => unreachable!("{other:?} is refused by the port"),
        };
        ArrayMove {
            from: self.address,
            from_strides: self.strides,
            from_kind,
            // No limit, unless one is set.
            limit: u32::MAX,
            ..ArrayMove { shape: self.shape, ..to.written() }
        }
    }

    /// Zeros.
    pub fn zeroed(&self) -> ArrayMove {
        ArrayMove { from_kind: From::Nothing, ..self.written() }
    }

    fn written(&self) -> ArrayMove {
        let to_kind = match self.element {
            Element::F64 => To::F64,
            Element::I64 => To::I64,
            _ => To::F32,
        };
        ArrayMove {
            to: self.address,
            to_strides: self.strides,
            to_kind,
            shape: self.shape,
            ..ArrayMove::default()
        }
    }
}
