//! From a map's instructions to its steps: neighbours are fused where one pass over the units does for two, results go
//! where they are stored, and what is not stored shares few tiles.

use super::Compiler;
use crate::kernels::elementwise;
use crate::ops::map::{Argument, MapOp, Slot, Step};
use crate::program::{Source, Target};
use rnnc_graph::Function;
use rnnc_plan::{Binary, Instruction, Map, Read, Register, View, Views};
use std::collections::HashMap;
use std::ops::Range;

impl Compiler<'_> {
    pub(super) fn map(&mut self, map: &Map) -> MapOp {
        let out = self.compile(map);
        self.note(&out);
        out
    }

    /// Makes room for what a map needs.
    pub(super) fn note(&mut self, map: &MapOp) {
        self.tiles = self.tiles.max(map.tiles);
        self.pointers = self.pointers.max(map.loads.len() + map.stores.len());
    }
}

impl Places for Compiler<'_> {
    fn source(&mut self, read: &Read) -> Source {
        Compiler::source(self, read)
    }

    fn target(&self, view: View) -> Target {
        Compiler::target(self, view)
    }
}

/// Where maps read and write.
pub(super) trait Places {
    fn source(&mut self, read: &Read) -> Source;
    fn target(&self, view: View) -> Target;

    fn compile(&mut self, map: &Map) -> MapOp {
        let mut out = MapOp { slice_len: map.slice_len, first: map.first, len: map.len, ..MapOp::default() };
        let steps = fuse(map);
        let stored = steps.stored();
        // The last step that reads each register: its tile is free after it.
        let mut last = vec![None; map.registers];
        for (i, fused) in steps.list.iter().enumerate() {
            for register in fused.reads() {
                last[register] = Some(i);
            }
        }
        let mut arguments: Vec<Argument> = vec![Argument::Tile(0); map.registers];
        let mut free: Vec<usize> = Vec::new();
        for (i, fused) in steps.list.iter().enumerate() {
            // Where the result goes: its place in a buffer, or a tile that is none of those read, so that no slice is read
            // and written at once.
            let mut slot = |compiler: &Self, out: &mut MapOp| match stored[i] {
                Some(view) => {
                    out.stores.push(compiler.target(view));
                    Slot::Store(out.stores.len() - 1)
                }
                None => Slot::Tile(free.pop().unwrap_or_else(|| {
                    out.tiles += 1;
                    out.tiles - 1
                })),
            };
            let at = |register: Register| arguments[register];
            let (step, to) = match *fused {
                Fused::Of(Instruction::Load { ref read, to }) => {
                    out.loads.push(self.source(read));
                    arguments[to] = Argument::Load(out.loads.len() - 1);
                    continue;
                }
                Fused::Of(Instruction::Weight { offset, to }) => {
                    arguments[to] = Argument::Weight(offset);
                    continue;
                }
                Fused::Of(Instruction::Store { from, to }) => {
                    // Unless whatever computed it has put it there already.
                    if !steps.direct[i] {
                        out.stores.push(self.target(to));
                        out.steps.push(Step::Store { from: at(from), store: out.stores.len() - 1 });
                    }
                    release(&mut free, &arguments, &last, fused, i);
                    continue;
                }
                Fused::Of(Instruction::LoadRepeated { ref read, repeat, to: register }) => {
                    let source = self.source(read);
                    let to = slot(self, &mut out);
                    out.loads.push(source);
                    (Step::Repeat { load: out.loads.len() - 1, repeat, to }, (register, to))
                }
                Fused::Of(Instruction::Number { value, to: register }) => {
                    let to = slot(self, &mut out);
                    (Step::Fill { value: value as f32, to }, (register, to))
                }
                Fused::Of(Instruction::Mask { key, probability, first, to: register }) => {
                    let to = slot(self, &mut out);
                    (Step::Mask { key, probability, first, to }, (register, to))
                }
                Fused::Of(Instruction::Apply { function, from, to: register }) => {
                    let to = slot(self, &mut out);
                    (Step::Apply { function, from: at(from), to }, (register, to))
                }
                Fused::Of(Instruction::Scale { factor, from, to: register }) => {
                    let to = slot(self, &mut out);
                    (Step::Scale { factor: factor as f32, from: at(from), to }, (register, to))
                }
                Fused::Of(Instruction::Binary { op, a, b, to: register }) => {
                    let to = slot(self, &mut out);
                    (Step::Binary { op: binary(op), a: at(a), b: at(b), to }, (register, to))
                }
                Fused::Of(Instruction::MulAdd { a, b, c, to: register }) => {
                    let to = slot(self, &mut out);
                    (Step::MulAdd { a: at(a), b: at(b), c: at(c), to }, (register, to))
                }
                Fused::OfSum { function, a, b, to: register } => {
                    let to = slot(self, &mut out);
                    (Step::ApplyToSum { function, a: at(a), b: at(b), to }, (register, to))
                }
                Fused::Times { function, from, by, to: register } => {
                    let to = slot(self, &mut out);
                    (Step::ApplyTimes { function, from: at(from), by: at(by), to }, (register, to))
                }
            };
            out.steps.push(step);
            arguments[to.0] = match to.1 {
                Slot::Tile(tile) => Argument::Tile(tile),
                Slot::Store(store) => Argument::Store(store),
            };
            release(&mut free, &arguments, &last, fused, i);
        }
        out
    }
}

/// Gives back the tiles that a step is the last to read, and one whose result nothing reads.
fn release(free: &mut Vec<usize>, arguments: &[Argument], last: &[Option<usize>], step: &Fused, i: usize) {
    let mut done: Vec<usize> = step.reads().into_iter().filter(|&r| last[r] == Some(i)).collect();
    done.sort_unstable();
    done.dedup();
    done.extend(step.writes().filter(|&to| last[to].is_none()));
    free.extend(done.into_iter().filter_map(|register| match arguments[register] {
        Argument::Tile(at) => Some(at),
        _ => None,
    }));
}

/// An instruction, or two that are one step.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fused {
    Of(Instruction),
    /// function(a + b)
    OfSum {
        function: Function,
        a: Register,
        b: Register,
        to: Register,
    },
    /// by function(from)
    Times {
        function: Function,
        from: Register,
        by: Register,
        to: Register,
    },
}

impl Fused {
    fn reads(&self) -> Vec<Register> {
        match *self {
            Fused::Of(instruction) => instruction.reads().collect(),
            Fused::OfSum { a, b, .. } => vec![a, b],
            Fused::Times { from, by, .. } => vec![from, by],
        }
    }

    fn writes(&self) -> Option<Register> {
        match *self {
            Fused::Of(instruction) => instruction.writes(),
            Fused::OfSum { to, .. } | Fused::Times { to, .. } => Some(to),
        }
    }
}

/// The steps of a map.
struct Steps {
    list: Vec<Fused>,
    /// What each register reads of a buffer, if that, in the row's own frame.
    loads: Vec<Option<View>>,
    /// Of each step, whether it is a store that whatever computes the value does.
    direct: Vec<bool>,
}

fn fuse(map: &Map) -> Steps {
    let mut uses = vec![0usize; map.registers];
    let mut loads = vec![None; map.registers];
    // A step, once it is known that a later one does its work.
    let mut list: Vec<Option<Fused>> = Vec::with_capacity(map.program.len());
    let mut made_at = vec![0; map.registers];
    let stores =
        Touched::new(map.program.iter().enumerate().filter_map(|(step, instruction)| match instruction {
            Instruction::Store { to, .. } => Some((*to, step)),
            _ => None,
        }));
    for instruction in &map.program {
        instruction.reads().for_each(|r| uses[r] += 1);
        if let Instruction::Load { read, to } = instruction
            && read.delay == 0
        {
            loads[*to] = Some(read.view);
        }
    }
    for (step, &instruction) in map.program.iter().enumerate() {
        // The instruction that makes a register that only this one reads, if none since has written over what it reads.
        let maker = |r: Register| {
            let made: Fused = list.get(made_at[r]).copied().flatten()?;
            let over = |view: View| stores.any(view, made_at[r]..step);
            let safe = made.reads().into_iter().all(|read| !loads[read].is_some_and(over));
            (uses[r] == 1 && made.writes() == Some(r) && safe).then_some(made)
        };
        let mut fused = Fused::Of(instruction);
        match instruction {
            Instruction::Apply { function, from, to } => {
                if let Some(Fused::Of(Instruction::Binary { op: Binary::Add, a, b, .. })) = maker(from) {
                    fused = Fused::OfSum { function, a, b, to };
                    list[made_at[from]] = None;
                }
            }
            Instruction::Binary { op: Binary::Mul, a, b, to } if a != b => {
                for (of, by) in [(a, b), (b, a)] {
                    if let Some(Fused::Of(Instruction::Apply { function, from, .. })) = maker(of) {
                        fused = Fused::Times { function, from, by, to };
                        list[made_at[of]] = None;
                        break;
                    }
                }
            }
            _ => {}
        }
        if let Some(to) = fused.writes() {
            made_at[to] = list.len();
        }
        list.push(Some(fused));
    }
    let list: Vec<Fused> = list.into_iter().flatten().collect();
    let direct = vec![false; list.len()];
    let mut steps = Steps { list, loads, direct };
    steps.find_direct();
    steps
}

impl Steps {
    /// Finds the stores whose value can be computed where it is stored: nothing between reads what is there now, and the
    /// step itself only unit by unit.
    fn find_direct(&mut self) {
        // Of each register, its first store.
        let mut stores: Vec<Option<(usize, View)>> = vec![None; self.loads.len()];
        let mut reading: Vec<(View, usize)> = Vec::new();
        for (i, step) in self.list.iter().enumerate() {
            if let Fused::Of(Instruction::Store { from, to }) = *step {
                stores[from].get_or_insert((i, to));
            }
            if let Fused::Of(Instruction::LoadRepeated { read, .. }) = *step {
                reading.push((read.view, i));
            }
            reading.extend(step.reads().into_iter().filter_map(|r| Some((self.loads[r]?, i))));
        }
        let reading = Touched::new(reading);
        for maker in 0..self.list.len() {
            let Some(register) = self.list[maker].writes() else { continue };
            if matches!(self.list[maker], Fused::Of(Instruction::Load { .. } | Instruction::Weight { .. })) {
                continue;
            }
            let Some((store, to)) = stores[register] else { continue };
            let own = reading.any(to, maker..maker + 1);
            self.direct[store] = !reading.any(to, maker + 1..store) && self.writes_in_place(maker, to, own);
        }
    }

    /// Whether a step can write to a place that it reads (if it does).
    fn writes_in_place(&self, step: usize, to: View, reads: bool) -> bool {
        let there = |r: Register| self.loads[r] == Some(to);
        let apart = |r: Register| self.loads[r].is_none_or(|view| !overlap(view, to));
        !reads
            || match self.list[step] {
                Fused::Of(Instruction::Apply { from, .. } | Instruction::Scale { from, .. }) => there(from),
                Fused::Of(Instruction::Binary { a, b, .. }) | Fused::OfSum { a, b, .. } => {
                    (there(a) && apart(b)) || (apart(a) && there(b))
                }
                Fused::Of(Instruction::MulAdd { a, b, c, .. }) => apart(a) && apart(b) && there(c),
                _ => false,
            }
    }

    /// For each step, where its result is to be put, if in a buffer.
    fn stored(&self) -> Vec<Option<View>> {
        let mut stored: Vec<Option<View>> = vec![None; self.loads.len()];
        for (step, _) in self.list.iter().zip(&self.direct).filter(|&(_, &direct)| direct) {
            if let Fused::Of(Instruction::Store { from, to }) = *step {
                stored[from].get_or_insert(to);
            }
        }
        self.list.iter().map(|step| stored[step.writes()?]).collect()
    }
}

/// The steps that touch each place, in their order.
struct Touched(Views<Vec<usize>>);

impl Touched {
    /// Of places and steps, in the order of the steps.
    fn new(steps: impl IntoIterator<Item = (View, usize)>) -> Touched {
        let mut places: HashMap<View, Vec<usize>> = HashMap::new();
        for (view, step) in steps {
            places.entry(view).or_default().push(step);
        }
        Touched(Views::new(places))
    }

    /// Whether one of these steps touches what overlaps a place.
    fn any(&self, view: View, steps: Range<usize>) -> bool {
        let first =
            |of_place: &[usize]| of_place.get(of_place.partition_point(|&i| i < steps.start)).copied();
        self.0.with(view).any(|of_place| first(of_place).is_some_and(|step| step < steps.end))
    }
}

fn overlap(a: View, b: View) -> bool {
    a.buffer == b.buffer && a.column < b.column + b.len && b.column < a.column + a.len
}

pub(crate) fn binary(op: Binary) -> elementwise::Binary {
    match op {
        Binary::Add => elementwise::Binary::Add,
        Binary::Mul => elementwise::Binary::Mul,
        Binary::Div => elementwise::Binary::Div,
        Binary::Max => elementwise::Binary::Max,
        Binary::Min => elementwise::Binary::Min,
        Binary::Known => elementwise::Binary::Known,
        Binary::Step => elementwise::Binary::Step,
    }
}
