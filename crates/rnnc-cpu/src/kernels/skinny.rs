//! Products of a weight matrix with few rows: what a loop over frames runs, once a frame.
//!
//! `out[r][o] (+)= sum over k of W[o, k] row[r][k]`, for rows r (streams), n outputs o and kk inputs k.
//!
//! The weights are packed by [`pack`](super::pack::pack), once per update. A strided view of W says what is packed, so W and
//! its transpose run the same kernel. Blocks of rows and panels keep their sums in registers over all inputs, or some hundreds of them:
//! a weight is read once per block of rows, and there are enough sums to hide the latency of the multiply-adds.
//! Every sum runs over the inputs in order, so a row's result does not depend on its place in the block, and on the
//! other rows only in so far as their number decides where long sums are cut.

#![allow(unsafe_code)] // raw rows of raw buffers, shared with other workers
#![allow(clippy::needless_range_loop)] // an index says which register

use super::numbers::{Bf16, MOST_TOGETHER, Number};
use super::pack::packed_len;
use super::panel::PANEL;
use super::vector::{Four, Vector, put_some_sums, put_sums, vectorize};
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{__m256, __m512};
use std::mem::MaybeUninit;

vectorize! {
    /// `outs[r][o] = sum over k of W[o, k] rows[r][k]` for o in 0..n, or += if `accumulate`, with packed
    /// weights.
    ///
    /// Any number of rows will do.
    ///
    /// # Safety
    ///
    /// `packed` points to the [`packed_len`] numbers that [`pack`](super::pack::pack) made, each of `rows` to kk numbers, and
    /// each of `outs` to n that may be written and that none of the others shares. Nobody else writes any of
    /// them meanwhile, or reads `outs`.
    ///
    /// # Panics
    ///
    /// If there are not as many `outs` as `rows`.
    pub unsafe fn skinny(
        packed: *const f32,
        n: usize,
        kk: usize,
        rows: &[*const f32],
        outs: &[*mut f32],
        accumulate: bool,
    ) = skinny_body;

    /// [`skinny`] with weights packed in half the bytes, widened on the way to the registers.
    ///
    /// # Safety
    ///
    /// As for [`skinny`].
    ///
    /// # Panics
    ///
    /// As [`skinny`].
    pub unsafe fn skinny_bf16(
        packed: *const Bf16,
        n: usize,
        kk: usize,
        rows: &[*const f32],
        outs: &[*mut f32],
        accumulate: bool,
    ) = skinny_bf16_body;
}

/// # Safety
///
/// As for [`skinny`], on a CPU that has the instructions of `B`.
#[inline(always)]
unsafe fn skinny_body<B: Blocking>(
    packed: *const f32,
    n: usize,
    kk: usize,
    rows: &[*const f32],
    outs: &[*mut f32],
    accumulate: bool,
) {
    // SAFETY: the caller vouches for everything.
    unsafe { product::<B, f32>(packed, n, kk, rows, outs, accumulate) }
}

/// # Safety
///
/// As for [`skinny`], on a CPU that has the instructions of `B`.
#[inline(always)]
unsafe fn skinny_bf16_body<B: Blocking>(
    packed: *const Bf16,
    n: usize,
    kk: usize,
    rows: &[*const f32],
    outs: &[*mut f32],
    accumulate: bool,
) {
    // SAFETY: the caller vouches for everything.
    unsafe { product::<B, Bf16>(packed, n, kk, rows, outs, accumulate) }
}

/// Inputs that all panels are multiplied with before the next ones: so many of a block's rows stay in the first-level cache
/// while panels take their turn.
const INPUTS: usize = 256;

/// Panels that all blocks of rows are multiplied with before the next ones: with so many inputs, their weights stay in the
/// second-level cache.
const GROUP: usize = 16;

/// For less panels than these, rows are not copied.
const WORTH_COPYING: usize = 8;

/// How weights come to a register.
trait Load: Number {
    /// The weights of one of the inputs that lie together.
    ///
    /// # Safety
    /// As for [`Vector::load`], with so many times the LANES.
    unsafe fn load<V: Vector>(from: *const Self, input: usize) -> V;
}

impl Load for f32 {
    #[inline(always)]
    unsafe fn load<V: Vector>(from: *const f32, _: usize) -> V {
        // SAFETY: the caller vouches for the instructions and the numbers.
        unsafe { V::load(from) }
    }
}

impl Load for Bf16 {
    #[inline(always)]
    unsafe fn load<V: Vector>(from: *const Bf16, input: usize) -> V {
        // SAFETY: the caller vouches for the instructions and the numbers, each of which is its bits.
        unsafe { if input == 0 { V::load_firsts(from.cast()) } else { V::load_seconds(from.cast()) } }
    }
}

/// What all blocks of a product share.
#[derive(Clone, Copy)]
struct Product<W> {
    packed: *const W,
    n: usize,
    kk: usize,
    /// The first input, and one past the last.
    inputs: (usize, usize),
    accumulate: bool,
}

/// How a product is cut into blocks whose sums fit the registers.
trait Blocking: Vector {
    /// The most rows of a block.
    const MAX_ROWS: usize;

    /// Panels of a block of so many rows: at least 1, at most `left`.
    fn panels(rows: usize, left: usize) -> usize;

    /// # Safety
    /// As for [`block`]; as many panels as [`Blocking::panels`] gives.
    unsafe fn block<W: Load>(
        product: Product<W>,
        panel: usize,
        panels: usize,
        rows: &[*const f32],
        outs: &[*mut f32],
    );
}

/// # Safety
///
/// As for [`skinny`], on a CPU that has the instructions of `B`.
#[inline(always)]
unsafe fn product<B: Blocking, W: Load>(
    packed: *const W,
    n: usize,
    kk: usize,
    rows: &[*const f32],
    outs: &[*mut f32],
    accumulate: bool,
) {
    assert_eq!(rows.len(), outs.len(), "a row to write for every row to read");
    if rows.is_empty() {
        return;
    }
    let panels = n.div_ceil(PANEL);
    // Blocks as even as can be: a block of one row left over would run slowly.
    let blocks = rows.len().div_ceil(B::MAX_ROWS);
    // A single block reads every weight once: only its rows are to stay in the cache.
    let (most, group) = if blocks == 1 { (4 * INPUTS, panels.max(1)) } else { (INPUTS, GROUP) };
    let parts = kk.div_ceil(most).max(1);
    let mut copies = Copies::new();
    for part in 0..parts {
        let border =
            |part: usize| if part < parts { (kk * part / parts).next_multiple_of(W::TOGETHER) } else { kk };
        let inputs = (border(part), border(part + 1));
        let product = Product { packed, n, kk, inputs, accumulate: accumulate || part > 0 };
        // All rows take their turn at a group of panels before the next one: its weights stay in the cache.
        for group in (0..panels).step_by(group).map(|first| first..panels.min(first + group)) {
            for block in 0..blocks {
                let own = block * rows.len() / blocks..(block + 1) * rows.len() / blocks;
                let (mut rows, outs) = (&rows[own.clone()], &outs[own]);
                if blocks > 1 && group.len() >= WORTH_COPYING && lie_apart(rows) {
                    // SAFETY: the inputs of each row are there to read.
                    rows = unsafe { copies.of(rows, inputs) };
                }
                let mut panel = group.start;
                while panel < group.end {
                    let width = B::panels(rows.len(), group.end - panel);
                    // SAFETY: the panels and rows lie in the product.
                    unsafe { B::block(product, panel, width, rows, outs) };
                    panel += width;
                }
            }
        }
    }
}

/// Bytes from a row to the next, more than which are far.
const FAR: usize = 2048;

/// Whether rows lie far from each other.
fn lie_apart(rows: &[*const f32]) -> bool {
    rows.windows(2).any(|pair| pair[0].addr().abs_diff(pair[1].addr()) > FAR)
}

/// A block's inputs, copied side by side. Where they lie, rows may be a power of two apart, so that their lines share few
/// places in the cache, and each is on a page of its own.
struct Copies {
    numbers: Lines,
    rows: [*const f32; MOST_ROWS],
}

#[repr(align(64))]
struct Lines([MaybeUninit<f32>; MOST_ROWS * COPY]);

/// The most rows of a block, whatever the instructions.
const MOST_ROWS: usize = 12;

/// Numbers from one copy to the next: a cache line more than there are in a part of the inputs.
const COPY: usize = INPUTS + 16;

impl Copies {
    #[inline(always)]
    fn new() -> Copies {
        Copies { numbers: Lines([MaybeUninit::uninit(); _]), rows: [std::ptr::null(); _] }
    }

    /// Copies some inputs, at most [`COPY`], of at most [`MOST_ROWS`] rows. What it gives points to where input 0 would be.
    ///
    /// # Safety
    ///
    /// The inputs of each row are there to read.
    #[inline(always)]
    unsafe fn of(&mut self, rows: &[*const f32], inputs: (usize, usize)) -> &[*const f32] {
        let count = inputs.1 - inputs.0;
        for (place, row) in rows.iter().enumerate() {
            let to = self.numbers.0[place * COPY..(place + 1) * COPY][..count].as_mut_ptr().cast::<f32>();
            // SAFETY: so many are there to read, and there is room for them.
            unsafe { row.add(inputs.0).copy_to_nonoverlapping(to, count) };
            self.rows[place] = to.cast_const().wrapping_sub(inputs.0);
        }
        &self.rows[..rows.len()]
    }
}

/// The sums of ROWS rows and of VECS vectors of outputs, from `panel` on, in registers over the inputs.
///
/// # Safety
///
/// As for [`skinny`], on a CPU that has the instructions of `V`; ROWS rows; the panels lie in the product.
#[inline(always)]
unsafe fn block<V: Vector, W: Load, const ROWS: usize, const VECS: usize>(
    product: Product<W>,
    panel: usize,
    rows: &[*const f32],
    outs: &[*mut f32],
) {
    let Product { packed, n, kk, inputs, accumulate } = product;
    let per_panel = PANEL / V::LANES;
    let mut row = [std::ptr::null(); ROWS];
    row.copy_from_slice(&rows[..ROWS]);
    // SAFETY: weights up to the last panel and kk inputs of each row are there to read; of each output row
    // the n outputs are there to write, and no more are written.
    unsafe {
        let weights = packed.add(panel * packed_len::<W>(PANEL, kk));
        let mut sums = [[V::splat(0.0); VECS]; ROWS];
        for k in (inputs.0..inputs.1).step_by(W::TOGETHER) {
            let weight = |v: usize| {
                let line = v / per_panel * packed_len::<W>(PANEL, kk) + k * PANEL;
                weights.add(line + v % per_panel * V::LANES * W::TOGETHER)
            };
            // Past the last input weights are zeros.
            let x = |r: usize, i: usize| {
                V::splat(if i == 0 || k + i < inputs.1 { *row[r].add(k + i) } else { 0.0 })
            };
            // The fewer of both wait in registers while the others go by.
            if ROWS < VECS {
                let mut xs = [[V::splat(0.0); MOST_TOGETHER]; ROWS];
                for r in 0..ROWS {
                    for i in 0..W::TOGETHER {
                        xs[r][i] = x(r, i);
                    }
                }
                for v in 0..VECS {
                    for i in 0..W::TOGETHER {
                        let w: V = W::load(weight(v), i);
                        for r in 0..ROWS {
                            sums[r][v] = w.mul_add(xs[r][i], sums[r][v]);
                        }
                    }
                }
            } else {
                for i in 0..W::TOGETHER {
                    let mut w = [V::splat(0.0); VECS];
                    for v in 0..VECS {
                        w[v] = W::load(weight(v), i);
                    }
                    for r in 0..ROWS {
                        let x = x(r, i);
                        for v in 0..VECS {
                            sums[r][v] = w[v].mul_add(x, sums[r][v]);
                        }
                    }
                }
            }
        }
        let first = panel * PANEL;
        if n - first >= VECS * V::LANES {
            put_sums(&sums, |r| outs[r].add(first), accumulate);
        } else {
            put_some_sums(&sums, (ROWS, n - first), |r, o| outs[r].add(first + o), accumulate);
        }
    }
}

/// Makes a [`Blocking`]: which numbers of panels go with which numbers of rows, and the code for each.
macro_rules! blocking {
    ($vector:ident, $block:ident, $(#[$feature:meta])? max $max:literal,
     panels $panels:expr, $($rows:literal => $($width:literal)*;)*) => {
        impl Blocking for $vector {
            const MAX_ROWS: usize = {
                assert!($max <= MOST_ROWS);
                $max
            };

            #[inline(always)]
            fn panels(rows: usize, left: usize) -> usize {
                $panels(rows, left)
            }

            #[inline(always)]
            unsafe fn block<W: Load>(
                product: Product<W>,
                panel: usize,
                panels: usize,
                rows: &[*const f32],
                outs: &[*mut f32],
            ) {
                const VECTORS: usize = PANEL / <$vector as Vector>::LANES;
                match (rows.len(), panels) {
                    $($(
                        // SAFETY: the caller vouches for everything.
                        ($rows, $width) => unsafe {
                            $block::<W, $rows, { $width * VECTORS }>(product, panel, rows, outs);
                        },
                    )*)*
                    _ => unreachable!("the blocks of {} rows and {panels} panels are listed here", rows.len()),
                }
            }
        }

        $(#[$feature])?
        unsafe fn $block<W: Load, const ROWS: usize, const VECS: usize>(
            product: Product<W>,
            panel: usize,
            rows: &[*const f32],
            outs: &[*mut f32],
        ) {
            // SAFETY: the attribute asks for the instructions, if not every CPU has them; the caller vouches
            // for the rest.
            unsafe { block::<$vector, W, ROWS, VECS>(product, panel, rows, outs) }
        }
    };
}

// 16 registers of 4, at the least: 8 sums.
blocking! {
    Four, block_portable, max 2,
    panels |rows, left| if rows == 1 && left >= 2 { 2 } else { 1 },
    1 => 1 2;
    2 => 1;
}

// 16 registers of 8: 12 sums at most, and 8 at least, the latency of a multiply-add times two a cycle.
#[cfg(target_arch = "x86_64")]
blocking! {
    __m256, block_avx2, #[target_feature(enable = "avx2,fma")] max 6,
    panels |rows, left| match (rows, left) {
        (1, 4..) => 4,
        (1..=3, 2..) => 2,
        _ => 1,
    },
    1 => 1 2 4;
    2 => 1 2;
    3 => 1 2;
    4 => 1;
    5 => 1;
    6 => 1;
}

// 32 registers of 16: 8 to 24 sums.
#[cfg(target_arch = "x86_64")]
blocking! {
    __m512, block_avx512, #[target_feature(enable = "avx2,fma,avx512f,avx512vl,avx512bw,avx512dq")] max 12,
    panels |rows, left| match (rows, left) {
        (1, 8..) => 8,
        (1..=6, 4..) => 4,
        (7..=8, 3..) => 3,
        (_, 2..) => 2,
        _ => 1,
    },
    1 => 1 2 4 8;
    2 => 1 2 4;
    3 => 1 2 4;
    4 => 1 2 4;
    5 => 1 2 4;
    6 => 1 2 4;
    7 => 1 2 3;
    8 => 1 2 3;
    9 => 1 2;
    10 => 1 2;
    11 => 1 2;
    12 => 1 2;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::check::{BORDER, BorderedRows, check, numbers, shapes};
    use crate::kernels::isa::Isa;
    use crate::kernels::pack::pack;

    #[test]
    fn packed_products_agree_with_double_precision_at_every_edge() {
        for isa in Isa::available() {
            for (n, kk, rows) in shapes() {
                let w = numbers(n * kk, 1);
                // W as it lies, and its transpose.
                for (out_stride, in_stride) in [(kk, 1), (1, n)] {
                    // Shifted within the buffer, so that the weights are on no boundary; NaN after their end.
                    let length = packed_len::<f32>(n, kk);
                    let mut packed = vec![f32::NAN; length + 2 * BORDER];
                    pack(isa, &w, out_stride, in_stride, n, kk, &mut packed[1..=length]);
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
    fn products_with_weights_in_half_the_bytes_agree_with_the_rounded_weights_at_every_edge() {
        for isa in Isa::available() {
            for (n, kk, rows) in shapes() {
                let w = numbers(n * kk, 1);
                let rounded: Vec<f32> = w.iter().map(|&w| Bf16::nearest(w).widened()).collect();
                for (out_stride, in_stride) in [(kk, 1), (1, n)] {
                    let length = packed_len::<Bf16>(n, kk);
                    let mut packed = vec![Bf16::nearest(f32::NAN); length + 2 * BORDER];
                    pack(isa, &w, out_stride, in_stride, n, kk, &mut packed[1..=length]);
                    let from = packed[1..].as_ptr();
                    check(
                        &format!("skinny_bf16 ({isa})"),
                        (&rounded, out_stride, in_stride),
                        (n, kk, rows),
                        |rows, outs, add| {
                            // SAFETY: the weights are packed for n and kk; the rows have kk and n numbers.
                            unsafe { skinny_bf16(isa, from, n, kk, rows, outs, add) }
                        },
                    );
                }
            }
        }
    }

    #[test]
    fn a_row_s_result_does_not_depend_on_the_other_rows() {
        let (n, kk) = (83, 37);
        let mut packed = vec![0.0; packed_len::<f32>(n, kk)];
        let x = numbers(kk, 2);
        for isa in Isa::available() {
            pack(isa, &numbers(n * kk, 1), kk, 1, n, kk, &mut packed);
            let mut alone = vec![0.0; n];
            // SAFETY: the weights are packed for n and kk; the rows have kk and n numbers.
            unsafe { skinny(isa, packed.as_ptr(), n, kk, &[x.as_ptr()], &[alone.as_mut_ptr()], false) };
            for count in 2..30 {
                let mut outs = BorderedRows::new(count, n, |_, _| 0.0);
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
