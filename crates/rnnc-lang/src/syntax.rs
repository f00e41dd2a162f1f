//! The syntax tree: what a text says, with the place of every part, before any name is looked up.

use rnnc_graph::Origin;
use rnnc_graph::ops::Relation;

/// A place in a text: the text's number, and bytes.
pub(crate) type Span = Origin;

/// The place from the beginning of one span to the end of another of the same text.
pub(crate) fn join(first: Span, last: Span) -> Span {
    Span { text: first.text, start: first.start, end: last.end.max(first.start) }
}

/// A name where it is written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Name<'t> {
    pub text: &'t str,
    pub span: Span,
}

/// A text: its cells and networks.
#[derive(Debug, Default)]
pub(crate) struct File<'t> {
    pub cells: Vec<Cell<'t>>,
    pub networks: Vec<Network<'t>>,
}

/// `cell NAME(inputs; options) { block }`
#[derive(Debug)]
pub(crate) struct Cell<'t> {
    pub name: Name<'t>,
    pub inputs: Vec<Name<'t>>,
    pub options: Vec<OptionDeclaration<'t>>,
    pub block: Vec<Statement<'t>>,
    /// How many tokens it is made of.
    pub tokens: usize,
}

/// `n` or `n = 4` in a cell's head.
#[derive(Debug)]
pub(crate) struct OptionDeclaration<'t> {
    pub name: Name<'t>,
    pub default: Option<Expr<'t>>,
}

/// `network NAME { block }`
#[derive(Debug)]
pub(crate) struct Network<'t> {
    pub name: Name<'t>,
    pub block: Vec<Statement<'t>>,
}

/// What stands in a block.
#[derive(Debug)]
pub(crate) enum Statement<'t> {
    /// `input x : vector(40)`
    Input { name: Name<'t>, symbol: bool, size: Expr<'t> },
    /// `start c = 0.5`
    Start { name: Name<'t>, value: Expr<'t> },
    /// `return h, c`
    Return { values: Vec<Expr<'t>>, span: Span },
    /// `output y, z`
    Output { values: Vec<Expr<'t>> },
    /// `h, c = lstm2(x; 64)`
    Equation { names: Vec<Name<'t>>, value: Expr<'t>, span: Span },
}

/// An expression where it is written.
#[derive(Debug)]
pub(crate) struct Expr<'t> {
    pub kind: ExprKind<'t>,
    pub span: Span,
}

/// What an expression is. Sums and products are flat, so that the depth of a tree is the depth of its brackets.
#[derive(Debug)]
pub(crate) enum ExprKind<'t> {
    Number(f64),
    /// `h1.c[t-1]`; the offset is what follows `t`, a sum.
    Read {
        path: Vec<Name<'t>>,
        offset: Option<Box<Expr<'t>>>,
    },
    /// Terms, each with whether it is subtracted.
    Sum(Vec<(bool, Expr<'t>)>),
    /// Factors, each with whether it divides.
    Product(Vec<(bool, Expr<'t>)>),
    /// Two sides of a comparison.
    Compare(Comparison, Box<[Expr<'t>; 2]>),
    Call(Box<Call<'t>>),
}

/// A comparison as it is written: `a > b` is a relation of b to a.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Comparison {
    pub relation: Relation,
    pub turned: bool,
}

impl Comparison {
    /// Those that there are; of two that begin alike, the longer one first.
    pub const ALL: [Comparison; 6] = [
        Comparison { relation: Relation::AtMost, turned: false },
        Comparison { relation: Relation::AtMost, turned: true },
        Comparison { relation: Relation::Equal, turned: false },
        Comparison { relation: Relation::Unequal, turned: false },
        Comparison { relation: Relation::Less, turned: false },
        Comparison { relation: Relation::Less, turned: true },
    ];

    pub const fn sign(self) -> &'static str {
        match (self.relation, self.turned) {
            (Relation::AtMost, true) => ">=",
            (Relation::Less, true) => ">",
            (relation, _) => relation.sign(),
        }
    }

    /// The sides in the order of the relation.
    pub fn sides<T>(self, [left, right]: [T; 2]) -> [T; 2] {
        if self.turned { [right, left] } else { [left, right] }
    }
}

/// `reversed name(arguments; options)`
#[derive(Debug)]
pub(crate) struct Call<'t> {
    pub reversed: bool,
    pub name: Name<'t>,
    pub arguments: Vec<Expr<'t>>,
    pub options: Vec<GivenOption<'t>>,
}

/// `256` or `bias = none` in a call.
#[derive(Debug)]
pub(crate) struct GivenOption<'t> {
    pub name: Option<Name<'t>>,
    pub value: Expr<'t>,
}

impl<'t> Expr<'t> {
    /// The one name that the expression is, if it is one.
    pub fn as_name(&self) -> Option<Name<'t>> {
        match &self.kind {
            ExprKind::Read { path, offset: None } => match path[..] {
                [name] => Some(name),
                _ => None,
            },
            _ => None,
        }
    }

    /// Calls `visit` on every call in the expression, in the order in which their names are written.
    pub fn each_call<'e>(&'e self, visit: &mut impl FnMut(&'e Call<'t>)) {
        match &self.kind {
            ExprKind::Number(_) | ExprKind::Read { .. } => {}
            ExprKind::Sum(parts) | ExprKind::Product(parts) => {
                parts.iter().for_each(|(_, part)| part.each_call(visit));
            }
            ExprKind::Compare(_, sides) => sides.iter().for_each(|side| side.each_call(visit)),
            ExprKind::Call(call) => {
                visit(call);
                call.arguments.iter().for_each(|argument| argument.each_call(visit));
            }
        }
    }
}
