//! Gradients of weights: sums over all rows, each worker for its own part of the weights.

#![allow(unsafe_code)] // rows of the shared buffers, parts of the shared gradients

use super::{Local, Share, TILE, assert_matrix};
use crate::kernels::elementwise;
use crate::kernels::matrix_block::matrix_block;
use crate::kernels::outer::{self as kernel, Out, ROWS};
use crate::memory::{Shared, assert_inside};
use crate::program::{OuterOp, ReduceOp, ScatterOp};
use crate::units::unit_range;
use rnnc_plan::{Binary, Matrix};
use std::ops::Range;

/// Rows summed before they are added to the sum of those before: keeps rounding errors small.
const BLOCK: usize = 64;

/// As many rows as this are added one by one; more are a product of matrices.
const DIRECT_ROWS: usize = 2;

/// What a worker sums up: of some frames all rows, however the stage is partitioned, for its part of the weights.
pub(crate) struct Sums {
    pub frames: Range<usize>,
    /// (worker, workers)
    pub part: (usize, usize),
    /// Whether sums of other frames are there already.
    pub more: bool,
}

impl Sums {
    /// Of a share's frames.
    pub fn of(share: &Share) -> Sums {
        Sums { frames: share.frames.clone(), part: share.part, more: false }
    }

    /// (frame, stream)
    fn rows(&self, shared: &Shared<'_>) -> impl Iterator<Item = (usize, usize)> + use<> {
        let streams = shared.streams;
        self.frames.clone().flat_map(move |t| (0..streams).map(move |b| (t, b)))
    }
}

/// Columns of errors that are packed at once.
const ERRORS: usize = 1024;

/// Numbers of room for the products of [`outer`]: panels, and errors of so many columns.
pub(crate) fn outer_room(columns: usize) -> usize {
    kernel::ROOM + kernel::packed_len(columns.min(ERRORS))
}

/// Gradients of matrices: errors transposed times sources, each worker a block.
pub(crate) fn outer(shared: &Shared<'_>, ops: &[OuterOp], sums: &Sums, local: &mut Local) {
    // How a matrix is shared out must not depend on what is done beside: another sum may add to the same one.
    let few = sums.frames.len() * shared.streams <= DIRECT_ROWS;
    let by_rows = |op: &OuterOp| few && op.gradient.column_stride == 1;
    let block_of = |op: &OuterOp| matrix_block(op.error.len, op.source.len, sums.part.0, sums.part.1);
    let rows_of = |op: &OuterOp| block_of(op).map(|block| block.rows);
    // The same rows of the same errors are packed once.
    let together = |a: &OuterOp, b: &OuterOp| a.error == b.error && rows_of(a) == rows_of(b);
    for group in ops.chunk_by(|a, b| by_rows(a) == by_rows(b) && together(a, b)) {
        if by_rows(&group[0]) {
            group.iter().for_each(|op| outer_by_rows(shared, op, sums));
            continue;
        }
        let Some(is) = rows_of(&group[0]) else { continue };
        for first in is.clone().step_by(ERRORS) {
            outer_of_blocks(shared, group, first..is.end.min(first + ERRORS), sums, local);
        }
    }
}

/// Some rows of the blocks of gradients that have the same errors.
fn outer_of_blocks(shared: &Shared<'_>, group: &[OuterOp], is: Range<usize>, sums: &Sums, local: &mut Local) {
    let (room, packed) = local.outer.as_mut_slice().split_at_mut(kernel::ROOM);
    let mut rows = sums.rows(shared);
    let mut places = [(0, 0); ROWS];
    let mut pointers = [std::ptr::null(); ROWS];
    let mut first = true;
    loop {
        let mut count = 0;
        for row in rows.by_ref().take(ROWS) {
            places[count] = row;
            count += 1;
        }
        if count == 0 && !first {
            return;
        }
        let (places, pointers) = (&places[..count], &mut pointers[..count]);
        for (pointer, &(t, b)) in pointers.iter_mut().zip(places) {
            *pointer = shared.target(&group[0].error, t, b).cast_const();
            shared.reads(pointer.wrapping_add(is.start), is.len());
        }
        // SAFETY: the errors are complete, and as wide as the matrices are high.
        unsafe { kernel::pack_errors(shared.isa, pointers, is.clone(), packed) };
        for op in group {
            assert_matrix(op.gradient, op.error.len, op.source.len, shared.room.gradients);
            let Some(block) = matrix_block(op.error.len, op.source.len, sums.part.0, sums.part.1) else {
                continue;
            };
            for (pointer, &(t, b)) in pointers.iter_mut().zip(places) {
                *pointer = shared.source(&op.source, t, b);
                shared.reads(pointer.wrapping_add(block.columns.start), block.columns.len());
            }
            for row in is.clone() {
                writes_row(shared, op.gradient, row, block.columns.clone());
            }
            // SAFETY: the sources are complete; each worker writes its own block of the gradient.
            unsafe {
                let out = Out {
                    at: shared.gradients.add(op.gradient.offset),
                    row_stride: op.gradient.row_stride,
                    column_stride: op.gradient.column_stride,
                };
                let accumulate = op.accumulate || sums.more || !first;
                kernel::outer(shared.isa, packed, is.clone(), pointers, block.columns, out, accumulate, room);
            }
        }
        first = false;
    }
}

/// Says that this worker writes some columns of a row of a gradient.
fn writes_row(shared: &Shared<'_>, gradient: Matrix, row: usize, columns: Range<usize>) {
    let Matrix { offset, row_stride, column_stride } = gradient;
    let at =
        |column: usize| shared.gradients.wrapping_add(offset + row * row_stride + column * column_stride);
    match column_stride {
        1 => shared.writes(at(columns.start), columns.len()),
        _ => columns.for_each(|column| shared.writes(at(column), 1)),
    }
}

/// The same for few rows, each worker for its own rows of the matrix.
fn outer_by_rows(shared: &Shared<'_>, op: &OuterOp, sums: &Sums) {
    assert_matrix(op.gradient, op.error.len, op.source.len, shared.room.gradients);
    let isa = shared.isa;
    let units = unit_range(op.error.len, 1, sums.part.0, sums.part.1);
    for (n, (t, b)) in sums.rows(shared).enumerate() {
        // SAFETY: errors and sources are complete, and as long as the compiler says.
        let (error, source) = unsafe {
            let error = shared.target(&op.error, t, b).cast_const();
            (
                std::slice::from_raw_parts(error, op.error.len),
                std::slice::from_raw_parts(shared.source(&op.source, t, b), op.source.len),
            )
        };
        shared.reads(source.as_ptr(), source.len());
        for unit in units.clone() {
            shared.reads(&raw const error[unit], 1);
            writes_row(shared, op.gradient, unit, 0..op.source.len);
            let place = op.gradient.offset + unit * op.gradient.row_stride;
            // SAFETY: these rows of the gradient are this worker's.
            let gradient =
                unsafe { std::slice::from_raw_parts_mut(shared.gradients.add(place), op.source.len) };
            if n == 0 && !(op.accumulate || sums.more) {
                elementwise::scale(isa, error[unit], source, gradient);
            } else {
                elementwise::add_scaled(isa, error[unit], source, gradient);
            }
        }
    }
}

/// Gradients of tables: each row's error is added to its symbol's column, each worker for its own units.
pub(crate) fn scatter(shared: &Shared<'_>, ops: &[ScatterOp], sums: &Sums) {
    for op in ops {
        let units = unit_range(op.error.len, 1, sums.part.0, sums.part.1);
        let g = op.gradient;
        assert_matrix(g, op.error.len, op.symbols, shared.room.gradients);
        // SAFETY: the column of a symbol lies in the table's gradient, and these units are this worker's.
        let place = |symbol: usize, unit: usize| unsafe {
            shared.gradients.add(g.offset + symbol * g.column_stride + unit * g.row_stride)
        };
        if !(op.accumulate || sums.more) {
            for symbol in 0..op.symbols {
                for unit in units.clone() {
                    // SAFETY: as above.
                    unsafe { place(symbol, unit).write(0.0) };
                    shared.writes(place(symbol, unit), 1);
                }
            }
        }
        for (t, b) in sums.rows(shared) {
            // SAFETY: a symbol is stored as the bits of a number; errors are complete.
            let (symbol, error) = unsafe {
                let symbol = shared.source(&op.symbol, t, b);
                shared.reads(symbol, 1);
                let symbol = symbol.cast::<u32>().read();
                let error = shared.target(&op.error, t, b);
                (symbol, std::slice::from_raw_parts(error.cast_const(), op.error.len))
            };
            // None, or, where the caller has changed a tape, anything.
            if symbol as usize >= op.symbols {
                continue;
            }
            for unit in units.clone() {
                // SAFETY: as above.
                unsafe { *place(symbol as usize, unit) += error[unit] };
                shared.reads(&raw const error[unit], 1);
                shared.writes(place(symbol as usize, unit), 1);
            }
        }
    }
}

/// Gradients of vectors: sums over rows of the error, or of its product with a source; each worker for its own units.
pub(crate) fn reduce(shared: &Shared<'_>, ops: &[ReduceOp], sums: &Sums, local: &mut Local) {
    let isa = shared.isa;
    let (block, total) = local.tiles.as_mut_slice()[..2 * TILE].split_at_mut(TILE);
    for op in ops {
        let units = unit_range(op.error.len, 1, sums.part.0, sums.part.1);
        assert_inside(op.gradient as isize, op.error.len, shared.room.gradients);
        debug_assert!(op.source.is_none_or(|source| source.len == op.error.len));
        let mut first = units.start;
        while first < units.end {
            let len = TILE.min(units.end - first);
            let (block, total) = (&mut block[..len], &mut total[..len]);
            block.fill(0.0);
            total.fill(0.0);
            let mut rows = 0;
            for (t, b) in sums.rows(shared) {
                if op.crossing.is_some_and(|delay| !shared.tracker.crosses(delay, t, b)) {
                    continue;
                }
                // SAFETY: errors and sources are complete, and as long as the compiler says.
                let error = unsafe {
                    std::slice::from_raw_parts(shared.target(&op.error, t, b).add(first).cast_const(), len)
                };
                shared.reads(error.as_ptr(), len);
                match &op.source {
                    None => elementwise::binary_in_place(isa, Binary::Add, block, error),
                    Some(source) => {
                        // SAFETY: as above.
                        let source = unsafe {
                            std::slice::from_raw_parts(shared.source(source, t, b).add(first), len)
                        };
                        shared.reads(source.as_ptr(), len);
                        elementwise::mul_add_into(isa, error, source, block);
                    }
                }
                rows += 1;
                if rows % BLOCK == 0 {
                    elementwise::binary_in_place(isa, Binary::Add, total, block);
                    block.fill(0.0);
                }
            }
            elementwise::binary_in_place(isa, Binary::Add, total, block);
            // SAFETY: these units of the gradient are this worker's.
            let gradient =
                unsafe { std::slice::from_raw_parts_mut(shared.gradients.add(op.gradient + first), len) };
            shared.writes(gradient.as_mut_ptr(), len);
            if !(op.accumulate || sums.more) {
                gradient.fill(0.0);
            }
            elementwise::add_scaled(isa, op.scale, total, gradient);
            first += len;
        }
    }
}
