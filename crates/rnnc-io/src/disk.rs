//! The operations on the disk that outputs are made of, each in one place, so that tests let any of them fail.

use std::fs::{self, File, Metadata};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A file is made, or opened to be added to.
    Open,
    /// Owner and mode are set.
    Permissions,
    /// Bytes are written.
    Write,
    /// The place of the next write is set.
    Seek,
    /// Contents are forced to the disk.
    SyncFile,
    /// A file takes another's name.
    Rename,
    /// Names are forced to the disk.
    SyncDirectory,
    /// A file is removed.
    Remove,
}

/// A file that is being written.
#[derive(Debug)]
pub struct Handle(File);

/// Makes a file that is not there yet.
pub(crate) fn create_new(path: &Path) -> io::Result<Handle> {
    begin(Operation::Open)?;
    File::create_new(path).map(Handle)
}

/// Opens a file to be added to.
pub fn append(path: &Path) -> io::Result<Handle> {
    begin(Operation::Open)?;
    File::options().append(true).open(path).map(Handle)
}

pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    begin(Operation::Rename)?;
    fs::rename(from, to)
}

/// Removes a file.
///
/// # Errors
/// As the system says.
pub fn remove(path: &Path) -> io::Result<()> {
    begin(Operation::Remove)?;
    fs::remove_file(path)
}

/// Forces the names in the directory that `path` stands in to the disk, where that can be asked for.
#[cfg(unix)]
pub(crate) fn sync_directory_of(path: &Path) -> io::Result<()> {
    use io::ErrorKind::{InvalidInput, PermissionDenied, Unsupported};
    let synced = begin(Operation::SyncDirectory)
        .and_then(|()| File::open(directory_of(path)))
        .and_then(|directory| directory.sync_all());
    match synced {
        // A directory that may be written to and not be read, or a file system that has no such request: the file is there.
        Err(e) if matches!(e.kind(), InvalidInput | PermissionDenied | Unsupported) => Ok(()),
        other => other,
    }
}

/// Elsewhere directories cannot be opened as files.
#[cfg(not(unix))]
pub(crate) fn sync_directory_of(_: &Path) -> io::Result<()> {
    Ok(())
}

/// The directory that a path stands in.
pub(crate) fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

impl Handle {
    /// The file itself.
    pub fn file(&self) -> &File {
        &self.0
    }

    /// Forces the contents to the disk.
    pub fn sync(&self) -> io::Result<()> {
        begin(Operation::SyncFile)?;
        self.0.sync_all()
    }

    /// Takes the mode of another file, and its owner where the system allows that.
    #[cfg(unix)]
    pub(crate) fn take_permissions(&self, of: &Metadata) -> io::Result<()> {
        use std::os::unix::fs::{MetadataExt, fchown};
        begin(Operation::Permissions)?;
        let own = self.0.metadata()?;
        // Only the administrator gives files away: for others the group may do, or neither.
        if own.uid() != of.uid() && fchown(&self.0, Some(of.uid()), Some(of.gid())).is_err()
            || own.gid() != of.gid()
        {
            let _ = fchown(&self.0, None, Some(of.gid()));
        }
        self.0.set_permissions(of.permissions())
    }

    #[cfg(not(unix))]
    pub(crate) fn take_permissions(&self, of: &Metadata) -> io::Result<()> {
        begin(Operation::Permissions)?;
        self.0.set_permissions(of.permissions())
    }
}

impl Write for Handle {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let bytes = begin_write(Operation::Write, bytes)?;
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Seek for Handle {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        begin(Operation::Seek)?;
        self.0.seek(to)
    }
}

/// Comes before each operation; tests let it fail.
#[cfg(not(any(test, feature = "faults")))]
fn begin(_: Operation) -> io::Result<()> {
    Ok(())
}

/// Comes before each write, with what is to be written.
#[cfg(not(any(test, feature = "faults")))]
fn begin_write(_: Operation, bytes: &[u8]) -> io::Result<&[u8]> {
    Ok(bytes)
}

#[cfg(any(test, feature = "faults"))]
use faults::{begin, begin_write};

/// Faults of a disk, for tests: of the operations that this thread does, from now on.
#[cfg(any(test, feature = "faults"))]
pub mod faults {
    use super::Operation;
    use std::cell::RefCell;
    use std::io;

    /// What goes wrong.
    #[derive(Clone, Copy, Debug)]
    pub enum Fault {
        /// The operation fails.
        Fails(io::ErrorKind),
        /// It and all that follow fail, as if the process had ended there.
        Ends,
        /// A write takes a part of the bytes, and whatever is written after it fails. Other operations succeed.
        Cut,
        /// A write takes a part of the bytes. Other operations succeed.
        Short,
    }

    #[derive(Default)]
    struct Disk {
        fault: Option<(usize, Fault)>,
        done: Vec<Operation>,
    }

    thread_local! {
        static DISK: RefCell<Disk> = RefCell::default();
    }

    /// Does something on a disk whose operation `place`, from 0, goes wrong; gives its result and the operations that it
    /// did or tried.
    pub fn with_fault<T>(
        fault: Option<(usize, Fault)>,
        something: impl FnOnce() -> T,
    ) -> (T, Vec<Operation>) {
        DISK.set(Disk { fault, done: Vec::new() });
        let result = something();
        (result, DISK.take().done)
    }

    /// Each way to go wrong.
    pub fn all_faults() -> [Fault; 6] {
        use io::ErrorKind::{Interrupted, Other, StorageFull};
        let errors = [StorageFull, Other, Interrupted].map(Fault::Fails);
        [errors[0], errors[1], errors[2], Fault::Ends, Fault::Cut, Fault::Short]
    }

    pub(super) fn begin(operation: Operation) -> io::Result<()> {
        begin_write(operation, &[]).map(|_| ())
    }

    /// Gives the bytes that may be written.
    pub(super) fn begin_write(operation: Operation, bytes: &[u8]) -> io::Result<&[u8]> {
        DISK.with_borrow_mut(|disk| {
            let now = disk.done.len();
            disk.done.push(operation);
            let Some((place, fault)) = disk.fault else { return Ok(bytes) };
            match fault {
                Fault::Fails(kind) if now == place => Err(kind.into()),
                Fault::Ends if now >= place => Err(io::Error::other("the process has ended")),
                Fault::Cut if operation == Operation::Write && now > place => {
                    Err(io::ErrorKind::StorageFull.into())
                }
                Fault::Cut | Fault::Short if now == place => Ok(&bytes[..bytes.len().div_ceil(2)]),
                _ => Ok(bytes),
            }
        })
    }
}
