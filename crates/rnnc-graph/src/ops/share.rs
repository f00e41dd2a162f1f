//! 1 where a > b, 1/2 where a = b, else 0, and NaN of NaN: what share of the error the adjoints of max and min hand on.

use super::{Binary, Errors, Given, Locality, Operation, Rule};

pub(super) struct Share;

impl Share {
    pub(super) const SAMPLES: &[Operation] = &[Operation::Share];
}

impl Rule for Share {
    fn name(&self) -> &'static str {
        "share"
    }

    fn operands(&self) -> usize {
        2
    }

    fn locality(&self) -> Locality {
        Locality::Unit
    }

    fn binary(&self) -> Option<Binary> {
        Some(Binary::Share)
    }

    /// Flat on both sides.
    fn adjoint(&self, _errors: &mut dyn Errors) {}

    fn evaluate(&self, given: &Given<'_>) -> Vec<f64> {
        given.pairs(Binary::Share)
    }
}
