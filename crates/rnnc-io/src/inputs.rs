//! Files that are read: their sizes are known, or bounded, before memory is taken.

use crate::error::FileError;
use crate::kind::{Wanted, check_kind};
use rnnc_plan::{ExecutorError, check_available};
use std::fs::{self, File, FileType};
use std::io::{self, Read};
use std::path::Path;

/// Bytes of a text that people write, or a program for them: networks, settings.
const TEXT: u64 = 16 << 20;

/// Reads a text of at most 16 MiB, from a file or a pipe.
///
/// # Errors
/// What cannot be read, is longer, or is not UTF-8.
pub fn read_text(path: &Path) -> Result<String, FileError> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(TEXT + 1).read_to_end(&mut bytes))
        .map_err(|e| FileError::read(path, e))?;
    if bytes.len() as u64 > TEXT {
        return Err(FileError::contents(path, "longer than 16 MiB: networks and settings are short texts"));
    }
    String::from_utf8(bytes).map_err(|e| {
        let place = e.utf8_error().valid_up_to();
        let utf16 = match e.as_bytes() {
            [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => " (it is UTF-16, perhaps)",
            _ => "",
        };
        FileError::contents(
            path,
            format!("not a text in UTF-8: byte {place} is the first that is none{utf16}; save it as UTF-8"),
        )
    })
}

/// Reads a text of networks, of at most 16 MiB, from a file or a pipe.
///
/// # Errors
/// A file of another kind, and as [`read_text`].
pub fn read_network(path: &Path) -> Result<String, FileError> {
    check_kind(path, Wanted::Network)?;
    read_text(path)
}

/// Opens a file of numbers or data, which is read at any place and whose length is known: gives both.
///
/// # Errors
/// What cannot be opened; directories, pipes and devices.
pub fn open_regular(path: &Path) -> Result<(File, u64), FileError> {
    let length = regular_length(path)?;
    let file = File::open(path).map_err(|e| FileError::read(path, e))?;
    Ok((file, length))
}

/// The length of a file that [`open_regular`] opens, without opening it: a pipe would be waited for.
pub fn regular_length(path: &Path) -> Result<u64, FileError> {
    let found = fs::metadata(path).map_err(|e| FileError::read(path, e))?;
    if !found.is_file() {
        let problem = format!("it is {}, not a regular file", name(found.file_type()));
        return Err(FileError::read(path, io::Error::new(io::ErrorKind::InvalidInput, problem)));
    }
    Ok(found.len())
}

#[cfg(unix)]
fn name(kind: FileType) -> &'static str {
    use std::os::unix::fs::FileTypeExt;
    if kind.is_dir() {
        "a directory"
    } else if kind.is_fifo() {
        "a pipe"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    }
}

#[cfg(not(unix))]
fn name(kind: FileType) -> &'static str {
    if kind.is_dir() { "a directory" } else { "something else" }
}

/// Room for so many elements, if there is memory for them.
pub fn reserve<T>(count: usize, what: &str) -> Result<Vec<T>, ExecutorError> {
    let mut room = Vec::new();
    check::<T>(count, what)?;
    // The system may know of a limit that `check_available` does not.
    room.try_reserve_exact(count).map_err(|_| none::<T>(count, what))?;
    Ok(room)
}

/// Room for so many elements more, if there is memory for them.
pub fn make_room<T>(values: &mut Vec<T>, more: usize, what: &str) -> Result<(), ExecutorError> {
    if values.capacity() - values.len() < more {
        check::<T>(more, what)?;
        values.try_reserve(more).map_err(|_| none::<T>(more, what))?;
    }
    Ok(())
}

fn check<T>(count: usize, what: &str) -> Result<(), ExecutorError> {
    let bytes = bytes::<T>(count);
    // Small amounts are not worth asking for.
    if bytes > 1 << 20 { check_available(what, bytes) } else { Ok(()) }
}

fn none<T>(count: usize, what: &str) -> ExecutorError {
    ExecutorError::Memory { what: what.into(), bytes: bytes::<T>(count), available: 0 }
}

fn bytes<T>(count: usize) -> u128 {
    count as u128 * size_of::<T>() as u128
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_without_end_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("long");
        File::create(&path).unwrap().set_len(TEXT + 1).unwrap();
        assert!(
            read_text(&path)
                .unwrap_err()
                .to_string()
                .ends_with("longer than 16 MiB: networks and settings are short texts")
        );
        File::create(&path).unwrap().set_len(TEXT).unwrap();
        assert_eq!(read_text(&path).unwrap().len() as u64, TEXT);
        if cfg!(target_os = "linux") {
            read_text(Path::new("/dev/zero")).unwrap_err();
        }
        fs::write(&path, b"ab\xff").unwrap();
        assert!(read_text(&path).unwrap_err().to_string().contains("byte 2 is the first that is none; save"));
        fs::write(&path, b"\xff\xfea\0").unwrap();
        assert!(read_text(&path).unwrap_err().to_string().contains("(it is UTF-16, perhaps)"));
    }

    #[test]
    fn directories_and_devices_are_no_data() {
        let directory = tempfile::tempdir().unwrap();
        let error = open_regular(directory.path()).unwrap_err().to_string();
        assert!(error.ends_with(": it is a directory, not a regular file"), "{error}");
        if cfg!(target_os = "linux") {
            let error = open_regular(Path::new("/dev/zero")).unwrap_err().to_string();
            assert_eq!(error, "cannot read /dev/zero: it is a device, not a regular file");
        }
    }

    #[test]
    fn memory_that_is_not_there_is_an_error() {
        let error = reserve::<u64>(usize::MAX / 16, "all").unwrap_err().to_string();
        assert!(error.contains("bytes"), "{error}");
        assert_eq!(reserve::<u64>(9, "nine").unwrap().capacity(), 9);
    }
}
