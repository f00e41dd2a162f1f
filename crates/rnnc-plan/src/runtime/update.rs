//! One update: how long a step the optimizer makes, to which norm gradients are cut before, and what is refused of that.

use super::errors::ExecutorError;
use crate::optimizers::{Bounds, MOST_NUMBERS, OptimizerSettings, SettingError};
use std::array;

/// One step of an optimizer, after the gradients' global norm is cut to `clip_norm`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Update {
    /// The step size: 0 to the largest number of single precision.
    pub learning_rate: f64,
    /// Which update this is, from 1.
    pub step: u64,
    /// Gradients are scaled so that their norm over all weights is at most this: a positive number of single precision that is
    /// not subnormal.
    pub clip_norm: Option<f64>,
    /// The optimizer for which the executor is set up, with its settings.
    pub optimizer: OptimizerSettings,
}

/// 2^-60: smaller factors are two.
const SMALL_FACTOR: f64 = 1.0 / (1u64 << 60) as f64;

impl Update {
    /// Refuses settings out of their bounds.
    ///
    /// # Errors
    /// [`ExecutorError::Setting`], [`ExecutorError::OutOfRange`] for a step that is not counted from 1.
    pub fn check(&self) -> Result<(), ExecutorError> {
        let settings = [
            ("the learning rate", Some(self.learning_rate), Bounds::RATE),
            ("the norm to clip gradients to", self.clip_norm, Bounds::POSITIVE),
        ];
        for (what, found, bounds) in settings {
            if let Some(found) = found.filter(|&x| !(bounds.allows)(x)) {
                return Err(SettingError::Bounds { what, expected: bounds.expected, found }.into());
            }
        }
        self.optimizer.check()?;
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

    /// The numbers of the step, in the order of [`Optimizer::numbers`](crate::Optimizer::numbers); 0 after the last.
    pub fn numbers(&self) -> [f64; MOST_NUMBERS] {
        self.optimizer.at_step(self.learning_rate, self.step)
    }

    /// The same in single precision. Settings that [`check`](Update::check) takes make finite ones.
    pub fn in_single(&self) -> [f32; MOST_NUMBERS] {
        let (known, numbers) = (self.optimizer.optimizer().numbers(), self.numbers());
        array::from_fn(|place| known.get(place).map_or(0.0, |number| number.in_single(numbers[place])))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optimizers::Optimizer;

    fn update(optimizer: Optimizer) -> Update {
        Update { learning_rate: 0.5, step: 1, clip_norm: None, optimizer: OptimizerSettings::new(optimizer) }
    }

    #[test]
    fn a_setting_out_of_bounds_is_named_with_what_it_is() {
        let said = |update: Update| update.check().unwrap_err().to_string();
        for optimizer in Optimizer::ALL {
            let right = update(optimizer);
            assert_eq!(
                said(Update { learning_rate: f64::NAN, ..right }),
                "the learning rate must be at least 0 and at most 3.4e38, not NaN"
            );
            for wrong in [f64::NAN, f64::INFINITY, -1.0, 1e39] {
                said(Update { learning_rate: wrong, ..right });
                said(Update { clip_norm: Some(wrong), ..right });
            }
            said(Update { clip_norm: Some(0.0), ..right });
            said(Update { step: 0, ..right });
            right.check().unwrap();
            Update { learning_rate: 0.0, ..right }.check().unwrap();
            Update { learning_rate: 3e38, clip_norm: Some(1e-30), step: u64::MAX, ..right }.check().unwrap();
        }
        let adam = update(Optimizer::Adam);
        let tiny = adam.optimizer.with("epsilon", &[1e-50]).unwrap();
        assert_eq!(
            said(Update { optimizer: tiny, ..adam }),
            "epsilon must be at least 1.2e-38 and at most 3.4e38, as single precision is, not 1e-50"
        );
    }

    #[test]
    fn the_factors_of_any_norm_clip_it() {
        for (limit, norm) in [(1.0, 0.5), (1.0, 5.0), (1.0, 1e40), (1e-20, 1e30), (1e-3, 1e21)] {
            let update = Update { clip_norm: Some(limit), ..update(Optimizer::Adam) };
            let [first, second] = update.clip_factors(norm).map(f64::from);
            let expected: f64 = if norm > limit { limit / norm } else { 1.0 };
            assert!((first * second / expected - 1.0).abs() < 1e-6, "{limit} {norm}: {first} {second}");
        }
    }
}
