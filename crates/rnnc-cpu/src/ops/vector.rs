//! Vector functions: each worker looks at whole groups and writes its own units of them.

#![allow(unsafe_code)] // rows of the shared buffers

use super::{Local, Share};
use crate::compile::runs;
use crate::kernels::rows::{self, Parts, Rows};
use crate::memory::Shared;
use crate::program::VectorOp;
use rnnc_graph::{Operation, Spans};
use std::ops::Range;

/// Runs a vector function over a worker's rows and units.
pub(crate) fn vector(shared: &Shared<'_>, op: &VectorOp, share: &Share, local: &mut Local) {
    let own = share.units(op.span);
    if own.is_empty() {
        return;
    }
    // The same of each slice.
    let mut slices: [Range<usize>; Spans::MOST] = std::array::from_fn(|_| 0..0);
    slices
        .iter_mut()
        .zip(runs(op.to.len, op.span, 0, &own))
        .for_each(|(to, (first, n))| *to = first..first + n);
    let units = &slices[..op.to.len / op.span];
    for t in share.frames.clone() {
        // A frame's rows lie side by side, unless a read crosses a reset in some.
        let apart = op.operands.iter().any(|from| from.delay != 0 && shared.may_cross(from, t));
        let count = if apart { 1 } else { share.streams.len() };
        for b in share.streams.clone().step_by(count.max(1)) {
            rows(shared, op, (t, b, count), units, local.group.as_mut_slice());
        }
    }
}

/// Runs it for some units of so many rows of a frame, from one on.
fn rows(
    shared: &Shared<'_>,
    op: &VectorOp,
    (t, b, count): (usize, usize, usize),
    units: &[Range<usize>],
    room: &mut [f32],
) {
    let isa = shared.isa;
    // SAFETY: operands are as long as the compiler says, and were written before the last barrier; of the result only this
    // worker's units are written, and no operand is the result.
    let operand = |i: usize| unsafe {
        let from = &op.operands[i];
        let first = shared.source(from, t, b);
        (0..count).for_each(|row| shared.reads(first.add(row * from.width), from.len));
        Rows::new(first, from.width, from.len, count)
    };
    // SAFETY: as above; a symbol is stored as the bits of a number.
    let symbol = |i: usize| unsafe {
        let from = &op.operands[i];
        let first = shared.source(from, t, b);
        (0..count).for_each(|row| shared.reads(first.add(row * from.width), 1));
        Rows::new(first.cast::<u32>(), from.width, 1, count)
    };
    // SAFETY: these units are the worker's alone, and no two ranges of them overlap.
    let out = unsafe {
        let first = shared.target(&op.to, t, b);
        for (row, own) in (0..count).flat_map(|row| units.iter().map(move |own| (row, own))) {
            shared.writes(first.add(row * op.to.width + own.start), own.len());
        }
        Parts::new(first, op.to.width, count, units)
    };
    match op.operation {
        Operation::Softmax { groups } => rows::softmax(isa, operand(0), groups, room, out),
        Operation::LogSoftmax { groups } => rows::log_softmax(isa, operand(0), groups, room, out),
        Operation::Normalize { groups, center, epsilon } => {
            rows::normalize(isa, operand(0), groups, center, epsilon as f32, out)
        }
        Operation::GroupSum { groups } => rows::group_sum(isa, operand(0), groups, out),
        Operation::CrossEntropy => rows::cross_entropy(isa, operand(0), symbol(1), room, out),
        Operation::SoftmaxGradient { groups } => {
            rows::softmax_gradient(isa, operand(0), operand(1), groups, out)
        }
        Operation::LogSoftmaxGradient { groups } => {
            rows::log_softmax_gradient(isa, operand(0), operand(1), groups, out)
        }
        Operation::NormalizeGradient { groups, center, epsilon } => {
            rows::normalize_gradient(isa, operand(0), operand(1), groups, center, epsilon as f32, out)
        }
        Operation::CrossEntropyGradient => {
            rows::cross_entropy_gradient(isa, operand(0), operand(1), symbol(2), room, out)
        }
        // Elementwise ones are steps of maps.
        Operation::Quotient
        | Operation::Max
        | Operation::Min
        | Operation::Step
        | Operation::DropoutMask { .. } => {}
    }
}
