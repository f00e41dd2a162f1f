//! Turns at what a process's executors must not do at once.
//!
//! While a stream is captured, whatever makes the driver wait for the whole context makes the capture invalid, on whichever
//! thread: the loading of kernels (the driver's and cublasLt's, which load them when they are first asked for), and the
//! giving back of memory. So recordings and these take turns. A turn is taken for a call of the driver or one recording, in
//! which no other is waited for.

use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError};

/// Turns at something.
#[derive(Debug, Default)]
pub(super) struct Turns {
    taken: Mutex<bool>,
    given_back: Condvar,
}

/// Those of recordings, and of what they must not see.
static RECORDINGS: LazyLock<Arc<Turns>> = LazyLock::new(Arc::default);

/// A turn, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn(Arc<Turns>);

impl Turns {
    /// Waits for those who have one.
    pub fn take(self: &Arc<Turns>) -> Turn {
        let taken = self.given_back.wait_while(self.taken(), |taken| *taken);
        *taken.unwrap_or_else(PoisonError::into_inner) = true;
        Turn(Arc::clone(self))
    }

    /// Nobody panics who holds it.
    fn taken(&self) -> MutexGuard<'_, bool> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn {
    /// One at recordings.
    pub fn take() -> Turn {
        RECORDINGS.take()
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *self.0.taken() = false;
        self.0.given_back.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::Turn;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn one_at_a_time_has_a_turn_and_all_get_theirs() {
        let (inside, turns) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        let turn = Turn::take();
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                        std::thread::yield_now();
                        inside.fetch_sub(1, Ordering::SeqCst);
                        turns.fetch_add(1, Ordering::SeqCst);
                        drop(turn);
                    }
                });
            }
        });
        assert_eq!(turns.into_inner(), 800);
    }
}
