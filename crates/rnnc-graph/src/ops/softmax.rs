//! exp(a_i) / sum_j exp(a_j), in each group.

use super::rule::dot;
use super::{Arguments, Call, Errors, Given, Locality, Operation, Rule, Term};

pub(super) struct Softmax {
    pub groups: usize,
}

impl Softmax {
    pub(super) const SAMPLES: &[Operation] = &[Operation::Softmax { groups: 2 }];
}

impl Rule for Softmax {
    fn name(&self) -> &'static str {
        "softmax"
    }

    fn call(&self) -> Option<Call> {
        Some(Call { name: "softmax", usage: "softmax(a)", arguments: Arguments::Groups })
    }

    fn operands(&self) -> usize {
        1
    }

    fn locality(&self) -> Locality {
        Locality::Groups(self.groups)
    }

    fn with_groups(&self, groups: usize) -> Option<Operation> {
        Some(Operation::Softmax { groups })
    }

    fn adjoint(&self, errors: &mut dyn Errors) {
        let gradient = Operation::SoftmaxGradient { groups: self.groups };
        let term = errors.operation(0, gradient, &[Term::Error, Term::Value]);
        errors.send(0, term);
    }

    fn evaluate(&self, given: &Given<'_>) -> Vec<f64> {
        given.by_group(self.groups, softmax)
    }
}

pub(super) struct SoftmaxGradient {
    pub groups: usize,
}

impl SoftmaxGradient {
    pub(super) const SAMPLES: &[Operation] = &[Operation::SoftmaxGradient { groups: 2 }];
}

impl Rule for SoftmaxGradient {
    fn name(&self) -> &'static str {
        "softmax gradient"
    }

    fn operands(&self) -> usize {
        2
    }

    fn locality(&self) -> Locality {
        Locality::Groups(self.groups)
    }

    fn with_groups(&self, groups: usize) -> Option<Operation> {
        Some(Operation::SoftmaxGradient { groups })
    }

    fn is_gradient(&self) -> bool {
        true
    }

    fn adjoint(&self, _errors: &mut dyn Errors) {}

    fn evaluate(&self, given: &Given<'_>) -> Vec<f64> {
        given.by_group2(self.groups, |e, y| {
            let dot = dot(e, y);
            e.iter().zip(y).map(|(e, y)| y * (e - dot)).collect()
        })
    }
}

/// The largest is taken out of exponentials so that nothing overflows. It drops NaN; the sums keep it.
pub(super) fn largest(a: &[f64]) -> f64 {
    a.iter().copied().fold(f64::NEG_INFINITY, f64::max)
}

pub(super) fn softmax(a: &[f64]) -> Vec<f64> {
    let largest = largest(a);
    let exponentials: Vec<f64> = a.iter().map(|a| (a - largest).exp()).collect();
    let sum: f64 = exponentials.iter().sum();
    exponentials.iter().map(|x| x / sum).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_numbers_do_not_overflow() {
        assert_eq!(softmax(&[1000.0, 1000.0]), [0.5, 0.5]);
        assert_eq!(softmax(&[-1000.0, 0.0]), [0.0, 1.0]);
    }
}
