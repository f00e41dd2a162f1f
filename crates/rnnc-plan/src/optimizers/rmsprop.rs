//! RMSprop: steps in units of the root of the mean of squared gradients (Tieleman & Hinton 2012, lecture 6.5), with momentum if
//! asked, as `torch.optim.RMSprop` has it (not centered).

use super::rule::{Bounds, Rule, Setting, Slot, StepNumber};
use rnnc_graph::Number;

/// RMSprop.
///
/// ```text
/// g = g + weight_decay w        r = sqrt(alpha r^2 + (1 - alpha) g^2)
/// v = momentum v + g / (r + epsilon)        w = w - learning_rate v
/// ```
pub struct RmsProp;

impl Rule<2, 4, 6> for RmsProp {
    const NAME: &'static str = "rmsprop";
    const SYNONYMS: &'static [&'static str] = &["rms"];
    const SLOTS: [Slot; 2] = [Slot::magnitude("root"), Slot::any("velocity")];
    const SETTINGS: &'static [Setting] = &[
        Setting::number("alpha", &[0.99], Bounds::DECAY),
        Setting::number("epsilon", &[1e-8], Bounds::POSITIVE),
        Setting::number("momentum", &[0.0], Bounds::DECAY),
        Setting::number("weight_decay", &[0.0], Bounds::RATE),
    ];
    const NUMBERS: [StepNumber; 6] = [
        StepNumber::any("rate"),
        StepNumber::any("alpha"),
        StepNumber::any("rest"),
        StepNumber::divisor("epsilon"),
        StepNumber::any("momentum"),
        StepNumber::any("decay"),
    ];

    fn numbers([alpha, epsilon, momentum, decay]: [f64; 4], learning_rate: f64, _step: u64) -> [f64; 6] {
        [learning_rate, alpha, 1.0 - alpha, epsilon, momentum, decay]
    }

    #[inline(always)]
    fn step<N: Number>(
        weight: N,
        gradient: N,
        [root, velocity]: [N; 2],
        [rate, alpha, rest, epsilon, momentum, decay]: [N; 6],
    ) -> (N, [N; 2]) {
        let gradient = gradient + decay * weight;
        let root = N::root_mean_square(alpha, root, rest, gradient);
        let velocity = momentum * velocity + gradient / (root + epsilon);
        (weight - rate * velocity, [root, velocity])
    }
}
