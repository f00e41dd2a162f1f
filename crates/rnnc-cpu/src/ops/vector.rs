//! Vector functions: each worker looks at whole groups and writes its own units of them.

#![allow(unsafe_code)] // rows of the shared buffers

use super::{Local, Share};
use crate::kernels::rows::{self, Parts};
use crate::memory::Shared;
use crate::program::VectorOp;
use rnnc_graph::Operation;
use rnnc_plan::NO_SYMBOL;
use std::ops::Range;

/// Runs a vector function over a worker's rows and units.
pub(crate) fn vector(shared: &Shared<'_>, op: &VectorOp, share: &Share, local: &mut Local) {
    let units = [share.units(op.to.len)];
    if units.iter().all(|own| own.is_empty()) {
        return;
    }
    for t in share.frames.clone() {
        for b in share.streams.clone() {
            row(shared, op, (t, b), &units, local.group.as_mut_slice());
        }
    }
}

/// Runs it for some units of a row.
fn row(shared: &Shared<'_>, op: &VectorOp, (t, b): (usize, usize), units: &[Range<usize>], room: &mut [f32]) {
    let isa = shared.isa;
    // SAFETY: operands are as long as the compiler says, and were written before the last barrier; of the result only this
    // worker's units are written, and no operand is the result.
    let operand = |i: usize| unsafe {
        std::slice::from_raw_parts(shared.source(&op.operands[i], t, b), op.operands[i].len)
    };
    // SAFETY: a symbol is stored as the bits of a number.
    let symbol = |i: usize| unsafe { shared.source(&op.operands[i], t, b).cast::<u32>().read() };
    // SAFETY: these units are the worker's alone, and no two ranges of them overlap.
    let mut out = unsafe { Parts::new(shared.target(&op.to, t, b), units) };
    match op.operation {
        Operation::Softmax { groups } => rows::softmax(isa, operand(0), groups, room, out),
        Operation::LogSoftmax { groups } => rows::log_softmax(isa, operand(0), groups, room, out),
        Operation::Normalize { groups, center, epsilon } => {
            rows::normalize(isa, operand(0), groups, center, epsilon as f32, out)
        }
        Operation::GroupSum { groups } => rows::group_sum(isa, operand(0), groups, out),
        Operation::CrossEntropy => out.fill(match symbol(1) {
            NO_SYMBOL => 0.0,
            symbol => rows::cross_entropy(isa, operand(0), symbol as usize, room),
        }),
        Operation::SoftmaxGradient { groups } => {
            rows::softmax_gradient(isa, operand(0), operand(1), groups, out)
        }
        Operation::LogSoftmaxGradient { groups } => {
            rows::log_softmax_gradient(isa, operand(0), operand(1), groups, out)
        }
        Operation::NormalizeGradient { groups, center, epsilon } => {
            rows::normalize_gradient(isa, operand(0), operand(1), groups, center, epsilon as f32, out)
        }
        Operation::CrossEntropyGradient => match symbol(2) {
            NO_SYMBOL => out.fill(0.0),
            symbol => {
                let error = operand(0)[0];
                rows::cross_entropy_gradient(isa, error, operand(1), symbol as usize, room, out)
            }
        },
        // Elementwise ones are steps of maps.
        _ => {}
    }
}
