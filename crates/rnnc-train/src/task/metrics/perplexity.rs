//! perplexity: e to the mean of `-log softmax(output)[target]`.

use super::rule::{Mean, Rule, Target, Task, negative_log_likelihood};

#[derive(Default)]
pub(super) struct Perplexity(Mean);

impl Rule for Perplexity {
    const NAME: &'static str = "perplexity";
    const SYNONYMS: &'static [&'static str] = &["ppl"];
    const TASKS: &'static [Task] = &[Task::Classes];

    fn add(&mut self, output: &[f64], target: Target<'_>) {
        if let Target::Symbol(symbol) = target {
            self.0.add(negative_log_likelihood(output, symbol));
        }
    }

    fn value(&self) -> f64 {
        libm::exp(self.0.value())
    }
}
