//! A barrier that spins before it sleeps: a count of arrivals, and a word that tells the phase, whether somebody sleeps,
//! whether a worker died, and whether all but one may go.
//!
//! That they share a word is what makes it impossible to miss a wake-up: whoever ends a phase learns in the same instruction
//! whether there is somebody to wake.

use super::sharing::Watch;
use super::sync::{AtomicUsize, Condvar, Mutex, MutexGuard, Ordering, spin_loop, yield_now};
use std::sync::PoisonError;
use std::time::Instant;

/// That a worker will never come to the barrier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Poisoned;

/// Looks at the phase before a worker sleeps: about 30 microseconds, as long as a wake-up takes.
pub(super) const PATIENCE: u32 = if cfg!(loom) { 1 } else { 1000 };
/// Looks before it gives way to other threads for the first time, some microseconds, and between such times: the system may
/// have put the one that it waits for on the same core.
const YIELD_EVERY: u32 = 128;
/// Times that a worker of more than there are cores gives way before it sleeps.
const COURTESY: u32 = if cfg!(loom) { 0 } else { 4 };

/// Somebody sleeps in this phase.
const ASLEEP: usize = 1;
/// Somebody will never come.
const POISONED: usize = 2;
/// One goes on alone: no other comes again before the barrier is as new.
const DISMISSED: usize = 4;
/// From a phase to the next, in what is left of the word.
const STEP: usize = 8;

/// Among the arrivals: one asks to go on alone.
const ASKED: usize = 1 << 30;

/// A barrier for `count` threads, to be used any number of times, that spins before it sleeps.
#[derive(Debug)]
pub(super) struct Barrier {
    pub(super) count: usize,
    patience: u32,
    /// How many have come in this phase.
    arrived: Line<AtomicUsize>,
    /// The number of the phase, times [`STEP`], with [`ASLEEP`] and [`POISONED`].
    phase: Line<AtomicUsize>,
    lock: Mutex<()>,
    wake: Condvar,
}

/// On cache lines of its own (two, since CPUs fetch them in pairs).
#[derive(Debug)]
#[repr(align(128))]
struct Line<T>(T);

impl Barrier {
    pub(super) fn new(count: usize, patience: u32) -> Barrier {
        Barrier {
            count,
            patience,
            arrived: Line(AtomicUsize::new(0)),
            phase: Line(AtomicUsize::new(0)),
            lock: Mutex::new(()),
            wake: Condvar::new(),
        }
    }

    /// Waits until all have come, or until somebody will never come.
    pub(super) fn wait(&self, watch: &Watch) -> Result<(), Poisoned> {
        self.wait_for(self.count, false, watch).map(|_| ())
    }

    /// The same for `count` threads; all must say the same number. One of them may ask to go on alone; all learn whether one
    /// did.
    #[inline]
    pub(super) fn wait_for(&self, count: usize, ask: bool, watch: &Watch) -> Result<bool, Poisoned> {
        if count == 1 {
            return Ok(false);
        }
        // It cannot end before this thread has come.
        let phase = self.phase.0.load(Ordering::Relaxed) & !ASLEEP;
        if phase & POISONED != 0 {
            return Err(Poisoned);
        }
        let coming = if ask { 1 | ASKED } else { 1 };
        // Each passes on what those before it wrote.
        let arrived = self.arrived.0.fetch_add(coming, Ordering::AcqRel) + coming;
        if arrived & !ASKED == count {
            self.arrived.0.store(0, Ordering::Relaxed);
            let dismissed = if arrived & ASKED == 0 { 0 } else { DISMISSED };
            // Poison may be lost here, if it is of another part of the team: none of this one's workers has failed, and they
            // learn of it where all synchronize.
            let before = self.phase.0.swap(phase.wrapping_add(STEP) | dismissed, Ordering::AcqRel);
            self.wake_after(before);
            return Ok(dismissed != 0);
        }
        for look in 1..=self.patience.min(YIELD_EVERY) {
            if let Some(end) = self.end_of(phase) {
                watch.looked(look);
                return end;
            }
            spin_loop();
        }
        let begun = Instant::now();
        let end = self.wait_long(phase);
        watch.waited(begun.elapsed());
        end
    }

    /// How a phase has ended, if it has.
    #[inline]
    fn end_of(&self, phase: usize) -> Option<Result<bool, Poisoned>> {
        let now = self.phase.0.load(Ordering::Acquire) & !ASLEEP;
        if now == phase {
            return None;
        }
        Some(if now & POISONED == 0 { Ok(now & DISMISSED != 0) } else { Err(Poisoned) })
    }

    #[cold]
    fn wait_long(&self, phase: usize) -> Result<bool, Poisoned> {
        for look in YIELD_EVERY..self.patience {
            if let Some(end) = self.end_of(phase) {
                return end;
            }
            if look % YIELD_EVERY == 0 {
                yield_now();
            } else {
                spin_loop();
            }
        }
        self.sleep(phase)
    }

    fn sleep(&self, phase: usize) -> Result<bool, Poisoned> {
        for _ in 0..COURTESY {
            if self.phase.0.load(Ordering::Relaxed) & !ASLEEP != phase {
                break;
            }
            yield_now();
        }
        let mut guard = lock(&self.lock);
        // If the phase has ended this fails, and the loop sees it.
        let _ = self.phase.0.compare_exchange(phase, phase | ASLEEP, Ordering::Relaxed, Ordering::Relaxed);
        loop {
            if let Some(end) = self.end_of(phase) {
                return end;
            }
            guard = self.wake.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Wakes the sleepers, if the word, as it was before it changed, says that there are any.
    fn wake_after(&self, before: usize) {
        if before & ASLEEP != 0 {
            // A sleeper has the lock from its mark until it waits: now it waits.
            drop(lock(&self.lock));
            self.wake.notify_all();
        }
    }

    /// Tells all who wait, or ever will, that a thread that has not come will not come.
    pub(super) fn poison(&self) {
        let before = self.phase.0.fetch_or(POISONED, Ordering::AcqRel);
        self.wake_after(before);
    }

    pub(super) fn is_poisoned(&self) -> bool {
        self.phase.0.load(Ordering::Relaxed) & POISONED != 0
    }

    /// Whether one goes on alone.
    pub(super) fn is_dismissed(&self) -> bool {
        self.phase.0.load(Ordering::Relaxed) & DISMISSED != 0
    }

    /// As new. Nobody may be waiting.
    pub(super) fn reset(&self) {
        self.arrived.0.store(0, Ordering::Relaxed);
        self.phase.0.store(0, Ordering::Relaxed);
    }
}

/// The mutexes here guard nothing that a panic could leave half done.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
