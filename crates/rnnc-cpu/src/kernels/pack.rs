//! Packing: the weights of a product in the order in which [`skinny`](super::skinny) reads them.
//!
//! In panels of 16 outputs, in each of which the 16 weights of one input lie together; those of half the bytes in pairs, an
//! output's of two inputs. It is done anew after each update, so it moves squares of 16 x 16 through registers, and reads as much
//! of a line as it can while that is in the cache.

#![allow(unsafe_code)] // weights between which somebody else may write

use super::isa::{Isa, Level};
use super::numbers::{Bf16, Number};
use super::panel::{PANEL, Square};
use std::ops::Range;

/// How many numbers the packed weights of n outputs and kk inputs take.
pub fn packed_len<W: Number>(n: usize, kk: usize) -> usize {
    n.next_multiple_of(PANEL) * kk.next_multiple_of(W::TOGETHER)
}

/// Numbers of 4 bytes that the packed weights of n outputs and kk inputs take: whole cache lines.
pub fn packed_room(n: usize, kk: usize, coarse: bool) -> usize {
    let bytes = if coarse { 2 * packed_len::<Bf16>(n, kk) } else { 4 * packed_len::<f32>(n, kk) };
    bytes.next_multiple_of(64) / 4
}

/// A view of some weights: that of output o and input k is number `o * out_stride + k * in_stride`, of n outputs and kk
/// inputs.
#[derive(Clone, Copy, Debug)]
pub struct Strided {
    /// From an output to the next.
    pub out_stride: usize,
    /// From an input to the next.
    pub in_stride: usize,
    /// Outputs.
    pub n: usize,
    /// Inputs.
    pub kk: usize,
}

/// Packs the weights `W[o, k] = w[o * out_stride + k * in_stride]` of outputs 0..n and inputs 0..kk.
///
/// Panels lie one after the other, and outputs past n are zeros. Packed weights that start on a cache line
/// (64 bytes) run fastest.
///
/// # Panics
///
/// If `packed` is not of [`packed_len`] numbers, or the weights do not lie in `w`.
pub fn pack<W: Number>(
    isa: Isa,
    w: &[f32],
    out_stride: usize,
    in_stride: usize,
    n: usize,
    kk: usize,
    packed: &mut [W],
) {
    if n > 0 && kk > 0 {
        let last = (n - 1) * out_stride + (kk - 1) * in_stride;
        assert!(last < w.len(), "the last weight is number {last} of {}", w.len());
    }
    let view = Strided { out_stride, in_stride, n, kk };
    // SAFETY: the last weight lies in `w`, and so do those before it.
    unsafe { pack_panels(isa, w.as_ptr(), view, 0..n.div_ceil(PANEL), packed) }
}

/// The same of some panels, and of weights between which somebody else may write.
///
/// # Safety
///
/// The weights are there to read, and nobody writes them meanwhile.
///
/// # Panics
///
/// If `packed` has not as many numbers as these panels.
pub unsafe fn pack_panels<W: Number>(
    isa: Isa,
    w: *const f32,
    view: Strided,
    panels: Range<usize>,
    packed: &mut [W],
) {
    /// Inputs of which all panels are packed before the next: what is read of them beside a panel's is the next one's.
    const INPUTS: usize = 32;
    let Strided { out_stride, in_stride, n, kk } = view;
    let room = packed_len::<W>(PANEL, kk);
    assert_eq!(packed.len(), panels.len() * room, "room for {} panels of {kk} inputs", panels.len());
    if kk == 0 {
        return;
    }
    // Where an output's weights lie side by side, they are read to their end.
    let inputs = if in_stride == 1 { kk } else { INPUTS };
    let mut square = [[0.0; PANEL]; PANEL];
    for first in (0..kk).step_by(inputs) {
        for (panel, packed) in panels.clone().zip(packed.chunks_exact_mut(room)) {
            let outputs = PANEL.min(n.saturating_sub(panel * PANEL));
            for k in (first..kk.min(first + inputs)).step_by(PANEL) {
                let count = PANEL.min(kk - k);
                // SAFETY: these are weights of outputs below n and inputs below kk.
                unsafe {
                    let from = w.add(panel * PANEL * out_stride + k * in_stride);
                    read(isa, from, Strided { n: outputs, kk: count, ..view }, &mut square);
                }
                let end = (k + count.next_multiple_of(W::TOGETHER)) * PANEL;
                W::put(&square, &mut packed[k * PANEL..end]);
            }
        }
    }
}

/// Reads a square; what the view has not is 0.
///
/// # Safety
///
/// The weights are there to read.
#[inline]
unsafe fn read(isa: Isa, from: *const f32, view: Strided, square: &mut Square) {
    let Strided { out_stride, in_stride, n, kk } = view;
    // SAFETY: the caller vouches for the weights; an Isa of these levels exists only where the CPU has the instructions.
    unsafe {
        match (isa.level(), out_stride, in_stride) {
            _ if (n, kk) != (PANEL, PANEL) => {
                *square = [[0.0; PANEL]; PANEL];
                for (k, line) in square.iter_mut().enumerate().take(kk) {
                    for (o, to) in line.iter_mut().enumerate().take(n) {
                        *to = *from.add(o * out_stride + k * in_stride);
                    }
                }
            }
            (_, 1, _) => {
                for (k, line) in square.iter_mut().enumerate() {
                    *line = from.add(k * in_stride).cast::<[f32; PANEL]>().read_unaligned();
                }
            }
            #[cfg(target_arch = "x86_64")]
            (Level::Avx2 | Level::Avx512, _, 1) => transpose(from, out_stride, square),
            _ => {
                for (k, line) in square.iter_mut().enumerate() {
                    for (o, to) in line.iter_mut().enumerate() {
                        *to = *from.add(o * out_stride + k * in_stride);
                    }
                }
            }
        }
    }
}

/// Reads 16 rows of 16 numbers, `stride` apart, as columns.
///
/// # Safety
///
/// They are there to read.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn transpose(from: *const f32, stride: usize, square: &mut Square) {
    use std::arch::x86_64::*;
    for (top, left) in [(0, 0), (0, 8), (8, 0), (8, 8)] {
        // SAFETY: the caller vouches for the numbers; a square's line has 16.
        unsafe {
            let row = |i: usize| _mm256_loadu_ps(from.add((top + i) * stride + left));
            // Pairs of rows, then fours, then all eight: each step moves what is twice as far from its place.
            let mut pairs = [_mm256_setzero_ps(); 8];
            for i in 0..4 {
                let (a, b) = (row(2 * i), row(2 * i + 1));
                (pairs[2 * i], pairs[2 * i + 1]) = (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
            }
            let mut fours = [_mm256_setzero_ps(); 8];
            for half in [0, 4] {
                for i in 0..2 {
                    let (a, b) = (pairs[half + i], pairs[half + i + 2]);
                    fours[half + 2 * i] = _mm256_shuffle_ps::<0x44>(a, b);
                    fours[half + 2 * i + 1] = _mm256_shuffle_ps::<0xee>(a, b);
                }
            }
            for i in 0..4 {
                let (a, b) = (fours[i], fours[i + 4]);
                let mut put = |k: usize, v| _mm256_storeu_ps(square[left + k][top..].as_mut_ptr(), v);
                put(i, _mm256_permute2f128_ps::<0x20>(a, b));
                put(i + 4, _mm256_permute2f128_ps::<0x31>(a, b));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::check::numbers;

    /// Where a product looks for a weight.
    fn place<W: Number>(kk: usize, o: usize, k: usize) -> usize {
        let panel = o / PANEL * packed_len::<W>(PANEL, kk);
        panel + (k / W::TOGETHER * PANEL + o % PANEL) * W::TOGETHER + k % W::TOGETHER
    }

    fn every_weight_is_in_its_place<W: Number>() {
        for isa in Isa::available() {
            for (n, kk) in [(1, 1), (16, 16), (15, 17), (48, 33), (40, 130), (33, 200), (0, 5), (5, 0)] {
                // As they lie, transposed, and every other one.
                let views = [(kk, 1, 1), (1, n, 1), (2 * kk, 2, 2)];
                for (out_stride, in_stride, times) in views {
                    let w = numbers(n * kk * times, 1);
                    let mut packed = vec![W::nearest(f32::NAN); packed_len::<W>(n, kk)];
                    pack(isa, &w, out_stride, in_stride, n, kk, &mut packed);
                    for o in 0..n.next_multiple_of(PANEL) {
                        for k in 0..kk.next_multiple_of(W::TOGETHER) {
                            let there = o < n && k < kk;
                            let want = if there { w[o * out_stride + k * in_stride] } else { 0.0 };
                            let got = packed[place::<W>(kk, o, k)].widened();
                            let want = W::nearest(want).widened();
                            assert_eq!(got, want, "output {o}, input {k} of {n} x {kk} ({isa})");
                        }
                    }
                    // By parts, as several workers do.
                    let (all, mut parts) = (n.div_ceil(PANEL), packed.clone());
                    parts.fill(W::nearest(f32::NAN));
                    let (first, second) = parts.split_at_mut(all / 2 * packed_len::<W>(PANEL, kk));
                    let view = Strided { out_stride, in_stride, n, kk };
                    // SAFETY: the weights lie in `w`.
                    unsafe {
                        pack_panels(isa, w.as_ptr(), view, 0..all / 2, first);
                        pack_panels(isa, w.as_ptr(), view, all / 2..all, second);
                    }
                    let same = packed.iter().zip(&parts).all(|(a, b)| a.widened() == b.widened());
                    assert!(same, "{n} x {kk} in two parts ({isa})");
                }
            }
        }
    }

    #[test]
    fn every_weight_is_packed_to_its_place_in_single_precision() {
        every_weight_is_in_its_place::<f32>();
    }

    #[test]
    fn every_weight_is_packed_to_its_place_in_half_the_bytes() {
        every_weight_is_in_its_place::<Bf16>();
    }
}
