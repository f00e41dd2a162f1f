//! How workers share the gradient of a matrix: each has a block of it.

use std::ops::Range;

/// One worker's part of a matrix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MatrixBlock {
    /// Rows.
    pub rows: Range<usize>,
    /// Columns.
    pub columns: Range<usize>,
}

/// Blocks start at multiples of this: no more than a vector or two of a block is left over.
const GRAIN: usize = 16;

/// The part of worker `index` of `count` in a matrix of m x n, if there is one for it.
///
/// The blocks of all workers cover the matrix, and do not overlap. They are as even, and then as square, as
/// can be, so that little is packed twice; a small matrix goes to fewer workers.
pub fn matrix_block(m: usize, n: usize, index: usize, count: usize) -> Option<MatrixBlock> {
    let (row_grains, column_grains) = (m.div_ceil(GRAIN), n.div_ceil(GRAIN));
    let cost = |rows: usize| {
        let (height, width) = (row_grains.div_ceil(rows), column_grains.div_ceil(count / rows));
        // The products, and the operands that each block packs for itself.
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
    let block = MatrixBlock {
        rows: part(row_grains, m, row, rows),
        columns: part(column_grains, n, column, columns),
    };
    (!block.rows.is_empty() && !block.columns.is_empty()).then_some(block)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_cover_a_matrix_once() {
        for (m, n) in [(1, 1), (16, 16), (17, 300), (300, 17), (1024, 256), (1000, 1000), (0, 5), (5, 0)] {
            for count in 1..20 {
                let mut seen = vec![0; m * n];
                for block in (0..count).filter_map(|index| matrix_block(m, n, index, count)) {
                    for i in block.rows {
                        for j in block.columns.clone() {
                            seen[i * n + j] += 1;
                        }
                    }
                }
                assert!(seen.iter().all(|&times| times == 1), "{m} x {n} among {count}");
            }
        }
    }

    #[test]
    fn the_blocks_of_a_large_matrix_are_even() {
        for (m, n) in [(1024, 256), (1000, 1000), (256, 4096)] {
            for count in [1, 2, 4, 6, 8, 16] {
                let largest = (0..count)
                    .filter_map(|index| matrix_block(m, n, index, count))
                    .map(|block| block.rows.len() * block.columns.len())
                    .max();
                assert!(largest <= Some(m * n * 5 / 4 / count), "{m} x {n} among {count}: {largest:?}");
            }
        }
    }

    #[test]
    fn a_small_matrix_goes_to_one_worker() {
        let whole = MatrixBlock { rows: 0..10, columns: 0..7 };
        let parts: Vec<MatrixBlock> = (0..8).filter_map(|index| matrix_block(10, 7, index, 8)).collect();
        assert_eq!(parts, [whole]);
    }
}
