//! Layer norm, (a - mean) / sqrt(variance + epsilon) (Ba, Kiros & Hinton 2016), and RMS norm, a / sqrt(mean square + epsilon)
//! (Zhang & Sennrich 2019), in each group.

use super::rule::dot;
use super::{Arguments, Call, Errors, Given, Locality, Operation, Rule, Term};
use crate::single::not_single;

/// That of the language's functions.
const EPSILON: f64 = 1e-5;

pub(super) struct Normalize {
    pub groups: usize,
    pub center: bool,
    pub epsilon: f64,
}

impl Normalize {
    pub(super) const SAMPLES: &[Operation] = &[
        Operation::Normalize { groups: 2, center: true, epsilon: EPSILON },
        Operation::Normalize { groups: 2, center: false, epsilon: EPSILON },
    ];
}

impl Rule for Normalize {
    fn name(&self) -> &'static str {
        if self.center { "layer_norm" } else { "rms_norm" }
    }

    fn call(&self) -> Option<Call> {
        let usage = match self.center {
            true => "layer_norm(a; groups = 1, affine = none, epsilon = 1e-5)",
            false => "rms_norm(a; groups = 1, affine = none, epsilon = 1e-5)",
        };
        Some(Call { name: self.name(), usage, arguments: Arguments::Norm })
    }

    fn operands(&self) -> usize {
        1
    }

    fn locality(&self) -> Locality {
        Locality::Groups(self.groups)
    }

    fn with_groups(&self, groups: usize) -> Option<Operation> {
        Some(Operation::Normalize { groups, center: self.center, epsilon: self.epsilon })
    }

    fn check_numbers(&self) -> Result<(), String> {
        if let Some(problem) = not_single(self.epsilon) {
            return Err(format!("its epsilon {problem}"));
        }
        if !(0.0..f64::INFINITY).contains(&self.epsilon) {
            return Err(format!("its epsilon {} is not a number from 0 on", self.epsilon));
        }
        Ok(())
    }

    fn adjoint(&self, errors: &mut dyn Errors) {
        let &Normalize { groups, center, epsilon } = self;
        let gradient = Operation::NormalizeGradient { groups, center, epsilon };
        let term = errors.operation(0, gradient, &[Term::Error, Term::Operand(0)]);
        errors.send(0, term);
    }

    fn evaluate(&self, given: &Given<'_>) -> Vec<f64> {
        given.by_group(self.groups, |a| normalize(a, self.center, self.epsilon).0)
    }
}

/// With h the normalized x: (e - mean(e) - h mean(e h)) / deviation, the first mean only if centered (Ba, Kiros & Hinton
/// 2016, supplement).
pub(super) struct NormalizeGradient {
    pub groups: usize,
    pub center: bool,
    pub epsilon: f64,
}

impl NormalizeGradient {
    pub(super) const SAMPLES: &[Operation] = &[
        Operation::NormalizeGradient { groups: 2, center: true, epsilon: EPSILON },
        Operation::NormalizeGradient { groups: 2, center: false, epsilon: EPSILON },
    ];
}

impl Rule for NormalizeGradient {
    fn name(&self) -> &'static str {
        if self.center { "layer_norm gradient" } else { "rms_norm gradient" }
    }

    fn operands(&self) -> usize {
        2
    }

    fn locality(&self) -> Locality {
        Locality::Groups(self.groups)
    }

    fn with_groups(&self, groups: usize) -> Option<Operation> {
        Some(Operation::NormalizeGradient { groups, center: self.center, epsilon: self.epsilon })
    }

    fn is_gradient(&self) -> bool {
        true
    }

    fn adjoint(&self, _errors: &mut dyn Errors) {}

    fn evaluate(&self, given: &Given<'_>) -> Vec<f64> {
        given.by_group2(self.groups, |e, x| {
            let (y, deviation) = normalize(x, self.center, self.epsilon);
            let mean = if self.center { e.iter().sum::<f64>() / e.len() as f64 } else { 0.0 };
            let along = dot(e, &y) / e.len() as f64;
            e.iter().zip(&y).map(|(e, y)| (e - mean - along * y) / deviation).collect()
        })
    }
}

/// The normalized vector, and what it was divided by.
fn normalize(a: &[f64], center: bool, epsilon: f64) -> (Vec<f64>, f64) {
    let n = a.len() as f64;
    // From the first of them: equal numbers deviate by nothing, not by how their mean is rounded.
    let origin = if center { a.first().copied().unwrap_or(0.0) } else { 0.0 };
    let mean = if center { a.iter().map(|a| a - origin).sum::<f64>() / n } else { 0.0 };
    let centered: Vec<f64> = a.iter().map(|a| (a - origin) - mean).collect();
    let deviation = (dot(&centered, &centered) / n + epsilon).sqrt();
    (centered.iter().map(|c| c / deviation).collect(), deviation)
}

#[cfg(test)]
mod tests {
    use super::super::Operand;
    use super::*;

    fn layer_norm(groups: usize, epsilon: f64, a: &[f64]) -> Vec<f64> {
        let given = Given { operands: &[Operand::Units(a)], units: a.len(), keeps: None };
        Operation::Normalize { groups, center: true, epsilon }.evaluate(&given)
    }

    #[test]
    fn equal_numbers_deviate_by_nothing() {
        for value in [0.1, 1000.7, 1e30, -1e300] {
            assert_eq!(layer_norm(1, 1e-5, &[value; 7]), [0.0; 7], "{value:e}");
        }
    }

    #[test]
    fn a_layer_norm_has_mean_0_and_variance_1_in_each_group() {
        for group in layer_norm(2, 0.0, &[1.0, 2.0, 6.0, -3.0, 0.0, 1.0]).chunks(3) {
            assert!(group.iter().sum::<f64>().abs() < 1e-12);
            assert!((dot(group, group) - 3.0).abs() < 1e-12);
        }
    }
}
