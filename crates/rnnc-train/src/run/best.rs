//! The smallest loss on the validation data so far: which weights are kept as the best, and when a run ends early.

use serde::{Deserialize, Serialize};

/// What the validations of a run have found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Validations {
    /// The smallest loss.
    pub best: Option<Best>,
    /// How many there were since, none of which found a smaller one.
    pub since_best: u64,
    /// The same since the learning rate was last reduced for it. (Not in checkpoints of older versions.)
    #[serde(default)]
    pub since_reduced: u64,
    /// How often it was.
    #[serde(default)]
    pub reductions: u64,
    /// After which update the last one was.
    pub last: Option<u64>,
}

/// A smallest loss.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// After so many updates.
    pub update: u64,
    /// The mean loss per frame.
    pub loss: f64,
}

impl Validations {
    /// After one more, at that update.
    #[must_use]
    pub fn with(self, update: u64, loss: f64) -> Validations {
        if self.last == Some(update) {
            // The end of a run that went on for no update validates again.
            return self;
        }
        let last = Some(update);
        // A loss that is no number is not smaller than any.
        let is_smaller = self.best.map_or(!loss.is_nan(), |best| loss < best.loss);
        match is_smaller {
            true => Validations {
                best: Some(Best { update, loss }),
                since_best: 0,
                since_reduced: 0,
                last,
                ..self
            },
            false => Validations {
                since_best: self.since_best.saturating_add(1),
                since_reduced: self.since_reduced.saturating_add(1),
                last,
                ..self
            },
        }
    }

    /// With another reduction of the learning rate, where so many validations found no smaller loss.
    #[must_use]
    pub fn reduced(self, patience: u64) -> Validations {
        match self.since_reduced >= patience {
            true => Validations { since_reduced: 0, reductions: self.reductions.saturating_add(1), ..self },
            false => self,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plateau_reduces_after_so_many_validations_and_then_waits_again() {
        let mut validations = Validations::default();
        let mut reductions = Vec::new();
        for (update, loss) in (1..).zip([3.0, 3.0, 4.0, 5.0, 3.5, 2.0, 2.0, 2.5, 2.5]) {
            validations = validations.with(update, loss).reduced(2);
            reductions.push(validations.reductions);
        }
        assert_eq!(reductions, [0, 0, 1, 1, 2, 2, 2, 3, 3]);
    }

    #[test]
    fn only_a_smaller_loss_is_better() {
        let mut validations = Validations::default();
        for (update, loss, best, since) in [
            (1, f64::NAN, None, 1),
            (2, 3.0, Some(2), 0),
            (3, 3.0, Some(2), 1),
            (4, f64::NAN, Some(2), 2),
            (5, f64::INFINITY, Some(2), 3),
            (6, 2.5, Some(6), 0),
            (6, 2.5, Some(6), 0),
            (7, 2.5, Some(6), 1),
            (7, 2.5, Some(6), 1),
        ] {
            validations = validations.with(update, loss);
            assert_eq!((validations.best.map(|best| best.update), validations.since_best), (best, since));
        }
    }
}
