//! AdaDelta: steps in units of the root of the mean of squared steps, over that of squared gradients (Zeiler 2012, algorithm 1), as
//! `torch.optim.Adadelta` has it.

use super::rule::{Bounds, Rule, Setting, Slot, StepNumber};
use rnnc_graph::Number;

/// AdaDelta.
///
/// ```text
/// g = g + weight_decay w                       r = sqrt(rho r^2 + (1 - rho) g^2)
/// s = g sqrt(d^2 + epsilon) / sqrt(r^2 + epsilon)        w = w - learning_rate s
/// d = sqrt(rho d^2 + (1 - rho) s^2)
/// ```
pub struct AdaDelta;

impl Rule<2, 3, 5> for AdaDelta {
    const NAME: &'static str = "adadelta";
    const SLOTS: [Slot; 2] = [Slot::magnitude("root"), Slot::magnitude("step_root")];
    const SETTINGS: &'static [Setting] = &[
        Setting::number("rho", &[0.9], Bounds::DECAY),
        Setting::number("epsilon", &[1e-6], Bounds::POSITIVE),
        Setting::number("weight_decay", &[0.0], Bounds::RATE),
    ];
    const NUMBERS: [StepNumber; 5] = [
        StepNumber::any("rate"),
        StepNumber::any("rho"),
        StepNumber::any("rest"),
        StepNumber::divisor("root_epsilon"),
        StepNumber::any("decay"),
    ];

    fn numbers([rho, epsilon, decay]: [f64; 3], learning_rate: f64, _step: u64) -> [f64; 5] {
        [learning_rate, rho, 1.0 - rho, epsilon.sqrt(), decay]
    }

    #[inline(always)]
    fn step<N: Number>(
        weight: N,
        gradient: N,
        [root, step_root]: [N; 2],
        [rate, rho, rest, root_epsilon, decay]: [N; 5],
    ) -> (N, [N; 2]) {
        let one = N::constant(1.0);
        let gradient = gradient + decay * weight;
        let root = N::root_mean_square(rho, root, rest, gradient);
        let above = N::root_mean_square(one, step_root, one, root_epsilon);
        let below = N::root_mean_square(one, root, one, root_epsilon);
        // The quotient first: gradient and root may both be very large.
        let step = above * (gradient / below);
        (weight - rate * step, [root, N::root_mean_square(rho, step_root, rest, step)])
    }
}
