//! f1: the mean over classes of 2 TP / (2 TP + FP + FN), as scikit-learn's `f1_score(average="macro")`: over all classes that are
//! the target or the likeliest in some frame; of yes and no, over all units, where one that is yes nowhere counts as 0.

use super::rule::{Rule, Target, Task, likeliest, units};

#[derive(Default)]
pub(super) struct F1 {
    /// One for each unit of the output.
    classes: Vec<Counts>,
    of_flags: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    right: u64,
    predicted: u64,
    actual: u64,
}

impl Rule for F1 {
    const NAME: &'static str = "f1";
    const SYNONYMS: &'static [&'static str] = &["f1score", "f1macro", "macrof1"];
    const TASKS: &'static [Task] = &[Task::Classes, Task::Flags];

    fn add(&mut self, output: &[f64], target: Target<'_>) {
        self.classes.resize(output.len(), Counts::default());
        match target {
            Target::Symbol(symbol) => {
                let found = likeliest(output);
                self.classes[found].predicted += 1;
                self.classes[symbol].actual += 1;
                self.classes[symbol].right += u64::from(found == symbol);
            }
            Target::Units(_) => {
                self.of_flags = true;
                for (unit, y, t) in units(output, target) {
                    let (found, actual) = (y > 0.0, t >= 0.5);
                    let class = &mut self.classes[unit];
                    class.predicted += u64::from(found);
                    class.actual += u64::from(actual);
                    class.right += u64::from(found && actual);
                }
            }
        }
    }

    fn value(&self) -> f64 {
        let counted = self.classes.iter().filter(|c| self.of_flags || c.predicted + c.actual > 0);
        let (mut sum, mut count) = (0.0, 0u64);
        for Counts { right, predicted, actual } in counted {
            // 2 TP + FP + FN
            let all = predicted + actual;
            sum += if all > 0 { 2.0 * *right as f64 / all as f64 } else { 0.0 };
            count += 1;
        }
        sum / count as f64
    }
}
