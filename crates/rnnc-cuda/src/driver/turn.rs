//! Turns at what a process's executors must not do at once.
//!
//! While a stream is captured, whatever makes the driver wait for the whole context makes the capture invalid, on whichever
//! thread: the loading of kernels (the driver's and cublasLt's, which load them when they are first asked for), and the
//! giving back of memory. So recordings and these take turns. A turn is taken for a call of the driver or one recording, in
//! which no other is waited for.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

static TAKEN: Mutex<bool> = Mutex::new(false);
static GIVEN_BACK: Condvar = Condvar::new();

/// A turn, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn(());

impl Turn {
    /// Waits for those who have one.
    pub fn take() -> Turn {
        let taken = GIVEN_BACK.wait_while(taken(), |taken| *taken);
        *taken.unwrap_or_else(PoisonError::into_inner) = true;
        Turn(())
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *taken() = false;
        GIVEN_BACK.notify_one();
    }
}

/// Nobody panics who holds it.
fn taken() -> MutexGuard<'static, bool> {
    TAKEN.lock().unwrap_or_else(PoisonError::into_inner)
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
