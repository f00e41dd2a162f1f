//! -log softmax(logits)[symbol], and 0 in frames without a symbol: the loss of a prediction.

use super::log_softmax::log_softmax;
use super::softmax::softmax;
use super::{Errors, Given, Locality, Operation, Rule, Term};
use crate::count::count;

pub(super) struct CrossEntropy;

impl CrossEntropy {
    pub(super) const SAMPLES: &[Operation] = &[Operation::CrossEntropy];
}

impl Rule for CrossEntropy {
    fn name(&self) -> &'static str {
        "cross-entropy"
    }

    fn operands(&self) -> usize {
        2
    }

    fn symbol(&self) -> Option<usize> {
        Some(1)
    }

    fn locality(&self) -> Locality {
        Locality::Groups(1)
    }

    fn changes_size(&self) -> bool {
        true
    }

    fn check_sizes(&self, operands: &[usize], units: usize) -> Result<(), String> {
        match *operands {
            [logits, symbols] => check(self, 1, [logits, symbols], units),
            _ => check(self, 0, [0, 0], units),
        }
    }

    fn adjoint(&self, errors: &mut dyn Errors) {
        let reads = [Term::Error, Term::Operand(0), Term::Operand(1)];
        let term = errors.operation(0, Operation::CrossEntropyGradient, &reads);
        errors.send(0, term);
    }

    fn evaluate(&self, given: &Given<'_>) -> Vec<f64> {
        vec![given.symbol(1).map_or(0.0, |symbol| -log_softmax(given.vector(0))[symbol])]
    }
}

pub(super) struct CrossEntropyGradient;

impl CrossEntropyGradient {
    pub(super) const SAMPLES: &[Operation] = &[Operation::CrossEntropyGradient];
}

impl Rule for CrossEntropyGradient {
    fn name(&self) -> &'static str {
        "cross-entropy gradient"
    }

    fn operands(&self) -> usize {
        3
    }

    fn symbol(&self) -> Option<usize> {
        Some(2)
    }

    fn locality(&self) -> Locality {
        Locality::Groups(1)
    }

    fn changes_size(&self) -> bool {
        true
    }

    fn check_sizes(&self, operands: &[usize], units: usize) -> Result<(), String> {
        match *operands {
            [1, logits, symbols] => check(self, logits, [logits, symbols], units),
            _ => check(self, 0, [0, 0], units),
        }
    }

    fn is_gradient(&self) -> bool {
        true
    }

    fn adjoint(&self, _errors: &mut dyn Errors) {}

    fn evaluate(&self, given: &Given<'_>) -> Vec<f64> {
        let (error, logits) = (given.vector(0)[0], given.vector(1));
        let Some(symbol) = given.symbol(2) else { return vec![0.0; logits.len()] };
        let mut gradient = softmax(logits);
        gradient[symbol] -= 1.0;
        gradient.iter_mut().for_each(|g| *g *= error);
        gradient
    }
}

/// Whether there are as many symbols as logits, and as many units as there must be.
fn check(rule: &dyn Rule, needed: usize, [logits, symbols]: [usize; 2], units: usize) -> Result<(), String> {
    if needed == units && logits == symbols {
        return Ok(());
    }
    Err(format!("{} of {logits} logits and {symbols} symbols, in {}", rule.name(), count(units, "unit")))
}

#[cfg(test)]
mod tests {
    use super::super::Operand;
    use super::*;

    #[test]
    fn large_logits_do_not_overflow_and_without_a_symbol_there_is_no_loss() {
        let loss = |logits: &[f64], symbol| {
            let operands = [Operand::Units(logits), Operand::Symbol(symbol)];
            CrossEntropy.evaluate(&Given { operands: &operands, units: 1, keeps: None })
        };
        assert_eq!(loss(&[1000.0, 1000.0], Some(0)), [2f64.ln()]);
        assert_eq!(loss(&[1000.0, 0.0], None), [0.0]);
    }
}
