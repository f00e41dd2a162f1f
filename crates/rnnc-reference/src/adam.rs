//! One step of Adam (Kingma & Ba 2015, algorithm 1), as [`rnnc_plan::Update`] describes it.

use rnnc_plan::Update;

/// A weight with all that belongs to it, row-major in its canonical shape.
#[derive(Clone, Debug)]
pub(crate) struct Learned {
    pub gradient: Vec<f64>,
    pub moment1: Vec<f64>,
    pub moment2: Vec<f64>,
}

/// Changes the weights; returns the gradients' norm before clipping. The gradients stay as they are.
pub(crate) fn update(weights: &mut [Vec<f64>], learned: &mut [Learned], update: &Update) -> f64 {
    let norm = learned.iter().flat_map(|l| &l.gradient).map(|g| g * g).sum::<f64>().sqrt();
    let scale = update.clip_norm.filter(|&clip| norm > clip).map_or(1.0, |clip| clip / norm);
    let step = update.step as f64;
    let rate = update.learning_rate / (1.0 - update.beta1.powf(step));
    let root_correction = (1.0 - update.beta2.powf(step)).sqrt();
    for (weight, l) in weights.iter_mut().zip(learned) {
        for (i, w) in weight.iter_mut().enumerate() {
            let g = scale * l.gradient[i];
            l.moment1[i] = update.beta1 * l.moment1[i] + (1.0 - update.beta1) * g;
            l.moment2[i] = update.beta2 * l.moment2[i] + (1.0 - update.beta2) * g * g;
            *w -= rate * l.moment1[i] / (l.moment2[i].sqrt() / root_correction + update.epsilon);
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
        // m = -0.4, v = 0.016: the step is 0.1 (-4) / (4 + 1e-8).
        assert!((weights[0][0] - 1.1).abs() < 1e-9);
        assert!((learned[0].moment1[0] + 0.4).abs() < 1e-15);
        assert!((learned[0].moment2[0] - 0.016).abs() < 1e-15);
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
}
