//! Sums of outer products over many rows: what the gradient of a weight matrix is, all frames at once.
//!
//! `out[i][j] (+)= sum over rows r of errors[r][i] sources[r][j]`.
//!
//! Rows are taken [`ROWS`] at a time. [`pack_errors`] packs the errors in panels as wide as a block is high, once for all
//! sources; [`outer`] packs the sources in panels of 16 columns. So both lie in the order in which they are read and stay
//! in the caches; the sums of a block stay in registers over all rows (the method of Goto & van de Geijn, "Anatomy of
//! high-performance matrix multiplication", ACM TOMS 34, 2008).

#![allow(unsafe_code)] // raw rows of raw buffers, shared with other workers
#![allow(clippy::needless_range_loop)] // an index says which register

use super::vector::{Four, Vector, put_some_sums, put_sums, vectorize};
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{__m256, __m512};
use std::ops::Range;

/// Rows summed before the sums are added to those of the rows before.
pub const ROWS: usize = 256;

/// Columns of the sources that are packed at once: with [`ROWS`] rows, what half a second-level cache holds.
const COLUMNS: usize = 256;

/// Columns of a panel.
const PANEL: usize = 16;

/// Columns of the errors that panels are multiplied with before the next ones: a multiple of every block's height.
const STRIP: usize = 48;

/// How many numbers of room [`outer`] asks for.
pub const ROOM: usize = ROWS * COLUMNS;

/// How many numbers so many columns of errors take, packed.
pub fn packed_len(columns: usize) -> usize {
    ROWS * columns.next_multiple_of(STRIP)
}

/// A matrix that is written: element (i, j) at `at + i * row_stride + j * column_stride`.
#[derive(Clone, Copy, Debug)]
pub struct Out {
    /// Element (0, 0).
    pub at: *mut f32,
    /// Between rows.
    pub row_stride: usize,
    /// Between columns.
    pub column_stride: usize,
}

vectorize! {
    /// Packs columns `is` of up to [`ROWS`] rows of errors.
    ///
    /// # Safety
    ///
    /// Each of `errors` points to numbers `is`, counted from it, that nobody writes meanwhile.
    ///
    /// # Panics
    ///
    /// If there are more rows than that, or less room than [`packed_len`].
    pub unsafe fn pack_errors(errors: &[*const f32], is: Range<usize>, packed: &mut [f32]) = pack_errors_body;
}

/// # Safety
///
/// As for [`pack_errors`], on a CPU that has the instructions of `B`.
#[inline(always)]
unsafe fn pack_errors_body<B: Blocking>(errors: &[*const f32], is: Range<usize>, packed: &mut [f32]) {
    assert!(errors.len() <= ROWS && packed.len() >= packed_len(is.len()), "room for {} rows", errors.len());
    // SAFETY: the caller vouches for the errors.
    unsafe { B::pack(errors, &is, packed) }
}

/// Adds the outer products of some rows to the part of a matrix whose rows are `is` and whose columns are `js`; or,
/// unless `accumulate`, writes their sum there. `errors` are those rows of [`pack_errors`], by the same `isa`.
///
/// # Safety
///
/// Each of `sources` points to numbers `js`, counted from it; the elements of `out` may be written, and no two share a
/// place. Nobody else writes any of them meanwhile, or reads `out`.
///
/// # Panics
///
/// If there are more than [`ROWS`] rows, or less errors than they have, or less room than [`ROOM`].
#[allow(clippy::too_many_arguments)]
pub unsafe fn outer(
    isa: super::isa::Isa,
    errors: &[f32],
    is: Range<usize>,
    sources: &[*const f32],
    js: Range<usize>,
    out: Out,
    accumulate: bool,
    room: &mut [f32],
) {
    let count = sources.len();
    assert!(count <= ROWS && errors.len() >= packed_len(is.len()), "errors of {count} rows");
    let panels = &mut room[..ROOM];
    for j in js.clone().step_by(COLUMNS) {
        let columns = j..js.end.min(j + COLUMNS);
        // SAFETY: the caller vouches for the rows' numbers.
        unsafe { pack::<PANEL>(sources, &columns, panels) };
        for i in is.clone().step_by(STRIP) {
            let part = (i..is.end.min(i + STRIP), columns.clone());
            let strip = &errors[(i - is.start) * count..];
            // SAFETY: as above; the panels were packed for these columns, and a strip's errors lie together.
            unsafe { blocks(isa, strip, panels, count, part, out, accumulate) };
        }
    }
}

/// Columns of some rows in panels of WIDTH, one after the other, filled up with zeros.
///
/// # Safety
///
/// The columns of each row are there to read.
#[inline(always)]
unsafe fn pack<const WIDTH: usize>(rows: &[*const f32], columns: &Range<usize>, packed: &mut [f32]) {
    let (lines, _) = packed.as_chunks_mut::<WIDTH>();
    let whole = columns.len() / WIDTH;
    for (r, row) in rows.iter().enumerate() {
        // SAFETY: the caller vouches for the columns.
        let from = unsafe { std::slice::from_raw_parts(row.add(columns.start), columns.len()) };
        let (parts, rest) = from.as_chunks::<WIDTH>();
        for (panel, part) in parts.iter().enumerate() {
            lines[panel * rows.len() + r] = *part;
        }
        if !rest.is_empty() {
            let line = &mut lines[whole * rows.len() + r];
            line[..rest.len()].copy_from_slice(rest);
            line[rest.len()..].fill(0.0);
        }
    }
}

vectorize! {
    /// The errors of a strip times all panels.
    ///
    /// # Safety
    ///
    /// Errors and panels are packed for `count` rows and the parts of the result, which may be written.
    unsafe fn blocks(
        strip: &[f32],
        panels: &[f32],
        count: usize,
        parts: (Range<usize>, Range<usize>),
        out: Out,
        accumulate: bool,
    ) = blocks_body;
}

/// A [`Vector`] and how many rows of the result, by a panel's columns, fit its registers.
trait Blocking: Vector {
    /// A divisor of [`STRIP`].
    const HEIGHT: usize;

    /// # Safety
    /// As for [`pack`].
    unsafe fn pack(errors: &[*const f32], columns: &Range<usize>, strip: &mut [f32]);

    /// # Safety
    /// As for [`block`].
    unsafe fn block(errors: *const f32, panel: *const f32, count: usize, part: Part, accumulate: bool);
}

/// A block of the result: so many rows and columns of it are written.
#[derive(Clone, Copy)]
struct Part {
    out: Out,
    rows: usize,
    columns: usize,
}

/// # Safety
///
/// As for [`blocks`], on a CPU that has the instructions of `B`.
#[inline(always)]
unsafe fn blocks_body<B: Blocking>(
    strip: &[f32],
    panels: &[f32],
    count: usize,
    (is, js): (Range<usize>, Range<usize>),
    out: Out,
    accumulate: bool,
) {
    for (panel, j) in panels.chunks_exact(PANEL * count.max(1)).zip(js.clone().step_by(PANEL)) {
        for (place, i) in is.clone().step_by(B::HEIGHT).enumerate() {
            // SAFETY: the block lies in the result, and its errors in the strip.
            unsafe {
                let at = out.at.add(i * out.row_stride + j * out.column_stride);
                let (rows, columns) = (B::HEIGHT.min(is.end - i), PANEL.min(js.end - j));
                let part = Part { out: Out { at, ..out }, rows, columns };
                let errors = strip.as_ptr().add(place * B::HEIGHT * count);
                B::block(errors, panel.as_ptr(), count, part, accumulate);
            }
        }
    }
}

/// The sums of HEIGHT rows and of VECS vectors of columns in registers over `count` rows.
///
/// # Safety
///
/// Of each of the rows HEIGHT numbers lie at `errors`, and PANEL at `panel`; the part may be written; the CPU
/// has the instructions of `V`.
#[inline(always)]
unsafe fn block<V: Vector, const HEIGHT: usize, const VECS: usize>(
    errors: *const f32,
    panel: *const f32,
    count: usize,
    part: Part,
    accumulate: bool,
) {
    // SAFETY: the caller vouches for everything.
    unsafe {
        let mut sums = [[V::splat(0.0); VECS]; HEIGHT];
        for r in 0..count {
            let mut x = [V::splat(0.0); VECS];
            for v in 0..VECS {
                x[v] = V::load(panel.add(r * PANEL + v * V::LANES));
            }
            for i in 0..HEIGHT {
                let e = V::splat(*errors.add(r * HEIGHT + i));
                for v in 0..VECS {
                    sums[i][v] = x[v].mul_add(e, sums[i][v]);
                }
            }
        }
        let Out { at, row_stride, column_stride } = part.out;
        if (part.rows, part.columns, column_stride) == (HEIGHT, PANEL, 1) {
            put_sums(&sums, |i| at.add(i * row_stride), accumulate);
        } else {
            let place = |i: usize, j: usize| at.add(i * row_stride + j * column_stride);
            put_some_sums(&sums, (part.rows, part.columns), place, accumulate);
        }
    }
}

/// Makes a [`Blocking`].
macro_rules! blocking {
    ($vector:ident, $block:ident, $height:literal $(, #[$feature:meta])?) => {
        impl Blocking for $vector {
            const HEIGHT: usize = $height;

            #[inline(always)]
            unsafe fn pack(errors: &[*const f32], columns: &Range<usize>, strip: &mut [f32]) {
                const { assert!(STRIP.is_multiple_of($height)) };
                // SAFETY: the caller vouches for everything.
                unsafe { pack::<$height>(errors, columns, strip) }
            }

            #[inline(always)]
            unsafe fn block(errors: *const f32, panel: *const f32, count: usize, part: Part, accumulate: bool) {
                // SAFETY: the caller vouches for everything.
                unsafe { $block(errors, panel, count, part, accumulate) }
            }
        }

        $(#[$feature])?
        unsafe fn $block(errors: *const f32, panel: *const f32, count: usize, part: Part, accumulate: bool) {
            const VECS: usize = PANEL / <$vector as Vector>::LANES;
            // SAFETY: the attribute asks for the instructions, if not every CPU has them; the caller vouches
            // for the rest.
            unsafe { block::<$vector, $height, VECS>(errors, panel, count, part, accumulate) }
        }
    };
}

// 8 of 16 registers of 4 are sums; 12 of 16 of 8; 24 of 32 of 16.
blocking!(Four, block_portable, 2);
#[cfg(target_arch = "x86_64")]
blocking!(__m256, block_avx2, 6, #[target_feature(enable = "avx2,fma")]);
#[cfg(target_arch = "x86_64")]
blocking!(__m512, block_avx512, 24, #[target_feature(enable = "avx2,fma,avx512f,avx512vl,avx512bw,avx512dq")]);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::check::{BORDER, BorderedRows, numbers};
    use crate::kernels::isa::Isa;

    #[test]
    fn sums_of_outer_products_agree_with_double_precision_at_every_edge() {
        let shapes =
            [(1, 1, 1), (5, 3, 2), (48, 16, 256), (49, 17, 40), (13, 300, 9), (130, 257, 75), (3, 4, 0)];
        for isa in Isa::available() {
            for (m, n, count) in shapes {
                let (e, x) = (numbers(m * count, 1), numbers(n * count, 2));
                let mut errors = BorderedRows::new(count, m, |r, i| e[r * m + i]);
                let mut sources = BorderedRows::new(count, n, |r, j| x[r * n + j]);
                let constant =
                    |rows: Vec<*mut f32>| rows.into_iter().map(|r| r.cast_const()).collect::<Vec<_>>();
                let (errors, sources) = (constant(errors.pointers()), constant(sources.pointers()));
                for (transposed, accumulate) in [(false, false), (false, true), (true, true)] {
                    let before = if accumulate { 2.0 } else { f32::NAN };
                    // The part of the matrix that another worker has, and what is around it, is poisoned.
                    let (is, js) = (m / 3..m, n / 4..n);
                    let mut matrix = vec![f32::NAN; 2 * BORDER + m * n];
                    let (row_stride, column_stride) = if transposed { (1, m) } else { (n, 1) };
                    let place = |i: usize, j: usize| BORDER + i * row_stride + j * column_stride;
                    for (i, j) in is.clone().flat_map(|i| js.clone().map(move |j| (i, j))) {
                        matrix[place(i, j)] = before;
                    }
                    let out = Out { at: matrix[BORDER..].as_mut_ptr(), row_stride, column_stride };
                    let mut room = vec![f32::NAN; ROOM];
                    let mut packed = vec![f32::NAN; packed_len(is.len())];
                    // SAFETY: rows have m and n numbers, and the matrix is m by n.
                    unsafe {
                        pack_errors(isa, &errors, is.clone(), &mut packed);
                        outer(isa, &packed, is.clone(), &sources, js.clone(), out, accumulate, &mut room);
                    }
                    for (at, &got) in matrix.iter().enumerate() {
                        let found = is.clone().flat_map(|i| js.clone().map(move |j| (i, j)));
                        let Some((i, j)) = found.into_iter().find(|&(i, j)| place(i, j) == at) else {
                            assert!(got.is_nan(), "wrote at {at} ({isa})");
                            continue;
                        };
                        let term = |r: usize| f64::from(e[r * m + i]) * f64::from(x[r * n + j]);
                        let want = (0..count).map(term).sum::<f64>() + if accumulate { 2.0 } else { 0.0 };
                        let near = (f64::from(got) - want).abs() < 1e-5 * (1.0 + count as f64);
                        assert!(near, "{got}, not {want}: {m} {n} {count} ({isa})");
                    }
                }
            }
        }
    }
}
