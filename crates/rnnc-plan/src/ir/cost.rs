//! What operations cost: counts from the plan alone.

use super::maps::MapLeaf;
use super::ops::Op;
use super::program::Instruction;
use serde::Serialize;

/// Counts for one row (a frame of a stream), and what is read once for all rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Cost {
    /// Floating-point operations of products with matrices.
    pub product_flops: u64,
    /// Other floating-point operations; a transcendental function counts 10.
    pub other_flops: u64,
    /// Bytes of values read and written, in f32.
    pub value_bytes: u64,
    /// Bytes of weights (or gradients) touched, in f32: in a loop, once a step.
    pub weight_bytes: u64,
    /// Barriers of a step, if they share out units.
    pub barriers: u64,
}

impl Cost {
    /// Of one operation; it waits for nobody.
    pub fn of_op(op: &Op) -> Cost {
        let mut cost = Cost::default();
        cost.add(op);
        cost
    }

    /// All floating-point operations of a row.
    pub fn flops(&self) -> u64 {
        self.product_flops + self.other_flops
    }

    pub(super) fn add(&mut self, op: &Op) {
        let number = 4u64;
        match op {
            Op::MatMul(products) => {
                for p in products {
                    let (rows, columns) = (p.to.len as u64, p.from.view.len as u64);
                    self.product_flops += 2 * rows * columns;
                    self.weight_bytes += number * rows * columns;
                    self.value_bytes += number * (columns + rows * (1 + u64::from(p.accumulate)));
                }
            }
            Op::Gather(look_ups) => {
                for l in look_ups {
                    self.value_bytes += number * l.to.len as u64 * (2 + u64::from(l.accumulate));
                    self.other_flops += l.to.len as u64 * u64::from(l.accumulate);
                }
            }
            Op::Map(map) => {
                let units = map.len as u64;
                let instructions = &map.program.instructions;
                self.other_flops += units * instructions.iter().map(Instruction::flops).sum::<u64>();
                self.value_bytes += units * number * map.stores().count() as u64;
                for leaf in map.program.leaves() {
                    let (flops, bytes) = match leaf {
                        MapLeaf::Read(_) => (0, number),
                        MapLeaf::Repeated(_, repeat) => (0, number / (repeat.times as u64).min(number)),
                        MapLeaf::Weight(_) => (0, 0),
                        MapLeaf::Mask(mask) => (mask.flops(), 0),
                    };
                    self.other_flops += flops * units;
                    self.value_bytes += bytes * units;
                }
            }
            Op::Vector(vector) => {
                let units = vector.operands.iter().map(|r| r.view.len).max().unwrap_or(0) as u64;
                self.other_flops += vector.operation.flops() * units;
                self.value_bytes += number * (units * vector.operands.len() as u64 + vector.to.len as u64);
            }
            Op::WeightGradient(sums) => {
                for s in sums {
                    let (rows, columns) = (s.error.len as u64, s.source.view.len as u64);
                    self.product_flops += 2 * rows * columns;
                    self.weight_bytes += number * rows * columns;
                    self.value_bytes += number * (rows + columns);
                }
            }
            Op::TableGradient(sums) => {
                for s in sums {
                    self.other_flops += s.error.len as u64;
                    self.value_bytes += 3 * number * s.error.len as u64;
                }
            }
            Op::Reduce(sums) => {
                for s in sums {
                    self.other_flops += s.error.len as u64 * (1 + u64::from(s.source.is_some()));
                    self.value_bytes += number * s.error.len as u64 * (1 + u64::from(s.source.is_some()));
                }
            }
        }
    }
}
