//! mean_absolute_error: the mean of |output - target| over units and frames.

use super::rule::{Mean, Rule, Target, Task, units};

#[derive(Default)]
pub(super) struct MeanAbsoluteError(Mean);

impl Rule for MeanAbsoluteError {
    const NAME: &'static str = "mean_absolute_error";
    const SYNONYMS: &'static [&'static str] = &["mae", "l1", "absolute", "meanabsolute"];
    const TASKS: &'static [Task] = &[Task::Numbers];

    fn add(&mut self, output: &[f64], target: Target<'_>) {
        units(output, target).for_each(|(_, y, t)| self.0.add((y - t).abs()));
    }

    fn value(&self) -> f64 {
        self.0.value()
    }
}
