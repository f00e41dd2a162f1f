//! The arithmetic of an optimizer's step. Every instruction set gives the same bits: no multiplication is fused with an
//! addition.

#![allow(unsafe_code)] // to call code for instructions that an Isa has shown to be there

use super::isa::multiversion;
use super::lane::Lane;
use rnnc_plan::Optimizer;
use rnnc_plan::optimizers::{MOST_NUMBERS, MOST_SLOTS, Rule, Visitor, first};
use std::array;

multiversion! {
    /// The sum of squares, in double precision.
    pub fn sum_of_squares(gradients: &[f32]) -> f64 = sum_of_squares_body;

    /// An optimizer's step for some weights, with the step's numbers; `scale` is what the gradients are multiplied with first.
    /// Of each weight there are a gradient, and a number of each slot.
    pub fn step(
        optimizer: Optimizer,
        numbers: &[f32; MOST_NUMBERS],
        scale: [f32; 2],
        weights: &mut [f32],
        gradients: &[f32],
        slots: &mut [&mut [f32]; MOST_SLOTS],
    ) = step_body;
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
fn step_body<const FMA: bool>(
    optimizer: Optimizer,
    numbers: &[f32; MOST_NUMBERS],
    scale: [f32; 2],
    weights: &mut [f32],
    gradients: &[f32],
    slots: &mut [&mut [f32]; MOST_SLOTS],
) {
    optimizer.visit(Steps::<FMA> { numbers, scale, weights, gradients, slots });
}

/// The steps of some weights.
struct Steps<'a, 'b, const FMA: bool> {
    numbers: &'a [f32; MOST_NUMBERS],
    scale: [f32; 2],
    weights: &'a mut [f32],
    gradients: &'a [f32],
    slots: &'a mut [&'b mut [f32]; MOST_SLOTS],
}

/// Weights whose steps become vectors.
const BLOCK: usize = 16;

impl<const FMA: bool> Visitor for Steps<'_, '_, FMA> {
    type Output = ();

    #[inline(always)]
    fn visit<R: Rule<S, V, K>, const S: usize, const V: usize, const K: usize>(self) {
        let Steps { numbers, scale, weights, gradients, slots } = self;
        let numbers: [Lane<FMA>; K] = first(numbers).map(Lane);
        let (gradients, gradients_behind) = gradients.as_chunks::<BLOCK>();
        let (weights, weights_behind) = weights.as_chunks_mut::<BLOCK>();
        // A rule has no more slots than there are.
        let mut own = slots.iter_mut();
        let mut slots: [_; S] =
            array::from_fn(|_| own.next().map(|slot| slot.as_chunks_mut::<BLOCK>()).unwrap_or_default());
        for (place, (weights, gradients)) in weights.iter_mut().zip(gradients).enumerate() {
            let before = slots.each_ref().map(|slot| slot.0[place]);
            let (stepped, after) =
                block::<R, FMA, BLOCK, S, V, K>(*weights, gradients, before, numbers, scale);
            *weights = stepped;
            slots.iter_mut().zip(after).for_each(|(slot, after)| slot.0[place] = after);
        }
        for (place, (weight, gradient)) in weights_behind.iter_mut().zip(gradients_behind).enumerate() {
            let before = slots.each_ref().map(|slot| [slot.1[place]]);
            let ([stepped], after) =
                block::<R, FMA, 1, S, V, K>([*weight], &[*gradient], before, numbers, scale);
            *weight = stepped;
            slots.iter_mut().zip(after).for_each(|(slot, [after])| slot.1[place] = after);
        }
    }
}

/// The steps of as many weights as stand side by side. They are out of memory meanwhile, so that nothing is in the way of vectors.
#[inline(always)]
fn block<
    R: Rule<S, V, K>,
    const FMA: bool,
    const N: usize,
    const S: usize,
    const V: usize,
    const K: usize,
>(
    mut weights: [f32; N],
    gradients: &[f32; N],
    mut slots: [[f32; N]; S],
    numbers: [Lane<FMA>; K],
    scale: [f32; 2],
) -> ([f32; N], [[f32; N]; S]) {
    for place in 0..N {
        let gradient = Lane(gradients[place] * scale[0] * scale[1]);
        let before = slots.each_ref().map(|slot| Lane(slot[place]));
        let (weight, after) = R::step(Lane(weights[place]), gradient, before, numbers);
        weights[place] = weight.0;
        slots.iter_mut().zip(after).for_each(|(slot, after)| slot[place] = after.0);
    }
    (weights, slots)
}

#[cfg(test)]
mod tests {
    use super::super::check::numbers;
    use super::super::isa::Isa;
    use super::*;
    use rnnc_plan::{OptimizerSettings, Update};

    /// All of them, with every setting on.
    fn updates() -> impl Iterator<Item = Update> {
        Optimizer::ALL.into_iter().flat_map(|optimizer| {
            let plain = OptimizerSettings::new(optimizer);
            let on = |settings: OptimizerSettings, name: &str, len: usize| {
                let value = if settings.with(name, &vec![0.5; len]).is_ok_and(|s| s.check().is_ok()) {
                    0.5
                } else {
                    1.0
                };
                settings.with(name, &vec![value; len]).unwrap()
            };
            let all = optimizer
                .settings()
                .iter()
                .fold(plain, |s, setting| on(s, setting.name, setting.default.len()));
            all.check().unwrap();
            [plain, all].map(|optimizer| Update { learning_rate: 1e-3, step: 3, clip_norm: None, optimizer })
        })
    }

    #[test]
    fn every_instruction_set_gives_the_same_bits() {
        for (update, len) in updates().flat_map(|update| (0..70).chain([1000]).map(move |len| (update, len)))
        {
            let optimizer = update.optimizer.optimizer();
            let mut gradients = numbers(len, 1);
            // Of any size.
            gradients.iter_mut().enumerate().for_each(|(i, g)| *g *= 10f32.powi(i as i32 % 60 - 25));
            let results: Vec<_> = Isa::available()
                .map(|isa| {
                    let mut w = numbers(len, 2);
                    let mut slots: [Vec<f32>; MOST_SLOTS] = array::from_fn(|slot| numbers(len, 3 + slot));
                    for (slot, values) in optimizer.slots().iter().zip(&mut slots) {
                        values.iter_mut().filter(|_| slot.is_magnitude).for_each(|x| *x = x.abs());
                    }
                    let mut parts = slots.each_mut().map(Vec::as_mut_slice);
                    step(isa, optimizer, &update.in_single(), [0.5, 0.25], &mut w, &gradients, &mut parts);
                    let all = slots.iter().chain([&w]).flatten();
                    (all.map(|x| x.to_bits()).collect::<Vec<_>>(), sum_of_squares(isa, &gradients).to_bits())
                })
                .collect();
            assert!(results.iter().all(|found| *found == results[0]), "{len} weights, {update:?}");
        }
    }

    #[test]
    fn a_weight_has_the_same_bits_wherever_it_stands() {
        let len = 2 * BLOCK + 3;
        for (update, isa) in updates().flat_map(|update| Isa::available().map(move |isa| (update, isa))) {
            let (optimizer, single) = (update.optimizer.optimizer(), update.in_single());
            let (gradients, mut whole) = (numbers(len, 1), numbers(len, 2));
            let mut slots: [Vec<f32>; MOST_SLOTS] = array::from_fn(|_| vec![0.25; len]);
            let mut one = (whole.clone(), slots.clone());
            step(
                isa,
                optimizer,
                &single,
                [1.0; 2],
                &mut whole,
                &gradients,
                &mut slots.each_mut().map(Vec::as_mut_slice),
            );
            for place in 0..len {
                let mut parts = one.1.each_mut().map(|slot| &mut slot[place..=place]);
                let (weights, gradients) = (&mut one.0[place..=place], &gradients[place..=place]);
                step(isa, optimizer, &single, [1.0; 2], weights, gradients, &mut parts);
            }
            assert_eq!((whole, slots), one, "{update:?}");
        }
    }
}
