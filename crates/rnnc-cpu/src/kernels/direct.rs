//! Products of a weight matrix with one or two rows that read the weights as they lie, where packing would
//! cost as much as the product.
//!
//! They go along many rows of the weights at once, each in its own register, and suit weights that the
//! second-level cache holds. A row's result does not depend on the other rows.

#![allow(unsafe_code)] // raw rows of raw buffers, shared with other workers
#![allow(clippy::needless_range_loop)] // an index says which register

use super::vector::{Vector, vectorize};

vectorize! {
    /// `outs[r][o] = sum over k of w[o * out_stride + k] rows[r][k]` for o in 0..n, or += if `accumulate`:
    /// dot products with the rows of the weights.
    ///
    /// # Safety
    ///
    /// `w` points to such weights, each of `rows` to kk numbers, and each of `outs` to n that may be written
    /// and that none of the others shares. Nobody else writes any of them meanwhile, or reads `outs`.
    ///
    /// # Panics
    ///
    /// If there are not as many `outs` as `rows`.
    #[allow(clippy::too_many_arguments)]
    pub unsafe fn dot_rows(
        w: *const f32,
        out_stride: usize,
        n: usize,
        kk: usize,
        rows: &[*const f32],
        outs: &[*mut f32],
        accumulate: bool,
    ) = dot_rows_body;

    /// `outs[r][o] = sum over k of w[k * in_stride + o] rows[r][k]` for o in 0..n, or += if `accumulate`: the
    /// rows of the weights, each times an input, added up. With `w` a matrix [kk, n], the product with its
    /// transpose.
    ///
    /// # Safety
    ///
    /// As for [`dot_rows`].
    ///
    /// # Panics
    ///
    /// If there are not as many `outs` as `rows`.
    #[allow(clippy::too_many_arguments)]
    pub unsafe fn axpy_rows(
        w: *const f32,
        in_stride: usize,
        n: usize,
        kk: usize,
        rows: &[*const f32],
        outs: &[*mut f32],
        accumulate: bool,
    ) = axpy_rows_body;
}

/// What all blocks of a product share.
#[derive(Clone, Copy)]
struct Weights {
    w: *const f32,
    stride: usize,
    n: usize,
    kk: usize,
    accumulate: bool,
}

/// # Safety
///
/// As for [`dot_rows`], on a CPU that has the instructions of `V`.
#[inline(always)]
unsafe fn dot_rows_body<V: Vector>(
    w: *const f32,
    stride: usize,
    n: usize,
    kk: usize,
    rows: &[*const f32],
    outs: &[*mut f32],
    accumulate: bool,
) {
    assert_eq!(rows.len(), outs.len(), "a row to write for every row to read");
    let weights = Weights { w, stride, n, kk, accumulate };
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
    // SAFETY: inputs 0..kk are there to read, in the rows and for each output; OUTS outputs are there to
    // write.
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
                let mut lanes = [0.0; 16];
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
unsafe fn axpy_rows_body<V: Vector>(
    w: *const f32,
    stride: usize,
    n: usize,
    kk: usize,
    rows: &[*const f32],
    outs: &[*mut f32],
    accumulate: bool,
) {
    assert_eq!(rows.len(), outs.len(), "a row to write for every row to read");
    let weights = Weights { w, stride, n, kk, accumulate };
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

/// VECS vectors of outputs of each of ROWS rows, from output `first` on, in registers over all inputs; gives
/// how many outputs.
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
            // As many as a vector has, at most.
            let mut sums = [0.0; 16];
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::check::{BORDER, BorderedRows, check, numbers, shapes};
    use crate::kernels::isa::Isa;

    #[test]
    fn products_with_weights_as_they_lie_agree_with_double_precision_at_every_edge() {
        for isa in Isa::available() {
            for (n, kk, rows) in shapes() {
                // Each row of the weights has a border.
                let dot_stride = kk + BORDER;
                let axpy_stride = n + BORDER;
                let values = numbers(n * kk, 1);
                let by_output = BorderedRows::new(n, kk, |o, k| values[o * kk + k]);
                let by_input = BorderedRows::new(kk, n, |k, o| values[o * kk + k]);
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
}
