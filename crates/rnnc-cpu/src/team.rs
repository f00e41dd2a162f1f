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
//! What a run sees of the team is a [`Worker`] (`team/worker.rs`). A team has one run at a time; [`TeamHandle`]
//! (`team/handle.rs`) lets many users of a process share one.
//!
//! All waiting is done by one thing, the barrier (`team/barrier.rs`). The loom tests go through the interleavings of a few
//! threads:
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p rnnc-cpu --lib --release loom_`

#![allow(unsafe_code)] // hands a borrowed closure to threads that outlive the borrow

mod barrier;
mod handle;
#[cfg(all(test, loom))]
mod loom_tests;
mod sharing;
mod sync;
#[cfg(all(test, not(loom)))]
mod tests;
mod worker;

pub use handle::TeamHandle;
pub use sharing::Policy;
pub use worker::Worker;

use crate::flush::FlushSubnormals;
use barrier::{Barrier, PATIENCE, Poisoned, lock};
use sharing::{Sharing, Watch, Way};
use std::any::Any;
use std::cell::Cell;
use std::io;
use std::marker::PhantomData;
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
    /// The process whose threads they are: a fork of it has none of them.
    process: u32,
}

/// What is known of runs of some network, of each kind of work: by it [`Team::share`] decides.
#[derive(Debug)]
pub struct Experience([Sharing; Work::KINDS]);

impl Default for Experience {
    fn default() -> Experience {
        Experience(std::array::from_fn(|_| Sharing::new()))
    }
}

impl Experience {
    /// Decides, for tests, whether runs are shared out: see [`Team::share`].
    pub fn set_policy(&mut self, policy: Policy) {
        self.0.iter_mut().for_each(|sharing| sharing.policy = policy);
    }
}

/// Kinds of work, of which each has its own experience with sharing, and hears of the others'.
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
        let mut team = Team { shared, threads: Vec::new(), process: std::process::id() };
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
        self.shared.by_one(job);
    }

    /// Runs the closure so that all shares are done, by all workers or by the caller alone: whichever has taken less time
    /// of late for so much work of this kind. Allocates nothing.
    ///
    /// # Panics
    ///
    /// As [`Team::run`].
    pub fn share(&mut self, experience: &mut Experience, kind: Work, work: usize, job: Job<'_>) {
        if self.size() == 1 {
            return self.alone(job);
        }
        let own = &experience.0[kind as usize];
        let begun = Instant::now();
        let watch = own.watch(work, begun);
        match own.way() {
            Way::Shared => self.together(&watch, job),
            Way::Alone => self.shared.all_shares(&watch, job),
        }
        let now = Instant::now();
        sharing::ended(&mut experience.0, kind as usize, work, (now - begun, watch.all()), now);
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
            first: 0,
            count: inside.count,
            own,
            barrier: inside,
            whole: true,
            parts,
            watch,
            stays: PhantomData,
        }
    }

    /// Runs the job on the caller's thread as the one worker there is.
    fn by_one(&self, job: Job<'_>) {
        job(Worker { count: 1, ..self.worker(0, &Watch::none()) });
    }

    /// Does all shares on the caller's thread, which waits for nobody.
    fn all_shares(&self, watch: &Watch, job: Job<'_>) {
        job(Worker { own: Cell::new((0, self.inside.count)), ..self.worker(0, watch) });
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
        if self.process != std::process::id() {
            // The threads are another process's.
            return std::mem::forget(std::mem::take(&mut self.threads));
        }
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
