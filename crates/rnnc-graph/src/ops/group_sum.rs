//! The sum of each of the groups: a layer of as many units. It is also what comes back through a broadcast.

use super::rule::divisible;
use super::{Arguments, Call, Errors, Given, Locality, Operation, Rule, Term};
use crate::count::count;

pub(super) struct GroupSum {
    pub groups: usize,
}

impl GroupSum {
    pub(super) const SAMPLES: &[Operation] = &[Operation::GroupSum { groups: 2 }];
}

impl Rule for GroupSum {
    fn name(&self) -> &'static str {
        "sum over groups"
    }

    fn call(&self) -> Option<Call> {
        Some(Call { name: "sum", usage: "sum(a; groups = 1)", arguments: Arguments::Sum })
    }

    fn operands(&self) -> usize {
        1
    }

    fn locality(&self) -> Locality {
        Locality::Groups(self.groups)
    }

    fn with_groups(&self, groups: usize) -> Option<Operation> {
        Some(Operation::GroupSum { groups })
    }

    fn changes_size(&self) -> bool {
        true
    }

    fn check_sizes(&self, operands: &[usize], units: usize) -> Result<(), String> {
        if self.groups != units {
            let have = if self.groups == 1 { "has" } else { "have" };
            return Err(format!("{} {have} as many sums, not {units}", count(self.groups, "group")));
        }
        divisible(operands[0], self.groups)
    }

    fn adjoint(&self, errors: &mut dyn Errors) {
        let term = errors.repeat(0, Term::Error);
        errors.send(0, term);
    }

    fn evaluate(&self, given: &Given<'_>) -> Vec<f64> {
        given.by_group(self.groups, |a| vec![a.iter().sum()])
    }
}
