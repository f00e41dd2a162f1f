//! Gradient descent, with momentum as Polyak (1964) or Nesterov (1983) has it, as `torch.optim.SGD` computes it (Sutskever et al.
//! 2013, but for the learning rate, which is outside the velocity; without damping).

use super::rule::{Bounds, Rule, Setting, Slot, StepNumber};
use rnnc_graph::Number;

/// Gradient descent.
///
/// ```text
/// g = g + weight_decay w        v = momentum v + g        w = w - learning_rate v
/// ```
///
/// With `nesterov`, the last is `w = w - learning_rate (g + momentum v)`.
pub struct Sgd;

impl Rule<1, 3, 5> for Sgd {
    const NAME: &'static str = "sgd";
    const SYNONYMS: &'static [&'static str] = &["gd", "momentum", "nesterov", "nag", "gradientdescent"];
    const SLOTS: [Slot; 1] = [Slot::any("velocity")];
    const SETTINGS: &'static [Setting] = &[
        Setting::number("momentum", &[0.0], Bounds::DECAY),
        Setting::flag("nesterov"),
        Setting::number("weight_decay", &[0.0], Bounds::RATE),
    ];
    const NUMBERS: [StepNumber; 5] = [
        StepNumber::any("rate"),
        StepNumber::any("momentum"),
        StepNumber::any("decay"),
        StepNumber::any("of_gradient"),
        StepNumber::any("of_velocity"),
    ];

    fn conflict([momentum, nesterov, _]: [f64; 3]) -> Option<&'static str> {
        (nesterov != 0.0 && momentum == 0.0).then_some("`nesterov` needs a `momentum` of more than 0")
    }

    fn numbers([momentum, nesterov, decay]: [f64; 3], learning_rate: f64, _step: u64) -> [f64; 5] {
        let (of_gradient, of_velocity) = if nesterov != 0.0 { (1.0, momentum) } else { (0.0, 1.0) };
        [learning_rate, momentum, decay, of_gradient, of_velocity]
    }

    #[inline(always)]
    fn step<N: Number>(
        weight: N,
        gradient: N,
        [velocity]: [N; 1],
        [rate, momentum, decay, of_gradient, of_velocity]: [N; 5],
    ) -> (N, [N; 1]) {
        let gradient = gradient + decay * weight;
        let velocity = momentum * velocity + gradient;
        (weight - rate * (of_gradient * gradient + of_velocity * velocity), [velocity])
    }
}
