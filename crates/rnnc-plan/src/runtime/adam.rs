//! Adam, written once over any kind of number: the reference runs it in f64, the CPU for its lanes, CUDA prints it.
//!
//! (Kingma & Ba 2015, algorithm 1, with the epsilon outside the root's correction as PyTorch has it.)

use rnnc_graph::Number;

/// The settings of one step, both corrections of the start put into two of them.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs)] // the formula is what they are
pub struct AdamSettings<N> {
    pub rate: N,
    pub beta1: N,
    pub rest1: N,
    pub beta2: N,
    pub rest2: N,
    pub epsilon: N,
}

/// A weight, and what Adam keeps of its gradients.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamSlots<N> {
    /// The weight.
    pub weight: N,
    /// The mean of its gradients.
    pub mean: N,
    /// The root of the mean of their squares: the square of a gradient may be too large or too small for a number, its root is
    /// not.
    pub root: N,
}

/// One step.
///
/// ```text
/// m = beta1 m + rest1 g        r = sqrt(beta2 r^2 + rest2 g^2)        w = w - rate (m / (r + epsilon))
/// ```
#[inline(always)]
pub fn adam<N: Number>(slots: AdamSlots<N>, gradient: N, settings: &AdamSettings<N>) -> AdamSlots<N> {
    let AdamSettings { rate, beta1, rest1, beta2, rest2, epsilon } = *settings;
    let mean = beta1 * slots.mean + rest1 * gradient;
    let root = N::root_mean_square(beta2, slots.root, rest2, gradient);
    AdamSlots { weight: slots.weight - rate * (mean / (root + epsilon)), mean, root }
}
