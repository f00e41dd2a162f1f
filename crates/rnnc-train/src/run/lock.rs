//! One writer a directory: a file in it that a process holds locked for as long as it lives, however it ends.

use crate::error::TrainError;
use rnnc_io::is_linked;
use std::fs::{File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

/// The file's name. It holds the number of the process.
const NAME: &str = ".rnnc.lock";

/// That no other process writes to a directory, until this is dropped.
#[derive(Debug)]
pub struct DirectoryLock {
    path: PathBuf,
    file: File,
    held: bool,
}

impl DirectoryLock {
    /// Takes the lock of a directory that is there.
    ///
    /// # Errors
    /// Another process that has it, by its number; a directory that cannot be written.
    pub(crate) fn take(directory: &Path) -> Result<DirectoryLock, TrainError> {
        let path = directory.join(NAME);
        let fail = |e: io::Error| TrainError::write(&path, e);
        let elses = || {
            TrainError::file(
                &path,
                "a run keeps its lock under this name, and something else is there: move it away, or name another \
                 `run.directory`",
            )
        };
        // The number is not to be written over what a link leads to.
        if std::fs::symlink_metadata(&path).is_ok_and(|found| !found.is_file()) {
            return Err(elses());
        }
        loop {
            let open = File::options().read(true).write(true).create(true).truncate(false).open(&path);
            let mut file = open.map_err(fail)?;
            match file.try_lock() {
                // Whoever had it may have removed it after it was opened here.
                Ok(()) if !is_linked(&file).map_err(fail)? => {}
                Ok(()) => {
                    let mut before = String::new();
                    let is_lock = (&file).take(21).read_to_string(&mut before).is_ok()
                        && before.len() <= 20
                        && before.trim_end().bytes().all(|byte| byte.is_ascii_digit());
                    if !is_lock {
                        return Err(elses());
                    }
                    let number = format!("{}\n", std::process::id());
                    // Only messages read it, so that a full disk is no reason to stop.
                    let _ = file.set_len(0).and_then(|()| file.rewind());
                    let _ = file.write_all(number.as_bytes());
                    return Ok(DirectoryLock { path, file, held: true });
                }
                Err(TryLockError::WouldBlock) => {
                    let mut number = String::new();
                    let _ = file.take(20).read_to_string(&mut number);
                    let by = match number.trim() {
                        "" => String::new(),
                        number => format!(" (process {number})"),
                    };
                    return Err(TrainError::file(
                        directory,
                        format!(
                            "another rnnc train{by} writes to this directory: wait for it to end, or name another \
                             `run.directory`"
                        ),
                    ));
                }
                // A file system without locks.
                Err(TryLockError::Error(_)) => return Ok(DirectoryLock { path, file, held: false }),
            }
        }
    }

    /// Whether it is a lock at all: some file systems, of clusters for one, have none.
    pub fn is_held(&self) -> bool {
        self.held
    }

    /// Refuses a directory that is not the one that was locked, though it has the same path: whoever moves one away may make
    /// another, and lock that.
    pub(crate) fn check(&self) -> io::Result<()> {
        match !self.held || is_at(&self.file, &self.path)? {
            true => Ok(()),
            false => Err(io::Error::other(
                "the run's directory was moved, removed or replaced while the run went on",
            )),
        }
    }
}

/// Whether an open file has this path, and no other file has it now.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let own = file.metadata()?;
    match std::fs::symlink_metadata(path) {
        Ok(found) => Ok((found.dev(), found.ino()) == (own.dev(), own.ino())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}

/// Elsewhere a directory with an open file in it is not moved.
#[cfg(not(unix))]
fn is_at(_: &File, _: &Path) -> io::Result<bool> {
    Ok(true)
}

impl Drop for DirectoryLock {
    fn drop(&mut self) {
        // Where open files cannot be removed it stays, and does no harm.
        if self.held && self.check().is_ok() {
            let _ = std::fs::remove_file(&self.path);
        }
        let _ = self.file.unlock();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_writer_of_a_directory_is_refused_with_the_number_of_the_first() {
        let directory = tempfile::tempdir().unwrap();
        let first = DirectoryLock::take(directory.path()).unwrap();
        assert!(first.is_held());
        let error = DirectoryLock::take(directory.path()).unwrap_err().to_string();
        let number = std::process::id();
        assert!(error.contains(&format!("another rnnc train (process {number}) writes to")), "{error}");
        drop(first);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
        DirectoryLock::take(directory.path()).unwrap();
    }

    #[test]
    fn the_file_of_a_dead_process_is_no_lock() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join(NAME), "4000000000\n").unwrap();
        let lock = DirectoryLock::take(directory.path()).unwrap();
        let number = std::fs::read_to_string(directory.path().join(NAME)).unwrap();
        assert_eq!(number, format!("{}\n", std::process::id()));
        drop(lock);
    }

    #[test]
    fn a_file_that_holds_no_number_is_somebodys_and_stays() {
        let directory = tempfile::tempdir().unwrap();
        for text in ["precious", "12 monkeys", "123456789012345678901234567890"] {
            std::fs::write(directory.path().join(NAME), text).unwrap();
            let error = DirectoryLock::take(directory.path()).unwrap_err().to_string();
            assert!(error.contains("something else is there"), "{error}");
            assert_eq!(std::fs::read_to_string(directory.path().join(NAME)).unwrap(), text);
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_lock_is_of_the_directory_that_it_was_taken_in_wherever_that_is_moved() {
        let kept = tempfile::tempdir().unwrap();
        let (path, moved) = (kept.path().join("run"), kept.path().join("moved"));
        std::fs::create_dir(&path).unwrap();
        let first = DirectoryLock::take(&path).unwrap();
        first.check().unwrap();
        std::fs::rename(&path, &moved).unwrap();
        assert!(first.check().unwrap_err().to_string().contains("moved, removed or replaced"));
        std::fs::create_dir(&path).unwrap();
        let second = DirectoryLock::take(&path).unwrap();
        assert!(first.check().is_err() && second.check().is_ok());
        drop(first);
        // The second's is not taken from it by the end of the first.
        second.check().unwrap();
        assert!(DirectoryLock::take(&path).unwrap_err().to_string().contains("another rnnc train"));
    }

    #[cfg(unix)]
    #[test]
    fn what_a_link_leads_to_is_no_lock_and_stays() {
        let kept = tempfile::tempdir().unwrap();
        let mine = kept.path().join("mine");
        std::fs::write(&mine, "precious").unwrap();
        std::os::unix::fs::symlink(&mine, kept.path().join(NAME)).unwrap();
        let error = DirectoryLock::take(kept.path()).unwrap_err().to_string();
        assert!(error.contains("something else is there"), "{error}");
        assert_eq!(std::fs::read(&mine).unwrap(), b"precious");
    }

    #[test]
    fn of_many_at_once_one_has_the_lock() {
        use std::sync::atomic::{AtomicUsize, Ordering};
        let directory = tempfile::tempdir().unwrap();
        let (holding, taken) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..300 {
                        if let Ok(lock) = DirectoryLock::take(directory.path()) {
                            assert_eq!(holding.fetch_add(1, Ordering::SeqCst), 0);
                            taken.fetch_add(1, Ordering::SeqCst);
                            std::thread::yield_now();
                            holding.fetch_sub(1, Ordering::SeqCst);
                            drop(lock);
                        }
                    }
                });
            }
        });
        assert!(taken.load(Ordering::SeqCst) > 0);
    }
}
