//! From elementwise programs to operations over tiles: neighbours are fused where one pass over the units does for two, results go
//! where they are stored, and what is not stored shares few tiles.

use crate::ops::tile::{Argument, Slot, TileCode, TileOp};
use rnnc_graph::Function;
use rnnc_plan::{Binary, Instruction, Leaf, Mask, Program, Register, Repeat, View, Views};
use std::collections::HashMap;
use std::ops::Range;

/// What a program over tiles reads.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum TileLeaf {
    /// Numbers, unit by unit.
    Load(Port),
    /// Numbers, repeated.
    Repeated(Port, Repeat),
    /// A weight vector, from its place in the flat buffer.
    Weight(usize),
    /// A dropout mask.
    Mask(Mask),
}

/// Where numbers are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Port {
    /// Which of the program's loads, or stores, it is.
    pub number: usize,
    /// The columns of the row that they are; `None` if nothing else of the program can touch the same.
    pub columns: Option<View>,
}

impl Leaf for TileLeaf {
    type Target = Port;
}

/// Compiles a program, given how many numbers there are at each of its loads and stores.
pub(super) fn compile(program: &Program<TileLeaf>, loads: Vec<usize>, stores: Vec<usize>) -> TileCode {
    let mut out = TileCode { loads, stores, ..TileCode::default() };
    let steps = fuse(program);
    let stored = steps.stored();
    // The last step that reads each register: its tile is free after it.
    let mut last = vec![None; program.registers];
    for (i, fused) in steps.list.iter().enumerate() {
        for register in fused.reads() {
            last[register] = Some(i);
        }
    }
    let mut arguments: Vec<Argument> = vec![Argument::Tile(0); program.registers];
    let mut free: Vec<usize> = Vec::new();
    for (i, fused) in steps.list.iter().enumerate() {
        let Some(register) = fused.writes() else {
            if let Fused::Of(Instruction::Store { from, to }) = *fused
                // Unless whatever computed it has put it there already.
                && !steps.direct[i]
            {
                out.ops.push(TileOp::Store { from: arguments[from], store: to.number });
            }
            release(&mut free, &arguments, &last, fused, i);
            continue;
        };
        if let Some(argument) = fused.argument() {
            arguments[register] = argument;
            continue;
        }
        // Where the result goes: its place in a buffer, or a tile that is none of those read, so that no slice is read
        // and written at once.
        let to = match stored[i] {
            Some(store) => Slot::Store(store),
            None => Slot::Tile(free.pop().unwrap_or_else(|| {
                out.tiles += 1;
                out.tiles - 1
            })),
        };
        out.ops.extend(fused.op(to, |register| arguments[register]));
        arguments[register] = match to {
            Slot::Tile(tile) => Argument::Tile(tile),
            Slot::Store(store) => Argument::Store(store),
        };
        release(&mut free, &arguments, &last, fused, i);
    }
    out
}

/// Gives back the tiles that a step is the last to read, and one whose result nothing reads.
fn release(free: &mut Vec<usize>, arguments: &[Argument], last: &[Option<usize>], step: &Fused, i: usize) {
    let mut done: Vec<usize> = step.reads().into_iter().filter(|&r| last[r] == Some(i)).collect();
    done.sort_unstable();
    done.dedup();
    done.extend(step.writes().filter(|&to| last[to].is_none()));
    free.extend(done.into_iter().filter_map(|register| match arguments[register] {
        Argument::Tile(at) => Some(at),
        Argument::Load(_) | Argument::Weight(_) | Argument::Store(_) => None,
    }));
}

/// An instruction, or two that are one step.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fused {
    Of(Instruction<TileLeaf>),
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

    fn leaf(&self) -> Option<&TileLeaf> {
        match self {
            Fused::Of(instruction) => instruction.leaf(),
            Fused::OfSum { .. } | Fused::Times { .. } => None,
        }
    }

    /// Where its value lies already, if it is only to be read.
    fn argument(&self) -> Option<Argument> {
        match *self.leaf()? {
            TileLeaf::Load(place) => Some(Argument::Load(place.number)),
            TileLeaf::Weight(offset) => Some(Argument::Weight(offset)),
            TileLeaf::Repeated(..) | TileLeaf::Mask(_) => None,
        }
    }

    /// What makes its value, given where that goes and where registers are.
    fn op(&self, to: Slot, at: impl Fn(Register) -> Argument) -> Option<TileOp> {
        Some(match *self {
            Fused::Of(Instruction::Leaf { leaf, .. }) => match leaf {
                TileLeaf::Repeated(place, repeat) => TileOp::Repeat { load: place.number, repeat, to },
                TileLeaf::Mask(mask) => TileOp::Mask { mask, to },
                TileLeaf::Load(_) | TileLeaf::Weight(_) => return None,
            },
            Fused::Of(Instruction::Number { value, .. }) => TileOp::Fill { value: value as f32, to },
            Fused::Of(Instruction::Apply { function, from, .. }) => {
                TileOp::Apply { function, from: at(from), to }
            }
            Fused::Of(Instruction::Scale { factor, from, .. }) => {
                TileOp::Scale { factor: factor as f32, from: at(from), to }
            }
            Fused::Of(Instruction::Binary { op, a, b, .. }) => TileOp::Binary { op, a: at(a), b: at(b), to },
            Fused::Of(Instruction::MulAdd { a, b, c, .. }) => {
                TileOp::MulAdd { a: at(a), b: at(b), c: at(c), to }
            }
            Fused::Of(Instruction::Store { .. }) => return None,
            Fused::OfSum { function, a, b, .. } => TileOp::ApplyToSum { function, a: at(a), b: at(b), to },
            Fused::Times { function, from, by, .. } => {
                TileOp::ApplyTimes { function, from: at(from), by: at(by), to }
            }
        })
    }
}

/// The steps of a program.
struct Steps {
    list: Vec<Fused>,
    /// What each register is of what the program itself may write, if it is only read there.
    loads: Vec<Option<View>>,
    /// Of each step, whether it is a store that whatever computes the value does.
    direct: Vec<bool>,
}

fn fuse(program: &Program<TileLeaf>) -> Steps {
    let mut uses = vec![0usize; program.registers];
    let mut loads = vec![None; program.registers];
    // A step, once it is known that a later one does its work.
    let mut list: Vec<Option<Fused>> = Vec::with_capacity(program.instructions.len());
    let mut made_at = vec![0; program.registers];
    let instructions = program.instructions.iter().enumerate();
    let stores = Touched::new(instructions.filter_map(|(step, i)| Some((i.store()?.1.columns?, step))));
    for instruction in &program.instructions {
        instruction.reads().for_each(|r| uses[r] += 1);
        if let Instruction::Leaf { leaf: TileLeaf::Load(place), to } = instruction {
            loads[*to] = place.columns;
        }
    }
    for (step, &instruction) in program.instructions.iter().enumerate() {
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
            Instruction::Leaf { .. }
            | Instruction::Number { .. }
            | Instruction::Scale { .. }
            | Instruction::Binary { .. }
            | Instruction::MulAdd { .. }
            | Instruction::Store { .. } => {}
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
        let mut stores: Vec<Option<(usize, Option<View>)>> = vec![None; self.loads.len()];
        let mut reading: Vec<(View, usize)> = Vec::new();
        for (i, step) in self.list.iter().enumerate() {
            if let Fused::Of(Instruction::Store { from, to }) = *step {
                stores[from].get_or_insert((i, to.columns));
            }
            if let Some(TileLeaf::Repeated(Port { columns: Some(columns), .. }, _)) = step.leaf() {
                reading.push((*columns, i));
            }
            reading.extend(step.reads().into_iter().filter_map(|r| Some((self.loads[r]?, i))));
        }
        let reading = Touched::new(reading);
        for maker in 0..self.list.len() {
            let Some(register) = self.list[maker].writes() else { continue };
            if self.list[maker].argument().is_some() {
                continue;
            }
            let Some((store, to)) = stores[register] else { continue };
            let Some(to) = to else {
                self.direct[store] = true;
                continue;
            };
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
                Fused::Of(
                    Instruction::Leaf { .. } | Instruction::Number { .. } | Instruction::Store { .. },
                )
                | Fused::Times { .. } => false,
            }
    }

    /// For each step, the store that its result is put to, if it is.
    fn stored(&self) -> Vec<Option<usize>> {
        let mut stored: Vec<Option<usize>> = vec![None; self.loads.len()];
        for (step, _) in self.list.iter().zip(&self.direct).filter(|&(_, &direct)| direct) {
            if let Fused::Of(Instruction::Store { from, to }) = *step {
                stored[from].get_or_insert(to.number);
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
