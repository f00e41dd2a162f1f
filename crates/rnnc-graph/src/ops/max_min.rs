//! The larger and the smaller of two numbers; NaN if either is. Of equal ones each gets half of the error, as in PyTorch.

use super::{Arguments, Binary, Call, Errors, Given, Locality, Operation, Rule, Term};

pub(super) struct Max;

impl Max {
    pub(super) const SAMPLES: &[Operation] = &[Operation::Max];
}

impl Rule for Max {
    fn name(&self) -> &'static str {
        "max"
    }

    fn call(&self) -> Option<Call> {
        Some(Call { name: "max", usage: "max(a, b)", arguments: Arguments::Several })
    }

    fn operands(&self) -> usize {
        2
    }

    fn locality(&self) -> Locality {
        Locality::Unit
    }

    fn binary(&self) -> Option<Binary> {
        Some(Binary::Max)
    }

    fn adjoint(&self, errors: &mut dyn Errors) {
        shares(errors, |own, other| [own, other]);
    }

    fn evaluate(&self, given: &Given<'_>) -> Vec<f64> {
        given.pairs(Binary::Max)
    }
}

pub(super) struct Min;

impl Min {
    pub(super) const SAMPLES: &[Operation] = &[Operation::Min];
}

impl Rule for Min {
    fn name(&self) -> &'static str {
        "min"
    }

    fn call(&self) -> Option<Call> {
        Some(Call { name: "min", usage: "min(a, b)", arguments: Arguments::Several })
    }

    fn operands(&self) -> usize {
        2
    }

    fn locality(&self) -> Locality {
        Locality::Unit
    }

    fn binary(&self) -> Option<Binary> {
        Some(Binary::Min)
    }

    fn adjoint(&self, errors: &mut dyn Errors) {
        shares(errors, |own, other| [other, own]);
    }

    fn evaluate(&self, given: &Given<'_>) -> Vec<f64> {
        given.pairs(Binary::Min)
    }
}

/// To each operand the error times the share of the greater, or of the less, whichever it is.
fn shares(errors: &mut dyn Errors, greater_and_less: impl Fn(Term, Term) -> [Term; 2]) {
    for (own, other) in [(0, 1), (1, 0)] {
        if errors.flows(own) {
            let reads = greater_and_less(Term::Operand(own), Term::Operand(other));
            let share = errors.operation(own, Operation::Share, &reads);
            let term = errors.product(own, &[(1.0, Term::Error), (1.0, share)]);
            errors.send(own, term);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Operand;
    use super::*;

    #[test]
    fn max_min_and_share_treat_nan_and_ties_as_documented() {
        let operands = [
            Operand::Units(&[1.0, 2.0, 2.0, f64::NAN, 1.0]),
            Operand::Units(&[2.0, 1.0, 2.0, 1.0, f64::NAN]),
        ];
        let given = Given { operands: &operands, units: 5, keeps: None };
        let [max, min, share] =
            [Operation::Max, Operation::Min, Operation::Share].map(|operation| operation.evaluate(&given));
        assert_eq!(max[..3], [2.0, 2.0, 2.0]);
        assert_eq!(min[..3], [1.0, 1.0, 2.0]);
        assert_eq!(share[..3], [0.0, 1.0, 0.5]);
        assert!([max, min, share].iter().flat_map(|values| &values[3..]).all(|v| v.is_nan()));
    }
}
