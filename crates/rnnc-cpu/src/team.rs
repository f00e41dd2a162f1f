//! One team of resident worker threads for everything that runs in parallel.
//!
//! The caller of [`Team::run`] is worker 0. A loop over frames needs a synchronization or two every few
//! microseconds, so waiting spins, and between cores that takes some tens of nanoseconds; whoever has spun in
//! vain for a while sleeps, so that an idle team costs nothing. With more workers than cores, waiting gives
//! way at once.
//!
//! All waiting is done by one thing, the barrier (`team/barrier.rs`). The loom tests go through the interleavings of a few
//! threads:
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p rnnc-cpu --lib --release loom_`

#![allow(unsafe_code)] // hands a borrowed closure to threads that outlive the borrow

mod barrier;
#[cfg(all(test, loom))]
mod loom_tests;
mod sync;

use barrier::{Barrier, PATIENCE, Poisoned, lock};
use std::any::Any;
use std::io;
use std::marker::PhantomData;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use sync::{Arc, AtomicPtr, JoinHandle, Mutex, Ordering};

/// What a run does, on each worker.
type Job<'a> = &'a (dyn Fn(Worker<'_>) + Sync);

/// Resident worker threads, the caller of [`Team::run`] being one of the workers.
///
/// ```
/// use rnnc_cpu::team::Team;
/// use std::sync::atomic::{AtomicUsize, Ordering};
///
/// let mut team = Team::new(2)?;
/// let (first, second) = (AtomicUsize::new(0), AtomicUsize::new(0));
/// team.run(&|worker| {
///     first.fetch_add(1, Ordering::Relaxed);
///     worker.barrier();
///     // Here every worker has done the first part.
///     second.fetch_add(first.load(Ordering::Relaxed), Ordering::Relaxed);
/// });
/// assert_eq!(second.into_inner(), 4);
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Team {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// What the threads of a team share.
struct Shared {
    /// Ends when there is a job; poisoned, it tells the threads to go home.
    start: Barrier,
    /// The one that jobs call; poisoned when a worker panics.
    inside: Barrier,
    /// Those of parts of the team, by their first workers; poisoned with it.
    parts: Vec<Barrier>,
    /// Ends when the job is done.
    finish: Barrier,
    /// The job of the run: a [`Job`] on the stack of its caller.
    job: AtomicPtr<()>,
    /// The first panic of a thread in this run.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

/// A worker's place in the team, for the time of a run.
#[derive(Debug)]
pub struct Worker<'a> {
    /// Which of the workers; 0 is the caller.
    pub index: usize,
    /// How many workers there are.
    pub count: usize,
    barrier: &'a Barrier,
    parts: &'a [Barrier],
    /// Stays on its thread: a second one that waits in its place would be counted as another worker.
    stays: PhantomData<*const ()>,
}

impl Worker<'_> {
    /// Waits until every worker of the run has come here; what they wrote before can be read after.
    ///
    /// Every worker must call it equally often in a run. If one panics, the others do not wait for it: their
    /// runs end here, by unwinding.
    #[inline]
    pub fn barrier(&self) {
        if self.count > 1 && self.barrier.wait_for(self.count).is_err() {
            // Quietly, since the panic that counts has been reported.
            resume_unwind(Box::new(Poisoned));
        }
    }

    /// The same worker as one of a part of the team, whose barriers are for its workers alone: `None` if it is none of
    /// them. Between two barriers of the whole team, each worker may be in one part, which is the same for all in it.
    pub fn part(&self, workers: Range<usize>) -> Option<Worker<'_>> {
        let barrier = self.parts.get(workers.start)?;
        workers.contains(&self.index).then(|| Worker {
            index: self.index - workers.start,
            count: workers.len(),
            barrier: if workers.len() == self.count { self.barrier } else { barrier },
            parts: &[],
            stays: PhantomData,
        })
    }
}

impl Team {
    /// A team of `threads` workers, the caller included; 0 means as many as the process may use.
    ///
    /// # Errors
    ///
    /// If the system refuses a thread.
    pub fn new(threads: usize) -> io::Result<Team> {
        let cores = cores();
        let count = if threads == 0 { cores } else { threads };
        // Workers that wait for a core should not be waited for on it.
        let patience = if count <= cores { PATIENCE } else { 0 };
        let barrier = || Barrier::new(count, patience);
        let shared = Arc::new(Shared {
            start: barrier(),
            inside: barrier(),
            parts: (0..count).map(|_| barrier()).collect(),
            finish: barrier(),
            job: AtomicPtr::default(),
            panic: Mutex::new(None),
        });
        // As a team from the start, so that its end sends home those that began if a later one is refused.
        let mut team = Team { shared, threads: Vec::new() };
        for index in 1..count {
            let shared = Arc::clone(&team.shared);
            let thread = sync::Builder::new().name(format!("rnnc-{index}"));
            team.threads.push(thread.spawn(move || shared.serve(index))?);
        }
        Ok(team)
    }

    /// How many workers there are, the caller included.
    pub fn size(&self) -> usize {
        self.shared.inside.count
    }

    /// Runs the closure on the caller alone, as the one worker there is: for what is too little to share.
    pub fn alone(&mut self, job: Job<'_>) {
        job(Worker { count: 1, ..self.shared.worker(0) });
    }

    /// Runs the closure on every worker, and returns when all have ended. Allocates nothing.
    ///
    /// # Panics
    ///
    /// If the closure panics on one of them, then with its panic. The team can be used again.
    pub fn run(&mut self, job: Job<'_>) {
        let shared = &*self.shared;
        let worker = shared.worker(0);
        if worker.count == 1 {
            return self.alone(job);
        }
        shared.job.store((&raw const job).cast_mut().cast(), Ordering::Relaxed);
        // Neither this barrier nor `finish` is ever poisoned while the team lives.
        let _ = shared.start.wait();
        let mut panic = catch_unwind(AssertUnwindSafe(|| job(worker))).err();
        if panic.is_some() {
            shared.poison();
        }
        let _ = shared.finish.wait();
        // All are through with the job, and wait for the next.
        if shared.inside.is_poisoned() {
            shared.barriers().for_each(Barrier::reset);
            let theirs = lock(&shared.panic).take();
            if let Some(panic) = theirs.or(panic.take()) {
                resume_unwind(panic);
            }
        }
    }
}

impl Shared {
    fn worker(&self, index: usize) -> Worker<'_> {
        let Shared { inside, parts, .. } = self;
        Worker { index, count: inside.count, barrier: inside, parts, stays: PhantomData }
    }

    /// Those at which workers may wait within a job.
    fn barriers(&self) -> impl Iterator<Item = &Barrier> {
        std::iter::once(&self.inside).chain(&self.parts)
    }

    /// Tells all workers that one will not come.
    fn poison(&self) {
        self.barriers().for_each(Barrier::poison);
    }

    /// The life of a thread.
    fn serve(&self, index: usize) {
        while self.start.wait().is_ok() {
            let job: *const Job<'_> = self.job.load(Ordering::Relaxed).cast_const().cast();
            // SAFETY: the caller of `run` put it there before it came to `start`; it lives until that caller
            // gets past `finish`, to which this thread comes only when it is through with it.
            let job = unsafe { *job };
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| job(self.worker(index)))) {
                if !panic.is::<Poisoned>() {
                    lock(&self.panic).get_or_insert(panic);
                }
                self.poison();
            }
            let _ = self.finish.wait();
        }
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        self.shared.start.poison();
        for thread in self.threads.drain(..) {
            // Threads catch the panics of their jobs; they have none of their own.
            let _ = thread.join();
        }
    }
}

/// How many threads the process may run at once.
fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, |count| count.get())
}

#[cfg(all(test, not(loom)))]
mod tests {
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
                        assert_eq!((own.index + part.start, own.count), (worker.index, part.len()));
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
                [0..2, 2..4]
                    .map(|part| worker.part(part).iter().for_each(Worker::barrier))
                    .into_iter()
                    .collect()
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
    }
}
