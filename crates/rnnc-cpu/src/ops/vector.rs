//! Vector functions: each worker looks at whole groups and writes its own units of them.

#![allow(unsafe_code)] // rows of the shared buffers

use super::{Local, Share};
use crate::kernels::isa::Isa;
use crate::kernels::rows::{self, Parts, Rows};
use crate::memory::Shared;
use crate::program::VectorOp;
use crate::units::runs;
use rnnc_graph::{Operation, Slices};
use std::ops::Range;

/// Runs a vector function over a worker's rows and units.
pub(crate) fn vector(shared: &Shared<'_>, op: &VectorOp, share: &Share, local: &mut Local) {
    let own = share.units(op.slice_len);
    if own.is_empty() {
        return;
    }
    // The same of each slice.
    let mut slices: [Range<usize>; Slices::MOST] = std::array::from_fn(|_| 0..0);
    slices
        .iter_mut()
        .zip(runs(op.to.len, op.slice_len, 0, &own))
        .for_each(|(to, (first, n))| *to = first..first + n);
    let units = &slices[..op.to.len / op.slice_len];
    // Groups that lie within a slice are a slice's own: nothing is read of those in which the worker has no units.
    let all = op.operation.groups();
    let size = op.to.len / all;
    let apart_by_slices = all > 1 && op.slice_len.is_multiple_of(size);
    for t in share.frames.clone() {
        // A frame's rows lie side by side, unless a read crosses a reset in some.
        let apart = op.operands.iter().any(|from| from.delay != 0 && shared.may_cross(from, t));
        let count = if apart { 1 } else { share.streams.len() };
        for b in share.streams.clone().step_by(count.max(1)) {
            let at = (t, b, count);
            if !apart_by_slices {
                rows(shared, op, at, 0..all, units, local.group.as_mut_slice());
                continue;
            }
            for own in units {
                let groups = own.start / size..own.end.div_ceil(size);
                let first = groups.start * size;
                let own = own.start - first..own.end - first;
                rows(shared, op, at, groups, std::slice::from_ref(&own), local.group.as_mut_slice());
            }
        }
    }
}

/// Runs it for some groups of so many rows of a frame, from one on, and for some of their units, counted from the first.
fn rows(
    shared: &Shared<'_>,
    op: &VectorOp,
    (t, b, count): (usize, usize, usize),
    groups: Range<usize>,
    units: &[Range<usize>],
    room: &mut [f32],
) {
    let (isa, all) = (shared.isa, op.operation.groups());
    // SAFETY: operands are as long as the compiler says, and were written before the last barrier; of the result only this
    // worker's units are written, and no operand is the result.
    let operand = |i: usize| unsafe {
        let from = &op.operands[i];
        let size = from.len / all;
        let first = shared.source(from, t, b).add(groups.start * size);
        let len = groups.len() * size;
        (0..count).for_each(|row| shared.reads(first.add(row * from.width), len));
        Rows::new(first, from.width, len, count)
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
        let first = shared.target(&op.to, t, b).add(groups.start * (op.to.len / all));
        for (row, own) in (0..count).flat_map(|row| units.iter().map(move |own| (row, own))) {
            shared.writes(first.add(row * op.to.width + own.start), own.len());
        }
        Parts::new(first, op.to.width, count, units)
    };
    call(isa, op.operation, groups.len(), operand, symbol, room, out);
}

/// Calls the kernel of a vector function, for so many groups. `operand` and `symbol` give operands by their places.
pub(crate) fn call<'a>(
    isa: Isa,
    operation: Operation,
    groups: usize,
    operand: impl Fn(usize) -> Rows<'a>,
    symbol: impl Fn(usize) -> Rows<'a, u32>,
    room: &mut [f32],
    out: Parts<'_>,
) {
    match operation {
        Operation::Softmax { .. } => rows::softmax(isa, operand(0), groups, room, out),
        Operation::LogSoftmax { .. } => rows::log_softmax(isa, operand(0), groups, room, out),
        Operation::Normalize { center, epsilon, .. } => {
            rows::normalize(isa, operand(0), groups, center, epsilon as f32, out)
        }
        Operation::GroupSum { .. } => rows::group_sum(isa, operand(0), groups, out),
        Operation::CrossEntropy => rows::cross_entropy(isa, operand(0), symbol(1), room, out),
        Operation::SoftmaxGradient { .. } => rows::softmax_gradient(isa, operand(0), operand(1), groups, out),
        Operation::LogSoftmaxGradient { .. } => {
            rows::log_softmax_gradient(isa, operand(0), operand(1), groups, out)
        }
        Operation::NormalizeGradient { center, epsilon, .. } => {
            rows::normalize_gradient(isa, operand(0), operand(1), groups, center, epsilon as f32, out)
        }
        Operation::CrossEntropyGradient => {
            rows::cross_entropy_gradient(isa, operand(0), operand(1), symbol(2), room, out)
        }
        Operation::Divide
        | Operation::Max
        | Operation::Min
        | Operation::Known
        | Operation::Share
        | Operation::Compare { .. }
        | Operation::When
        | Operation::Unless
        | Operation::Mod
        | Operation::Floored
        | Operation::DropoutMask { .. } => unreachable!("{operation:?} is a step of maps"),
    }
}
