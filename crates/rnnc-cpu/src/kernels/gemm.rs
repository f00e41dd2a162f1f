//! Products over all frames: matrix times matrix, by the kept crate `gemm`, and how workers share one.
//!
//! Each worker calls [`gemm`] on its own [`Tile`] of the result, on its own thread: no second pool of
//! threads. The crate chooses its instructions itself; `RNNC_ISA` does not bind it.
//!
//! It allocates: in every call a short list of what is packed, in most calls room for packed operands, and at
//! a thread's first call a buffer that the thread keeps. All but the last are freed before the call returns,
//! and are of the same sizes in every window, so that the allocator hands out the same memory again.

#![allow(unsafe_code)] // raw parts of raw buffers, shared with other workers

use gemm_f32::gemm::f32::get_gemm_fn;
use std::ops::Range;

/// C = A B, or C += A B if `accumulate`, for A of m x k, B of k x n and C of m x n numbers.
///
/// Each matrix is a pointer to its element (0, 0), the distance from a row to the next, and that from a
/// column to the next, in numbers. On the calling thread alone; the same call on the same machine gives the
/// same bits.
///
/// # Safety
///
/// All elements of A and B are there to read, and those of C to write; C shares no element with itself, A or
/// B. Nobody else writes any of them meanwhile, or reads C.
#[allow(clippy::too_many_arguments)]
pub unsafe fn gemm(
    m: usize,
    n: usize,
    k: usize,
    a: *const f32,
    a_rs: isize,
    a_cs: isize,
    b: *const f32,
    b_rs: isize,
    b_cs: isize,
    c: *mut f32,
    c_rs: isize,
    c_cs: isize,
    accumulate: bool,
) {
    // The crate wants C's columns to lie in one piece. Where its rows do, C' = B' A' instead.
    let (m, n, a, a_rs, a_cs, b, b_rs, b_cs, c_rs, c_cs) = if c_cs.unsigned_abs() < c_rs.unsigned_abs() {
        (n, m, b, b_cs, b_rs, a, a_cs, a_rs, c_cs, c_rs)
    } else {
        (m, n, a, a_rs, a_cs, b, b_rs, b_cs, c_rs, c_cs)
    };
    let parallelism = gemm_common::Parallelism::None;
    let (alpha, beta) = (1.0, 1.0); // C = alpha C + beta A B, without the first where C is not read
    // SAFETY: the caller vouches for the matrices; the strides belong to them.
    unsafe {
        get_gemm_fn()(
            m,
            n,
            k,
            c,
            c_cs,
            c_rs,
            accumulate,
            a,
            a_cs,
            a_rs,
            b,
            b_cs,
            b_rs,
            alpha,
            beta,
            false,
            false,
            false,
            parallelism,
        );
    }
}

/// One worker's part of a matrix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tile {
    /// Rows.
    pub rows: Range<usize>,
    /// Columns.
    pub columns: Range<usize>,
}

/// Tiles start at multiples of this: no more than a vector or two of a tile is left over.
const GRAIN: usize = 16;

/// The part of worker `index` of `count` in a matrix of m x n, if there is one for it.
///
/// The tiles of all workers cover the matrix, and do not overlap. They are as even, and then as square, as
/// can be, so that little is packed twice; a small matrix goes to fewer workers.
pub fn tile(m: usize, n: usize, index: usize, count: usize) -> Option<Tile> {
    let (row_grains, column_grains) = (m.div_ceil(GRAIN), n.div_ceil(GRAIN));
    let cost = |rows: usize| {
        let (height, width) = (row_grains.div_ceil(rows), column_grains.div_ceil(count / rows));
        // The products, and the operands that each tile packs for itself.
        (height * width, height + width)
    };
    let rows = (1..=count).min_by_key(|&rows| cost(rows))?;
    let columns = count / rows;
    let (row, column) = (index / columns, index % columns);
    if row >= rows {
        return None;
    }
    let part = |grains: usize, length: usize, part: usize, parts: usize| {
        (grains * part / parts * GRAIN).min(length)..(grains * (part + 1) / parts * GRAIN).min(length)
    };
    let tile =
        Tile { rows: part(row_grains, m, row, rows), columns: part(column_grains, n, column, columns) };
    (!tile.rows.is_empty() && !tile.columns.is_empty()).then_some(tile)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(count: usize, seed: usize) -> Vec<f32> {
        (0..count).map(|i| (((i + 31 * seed) * 7919) % 2003) as f32 / 1001.0 - 1.0).collect()
    }

    #[test]
    fn products_agree_with_double_precision_in_every_layout() {
        let shapes = [
            (1, 1, 1),
            (5, 3, 2),
            (16, 16, 16),
            (33, 17, 40),
            (1, 70, 9),
            (70, 1, 9),
            (130, 257, 75),
            (3, 4, 0),
        ];
        for (m, n, k) in shapes {
            let (a, b) = (numbers(m * k, 1), numbers(k * n, 2));
            for layouts in 0..8 {
                let strides = |transposed: bool, rows: usize, columns: usize| {
                    if transposed { (1, rows as isize) } else { (columns as isize, 1) }
                };
                let (a_rs, a_cs) = strides(layouts & 1 != 0, m, k);
                let (b_rs, b_cs) = strides(layouts & 2 != 0, k, n);
                let (c_rs, c_cs) = strides(layouts & 4 != 0, m, n);
                for accumulate in [false, true] {
                    let before = if accumulate { 2.0 } else { f32::NAN };
                    let mut c = vec![f32::NAN; m * n + 64];
                    c[32..32 + m * n].fill(before);
                    // SAFETY: the strides fit buffers of m k, k n and m n numbers.
                    unsafe {
                        gemm(
                            m,
                            n,
                            k,
                            a.as_ptr(),
                            a_rs,
                            a_cs,
                            b.as_ptr(),
                            b_rs,
                            b_cs,
                            c[32..].as_mut_ptr(),
                            c_rs,
                            c_cs,
                            accumulate,
                        );
                    }
                    assert!(
                        c[..32].iter().chain(&c[32 + m * n..]).all(|x| x.is_nan()),
                        "wrote past the matrix"
                    );
                    let at = |x: &[f32], i: usize, j: usize, (rs, cs): (isize, isize)| {
                        f64::from(x[i * rs as usize + j * cs as usize])
                    };
                    for i in 0..m {
                        for j in 0..n {
                            let start = if accumulate { 2.0 } else { 0.0 };
                            let want: f64 = start
                                + (0..k)
                                    .map(|x| at(&a, i, x, (a_rs, a_cs)) * at(&b, x, j, (b_rs, b_cs)))
                                    .sum::<f64>();
                            let got = at(&c[32..], i, j, (c_rs, c_cs));
                            assert!(
                                (got - want).abs() < 1e-5 * (1.0 + k as f64),
                                "{got}, not {want}: {m} {n} {k}"
                            );
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn tiles_cover_a_matrix_once() {
        for (m, n) in [(1, 1), (16, 16), (17, 300), (300, 17), (1024, 256), (1000, 1000), (0, 5), (5, 0)] {
            for count in 1..20 {
                let mut seen = vec![0; m * n];
                for tile in (0..count).filter_map(|index| tile(m, n, index, count)) {
                    for i in tile.rows {
                        for j in tile.columns.clone() {
                            seen[i * n + j] += 1;
                        }
                    }
                }
                assert!(seen.iter().all(|&times| times == 1), "{m} x {n} among {count}");
            }
        }
    }

    #[test]
    fn the_tiles_of_a_large_matrix_are_even() {
        for (m, n) in [(1024, 256), (1000, 1000), (256, 4096)] {
            for count in [1, 2, 4, 6, 8, 16] {
                let largest = (0..count)
                    .filter_map(|index| tile(m, n, index, count))
                    .map(|tile| tile.rows.len() * tile.columns.len())
                    .max();
                assert!(largest <= Some(m * n * 5 / 4 / count), "{m} x {n} among {count}: {largest:?}");
            }
        }
    }

    #[test]
    fn a_small_matrix_goes_to_one_worker() {
        let whole = Tile { rows: 0..10, columns: 0..7 };
        let parts: Vec<Tile> = (0..8).filter_map(|index| tile(10, 7, index, 8)).collect();
        assert_eq!(parts, [whole]);
    }
}
