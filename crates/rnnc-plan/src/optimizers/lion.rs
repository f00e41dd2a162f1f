//! Lion: steps of one size, in the direction of a mean of gradients (Chen et al. 2023, "Symbolic Discovery of Optimization
//! Algorithms", algorithm 2).

use super::rule::{Bounds, Rule, Setting, Slot, StepNumber};
use rnnc_graph::Number;

/// Lion.
///
/// ```text
/// w = w - learning_rate (sign(beta1 m + (1 - beta1) g) + weight_decay w)        m = beta2 m + (1 - beta2) g
/// ```
pub struct Lion;

impl Rule<1, 3, 6> for Lion {
    const NAME: &'static str = "lion";
    const SLOTS: [Slot; 1] = [Slot::any("mean")];
    const SETTINGS: &'static [Setting] = &[
        Setting::list("betas", &[0.9, 0.99], Bounds::DECAY),
        Setting::number("weight_decay", &[0.0], Bounds::RATE),
    ];
    const NUMBERS: [StepNumber; 6] = [
        StepNumber::any("rate"),
        StepNumber::any("beta1"),
        StepNumber::any("rest1"),
        StepNumber::any("beta2"),
        StepNumber::any("rest2"),
        StepNumber::any("decay"),
    ];

    fn numbers([beta1, beta2, decay]: [f64; 3], learning_rate: f64, _step: u64) -> [f64; 6] {
        [learning_rate, beta1, 1.0 - beta1, beta2, 1.0 - beta2, learning_rate * decay]
    }

    #[inline(always)]
    fn step<N: Number>(
        weight: N,
        gradient: N,
        [mean]: [N; 1],
        [rate, beta1, rest1, beta2, rest2, decay]: [N; 6],
    ) -> (N, [N; 1]) {
        let way = beta1 * mean + rest1 * gradient;
        let zero = N::constant(0.0);
        let down = N::choose(way.less(zero), rate, zero);
        let step = N::choose(zero.less(way), -rate, down);
        (weight - decay * weight + step, [beta2 * mean + rest2 * gradient])
    }
}
