//! What is computed once a call, of weights alone: maps tile after tile of their units, and all else as plainly as can be.

use super::TILE;
use super::vector::call;
use crate::compile::map::binary;
use crate::kernels::isa::Isa;
use crate::kernels::rows::{Parts, Rows};
use crate::kernels::{elementwise, functions};
use rnnc_plan::{Flat, Instruction, Matrix, OnceMap, OnceOuter, OnceProduct, OnceStep, OnceVector, Register};

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
        for read in &map.reads {
            let out = tile(room, read.to, len);
            if read.times == 1 {
                out.copy_from_slice(buffers.read(read.from.skip(first), len));
            } else {
                let values = buffers.read(read.from, (first + len).div_ceil(read.times));
                out.iter_mut().enumerate().for_each(|(u, out)| *out = values[(first + u) / read.times]);
            }
        }
        for step in &map.program {
            run_step(isa, step, len, room);
        }
        for &(register, to) in &map.results {
            buffers.put(to.skip(first), tile(room, register, len));
        }
    }
}

fn tile(room: &mut [f32], register: Register, len: usize) -> &mut [f32] {
    &mut room[register * TILE..][..len]
}

fn run_step(isa: Isa, step: &Instruction, len: usize, room: &mut [f32]) {
    let Some(to) = step.writes() else { return };
    // Registers are numbered in the order in which they are written.
    let (before, rest) = room.split_at_mut(to * TILE);
    let from = |register: Register| &before[register * TILE..][..len];
    let out = &mut rest[..len];
    match *step {
        Instruction::Number { value, .. } => out.fill(value as f32),
        Instruction::Apply { function, from: x, .. } => functions::unary(isa, function, from(x), out),
        Instruction::Scale { factor, from: x, .. } => elementwise::scale(isa, factor as f32, from(x), out),
        Instruction::Binary { op, a, b, .. } => elementwise::binary(isa, binary(op), from(a), from(b), out),
        Instruction::Load { .. }
        | Instruction::LoadRepeated { .. }
        | Instruction::Weight { .. }
        | Instruction::Mask { .. }
        | Instruction::MulAdd { .. }
        | Instruction::Store { .. } => unreachable!("no map of one row has {step:?}"),
    }
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
