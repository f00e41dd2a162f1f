//! Adam (Kingma & Ba 2015, algorithm 1), with epsilon outside the root's correction, as `torch.optim.Adam` has it.

use super::rule::{Bounds, Rule, Setting, Slot, StepNumber};
use rnnc_graph::Number;

/// Adam.
///
/// ```text
/// m = beta1 m + (1 - beta1) g                  r = sqrt(beta2 r^2 + (1 - beta2) g^2)
/// w = w - learning_rate m / (1 - beta1^step) / (r / sqrt(1 - beta2^step) + epsilon)
/// ```
///
/// It keeps the root of the second moment: the square of a gradient may be too large or too small for a number, its root is not.
pub struct Adam;

impl Rule<2, 3, 6> for Adam {
    const NAME: &'static str = "adam";
    const SLOTS: [Slot; 2] = [Slot::any("moment1"), Slot::magnitude("moment2")];
    const SETTINGS: &'static [Setting] = &[
        Setting::list("betas", &[0.9, 0.999], Bounds::DECAY),
        Setting::number("epsilon", &[1e-8], Bounds::POSITIVE),
    ];
    const NUMBERS: [StepNumber; 6] = [
        StepNumber::any("rate"),
        StepNumber::any("beta1"),
        StepNumber::any("rest1"),
        StepNumber::any("beta2"),
        StepNumber::any("rest2"),
        StepNumber::divisor("epsilon"),
    ];

    /// Both corrections of the start are put into the rate and epsilon.
    fn numbers([beta1, beta2, epsilon]: [f64; 3], learning_rate: f64, step: u64) -> [f64; 6] {
        let step = i32::try_from(step).unwrap_or(i32::MAX);
        let root = (1.0 - beta2.powi(step)).sqrt();
        let rate = learning_rate * root / (1.0 - beta1.powi(step));
        [rate, beta1, 1.0 - beta1, beta2, 1.0 - beta2, epsilon * root]
    }

    #[inline(always)]
    fn step<N: Number>(
        weight: N,
        gradient: N,
        [mean, root]: [N; 2],
        [rate, beta1, rest1, beta2, rest2, epsilon]: [N; 6],
    ) -> (N, [N; 2]) {
        let mean = beta1 * mean + rest1 * gradient;
        let root = N::root_mean_square(beta2, root, rest2, gradient);
        (weight - rate * (mean / (root + epsilon)), [mean, root])
    }
}
