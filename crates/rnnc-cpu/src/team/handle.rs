//! One team for all that want the same number of workers, from whichever thread they call.
//!
//! A team has one run at a time. Whoever comes while it runs for another does all shares itself, on its own thread: results are the
//! same to the bit, nobody waits for a lock, and no two runs can wait for each other. So does a forked process, which has
//! none of the threads.

use super::{Experience, Job, Shared, Team, Watch, Work};
use std::io;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Arc, Mutex, PoisonError, TryLockError, Weak};

/// A team that is shared: see [`Team`].
#[derive(Clone)]
pub struct TeamHandle {
    common: Arc<Common>,
    process: u32,
}

struct Common {
    /// What is needed of the team where it is not free.
    shared: super::sync::Arc<Shared>,
    team: Mutex<Team>,
}

/// The teams of one process that are in use, one for each number of workers that was asked for.
struct Teams {
    process: u32,
    teams: Mutex<Vec<Entry>>,
}

struct Entry {
    workers: usize,
    common: Weak<Common>,
}

impl Teams {
    /// Those of this process. A forked process begins its own, since another thread may have had the lock of its parent's for ever.
    fn of_this_process() -> &'static Teams {
        static TEAMS: AtomicPtr<Teams> = AtomicPtr::new(ptr::null_mut());
        let process = std::process::id();
        loop {
            let known = TEAMS.load(Ordering::Acquire);
            // SAFETY: what is stored below is never freed.
            if let Some(teams) = unsafe { known.as_ref() }
                && teams.process == process
            {
                return teams;
            }
            let own = Box::into_raw(Box::new(Teams { process, teams: Mutex::new(Vec::new()) }));
            if TEAMS.compare_exchange(known, own, Ordering::AcqRel, Ordering::Relaxed).is_err() {
                // SAFETY: another thread of this process was first, and nobody has seen this one.
                drop(unsafe { Box::from_raw(own) });
            }
        }
    }
}

impl TeamHandle {
    /// The process's team of so many workers. Its threads begin with its first user and end with its last.
    ///
    /// # Errors
    ///
    /// If the system refuses a thread.
    pub fn of(workers: usize) -> io::Result<TeamHandle> {
        let Teams { process, teams } = Teams::of_this_process();
        let mut teams = teams.lock().unwrap_or_else(PoisonError::into_inner);
        teams.retain(|entry| entry.common.strong_count() > 0);
        let found = teams.iter().find(|entry| entry.workers == workers);
        let common = match found.and_then(|entry| entry.common.upgrade()) {
            Some(common) => common,
            None => {
                let team = Team::new(workers)?;
                let common = Arc::new(Common { shared: team.shared.clone(), team: Mutex::new(team) });
                teams.push(Entry { workers, common: Arc::downgrade(&common) });
                common
            }
        };
        Ok(TeamHandle { common, process: *process })
    }

    /// How many workers there are, the caller included.
    pub fn size(&self) -> usize {
        self.common.shared.inside.count
    }

    /// [`Team::alone`]
    pub fn alone(&self, job: Job<'_>) {
        self.common.shared.by_one(job);
    }

    /// [`Team::share`], or all shares on the caller's thread where the team runs for another.
    ///
    /// # Panics
    ///
    /// As [`Team::run`].
    pub fn share(&self, experience: &mut Experience, kind: Work, work: usize, job: Job<'_>) {
        if self.size() == 1 {
            return self.alone(job);
        }
        if self.process == std::process::id() {
            match self.common.team.try_lock() {
                Ok(mut team) => return team.share(experience, kind, work, job),
                // Whoever panicked in it has left it ready for the next.
                Err(TryLockError::Poisoned(team)) => {
                    return team.into_inner().share(experience, kind, work, job);
                }
                Err(TryLockError::WouldBlock) => {}
            }
        }
        self.common.shared.all_shares(&Watch::none(), job);
    }
}
