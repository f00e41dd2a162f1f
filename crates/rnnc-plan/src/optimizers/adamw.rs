//! AdamW: Adam, and beside it weights that decay by themselves (Loshchilov & Hutter 2019, algorithm 2), as `torch.optim.AdamW` has
//! it: the decay is in proportion to the learning rate, and of all weights.

use super::adam::Adam;
use super::rule::{Bounds, Rule, Setting, Slot, StepNumber};
use rnnc_graph::Number;

/// AdamW: `w = w - learning_rate weight_decay w`, and Adam's step.
pub struct AdamW;

impl Rule<2, 4, 7> for AdamW {
    const NAME: &'static str = "adamw";
    const SLOTS: [Slot; 2] = Adam::SLOTS;
    const SETTINGS: &'static [Setting] = &[
        Setting::list("betas", &[0.9, 0.999], Bounds::DECAY),
        Setting::number("epsilon", &[1e-8], Bounds::POSITIVE),
        Setting::number("weight_decay", &[0.01], Bounds::RATE),
    ];
    const NUMBERS: [StepNumber; 7] = {
        let [rate, beta1, rest1, beta2, rest2, epsilon] = Adam::NUMBERS;
        [rate, beta1, rest1, beta2, rest2, epsilon, StepNumber::any("decay")]
    };

    fn numbers([beta1, beta2, epsilon, decay]: [f64; 4], learning_rate: f64, step: u64) -> [f64; 7] {
        let [rate, beta1, rest1, beta2, rest2, epsilon] =
            Adam::numbers([beta1, beta2, epsilon], learning_rate, step);
        [rate, beta1, rest1, beta2, rest2, epsilon, learning_rate * decay]
    }

    #[inline(always)]
    fn step<N: Number>(
        weight: N,
        gradient: N,
        slots: [N; 2],
        [rate, beta1, rest1, beta2, rest2, epsilon, decay]: [N; 7],
    ) -> (N, [N; 2]) {
        // Not (1 - decay) * weight: single precision would round 1 - decay by as much as a small decay is.
        let decayed = weight - decay * weight;
        Adam::step(decayed, gradient, slots, [rate, beta1, rest1, beta2, rest2, epsilon])
    }
}
