//! bits_per_character: the mean of `-log2 softmax(output)[target]`.

use super::rule::{Mean, Rule, Target, Task, negative_log_likelihood};
use std::f64::consts::LN_2;

#[derive(Default)]
pub(super) struct BitsPerCharacter(Mean);

impl Rule for BitsPerCharacter {
    const NAME: &'static str = "bits_per_character";
    const SYNONYMS: &'static [&'static str] = &["bpc", "bpb", "bits", "bitsperbyte", "bitspersymbol"];
    const TASKS: &'static [Task] = &[Task::Classes];

    fn add(&mut self, output: &[f64], target: Target<'_>) {
        if let Target::Symbol(symbol) = target {
            self.0.add(negative_log_likelihood(output, symbol));
        }
    }

    fn value(&self) -> f64 {
        self.0.value() / LN_2
    }
}
