//! What is computed once a call, of weights alone: maps tile after tile of their units, and all else as plainly as can be.

use super::TILE;
use super::vector::call;
use crate::kernels::isa::Isa;
use crate::kernels::rows::{Parts, Rows};
use crate::kernels::{elementwise, functions};
use rnnc_plan::{
    Flat, Instruction, Matrix, OnceLeaf, OnceMap, OnceOuter, OnceProduct, OnceStep, OnceVector, Register,
};

/// The flat buffers.
pub(crate) struct Buffers<'a> {
    pub weights: &'a mut [f32],
    pub gradients: &'a mut [f32],
}

impl Buffers<'_> {
    fn read(&self, from: Flat, len: usize) -> &[f32] {
        match from {
            Flat::Weights(offset) => &self.weights[offset..][..len],
            Flat::Gradients(offset) => &self.gradients[offset..][..len],
        }
    }

    /// Results are written to weights, and added to gradients.
    fn put(&mut self, to: Flat, result: &[f32]) {
        match to {
            Flat::Weights(offset) => self.weights[offset..][..result.len()].copy_from_slice(result),
            Flat::Gradients(offset) => {
                let sums = &mut self.gradients[offset..][..result.len()];
                sums.iter_mut().zip(result).for_each(|(sum, x)| *sum += x);
            }
        }
    }
}

/// Runs steps one after the other, in as much room as [`rnnc_plan::Once::room`] says.
pub(crate) fn run(isa: Isa, steps: &[OnceStep], mut buffers: Buffers<'_>, room: &mut [f32]) {
    for step in steps {
        match step {
            OnceStep::Map(map) => run_map(isa, map, &mut buffers, room),
            OnceStep::Vector(vector) => run_vector(isa, vector, &mut buffers, room),
            OnceStep::Product(product) => run_product(product, &mut buffers),
            OnceStep::Outer(outer) => run_outer(outer, &mut buffers),
        }
    }
}

fn run_map(isa: Isa, map: &OnceMap, buffers: &mut Buffers<'_>, room: &mut [f32]) {
    for first in (0..map.len).step_by(TILE) {
        let len = TILE.min(map.len - first);
        for instruction in &map.program.instructions {
            match *instruction {
                Instruction::Store { from, to } => {
                    buffers.put(to.skip(first), &room[from * TILE..][..len]);
                }
                Instruction::Leaf { leaf, to } => read(buffers, leaf, first, &mut room[to * TILE..][..len]),
                Instruction::Number { value, to } => room[to * TILE..][..len].fill(value as f32),
                Instruction::Apply { function, from, to } => {
                    let ([from], out) = tiles(room, [from], to, len);
                    functions::unary(isa, function, from, out);
                }
                Instruction::Scale { factor, from, to } => {
                    let ([from], out) = tiles(room, [from], to, len);
                    elementwise::scale(isa, factor as f32, from, out);
                }
                Instruction::Binary { op, a, b, to } => {
                    let ([a, b], out) = tiles(room, [a, b], to, len);
                    elementwise::binary(isa, op, a, b, out);
                }
                Instruction::MulAdd { a, b, c, to } => {
                    let ([a, b, c], out) = tiles(room, [a, b, c], to, len);
                    elementwise::mul_add_to(isa, a, b, c, out);
                }
            }
        }
    }
}

/// Reads what units from `first` on have of a leaf.
fn read(buffers: &Buffers<'_>, leaf: OnceLeaf, first: usize, out: &mut [f32]) {
    if leaf.times == 1 {
        out.copy_from_slice(buffers.read(leaf.from.skip(first), out.len()));
    } else {
        let values = buffers.read(leaf.from, (first + out.len()).div_ceil(leaf.times));
        out.iter_mut().enumerate().for_each(|(u, out)| *out = values[(first + u) / leaf.times]);
    }
}

/// The tiles of some registers, and that of a later one.
fn tiles<const N: usize>(
    room: &mut [f32],
    from: [Register; N],
    to: Register,
    len: usize,
) -> ([&[f32]; N], &mut [f32]) {
    let (before, rest) = room.split_at_mut(to * TILE);
    let before = &*before;
    (from.map(|register| &before[register * TILE..][..len]), &mut rest[..len])
}

fn run_vector(isa: Isa, vector: &OnceVector, buffers: &mut Buffers<'_>, room: &mut [f32]) {
    let (out, room) = room.split_at_mut(vector.len);
    let operand = |k: usize| {
        let (from, len) = vector.operands[k];
        Rows::of(buffers.read(from, len))
    };
    let units = 0..vector.len;
    let parts = Parts::of(out, &units);
    let symbol = |_| unreachable!("weights are no symbols, as {:?} reads", vector.operation);
    call(isa, vector.operation, vector.operation.groups(), operand, symbol, room, parts);
    buffers.put(vector.to, out);
}

fn place(matrix: Matrix, row: usize, column: usize) -> usize {
    matrix.offset + row * matrix.row_stride + column * matrix.column_stride
}

fn run_product(product: &OnceProduct, buffers: &mut Buffers<'_>) {
    for row in 0..product.rows {
        let from = buffers.read(product.from, product.columns).iter().enumerate();
        let terms = from.map(|(column, x)| {
            f64::from(buffers.weights[place(product.matrix, row, column)]) * f64::from(*x)
        });
        let sum: f64 = terms.sum();
        buffers.put(product.to.skip(row), &[sum as f32]);
    }
}

fn run_outer(outer: &OnceOuter, buffers: &mut Buffers<'_>) {
    for row in 0..outer.rows {
        let error = buffers.read(outer.error.skip(row), 1)[0];
        for column in 0..outer.columns {
            let source = buffers.read(outer.source.skip(column), 1)[0];
            buffers.gradients[place(outer.gradient, row, column)] += error * source;
        }
    }
}
