//! Elementwise programs: one set of instructions, whatever they read and write, and whatever runs them.
//!
//! A [`Program`] computes numbers of numbers, and each register is written once. Its arithmetic is the same everywhere; what it
//! reads from outside and where its results go is the business of its [`Leaf`]: buffers of a plan, the state of a scan's frame,
//! a device's tiles. Whoever evaluates programs is an [`Algebra`], which says what a number is (a float, a register of another
//! program, an affine form, the name of a variable in generated code) and, as an [`Interpreter`], what leaves and stores are.

use rnnc_graph::Function;
use rnnc_graph::ops::Binary;
use std::fmt::Debug;

/// A register of a program: one number a unit.
pub type Register = usize;

/// What a program reads from outside.
pub trait Leaf: Copy + Debug + PartialEq {
    /// Where its results go.
    type Target: Copy + Debug + PartialEq;
}

/// Instructions in order. A register is written once, and read only after that.
#[derive(Clone, Debug, PartialEq)]
pub struct Program<L: Leaf> {
    /// In order.
    pub instructions: Vec<Instruction<L>>,
    /// How many registers there are.
    pub registers: usize,
}

/// An instruction of a program.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs)] // `to` is the register written, the others are read
pub enum Instruction<L: Leaf> {
    /// What is read from outside.
    Leaf { leaf: L, to: Register },
    /// A number.
    Number { value: f64, to: Register },
    /// f(from)
    Apply { function: Function, from: Register, to: Register },
    /// factor * from
    Scale { factor: f64, from: Register, to: Register },
    /// a op b
    Binary { op: Binary, a: Register, b: Register, to: Register },
    /// a * b + c
    MulAdd { a: Register, b: Register, c: Register, to: Register },
    /// A result.
    Store { from: Register, to: L::Target },
}

/// What programs compute with.
#[allow(missing_docs)] // as the instructions
pub trait Algebra {
    /// What a register holds.
    type Number: Clone;

    fn number(&mut self, value: f64) -> Self::Number;
    fn apply(&mut self, function: Function, from: Self::Number) -> Self::Number;
    fn binary(&mut self, op: Binary, a: Self::Number, b: Self::Number) -> Self::Number;
    /// a * b + c
    fn mul_add(&mut self, a: Self::Number, b: Self::Number, c: Self::Number) -> Self::Number;
    /// factor * from
    fn scale(&mut self, factor: f64, from: Self::Number) -> Self::Number {
        let factor = self.number(factor);
        self.binary(Binary::Mul, factor, from)
    }
}

/// An algebra that knows what a program's leaves are, and where its results go.
pub trait Interpreter<L: Leaf>: Algebra {
    /// What a leaf gives.
    fn leaf(&mut self, leaf: &L) -> Self::Number;

    /// Takes a result.
    fn store(&mut self, to: &L::Target, value: Self::Number);

    /// What a register holds once it has been given a value: the value, unless registers have names of their own.
    fn name(&mut self, _register: Register, value: Self::Number) -> Self::Number {
        value
    }
}

impl<L: Leaf> Default for Program<L> {
    fn default() -> Program<L> {
        Program { instructions: Vec::new(), registers: 0 }
    }
}

impl<L: Leaf> Program<L> {
    /// Adds an instruction that writes a new register, and gives that.
    pub fn push(&mut self, make: impl FnOnce(Register) -> Instruction<L>) -> Register {
        let to = self.registers;
        self.registers += 1;
        self.instructions.push(make(to));
        to
    }

    /// Runs all of it. Returns what each register holds in the end.
    pub fn run<I: Interpreter<L>>(&self, interpreter: &mut I) -> Vec<Option<I::Number>> {
        let mut registers: Vec<Option<I::Number>> = vec![None; self.registers];
        for instruction in &self.instructions {
            let read = |register: Register| match &registers[register] {
                Some(number) => number.clone(),
                None => unreachable!("{instruction:?} reads what nothing has written"),
            };
            let value = match *instruction {
                Instruction::Leaf { ref leaf, .. } => interpreter.leaf(leaf),
                Instruction::Number { value, .. } => interpreter.number(value),
                Instruction::Apply { function, from, .. } => interpreter.apply(function, read(from)),
                Instruction::Scale { factor, from, .. } => interpreter.scale(factor, read(from)),
                Instruction::Binary { op, a, b, .. } => interpreter.binary(op, read(a), read(b)),
                Instruction::MulAdd { a, b, c, .. } => interpreter.mul_add(read(a), read(b), read(c)),
                Instruction::Store { from, ref to } => {
                    interpreter.store(to, read(from));
                    continue;
                }
            };
            if let Some(to) = instruction.writes() {
                registers[to] = Some(interpreter.name(to, value));
            }
        }
        registers
    }

    /// The same computation of other leaves.
    pub fn map_leaves<M: Leaf>(
        &self,
        mut leaf: impl FnMut(&L) -> M,
        mut target: impl FnMut(&L::Target) -> M::Target,
    ) -> Program<M> {
        let change = |instruction: &Instruction<L>| match *instruction {
            Instruction::Leaf { leaf: ref of, to } => Instruction::Leaf { leaf: leaf(of), to },
            Instruction::Number { value, to } => Instruction::Number { value, to },
            Instruction::Apply { function, from, to } => Instruction::Apply { function, from, to },
            Instruction::Scale { factor, from, to } => Instruction::Scale { factor, from, to },
            Instruction::Binary { op, a, b, to } => Instruction::Binary { op, a, b, to },
            Instruction::MulAdd { a, b, c, to } => Instruction::MulAdd { a, b, c, to },
            Instruction::Store { from, ref to } => Instruction::Store { from, to: target(to) },
        };
        Program { instructions: self.instructions.iter().map(change).collect(), registers: self.registers }
    }

    /// What it reads from outside.
    pub fn leaves(&self) -> impl Iterator<Item = &L> + Clone {
        self.instructions.iter().filter_map(Instruction::leaf)
    }

    /// Where its results go, each with its register.
    pub fn stores(&self) -> impl Iterator<Item = (Register, &L::Target)> + Clone {
        self.instructions.iter().filter_map(Instruction::store)
    }

    /// For each register, the instruction that writes it.
    pub fn made_at(&self) -> Vec<usize> {
        let mut made_at = vec![0; self.registers];
        for (at, instruction) in self.instructions.iter().enumerate() {
            instruction.writes().into_iter().for_each(|to| made_at[to] = at);
        }
        made_at
    }

    /// Which instructions some registers and some stores need; those stores too.
    pub fn needed(
        &self,
        results: impl IntoIterator<Item = Register>,
        stores: impl Fn(&L::Target) -> bool,
    ) -> Vec<bool> {
        let mut wanted = vec![false; self.registers];
        results.into_iter().for_each(|register| wanted[register] = true);
        let mut needed = vec![false; self.instructions.len()];
        for (needed, instruction) in needed.iter_mut().zip(&self.instructions).rev() {
            *needed = match instruction.store() {
                Some((_, to)) => stores(to),
                None => instruction.writes().is_some_and(|to| wanted[to]),
            };
            if *needed {
                instruction.reads().for_each(|from| wanted[from] = true);
            }
        }
        needed
    }

    /// Some of the instructions. Registers stay what they are.
    pub fn part(&self, of: &[bool]) -> Program<L> {
        let kept = self.instructions.iter().zip(of).filter(|(_, kept)| **kept);
        Program {
            instructions: kept.map(|(instruction, _)| *instruction).collect(),
            registers: self.registers,
        }
    }
}

impl<L: Leaf> Instruction<L> {
    /// The registers it reads.
    pub fn reads(&self) -> impl Iterator<Item = Register> + use<L> {
        let list = match *self {
            Instruction::Leaf { .. } | Instruction::Number { .. } => [None; 3],
            Instruction::Apply { from, .. }
            | Instruction::Scale { from, .. }
            | Instruction::Store { from, .. } => [Some(from), None, None],
            Instruction::Binary { a, b, .. } => [Some(a), Some(b), None],
            Instruction::MulAdd { a, b, c, .. } => [Some(a), Some(b), Some(c)],
        };
        list.into_iter().flatten()
    }

    /// The register it writes.
    pub fn writes(&self) -> Option<Register> {
        match *self {
            Instruction::Leaf { to, .. }
            | Instruction::Number { to, .. }
            | Instruction::Apply { to, .. }
            | Instruction::Scale { to, .. }
            | Instruction::Binary { to, .. }
            | Instruction::MulAdd { to, .. } => Some(to),
            Instruction::Store { .. } => None,
        }
    }

    /// What it reads from outside, if it is that.
    pub fn leaf(&self) -> Option<&L> {
        match self {
            Instruction::Leaf { leaf, .. } => Some(leaf),
            Instruction::Number { .. }
            | Instruction::Apply { .. }
            | Instruction::Scale { .. }
            | Instruction::Binary { .. }
            | Instruction::MulAdd { .. }
            | Instruction::Store { .. } => None,
        }
    }

    /// What it stores, and where, if it does.
    pub fn store(&self) -> Option<(Register, &L::Target)> {
        match self {
            Instruction::Store { from, to } => Some((*from, to)),
            Instruction::Leaf { .. }
            | Instruction::Number { .. }
            | Instruction::Apply { .. }
            | Instruction::Scale { .. }
            | Instruction::Binary { .. }
            | Instruction::MulAdd { .. } => None,
        }
    }

    /// Floating-point operations of a unit, but for those of leaves; a transcendental function counts 10.
    pub fn flops(&self) -> u64 {
        match self {
            Instruction::Apply { function, .. } => function.flops(),
            Instruction::MulAdd { .. } => 2,
            Instruction::Scale { .. } | Instruction::Binary { .. } => 1,
            Instruction::Leaf { .. } | Instruction::Number { .. } | Instruction::Store { .. } => 0,
        }
    }

    /// Gives its registers other numbers.
    pub fn rename(&mut self, new: impl Fn(Register) -> Register) {
        let list: [Option<&mut Register>; 4] = match self {
            Instruction::Leaf { to, .. } | Instruction::Number { to, .. } => [Some(to), None, None, None],
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

/// A program is written by computing with its registers.
impl<L: Leaf> Algebra for Program<L> {
    type Number = Register;

    fn number(&mut self, value: f64) -> Register {
        self.push(|to| Instruction::Number { value, to })
    }

    fn apply(&mut self, function: Function, from: Register) -> Register {
        self.push(|to| Instruction::Apply { function, from, to })
    }

    fn binary(&mut self, op: Binary, a: Register, b: Register) -> Register {
        self.push(|to| Instruction::Binary { op, a, b, to })
    }

    fn mul_add(&mut self, a: Register, b: Register, c: Register) -> Register {
        self.push(|to| Instruction::MulAdd { a, b, c, to })
    }

    fn scale(&mut self, factor: f64, from: Register) -> Register {
        self.push(|to| Instruction::Scale { factor, from, to })
    }
}

impl<L: Leaf> Interpreter<L> for Program<L> {
    fn leaf(&mut self, leaf: &L) -> Register {
        self.push(|to| Instruction::Leaf { leaf: *leaf, to })
    }

    fn store(&mut self, to: &L::Target, from: Register) {
        self.instructions.push(Instruction::Store { from, to: *to });
    }
}

/// Marks what computes with numbers themselves: that is all its [`Algebra`].
pub trait Floats {}

impl<F: Floats> Algebra for F {
    type Number = f64;

    fn number(&mut self, value: f64) -> f64 {
        value
    }

    fn apply(&mut self, function: Function, from: f64) -> f64 {
        function.apply(from)
    }

    fn binary(&mut self, op: Binary, a: f64, b: f64) -> f64 {
        op.apply(a, b)
    }

    fn mul_add(&mut self, a: f64, b: f64, c: f64) -> f64 {
        a * b + c
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rnnc_graph::Activation;

    impl Leaf for usize {
        type Target = usize;
    }

    /// Leaves are numbers by their place; results are kept.
    struct Kept {
        given: [f64; 3],
        results: Vec<(usize, f64)>,
    }

    impl Floats for Kept {}

    impl Interpreter<usize> for Kept {
        fn leaf(&mut self, leaf: &usize) -> f64 {
            self.given[*leaf]
        }

        fn store(&mut self, to: &usize, value: f64) {
            self.results.push((*to, value));
        }
    }

    fn results(program: &Program<usize>, given: [f64; 3]) -> Vec<(usize, f64)> {
        let mut kept = Kept { given, results: Vec::new() };
        program.run(&mut kept);
        kept.results
    }

    /// A program of any instructions. What they are is drawn; registers are taken from those that there are.
    fn programs() -> impl Strategy<Value = Program<usize>> {
        let draw = (0usize..7, any::<prop::sample::Index>(), any::<prop::sample::Index>(), -2.0f64..2.0);
        proptest::collection::vec(draw, 1..40).prop_map(|draws| {
            let mut program = Program::default();
            (0..3).for_each(|leaf| {
                program.leaf(&leaf);
            });
            for (place, (kind, a, b, number)) in draws.into_iter().enumerate() {
                let (first, second) = (a.index(program.registers), b.index(program.registers));
                match kind {
                    0 => program.number(number),
                    1 => program.apply(Function::Apply(Activation::Tanh), first),
                    2 => program.scale(number, first),
                    3 => program.mul_add(first, second, second),
                    4 => {
                        program.store(&place, first);
                        continue;
                    }
                    _ => program.binary(Binary::ALL[place % Binary::ALL.len()], first, second),
                };
            }
            program.store(&1000, program.registers - 1);
            program
        })
    }

    proptest! {
        #[test]
        fn a_program_run_on_registers_writes_itself(program in programs()) {
            let mut copy = Program::default();
            program.run(&mut copy);
            prop_assert_eq!(&copy, &program);
            prop_assert_eq!(program.map_leaves(|leaf| *leaf, |to| *to), program);
        }

        #[test]
        fn what_a_result_needs_gives_it_and_has_nothing_else(program in programs(), given: [f64; 3]) {
            let part = program.part(&program.needed([], |&to| to == 1000));
            let bits = |all: Vec<(usize, f64)>| {
                all.into_iter().filter(|r| r.0 == 1000).map(|r| r.1.to_bits()).collect::<Vec<_>>()
            };
            prop_assert_eq!(bits(results(&part, given)), bits(results(&program, given)));
            for (at, instruction) in part.instructions.iter().enumerate() {
                let is_read = |to| part.instructions[at..].iter().any(|later| later.reads().any(|r| r == to));
                prop_assert!(instruction.writes().is_none_or(is_read), "{:?} is for nothing", instruction);
            }
        }
    }
}
