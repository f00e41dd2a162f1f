//! One team for all that want the same number of workers, from whichever thread they call.
//!
//! A team has one run at a time. Whoever comes while it runs for another does all shares itself, on its own thread: results are the
//! same to the bit, nobody waits for a lock, and no two runs can wait for each other. So does a forked process, which has
//! none of the threads.

use super::{Experience, Job, Shared, Team, Watch, Work};
use std::io;
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

/// The process's teams that are in use, one for each number of workers that was asked for.
static TEAMS: Mutex<Vec<Entry>> = Mutex::new(Vec::new());

struct Entry {
    process: u32,
    workers: usize,
    common: Weak<Common>,
}

impl TeamHandle {
    /// The process's team of so many workers. Its threads begin with its first user and end with its last.
    ///
    /// # Errors
    ///
    /// If the system refuses a thread.
    pub fn of(workers: usize) -> io::Result<TeamHandle> {
        let mut teams = TEAMS.lock().unwrap_or_else(PoisonError::into_inner);
        teams.retain(|entry| entry.common.strong_count() > 0);
        let process = std::process::id();
        let found = teams.iter().find(|entry| (entry.process, entry.workers) == (process, workers));
        let common = match found.and_then(|entry| entry.common.upgrade()) {
            Some(common) => common,
            None => {
                let team = Team::new(workers)?;
                let common = Arc::new(Common { shared: team.shared.clone(), team: Mutex::new(team) });
                teams.push(Entry { process, workers, common: Arc::downgrade(&common) });
                common
            }
        };
        Ok(TeamHandle { common, process })
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
