//! a_i - log(sum_j exp(a_j)), in each group: the logarithm of a softmax, without its underflow.

use super::softmax::largest;
use super::{Arguments, Call, Errors, Given, Locality, Operation, Rule, Term};

pub(super) struct LogSoftmax {
    pub groups: usize,
}

impl LogSoftmax {
    pub(super) const SAMPLES: &[Operation] = &[Operation::LogSoftmax { groups: 2 }];
}

impl Rule for LogSoftmax {
    fn name(&self) -> &'static str {
        "log_softmax"
    }

    fn call(&self) -> Option<Call> {
        Some(Call { name: "log_softmax", usage: "log_softmax(a)", arguments: Arguments::Groups })
    }

    fn operands(&self) -> usize {
        1
    }

    fn locality(&self) -> Locality {
        Locality::Groups(self.groups)
    }

    fn with_groups(&self, groups: usize) -> Option<Operation> {
        Some(Operation::LogSoftmax { groups })
    }

    fn adjoint(&self, errors: &mut dyn Errors) {
        let gradient = Operation::LogSoftmaxGradient { groups: self.groups };
        let term = errors.operation(0, gradient, &[Term::Error, Term::Value]);
        errors.send(0, term);
    }

    fn evaluate(&self, given: &Given<'_>) -> Vec<f64> {
        given.by_group(self.groups, log_softmax)
    }
}

pub(super) struct LogSoftmaxGradient {
    pub groups: usize,
}

impl LogSoftmaxGradient {
    pub(super) const SAMPLES: &[Operation] = &[Operation::LogSoftmaxGradient { groups: 2 }];
}

impl Rule for LogSoftmaxGradient {
    fn name(&self) -> &'static str {
        "log_softmax gradient"
    }

    fn operands(&self) -> usize {
        2
    }

    fn locality(&self) -> Locality {
        Locality::Groups(self.groups)
    }

    fn with_groups(&self, groups: usize) -> Option<Operation> {
        Some(Operation::LogSoftmaxGradient { groups })
    }

    fn is_gradient(&self) -> bool {
        true
    }

    fn adjoint(&self, _errors: &mut dyn Errors) {}

    fn evaluate(&self, given: &Given<'_>) -> Vec<f64> {
        given.by_group2(self.groups, |e, y| {
            let sum: f64 = e.iter().sum();
            e.iter().zip(y).map(|(e, y)| e - y.exp() * sum).collect()
        })
    }
}

pub(super) fn log_softmax(a: &[f64]) -> Vec<f64> {
    let largest = largest(a);
    let log_sum = a.iter().map(|a| (a - largest).exp()).sum::<f64>().ln();
    a.iter().map(|a| (a - largest) - log_sum).collect()
}
