//! Runs, barriers, panics and ways of sharing, on real threads.

use super::*;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// As many as there are cores, fewer, and more.
const SIZES: [usize; 5] = [1, 2, 3, 5, 16];

#[test]
fn one_worker_alone_waits_for_nobody() {
    let mut team = Team::new(3).unwrap();
    let seen = AtomicUsize::new(0);
    team.alone(&|worker| {
        worker.barrier();
        seen.fetch_add(10 * worker.count + worker.index, Ordering::Relaxed);
    });
    assert_eq!(seen.into_inner(), 10);
}

#[test]
fn parts_of_a_team_wait_for_their_own_workers_alone() {
    // Of two parts, one meets three times as often; then the parts are others.
    for size in [2, 3, 5, 8] {
        let mut team = Team::new(size).unwrap();
        let came: Vec<AtomicUsize> = (0..size).map(|_| AtomicUsize::new(0)).collect();
        team.run(&|worker| {
            for split in 1..size {
                for (part, times) in [(0..split, 300), (split..size, 100)] {
                    let Some(own) = worker.part(part.clone()) else { continue };
                    assert_eq!((own.shares().start + part.start, own.count), (worker.index, part.len()));
                    for round in 1..=times {
                        came[worker.index].store(1000 * split + round, Ordering::Relaxed);
                        own.barrier();
                        let here = |came: &AtomicUsize| came.load(Ordering::Relaxed);
                        assert!(came[part.clone()].iter().all(|came| here(came) == 1000 * split + round));
                        own.barrier();
                    }
                }
                worker.barrier();
            }
        });
    }
}

#[test]
fn a_panic_ends_the_waiting_in_every_part() {
    let mut team = Team::new(4).unwrap();
    for culprit in 0..4 {
        let panic = catch_unwind(AssertUnwindSafe(|| {
            team.run(&|worker| {
                if worker.index == culprit {
                    resume_unwind(Box::new(culprit));
                }
                for part in [0..2, 2..4] {
                    if let Some(own) = worker.part(part) {
                        own.barrier();
                    }
                }
                worker.barrier();
            });
        }));
        assert_eq!(panic.unwrap_err().downcast_ref::<usize>(), Some(&culprit));
        team.run(&|worker| {
            [0..2, 2..4].map(|part| worker.part(part).iter().for_each(Worker::barrier)).into_iter().collect()
        });
    }
}

#[test]
fn every_worker_runs_once_a_run() {
    for size in SIZES {
        let mut team = Team::new(size).unwrap();
        assert_eq!(team.size(), size);
        let runs: Vec<AtomicUsize> = (0..size).map(|_| AtomicUsize::new(0)).collect();
        for _ in 0..200 {
            team.run(&|worker| {
                assert_eq!(worker.count, size);
                runs[worker.index].fetch_add(1, Ordering::Relaxed);
            });
        }
        assert!(runs.into_iter().all(|runs| runs.into_inner() == 200));
    }
}

#[test]
fn nobody_passes_a_barrier_before_all_have_come() {
    for size in SIZES {
        let mut team = Team::new(size).unwrap();
        let came: Vec<AtomicUsize> = (0..size).map(|_| AtomicUsize::new(0)).collect();
        team.run(&|worker| {
            for round in 1..=500 {
                came[worker.index].store(round, Ordering::Relaxed);
                worker.barrier();
                assert!(came.iter().all(|came| came.load(Ordering::Relaxed) == round));
                worker.barrier();
            }
        });
    }
}

#[test]
fn sleeping_workers_wake_for_a_run_and_at_a_barrier() {
    let mut team = Team::new(3).unwrap();
    let count = AtomicUsize::new(0);
    for run in 0..10 {
        sleep(Duration::from_millis(3));
        team.run(&|worker| {
            count.fetch_add(1, Ordering::Relaxed);
            if worker.index == run % 3 {
                sleep(Duration::from_millis(3));
            }
            worker.barrier();
            assert_eq!(count.load(Ordering::Relaxed), 3 * (run + 1));
        });
    }
}

#[test]
fn waiting_at_random_moments_loses_no_wake_up() {
    // Pauses about as long as the patience, so that sleep and wake-up meet.
    for size in [2, 3, 8] {
        let mut team = Team::new(size).unwrap();
        team.run(&|worker| {
            let mut random = 88_172_645_463_325_252u64 + worker.index as u64;
            for _ in 0..2000 {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                if random.is_multiple_of(16) {
                    let until = Instant::now() + Duration::from_micros(random / 16 % 80);
                    while Instant::now() < until {
                        std::hint::spin_loop();
                    }
                }
                worker.barrier();
            }
        });
    }
}

#[test]
fn a_panic_on_any_worker_ends_the_run_with_it_and_the_team_lives_on() {
    for size in SIZES {
        let mut team = Team::new(size).unwrap();
        for culprit in 0..size {
            let passed = AtomicBool::new(false);
            let panic = catch_unwind(AssertUnwindSafe(|| {
                team.run(&|worker| {
                    worker.barrier();
                    if worker.index == culprit {
                        // Not a panic that prints: this one is meant.
                        resume_unwind(Box::new(culprit));
                    }
                    worker.barrier();
                    passed.store(true, Ordering::Relaxed);
                });
            }))
            .unwrap_err();
            assert_eq!(panic.downcast_ref::<usize>(), Some(&culprit));
            assert!(!passed.load(Ordering::Relaxed));
            let count = AtomicUsize::new(0);
            team.run(&|worker| {
                count.fetch_add(1, Ordering::Relaxed);
                worker.barrier();
                assert_eq!(count.load(Ordering::Relaxed), size);
            });
        }
    }
}

/// All ways to run.
const POLICIES: [Policy; 6] = [
    Policy::Measured,
    Policy::Shared,
    Policy::Alone,
    Policy::SharedUntil(0),
    Policy::SharedUntil(1),
    Policy::SharedUntil(5),
];

#[test]
fn every_share_is_done_once_between_two_barriers_whoever_does_it() {
    for (size, policy) in SIZES.into_iter().flat_map(|size| POLICIES.map(|policy| (size, policy))) {
        let mut team = Team::new(size).unwrap();
        let mut experience = Experience::default();
        experience.set_policy(policy);
        let done: Vec<AtomicUsize> = (0..size).map(|_| AtomicUsize::new(0)).collect();
        let (came, split) = (|share: &AtomicUsize| share.load(Ordering::Relaxed), size.div_ceil(2));
        for run in 0..20 {
            team.share(&mut experience, Work::Forward, 1, &|worker| {
                for round in 1..=8 {
                    // By themselves, and then in parts of the team.
                    for share in worker.shares() {
                        done[share].fetch_add(1, Ordering::Relaxed);
                    }
                    worker.barrier();
                    let all = || done.iter().all(|share| came(share) == 16 * run + 2 * round - 1);
                    assert!(worker.shares().is_empty() || all());
                    worker.barrier();
                    for part in [0..split, split..size] {
                        let Some(own) = worker.part(part.clone()) else { continue };
                        for share in own.shares() {
                            done[part.start + share].fetch_add(1, Ordering::Relaxed);
                        }
                        own.barrier();
                        assert!(done[part].iter().all(|share| came(share) == 16 * run + 2 * round));
                    }
                    worker.barrier();
                }
            });
            assert!(done.iter().all(|share| came(share) == 16 * (run + 1)), "{size} workers, {policy:?}");
        }
    }
}

#[test]
fn a_panic_of_the_caller_alone_ends_the_run_and_the_team_lives_on() {
    for policy in POLICIES {
        let mut team = Team::new(3).unwrap();
        let mut experience = Experience::default();
        experience.set_policy(policy);
        for _ in 0..3 {
            let panic = catch_unwind(AssertUnwindSafe(|| {
                team.share(&mut experience, Work::Forward, 1, &|worker| {
                    (0..4).for_each(|_| worker.barrier());
                    if worker.shares().contains(&0) {
                        resume_unwind(Box::new(7));
                    }
                    worker.barrier();
                });
            }));
            assert_eq!(panic.unwrap_err().downcast_ref::<i32>(), Some(&7), "{policy:?}");
        }
        let count = AtomicUsize::new(0);
        team.run(&|worker| {
            worker.barrier();
            count.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(count.into_inner(), 3);
    }
}

#[test]
fn a_caller_that_waits_for_long_does_the_rest_alone() {
    let (mut team, mut experience) = (Team::new(2).unwrap(), Experience::default());
    let shares = Mutex::new(Vec::new());
    let late = AtomicBool::new(true);
    team.share(&mut experience, Work::Forward, 1, &|worker| {
        for _ in 0..3 {
            if worker.index == 1 && late.swap(false, Ordering::Relaxed) {
                sleep(Duration::from_millis(200));
            }
            if worker.index == 0 {
                lock(&shares).push(worker.shares());
            }
            worker.barrier();
        }
    });
    // It notices at the end of a wait, and asks at the next barrier. On a busy machine, the worker may have come late already.
    let shares = shares.into_inner().unwrap();
    assert!(shares == [0..1, 0..1, 0..2] || shares == [0..1, 0..2, 0..2], "{shares:?}");
}

#[test]
fn on_every_thread_but_the_callers_subnormal_numbers_are_zero() {
    let mut team = Team::new(3).unwrap();
    let quarters: Vec<_> = (0..3).map(|_| Mutex::new(1.0)).collect();
    team.run(&|worker| {
        let least = std::hint::black_box(f32::MIN_POSITIVE);
        *lock(&quarters[worker.index]) = least / std::hint::black_box(4.0);
    });
    let zero: Vec<_> = quarters.iter().map(|quarter| *lock(quarter) == 0.0).collect();
    let flushes = cfg!(any(target_arch = "x86_64", target_arch = "aarch64"));
    assert_eq!(zero, [false, flushes, flushes]);
}

#[test]
fn the_end_of_a_team_ends_its_threads() {
    for size in SIZES {
        let team = Team::new(size).unwrap();
        let shared = Arc::downgrade(&team.shared);
        drop(team);
        assert_eq!(shared.strong_count(), 0);
    }
}

#[test]
fn no_number_of_threads_means_all_cores() {
    assert_eq!(Team::new(0).unwrap().size(), cores());
    assert_eq!([0, 1, 100_000].map(workers), [cores(), 1, cores()]);
}
