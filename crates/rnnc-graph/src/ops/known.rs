//! A number where another one is known, and 0 where that is NaN: for losses, where there may be nothing to compare with.

use super::{Binary, Errors, Given, Locality, Operation, Rule, Term};

pub(super) struct Known;

impl Known {
    pub(super) const SAMPLES: &[Operation] = &[Operation::Known];
}

impl Rule for Known {
    fn name(&self) -> &'static str {
        "known"
    }

    fn operands(&self) -> usize {
        2
    }

    fn locality(&self) -> Locality {
        Locality::Unit
    }

    fn binary(&self) -> Option<Binary> {
        Some(Binary::Known)
    }

    /// Not the error times 0 or 1: what is not known may be no number on either side.
    fn adjoint(&self, errors: &mut dyn Errors) {
        if errors.flows(0) {
            let term = errors.operation(0, Operation::Known, &[Term::Error, Term::Operand(1)]);
            errors.send(0, term);
        }
    }

    fn evaluate(&self, given: &Given<'_>) -> Vec<f64> {
        given.pairs(Binary::Known)
    }
}
