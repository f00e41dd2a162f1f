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
        loop {
            let open = File::options().read(true).write(true).create(true).truncate(false).open(&path);
            let mut file = open.map_err(fail)?;
            match file.try_lock() {
                // Whoever had it may have removed it after it was opened here.
                Ok(()) if !is_linked(&file).map_err(fail)? => {}
                Ok(()) => {
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
}

impl Drop for DirectoryLock {
    fn drop(&mut self) {
        // Where open files cannot be removed it stays, and does no harm.
        if self.held {
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
        std::fs::write(directory.path().join(NAME), "4000000000 and more").unwrap();
        let lock = DirectoryLock::take(directory.path()).unwrap();
        let number = std::fs::read_to_string(directory.path().join(NAME)).unwrap();
        assert_eq!(number, format!("{}\n", std::process::id()));
        drop(lock);
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
