//! Outputs: a regular file is written whole or not at all; what is no regular file is opened and written.

use crate::disk::{self, Handle, directory_of};
use crate::error::FileError;
use std::fs::{self, File, Metadata};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, BufWriter, Cursor, Seek, Write};
use std::path::{Path, PathBuf};

/// What contents are written to.
pub trait Output: Write + Seek {}

impl<T: Write + Seek> Output for T {}

/// Writes an output.
///
/// A regular file: at every moment, whatever fails, `path` holds either all of the old contents or all of the new. They are
/// written into a neighbour first, which is forced to the disk and then renamed; it takes the mode of the file that it
/// replaces, and its owner where the system allows that. A symbolic link stays, and what it leads to is written. Devices,
/// pipes and `/dev/stdout` are opened and written, and never replaced.
///
/// # Errors
/// What the system says, and a file that may not be written, though its directory may.
pub fn write_whole(
    path: &Path,
    contents: impl FnOnce(&mut dyn Output) -> io::Result<()>,
) -> Result<(), FileError> {
    let written = match Target::of(path) {
        Ok(Target::File(file)) => replace(&file, contents),
        Ok(Target::Stream(stream)) => pour(stream, contents),
        Err(error) => Err(error),
    };
    written.map_err(|e| FileError::write(path, e))
}

/// Where a path leads.
enum Target {
    /// A regular file, there or not yet, at the end of all links.
    File(PathBuf),
    /// Something that takes bytes one after the other.
    Stream(Box<dyn Write>),
}

impl Target {
    fn of(path: &Path) -> io::Result<Target> {
        /// As many as Linux follows.
        const LINKS: usize = 40;
        let mut place = path.to_path_buf();
        for _ in 0..=LINKS {
            if let Some(stream) = open_descriptor(&place)? {
                return Ok(Target::Stream(stream));
            }
            let kind = match fs::symlink_metadata(&place) {
                Ok(found) => found.file_type(),
                Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Target::File(place)),
                Err(e) => return Err(e),
            };
            if kind.is_file() {
                return Ok(Target::File(place));
            } else if kind.is_dir() {
                return Err(io::ErrorKind::IsADirectory.into());
            } else if !kind.is_symlink() {
                return Ok(Target::Stream(Box::new(File::options().write(true).open(&place)?)));
            }
            place = directory_of(&place).join(fs::read_link(&place)?);
        }
        Err(io::Error::new(io::ErrorKind::InvalidInput, "too many symbolic links"))
    }
}

/// What the process has open already: `/dev/stdout` leads to `/proc/self/fd/1`. It may be a regular file that others write
/// to as well, or that has lines already, so it is added to.
fn open_descriptor(path: &Path) -> io::Result<Option<Box<dyn Write>>> {
    let own = || fs::canonicalize("/proc/self/fd").ok();
    if !fs::canonicalize(directory_of(path)).is_ok_and(|d| d.starts_with("/proc") && Some(d) == own()) {
        return Ok(None);
    }
    Ok(Some(match path.file_name().and_then(|name| name.to_str()) {
        Some("1") => Box::new(io::stdout()),
        Some("2") => Box::new(io::stderr()),
        _ => Box::new(File::options().append(true).open(path)?),
    }))
}

/// Writes all at once to what cannot go back.
fn pour(
    mut stream: Box<dyn Write>,
    contents: impl FnOnce(&mut dyn Output) -> io::Result<()>,
) -> io::Result<()> {
    let mut whole = Cursor::new(Vec::new());
    contents(&mut whole)?;
    stream.write_all(&whole.into_inner())?;
    stream.flush()
}

fn replace(path: &Path, contents: impl FnOnce(&mut dyn Output) -> io::Result<()>) -> io::Result<()> {
    // A file that may not be written is not replaced either, though its directory would let that happen.
    let old = match File::options().write(true).open(path) {
        Ok(old) => Some(old.metadata()?),
        Err(e) if e.kind() == io::ErrorKind::NotFound => None,
        Err(e) => return Err(e),
    };
    remove_partials(path);
    let (partial, handle) = create_partial(path).map_err(|e| match old {
        // The file's own mode does not tell why.
        Some(_) => io::Error::new(e.kind(), format!("no new file can be made in its directory: {e}")),
        None => e,
    })?;
    let written = fill(handle, old, contents).and_then(|handle| {
        disk::rename(&partial, path)?;
        // It is locked until it has its name.
        drop(handle);
        Ok(())
    });
    if written.is_err() {
        // Best effort: the error to report is the first one. Whoever writes there next removes what is left.
        let _ = disk::remove(&partial);
        return written;
    }
    // The rename itself is on the disk only when the directory is.
    disk::sync_directory_of(path)
}

fn fill(
    handle: Handle,
    old: Option<Metadata>,
    contents: impl FnOnce(&mut dyn Output) -> io::Result<()>,
) -> io::Result<Handle> {
    // Before there is anything to be read by those who might not read the old.
    if let Some(old) = old {
        handle.take_permissions(&old)?;
    }
    let mut out = BufWriter::new(handle);
    contents(&mut out)?;
    out.flush()?;
    out.get_ref().sync()?;
    // It was flushed.
    Ok(out.into_parts().0)
}

/// How the names of neighbours begin and end: `.NAME.` and `.partial`. A long name is cut, for the whole to be one.
fn partial_name(path: &Path) -> io::Result<(String, &'static str)> {
    let name = path.file_name().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "no file name"))?;
    let name = name.to_string_lossy();
    let end = (0..=name.len().min(180)).rev().find(|&end| name.is_char_boundary(end)).unwrap_or(0);
    Ok((format!(".{}.", &name[..end]), ".partial"))
}

/// Makes a neighbour in the same directory, for a rename does not cross file systems. No other process has its name, and
/// it is locked as long as its writer lives.
fn create_partial(path: &Path) -> io::Result<(PathBuf, Handle)> {
    let (begin, end) = partial_name(path)?;
    loop {
        let random = RandomState::new().hash_one(std::process::id());
        let partial = path.with_file_name(format!("{begin}{random:016x}{end}"));
        match disk::create_new(&partial) {
            // Where there are no locks, nobody takes it for one of a dead process either.
            Ok(handle) if handle.file().lock().is_err() || is_linked(handle.file())? => {
                return Ok((partial, handle));
            }
            // Removed between its making and its locking.
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e),
        }
    }
}

/// Removes neighbours that dead processes left: whoever lives holds a lock. Best effort.
#[cfg(unix)]
fn remove_partials(path: &Path) {
    let Ok((begin, end)) = partial_name(path) else { return };
    let Ok(entries) = fs::read_dir(directory_of(path)) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let middle = name.to_str().and_then(|n| n.strip_prefix(&begin)?.strip_suffix(end));
        let ours = middle.is_some_and(|m| m.len() == 16 && m.bytes().all(|b| b.is_ascii_hexdigit()));
        if !ours || !entry.file_type().is_ok_and(|kind| kind.is_file()) {
            continue;
        }
        if let Ok(left) = File::open(entry.path())
            && left.try_lock().is_ok()
        {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Elsewhere an open file cannot be removed, nor asked whether it was.
#[cfg(not(unix))]
fn remove_partials(_: &Path) {}

/// Whether an open file still has a name.
#[cfg(unix)]
pub fn is_linked(file: &File) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    Ok(file.metadata()?.nlink() > 0)
}

#[cfg(not(unix))]
pub fn is_linked(_: &File) -> io::Result<bool> {
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Operation;
    use crate::disk::faults::{Fault, all_faults, with_fault};

    fn write(path: &Path, contents: &[u8]) -> Result<(), FileError> {
        write_whole(path, |out| out.write_all(contents))
    }

    fn names(directory: &Path) -> usize {
        fs::read_dir(directory).unwrap().count()
    }

    #[test]
    fn a_write_that_fails_half_way_leaves_the_old_contents_and_no_litter() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("kept");
        write(&path, b"old").unwrap();
        let error = write_whole(&path, |out| {
            out.write_all(&[1; 100_000])?;
            Err(io::Error::from(io::ErrorKind::StorageFull))
        })
        .unwrap_err();
        assert!(error.to_string().starts_with(&format!("cannot write {}: ", path.display())));
        assert!(!error.is_bad_input());
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(names(directory.path()), 1);
    }

    #[test]
    fn new_contents_replace_the_old() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("kept");
        write(&path, b"old and long").unwrap();
        write(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
    }

    #[test]
    fn contents_are_on_the_disk_before_they_have_their_name_and_the_name_is_before_the_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("kept");
        for old in [false, true] {
            let (written, mut done) = with_fault(None, || write(&path, &[7; 100_000]));
            written.unwrap();
            done.dedup();
            use Operation::*;
            let expected = [Open, Permissions, Write, SyncFile, Rename, SyncDirectory];
            let expected: Vec<_> = expected.into_iter().filter(|o| old || *o != Permissions).collect();
            assert_eq!(done, expected);
        }
    }

    /// Does something with an output again and again: first each operation on the disk fails, in each way, and then none.
    #[test]
    fn whatever_fails_a_file_holds_all_of_the_old_or_all_of_the_new() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("kept");
        let (old, new) = (vec![1; 40_000], vec![2; 30_000]);
        for fault in all_faults() {
            for place in 0.. {
                write(&path, &old).unwrap();
                let (written, done) = with_fault(Some((place, fault)), || write(&path, &new));
                let found = fs::read(&path).unwrap();
                let named = done.iter().position(|o| *o == Operation::Rename);
                match &written {
                    Ok(()) => assert_eq!(found, new),
                    Err(error) => {
                        let begin = format!("cannot write {}: ", path.display());
                        assert!(error.to_string().starts_with(&begin), "{error}");
                        // All new, if the fault came after it had its name.
                        assert_eq!(found, if named.is_some_and(|n| n < place) { &*new } else { &*old });
                    }
                }
                let harmless =
                    matches!(fault, Fault::Short | Fault::Cut | Fault::Fails(io::ErrorKind::Interrupted));
                assert!(written.is_err() || harmless || done.len() <= place, "{fault:?} {place}");
                write(&path, &new).unwrap();
                assert_eq!(fs::read(&path).unwrap(), new);
                assert_eq!(names(directory.path()), 1, "what is left is removed by the next");
                if done.len() <= place {
                    assert!(place > 5);
                    break;
                }
            }
        }
    }

    #[test]
    fn a_directory_that_cannot_be_synced_has_the_file_all_the_same() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("kept");
        let ((), done) = with_fault(None, || write(&path, b"old").unwrap());
        let place = done.iter().position(|o| *o == Operation::SyncDirectory).unwrap();
        use io::ErrorKind::{InvalidInput, Other, PermissionDenied, Unsupported};
        for (kind, is_harmless) in
            [(InvalidInput, true), (PermissionDenied, true), (Unsupported, true), (Other, false)]
        {
            fs::remove_file(&path).unwrap();
            let (written, _) = with_fault(Some((place, Fault::Fails(kind))), || write(&path, b"new"));
            assert_eq!(written.is_ok(), is_harmless, "{kind:?}");
            assert_eq!(fs::read(&path).unwrap(), b"new");
        }
    }

    #[test]
    fn what_dead_processes_left_is_removed_and_what_is_being_written_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("kept");
        let (living, _handle) = create_partial(&path).unwrap();
        let dead = directory.path().join(".kept.0123456789abcdef.partial");
        let others = [".kept.partial", ".kept.mine.partial", ".keptx.0123456789abcdef.partial"];
        let others = others.map(|name| directory.path().join(name));
        others.iter().chain([&dead]).for_each(|path| fs::write(path, "left").unwrap());
        write(&path, b"new").unwrap();
        assert!(others.iter().all(|path| path.exists()));
        assert!(living.exists() && !dead.exists());
    }

    #[test]
    fn a_name_as_long_as_can_be_is_written() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["n".repeat(255), "\u{20ac}".repeat(85)] {
            write(&directory.path().join(name), b"new").unwrap();
        }
        assert_eq!(names(directory.path()), 2);
    }

    #[test]
    fn many_writers_of_one_file_do_not_disturb_each_other() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("kept");
        std::thread::scope(|scope| {
            for writer in 0..4u8 {
                let path = &path;
                scope.spawn(move || {
                    for _ in 0..30 {
                        write(path, &[writer; 9_000]).unwrap();
                        let found = fs::read(path).unwrap();
                        assert!(found.len() == 9_000 && found.iter().all(|b| *b == found[0]));
                    }
                });
            }
        });
        assert_eq!(names(directory.path()), 1);
    }

    #[test]
    fn a_directory_is_no_output() {
        let directory = tempfile::tempdir().unwrap();
        let error = write(directory.path(), b"new").unwrap_err().to_string();
        assert!(error.contains("is a directory"), "{error}");
    }

    #[cfg(unix)]
    mod unix {
        use super::*;
        use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
        use std::process::Command;

        #[test]
        fn a_link_stays_and_what_it_leads_to_is_written() {
            let directory = tempfile::tempdir().unwrap();
            let path = |name: &str| directory.path().join(name);
            fs::create_dir(path("far")).unwrap();
            symlink("far/kept", path("near")).unwrap();
            symlink(path("near"), path("nearer")).unwrap();
            for contents in [b"old", b"new"] {
                write(&path("nearer"), contents).unwrap();
                assert_eq!(fs::read(path("far/kept")).unwrap(), contents);
            }
            assert!(
                path("nearer").is_symlink() && path("near").is_symlink() && !path("far/kept").is_symlink()
            );
            symlink("round", path("round")).unwrap();
            assert!(
                write(&path("round"), b"new").unwrap_err().to_string().contains("too many symbolic links")
            );
        }

        #[test]
        fn a_file_keeps_its_mode_and_one_that_may_not_be_written_its_contents() {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("kept");
            write(&path, b"old").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
            write(&path, b"new").unwrap();
            assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o640);
            fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
            // The administrator may.
            if File::options().write(true).open(&path).is_err() {
                write(&path, b"newer").unwrap_err();
                assert_eq!(fs::read(&path).unwrap(), b"new");
            }
        }

        #[test]
        fn a_pipe_is_written_and_stays() {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("pipe");
            assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
            let reader = std::thread::spawn({
                let path = path.clone();
                move || fs::read(path).unwrap()
            });
            // What goes back to fill in what it left open, as archives do, is written all the same.
            write_whole(&path, |out| {
                out.write_all(b"?ew")?;
                out.rewind()?;
                out.write_all(b"n")
            })
            .unwrap();
            assert_eq!(reader.join().unwrap(), b"new");
            assert!(fs::metadata(&path).unwrap().file_type().is_fifo());
            assert_eq!(names(directory.path()), 1);
        }

        #[test]
        fn a_socket_is_refused_and_stays() {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("socket");
            let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
            write(&path, b"new").unwrap_err();
            assert!(fs::metadata(&path).unwrap().file_type().is_socket());
        }

        #[cfg(target_os = "linux")]
        #[test]
        fn devices_are_written_and_stay() {
            write(Path::new("/dev/null"), b"new").unwrap();
            let error = write(Path::new("/dev/full"), b"new").unwrap_err().to_string();
            assert!(error.starts_with("cannot write /dev/full: No space left"), "{error}");
            for device in ["/dev/null", "/dev/full"] {
                assert!(fs::metadata(device).unwrap().file_type().is_char_device());
            }
        }
    }
}
