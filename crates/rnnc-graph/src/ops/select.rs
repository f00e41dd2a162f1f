//! The two halves of a choice, `where(c, a, b)` = `a when c` + `b unless c`. Nothing is multiplied: infinities and NaN of the
//! side that is not taken go nowhere, forward or back. What stands for that side is -0, which changes no number that it is added
//! to. Each half is linear in what it selects, so a cycle through it may be a scan.

use super::{Binary, Errors, Given, Locality, Operation, Rule, Term};

pub(super) struct When;

impl When {
    pub(super) const SAMPLES: &[Operation] = &[Operation::When];
}

impl Rule for When {
    fn name(&self) -> &'static str {
        "when"
    }

    fn operands(&self) -> usize {
        2
    }

    fn locality(&self) -> Locality {
        Locality::Unit
    }

    fn binary(&self) -> Option<Binary> {
        Some(Binary::When)
    }

    fn affine_in(&self) -> Option<usize> {
        Some(0)
    }

    fn adjoint(&self, errors: &mut dyn Errors) {
        selected(errors, Operation::When);
    }

    fn evaluate(&self, given: &Given<'_>) -> Vec<f64> {
        given.pairs(Binary::When)
    }
}

pub(super) struct Unless;

impl Unless {
    pub(super) const SAMPLES: &[Operation] = &[Operation::Unless];
}

impl Rule for Unless {
    fn name(&self) -> &'static str {
        "unless"
    }

    fn operands(&self) -> usize {
        2
    }

    fn locality(&self) -> Locality {
        Locality::Unit
    }

    fn binary(&self) -> Option<Binary> {
        Some(Binary::Unless)
    }

    fn affine_in(&self) -> Option<usize> {
        Some(0)
    }

    fn adjoint(&self, errors: &mut dyn Errors) {
        selected(errors, Operation::Unless);
    }

    fn evaluate(&self, given: &Given<'_>) -> Vec<f64> {
        given.pairs(Binary::Unless)
    }
}

/// The error goes where the value came from.
fn selected(errors: &mut dyn Errors, operation: Operation) {
    if errors.flows(0) {
        let term = errors.operation(0, operation, &[Term::Error, Term::Operand(1)]);
        errors.send(0, term);
    }
}

#[cfg(test)]
mod tests {
    use super::super::Operand;
    use super::*;

    #[test]
    fn the_halves_of_a_choice_add_up_to_what_is_chosen_to_the_bit() {
        let condition = [1.0, 0.0, -0.0, f64::NAN, 0.5];
        let (yes, no) =
            ([0.0, f64::INFINITY, f64::NAN, -0.0, 1.0], [f64::NAN, -0.0, 2.0, f64::INFINITY, 0.0]);
        let half = |operation: Operation, of: &[f64]| {
            let operands = [Operand::Units(of), Operand::Units(&condition)];
            operation.evaluate(&Given { operands: &operands, units: 5, keeps: None })
        };
        let (when, unless) = (half(Operation::When, &yes), half(Operation::Unless, &no));
        let chosen: Vec<u64> = when.iter().zip(unless).map(|(a, b)| (a + b).to_bits()).collect();
        assert_eq!(chosen, [0.0, -0.0, 2.0, -0.0, 1.0].map(f64::to_bits));
    }
}
