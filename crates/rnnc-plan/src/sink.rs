//! Sinking: what only a cycle's map reads is computed there, not stored for all frames before.
//!
//! On a machine bound by memory traffic, a value that is computed for all frames, stored, and read once is dearer than one
//! computed where it is needed. (A machine bound by the length of a frame's chain of steps wants the opposite, so this is
//! the executor's choice.) The instructions that compute it move from the frames stage's map to the one that loads it.

use crate::cost::Cost;
use crate::deal::Speeds;
use crate::memory::{find_lifetimes, for_each_view};
use crate::plan::{Instruction, Map, Op, Pass, Plan, Read, Register, StageKind, View};
use rnnc_graph::Graph;
use std::collections::{HashMap, HashSet};

/// An operation's place in a pass: stage, track, phase, and which of its operations.
type Place = (usize, usize, usize, usize);

/// What is to move from a map to another.
struct Move {
    from: Place,
    to: Place,
    views: Vec<View>,
}

impl Plan {
    /// Moves into the maps of cycles whatever is computed for them alone, and chooses anew how work is shared out, among cores
    /// of these speeds, as [`Plan::deal_out_at`] does.
    pub fn sink(&mut self, speeds: Speeds) {
        for backward in [false, true] {
            let moves = match (backward, &self.backward_pass, &self.adjoint) {
                (false, ..) => find_moves(self, &self.forward_pass, &self.forward),
                (true, Some(pass), Some(adjoint)) => find_moves(self, pass, adjoint),
                _ => continue,
            };
            let Some(pass) =
                (if backward { self.backward_pass.as_mut() } else { Some(&mut self.forward_pass) })
            else {
                continue;
            };
            for each in &moves {
                carry_out(pass, each);
            }
            for stage in &mut pass.stages {
                for track in &mut stage.tracks {
                    for phase in &mut track.phases {
                        let is_empty = |op: &Op| matches!(op, Op::Map(map) if map.program.is_empty());
                        phase.ops.retain(|placed| !is_empty(&placed.op));
                    }
                    if stage.kind == StageKind::Frames {
                        track.phases.retain(|phase| !phase.ops.is_empty());
                    }
                }
                stage.tracks.retain(|track| !track.phases.is_empty());
                stage.cost = Cost::of(&stage.tracks);
            }
            pass.stages.retain(|stage| !stage.tracks.is_empty());
        }
        let mut used = HashSet::new();
        self.stages().for_each(|stage| for_each_view(stage, &mut |view| used.extend([view.buffer])));
        for pass in [Some(&self.forward_pass), self.backward_pass.as_ref()].into_iter().flatten() {
            used.extend(pass.storage.iter().flatten().map(|view| view.buffer));
        }
        for (place, buffer) in self.buffers.iter_mut().enumerate() {
            if !used.contains(&crate::plan::BufferId(place)) {
                buffer.width = 0;
            }
        }
        find_lifetimes(self);
        self.deal_out_at(speeds);
        debug_assert_eq!(self.verify(), Ok(()));
    }
}

/// Calls `each` with every map of a pass.
fn maps(pass: &Pass) -> impl Iterator<Item = (Place, &Map)> {
    pass.stages.iter().enumerate().flat_map(|(s, stage)| {
        stage.tracks.iter().enumerate().flat_map(move |(t, track)| {
            track.phases.iter().enumerate().flat_map(move |(p, phase)| {
                phase.ops.iter().enumerate().filter_map(move |(o, placed)| match &placed.op {
                    Op::Map(map) => Some(((s, t, p, o), map)),
                    _ => None,
                })
            })
        })
    })
}

fn map_at(pass: &mut Pass, (s, t, p, o): Place) -> Option<&mut Map> {
    match &mut pass.stages.get_mut(s)?.tracks.get_mut(t)?.phases.get_mut(p)?.ops.get_mut(o)?.op {
        Op::Map(map) => Some(map),
        _ => None,
    }
}

fn overlap(a: View, b: View) -> bool {
    a.buffer == b.buffer && a.column < b.column + b.len && b.column < a.column + a.len
}

fn find_moves(plan: &Plan, pass: &Pass, graph: &Graph) -> Vec<Move> {
    // How often each buffer's views are named, anywhere.
    let mut named: HashMap<usize, Vec<View>> = HashMap::new();
    plan.stages()
        .for_each(|stage| for_each_view(stage, &mut |v| named.entry(v.buffer.0).or_default().push(v)));
    // Outputs are copied out, and older frames of saved layers may be.
    let saved = if std::ptr::eq(graph, &plan.forward) { plan.saved_layers() } else { Vec::new() };
    for layer in graph.outputs().iter().map(|output| output.layer).chain(saved) {
        if let Some(view) = pass.storage[layer.index()] {
            named.entry(view.buffer.0).or_default().push(view);
        }
    }
    // Where in cycles' maps each view is loaded, as it is and in its own frame.
    let mut loads: HashMap<View, (Place, usize, usize, usize)> = HashMap::new();
    for (place, map) in maps(pass).filter(|(place, _)| pass.stages[place.0].kind != StageKind::Frames) {
        for step in &map.program {
            if let Instruction::Load { read: Read { view, delay: 0, .. }, .. } = *step {
                loads.insert(view, (place, map.span, map.first, map.len));
            }
        }
    }
    let mut moves = Vec::new();
    for (from, map) in maps(pass).filter(|(place, _)| pass.stages[place.0].kind == StageKind::Frames) {
        // By the map that loads them, the views that it alone reads.
        let mut wanted: Vec<(Place, View)> = Vec::new();
        for step in &map.program {
            let Instruction::Store { to: view, .. } = *step else { continue };
            let alone = named[&view.buffer.0].iter().filter(|&&other| overlap(view, other)).count() == 2;
            if let Some(&(to, span, first, len)) = loads.get(&view)
                && alone
                && to.0 > from.0
                && plan.buffers[view.buffer.0].history == 0
                && (span, first, len) == (map.span, map.first, map.len)
            {
                wanted.push((to, view));
            }
        }
        wanted.sort();
        for group in wanted.chunk_by(|a, b| a.0 == b.0) {
            let to = group[0].0;
            let mut views: Vec<View> = group.iter().map(|&(_, view)| view).collect();
            // Nothing is computed twice, and what it is computed of is still there.
            loop {
                let stays = needed(map, |view| !views.contains(&view));
                let before = views.len();
                views.retain(|&view| {
                    let takes = needed(map, |other| other == view);
                    (0..map.program.len()).filter(|&i| takes[i]).all(|i| match map.program[i] {
                        Instruction::Load { read, .. } | Instruction::LoadRepeated { read, .. } => {
                            !written_between(pass, from.0, to.0, read.view)
                        }
                        Instruction::Weight { .. } | Instruction::Number { .. } => true,
                        _ => !stays[i],
                    })
                });
                if views.len() == before {
                    break;
                }
            }
            if !views.is_empty() {
                moves.push(Move { from, to, views });
            }
        }
    }
    moves
}

/// Which instructions the stores of some views need, themselves included.
fn needed(map: &Map, of: impl Fn(View) -> bool) -> Vec<bool> {
    let mut registers = vec![false; map.registers];
    let mut needed = vec![false; map.program.len()];
    for (i, step) in map.program.iter().enumerate().rev() {
        needed[i] = match step {
            Instruction::Store { to, .. } => of(*to),
            other => other.writes().is_some_and(|to| registers[to]),
        };
        if needed[i] {
            step.reads().for_each(|r| registers[r] = true);
        }
    }
    needed
}

/// Whether any stage after one, up to another, writes to a view.
fn written_between(pass: &Pass, after: usize, last: usize, view: View) -> bool {
    let mut found = false;
    let mut note = |to: View| found |= overlap(view, to);
    let ops = pass.stages[after + 1..=last].iter().flat_map(|s| &s.tracks).flat_map(|t| &t.phases);
    for placed in ops.flat_map(|phase| &phase.ops) {
        match &placed.op {
            Op::MatMul(products) => products.iter().for_each(|p| note(p.to)),
            Op::Gather(look_ups) => look_ups.iter().for_each(|l| note(l.to)),
            Op::Vector(vector) => note(vector.to),
            Op::Map(map) => map.program.iter().for_each(|step| {
                if let Instruction::Store { to, .. } = step {
                    note(*to);
                }
            }),
            Op::WeightGradient(_) | Op::TableGradient(_) | Op::Reduce(_) => {}
        }
    }
    found
}

fn carry_out(pass: &mut Pass, each: &Move) {
    let is_moved = |view: View| each.views.contains(&view);
    let sunk: Vec<_> = (0..pass.storage.len()).filter(|&l| pass.storage[l].is_some_and(is_moved)).collect();
    let Some(from) = map_at(pass, each.from) else { return };
    let (moving, staying) = (needed(from, is_moved), needed(from, |view| !is_moved(view)));
    let source = from.clone();
    let mut place = 0..;
    from.program.retain(|_| place.next().is_some_and(|i| staying[i]));
    let layers: Vec<_> = match from.program.is_empty() {
        true => std::mem::take(&mut from.layers),
        false => from.layers.extract_if(.., |layer| sunk.contains(&layer.index())).collect(),
    };
    let Some(to) = map_at(pass, each.to) else { return };
    to.layers.splice(0..0, layers);
    let mut renamed: HashMap<Register, Register> = HashMap::new();
    // In place of each load, what computes its value, as far as that is not there yet.
    let mut program = Vec::with_capacity(to.program.len() + source.program.len());
    let mut replaced: HashMap<Register, Register> = HashMap::new();
    for step in to.program.drain(..) {
        let mut step = step;
        step.rename(|r| replaced.get(&r).copied().unwrap_or(r));
        let Instruction::Load { read, to: register } = step else {
            program.push(step);
            continue;
        };
        let stored = source.program.iter().find_map(|s| match *s {
            Instruction::Store { from, to } if to == read.view && is_moved(to) => Some(from),
            _ => None,
        });
        let Some(value) = stored.filter(|_| read.delay == 0) else {
            program.push(step);
            continue;
        };
        let takes = needed(&source, |view| view == read.view);
        for (i, instruction) in source.program.iter().enumerate() {
            let Some(result) = instruction.writes().filter(|_| takes[i] && moving[i]) else { continue };
            if renamed.contains_key(&result) {
                continue;
            }
            renamed.insert(result, to.registers);
            to.registers += 1;
            let mut copy = *instruction;
            copy.rename(|r| renamed[&r]);
            program.push(copy);
        }
        replaced.insert(register, renamed[&value]);
    }
    to.program = program;
    for layer in sunk {
        pass.storage[layer] = None;
    }
}

impl Instruction {
    /// Gives its registers other numbers.
    fn rename(&mut self, new: impl Fn(Register) -> Register) {
        let list: [Option<&mut Register>; 4] = match self {
            Instruction::Load { to, .. }
            | Instruction::LoadRepeated { to, .. }
            | Instruction::Weight { to, .. }
            | Instruction::Number { to, .. }
            | Instruction::Mask { to, .. } => [Some(to), None, None, None],
            Instruction::Apply { from, to, .. } | Instruction::Scale { from, to, .. } => {
                [Some(from), Some(to), None, None]
            }
            Instruction::Store { from, .. } => [Some(from), None, None, None],
            Instruction::Binary { a, b, to, .. } => [Some(a), Some(b), Some(to), None],
            Instruction::MulAdd { a, b, c, to } => [Some(a), Some(b), Some(c), Some(to)],
        };
        list.into_iter().flatten().for_each(|register| *register = new(*register));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::PlanOptions;
    use rnnc_graph::{Activation, Connect, Init};

    /// h = tanh(x^2 + W h[t-1]), where x^2 is h's alone.
    fn plan(more: bool) -> Plan {
        let mut g = Graph::new("n");
        let x = g.input("x", 4);
        let square = g.sum("square", 4, Activation::Square);
        let h = g.sum("h", 4, Activation::Tanh);
        let weight = g.weight("w", &[4, 4], Init::Uniform(0.5));
        g.connect(x, square, Connect::identity());
        g.connect(square, h, Connect::identity());
        g.connect(h, h, Connect::full(weight).delay(1));
        g.output("h", h);
        if more {
            g.output("square", square);
        }
        Plan::new(&g, PlanOptions::inference(1, 8)).unwrap()
    }

    #[test]
    fn what_only_a_loop_reads_is_computed_in_it() {
        let mut plan = plan(false);
        assert_eq!(plan.forward_pass.stages.len(), 2);
        let room = plan.memory(1, 8, false).buffers;
        plan.sink(Speeds::CORE);
        let [stage] = &plan.forward_pass.stages[..] else { panic!("{:?}", plan.forward_pass.stages) };
        assert_eq!(stage.kind, StageKind::Loop);
        let (_, map) = maps(&plan.forward_pass).next().unwrap();
        let squares = |i: &&Instruction| matches!(i, Instruction::Apply { function, .. } if *function == rnnc_graph::Function::Apply(Activation::Square));
        assert_eq!(map.program.iter().filter(squares).count(), 1);
        assert!(map.layers.len() == 2 && plan.memory(1, 8, false).buffers < room);
    }

    #[test]
    fn what_something_else_reads_stays() {
        let mut plan = plan(true);
        let before = plan.forward_pass.stages.clone();
        plan.sink(Speeds::CORE);
        assert_eq!(plan.forward_pass.stages, before);
    }
}
