//! A loop whose heads are independent as several loops, each of some of its heads: for executors that are faster with a small loop in
//! many places than with a large one.

use crate::ir::{Map, Op, Partition, Phase, Placed, Product, Task, Vector, View};

/// One of several equal parts.
#[derive(Clone, Copy)]
struct Share {
    number: usize,
    of: usize,
}

impl Share {
    /// The first and how many of some units; `None` if they do not divide.
    fn units(self, len: usize) -> Option<(usize, usize)> {
        let own = len / self.of;
        len.is_multiple_of(self.of).then_some((self.number * own, own))
    }
}

impl Task {
    /// The loop as so many loops of as many heads each, that do not depend on each other; `None` if it does not fall into
    /// them.
    pub fn parted(&self, parts: usize) -> Option<Vec<Task>> {
        if parts < 2 || !self.heads.is_multiple_of(parts) || self.barriers_per_step(Partition::Heads) > 0 {
            return None;
        }
        (0..parts).map(|number| self.part(Share { number, of: parts })).collect()
    }

    fn part(&self, share: Share) -> Option<Task> {
        let mut phases = Vec::with_capacity(self.phases.len());
        for (number, phase) in self.phases.iter().enumerate() {
            let mut ops = Vec::with_capacity(phase.ops.len());
            for Placed { offset, op } in &phase.ops {
                ops.extend(part(op, share)?.into_iter().map(|op| Placed { offset: *offset, op }));
            }
            // Within a head, all units are taken to read all others.
            phases.push(Phase { ops, barrier_of_heads: self.has_barrier(number, Partition::Units) });
        }
        Some(Task { phases, heads: 1, components: self.components.clone(), ..*self })
    }
}

/// What an operation does of some heads.
fn part(op: &Op, share: Share) -> Option<Vec<Op>> {
    Some(match op {
        Op::MatMul(products) => {
            let mut own = Vec::new();
            for p in products {
                let (first, slice_len) = share.units(p.slice_len)?;
                if p.to.len > slice_len || p.first % slice_len + p.to.len > slice_len {
                    return None;
                }
                if (first..first + slice_len).contains(&p.first) {
                    own.push(Product { slice_len, first: p.first - first, ..*p });
                }
            }
            if own.is_empty() { Vec::new() } else { vec![Op::MatMul(own)] }
        }
        Op::Map(map) => map_part(map, share)?.map(Op::Map).into_iter().collect(),
        Op::Vector(vector) => vector_parts(vector, share)?.into_iter().map(Op::Vector).collect(),
        Op::Gather(_) | Op::WeightGradient(_) | Op::TableGradient(_) | Op::Reduce(_) => return None,
    })
}

/// The units of a map that are a share's; none may be.
fn map_part(map: &Map, share: Share) -> Option<Option<Map>> {
    let (begin, slice_len) = share.units(map.slice_len)?;
    let (lo, hi) = (map.first.max(begin), (map.first + map.len).min(begin + slice_len));
    if lo >= hi {
        return Some(None);
    }
    let (skip, len) = (lo - map.first, hi - lo);
    let program = map.program.map_leaves(|leaf| leaf.part(skip, len), |to| to.part(skip, len));
    Some(Some(Map { slice_len, first: lo - begin, len, program, layers: map.layers.clone() }))
}

/// A share's groups of a vector function, slice by slice.
fn vector_parts(vector: &Vector, share: Share) -> Option<Vec<Vector>> {
    let slices = vector.to.len / vector.slice_len.max(1);
    let all = slices * share.of;
    if !vector.operation.groups().is_multiple_of(all) {
        return None;
    }
    let operation = vector.operation.with_groups(vector.operation.groups() / all)?;
    let slice = |slice: usize| {
        let part = Share { number: slice * share.of + share.number, of: all };
        let to: View = part.units(vector.to.len).map(|(first, len)| vector.to.part(first, len))?;
        let operands = vector.operands.iter();
        let operands =
            operands.map(|read| part.units(read.view.len).map(|(first, len)| read.part(first, len)));
        Some(Vector { operation, operands: operands.collect::<Option<_>>()?, to, slice_len: to.len })
    };
    (0..slices).map(slice).collect()
}
