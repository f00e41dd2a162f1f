//! Layers that are operations: functions of operands that have a fixed order. One file each has all that is known of an
//! operation but its kernels, together with the operation that is its gradient, if it has one; `rule.rs` says what that is.
//!
//! To add one, write its file and name it in the list below. The language finds it by its name; the adjoint, the planner and
//! the reference ask its rule. The kernels of the executors match all operations, so the compiler names those that lack one;
//! the suite checks values and gradients.

mod binary;
mod rule;

use crate::activations::DerivativeReads;
pub use binary::{Binary, PairFormula, PairVisitor};
pub use compare::Relation;
pub use rule::{Arguments, Call, Given, Keeps, Locality, Operand};
pub(crate) use rule::{Errors, Rule, Term};

/// Declares the files, and the enum of their rules. A variant has the fields of its rule.
macro_rules! operations {
    ($($file:ident {
        $($(#[$doc:meta])* $rule:ident $({ $($field:ident: $type:ty),* })?,)*
    })*) => {
        $(mod $file;)*

        /// Operations with operands in a fixed order. `groups = g` treats g equal parts of the vector apart.
        #[derive(Clone, Copy, Debug, PartialEq)]
        #[allow(missing_docs)] // `groups` is explained once, above
        pub enum Operation {
            $($($(#[$doc])* $rule $({ $($field: $type),* })?,)*)*
        }

        impl Operation {
            /// Asks the rule.
            fn rule<T>(self, ask: impl FnOnce(&dyn Rule) -> T) -> T {
                match self {
                    $($(
                        Operation::$rule $({ $($field),* })? => ask(&$file::$rule $({ $($field),* })?),
                    )*)*
                }
            }

            /// Each operation, of every name that it has: what tests go through, and the language looks names up in.
            pub fn samples() -> impl Iterator<Item = Operation> {
                [$($($file::$rule::SAMPLES),*),*].into_iter().flatten().copied()
            }
        }
    };
}

operations! {
    divide {
        /// a / b
        Divide,
    }
    max_min {
        /// The larger of a and b; NaN if either is.
        Max,
        /// The smaller of a and b; NaN if either is.
        Min,
    }
    known {
        /// a, whatever it is, where b is a number, and 0 where b is NaN: for losses, where nothing is known to compare a
        /// with. No error goes back to b.
        Known,
    }
    share {
        /// For the adjoints of max and min: 1 where a > b, 1/2 where a = b, else 0.
        Share,
    }
    compare {
        /// 1 where the relation holds between a and b, else 0.
        Compare { relation: Relation },
    }
    select {
        /// a where b is not 0 (NaN is not), else -0.
        When,
        /// a where b is 0, else -0. With [`Operation::When`] of the same b it adds up to a choice between two values.
        Unless,
    }
    modulo {
        /// a - b floor(a / b): what a leaves when it is divided by b, with the sign of b.
        Mod,
        /// floor(a / b), for the adjoint of mod.
        Floored,
    }
    softmax {
        /// exp(a_i) / sum_j exp(a_j)
        Softmax { groups: usize },
        /// Operands: the error e of a softmax layer, and its value y. y (e - sum(e y))
        SoftmaxGradient { groups: usize },
    }
    log_softmax {
        /// a_i - log(sum_j exp(a_j))
        LogSoftmax { groups: usize },
        /// Operands: the error e of a log-softmax layer, and its value y. e - exp(y) sum(e)
        LogSoftmaxGradient { groups: usize },
    }
    normalize {
        /// (a - mean) / sqrt(variance + epsilon) if `center` (layer norm), else a / sqrt(mean square + epsilon)
        /// (RMS norm). The gain and bias are connections of the layers that read it.
        Normalize { groups: usize, center: bool, epsilon: f64 },
        /// Operands: the error e of a [`Operation::Normalize`] layer, and its operand x.
        NormalizeGradient { groups: usize, center: bool, epsilon: f64 },
    }
    group_sum {
        /// The sum of each of the groups: a layer of `groups` units.
        GroupSum { groups: usize },
    }
    cross_entropy {
        /// Operands: logits, and a symbol layer of as many symbols. One unit: `-log softmax(logits)[symbol]`, and 0 in
        /// frames without a symbol.
        CrossEntropy,
        /// Operands: the error e (one unit) of a cross-entropy layer, its logits, its symbols.
        /// e (softmax(logits) - one-hot(symbol)), and 0 in frames without a symbol.
        CrossEntropyGradient,
    }
    dropout_mask {
        /// No operands. In training 1 / (1 - p) with probability 1 - p and else 0, drawn afresh for each frame,
        /// stream and unit; otherwise 1. What is drawn follows from the key, which is the mask's own: the same for all that
        /// read it, forward and back, and no other mask's, whatever layers are called. [`crate::Graph::mask`] gives it one.
        DropoutMask { probability: f64, key: u64 },
    }
}

/// The adjoint of an operation of one operand, where a single layer is all of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Gradient {
    /// That operation, of the error and of what is said.
    Operation(Operation, DerivativeReads),
    /// The error, each unit repeated for all of its group.
    Repeat,
}

impl Operation {
    /// The operation's name in messages and listings.
    pub fn name(self) -> &'static str {
        self.rule(|rule| rule.name())
    }

    /// How the language calls it; `None` if no function of the language is this operation.
    pub fn call(self) -> Option<Call> {
        self.rule(|rule| rule.call())
    }

    /// How many operands it takes.
    pub fn operands(self) -> usize {
        self.rule(|rule| rule.operands())
    }

    /// Which of the operands is a symbol, if one is: the last.
    pub fn symbol(self) -> Option<usize> {
        self.rule(|rule| rule.symbol())
    }

    /// Which units of the operands a unit of the result depends on.
    pub fn locality(self) -> Locality {
        self.rule(|rule| rule.locality())
    }

    /// Whether unit u of the result depends on unit u of the operands alone.
    pub fn is_elementwise(self) -> bool {
        self.locality() == Locality::Unit
    }

    /// How many groups of units it treats apart: 1 if it is elementwise.
    pub fn groups(self) -> usize {
        match self.locality() {
            Locality::Unit => 1,
            Locality::Groups(groups) => groups,
        }
    }

    /// Which function of two numbers it is, if it is one: unit by unit.
    pub fn binary(self) -> Option<Binary> {
        self.rule(|rule| rule.binary())
    }

    /// The same function of another number of groups; `None` if it has none.
    pub fn with_groups(self, groups: usize) -> Option<Operation> {
        self.rule(|rule| rule.with_groups(groups))
    }

    /// Whether its operands have other sizes than its result. A connection into such a layer writes the units of
    /// the operand, not of the layer.
    pub fn changes_size(self) -> bool {
        self.rule(|rule| rule.changes_size())
    }

    /// What is wrong with its own numbers: an epsilon, a probability.
    pub(crate) fn check_numbers(self) -> Result<(), String> {
        self.rule(|rule| rule.check_numbers())
    }

    /// Whether operands of so many units (of a symbol: symbols) fit a result of `units`. There must be as many operands as
    /// it takes; those of an operation that does not change sizes must be as large as the result.
    ///
    /// # Errors
    /// Says what does not fit.
    pub fn check_sizes(self, operands: &[usize], units: usize) -> Result<(), String> {
        self.rule(|rule| rule.check_sizes(operands, units))
    }

    /// The operand in which it is affine unit by unit, whatever the others are.
    pub(crate) fn affine_in(self) -> Option<usize> {
        self.rule(|rule| rule.affine_in())
    }

    /// The key of what it draws, if it draws its value afresh for each frame, stream and unit.
    pub fn key(self) -> Option<u64> {
        self.rule(|rule| rule.key())
    }

    /// Whether it stands in adjoints alone, as the gradient of another operation.
    pub fn is_gradient(self) -> bool {
        self.rule(|rule| rule.is_gradient())
    }

    /// Writes the layers that carry its error to its operands.
    pub(crate) fn adjoint(self, errors: &mut dyn Errors) {
        self.rule(|rule| rule.adjoint(errors));
    }

    /// The adjoint of an operation of one operand, if a single layer is all of it.
    pub fn gradient(self) -> Option<Gradient> {
        let mut single = Single::Nothing;
        self.adjoint(&mut single);
        match single {
            Single::Sent(gradient) => Some(gradient),
            Single::Nothing | Single::Made(_) | Single::Other => None,
        }
    }

    /// Its value in double precision: `units` numbers, in one frame of one stream.
    ///
    /// # Panics
    /// If there are fewer operands than it takes.
    pub fn evaluate(self, given: &Given<'_>) -> Vec<f64> {
        self.rule(|rule| rule.evaluate(given))
    }

    /// Floating-point operations for each unit of the largest operand; a transcendental function counts 10.
    pub fn flops(self) -> u64 {
        self.rule(|rule| rule.flops())
    }
}

/// Finds out whether an adjoint is a single layer.
enum Single {
    Nothing,
    Made(Gradient),
    Sent(Gradient),
    /// More than that, or something else.
    Other,
}

impl Single {
    fn make(&mut self, operand: usize, gradient: Option<Gradient>) -> Term {
        *self = match (&self, operand, gradient) {
            (Single::Nothing, 0, Some(gradient)) => Single::Made(gradient),
            _ => Single::Other,
        };
        Term::Made(0)
    }
}

impl Errors for Single {
    fn flows(&self, _operand: usize) -> bool {
        true
    }

    fn operation(&mut self, operand: usize, operation: Operation, reads: &[Term]) -> Term {
        let reads = match reads {
            [Term::Error, Term::Value] => Some(DerivativeReads::Value),
            [Term::Error, Term::Operand(0)] => Some(DerivativeReads::Argument),
            _ => None,
        };
        self.make(operand, reads.map(|reads| Gradient::Operation(operation, reads)))
    }

    fn product(&mut self, operand: usize, _factors: &[(f64, Term)]) -> Term {
        self.make(operand, None)
    }

    fn repeat(&mut self, operand: usize, of: Term) -> Term {
        self.make(operand, (of == Term::Error).then_some(Gradient::Repeat))
    }

    fn send(&mut self, _operand: usize, _error: Term) {
        *self = match self {
            Single::Made(gradient) => Single::Sent(*gradient),
            _ => Single::Other,
        };
    }
}
