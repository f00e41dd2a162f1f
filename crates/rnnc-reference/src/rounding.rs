//! Roundings at random: what a network makes of the last bits of its numbers.
//!
//! An executor of less precision rounds every number that it computes. How much that changes results follows from the network.
//! So the reference may compute with a random error on each number, of the size of a rounding (Monte Carlo arithmetic: Parker
//! 1997). What differs then may differ.

use crate::window::Place;
use rnnc_graph::LayerId;
use rnnc_plan::dropout::mix;

/// How a whole run rounds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Roundings {
    /// The largest error, of a number's size; 0 for none.
    pub unit: f64,
    /// What errors are drawn by.
    pub seed: u64,
}

/// The random errors of one layer's numbers in one frame of one stream.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rounding {
    unit: f64,
    /// What they are drawn by.
    key: u64,
}

impl Rounding {
    pub fn of(all: Roundings, layer: LayerId, at: Place) -> Rounding {
        let key = [layer.index(), at.frame, at.stream].iter().fold(all.seed, |key, &n| mix(key ^ n as u64));
        Rounding { unit: all.unit, key }
    }

    /// The error of number `place` of a computation, as it would be rounded at that size.
    pub fn error(&self, place: usize, size: f64) -> f64 {
        if self.unit == 0.0 || !size.is_finite() {
            return 0.0;
        }
        // From -1 to 1.
        let random = mix(self.key ^ place as u64) as i64 as f64 / i64::MAX as f64;
        self.unit * size * random
    }

    /// The numbers, each with its error.
    pub fn round(&self, first: usize, numbers: &mut [f64]) {
        for (place, x) in numbers.iter_mut().enumerate() {
            *x += self.error(first + place, *x);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_small_differ_from_number_to_number_and_are_the_same_again() {
        let all = Roundings { unit: 1e-3, seed: 5 };
        let rounding = |all, frame| Rounding::of(all, LayerId::from_index(2), Place { frame, stream: 1 });
        let at = |frame| rounding(all, frame);
        let errors: Vec<f64> = (0..1000).map(|place| at(3).error(place, 2.0)).collect();
        assert!(errors.iter().all(|e| e.abs() <= 2e-3));
        assert!(errors.iter().any(|e| *e > 1.5e-3) && errors.iter().any(|e| *e < -1.5e-3));
        assert!(errors.iter().sum::<f64>().abs() < 0.2);
        assert_eq!(errors[7], at(3).error(7, 2.0));
        assert_ne!(errors[7], at(4).error(7, 2.0));
        assert_ne!(errors[7], rounding(Roundings { seed: 6, ..all }, 3).error(7, 2.0));
        assert_eq!(rounding(Roundings { unit: 0.0, ..all }, 3).error(7, 2.0), 0.0);
    }
}
