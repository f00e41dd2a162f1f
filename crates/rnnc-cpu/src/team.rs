//! One team of resident worker threads for everything that runs in parallel.
//!
//! The caller of [`Team::run`] is worker 0. A loop over frames needs a synchronization or two every few
//! microseconds, so waiting spins, and between cores that takes some tens of nanoseconds; whoever has spun in
//! vain for a while sleeps, so that an idle team costs nothing. With more workers than cores, waiting gives
//! way at once.
//!
//! Work has as many *shares* as there are workers. [`Team::run`] gives each worker its own. Where other programs have the
//! cores, waiting for each other may take longer than the work: [`Team::share`] notices it by the time that runs take
//! (`team/sharing.rs`), and then the caller does all shares itself, one after the other between two barriers. So results do
//! not depend on who does them.
//!
//! All waiting is done by one thing, the barrier (`team/barrier.rs`). The loom tests go through the interleavings of a few
//! threads:
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p rnnc-cpu --lib --release loom_`

#![allow(unsafe_code)] // hands a borrowed closure to threads that outlive the borrow

mod barrier;
#[cfg(all(test, loom))]
mod loom_tests;
mod sharing;
mod sync;

pub use sharing::Policy;

use crate::flush::FlushSubnormals;
use barrier::{Barrier, PATIENCE, Poisoned, lock};
use sharing::{Sharing, Watch, Way};
use std::any::Any;
use std::cell::Cell;
use std::io;
use std::marker::PhantomData;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Instant;
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
    /// Of each kind of work.
    sharings: [Sharing; Work::KINDS],
}

/// Kinds of work, of which each has its own experience with sharing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// A forward pass.
    Forward,
    /// A backward pass.
    Backward,
    /// A step of the optimizer.
    Update,
    /// Copying results.
    Copy,
}

impl Work {
    const KINDS: usize = 4;
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
    /// Which of the team's threads; 0 is the caller's.
    pub index: usize,
    /// How many shares the work has.
    pub count: usize,
    /// Which of them are this worker's: the first, and one past the last.
    own: Cell<(usize, usize)>,
    barrier: &'a Barrier,
    /// Whether all of the team meet there.
    whole: bool,
    parts: &'a [Barrier],
    watch: &'a Watch,
    /// Stays on its thread: a second one that waits in its place would be counted as another worker.
    stays: PhantomData<*const ()>,
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
        // Whoever does all shares, or none, meets nobody.
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
        (first < end).then(|| Worker {
            count: workers.len(),
            own: Cell::new((first - workers.start, end - workers.start)),
            barrier,
            whole: false,
            parts: &[],
            ..*self
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
        let sharings = std::array::from_fn(|_| Sharing::new());
        let mut team = Team { shared, threads: Vec::new(), sharings };
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

    /// Decides, for tests, whether runs are shared out: see [`Team::share`].
    pub fn set_policy(&mut self, policy: Policy) {
        self.sharings.iter_mut().for_each(|sharing| sharing.policy = policy);
    }

    /// Runs the closure on the caller alone, as the one worker there is: for what is too little to share.
    pub fn alone(&mut self, job: Job<'_>) {
        job(Worker { count: 1, ..self.shared.worker(0, &Watch::none()) });
    }

    /// Runs the closure so that all shares are done, by all workers or by the caller alone: whichever has taken less time
    /// of late for so much work of this kind. Allocates nothing.
    ///
    /// # Panics
    ///
    /// As [`Team::run`].
    pub fn share(&mut self, kind: Work, work: usize, job: Job<'_>) {
        let count = self.size();
        if count == 1 {
            return self.alone(job);
        }
        let sharing = &self.sharings[kind as usize];
        let begun = Instant::now();
        let watch = sharing.watch(work, begun);
        match sharing.way() {
            Way::Shared => self.together(&watch, job),
            Way::Alone => job(Worker { own: Cell::new((0, count)), ..self.shared.worker(0, &watch) }),
        }
        let now = Instant::now();
        self.sharings[kind as usize].ended(work, now - begun, watch.all(), now);
    }

    /// Runs the closure on every worker, and returns when all have ended. Allocates nothing.
    ///
    /// # Panics
    ///
    /// If the closure panics on one of them, then with its panic. The team can be used again.
    pub fn run(&mut self, job: Job<'_>) {
        if self.size() == 1 {
            return self.alone(job);
        }
        self.together(&Watch::none(), job);
    }

    fn together(&mut self, watch: &Watch, job: Job<'_>) {
        let shared = &*self.shared;
        shared.job.store((&raw const job).cast_mut().cast(), Ordering::Relaxed);
        // Neither this barrier nor `finish` is ever poisoned while the team lives.
        let _ = shared.start.wait(watch);
        let mut panic = catch_unwind(AssertUnwindSafe(|| job(shared.worker(0, watch)))).err();
        if panic.is_some() {
            shared.poison();
        }
        let _ = shared.finish.wait(watch);
        // All are through with the job, and wait for the next.
        if shared.inside.is_poisoned() {
            shared.barriers().for_each(Barrier::reset);
            let theirs = lock(&shared.panic).take();
            if let Some(panic) = theirs.or(panic.take()) {
                resume_unwind(panic);
            }
        } else if shared.inside.is_dismissed() {
            shared.inside.reset();
        }
    }
}

impl Shared {
    fn worker<'a>(&'a self, index: usize, watch: &'a Watch) -> Worker<'a> {
        let Shared { inside, parts, .. } = self;
        let own = Cell::new((index, index + 1));
        Worker {
            index,
            count: inside.count,
            own,
            barrier: inside,
            whole: true,
            parts,
            watch,
            stays: PhantomData,
        }
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
        let _flush = FlushSubnormals::begin();
        while self.start.wait(&Watch::none()).is_ok() {
            let job: *const Job<'_> = self.job.load(Ordering::Relaxed).cast_const().cast();
            // SAFETY: the caller of `run` put it there before it came to `start`; it lives until that caller
            // gets past `finish`, to which this thread comes only when it is through with it.
            let job = unsafe { *job };
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| job(self.worker(index, &Watch::none())))) {
                if !panic.is::<Poisoned>() {
                    lock(&self.panic).get_or_insert(panic);
                }
                self.poison();
            }
            let _ = self.finish.wait(&Watch::none());
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

/// How many workers a run should have if so many threads are asked for; 0 asks for as many as there are cores. More than these
/// would only wait for each other.
pub fn workers(threads: usize) -> usize {
    let cores = cores();
    if threads == 0 { cores } else { threads.min(cores) }
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
            team.set_policy(policy);
            let done: Vec<AtomicUsize> = (0..size).map(|_| AtomicUsize::new(0)).collect();
            let (came, split) = (|share: &AtomicUsize| share.load(Ordering::Relaxed), size.div_ceil(2));
            for run in 0..20 {
                team.share(Work::Forward, 1, &|worker| {
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
            team.set_policy(policy);
            for _ in 0..3 {
                let panic = catch_unwind(AssertUnwindSafe(|| {
                    team.share(Work::Forward, 1, &|worker| {
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
        let mut team = Team::new(2).unwrap();
        let shares = Mutex::new(Vec::new());
        let late = AtomicBool::new(true);
        team.share(Work::Forward, 1, &|worker| {
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
        // It notices at the end of a wait, and asks at the next barrier.
        assert_eq!(shares.into_inner().unwrap(), [0..1, 0..1, 0..2]);
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
}
