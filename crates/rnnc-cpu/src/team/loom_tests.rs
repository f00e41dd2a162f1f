//! The interleavings of a few threads at the barrier and in a team, under a model checker.

use super::Team;
use super::barrier::{Barrier, Poisoned};
use super::sharing::Watch;
use super::sync::Arc;
use super::{Experience, Policy, Work};
use loom::cell::UnsafeCell;
use loom::thread;

/// Numbers that only barriers keep apart; loom reports a race.
struct Slots(Vec<UnsafeCell<usize>>);

// SAFETY: the barrier under test is to keep the threads apart, and loom watches it do so.
unsafe impl Sync for Slots {}

impl Slots {
    fn new(count: usize) -> Slots {
        Slots((0..count).map(|_| UnsafeCell::new(0)).collect())
    }

    fn set(&self, index: usize, value: usize) {
        // SAFETY: loom checks that nobody else has it.
        self.0[index].with_mut(|slot| unsafe { *slot = value });
    }

    fn all_are(&self, value: usize) -> bool {
        // SAFETY: loom checks that nobody writes it.
        self.0.iter().all(|slot| slot.with(|slot| unsafe { *slot == value }))
    }
}

/// Goes through the interleavings with at most so many preemptions, which find what there is to find.
fn check(preemptions: usize, test: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(preemptions);
    model.check(test);
}

/// Runs work on so many threads, this one among them.
fn together<S: Send + Sync + 'static>(
    count: usize,
    shared: Arc<S>,
    work: impl Fn(usize, &S) + Copy + Send + 'static,
) {
    let threads: Vec<_> = (1..count)
        .map(|index| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || work(index, &shared))
        })
        .collect();
    work(0, &shared);
    for thread in threads {
        thread.join().unwrap();
    }
}

fn phases(count: usize, patience: u32, rounds: usize) {
    let shared = Arc::new((Barrier::new(count, patience), Slots::new(count)));
    let work = move |index: usize, (barrier, slots): &(Barrier, Slots)| {
        for round in 1..=rounds {
            slots.set(index, round);
            barrier.wait(&Watch::none()).unwrap();
            assert!(slots.all_are(round));
            if round < rounds {
                barrier.wait(&Watch::none()).unwrap();
            }
        }
    };
    together(count, shared, work);
}

#[test]
fn loom_two_threads_that_sleep_at_once_keep_in_step() {
    check(4, || phases(2, 0, 2));
}

#[test]
fn loom_two_threads_that_spin_and_sleep_keep_in_step() {
    check(4, || phases(2, 1, 2));
}

#[test]
fn loom_three_threads_keep_in_step() {
    check(3, || phases(3, 0, 1));
}

#[test]
fn loom_poison_wakes_whoever_waits() {
    check(4, || {
        let barrier = Arc::new(Barrier::new(2, 1));
        let waiter = {
            let barrier = Arc::clone(&barrier);
            thread::spawn(move || barrier.wait(&Watch::none()))
        };
        barrier.poison();
        assert_eq!(waiter.join().unwrap(), Err(Poisoned));
    });
}

#[test]
fn loom_a_part_and_then_all_keep_in_step() {
    // Two of three meet in their part while the third goes on to where all synchronize.
    check(2, || {
        let shared = Arc::new((Barrier::new(3, 0), Barrier::new(3, 0), Slots::new(3)));
        let work = |index: usize, (all, part, slots): &(Barrier, Barrier, Slots)| {
            slots.set(index, 1);
            if index < 2 {
                part.wait_for(2, false, &Watch::none()).unwrap();
            }
            all.wait(&Watch::none()).unwrap();
            assert!(slots.all_are(1));
        };
        together(3, shared, work);
    });
}

#[test]
fn loom_a_team_runs_and_ends() {
    check(2, || {
        let slots = Slots::new(2);
        let mut team = Team::new(2).unwrap();
        team.run(&|worker| {
            slots.set(worker.index, 1);
            worker.barrier();
            assert!(slots.all_are(1));
        });
        team.run(&|worker| slots.set(worker.index, 2));
        assert!(slots.all_are(2));
    });
}

#[test]
fn loom_the_caller_goes_on_alone_from_a_barrier_on() {
    // Behind the first barrier, then behind the second; and then all run together again.
    for barriers in 0..2 {
        check(2, move || {
            let slots = Slots::new(2);
            let mut team = Team::new(2).unwrap();
            let mut experience = Experience::default();
            experience.set_policy(Policy::SharedUntil(barriers));
            team.share(&mut experience, Work::Forward, 1, &|worker| {
                for round in 1..=3 {
                    worker.shares().for_each(|share| slots.set(share, round));
                    worker.barrier();
                    if !worker.shares().is_empty() {
                        assert!(slots.all_are(round));
                    }
                    worker.barrier();
                }
            });
            assert!(slots.all_are(3));
            team.run(&|worker| slots.set(worker.index, 4));
            assert!(slots.all_are(4));
        });
    }
}
