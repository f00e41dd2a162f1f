//! a / b

use super::{Binary, Errors, Given, Locality, Operation, Rule, Term};

pub(super) struct Divide;

impl Divide {
    pub(super) const SAMPLES: &[Operation] = &[Operation::Divide];
}

impl Rule for Divide {
    fn name(&self) -> &'static str {
        "quotient"
    }

    fn operands(&self) -> usize {
        2
    }

    fn locality(&self) -> Locality {
        Locality::Unit
    }

    fn binary(&self) -> Option<Binary> {
        Some(Binary::Div)
    }

    fn affine_in(&self) -> Option<usize> {
        Some(0)
    }

    /// e / b, and -(e / b) (a / b): the value is at hand.
    fn adjoint(&self, errors: &mut dyn Errors) {
        let over = errors.operation(0, Operation::Divide, &[Term::Error, Term::Operand(1)]);
        errors.send(0, over);
        if errors.flows(1) {
            let term = errors.product(1, &[(-1.0, over), (1.0, Term::Value)]);
            errors.send(1, term);
        }
    }

    fn evaluate(&self, given: &Given<'_>) -> Vec<f64> {
        given.pairs(Binary::Div)
    }
}
