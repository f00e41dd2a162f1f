//! One step of an optimizer in double precision, as its rule in `rnnc_plan::optimizers` has it.

use rnnc_plan::Update;
use rnnc_plan::optimizers::{MOST_NUMBERS, Rule, Visitor, first};

/// What belongs to a weight, row-major in its canonical shape.
#[derive(Clone, Debug)]
pub(crate) struct Learned {
    pub gradient: Vec<f64>,
    /// The optimizer's slots, in its order.
    pub slots: Vec<Vec<f64>>,
}

/// Changes the weights; returns the gradients' norm before clipping. The gradients stay as they are, and so does all if
/// the norm is not finite.
pub(crate) fn update(weights: &mut [Vec<f64>], learned: &mut [Learned], update: &Update) -> f64 {
    // No square that could overflow.
    let norm = learned.iter().flat_map(|l| &l.gradient).fold(0.0, |norm: f64, &g| norm.hypot(g));
    if norm.is_finite() {
        let (scale, numbers) = (update.clip_factor(norm), &update.numbers());
        for (weight, learned) in weights.iter_mut().zip(learned) {
            update.optimizer.optimizer().visit(Steps { weight, learned, scale, numbers });
        }
    }
    norm
}

/// The steps of all numbers of a weight.
struct Steps<'a> {
    weight: &'a mut [f64],
    learned: &'a mut Learned,
    scale: f64,
    numbers: &'a [f64; MOST_NUMBERS],
}

impl Visitor for Steps<'_> {
    type Output = ();

    fn visit<R: Rule<S, V, K>, const S: usize, const V: usize, const K: usize>(self) {
        let Learned { gradient, slots } = self.learned;
        for (place, (weight, gradient)) in self.weight.iter_mut().zip(gradient).enumerate() {
            let before = std::array::from_fn(|slot| slots[slot][place]);
            let (stepped, after) = R::step(*weight, self.scale * *gradient, before, first(self.numbers));
            *weight = stepped;
            slots.iter_mut().zip(after).for_each(|(slot, after)| slot[place] = after);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rnnc_plan::OptimizerSettings;

    fn one(gradient: f64) -> Learned {
        Learned { gradient: vec![gradient], slots: vec![vec![0.0]; 2] }
    }

    /// One of Adam's.
    fn first_update() -> Update {
        Update { learning_rate: 0.1, step: 1, clip_norm: None, optimizer: OptimizerSettings::default() }
    }

    #[test]
    fn the_first_step_has_the_length_of_the_learning_rate() {
        let (mut weights, mut learned) = (vec![vec![1.0]], vec![one(-4.0)]);
        assert_eq!(update(&mut weights, &mut learned, &first_update()), 4.0);
        // m = -0.4, r = sqrt(0.016): the step is 0.1 (-4) / (4 + 1e-8).
        assert!((weights[0][0] - 1.1).abs() < 1e-9);
        assert!((learned[0].slots[0][0] + 0.4).abs() < 1e-15);
        assert!((learned[0].slots[1][0] - 0.016f64.sqrt()).abs() < 1e-15);
    }

    #[test]
    fn clipping_scales_all_gradients_to_the_norm() {
        let (mut weights, mut learned) = (vec![vec![0.0], vec![0.0]], vec![one(3.0), one(4.0)]);
        let clipped = Update { clip_norm: Some(1.0), ..first_update() };
        assert_eq!(update(&mut weights, &mut learned, &clipped), 5.0);
        assert!((learned[0].slots[0][0] - 0.06).abs() < 1e-15);
        assert!((learned[1].slots[0][0] - 0.08).abs() < 1e-15);
        assert_eq!(learned[1].gradient, [4.0]);
    }

    #[test]
    fn a_loose_clip_changes_nothing() {
        let (mut weights, mut learned) = (vec![vec![0.0]], vec![one(3.0)]);
        update(&mut weights, &mut learned, &Update { clip_norm: Some(3.5), ..first_update() });
        assert!((learned[0].slots[0][0] - 0.3).abs() < 1e-15);
    }

    #[test]
    fn gradients_whose_squares_overflow_move_weights_as_small_ones_do() {
        let after = |scale: f64, clip_norm: Option<f64>| {
            let (mut weights, mut learned) = (vec![vec![0.0]], vec![one(0.0)]);
            let mut norms = Vec::new();
            for (step, gradient) in [(1, 3.0), (2, -4.0), (3, 1.0)] {
                learned[0].gradient = vec![gradient * scale];
                norms.push(
                    update(&mut weights, &mut learned, &Update { step, clip_norm, ..first_update() }) / scale,
                );
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
            assert!(!update(&mut weights, &mut learned, &first_update()).is_finite());
            assert_eq!(weights, [[1.0], [2.0]]);
            assert_eq!((learned[1].slots[0][0], learned[1].slots[1][0]), (0.0, 0.0));
        }
    }
}
