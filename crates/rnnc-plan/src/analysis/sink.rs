//! Sinking: what only a cycle's map reads is computed there, not stored for all frames before.
//!
//! On a machine bound by memory traffic, a value that is computed for all frames, stored, and read once is dearer than one
//! computed where it is needed. (A machine bound by the length of a frame's chain of steps wants the opposite, so this is
//! the executor's choice.) The instructions that compute it move from the frames stage's map to the one that loads it.

use super::memory::find_lifetimes;
use super::overlaps::Views;
use crate::ir::{
    BufferId, Cost, Instruction, Map, MapLeaf, Op, Pass, Plan, Program, Read, Register, StageKind, View,
};
use rnnc_graph::{Graph, LayerId};
use std::collections::{BTreeSet, HashMap, HashSet};

/// An operation's place in a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct OpPlace {
    stage: usize,
    task: usize,
    phase: usize,
    /// Among those of the phase.
    op: usize,
}

/// What is to move from a map to another.
struct Move {
    from: OpPlace,
    to: OpPlace,
    views: Vec<View>,
}

impl Plan {
    /// Moves into the maps of cycles whatever is computed for them alone.
    pub fn sink(&mut self) {
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
            carry_out(pass, &moves);
            for stage in &mut pass.stages {
                for task in &mut stage.tasks {
                    for phase in &mut task.phases {
                        let is_empty =
                            |op: &Op| matches!(op, Op::Map(map) if map.program.instructions.is_empty());
                        phase.ops.retain(|placed| !is_empty(&placed.op));
                    }
                    if stage.kind == StageKind::Frames {
                        task.phases.retain(|phase| !phase.ops.is_empty());
                    }
                }
                stage.tasks.retain(|task| !task.phases.is_empty());
                stage.cost = Cost::of(&stage.tasks);
            }
            pass.stages.retain(|stage| !stage.tasks.is_empty());
        }
        let mut used = HashSet::new();
        self.stages().for_each(|stage| stage.for_each_view(&mut |view| used.extend([view.buffer])));
        for pass in [Some(&self.forward_pass), self.backward_pass.as_ref()].into_iter().flatten() {
            used.extend(pass.storage.iter().flatten().map(|view| view.buffer));
        }
        for (place, buffer) in self.buffers.iter_mut().enumerate() {
            if !used.contains(&BufferId(place)) {
                buffer.width = 0;
            }
        }
        find_lifetimes(self);
        debug_assert_eq!(self.verify(), Ok(()));
    }
}

/// Calls `each` with every map of a pass.
fn maps(pass: &Pass) -> impl Iterator<Item = (OpPlace, &Map)> {
    pass.stages.iter().enumerate().flat_map(|(s, stage)| {
        stage.tasks.iter().enumerate().flat_map(move |(t, task)| {
            task.phases.iter().enumerate().flat_map(move |(p, phase)| {
                phase.ops.iter().enumerate().filter_map(move |(o, placed)| match &placed.op {
                    Op::Map(map) => Some((OpPlace { stage: s, task: t, phase: p, op: o }, map)),
                    _ => None,
                })
            })
        })
    })
}

fn map_at(pass: &Pass, at: OpPlace) -> Option<&Map> {
    match &pass.stages.get(at.stage)?.tasks.get(at.task)?.phases.get(at.phase)?.ops.get(at.op)?.op {
        Op::Map(map) => Some(map),
        _ => None,
    }
}

fn map_at_mut(pass: &mut Pass, at: OpPlace) -> Option<&mut Map> {
    let task = pass.stages.get_mut(at.stage)?.tasks.get_mut(at.task)?;
    match &mut task.phases.get_mut(at.phase)?.ops.get_mut(at.op)?.op {
        Op::Map(map) => Some(map),
        _ => None,
    }
}

/// What may move, in the order of the maps that it moves from.
fn find_moves(plan: &Plan, pass: &Pass, graph: &Graph) -> Vec<Move> {
    // All views that are named, anywhere.
    let mut named: Vec<(View, ())> = Vec::new();
    plan.stages().for_each(|stage| stage.for_each_view(&mut |view| named.push((view, ()))));
    // Outputs and state are copied out, and older frames of saved layers may be.
    let saved = if std::ptr::eq(graph, &plan.forward) { plan.residual_layers() } else { Vec::new() };
    let kept =
        graph.outputs().iter().map(|output| output.layer).chain(graph.held().iter().copied()).chain(saved);
    named.extend(kept.filter_map(|layer| pass.storage[layer.index()]).map(|view| (view, ())));
    let named = Views::new(named);
    // The stages that write views.
    let written = Views::new(written(pass));
    // Where in cycles' maps each view is loaded, as it is and in its own frame.
    let mut loads: HashMap<View, (OpPlace, usize, usize, usize)> = HashMap::new();
    for (place, map) in maps(pass).filter(|(place, _)| pass.stages[place.stage].kind != StageKind::Frames) {
        for read in map.reads_by_unit().filter(|read| read.delay == 0) {
            loads.insert(read.view, (place, map.slice_len, map.first, map.len));
        }
    }
    let mut moves = Vec::new();
    for (from, map) in maps(pass).filter(|(place, _)| pass.stages[place.stage].kind == StageKind::Frames) {
        // Of each store, the map that loads its view, if that alone reads it.
        let instructions = &map.program.instructions;
        let mut wanted: Vec<Option<OpPlace>> = vec![None; instructions.len()];
        for (instruction, wanted) in instructions.iter().zip(&mut wanted) {
            let Some((_, &view)) = instruction.store() else { continue };
            if let Some(&(to, slice_len, first, len)) = loads.get(&view)
                && named.with(view).take(3).count() == 2
                && to.stage > from.stage
                && plan.buffers[view.buffer.0].history == 0
                && (slice_len, first, len) == (map.slice_len, map.first, map.len)
            {
                *wanted = Some(to);
            }
        }
        if wanted.iter().all(Option::is_none) {
            continue;
        }
        let is_there = |view: View, to: OpPlace| {
            !written.with(view).any(|&stage| from.stage < stage && stage <= to.stage)
        };
        keep_movable(map, &mut wanted, is_there);
        let mut movable: Vec<(OpPlace, View)> = Vec::new();
        for (instruction, wanted) in instructions.iter().zip(wanted) {
            if let (Some((_, view)), Some(to)) = (instruction.store(), wanted) {
                movable.push((to, *view));
            }
        }
        movable.sort();
        for group in movable.chunk_by(|a, b| a.0 == b.0) {
            moves.push(Move { from, to: group[0].0, views: group.iter().map(|&(_, view)| view).collect() });
        }
    }
    moves
}

/// Of the stores that are to move, keeps those of which nothing is computed twice, and what they are computed of is still
/// there where they move to. Instructions that one computes and another reads go together, or stay together; loads, weights
/// and numbers can be had in both places.
fn keep_movable(map: &Map, wanted: &mut [Option<OpPlace>], is_there: impl Fn(View, OpPlace) -> bool) {
    let instructions = &map.program.instructions;
    let anywhere = |i: usize| match &instructions[i] {
        Instruction::Number { .. } => true,
        Instruction::Leaf { leaf, .. } => match leaf {
            MapLeaf::Read(_) | MapLeaf::Repeated(..) | MapLeaf::Weight(_) => true,
            MapLeaf::Mask(_) => false,
        },
        Instruction::Apply { .. }
        | Instruction::Scale { .. }
        | Instruction::Binary { .. }
        | Instruction::MulAdd { .. }
        | Instruction::Store { .. } => false,
    };
    let made_at = map.program.made_at();
    let needed = map.program.needed([], |_| true);
    let needed = || (0..instructions.len()).filter(|&i| needed[i]);
    let sources = |i: usize| instructions[i].reads().map(|register| made_at[register]);
    let mut together = Sets::new(instructions.len());
    for i in needed() {
        sources(i).filter(|&source| !anywhere(source)).for_each(|source| together.join(source, i));
    }
    // Where each set of instructions goes: `None` if it stays.
    let mut goes: HashMap<usize, Option<OpPlace>> = HashMap::new();
    for i in needed().filter(|&i| instructions[i].store().is_some()) {
        let to = goes.entry(together.first(i)).or_insert(wanted[i]);
        if *to != wanted[i] {
            *to = None;
        }
    }
    for i in needed() {
        let Some(Some(to)) = goes.get(&together.first(i)).copied() else { continue };
        let read = |source: usize| instructions[source].leaf().and_then(MapLeaf::read);
        let missing = sources(i).filter_map(read).any(|read| !is_there(read.view, to));
        if missing {
            goes.insert(together.first(i), None);
        }
    }
    for (i, wanted) in wanted.iter_mut().enumerate().filter(|(_, wanted)| wanted.is_some()) {
        *wanted = goes.get(&together.first(i)).copied().flatten();
    }
}

/// What stages write, with their numbers.
fn written(pass: &Pass) -> Vec<(View, usize)> {
    let mut written = Vec::new();
    for (number, stage) in pass.stages.iter().enumerate() {
        for placed in stage.tasks.iter().flat_map(|t| &t.phases).flat_map(|phase| &phase.ops) {
            match &placed.op {
                Op::MatMul(products) => written.extend(products.iter().map(|p| (p.to, number))),
                Op::Gather(look_ups) => written.extend(look_ups.iter().map(|l| (l.to, number))),
                Op::Vector(vector) => written.push((vector.to, number)),
                Op::Map(map) => written.extend(map.stores().map(|to| (to, number))),
                Op::WeightGradient(_) | Op::TableGradient(_) | Op::Reduce(_) => {}
            }
        }
    }
    written
}
/// What comes into a map.
struct Arrival {
    /// Where it loads each view, in its own frame.
    loads: HashMap<View, usize>,
    /// How many registers there are.
    registers: usize,
    /// In place of a load, what computes its value, as far as that is not there yet.
    instructions: HashMap<usize, Vec<Instruction<MapLeaf>>>,
    /// For the register of a load, that of its value.
    values: HashMap<Register, Register>,
    /// The last to come stand first.
    layers: Vec<Vec<LayerId>>,
}

impl Arrival {
    fn new(map: &Map) -> Arrival {
        let mut loads = HashMap::new();
        for (i, instruction) in map.program.instructions.iter().enumerate() {
            if let Some(Read { view, delay: 0, .. }) = instruction.leaf().and_then(MapLeaf::read_by_unit) {
                loads.insert(*view, i);
            }
        }
        let (instructions, values, layers) = (HashMap::new(), HashMap::new(), Vec::new());
        Arrival { loads, registers: map.program.registers, instructions, values, layers }
    }

    /// Takes in what computes the values of some views.
    fn take(&mut self, to: &Map, from: &Departure<'_>, views: &[View]) {
        let mut loads: Vec<(usize, Register)> =
            views.iter().filter_map(|view| Some((*self.loads.get(view)?, *from.stored.get(view)?))).collect();
        loads.sort_unstable();
        let mut renamed: HashMap<Register, Register> = HashMap::new();
        for (load, value) in loads {
            let Some(register) = to.program.instructions[load].writes() else { continue };
            // In their order.
            let (mut taken, mut open) = (BTreeSet::new(), vec![value]);
            while let Some(value) = open.pop() {
                let i = from.made_at[value];
                if !renamed.contains_key(&value) && taken.insert(i) {
                    open.extend(from.map.program.instructions[i].reads());
                }
            }
            let mut copies = Vec::with_capacity(taken.len());
            for i in taken {
                let mut copy = from.map.program.instructions[i];
                copy.writes().into_iter().for_each(|result| {
                    renamed.insert(result, self.registers);
                    self.registers += 1;
                });
                copy.rename(|r| renamed[&r]);
                copies.push(copy);
            }
            self.instructions.insert(load, copies);
            self.values.insert(register, renamed[&value]);
        }
    }

    /// The map with all that has come.
    fn finish(mut self, map: &mut Map) {
        self.layers.reverse();
        self.layers.push(std::mem::take(&mut map.layers));
        map.layers = self.layers.concat();
        let mut instructions = Vec::with_capacity(map.program.instructions.len());
        for (i, mut instruction) in map.program.instructions.drain(..).enumerate() {
            instruction.rename(|r| self.values.get(&r).copied().unwrap_or(r));
            match self.instructions.remove(&i) {
                Some(instead) => instructions.extend(instead),
                None => instructions.push(instruction),
            }
        }
        map.program = Program { instructions, registers: self.registers };
    }
}

/// A map from which something goes.
struct Departure<'a> {
    map: &'a Map,
    /// For each register, the instruction that writes it.
    made_at: Vec<usize>,
    /// The register of each view that is stored.
    stored: HashMap<View, Register>,
}

impl Departure<'_> {
    fn new(map: &Map) -> Departure<'_> {
        let stored = map.program.stores().map(|(from, &to)| (to, from)).collect();
        Departure { map, made_at: map.program.made_at(), stored }
    }
}

/// Moves all that is to move.
fn carry_out(pass: &mut Pass, moves: &[Move]) {
    let moving: HashMap<View, usize> = moves
        .iter()
        .enumerate()
        .flat_map(|(n, each)| each.views.iter().map(move |&view| (view, n)))
        .collect();
    // Of each layer that is no longer stored, the move that takes it along.
    let taken: HashMap<LayerId, usize> = (0..pass.storage.len())
        .filter_map(|layer| Some((LayerId::from_index(layer), *moving.get(&pass.storage[layer]?)?)))
        .collect();
    let mut arrivals: HashMap<OpPlace, Arrival> = HashMap::new();
    let mut left: Vec<(OpPlace, Program<MapLeaf>, Vec<LayerId>)> = Vec::new();
    let mut next = 0;
    for of_map in moves.chunk_by(|a, b| a.from == b.from) {
        let first = next;
        next += of_map.len();
        let Some(map) = map_at(pass, of_map[0].from) else { continue };
        let from = Departure::new(map);
        let stays = map.program.needed([], |view| !moving.contains_key(view));
        let program = map.program.part(&stays);
        // The last move takes along what has nothing left to be computed by.
        let last = next - 1;
        let mut layers: Vec<Vec<LayerId>> = vec![Vec::new(); of_map.len()];
        let mut staying = Vec::new();
        for &layer in &map.layers {
            match taken
                .get(&layer)
                .copied()
                .filter(|n| (first..next).contains(n))
                .or(program.instructions.is_empty().then_some(last))
            {
                Some(n) => layers[n - first].push(layer),
                None => staying.push(layer),
            }
        }
        left.push((of_map[0].from, program, staying));
        for (each, layers) in of_map.iter().zip(layers) {
            let Some(to) = map_at(pass, each.to) else { continue };
            let arrival = arrivals.entry(each.to).or_insert_with(|| Arrival::new(to));
            arrival.take(to, &from, &each.views);
            arrival.layers.push(layers);
        }
    }
    for (place, program, layers) in left {
        if let Some(map) = map_at_mut(pass, place) {
            (map.program, map.layers) = (program, layers);
        }
    }
    for (place, arrival) in arrivals {
        if let Some(map) = map_at_mut(pass, place) {
            arrival.finish(map);
        }
    }
    for layer in taken.into_keys() {
        pass.storage[layer.index()] = None;
    }
}

/// Sets of numbers: of each one another of its set, or, of the set's first, itself.
struct Sets(Vec<usize>);

impl Sets {
    fn new(count: usize) -> Sets {
        Sets((0..count).collect())
    }

    fn first(&mut self, mut one: usize) -> usize {
        while self.0[one] != one {
            self.0[one] = self.0[self.0[one]];
            one = self.0[one];
        }
        one
    }

    fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.first(a), self.first(b));
        self.0[a.max(b)] = a.min(b);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::memory::Residency;
    use crate::ir::PlanOptions;
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
        let room = |plan: &Plan| plan.place(1, 8, false, &Residency::default()).total;
        let before = room(&plan);
        plan.sink();
        let [stage] = &plan.forward_pass.stages[..] else { panic!("{:?}", plan.forward_pass.stages) };
        assert_eq!(stage.kind, StageKind::Loop);
        let (_, map) = maps(&plan.forward_pass).next().unwrap();
        let squares = |i: &&Instruction<MapLeaf>| matches!(i, Instruction::Apply { function, .. } if *function == rnnc_graph::Function::Apply(Activation::Square));
        assert_eq!(map.program.instructions.iter().filter(squares).count(), 1);
        assert!(map.layers.len() == 2 && room(&plan) < before);
    }

    #[test]
    fn what_something_else_reads_stays() {
        let mut plan = plan(true);
        let before = plan.forward_pass.stages.clone();
        plan.sink();
        assert_eq!(plan.forward_pass.stages, before);
    }
}
