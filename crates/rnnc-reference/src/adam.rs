//! One step of the optimizer in double precision, as [`rnnc_plan::Update`] describes it.

use rnnc_plan::{AdamSlots, Update, adam};

/// A weight with all that belongs to it, row-major in its canonical shape.
#[derive(Clone, Debug)]
pub(crate) struct Learned {
    pub gradient: Vec<f64>,
    pub moment1: Vec<f64>,
    /// The root of the mean of squares.
    pub moment2: Vec<f64>,
}

/// Changes the weights; returns the gradients' norm before clipping. The gradients stay as they are, and so does all if
/// the norm is not finite.
pub(crate) fn update(weights: &mut [Vec<f64>], learned: &mut [Learned], update: &Update) -> f64 {
    // No square that could overflow.
    let norm = learned.iter().flat_map(|l| &l.gradient).fold(0.0, |norm: f64, &g| norm.hypot(g));
    if !norm.is_finite() {
        return norm;
    }
    let scale = update.clip_factor(norm);
    let settings = update.settings();
    for (weight, l) in weights.iter_mut().zip(learned) {
        for (i, w) in weight.iter_mut().enumerate() {
            let slots = AdamSlots { weight: *w, mean: l.moment1[i], root: l.moment2[i] };
            let slots = adam(slots, scale * l.gradient[i], &settings);
            (*w, l.moment1[i], l.moment2[i]) = (slots.weight, slots.mean, slots.root);
        }
    }
    norm
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(gradient: f64) -> Learned {
        Learned { gradient: vec![gradient], moment1: vec![0.0], moment2: vec![0.0] }
    }

    const UPDATE: Update =
        Update { learning_rate: 0.1, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, step: 1, clip_norm: None };

    #[test]
    fn the_first_step_has_the_length_of_the_learning_rate() {
        let (mut weights, mut learned) = (vec![vec![1.0]], vec![one(-4.0)]);
        assert_eq!(update(&mut weights, &mut learned, &UPDATE), 4.0);
        // m = -0.4, r = sqrt(0.016): the step is 0.1 (-4) / (4 + 1e-8).
        assert!((weights[0][0] - 1.1).abs() < 1e-9);
        assert!((learned[0].moment1[0] + 0.4).abs() < 1e-15);
        assert!((learned[0].moment2[0] - 0.016f64.sqrt()).abs() < 1e-15);
    }

    #[test]
    fn clipping_scales_all_gradients_to_the_norm() {
        let (mut weights, mut learned) = (vec![vec![0.0], vec![0.0]], vec![one(3.0), one(4.0)]);
        let clipped = Update { clip_norm: Some(1.0), ..UPDATE };
        assert_eq!(update(&mut weights, &mut learned, &clipped), 5.0);
        assert!((learned[0].moment1[0] - 0.06).abs() < 1e-15);
        assert!((learned[1].moment1[0] - 0.08).abs() < 1e-15);
        assert_eq!(learned[1].gradient, [4.0]);
    }

    #[test]
    fn a_loose_clip_changes_nothing() {
        let (mut weights, mut learned) = (vec![vec![0.0]], vec![one(3.0)]);
        update(&mut weights, &mut learned, &Update { clip_norm: Some(3.5), ..UPDATE });
        assert!((learned[0].moment1[0] - 0.3).abs() < 1e-15);
    }

    #[test]
    fn gradients_whose_squares_overflow_move_weights_as_small_ones_do() {
        let after = |scale: f64, clip_norm: Option<f64>| {
            let (mut weights, mut learned) = (vec![vec![0.0]], vec![one(0.0)]);
            let mut norms = Vec::new();
            for (step, gradient) in [(1, 3.0), (2, -4.0), (3, 1.0)] {
                learned[0].gradient = vec![gradient * scale];
                norms.push(update(&mut weights, &mut learned, &Update { step, clip_norm, ..UPDATE }) / scale);
            }
            (weights[0][0], norms)
        };
        for clip_norm in [None, Some(1.0)] {
            let ((small, norms), (large, large_norms)) = (after(1e3, clip_norm), after(1e200, clip_norm));
            assert!((small - large).abs() < 1e-10, "{small} {large}");
            assert_eq!((norms, large_norms), (vec![3.0, 4.0, 1.0], vec![3.0, 4.0, 1.0]));
        }
    }

    #[test]
    fn a_gradient_that_is_not_finite_changes_nothing() {
        for wrong in [f64::NAN, f64::INFINITY] {
            let mut weights = vec![vec![1.0], vec![2.0]];
            let mut learned = vec![one(wrong), one(3.0)];
            assert!(!update(&mut weights, &mut learned, &UPDATE).is_finite());
            assert_eq!(weights, [[1.0], [2.0]]);
            assert_eq!((learned[1].moment1[0], learned[1].moment2[0]), (0.0, 0.0));
        }
    }
}
