//! What operations cost: counts from the plan alone.

use super::maps::Instruction;
use super::ops::Op;
use rnnc_graph::Operation;
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
                for step in &map.program {
                    let (flops, bytes) = match *step {
                        Instruction::Load { .. } | Instruction::Store { .. } => (0, number),
                        Instruction::LoadRepeated { repeat, .. } => {
                            (0, number / (repeat.times as u64).min(number))
                        }
                        Instruction::Weight { .. } | Instruction::Number { .. } => (0, 0),
                        Instruction::Apply { function, .. } => (function.flops(), 0),
                        Instruction::MulAdd { .. } => (2, 0),
                        Instruction::Mask { key, probability, .. } => {
                            (Operation::DropoutMask { probability, key }.flops(), 0)
                        }
                        Instruction::Scale { .. } | Instruction::Binary { .. } => (1, 0),
                    };
                    self.other_flops += flops * map.len as u64;
                    self.value_bytes += bytes * map.len as u64;
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
