//! One step of the optimizer: its settings, which of them are refused, and its numbers in single precision.

use super::adam::AdamSettings;
use super::errors::ExecutorError;

/// One optimizer step: [`adam`](crate::adam), after the gradients' global norm is cut to `clip_norm`.
///
/// ```text
/// m = beta1 m + (1 - beta1) g                  r = sqrt(beta2 r^2 + (1 - beta2) g^2)
/// w = w - learning_rate m / (1 - beta1^step) / (r / sqrt(1 - beta2^step) + epsilon)
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Update {
    /// The step size: 0 to the largest number of single precision.
    pub learning_rate: f64,
    /// Decay of the mean of gradients: at least 0 and, in single precision, less than 1.
    pub beta1: f64,
    /// Decay of the mean of squared gradients, likewise.
    pub beta2: f64,
    /// Added to the root: a positive number of single precision that is not subnormal.
    pub epsilon: f64,
    /// Which update this is, from 1.
    pub step: u64,
    /// Gradients are scaled so that their norm over all weights is at most this: a number as epsilon is.
    pub clip_norm: Option<f64>,
}

/// 2^-60: smaller factors are two.
const SMALL_FACTOR: f64 = 1.0 / (1u64 << 60) as f64;

/// The bounds of a setting in single precision, in words and as a test.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// What it must be.
    pub expected: &'static str,
    /// Whether a number is.
    pub allows: fn(f64) -> bool,
}

impl Bounds {
    /// Of the learning rate of one update, which schedules may bring to 0.
    pub const RATE: Bounds = Bounds {
        expected: "at least 0 and at most 3.4e38",
        allows: |x| (0.0..=f64::from(f32::MAX)).contains(&x),
    };
    /// Of numbers that single precision must be able to hold: below, it has fewer digits or none.
    pub const POSITIVE: Bounds = Bounds {
        expected: "at least 1.2e-38 and at most 3.4e38, as single precision is",
        allows: |x| (f64::from(f32::MIN_POSITIVE)..=f64::from(f32::MAX)).contains(&x),
    };
    /// Of the decay of a mean. What rounds to 1 would never let go of the first gradient.
    pub const DECAY: Bounds = Bounds {
        expected: "at least 0 and less than 1 (at most 0.99999997, for single precision to tell it from 1)",
        allows: |x| x >= 0.0 && (x as f32) < 1.0,
    };
}

impl Update {
    /// Refuses settings out of their bounds.
    ///
    /// # Errors
    /// [`ExecutorError::Setting`], [`ExecutorError::OutOfRange`] for a step that is not counted from 1.
    pub fn check(&self) -> Result<(), ExecutorError> {
        let settings = [
            ("the learning rate", Some(self.learning_rate), Bounds::RATE),
            ("beta1", Some(self.beta1), Bounds::DECAY),
            ("beta2", Some(self.beta2), Bounds::DECAY),
            ("epsilon", Some(self.epsilon), Bounds::POSITIVE),
            ("the norm to clip gradients to", self.clip_norm, Bounds::POSITIVE),
        ];
        for (what, found, bounds) in settings {
            if let Some(found) = found.filter(|&x| !(bounds.allows)(x)) {
                return Err(ExecutorError::Setting { what, expected: bounds.expected, found });
            }
        }
        if self.step == 0 {
            let expected = "at least 1".into();
            return Err(ExecutorError::OutOfRange { what: "the update's number", expected, found: 0 });
        }
        Ok(())
    }

    /// What a gradient is multiplied with before the step, where their norm is `norm`.
    pub fn clip_factor(&self, norm: f64) -> f64 {
        match self.clip_norm {
            Some(limit) if norm > limit => limit / norm,
            _ => 1.0,
        }
    }

    /// The same as two factors of single precision, one after the other: that of a very large norm is too small for one.
    pub fn clip_factors(&self, norm: f64) -> [f32; 2] {
        let factor = self.clip_factor(norm);
        if factor < SMALL_FACTOR {
            [SMALL_FACTOR as f32, (factor / SMALL_FACTOR) as f32]
        } else {
            [factor as f32, 1.0]
        }
    }

    /// The numbers of a step.
    pub fn settings(&self) -> AdamSettings<f64> {
        let step = i32::try_from(self.step).unwrap_or(i32::MAX);
        let root = (1.0 - self.beta2.powi(step)).sqrt();
        AdamSettings {
            rate: self.learning_rate * root / (1.0 - self.beta1.powi(step)),
            beta1: self.beta1,
            rest1: 1.0 - self.beta1,
            beta2: self.beta2,
            rest2: 1.0 - self.beta2,
            epsilon: self.epsilon * root,
        }
    }

    /// The same in single precision. Settings that [`check`](Update::check) takes make finite ones.
    pub fn in_single(&self) -> AdamSettings<f32> {
        let AdamSettings { rate, beta1, rest1, beta2, rest2, epsilon } = self.settings();
        AdamSettings {
            rate: rate.min(f64::from(f32::MAX)) as f32,
            beta1: beta1 as f32,
            rest1: rest1 as f32,
            beta2: beta2 as f32,
            rest2: rest2 as f32,
            // Never 0: where the gradient is and was 0, it is all that stands below the line.
            epsilon: epsilon.max(f64::from(f32::MIN_POSITIVE)) as f32,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UPDATE: Update =
        Update { learning_rate: 0.5, beta1: 0.5, beta2: 0.75, epsilon: 0.25, step: 1, clip_norm: None };

    #[test]
    fn a_setting_out_of_bounds_is_named_with_what_it_is() {
        let said = |update: Update| update.check().unwrap_err().to_string();
        assert_eq!(
            said(Update { learning_rate: f64::NAN, ..UPDATE }),
            "the learning rate must be at least 0 and at most 3.4e38, not NaN"
        );
        assert_eq!(
            said(Update { epsilon: 1e-50, ..UPDATE }),
            "epsilon must be at least 1.2e-38 and at most 3.4e38, as single precision is, not 1e-50"
        );
        for wrong in [f64::NAN, f64::INFINITY, -1.0, 1e39] {
            for update in [
                Update { learning_rate: wrong, ..UPDATE },
                Update { beta1: wrong, ..UPDATE },
                Update { beta2: wrong, ..UPDATE },
                Update { epsilon: wrong, ..UPDATE },
                Update { clip_norm: Some(wrong), ..UPDATE },
            ] {
                update.check().unwrap_err();
            }
        }
        for wrong in [
            Update { beta1: 1.0, ..UPDATE },
            Update { beta2: 1.0 - 1e-9, ..UPDATE },
            Update { epsilon: 0.0, ..UPDATE },
            Update { clip_norm: Some(0.0), ..UPDATE },
            Update { step: 0, ..UPDATE },
        ] {
            wrong.check().unwrap_err();
        }
        for right in [
            UPDATE,
            Update { learning_rate: 0.0, beta1: 0.0, beta2: 0.0, ..UPDATE },
            Update { learning_rate: 3e38, epsilon: 2e-38, clip_norm: Some(1e-30), step: u64::MAX, ..UPDATE },
        ] {
            right.check().unwrap();
        }
    }

    #[test]
    fn both_corrections_of_the_start_are_in_the_rate_and_epsilon() {
        let single = UPDATE.in_single();
        assert_eq!((single.rate, single.epsilon), (0.5 * 0.5 / 0.5, 0.25 * 0.5));
        let late = Update { step: u64::MAX, ..UPDATE }.in_single();
        assert_eq!((late.rate, late.epsilon), (0.5, 0.25));
    }

    #[test]
    fn every_setting_that_is_taken_makes_numbers_that_are_finite_and_an_epsilon_above_0() {
        let least = f64::from(f32::MIN_POSITIVE);
        for learning_rate in [0.0, 1e-300, 3.4e38] {
            for beta in [0.0, 0.9, 0.99999994] {
                for step in [1, 2, 1000, u64::MAX] {
                    let update = Update {
                        learning_rate,
                        beta1: beta,
                        beta2: beta,
                        epsilon: least,
                        step,
                        clip_norm: None,
                    };
                    update.check().unwrap();
                    let single = update.in_single();
                    assert!(single.rate.is_finite() && single.epsilon.is_normal(), "{update:?}: {single:?}");
                }
            }
        }
    }

    #[test]
    fn the_factors_of_any_norm_clip_it() {
        for (limit, norm) in [(1.0, 0.5), (1.0, 5.0), (1.0, 1e40), (1e-20, 1e30), (1e-3, 1e21)] {
            let update = Update { clip_norm: Some(limit), ..UPDATE };
            let [first, second] = update.clip_factors(norm).map(f64::from);
            let expected: f64 = if norm > limit { limit / norm } else { 1.0 };
            assert!((first * second / expected - 1.0).abs() < 1e-6, "{limit} {norm}: {first} {second}");
        }
    }
}
