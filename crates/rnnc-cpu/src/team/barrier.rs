//! A barrier that spins before it sleeps: a count of arrivals, and a word that tells the phase, whether somebody sleeps, and
//! whether a worker died.
//!
//! That they share a word is what makes it impossible to miss a wake-up: whoever ends a phase learns in the same instruction
//! whether there is somebody to wake.

use super::sync::{AtomicUsize, Condvar, Mutex, MutexGuard, Ordering, spin_loop, yield_now};
use std::sync::PoisonError;

/// That a worker will never come to the barrier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Poisoned;

/// Looks at the phase before a worker sleeps: about 30 microseconds, as long as a wake-up takes.
pub(super) const PATIENCE: u32 = if cfg!(loom) { 1 } else { 1000 };
/// At every so many looks, some microseconds, it gives way to other threads: the system may have put the one
/// that it waits for on the same core.
const YIELD_EVERY: u32 = 128;
/// Times that a worker of more than there are cores gives way before it sleeps.
const COURTESY: u32 = if cfg!(loom) { 0 } else { 4 };

/// Somebody sleeps in this phase.
const ASLEEP: usize = 1;
/// Somebody will never come.
const POISONED: usize = 2;
/// From a phase to the next, in what is left of the word.
const STEP: usize = 4;

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
    #[inline]
    pub(super) fn wait(&self) -> Result<(), Poisoned> {
        self.wait_for(self.count)
    }

    /// The same for `count` threads; all must say the same number.
    #[inline]
    pub(super) fn wait_for(&self, count: usize) -> Result<(), Poisoned> {
        if count == 1 {
            return Ok(());
        }
        // It cannot end before this thread has come.
        let phase = self.phase.0.load(Ordering::Relaxed) & !ASLEEP;
        if phase & POISONED != 0 {
            return Err(Poisoned);
        }
        // Each passes on what those before it wrote.
        if self.arrived.0.fetch_add(1, Ordering::AcqRel) + 1 == count {
            self.arrived.0.store(0, Ordering::Relaxed);
            // Nobody poisons it now: all are here.
            let before = self.phase.0.swap(phase.wrapping_add(STEP), Ordering::AcqRel);
            self.wake_after(before);
            return Ok(());
        }
        for look in 1..=self.patience {
            let now = self.phase.0.load(Ordering::Acquire) & !ASLEEP;
            if now != phase {
                return if now & POISONED == 0 { Ok(()) } else { Err(Poisoned) };
            }
            if look % YIELD_EVERY == 0 {
                yield_now();
            } else {
                spin_loop();
            }
        }
        self.sleep(phase)
    }

    #[cold]
    fn sleep(&self, phase: usize) -> Result<(), Poisoned> {
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
            let now = self.phase.0.load(Ordering::Acquire) & !ASLEEP;
            if now != phase {
                return if now & POISONED == 0 { Ok(()) } else { Err(Poisoned) };
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
