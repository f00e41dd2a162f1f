//! One team for all who want as many workers, whoever calls from whichever thread.
//!
//! A team has one run at a time. Who comes while it runs for another does all shares itself, on its own thread: results are the
//! same to the bit, nobody waits for a lock, and no two runs can wait for each other. So does a forked process, which has
//! none of the threads.

use super::{Experience, Job, Shared, Team, Watch, Work};
use std::io;
use std::sync::{Arc, Mutex, PoisonError, TryLockError, Weak};

/// A team that is shared: see [`Team`].
#[derive(Clone)]
pub struct TeamHandle {
    /// What is needed of it where it is not free.
    shared: super::sync::Arc<Shared>,
    team: Arc<Mutex<Team>>,
    process: u32,
}

/// The process's teams that are in use.
static TEAMS: Mutex<Vec<Entry>> = Mutex::new(Vec::new());

struct Entry {
    process: u32,
    workers: usize,
    team: Weak<Mutex<Team>>,
}

impl TeamHandle {
    /// The process's team of so many workers. Its threads begin with its first user and end with its last.
    ///
    /// # Errors
    ///
    /// If the system refuses a thread.
    pub fn of(workers: usize) -> io::Result<TeamHandle> {
        let mut teams = TEAMS.lock().unwrap_or_else(PoisonError::into_inner);
        teams.retain(|entry| entry.team.strong_count() > 0);
        let process = std::process::id();
        let found = teams.iter().find(|entry| (entry.process, entry.workers) == (process, workers));
        let team = match found.and_then(|entry| entry.team.upgrade()) {
            Some(team) => team,
            None => {
                let team = Arc::new(Mutex::new(Team::new(workers)?));
                teams.push(Entry { process, workers, team: Arc::downgrade(&team) });
                team
            }
        };
        let shared = team.lock().unwrap_or_else(PoisonError::into_inner).shared.clone();
        Ok(TeamHandle { shared, team, process })
    }

    /// How many workers there are, the caller included.
    pub fn size(&self) -> usize {
        self.shared.inside.count
    }

    /// [`Team::alone`]
    pub fn alone(&self, job: Job<'_>) {
        self.shared.by_one(job);
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
            match self.team.try_lock() {
                Ok(mut team) => return team.share(experience, kind, work, job),
                // Whoever panicked in it has left it ready for the next.
                Err(TryLockError::Poisoned(team)) => {
                    return team.into_inner().share(experience, kind, work, job);
                }
                Err(TryLockError::WouldBlock) => {}
            }
        }
        self.shared.all_shares(&Watch::none(), job);
    }
}
