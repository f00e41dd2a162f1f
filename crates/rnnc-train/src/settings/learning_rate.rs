//! The learning rate of each update: the warm-up, and how it goes from there.

use super::config::TrainingConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::f64::consts::PI;

/// How the learning rate goes after the warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Decay {
    /// Stays as it is.
    #[default]
    Constant,
    /// Falls along half a cosine (Loshchilov & Hutter 2017, without restarts).
    Cosine,
    /// Falls along a line.
    Linear,
    /// Is multiplied with a factor every so many updates.
    Step,
    /// Rises and falls once (Smith & Topin 2018).
    OneCycle,
    /// Is multiplied with a factor where validations find no smaller loss any more.
    Plateau,
}

impl Decay {
    /// Its name in a file.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Decay::Constant => "constant",
            Decay::Cosine => "cosine",
            Decay::Linear => "linear",
            Decay::Step => "step",
            Decay::OneCycle => "one_cycle",
            Decay::Plateau => "plateau",
        }
    }
}

impl TrainingConfig {
    /// The learning rate of an update, from 1.
    pub fn learning_rate_at(&self, update: u64) -> f64 {
        if update <= self.warmup {
            return self.learning_rate * update as f64 / self.warmup as f64;
        }
        match (self.decay, self.updates) {
            (Decay::Step, _) => {
                let times = (update - self.warmup - 1) / self.decay_every.unwrap_or(u64::MAX).max(1);
                self.learning_rate * self.reduced(times)
            }
            (Decay::OneCycle, Some(updates)) => self.learning_rate * one_cycle(update - 1, updates),
            (Decay::Linear | Decay::Cosine, Some(updates)) => {
                let last = self.final_learning_rate.unwrap_or(0.0);
                let after = updates.saturating_sub(self.warmup).max(1);
                let way = ((update - self.warmup) as f64 / after as f64).min(1.0);
                match self.decay {
                    Decay::Linear => self.learning_rate + (last - self.learning_rate) * way,
                    _ => half_cosine(self.learning_rate, last, way),
                }
            }
            _ => self.learning_rate,
        }
    }

    /// What so many reductions, of a plateau or in steps, make of the learning rate.
    pub(crate) fn reduced(&self, reductions: u64) -> f64 {
        libm::pow(self.decay_factor, reductions as f64)
    }
}

/// From one number to another along half a cosine, after a part of the way.
fn half_cosine(from: f64, to: f64, way: f64) -> f64 {
    to + (from - to) * (1.0 + libm::cos(PI * way)) / 2.0
}

/// The share of the learning rate after so many of all updates, as `torch.optim.lr_scheduler.OneCycleLR` has it by default: from 1/25
/// up along half a cosine in 3/10 of them, and down to 1/250,000.
fn one_cycle(update: u64, updates: u64) -> f64 {
    let (first, last) = (1.0 / 25.0, 1.0 / 250_000.0);
    let (update, end) = (update as f64, (updates as f64 - 1.0).max(1.0));
    let top = 0.3 * updates as f64 - 1.0;
    if update <= top {
        half_cosine(first, 1.0, (update / top.max(f64::MIN_POSITIVE)).clamp(0.0, 1.0))
    } else {
        half_cosine(1.0, last, ((update - top) / (end - top)).clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use crate::settings::config::tests::{SMALL, parse};

    /// The learning rates of some updates with these settings.
    fn rates(settings: &str, updates: &[u64]) -> Vec<f64> {
        let text = SMALL.replace("updates = 10", &format!("updates = 10\nlearning_rate = 1.0\n{settings}"));
        let config = parse(&text).unwrap();
        updates.iter().map(|&update| config.training.learning_rate_at(update)).collect()
    }

    fn are_close(found: &[f64], expected: &[f64]) {
        let close = found.iter().zip(expected).all(|(f, e)| (f - e).abs() < 1e-9 * e.abs().max(1e-9));
        assert!(close && found.len() == expected.len(), "{found:?} {expected:?}");
    }

    #[test]
    fn one_cycle_and_steps_are_those_of_pytorch() {
        // OneCycleLR(optimizer, max_lr=1.0, total_steps=10).get_last_lr() before each step
        are_close(&rates("decay = \"one_cycle\"", &[1, 2, 3, 4, 5, 7, 9, 10, 11]), &ONE_CYCLE);
        // StepLR(optimizer, step_size=3, gamma=0.5)
        are_close(
            &rates("decay = \"step\"\ndecay_every = 3\ndecay_factor = 0.5", &[1, 3, 4, 6, 7, 10]),
            &[1.0, 1.0, 0.5, 0.5, 0.25, 0.125],
        );
    }

    /// Made by PyTorch 2.
    const ONE_CYCLE: [f64; 9] = [
        0.040000000000000036,
        0.52,
        1.0,
        0.9504846320134737,
        0.8117456539497631,
        0.38874197806371075,
        0.049519367986526286,
        4e-06,
        4e-06,
    ];

    #[test]
    fn a_line_falls_to_its_end_after_the_warm_up() {
        are_close(
            &rates("decay = \"linear\"\nwarmup = 2\nfinal_learning_rate = 0.2", &[1, 2, 3, 6, 10, 12]),
            &[0.5, 1.0, 0.9, 0.6, 0.2, 0.2],
        );
    }

    #[test]
    fn the_learning_rate_rises_and_falls_as_asked() {
        let text = SMALL.replace(
            "updates = 10",
            "updates = 10\nlearning_rate = 1.0\nwarmup = 4\ndecay = \"cosine\"\nfinal_learning_rate = 0.5",
        );
        let training = parse(&text).unwrap().training;
        let rates: Vec<f64> = [1, 4, 7, 10, 20].map(|u| training.learning_rate_at(u)).into();
        for (rate, expected) in rates.iter().zip([0.25, 1.0, 0.75, 0.5, 0.5]) {
            assert!((rate - expected).abs() < 1e-12, "{rates:?}");
        }
        assert_eq!(parse(SMALL).unwrap().training.learning_rate_at(99), 0.002);
    }
}
