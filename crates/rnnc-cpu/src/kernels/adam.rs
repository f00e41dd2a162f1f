//! The arithmetic of the optimizer's step. Every instruction set gives the same bits: no multiplication is fused with an
//! addition.

#![allow(unsafe_code)] // to call code for instructions that an Isa has shown to be there

use super::isa::multiversion;
use super::lane::Lane;
use rnnc_plan::{AdamSettings, AdamSlots};

multiversion! {
    /// The sum of squares, in double precision.
    pub fn sum_of_squares(gradients: &[f32]) -> f64 = sum_of_squares_body;

    /// Adam's step for some weights; `scale` is what the gradients are multiplied with first. Of each weight there are a
    /// gradient, a mean, and a root of the mean square.
    pub fn adam(
        update: &AdamSettings<f32>,
        scale: [f32; 2],
        weights: &mut [f32],
        gradients: &[f32],
        means: &mut [f32],
        roots: &mut [f32],
    ) = adam_body;
}

#[inline(always)]
fn sum_of_squares_body<const FMA: bool>(gradients: &[f32]) -> f64 {
    // Some sums side by side, so that they vectorize and round little.
    let mut sums = [0.0f64; 8];
    let (blocks, rest) = gradients.as_chunks::<8>();
    for block in blocks {
        for (sum, g) in sums.iter_mut().zip(block) {
            *sum += f64::from(*g) * f64::from(*g);
        }
    }
    sums.iter().sum::<f64>() + rest.iter().map(|g| f64::from(*g) * f64::from(*g)).sum::<f64>()
}

#[inline(always)]
fn adam_body<const FMA: bool>(
    update: &AdamSettings<f32>,
    scale: [f32; 2],
    weights: &mut [f32],
    gradients: &[f32],
    means: &mut [f32],
    roots: &mut [f32],
) {
    let lane = Lane::<FMA>;
    let settings = AdamSettings {
        rate: lane(update.rate),
        beta1: lane(update.beta1),
        rest1: lane(update.rest1),
        beta2: lane(update.beta2),
        rest2: lane(update.rest2),
        epsilon: lane(update.epsilon),
    };
    for (((w, g), m), r) in weights.iter_mut().zip(gradients).zip(means).zip(roots) {
        let gradient = lane(*g * scale[0] * scale[1]);
        let slots = AdamSlots { weight: lane(*w), mean: lane(*m), root: lane(*r) };
        let slots = rnnc_plan::adam(slots, gradient, &settings);
        (*w, *m, *r) = (slots.weight.0, slots.mean.0, slots.root.0);
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::numbers;
    use super::super::isa::Isa;
    use super::*;
    use rnnc_plan::Update;

    #[test]
    fn every_instruction_set_gives_the_same_bits() {
        let update =
            Update { learning_rate: 1e-3, beta1: 0.9, beta2: 0.99, epsilon: 1e-8, step: 3, clip_norm: None };
        let single = update.in_single();
        for len in (0..70).chain([1000]) {
            let mut gradients = numbers(len, 1);
            // Of any size.
            gradients.iter_mut().enumerate().for_each(|(i, g)| *g *= 10f32.powi(i as i32 % 60 - 25));
            let results: Vec<_> = Isa::available()
                .map(|isa| {
                    let [mut w, mut m, mut r] = [2, 3, 4].map(|seed| numbers(len, seed));
                    r.iter_mut().for_each(|r| *r = r.abs());
                    adam(isa, &single, [0.5, 0.25], &mut w, &gradients, &mut m, &mut r);
                    let bits: Vec<u32> = [w, m, r].concat().into_iter().map(f32::to_bits).collect();
                    (bits, sum_of_squares(isa, &gradients).to_bits())
                })
                .collect();
            assert!(results.iter().all(|found| *found == results[0]), "{len} weights");
        }
    }
}
