//! mean_squared_error: the mean of (output - target)^2 over units and frames.

use super::rule::{Mean, Rule, Target, Task, units};

#[derive(Default)]
pub(super) struct MeanSquaredError(Mean);

impl Rule for MeanSquaredError {
    const NAME: &'static str = "mean_squared_error";
    const SYNONYMS: &'static [&'static str] = &["mse", "l2", "meansquare", "meansquareerror", "meansquared"];
    const TASKS: &'static [Task] = &[Task::Numbers];

    fn add(&mut self, output: &[f64], target: Target<'_>) {
        units(output, target).for_each(|(_, y, t)| self.0.add((y - t) * (y - t)));
    }

    fn value(&self) -> f64 {
        self.0.value()
    }
}
