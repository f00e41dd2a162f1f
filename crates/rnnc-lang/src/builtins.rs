//! The functions of the language: their names, how many inputs each takes, and their options.

use std::borrow::Cow;

use rnnc_graph::ops::{Arguments, Given, Operand};
use rnnc_graph::{Activation, Operation};

/// A function of the language.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Builtin {
    Apply(Activation),
    /// Of two vectors or more, taken in pairs.
    Pairs(Operation),
    /// Of two vectors.
    Pair(Operation),
    /// Of one vector, group by group.
    Vector(Operation),
    Dense,
    Diag,
    Param,
    Norm(Operation),
    Sum(Operation),
    Mean,
    Concat,
    Slice,
    Broadcast,
    StopGradient,
    Where,
    Clamp,
    Step,
    Dropout(Operation),
}

/// How a function is called.
pub(crate) struct Signature {
    /// The fewest inputs.
    pub least: usize,
    /// The most inputs.
    pub most: usize,
    /// Its options in their order, and whether each must be given.
    pub options: &'static [(&'static str, bool)],
    /// How a call is written, for messages.
    pub usage: Cow<'static, str>,
}

const MANY: usize = usize::MAX;

impl Builtin {
    /// Those that are neither activations nor operations of the usual arguments.
    const NAMED: [(&'static str, Builtin); 11] = [
        ("dense", Builtin::Dense),
        ("diag", Builtin::Diag),
        ("param", Builtin::Param),
        ("mean", Builtin::Mean),
        ("concat", Builtin::Concat),
        ("slice", Builtin::Slice),
        ("broadcast", Builtin::Broadcast),
        ("stop_gradient", Builtin::StopGradient),
        ("where", Builtin::Where),
        ("clamp", Builtin::Clamp),
        ("step", Builtin::Step),
    ];

    /// Those that are an operation, as its rule calls them.
    fn operations() -> impl Iterator<Item = (&'static str, Builtin)> {
        Operation::samples().filter_map(|operation| {
            let call = operation.call()?;
            let builtin = match call.arguments {
                Arguments::Groups => Builtin::Vector(operation),
                Arguments::Several => Builtin::Pairs(operation),
                Arguments::Pair => Builtin::Pair(operation),
                Arguments::Norm => Builtin::Norm(operation),
                Arguments::Sum => Builtin::Sum(operation),
                Arguments::Dropout => Builtin::Dropout(operation),
            };
            Some((call.name, builtin))
        })
    }

    /// The names of all functions.
    pub fn names() -> impl Iterator<Item = &'static str> {
        let activations = Activation::called().map(Activation::name);
        Builtin::NAMED.into_iter().chain(Builtin::operations()).map(|(name, _)| name).chain(activations)
    }

    pub fn find(name: &str) -> Option<Builtin> {
        let mut named = Builtin::NAMED.into_iter().chain(Builtin::operations());
        let named = named.find(|&(n, _)| n == name).map(|(_, builtin)| builtin);
        named.or_else(|| Activation::from_name(name).map(Builtin::Apply))
    }

    pub fn signature(self) -> Signature {
        let (least, most, options, usage): (_, _, &'static [_], Cow<'static, str>) = match self {
            Builtin::Apply(f) => (1, 1, &[], Cow::Owned(format!("{}(a)", f.name()))),
            Builtin::Dense => (
                1,
                MANY,
                &[("n", true), ("bias", false), ("heads", false), ("init", false)],
                "dense(a, b; n, bias = 0, heads = 1)".into(),
            ),
            Builtin::Diag => (1, 1, &[("init", false)], "diag(a)".into()),
            Builtin::Param => (1, 1, &[("init", false)], "param(n; init = zeros)".into()),
            Builtin::Pairs(operation) => (2, MANY, &[], usage(operation).into()),
            Builtin::Pair(operation) => (2, 2, &[], usage(operation).into()),
            Builtin::Where => (3, 3, &[], "where(a > b, a, b)".into()),
            Builtin::Clamp => (1, 1, &[("lo", false), ("hi", false)], "clamp(a; lo, hi)".into()),
            Builtin::Step => (1, 1, &[("surrogate", false)], "step(a; surrogate = atan(2))".into()),
            Builtin::Vector(operation) => (1, 1, &[("groups", false)], usage(operation).into()),
            Builtin::Norm(operation) => {
                (1, 1, &[("groups", false), ("affine", false), ("epsilon", false)], usage(operation).into())
            }
            Builtin::Sum(operation) => (1, 1, &[("groups", false)], usage(operation).into()),
            Builtin::Mean => (1, 1, &[("groups", false)], "mean(a; groups = 1)".into()),
            Builtin::Concat => (1, MANY, &[], "concat(a, b)".into()),
            Builtin::Slice => (1, 1, &[("from", true), ("to", true)], "slice(a; from, to)".into()),
            Builtin::Broadcast => (1, 1, &[("n", true)], "broadcast(a; n)".into()),
            Builtin::StopGradient => (1, 1, &[], "stop_gradient(a)".into()),
            Builtin::Dropout(operation) => (1, 1, &[("p", true)], usage(operation).into()),
        };
        Signature { least, most, options, usage }
    }
}

/// How a call of an operation is written.
fn usage(operation: Operation) -> &'static str {
    operation.call().map_or(operation.name(), |call| call.usage)
}

/// An elementwise operation of two numbers.
pub(crate) fn of_numbers(operation: Operation, a: f64, b: f64) -> f64 {
    let operands = [Operand::Units(&[a]), Operand::Units(&[b])];
    operation.evaluate(&Given { operands: &operands, units: 1, keeps: None })[0]
}
