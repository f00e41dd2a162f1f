//! How a packed weight is kept: in single precision, or in half as many bytes.

use super::panel::{PANEL, Square};

/// The most that a [`Number::TOGETHER`] is.
pub const MOST_TOGETHER: usize = 2;

/// A kept weight. All bits 0 are the number 0.
pub trait Number: Copy + Send + Sync {
    /// Of how many inputs an output's weights lie side by side, so that they fill 4 bytes: from there, one instruction makes a
    /// number of each.
    const TOGETHER: usize;

    /// The nearest to a number.
    fn nearest(x: f32) -> Self;

    /// The number.
    fn widened(self) -> f32;

    /// Writes lines of a square, as many as there is room for, in the order in which products read them.
    fn put(square: &Square, packed: &mut [Self]);
}

/// A bfloat16 number: the upper half of the bits of an `f32`, 8 significant ones of which the first is implied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Bf16(u16);

impl Number for f32 {
    const TOGETHER: usize = 1;

    #[inline(always)]
    fn nearest(x: f32) -> f32 {
        x
    }

    #[inline(always)]
    fn widened(self) -> f32 {
        self
    }

    #[inline(always)]
    fn put(square: &Square, packed: &mut [f32]) {
        packed.copy_from_slice(&square.as_flattened()[..packed.len()]);
    }
}

impl Number for Bf16 {
    const TOGETHER: usize = 2;

    /// Of two equally near, the one whose last bit is 0; too large a number becomes infinite, and NaN stays NaN.
    #[inline(always)]
    fn nearest(x: f32) -> Bf16 {
        let bits = x.to_bits();
        let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1));
        // A bit set of those that stay, so that NaN does not become infinite.
        let bits = if x.is_nan() { bits | 0x0040_0000 } else { rounded };
        Bf16((bits >> 16) as u16)
    }

    #[inline(always)]
    fn widened(self) -> f32 {
        f32::from_bits(u32::from(self.0) << 16)
    }

    #[inline(always)]
    fn put(square: &Square, packed: &mut [Bf16]) {
        let (lines, _) = square.as_chunks::<2>();
        for ([first, second], packed) in lines.iter().zip(packed.chunks_exact_mut(2 * PANEL)) {
            let (pairs, _) = packed.as_chunks_mut::<2>();
            for ((pair, &a), &b) in pairs.iter_mut().zip(first).zip(second) {
                *pair = [Bf16::nearest(a), Bf16::nearest(b)];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_becomes_the_nearest_one_of_half_its_bits() {
        for (x, want) in [
            (0.0, 0.0),
            (1.0, 1.0),
            (-2.5, -2.5),
            // Halfway: to the even one, down and up.
            (1.0 + 1.0 / 256.0, 1.0),
            (1.0 + 3.0 / 256.0, 1.0 + 2.0 / 128.0),
            (1.0 + 1.01 / 256.0, 1.0 + 1.0 / 128.0),
            (f32::MAX, f32::INFINITY),
            (f32::NEG_INFINITY, f32::NEG_INFINITY),
        ] {
            assert_eq!(Bf16::nearest(x).widened(), want, "{x}");
        }
        assert!(Bf16::nearest(-0.0).widened().is_sign_negative());
        for bits in [0x7f80_0001, 0x7fff_ffff, 0xff80_0001] {
            assert!(Bf16::nearest(f32::from_bits(bits)).widened().is_nan(), "{bits:x}");
        }
    }

    #[test]
    fn rounding_is_off_by_at_most_one_part_in_512_of_the_next_power_of_two() {
        for i in 1..100_000u32 {
            let x = f32::from_bits(0x3f80_0000 + i * 83);
            let off = (Bf16::nearest(x).widened() - x).abs();
            assert!(off <= x * 0.00391 && Bf16::nearest(-x).widened() == -Bf16::nearest(x).widened(), "{x}");
        }
    }
}
