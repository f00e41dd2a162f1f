//! What must be known of an operation: its [`Rule`], and what rules are written with.

use super::{Binary, Operation};
use crate::count::count;

/// All that is known of an operation but its kernels, which are the executors'.
pub(crate) trait Rule {
    /// The name in messages and listings.
    fn name(&self) -> &'static str;

    /// How the language calls it; `None` if no function of the language is this operation.
    fn call(&self) -> Option<Call> {
        None
    }

    /// How many operands it takes.
    fn operands(&self) -> usize;

    /// Which of the operands is a symbol, if one is: the last.
    fn symbol(&self) -> Option<usize> {
        None
    }

    /// Which units of the operands a unit of the result depends on.
    fn locality(&self) -> Locality;

    /// Which function of two numbers it is, if it is one: unit by unit.
    fn binary(&self) -> Option<Binary> {
        None
    }

    /// The same function of another number of groups; `None` if it has none. Executors that share out whole groups ask for it.
    fn with_groups(&self, _groups: usize) -> Option<Operation> {
        None
    }

    /// Whether its operands have other sizes than its result. A connection into such a layer writes the units of the operand,
    /// not of the layer.
    fn changes_size(&self) -> bool {
        false
    }

    /// What is wrong with its own numbers.
    fn check_numbers(&self) -> Result<(), String> {
        Ok(())
    }

    /// What is wrong with operands of so many units (of a symbol: symbols) for a result of `units`. Of an operation that does
    /// not change sizes they are as large as the result.
    fn check_sizes(&self, _operands: &[usize], units: usize) -> Result<(), String> {
        match self.locality() {
            Locality::Unit => Ok(()),
            Locality::Groups(groups) => divisible(units, groups),
        }
    }

    /// The operand in which it is affine unit by unit, whatever the others are. A cycle through that operand alone may be a
    /// scan; through any other, or an operation that says `None`, it is a loop.
    fn affine_in(&self) -> Option<usize> {
        None
    }

    /// The key of what it draws, if it draws its value afresh for each frame, stream and unit.
    fn key(&self) -> Option<u64> {
        None
    }

    /// Whether it stands in adjoints alone, as the gradient of another. Nothing derives an adjoint of such.
    fn is_gradient(&self) -> bool {
        false
    }

    /// Writes the layers that carry its error to its operands. An operand that none is sent to has none: the result does not
    /// depend on it, or only in steps.
    fn adjoint(&self, errors: &mut dyn Errors);

    /// Its value in double precision.
    fn evaluate(&self, given: &Given<'_>) -> Vec<f64>;

    /// Floating-point operations for each unit of the largest operand; a transcendental function counts 10.
    fn flops(&self) -> u64 {
        match self.locality() {
            Locality::Unit => 1,
            // An exponential or a root, and the sums of a group.
            Locality::Groups(_) => 15,
        }
    }
}

/// Which units of the operands a unit of an operation's result depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Locality {
    /// The same unit alone: it is elementwise.
    Unit,
    /// All of its group, where operands and result fall into so many equal groups.
    Groups(usize),
}

/// A function of the language that is an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// Its name.
    pub name: &'static str,
    /// How a call is written, for messages.
    pub usage: &'static str,
    /// What it takes.
    pub arguments: Arguments,
}

/// What a function of the language takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arguments {
    /// One vector, and perhaps `groups = g`, of which one of the same size comes.
    Groups,
    /// Two vectors or more, taken in pairs from the left.
    Several,
    /// Two vectors.
    Pair,
    /// One vector, and perhaps `groups = g` and `affine`, by which a learned gain (and bias) follows.
    Norm,
    /// One vector, and perhaps `groups = g`, of which one number each comes.
    Sum,
    /// What is multiplied by the operation, and its probability `p`.
    Dropout,
}

/// A vector that the adjoint of an operation reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Term {
    /// The error of the operation's value: dL/da.
    Error,
    /// The operation's value.
    Value,
    /// An operand.
    Operand(usize),
    /// A layer that [`Errors`] made.
    Made(usize),
}

/// The adjoint on its way, as the rule of an operation sees it. Each layer that is made has the units of an operand, the one
/// that it is for.
pub(crate) trait Errors {
    /// Whether an error that is sent to an operand goes anywhere. What is made for one that it does not would be dropped later.
    fn flows(&self, operand: usize) -> bool;
    /// Makes a layer that is an operation.
    fn operation(&mut self, operand: usize, operation: Operation, reads: &[Term]) -> Term;
    /// Makes a layer that is a product of factors, each scaled.
    fn product(&mut self, operand: usize, factors: &[(f64, Term)]) -> Term;
    /// Makes a layer that repeats each unit of a smaller vector.
    fn repeat(&mut self, operand: usize, of: Term) -> Term;
    /// Sends dL/d(operand) back along that operand's connection.
    fn send(&mut self, operand: usize, error: Term);
}

/// An operand in one frame of one stream.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Operand<'a> {
    /// Numbers.
    Units(&'a [f64]),
    /// A symbol, or none.
    Symbol(Option<usize>),
}

/// Whether a dropout mask of that key and probability keeps a unit in this frame and stream.
pub type Keeps<'a> = dyn Fn(u64, f64, usize) -> bool + 'a;

/// What an operation is computed of, in one frame of one stream.
#[derive(Clone, Copy)]
pub struct Given<'a> {
    /// The operands, in order.
    pub operands: &'a [Operand<'a>],
    /// The units of the result.
    pub units: usize,
    /// What is drawn. `None` but in training.
    pub keeps: Option<&'a Keeps<'a>>,
}

impl<'a> Given<'a> {
    /// The numbers of an operand.
    pub(crate) fn vector(&self, operand: usize) -> &'a [f64] {
        match self.operands[operand] {
            Operand::Units(units) => units,
            Operand::Symbol(_) => &[],
        }
    }

    /// The symbol that an operand is, if there is one in this frame.
    pub(crate) fn symbol(&self, operand: usize) -> Option<usize> {
        match self.operands[operand] {
            Operand::Units(_) => None,
            Operand::Symbol(symbol) => symbol,
        }
    }

    /// A function of two operands, unit by unit.
    pub(crate) fn pairs(&self, function: Binary) -> Vec<f64> {
        self.vector(0).iter().zip(self.vector(1)).map(|(&a, &b)| function.apply(a, b)).collect()
    }

    /// A function of one operand, group by group.
    pub(crate) fn by_group(&self, groups: usize, f: impl Fn(&[f64]) -> Vec<f64>) -> Vec<f64> {
        let a = self.vector(0);
        a.chunks(a.len() / groups).flat_map(f).collect()
    }

    /// A function of two operands, group by group.
    pub(crate) fn by_group2(&self, groups: usize, f: impl Fn(&[f64], &[f64]) -> Vec<f64>) -> Vec<f64> {
        let (a, b) = (self.vector(0), self.vector(1));
        let len = a.len() / groups;
        a.chunks(len).zip(b.chunks(len)).flat_map(|(a, b)| f(a, b)).collect()
    }
}

/// The sum of a_i b_i.
pub(crate) fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// What is wrong with units that are to be divided into groups of one size.
pub(crate) fn divisible(units: usize, groups: usize) -> Result<(), String> {
    if groups != 0 && units.is_multiple_of(groups) {
        return Ok(());
    }
    Err(format!("{} cannot be divided into {}", count(units, "unit"), count(groups, "group")))
}
