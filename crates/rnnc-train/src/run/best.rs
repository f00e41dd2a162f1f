//! The smallest loss on the validation data so far: which weights are kept as the best, and when a run ends early.

use serde::{Deserialize, Serialize};

/// What the validations of a run have found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Validations {
    /// The smallest loss.
    pub best: Option<Best>,
    /// How many there were since, none of which found a smaller one.
    pub since_best: u64,
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
            true => Validations { best: Some(Best { update, loss }), since_best: 0, last },
            false => Validations { since_best: self.since_best.saturating_add(1), last, ..self },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
