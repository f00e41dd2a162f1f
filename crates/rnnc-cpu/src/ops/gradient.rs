//! Gradients of weights: sums over all rows, each worker for its own part of the weights.

#![allow(unsafe_code)] // rows of the shared buffers, parts of the shared gradients

use super::{Local, TILE};
use crate::compile::{OuterOp, ReduceOp, ScatterOp, unit_range};
use crate::kernels::elementwise;
use crate::kernels::outer::{self as kernel, Out, ROWS};
use crate::kernels::tile::{Tile, tile};
use crate::memory::Shared;
use rnnc_plan::NO_SYMBOL;

/// Rows summed before they are added to the sum of those before: keeps rounding errors small.
const BLOCK: usize = 64;

/// As many rows as this are added one by one; more are a product of matrices.
const DIRECT_ROWS: usize = 2;

/// All rows of the pass, whatever the stage deals out: (frame, stream).
fn all_rows(shared: &Shared<'_>) -> impl Iterator<Item = (usize, usize)> + use<> {
    let streams = shared.streams;
    (shared.first..shared.end).flat_map(move |t| (0..streams).map(move |b| (t, b)))
}

/// Gradients of matrices: errors transposed times sources, each worker a tile.
pub(crate) fn outer(shared: &Shared<'_>, ops: &[OuterOp], part: (usize, usize), local: &mut Local) {
    let few = (shared.end - shared.first) * shared.streams <= DIRECT_ROWS;
    for op in ops {
        if few && op.gradient.column_stride == 1 {
            outer_by_rows(shared, op, part);
        } else if let Some(tile) = tile(op.error.len, op.source.len, part.0, part.1) {
            outer_of_tile(shared, op, &tile, local);
        }
    }
}

fn outer_of_tile(shared: &Shared<'_>, op: &OuterOp, tile: &Tile, local: &mut Local) {
    let mut rows = all_rows(shared);
    let mut errors = [std::ptr::null(); ROWS];
    let mut sources = [std::ptr::null(); ROWS];
    let mut first = true;
    loop {
        let mut count = 0;
        for (t, b) in rows.by_ref().take(ROWS) {
            errors[count] = shared.target(&op.error, t, b).cast_const();
            sources[count] = shared.source(&op.source, t, b);
            count += 1;
        }
        if count == 0 && !first {
            return;
        }
        // SAFETY: the errors and sources are complete; each worker writes its own tile of the gradient.
        unsafe {
            let out = Out {
                at: shared.gradients.add(op.gradient.offset),
                row_stride: op.gradient.row_stride,
                column_stride: op.gradient.column_stride,
            };
            let (errors, sources) = (&errors[..count], &sources[..count]);
            let (is, js) = (tile.rows.clone(), tile.columns.clone());
            let accumulate = op.accumulate || !first;
            kernel::outer(shared.isa, errors, is, sources, js, out, accumulate, local.outer.as_mut_slice());
        }
        first = false;
    }
}

/// The same for few rows, each worker for its own rows of the matrix.
fn outer_by_rows(shared: &Shared<'_>, op: &OuterOp, part: (usize, usize)) {
    let isa = shared.isa;
    let units = unit_range(op.error.len, part.0, part.1);
    for (n, (t, b)) in all_rows(shared).enumerate() {
        // SAFETY: errors and sources are complete, and as long as the compiler says.
        let (error, source) = unsafe {
            let error = shared.target(&op.error, t, b).cast_const();
            (
                std::slice::from_raw_parts(error, op.error.len),
                std::slice::from_raw_parts(shared.source(&op.source, t, b), op.source.len),
            )
        };
        for unit in units.clone() {
            let place = op.gradient.offset + unit * op.gradient.row_stride;
            // SAFETY: these rows of the gradient are this worker's.
            let gradient =
                unsafe { std::slice::from_raw_parts_mut(shared.gradients.add(place), op.source.len) };
            if n == 0 && !op.accumulate {
                elementwise::scale(isa, error[unit], source, gradient);
            } else {
                elementwise::add_scaled(isa, error[unit], source, gradient);
            }
        }
    }
}

/// Gradients of tables: each row's error is added to its symbol's column, each worker for its own units.
pub(crate) fn scatter(shared: &Shared<'_>, ops: &[ScatterOp], part: (usize, usize)) {
    for op in ops {
        let units = unit_range(op.error.len, part.0, part.1);
        let g = op.gradient;
        // SAFETY: the column of a symbol lies in the table's gradient, and these units are this worker's.
        let place = |symbol: usize, unit: usize| unsafe {
            shared.gradients.add(g.offset + symbol * g.column_stride + unit * g.row_stride)
        };
        if !op.accumulate {
            for symbol in 0..op.symbols {
                for unit in units.clone() {
                    // SAFETY: as above.
                    unsafe { place(symbol, unit).write(0.0) };
                }
            }
        }
        for t in shared.first..shared.end {
            for b in 0..shared.streams {
                // SAFETY: a symbol is stored as the bits of a number; errors are complete.
                let (symbol, error) = unsafe {
                    let symbol = shared.source(&op.symbol, t, b).cast::<u32>().read();
                    let error = shared.target(&op.error, t, b);
                    (symbol, std::slice::from_raw_parts(error.cast_const(), op.error.len))
                };
                if symbol == NO_SYMBOL {
                    continue;
                }
                for unit in units.clone() {
                    // SAFETY: as above.
                    unsafe { *place(symbol as usize, unit) += error[unit] };
                }
            }
        }
    }
}

/// Gradients of vectors: sums over rows of the error, or of its product with a source; each worker for its own units.
pub(crate) fn reduce(shared: &Shared<'_>, ops: &[ReduceOp], part: (usize, usize), local: &mut Local) {
    let isa = shared.isa;
    let (block, total) = local.tiles.as_mut_slice()[..2 * TILE].split_at_mut(TILE);
    for op in ops {
        let units = unit_range(op.error.len, part.0, part.1);
        let mut first = units.start;
        while first < units.end {
            let len = TILE.min(units.end - first);
            let (block, total) = (&mut block[..len], &mut total[..len]);
            block.fill(0.0);
            total.fill(0.0);
            let mut rows = 0;
            for t in shared.first..shared.end {
                for b in 0..shared.streams {
                    if op.crossing.is_some_and(|delay| !shared.clock.crosses(delay, t, b)) {
                        continue;
                    }
                    // SAFETY: errors and sources are complete, and as long as the compiler says.
                    let error = unsafe {
                        std::slice::from_raw_parts(
                            shared.target(&op.error, t, b).add(first).cast_const(),
                            len,
                        )
                    };
                    match &op.source {
                        None => elementwise::binary_in_place(isa, elementwise::Binary::Add, block, error),
                        Some(source) => {
                            // SAFETY: as above.
                            let source = unsafe {
                                std::slice::from_raw_parts(shared.source(source, t, b).add(first), len)
                            };
                            elementwise::mul_add_into(isa, error, source, block);
                        }
                    }
                    rows += 1;
                    if rows % BLOCK == 0 {
                        elementwise::binary_in_place(isa, elementwise::Binary::Add, total, block);
                        block.fill(0.0);
                    }
                }
            }
            elementwise::binary_in_place(isa, elementwise::Binary::Add, total, block);
            // SAFETY: these units of the gradient are this worker's.
            let gradient =
                unsafe { std::slice::from_raw_parts_mut(shared.gradients.add(op.gradient + first), len) };
            if !op.accumulate {
                gradient.fill(0.0);
            }
            elementwise::add_scaled(isa, op.scale, total, gradient);
            first += len;
        }
    }
}
