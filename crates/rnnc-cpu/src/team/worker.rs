//! A worker's place in a run: which shares of the work are its own, and where it waits for the others.

use super::barrier::{Barrier, Poisoned};
use super::sharing::Watch;
use crate::owners;
use std::cell::Cell;
use std::marker::PhantomData;
use std::ops::Range;
use std::panic::resume_unwind;

/// A worker's place in the team, for the time of a run.
#[derive(Debug)]
pub struct Worker<'a> {
    /// Which of the team's threads; 0 is the caller's.
    pub index: usize,
    /// The first of the team's shares that the work has: 0, but in a part of the team.
    pub first: usize,
    /// How many shares the work has.
    pub count: usize,
    /// Which of them are this worker's: the first, and one past the last.
    pub(super) own: Cell<(usize, usize)>,
    pub(super) barrier: &'a Barrier,
    /// Whether all of the team wait there.
    pub(super) whole: bool,
    pub(super) parts: &'a [Barrier],
    pub(super) watch: &'a Watch,
    /// Stays on its thread: a second one that waits in its place would be counted as another worker.
    pub(super) stays: PhantomData<*const ()>,
}

impl Worker<'_> {
    /// The shares that are to be done on this thread: one, or all, or none. That may change at every barrier.
    #[inline]
    pub fn shares(&self) -> Range<usize> {
        let (first, end) = self.own.get();
        first..end
    }

    /// Waits until every worker of the run has come here; what they wrote before can be read after.
    ///
    /// Every worker must call it equally often in a run. If one panics, the others do not wait for it: their
    /// runs end here, by unwinding.
    #[inline]
    pub fn barrier(&self) {
        owners::met(self.whole);
        // Whoever does all shares, or none, waits for nobody.
        if self.count == 1 || self.shares().len() != 1 {
            return;
        }
        let ask = self.whole && self.watch.asks();
        match self.barrier.wait_for(self.count, ask, self.watch) {
            Ok(false) => {}
            Ok(true) => self.own.set(if ask { (0, self.count) } else { (0, 0) }),
            // Quietly, since the panic that counts has been reported.
            Err(Poisoned) => resume_unwind(Box::new(Poisoned)),
        }
    }

    /// The same worker as one of a part of the team, whose barriers are for its workers alone: `None` if it has no share
    /// of theirs. Between two barriers of the whole team, each worker may be in one part, which is the same for all in it;
    /// whoever does all shares may be in all, one after the other.
    pub fn part(&self, workers: Range<usize>) -> Option<Worker<'_>> {
        let barrier = self.parts.get(workers.start)?;
        let own = self.shares();
        let (first, end) = (own.start.max(workers.start), own.end.min(workers.end));
        owners::joined(&workers);
        (first < end).then(|| Worker {
            first: workers.start,
            count: workers.len(),
            own: Cell::new((first - workers.start, end - workers.start)),
            barrier,
            whole: false,
            parts: &[],
            ..*self
        })
    }
}
