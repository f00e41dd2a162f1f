//! What a division leaves, as Python's `%` and `torch.remainder` have it: with the sign of the divisor.

use super::{Arguments, Binary, Call, Errors, Given, Locality, Operation, Rule, Term};

pub(super) struct Mod;

impl Mod {
    pub(super) const SAMPLES: &[Operation] = &[Operation::Mod];
}

impl Rule for Mod {
    fn name(&self) -> &'static str {
        "mod"
    }

    fn call(&self) -> Option<Call> {
        Some(Call { name: "mod", usage: "mod(a, b)", arguments: Arguments::Pair })
    }

    fn operands(&self) -> usize {
        2
    }

    fn locality(&self) -> Locality {
        Locality::Unit
    }

    fn binary(&self) -> Option<Binary> {
        Some(Binary::Mod)
    }

    /// e, and -e floor(a / b).
    fn adjoint(&self, errors: &mut dyn Errors) {
        if errors.flows(0) {
            errors.send(0, Term::Error);
        }
        if errors.flows(1) {
            let times = errors.operation(1, Operation::Floored, &[Term::Operand(0), Term::Operand(1)]);
            let term = errors.product(1, &[(-1.0, Term::Error), (1.0, times)]);
            errors.send(1, term);
        }
    }

    fn evaluate(&self, given: &Given<'_>) -> Vec<f64> {
        given.pairs(Binary::Mod)
    }
}

pub(super) struct Floored;

impl Floored {
    pub(super) const SAMPLES: &[Operation] = &[Operation::Floored];
}

impl Rule for Floored {
    fn name(&self) -> &'static str {
        "floored quotient"
    }

    fn operands(&self) -> usize {
        2
    }

    fn locality(&self) -> Locality {
        Locality::Unit
    }

    fn binary(&self) -> Option<Binary> {
        Some(Binary::Floored)
    }

    /// Flat but for its steps.
    fn adjoint(&self, _errors: &mut dyn Errors) {}

    fn evaluate(&self, given: &Given<'_>) -> Vec<f64> {
        given.pairs(Binary::Floored)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remainder_has_the_sign_of_its_divisor() {
        for (a, b, times, rest) in [
            (7.0, 3.0, 2.0, 1.0),
            (-7.0, 3.0, -3.0, 2.0),
            (7.0, -3.0, -3.0, -2.0),
            (-7.0, -3.0, 2.0, -1.0),
            (6.0, -3.0, -2.0, 0.0),
            (-0.25, 1.0, -1.0, 0.75),
            (5.0, f64::INFINITY, 0.0, 5.0),
            (-5.0, f64::INFINITY, -1.0, f64::INFINITY),
        ] {
            assert_eq!((Binary::Floored.apply(a, b), Binary::Mod.apply(a, b)), (times, rest), "{a} and {b}");
        }
        assert!(Binary::Mod.apply(1.0, 0.0).is_nan() && Binary::Mod.apply(f64::NAN, 1.0).is_nan());
    }
}
