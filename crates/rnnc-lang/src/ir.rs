//! The network between its text and its graph: every cell call expanded, every constant worked out, every
//! function known; names looked up last, since a name may be used before its equation.

use crate::diagnostics::{Diagnostic, shortened};
use crate::syntax::Span;
use rnnc_graph::{Activation, Init, Operation};
use std::collections::HashMap;

macro_rules! ids {
    ($($(#[$doc:meta])* $id:ident),*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub(crate) struct $id(pub usize);
    )*};
}
ids!(
    /// An expression of the network.
    ExprId,
    /// What will be a layer that names can stand for.
    NodeId,
    /// What a name stands for.
    BindingId,
    /// A cell as called in one place; the network is the first.
    InstanceId,
    /// An equation, which gives its name to the layers it needs.
    EquationId
);

/// A network, expanded.
#[derive(Debug, Default)]
pub(crate) struct Expanded<'t> {
    pub instances: Vec<Instance<'t>>,
    pub bindings: Vec<Binding<'t>>,
    pub exprs: Vec<Expr<'t>>,
    pub nodes: Vec<Node>,
    pub equations: Vec<String>,
    /// Instances by their full name (`h1`, `y.lstm2`), each with a binding to its first value.
    pub named_instances: HashMap<String, (InstanceId, BindingId)>,
    pub outputs: Vec<(String, Reference<'t>)>,
}

/// A cell as called in one place.
#[derive(Debug)]
pub(crate) struct Instance<'t> {
    /// What the names of its layers begin with: `h1.`
    pub prefix: String,
    /// -1 if its delays are negated.
    pub sign: i64,
    pub names: HashMap<&'t str, BindingId>,
    pub options: HashMap<&'t str, Constant>,
    pub returns: Vec<Reference<'t>>,
    /// Its layers and the cells that it calls, in the order of its equations.
    pub items: Vec<Item>,
    /// The cell's name, where it was called, and by whom.
    pub call: Option<(&'t str, Span, InstanceId)>,
}

/// What an instance is made of.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Item {
    Node(NodeId),
    Instance(InstanceId),
}

/// What a name stands for.
#[derive(Clone, Debug)]
pub(crate) enum Binding<'t> {
    /// A layer.
    Node(NodeId),
    /// Another name, perhaps in another frame.
    Alias(Reference<'t>),
    /// That value, from 0, of what an instance returns.
    Value(InstanceId, usize),
}

/// A name as some instance reads it.
#[derive(Clone, Debug)]
pub(crate) struct Reference<'t> {
    pub place: Place<'t>,
    /// Frames ago; its sign is that of the instance already.
    pub delay: i64,
    pub span: Span,
    /// Known once names are looked up.
    pub target: Option<Target>,
}

/// What a reference names.
#[derive(Clone, Debug)]
pub(crate) enum Place<'t> {
    /// A name, and names inside it, as an instance knows them.
    Path { scope: InstanceId, path: Vec<&'t str> },
    /// Something without a name.
    Binding(BindingId),
}

/// A layer, read some frames ago.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Target {
    pub node: NodeId,
    pub delay: i64,
}

/// What an option may be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Constant {
    Number(f64),
    None,
    Learned,
    Init(Init),
}

impl Constant {
    /// The constant as a message names it.
    pub fn described(self) -> String {
        match self {
            Constant::Number(number) => format!("the number {number}"),
            Constant::None | Constant::Learned => format!("`{}`", self.written()),
            Constant::Init(_) => format!("the initialization `{}`", self.written()),
        }
    }

    /// The constant as a text has it.
    pub fn written(self) -> String {
        match self {
            Constant::Number(number) => number.to_string(),
            Constant::None => "none".into(),
            Constant::Learned => "learned".into(),
            Constant::Init(Init::Uniform(a)) => format!("uniform({a})"),
            Constant::Init(Init::Normal(s)) => format!("normal({s})"),
            Constant::Init(Init::Constant(c)) => format!("constant({c})"),
            Constant::Init(Init::Glorot) => "glorot".into(),
            Constant::Init(Init::Orthogonal) => "orthogonal".into(),
            Constant::Init(Init::Zeros) => "zeros".into(),
        }
    }
}

/// What delayed reads see before the stream begins.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum StartValue {
    Constant(f64),
    Learned,
}

/// What will be a layer that names can stand for.
#[derive(Debug)]
pub(crate) struct Node {
    pub kind: NodeKind,
    /// The layer's name; an argument that is an expression has none.
    pub name: Option<String>,
    pub equation: EquationId,
    pub span: Span,
    pub start: Option<StartValue>,
    /// Units, or symbols, once known.
    pub size: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum NodeKind {
    Input,
    Symbol,
    Equation(ExprId),
}

/// An expression, with its size once known.
#[derive(Debug)]
pub(crate) struct Expr<'t> {
    pub op: Op<'t>,
    pub span: Span,
    /// Whose equation it stands in.
    pub instance: InstanceId,
    /// Levels of expressions below.
    pub depth: usize,
    pub size: Option<usize>,
}

/// What an expression computes, in the order that is written: numbers are worked out beforehand only where they stand
/// beside each other, or where that changes no bit.
#[derive(Debug)]
pub(crate) enum Op<'t> {
    Number(f64),
    Read(Box<Reference<'t>>),
    /// The sum of the terms from left to right, each with a sign, 1 or -1. A first one is no number.
    Sum {
        terms: Vec<(f64, ExprId)>,
    },
    /// The number times the first factor, times the others from left to right. A first one is no number.
    Product {
        scale: f64,
        factors: Vec<ExprId>,
    },
    Apply(Activation, ExprId),
    /// Quotient, max, min, comparisons and such.
    Pair(Operation, ExprId, ExprId),
    /// `yes` where the condition is not 0, else `no`.
    Where {
        condition: ExprId,
        yes: ExprId,
        no: ExprId,
    },
    /// The operand, but no less than `lo` and no more than `hi`, where there are these.
    Clamp {
        operand: ExprId,
        lo: Option<f64>,
        hi: Option<f64>,
    },
    /// A function of the units of each group.
    Vector(Operation, ExprId),
    Reduce {
        operand: ExprId,
        groups: usize,
        mean: bool,
    },
    Normalize {
        operand: ExprId,
        operation: Operation,
        /// The name that gain and bias begin with, if there are any.
        affine: Option<String>,
    },
    Dense(Box<Dense>),
    Diagonal {
        operand: ExprId,
        weight: String,
        init: Option<Init>,
    },
    Parameter {
        size: usize,
        weight: String,
        init: Init,
    },
    Concat(Vec<ExprId>),
    Slice {
        operand: ExprId,
        from: usize,
        to: usize,
    },
    Broadcast {
        operand: ExprId,
        size: usize,
    },
    StopGradient(ExprId),
    Dropout {
        operand: ExprId,
        probability: f64,
        /// The name of the mask's layer.
        mask: String,
    },
}

/// A bias and a full connection from each input.
#[derive(Debug)]
pub(crate) struct Dense {
    /// Each with its weight's name.
    pub inputs: Vec<(ExprId, String)>,
    pub size: usize,
    pub bias: Option<(String, Init)>,
    pub heads: usize,
    pub init: Option<Init>,
}

impl Op<'_> {
    /// Calls `visit` with every operand.
    pub fn each_operand(&self, mut visit: impl FnMut(ExprId)) {
        match self {
            Op::Number(_) | Op::Read(_) | Op::Parameter { .. } => {}
            Op::Sum { terms } => terms.iter().for_each(|&(_, e)| visit(e)),
            Op::Product { factors, .. } => factors.iter().for_each(|&e| visit(e)),
            Op::Concat(parts) => parts.iter().for_each(|&e| visit(e)),
            Op::Dense(dense) => dense.inputs.iter().for_each(|&(e, _)| visit(e)),
            &Op::Pair(_, a, b) => {
                visit(a);
                visit(b);
            }
            &Op::Where { condition, yes, no } => [condition, yes, no].into_iter().for_each(visit),
            &Op::Apply(_, operand)
            | &Op::Vector(_, operand)
            | &Op::Reduce { operand, .. }
            | &Op::Normalize { operand, .. }
            | &Op::Clamp { operand, .. }
            | &Op::Diagonal { operand, .. }
            | &Op::Slice { operand, .. }
            | &Op::Broadcast { operand, .. }
            | &Op::StopGradient(operand)
            | &Op::Dropout { operand, .. } => visit(operand),
        }
    }
}

impl<'t> Expanded<'t> {
    pub fn expr(&self, id: ExprId) -> &Expr<'t> {
        &self.exprs[id.0]
    }

    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0]
    }

    /// The error, with the calls that led to the instance it is in.
    pub fn in_calls(&self, instance: InstanceId, mut error: Diagnostic) -> Diagnostic {
        const SHOWN: usize = 4;
        let mut instance = instance;
        for _ in 0..SHOWN {
            let Some((cell, span, caller)) = self.instance(instance).call else { break };
            error = error.also(span, format!("in this call of `{}`", shortened(cell)));
            instance = caller;
        }
        error
    }

    pub fn instance(&self, id: InstanceId) -> &Instance<'t> {
        &self.instances[id.0]
    }
}
