//! The optimizer's step: one pass over flat buffers, each worker a part.

#![allow(unsafe_code)] // parts of flat buffers

use crate::memory::Aligned;
use crate::team::{Team, Work, Worker};
use rnnc_plan::{SingleUpdate, Update};
use std::ops::Range;
use std::sync::Mutex;
use std::sync::PoisonError;

/// The flat buffers, as all workers see them.
struct Flat {
    weights: *mut f32,
    moments1: *mut f32,
    moments2: *mut f32,
}

// SAFETY: each worker takes its own part (see `run`).
unsafe impl Sync for Flat {}

/// The most workers whose parts of the norm are kept apart.
const PARTS: usize = 64;

/// Fewer weights than these are not worth a barrier.
const SHARED: usize = 1 << 15;

/// Runs the step on all workers; returns the norm of all gradients before clipping. If it is not finite, nothing changes.
pub(crate) fn run(
    team: &mut Team,
    update: &Update,
    learned: usize,
    weights: &mut Aligned,
    gradients: &Aligned,
    moments: &mut [Aligned; 2],
) -> f64 {
    // Of derived weights, which come last, none is updated.
    let gradients = gradients.as_slice();
    let gradients = &gradients[..learned.min(gradients.len())];
    let [moments1, moments2] = moments;
    let flat = &Flat {
        weights: weights.as_mut_ptr(),
        moments1: moments1.as_mut_ptr(),
        moments2: moments2.as_mut_ptr(),
    };
    let squares: Mutex<[f64; PARTS]> = Mutex::new([0.0; PARTS]);
    // Added in their order, so that the sum does not depend on who came first.
    let norm = || squares.lock().unwrap_or_else(PoisonError::into_inner).iter().sum::<f64>().sqrt();
    let single = update.in_single();
    let shared = gradients.len() >= SHARED;
    let parts = if shared { team.size().min(PARTS) } else { 1 };
    let job = |worker: Worker<'_>| {
        let own = |index: usize| part(gradients.len(), index, parts);
        for index in worker.shares().filter(|&index| index < parts) {
            let sum = sum_of_squares(&gradients[own(index)]);
            squares.lock().unwrap_or_else(PoisonError::into_inner)[index] = sum;
        }
        worker.barrier();
        // Of squares of single precision, in double: they do not overflow.
        let norm = norm();
        if !norm.is_finite() {
            return;
        }
        for own in worker.shares().filter(|&index| index < parts).map(own) {
            // SAFETY: the buffers are as long as the gradients, and the parts do not overlap.
            let (weights, moments1, moments2) = unsafe {
                (
                    std::slice::from_raw_parts_mut(flat.weights.add(own.start), own.len()),
                    std::slice::from_raw_parts_mut(flat.moments1.add(own.start), own.len()),
                    std::slice::from_raw_parts_mut(flat.moments2.add(own.start), own.len()),
                )
            };
            adam(&single, update.clip_factors(norm), weights, &gradients[own], moments1, moments2);
        }
    };
    if shared {
        team.share(Work::Update, 1, &job)
    } else {
        team.alone(&job)
    }
    norm()
}

/// A part of a buffer, cut at cache lines.
fn part(len: usize, index: usize, count: usize) -> Range<usize> {
    let at = |i: usize| if i == count { len } else { len / 16 * i / count * 16 };
    at(index)..at(index + 1)
}

/// The sum of squares, in double precision.
fn sum_of_squares(gradients: &[f32]) -> f64 {
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

/// Adam's step for some weights; `scale` is what the gradients are multiplied with first.
fn adam(
    update: &SingleUpdate,
    scale: [f32; 2],
    weights: &mut [f32],
    gradients: &[f32],
    moments1: &mut [f32],
    roots: &mut [f32],
) {
    for (((w, g), m), r) in weights.iter_mut().zip(gradients).zip(moments1).zip(roots) {
        let g = *g * scale[0] * scale[1];
        *m = update.beta1 * *m + update.rest1 * g;
        *r = update.root(*r, g);
        *w -= update.rate * (*m / (*r + update.epsilon));
    }
}
