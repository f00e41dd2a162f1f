//! Products of a weight matrix with few rows: what a loop over frames runs, once a frame.
//!
//! `out[r][o] (+)= sum over k of W[o, k] row[r][k]`, for up to some tens of rows r (streams), n outputs o and kk
//! inputs k.
//!
//! [`skinny`] wants the weights packed by [`pack`], once per update: in panels of 16 outputs, in each of which the 16
//! weights of one input lie together. A strided view of W says what is packed, so W and its transpose
//! run the same kernel. Blocks of rows and panels keep their sums in registers over all inputs: a weight is read once per
//! block of rows, and there are enough sums to hide the latency of the multiply-adds. Every sum runs over the
//! inputs in order, so a row's result does not depend on the other rows, nor on its place in the block.
//!
//! [`dot_rows`] and [`axpy_rows`] read the weights as they lie, for one or two rows, where packing would cost as
//! much as the product. They go along many rows of the weights at once, and suit weights that the second-level
//! cache holds.

#![allow(unsafe_code)] // raw rows of raw buffers, shared with other workers
#![allow(clippy::needless_range_loop)] // an index says which register

use super::isa::{Isa, Level};

/// Outputs of a panel.
pub const PANEL: usize = 16;

/// How many numbers the packed weights of n outputs and kk inputs take.
pub fn packed_len(n: usize, kk: usize) -> usize {
    n.next_multiple_of(PANEL) * kk
}

/// Packs the weights `W[o, k] = w[o * out_stride + k * in_stride]` of outputs 0..n and inputs 0..kk.
///
/// Panels lie one after the other, and outputs past n are zeros. Packed weights that start on a cache line (64
/// bytes) run fastest.
///
/// # Panics
///
/// If `packed` is not of [`packed_len`] numbers, or the weights do not lie in `w`.
pub fn pack(w: &[f32], out_stride: usize, in_stride: usize, n: usize, kk: usize, packed: &mut [f32]) {
    assert_eq!(packed.len(), packed_len(n, kk), "room for the packed weights of {n} outputs, {kk} inputs");
    if n == 0 || kk == 0 {
        return;
    }
    for (panel, packed) in packed.chunks_exact_mut(PANEL * kk).enumerate() {
        let first = panel * PANEL;
        let outputs = PANEL.min(n - first);
        let (lines, _) = packed.as_chunks_mut::<PANEL>();
        if out_stride == 1 {
            for (k, line) in lines.iter_mut().enumerate() {
                let from = first + k * in_stride;
                line[..outputs].copy_from_slice(&w[from..from + outputs]);
                line[outputs..].fill(0.0);
            }
            continue;
        }
        if outputs < PANEL {
            lines.as_flattened_mut().fill(0.0);
        }
        // Some lines at a time, so that they stay in the cache while output after output fills them.
        for (block, lines) in lines.chunks_mut(PANEL).enumerate() {
            let count = lines.len();
            for o in 0..outputs {
                let from = &w[(first + o) * out_stride + block * PANEL * in_stride..];
                if in_stride == 1 {
                    for (line, &w) in lines.iter_mut().zip(&from[..count]) {
                        line[o] = w;
                    }
                } else {
                    for (line, &w) in lines.iter_mut().zip(from.iter().step_by(in_stride)) {
                        line[o] = w;
                    }
                }
            }
        }
    }
}

/// `outs[r][o] = sum over k of W[o, k] rows[r][k]` for o in 0..n, or += if `accumulate`, with packed weights.
///
/// Any number of rows will do; up to some tens run best.
///
/// # Safety
///
/// `packed` points to the [`packed_len`] numbers that [`pack`] made, each of `rows` to kk numbers, and each of `outs` to n that may
/// be written and that none of the others shares. Nobody else writes any of them meanwhile, or reads `outs`.
///
/// # Panics
///
/// If there are not as many `outs` as `rows`.
#[inline]
pub unsafe fn skinny(
    isa: Isa,
    packed: *const f32,
    n: usize,
    kk: usize,
    rows: &[*const f32],
    outs: &[*mut f32],
    accumulate: bool,
) {
    assert_eq!(rows.len(), outs.len(), "a row to write for every row to read");
    let product = Product { packed, n, kk, accumulate };
    match isa.level() {
        // SAFETY: an Isa of this level exists only where the CPU has these instructions; the caller vouches for
        // the pointers.
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => unsafe { x86::skinny_avx2(product, rows, outs) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => unsafe { x86::skinny_avx512(product, rows, outs) },
        // SAFETY: the caller vouches for the pointers.
        _ => unsafe { portable::skinny(product, rows, outs) },
    }
}

/// What all blocks of a product share.
#[derive(Clone, Copy)]
struct Product {
    packed: *const f32,
    n: usize,
    kk: usize,
    accumulate: bool,
}

/// `outs[r][o] = sum over k of w[o * out_stride + k] rows[r][k]` for o in 0..n, or += if `accumulate`: dot products with the rows of
/// the weights as they lie.
///
/// # Safety
///
/// `w` points to weights as described; `rows` and `outs` are as for [`skinny`].
///
/// # Panics
///
/// If there are not as many `outs` as `rows`.
#[allow(clippy::too_many_arguments)]
#[inline]
pub unsafe fn dot_rows(
    isa: Isa,
    w: *const f32,
    out_stride: usize,
    n: usize,
    kk: usize,
    rows: &[*const f32],
    outs: &[*mut f32],
    accumulate: bool,
) {
    assert_eq!(rows.len(), outs.len(), "a row to write for every row to read");
    let weights = Weights { w, stride: out_stride, n, kk, accumulate };
    match isa.level() {
        // SAFETY: an Isa of this level exists only where the CPU has these instructions; the caller vouches for
        // the pointers.
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => unsafe { x86::dot_rows_avx2(weights, rows, outs) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => unsafe { x86::dot_rows_avx512(weights, rows, outs) },
        // SAFETY: the caller vouches for the pointers.
        _ => unsafe { dot_rows_body::<portable::Four>(weights, rows, outs) },
    }
}

/// `outs[r][o] = sum over k of w[k * in_stride + o] rows[r][k]` for o in 0..n, or += if `accumulate`: the rows of
/// the weights as they lie, each times an input, added up. With `w` a matrix [kk, n], the product with its
/// transpose.
///
/// # Safety
///
/// `w` points to weights as described; `rows` and `outs` are as for [`skinny`].
///
/// # Panics
///
/// If there are not as many `outs` as `rows`.
#[allow(clippy::too_many_arguments)]
#[inline]
pub unsafe fn axpy_rows(
    isa: Isa,
    w: *const f32,
    in_stride: usize,
    n: usize,
    kk: usize,
    rows: &[*const f32],
    outs: &[*mut f32],
    accumulate: bool,
) {
    assert_eq!(rows.len(), outs.len(), "a row to write for every row to read");
    let weights = Weights { w, stride: in_stride, n, kk, accumulate };
    match isa.level() {
        // SAFETY: an Isa of this level exists only where the CPU has these instructions; the caller vouches for
        // the pointers.
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => unsafe { x86::axpy_rows_avx2(weights, rows, outs) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => unsafe { x86::axpy_rows_avx512(weights, rows, outs) },
        // SAFETY: the caller vouches for the pointers.
        _ => unsafe { axpy_rows_body::<portable::Four>(weights, rows, outs) },
    }
}

/// What all blocks of a product with weights as they lie share.
#[derive(Clone, Copy)]
struct Weights {
    w: *const f32,
    stride: usize,
    n: usize,
    kk: usize,
    accumulate: bool,
}

/// Numbers side by side in a register. Its methods are to be called only where the CPU has its instructions.
trait Vector: Copy {
    /// How many; a divisor of [`PANEL`].
    const LANES: usize;

    /// # Safety
    /// The CPU has the instructions.
    unsafe fn splat(x: f32) -> Self;
    /// # Safety
    /// The CPU has the instructions, and LANES numbers lie at `from`.
    unsafe fn load(from: *const f32) -> Self;
    /// # Safety
    /// The CPU has the instructions, and LANES numbers may be written at `to`.
    unsafe fn store(self, to: *mut f32);
    /// # Safety
    /// The CPU has the instructions.
    unsafe fn add(self, other: Self) -> Self;
    /// self * b + c
    /// # Safety
    /// The CPU has the instructions.
    unsafe fn mul_add(self, b: Self, c: Self) -> Self;
    /// The same for one number.
    fn mul_add_one(a: f32, b: f32, c: f32) -> f32;
}

/// How a product is cut into blocks: rows of a block at most, and panels of a block of so many rows.
trait Blocking {
    const MAX_ROWS: usize;

    /// The largest block that fits, at least 1 panel, at most `left`.
    fn panels(rows: usize, left: usize) -> usize;

    /// # Safety
    /// As for [`block`].
    unsafe fn block(product: Product, panel: usize, panels: usize, rows: &[*const f32], outs: &[*mut f32]);
}

/// # Safety
///
/// As for [`skinny`], on a CPU that has the instructions of `B`.
#[inline(always)]
unsafe fn skinny_body<B: Blocking>(product: Product, rows: &[*const f32], outs: &[*mut f32]) {
    if rows.is_empty() {
        return;
    }
    let panels = product.n.div_ceil(PANEL);
    // Blocks as even as can be: a block of one row left over would run slowly.
    let blocks = rows.len().div_ceil(B::MAX_ROWS);
    let mut panel = 0;
    // All rows take their turn at some panels before the next ones: those panels stay in the cache.
    while panel < panels {
        let width = B::panels(rows.len().div_ceil(blocks), panels - panel);
        let mut first = 0;
        for block in 0..blocks {
            let end = (block + 1) * rows.len() / blocks;
            // SAFETY: the panels and rows lie in the product.
            unsafe { B::block(product, panel, width, &rows[first..end], &outs[first..end]) };
            first = end;
        }
        panel += width;
    }
}

/// The sums of ROWS rows and of VECS vectors of outputs, from `panel` on, in registers over all inputs.
///
/// # Safety
///
/// As for [`skinny`], on a CPU that has the instructions of `V`; ROWS rows; the panels lie in the product.
#[inline(always)]
unsafe fn block<V: Vector, const ROWS: usize, const VECS: usize>(
    product: Product,
    panel: usize,
    rows: &[*const f32],
    outs: &[*mut f32],
) {
    let Product { packed, n, kk, accumulate } = product;
    let per_panel = PANEL / V::LANES;
    let mut row = [std::ptr::null(); ROWS];
    row.copy_from_slice(&rows[..ROWS]);
    // SAFETY: weights up to the last panel and kk inputs of each row are there to read; of each output row the
    // n outputs are there to write, and no more are written.
    unsafe {
        let weights = packed.add(panel * PANEL * kk);
        let mut sums = [[V::splat(0.0); VECS]; ROWS];
        for k in 0..kk {
            let weight =
                |v: usize| weights.add(((v / per_panel) * kk + k) * PANEL + (v % per_panel) * V::LANES);
            // The fewer of both wait in registers while the others go by.
            if ROWS < VECS {
                let mut x = [V::splat(0.0); ROWS];
                for r in 0..ROWS {
                    x[r] = V::splat(*row[r].add(k));
                }
                for v in 0..VECS {
                    let w = V::load(weight(v));
                    for r in 0..ROWS {
                        sums[r][v] = w.mul_add(x[r], sums[r][v]);
                    }
                }
            } else {
                let mut w = [V::splat(0.0); VECS];
                for v in 0..VECS {
                    w[v] = V::load(weight(v));
                }
                for r in 0..ROWS {
                    let x = V::splat(*row[r].add(k));
                    for v in 0..VECS {
                        sums[r][v] = w[v].mul_add(x, sums[r][v]);
                    }
                }
            }
        }
        for r in 0..ROWS {
            for v in 0..VECS {
                let first = panel * PANEL + v * V::LANES;
                if first + V::LANES <= n {
                    let out = outs[r].add(first);
                    let before = if accumulate { V::load(out) } else { V::splat(0.0) };
                    // Added also where it is zero, so that -0 and 0 do not depend on the outputs' number.
                    sums[r][v].add(before).store(out);
                } else {
                    let mut lanes = [0.0; PANEL];
                    sums[r][v].store(lanes.as_mut_ptr());
                    for (o, sum) in (first..n).zip(lanes) {
                        let out = outs[r].add(o);
                        *out = sum + if accumulate { *out } else { 0.0 };
                    }
                }
            }
        }
    }
}

/// # Safety
///
/// As for [`dot_rows`], on a CPU that has the instructions of `V`.
#[inline(always)]
unsafe fn dot_rows_body<V: Vector>(weights: Weights, rows: &[*const f32], outs: &[*mut f32]) {
    for (rows, outs) in rows.chunks(2).zip(outs.chunks(2)) {
        let mut o = 0;
        while o < weights.n {
            let left = weights.n - o;
            // SAFETY: the outputs from o on lie in the weights and in the rows to write.
            o += unsafe {
                match (rows.len(), left) {
                    (1, 8..) => dots::<V, 1, 8>(weights, o, rows, outs),
                    (1, _) => dots::<V, 1, 1>(weights, o, rows, outs),
                    (_, 4..) => dots::<V, 2, 4>(weights, o, rows, outs),
                    _ => dots::<V, 2, 1>(weights, o, rows, outs),
                }
            };
        }
    }
}

/// OUTS dot products of each of ROWS rows, from output `first` on; gives OUTS.
///
/// # Safety
///
/// As for [`dot_rows_body`]; ROWS rows; the outputs lie in the weights.
#[inline(always)]
unsafe fn dots<V: Vector, const ROWS: usize, const OUTS: usize>(
    weights: Weights,
    first: usize,
    rows: &[*const f32],
    outs: &[*mut f32],
) -> usize {
    let Weights { w, stride, kk, accumulate, .. } = weights;
    // SAFETY: inputs 0..kk are there to read, in the rows and for each output; OUTS outputs are there to write.
    unsafe {
        let w = w.add(first * stride);
        let mut sums = [[V::splat(0.0); OUTS]; ROWS];
        let whole = kk - kk % V::LANES;
        let mut k = 0;
        while k < whole {
            let mut x = [V::splat(0.0); ROWS];
            for r in 0..ROWS {
                x[r] = V::load(rows[r].add(k));
            }
            for o in 0..OUTS {
                let w = V::load(w.add(o * stride + k));
                for r in 0..ROWS {
                    sums[r][o] = w.mul_add(x[r], sums[r][o]);
                }
            }
            k += V::LANES;
        }
        for r in 0..ROWS {
            for o in 0..OUTS {
                let mut lanes = [0.0; PANEL];
                sums[r][o].store(lanes.as_mut_ptr());
                let mut width = V::LANES / 2;
                while width > 0 {
                    for lane in 0..width {
                        lanes[lane] += lanes[lane + width];
                    }
                    width /= 2;
                }
                let mut sum = lanes[0];
                for k in whole..kk {
                    sum = V::mul_add_one(*w.add(o * stride + k), *rows[r].add(k), sum);
                }
                let out = outs[r].add(first + o);
                *out = sum + if accumulate { *out } else { 0.0 };
            }
        }
    }
    OUTS
}

/// # Safety
///
/// As for [`axpy_rows`], on a CPU that has the instructions of `V`.
#[inline(always)]
unsafe fn axpy_rows_body<V: Vector>(weights: Weights, rows: &[*const f32], outs: &[*mut f32]) {
    for (rows, outs) in rows.chunks(2).zip(outs.chunks(2)) {
        let mut o = 0;
        while o < weights.n {
            let vectors = (weights.n - o) / V::LANES;
            // SAFETY: the outputs from o on lie in the weights and in the rows to write.
            o += unsafe {
                match (rows.len(), vectors) {
                    (_, 0) => axpy_one(weights, o, rows, outs),
                    (1, 8..) => axpys::<V, 1, 8>(weights, o, rows, outs),
                    (1, _) => axpys::<V, 1, 1>(weights, o, rows, outs),
                    (_, 4..) => axpys::<V, 2, 4>(weights, o, rows, outs),
                    _ => axpys::<V, 2, 1>(weights, o, rows, outs),
                }
            };
        }
    }
}

/// VECS vectors of outputs of each of ROWS rows, from output `first` on, in registers over all inputs; gives how many outputs.
///
/// # Safety
///
/// As for [`axpy_rows_body`]; ROWS rows; the outputs lie in the weights.
#[inline(always)]
unsafe fn axpys<V: Vector, const ROWS: usize, const VECS: usize>(
    weights: Weights,
    first: usize,
    rows: &[*const f32],
    outs: &[*mut f32],
) -> usize {
    let Weights { w, stride, kk, accumulate, .. } = weights;
    // SAFETY: inputs 0..kk are there to read, in the rows and in the weights; the outputs are there to write.
    unsafe {
        let w = w.add(first);
        let mut sums = [[V::splat(0.0); VECS]; ROWS];
        for k in 0..kk {
            let mut x = [V::splat(0.0); ROWS];
            for r in 0..ROWS {
                x[r] = V::splat(*rows[r].add(k));
            }
            for v in 0..VECS {
                let w = V::load(w.add(k * stride + v * V::LANES));
                for r in 0..ROWS {
                    sums[r][v] = w.mul_add(x[r], sums[r][v]);
                }
            }
        }
        for r in 0..ROWS {
            for v in 0..VECS {
                let out = outs[r].add(first + v * V::LANES);
                let before = if accumulate { V::load(out) } else { V::splat(0.0) };
                sums[r][v].add(before).store(out);
            }
        }
    }
    VECS * V::LANES
}

/// The last outputs, fewer than a vector, of each row; gives how many.
///
/// # Safety
///
/// As for [`axpy_rows_body`].
unsafe fn axpy_one(weights: Weights, first: usize, rows: &[*const f32], outs: &[*mut f32]) -> usize {
    let Weights { w, stride, n, kk, accumulate } = weights;
    for (&row, &out) in rows.iter().zip(outs) {
        // SAFETY: the inputs and the outputs up to n are there.
        unsafe {
            let mut sums = [0.0; PANEL];
            for k in 0..kk {
                let x = *row.add(k);
                for (o, sum) in (first..n).zip(&mut sums) {
                    *sum += x * *w.add(k * stride + o);
                }
            }
            for (o, sum) in (first..n).zip(sums) {
                let out = out.add(o);
                *out = sum + if accumulate { *out } else { 0.0 };
            }
        }
    }
    n - first
}

/// Makes the choice between the blocks that an instruction set has.
macro_rules! blocks {
    ($block:ident, $vectors:literal, $product:expr, $panel:expr, $panels:expr, $rows:expr, $outs:expr;
     $($r:literal => $($p:literal)*;)*) => {
        match ($rows.len(), $panels) {
            $($(
                // SAFETY: the caller of Blocking::block vouches for everything.
                ($r, $p) => unsafe { $block::<$r, { $p * $vectors }>($product, $panel, $rows, $outs) },
            )*)*
            _ => unreachable!("Blocking::panels gives the blocks listed here, and no others"),
        }
    };
}

mod portable {
    //! For every CPU: arrays of 4 numbers, which the compiler knows how to keep in registers.

    use super::{Blocking, Product, Vector, block, skinny_body};
    use crate::kernels::isa::{PORTABLE_FMA, mul_add};

    #[derive(Clone, Copy)]
    pub(super) struct Four([f32; 4]);

    impl Vector for Four {
        const LANES: usize = 4;

        #[inline(always)]
        unsafe fn splat(x: f32) -> Self {
            Four([x; 4])
        }

        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            // SAFETY: the caller vouches for 4 numbers at `from`; the read asks for no alignment.
            Four(unsafe { from.cast::<[f32; 4]>().read_unaligned() })
        }

        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: the caller vouches for room for 4 numbers at `to`; the write asks for no alignment.
            unsafe { to.cast::<[f32; 4]>().write_unaligned(self.0) }
        }

        #[inline(always)]
        unsafe fn add(self, other: Self) -> Self {
            let ([a, b, c, d], [e, f, g, h]) = (self.0, other.0);
            Four([a + e, b + f, c + g, d + h])
        }

        #[inline(always)]
        unsafe fn mul_add(self, b: Self, c: Self) -> Self {
            let mut sum = c;
            for lane in 0..4 {
                sum.0[lane] = mul_add::<PORTABLE_FMA>(self.0[lane], b.0[lane], c.0[lane]);
            }
            sum
        }

        #[inline(always)]
        fn mul_add_one(a: f32, b: f32, c: f32) -> f32 {
            mul_add::<PORTABLE_FMA>(a, b, c)
        }
    }

    struct Portable;

    impl Blocking for Portable {
        const MAX_ROWS: usize = 2;

        #[inline(always)]
        fn panels(rows: usize, left: usize) -> usize {
            if rows == 1 && left >= 2 { 2 } else { 1 }
        }

        #[inline(always)]
        unsafe fn block(
            product: Product,
            panel: usize,
            panels: usize,
            rows: &[*const f32],
            outs: &[*mut f32],
        ) {
            blocks! { four, 4, product, panel, panels, rows, outs;
                1 => 1 2;
                2 => 1;
            }
        }
    }

    /// # Safety
    /// As for [`block`].
    unsafe fn four<const ROWS: usize, const VECS: usize>(
        product: Product,
        panel: usize,
        rows: &[*const f32],
        outs: &[*mut f32],
    ) {
        // SAFETY: the caller vouches for everything.
        unsafe { block::<Four, ROWS, VECS>(product, panel, rows, outs) }
    }

    /// # Safety
    /// As for [`super::skinny`].
    pub(super) unsafe fn skinny(product: Product, rows: &[*const f32], outs: &[*mut f32]) {
        // SAFETY: the caller vouches for everything.
        unsafe { skinny_body::<Portable>(product, rows, outs) }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    //! For x86-64: 8 numbers with AVX2, 16 with AVX-512.

    use super::{Blocking, Product, Vector, Weights, axpy_rows_body, block, dot_rows_body, skinny_body};
    use std::arch::x86_64::*;

    macro_rules! vector {
        ($vector:ident, $lanes:literal, $splat:ident, $load:ident, $store:ident, $add:ident, $mul_add:ident) => {
            impl Vector for $vector {
                const LANES: usize = $lanes;

                #[inline(always)]
                unsafe fn splat(x: f32) -> Self {
                    // SAFETY: the caller vouches for the instructions.
                    unsafe { $splat(x) }
                }

                #[inline(always)]
                unsafe fn load(from: *const f32) -> Self {
                    // SAFETY: the caller vouches for the instructions and the numbers.
                    unsafe { $load(from) }
                }

                #[inline(always)]
                unsafe fn store(self, to: *mut f32) {
                    // SAFETY: the caller vouches for the instructions and the room.
                    unsafe { $store(to, self) }
                }

                #[inline(always)]
                unsafe fn add(self, other: Self) -> Self {
                    // SAFETY: the caller vouches for the instructions.
                    unsafe { $add(self, other) }
                }

                #[inline(always)]
                unsafe fn mul_add(self, b: Self, c: Self) -> Self {
                    // SAFETY: the caller vouches for the instructions.
                    unsafe { $mul_add(self, b, c) }
                }

                #[inline(always)]
                fn mul_add_one(a: f32, b: f32, c: f32) -> f32 {
                    a.mul_add(b, c)
                }
            }
        };
    }
    vector!(__m256, 8, _mm256_set1_ps, _mm256_loadu_ps, _mm256_storeu_ps, _mm256_add_ps, _mm256_fmadd_ps);
    vector!(__m512, 16, _mm512_set1_ps, _mm512_loadu_ps, _mm512_storeu_ps, _mm512_add_ps, _mm512_fmadd_ps);

    /// 16 registers: 12 sums at most, and at least 8, the latency of a multiply-add times two a cycle.
    struct Avx2;

    impl Blocking for Avx2 {
        const MAX_ROWS: usize = 6;

        #[inline(always)]
        fn panels(rows: usize, left: usize) -> usize {
            match (rows, left) {
                (1, 4..) => 4,
                (1..=3, 2..) => 2,
                _ => 1,
            }
        }

        #[inline(always)]
        unsafe fn block(
            product: Product,
            panel: usize,
            panels: usize,
            rows: &[*const f32],
            outs: &[*mut f32],
        ) {
            blocks! { block_avx2, 2, product, panel, panels, rows, outs;
                1 => 1 2 4;
                2 => 1 2;
                3 => 1 2;
                4 => 1;
                5 => 1;
                6 => 1;
            }
        }
    }

    /// 32 registers: 8 to 24 sums.
    struct Avx512;

    impl Blocking for Avx512 {
        const MAX_ROWS: usize = 12;

        #[inline(always)]
        fn panels(rows: usize, left: usize) -> usize {
            match (rows, left) {
                (1, 8..) => 8,
                (1..=4, 4..) => 4,
                (_, 2..) => 2,
                _ => 1,
            }
        }

        #[inline(always)]
        unsafe fn block(
            product: Product,
            panel: usize,
            panels: usize,
            rows: &[*const f32],
            outs: &[*mut f32],
        ) {
            blocks! { block_avx512, 1, product, panel, panels, rows, outs;
                1 => 1 2 4 8;
                2 => 1 2 4;
                3 => 1 2 4;
                4 => 1 2 4;
                5 => 1 2;
                6 => 1 2;
                7 => 1 2;
                8 => 1 2;
                9 => 1 2;
                10 => 1 2;
                11 => 1 2;
                12 => 1 2;
            }
        }
    }

    macro_rules! versions {
        ($features:literal, $vector:ident, $blocking:ident, $block:ident, $skinny:ident, $dot_rows:ident, $axpy_rows:ident) => {
            #[target_feature(enable = $features)]
            unsafe fn $block<const ROWS: usize, const VECS: usize>(
                product: Product,
                panel: usize,
                rows: &[*const f32],
                outs: &[*mut f32],
            ) {
                // SAFETY: the CPU has the instructions, as this function's attribute asks; the caller vouches for
                // the rest.
                unsafe { block::<$vector, ROWS, VECS>(product, panel, rows, outs) }
            }

            #[target_feature(enable = $features)]
            pub(super) unsafe fn $skinny(product: Product, rows: &[*const f32], outs: &[*mut f32]) {
                // SAFETY: as above.
                unsafe { skinny_body::<$blocking>(product, rows, outs) }
            }

            #[target_feature(enable = $features)]
            pub(super) unsafe fn $dot_rows(weights: Weights, rows: &[*const f32], outs: &[*mut f32]) {
                // SAFETY: as above.
                unsafe { dot_rows_body::<$vector>(weights, rows, outs) }
            }

            #[target_feature(enable = $features)]
            pub(super) unsafe fn $axpy_rows(weights: Weights, rows: &[*const f32], outs: &[*mut f32]) {
                // SAFETY: as above.
                unsafe { axpy_rows_body::<$vector>(weights, rows, outs) }
            }
        };
    }
    versions!("avx2,fma", __m256, Avx2, block_avx2, skinny_avx2, dot_rows_avx2, axpy_rows_avx2);
    versions!(
        "avx2,fma,avx512f,avx512vl,avx512bw,avx512dq",
        __m512,
        Avx512,
        block_avx512,
        skinny_avx512,
        dot_rows_avx512,
        axpy_rows_avx512
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Uneven numbers in [-1, 1].
    fn numbers(count: usize, seed: usize) -> Vec<f32> {
        (0..count).map(|i| (((i + 31 * seed) * 7919) % 2003) as f32 / 1001.0 - 1.0).collect()
    }

    /// Rows of numbers in one buffer, with NaN between them, before and after: whoever reads past a row's end is
    /// found out, and so is whoever writes there.
    struct Rows {
        buffer: Vec<f32>,
        length: usize,
        count: usize,
    }

    const BORDER: usize = 17;

    impl Rows {
        fn new(count: usize, length: usize, value: impl Fn(usize, usize) -> f32) -> Rows {
            let mut buffer = vec![f32::NAN; BORDER + count * (length + BORDER)];
            for r in 0..count {
                for i in 0..length {
                    buffer[BORDER + r * (length + BORDER) + i] = value(r, i);
                }
            }
            Rows { buffer, length, count }
        }

        fn get(&self, row: usize, i: usize) -> f32 {
            self.buffer[BORDER + row * (self.length + BORDER) + i]
        }

        fn pointers(&mut self) -> Vec<*mut f32> {
            let stride = self.length + BORDER;
            let start = self.buffer.as_mut_ptr();
            // Wrapping, since there may be no rows.
            (0..self.count).map(|r| start.wrapping_add(BORDER + r * stride)).collect()
        }

        fn borders_are_untouched(&self) -> bool {
            let stride = self.length + BORDER;
            self.buffer.iter().enumerate().all(|(i, x)| {
                let inside = i >= BORDER && (i - BORDER) % stride < self.length;
                inside || x.is_nan()
            })
        }
    }

    /// Checks one way to multiply, with weights W[o, k] = w[o * out_stride + k * in_stride].
    fn check(
        what: &str,
        (w, out_stride, in_stride): (&[f32], usize, usize),
        (n, kk, count): (usize, usize, usize),
        product: impl Fn(&[*const f32], &[*mut f32], bool),
    ) {
        let x = numbers(count * kk, 3);
        let mut rows = Rows::new(count, kk, |r, k| x[r * kk + k]);
        for accumulate in [false, true] {
            let before = |r, o| if accumulate { (r * 5 + o) as f32 } else { f32::NAN };
            let mut outs = Rows::new(count, n, before);
            let inputs: Vec<*const f32> = rows.pointers().into_iter().map(|p| p.cast_const()).collect();
            product(&inputs, &outs.pointers(), accumulate);
            assert!(outs.borders_are_untouched(), "{what} wrote past a row: n {n}, kk {kk}, rows {count}");
            for r in 0..count {
                for o in 0..n {
                    let (mut want, mut size) = (0.0, 0.0);
                    if accumulate {
                        want = f64::from(before(r, o));
                        size = want;
                    }
                    for k in 0..kk {
                        let term = f64::from(w[o * out_stride + k * in_stride]) * f64::from(rows.get(r, k));
                        want += term;
                        size += term.abs();
                    }
                    let got = f64::from(outs.get(r, o));
                    assert!(
                        (got - want).abs() <= 1e-7 * (4.0 + (kk as f64).sqrt()) * size,
                        "{what}: {got}, not {want}, at row {r}, output {o}; n {n}, kk {kk}, rows {count}"
                    );
                }
            }
        }
    }

    /// Shapes about every edge of the panels and blocks: all small ones with a few rows, some with all numbers of rows.
    fn shapes() -> impl Iterator<Item = (usize, usize, usize)> {
        let small = (0..40).flat_map(|n| (0..40).map(move |kk| (n, kk, 1 + (n * 7 + kk * 3) % 20)));
        let tall = [(1, 1), (15, 33), (17, 8), (40, 5), (83, 20), (129, 16), (161, 3)];
        let tall = tall.into_iter().flat_map(|(n, kk)| (0..=26).map(move |rows| (n, kk, rows)));
        let large = [(257, 131, 1), (257, 131, 2), (301, 517, 3), (190, 1031, 7), (515, 77, 13)];
        small.chain(tall).chain(large)
    }

    #[test]
    fn packed_products_agree_with_double_precision_at_every_edge() {
        for isa in Isa::available() {
            for (n, kk, rows) in shapes() {
                let w = numbers(n * kk, 1);
                // W as it lies, and its transpose.
                for (out_stride, in_stride) in [(kk, 1), (1, n)] {
                    // Shifted within the buffer, so that the weights are on no boundary; NaN after their end.
                    let length = packed_len(n, kk);
                    let mut packed = vec![f32::NAN; length + 2 * BORDER];
                    pack(&w, out_stride, in_stride, n, kk, &mut packed[1..=length]);
                    let from = packed[1..].as_ptr();
                    check(
                        &format!("skinny ({isa})"),
                        (&w, out_stride, in_stride),
                        (n, kk, rows),
                        |rows, outs, add| {
                            // SAFETY: the weights are packed for n and kk; the rows have kk and n numbers.
                            unsafe { skinny(isa, from, n, kk, rows, outs, add) }
                        },
                    );
                }
            }
        }
    }

    #[test]
    fn products_with_weights_as_they_lie_agree_with_double_precision_at_every_edge() {
        for isa in Isa::available() {
            for (n, kk, rows) in shapes() {
                // Each row of the weights has a border.
                let dot_stride = kk + BORDER;
                let axpy_stride = n + BORDER;
                let values = numbers(n * kk, 1);
                let by_output = Rows::new(n, kk, |o, k| values[o * kk + k]);
                let by_input = Rows::new(kk, n, |k, o| values[o * kk + k]);
                let w = &by_output.buffer[BORDER..];
                check(&format!("dot_rows ({isa})"), (w, dot_stride, 1), (n, kk, rows), |rows, outs, add| {
                    // SAFETY: n rows of kk weights lie dot_stride apart; the rows have kk and n numbers.
                    unsafe { dot_rows(isa, w.as_ptr(), dot_stride, n, kk, rows, outs, add) }
                });
                let w = &by_input.buffer[BORDER..];
                check(
                    &format!("axpy_rows ({isa})"),
                    (w, 1, axpy_stride),
                    (n, kk, rows),
                    |rows, outs, add| {
                        // SAFETY: kk rows of n weights lie axpy_stride apart; the rows have kk and n numbers.
                        unsafe { axpy_rows(isa, w.as_ptr(), axpy_stride, n, kk, rows, outs, add) }
                    },
                );
            }
        }
    }

    #[test]
    fn a_row_s_result_does_not_depend_on_the_other_rows() {
        let (n, kk) = (83, 37);
        let mut packed = vec![0.0; packed_len(n, kk)];
        pack(&numbers(n * kk, 1), kk, 1, n, kk, &mut packed);
        let x = numbers(kk, 2);
        for isa in Isa::available() {
            let mut alone = vec![0.0; n];
            // SAFETY: the weights are packed for n and kk; the rows have kk and n numbers.
            unsafe { skinny(isa, packed.as_ptr(), n, kk, &[x.as_ptr()], &[alone.as_mut_ptr()], false) };
            for count in 2..30 {
                let mut outs = Rows::new(count, n, |_, _| 0.0);
                // SAFETY: as above; all rows read the same numbers.
                unsafe {
                    skinny(isa, packed.as_ptr(), n, kk, &vec![x.as_ptr(); count], &outs.pointers(), false)
                };
                for r in 0..count {
                    assert!((0..n).all(|o| outs.get(r, o) == alone[o]), "row {r} of {count} ({isa})");
                }
            }
        }
    }
}
