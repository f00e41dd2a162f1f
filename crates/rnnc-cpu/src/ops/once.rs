//! What is computed once a call, of weights alone: tile after tile of each map's units.

use super::TILE;
use crate::compile::map::binary;
use crate::kernels::isa::Isa;
use crate::kernels::{elementwise, functions};
use rnnc_plan::{Instruction, OnceMap, Register};

/// Runs maps one after the other. Registers are tiles of the room: as many as a map has. Of a backward pass, results are
/// added to the gradients, else written to the weights.
pub(crate) fn run(
    isa: Isa,
    maps: &[OnceMap],
    backward: bool,
    weights: &mut [f32],
    gradients: &mut [f32],
    room: &mut [f32],
) {
    for map in maps {
        let mut first = 0;
        while first < map.len {
            let len = TILE.min(map.len - first);
            for &(offset, register) in &map.gradients {
                tile(room, register, len).copy_from_slice(&gradients[offset + first..][..len]);
            }
            for step in &map.program {
                run_step(isa, step, weights, first, len, room);
            }
            for &(register, offset) in &map.results {
                let result = &*tile(room, register, len);
                let to = if backward { &mut *gradients } else { &mut *weights };
                let to = &mut to[offset + first..][..len];
                if backward {
                    to.iter_mut().zip(result).for_each(|(sum, x)| *sum += x);
                } else {
                    to.copy_from_slice(result);
                }
            }
            first += len;
        }
    }
}

fn tile(room: &mut [f32], register: Register, len: usize) -> &mut [f32] {
    &mut room[register * TILE..][..len]
}

fn run_step(isa: Isa, step: &Instruction, weights: &[f32], first: usize, len: usize, room: &mut [f32]) {
    let Some(to) = step.writes() else { return };
    // Registers are numbered in the order in which they are written.
    let (before, rest) = room.split_at_mut(to * TILE);
    let from = |register: Register| &before[register * TILE..][..len];
    let out = &mut rest[..len];
    match *step {
        Instruction::Weight { offset, .. } => out.copy_from_slice(&weights[offset + first..][..len]),
        Instruction::Number { value, .. } => out.fill(value as f32),
        Instruction::Apply { function, from: x, .. } => functions::unary(isa, function, from(x), out),
        Instruction::Scale { factor, from: x, .. } => elementwise::scale(isa, factor as f32, from(x), out),
        Instruction::Binary { op, a, b, .. } => elementwise::binary(isa, binary(op), from(a), from(b), out),
        Instruction::Load { .. }
        | Instruction::LoadRepeated { .. }
        | Instruction::Mask { .. }
        | Instruction::MulAdd { .. }
        | Instruction::Store { .. } => unreachable!("no map of one row has {step:?}"),
    }
}
