//! The optimizer's step: one pass over flat buffers, each worker a part.

use crate::kernels::optimizer::{step, sum_of_squares};
use crate::memory::Aligned;
use crate::run::Run;
use crate::team::{Work, Worker};
use crate::workspace::Workspace;
use rnnc_plan::Update;
use rnnc_plan::optimizers::MOST_SLOTS;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The most workers that have a part.
const PARTS: usize = 64;

/// Fewer weights than these, some 7 microseconds of one core, are not worth barrier for.
const SHARED: usize = 1 << 13;

/// A worker's part of the flat buffers.
struct Part<'a> {
    weights: &'a mut [f32],
    gradients: &'a [f32],
    slots: [&'a mut [f32]; MOST_SLOTS],
}

/// Runs the step on all workers, of the weights that are learned; returns the norm of their gradients before clipping. If it is
/// not finite, nothing changes.
pub(crate) fn run(run: &mut Run, update: &Update, slots: &mut [Aligned]) -> f64 {
    let Run { compiled, work: Workspace { weights, gradients, experience, .. }, .. } = run;
    let (team, isa) = (&compiled.team, compiled.isa);
    // Derived weights come last; they have no slots, and are not updated.
    let len = compiled.plan.weights.len();
    let mut slots = slots.iter_mut();
    // The optimizer has no more.
    let mut slots: [&mut [f32]; MOST_SLOTS] =
        std::array::from_fn(|_| slots.next().map(Aligned::as_mut_slice).unwrap_or_default());
    let (mut weights, gradients) = (&mut weights.as_mut_slice()[..len], &gradients.as_slice()[..len]);
    let shared = len >= SHARED;
    let count = if shared { team.size().min(PARTS) } else { 1 };
    // Cut at cache lines.
    let begin = |index: usize| if index < count { len / 16 * index / count * 16 } else { len };
    let parts: [Mutex<Part<'_>>; PARTS] = std::array::from_fn(|index| {
        let own = begin(index)..begin(index + 1);
        let slots = slots.each_mut().map(|slot| cut(slot, own.len()));
        Mutex::new(Part { weights: cut(&mut weights, own.len()), gradients: &gradients[own], slots })
    });
    // The bits of each part's sum.
    let squares = [const { AtomicU64::new(0) }; PARTS];
    // Added in their order, so that the sum does not depend on who came first. Of squares of single precision, in double: they
    // do not overflow.
    let norm = || squares.iter().map(|sum| f64::from_bits(sum.load(Relaxed))).sum::<f64>().sqrt();
    let (optimizer, single) = (update.optimizer.optimizer(), update.in_single());
    let job = |worker: Worker<'_>| {
        for index in worker.shares().filter(|&index| index < count) {
            let sum = sum_of_squares(isa, lock(&parts[index]).gradients);
            squares[index].store(sum.to_bits(), Relaxed);
        }
        worker.barrier();
        let norm = norm();
        if !norm.is_finite() {
            return;
        }
        for index in worker.shares().filter(|&index| index < count) {
            let Part { weights, gradients, slots } = &mut *lock(&parts[index]);
            step(isa, optimizer, &single, update.clip_factors(norm), weights, gradients, slots);
        }
    };
    if shared {
        let experience = experience.get_mut().unwrap_or_else(PoisonError::into_inner);
        team.share(experience, Work::Update, 1, &job)
    } else {
        team.alone(&job)
    }
    norm()
}

/// Cuts the first so many numbers off; of a slot that the optimizer does not have, there are none.
fn cut<'a>(rest: &mut &'a mut [f32], len: usize) -> &'a mut [f32] {
    rest.split_off_mut(..len).unwrap_or_default()
}

/// A panic of another worker ends the run.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
