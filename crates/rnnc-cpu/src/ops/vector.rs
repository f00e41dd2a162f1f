//! Vector functions: each worker looks at whole groups and writes its own units of them.

#![allow(unsafe_code)] // rows of the shared buffers

use super::{Local, Share};
use crate::compile::runs;
use crate::kernels::elementwise as tile;
use crate::memory::Shared;
use crate::program::VectorOp;
use rnnc_graph::{Activation, Function, Operation};
use rnnc_plan::NO_SYMBOL;
use std::ops::Range;

/// Runs a vector function over a worker's rows and units.
pub(crate) fn vector(shared: &Shared<'_>, op: &VectorOp, share: &Share, local: &mut Local) {
    for (first, n) in runs(op.to.len, op.span, 0, &share.units(op.span)) {
        slice(shared, op, share, first..first + n, local);
    }
}

fn slice(shared: &Shared<'_>, op: &VectorOp, share: &Share, units: Range<usize>, local: &mut Local) {
    let scratch = local.group.as_mut_slice();
    for t in share.frames.clone() {
        for b in share.streams.clone() {
            // SAFETY: operands are as long as the compiler says, and were written before the last barrier; of the
            // result only this worker's units are written, and no operand is the result.
            let operand = |i: usize| unsafe {
                std::slice::from_raw_parts(shared.source(&op.operands[i], t, b), op.operands[i].len)
            };
            // SAFETY: as above.
            let out = unsafe {
                std::slice::from_raw_parts_mut(shared.target(&op.to, t, b).add(units.start), units.len())
            };
            // SAFETY: a symbol is stored as the bits of a number.
            let symbol = |i: usize| unsafe { shared.source(&op.operands[i], t, b).cast::<u32>().read() };
            let row = Row { shared, units: &units, scratch, out };
            match op.operation {
                Operation::Softmax { groups } => row.softmax(operand(0), groups),
                Operation::LogSoftmax { groups } => row.log_softmax(operand(0), groups),
                Operation::Normalize { groups, center, epsilon } => {
                    row.normalize(operand(0), groups, center, epsilon)
                }
                Operation::GroupSum { groups } => row.group_sum(operand(0), groups),
                Operation::CrossEntropy => row.cross_entropy(operand(0), symbol(1)),
                Operation::SoftmaxGradient { groups } => row.softmax_gradient(operand(0), operand(1), groups),
                Operation::LogSoftmaxGradient { groups } => {
                    row.log_softmax_gradient(operand(0), operand(1), groups)
                }
                Operation::NormalizeGradient { groups, center, epsilon } => {
                    row.normalize_gradient(operand(0), operand(1), groups, center, epsilon);
                }
                Operation::CrossEntropyGradient => {
                    row.cross_entropy_gradient(operand(0)[0], operand(1), symbol(2))
                }
                // Elementwise ones are steps of maps.
                _ => {}
            }
        }
    }
}

/// A row of a result: a worker's units of it.
struct Row<'a> {
    shared: &'a Shared<'a>,
    units: &'a Range<usize>,
    scratch: &'a mut [f32],
    out: &'a mut [f32],
}

/// A group that a worker writes a part of: its units, and which of them are written, as places in the group and in the
/// worker's part of the result.
struct Group {
    all: Range<usize>,
    own: Range<usize>,
    out: Range<usize>,
}

fn group(units: &Range<usize>, size: usize, index: usize) -> Group {
    let all = index * size..(index + 1) * size;
    let (lo, hi) = (units.start.max(all.start), units.end.min(all.end));
    Group { own: lo - all.start..hi - all.start, out: lo - units.start..hi - units.start, all }
}

/// The groups of `size` units that some units lie in.
fn groups_of(units: &Range<usize>, size: usize) -> Range<usize> {
    units.start / size..units.end.div_ceil(size)
}

/// The largest; NaN if one is.
fn largest(x: &[f32]) -> f32 {
    x.iter().copied().fold(f32::NEG_INFINITY, |m, v| if v > m || v.is_nan() { v } else { m })
}

impl Row<'_> {
    /// exp(x - largest) into the scratch; returns (largest, sum).
    fn exponentials(&mut self, x: &[f32]) -> (f32, f32) {
        let isa = self.shared.isa;
        let max = largest(x);
        let shifted = &mut self.scratch[..x.len()];
        shifted.iter_mut().zip(x).for_each(|(s, x)| *s = x - max);
        tile::unary_in_place(isa, Function::Apply(Activation::Exp), shifted);
        (max, tile::sum(isa, shifted))
    }

    fn softmax(mut self, x: &[f32], groups: usize) {
        let size = x.len() / groups;
        for g in groups_of(self.units, size) {
            let g = group(self.units, size, g);
            let (_, sum) = self.exponentials(&x[g.all]);
            self.out[g.out].iter_mut().zip(&self.scratch[g.own]).for_each(|(o, e)| *o = e / sum);
        }
    }

    fn log_softmax(mut self, x: &[f32], groups: usize) {
        let size = x.len() / groups;
        for g in groups_of(self.units, size) {
            let g = group(self.units, size, g);
            let x = &x[g.all];
            let (max, sum) = self.exponentials(x);
            let log = sum.ln();
            self.out[g.out].iter_mut().zip(&x[g.own]).for_each(|(o, x)| *o = (x - max) - log);
        }
    }

    /// (mean or 0, 1 / deviation) of a group.
    fn statistics(&mut self, x: &[f32], center: bool, epsilon: f64) -> (f32, f32) {
        let isa = self.shared.isa;
        let n = x.len() as f32;
        let mean = if center { tile::sum(isa, x) / n } else { 0.0 };
        let centered = &mut self.scratch[..x.len()];
        centered.iter_mut().zip(x).for_each(|(c, x)| *c = x - mean);
        let variance = tile::dot(isa, centered, centered) / n;
        (mean, 1.0 / (variance + epsilon as f32).sqrt())
    }

    fn normalize(mut self, x: &[f32], groups: usize, center: bool, epsilon: f64) {
        let size = x.len() / groups;
        for g in groups_of(self.units, size) {
            let g = group(self.units, size, g);
            let (_, inverse) = self.statistics(&x[g.all], center, epsilon);
            self.out[g.out].iter_mut().zip(&self.scratch[g.own]).for_each(|(o, c)| *o = c * inverse);
        }
    }

    fn group_sum(self, x: &[f32], groups: usize) {
        let size = x.len() / groups;
        for (out, g) in self.out.iter_mut().zip(self.units.clone()) {
            *out = tile::sum(self.shared.isa, &x[g * size..(g + 1) * size]);
        }
    }

    fn cross_entropy(mut self, logits: &[f32], symbol: u32) {
        self.out[0] = if symbol == NO_SYMBOL {
            0.0
        } else {
            let (max, sum) = self.exponentials(logits);
            sum.ln() - (logits[symbol as usize] - max)
        };
    }

    fn softmax_gradient(self, e: &[f32], y: &[f32], groups: usize) {
        let size = y.len() / groups;
        for g in groups_of(self.units, size) {
            let g = group(self.units, size, g);
            let (e, y) = (&e[g.all.clone()], &y[g.all]);
            let dot = tile::dot(self.shared.isa, e, y);
            let own = e[g.own.clone()].iter().zip(&y[g.own]);
            self.out[g.out].iter_mut().zip(own).for_each(|(o, (e, y))| *o = y * (e - dot));
        }
    }

    fn log_softmax_gradient(self, e: &[f32], y: &[f32], groups: usize) {
        let size = y.len() / groups;
        let isa = self.shared.isa;
        for g in groups_of(self.units, size) {
            let g = group(self.units, size, g);
            let sum = tile::sum(isa, &e[g.all.clone()]);
            let probabilities = &mut self.scratch[..g.own.len()];
            tile::unary(
                isa,
                Function::Apply(Activation::Exp),
                &y[g.all.clone()][g.own.clone()],
                probabilities,
            );
            let own = e[g.all][g.own].iter().zip(&*probabilities);
            self.out[g.out].iter_mut().zip(own).for_each(|(o, (e, p))| *o = e - p * sum);
        }
    }

    /// With n units, h the normalized ones and r = 1 / deviation: r (e - mean(e) - h mean(e h)), the first mean only if
    /// centered (Ba, Kiros & Hinton 2016, supplement).
    fn normalize_gradient(mut self, e: &[f32], x: &[f32], groups: usize, center: bool, epsilon: f64) {
        let size = x.len() / groups;
        let isa = self.shared.isa;
        for g in groups_of(self.units, size) {
            let g = group(self.units, size, g);
            let (e, x) = (&e[g.all.clone()], &x[g.all]);
            let (_, inverse) = self.statistics(x, center, epsilon);
            let n = size as f32;
            let mean = if center { tile::sum(isa, e) / n } else { 0.0 };
            let along = tile::dot(isa, e, &self.scratch[..size]) * inverse * inverse / n;
            let own = e[g.own.clone()].iter().zip(&self.scratch[g.own]);
            self.out[g.out].iter_mut().zip(own).for_each(|(o, (e, c))| *o = inverse * (e - mean - c * along));
        }
    }

    fn cross_entropy_gradient(mut self, error: f32, logits: &[f32], symbol: u32) {
        if symbol == NO_SYMBOL {
            return self.out.fill(0.0);
        }
        let (_, sum) = self.exponentials(logits);
        let own = &self.scratch[self.units.clone()];
        self.out.iter_mut().zip(own).for_each(|(o, p)| *o = error * (p / sum));
        if self.units.contains(&(symbol as usize)) {
            self.out[symbol as usize - self.units.start] -= error;
        }
    }
}
