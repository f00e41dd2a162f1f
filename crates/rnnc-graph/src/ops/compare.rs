//! Comparisons: 1 where one holds, else 0. With NaN none holds but `!=`.

use super::{Binary, Errors, Given, Locality, Operation, Rule};

/// What is asked of two numbers. "More than" and "at least" are these, of the operands the other way round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Relation {
    /// a < b
    Less,
    /// a <= b
    AtMost,
    /// a == b
    Equal,
    /// a != b
    Unequal,
}

impl Relation {
    /// As the language writes it.
    pub const fn sign(self) -> &'static str {
        match self {
            Relation::Less => "<",
            Relation::AtMost => "<=",
            Relation::Equal => "==",
            Relation::Unequal => "!=",
        }
    }

    const fn binary(self) -> Binary {
        match self {
            Relation::Less => Binary::Less,
            Relation::AtMost => Binary::AtMost,
            Relation::Equal => Binary::Equal,
            Relation::Unequal => Binary::Unequal,
        }
    }
}

pub(super) struct Compare {
    pub relation: Relation,
}

impl Compare {
    pub(super) const SAMPLES: &[Operation] = &[
        Operation::Compare { relation: Relation::Less },
        Operation::Compare { relation: Relation::AtMost },
        Operation::Compare { relation: Relation::Equal },
        Operation::Compare { relation: Relation::Unequal },
    ];
}

impl Rule for Compare {
    fn name(&self) -> &'static str {
        match self.relation {
            Relation::Less => "less",
            Relation::AtMost => "at most",
            Relation::Equal => "equal",
            Relation::Unequal => "unequal",
        }
    }

    fn operands(&self) -> usize {
        2
    }

    fn locality(&self) -> Locality {
        Locality::Unit
    }

    fn binary(&self) -> Option<Binary> {
        Some(self.relation.binary())
    }

    /// Flat on both sides.
    fn adjoint(&self, _errors: &mut dyn Errors) {}

    fn evaluate(&self, given: &Given<'_>) -> Vec<f64> {
        given.pairs(self.relation.binary())
    }
}
