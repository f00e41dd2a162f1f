//! Files that are written whole or not at all.

use crate::error::TrainError;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// Writes a file so that at every moment, whatever fails, `path` holds either all of the old contents or all of
/// the new: into a neighbour first, which is forced to the disk and then renamed.
pub fn write_whole(
    path: &Path,
    contents: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> Result<(), TrainError> {
    let neighbour = neighbour(path).map_err(|e| TrainError::write(path, e))?;
    let written = write_and_rename(&neighbour, path, contents);
    if written.is_err() {
        // Best effort: the error to report is the first one. The next attempt overwrites what is left.
        let _ = fs::remove_file(&neighbour);
    }
    written.map_err(|e| TrainError::write(path, e))
}

/// The same directory, for a rename does not cross file systems; one name per file, for leftovers not to gather.
fn neighbour(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "no file name"))?;
    let mut partial = std::ffi::OsString::from(".");
    partial.push(name);
    partial.push(".partial");
    Ok(path.with_file_name(partial))
}

fn write_and_rename(
    neighbour: &Path,
    path: &Path,
    contents: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> io::Result<()> {
    let mut out = BufWriter::new(File::create(neighbour)?);
    contents(&mut out)?;
    out.flush()?;
    out.get_ref().sync_all()?;
    drop(out);
    fs::rename(neighbour, path)?;
    sync_directory(path)
}

/// The rename itself is on the disk only when the directory is.
#[cfg(unix)]
fn sync_directory(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent)?.sync_all()
}

/// Elsewhere directories cannot be opened as files.
#[cfg(not(unix))]
fn sync_directory(_: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_that_fails_half_way_leaves_the_old_contents_and_no_litter() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("kept");
        write_whole(&path, |out| out.write_all(b"old")).unwrap();
        let error = write_whole(&path, |out| {
            out.write_all(&[1; 100_000])?;
            Err(io::Error::from(io::ErrorKind::StorageFull))
        })
        .unwrap_err();
        assert!(error.to_string().starts_with(&format!("cannot write {}: ", path.display())));
        assert!(!error.is_bad_input());
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_neighbour_that_cannot_be_made_leaves_the_old_contents() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("kept");
        write_whole(&path, |out| out.write_all(b"old")).unwrap();
        fs::create_dir(directory.path().join(".kept.partial")).unwrap();
        write_whole(&path, |out| out.write_all(b"new")).unwrap_err();
        assert_eq!(fs::read(&path).unwrap(), b"old");
    }

    #[test]
    fn new_contents_replace_the_old() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("kept");
        write_whole(&path, |out| out.write_all(b"old and long")).unwrap();
        write_whole(&path, |out| out.write_all(b"new")).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
    }
}
