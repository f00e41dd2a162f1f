//! accuracy: the share of frames whose likeliest class is the target; of yes and no, the share of units whose logit has the right sign.

use super::rule::{Mean, Rule, Target, Task, likeliest, units};

#[derive(Default)]
pub(super) struct Accuracy(Mean);

impl Rule for Accuracy {
    const NAME: &'static str = "accuracy";
    const SYNONYMS: &'static [&'static str] = &["acc", "categoricalaccuracy", "binaryaccuracy"];
    const TASKS: &'static [Task] = &[Task::Classes, Task::Flags];

    fn add(&mut self, output: &[f64], target: Target<'_>) {
        let right = |is_right: bool| f64::from(u8::from(is_right));
        match target {
            Target::Symbol(symbol) => self.0.add(right(likeliest(output) == symbol)),
            Target::Units(_) => {
                units(output, target).for_each(|(_, y, t)| self.0.add(right((y > 0.0) == (t >= 0.5))));
            }
        }
    }

    fn value(&self) -> f64 {
        self.0.value()
    }
}
