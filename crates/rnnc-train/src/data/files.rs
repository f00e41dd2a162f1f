//! Which files a setting of `[data]` names: paths and globs in, each file once.

use crate::error::TrainError;
use glob::Pattern;
use std::collections::{BTreeSet, VecDeque};
use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::path::{Path, PathBuf};

/// Files that a setting names.
#[derive(Clone, Copy, Debug)]
pub struct DataFiles<'a> {
    /// The setting, for messages: `data.files`.
    pub setting: &'a str,
    /// Paths and globs.
    pub patterns: &'a [String],
    /// The directory that they are relative to.
    pub base: &'a Path,
}

impl DataFiles<'_> {
    /// The files: in the order in which they are named, those of a glob sorted by path. A file that has several names, by
    /// links or by the ways that its path can be written, is there once, under the first.
    ///
    /// # Errors
    /// A file that is not there, a glob that no file matches, and a directory that cannot be read.
    pub(crate) fn paths(&self) -> Result<Vec<PathBuf>, TrainError> {
        let (mut files, mut seen) = (Vec::new(), BTreeSet::new());
        for pattern in self.patterns {
            for path in self.matches(pattern)? {
                let found = fs::metadata(&path).map_err(|e| TrainError::read(&path, e))?;
                if seen.insert(identity(&path, &found)?) {
                    files.push(path);
                }
            }
        }
        Ok(files)
    }

    /// The files that a pattern names: itself, if it has none of a glob's signs, or if no other is meant by them.
    fn matches(&self, pattern: &str) -> Result<Vec<PathBuf>, TrainError> {
        let itself = self.base.join(pattern);
        if !is_glob(pattern) {
            return Ok(vec![itself]);
        }
        let bad =
            |problem: String| TrainError::Setting(format!("`{pattern}` in `{}`: {problem}", self.setting));
        let parts = parts(pattern).map_err(bad)?;
        // Before an absolute pattern's first slash stands nothing.
        let root = if pattern.starts_with('/') { PathBuf::from("/") } else { self.base.to_path_buf() };
        let mut files = walk(&parts, root)?;
        files.sort();
        if files.is_empty() && itself.is_file() {
            files.push(itself);
        }
        if files.is_empty() {
            return Err(bad(format!("no file in {} matches", as_directory(self.base).display())));
        }
        Ok(files)
    }
}

/// What two names of one file have in common.
#[cfg(unix)]
fn identity(_: &Path, found: &Metadata) -> Result<(u64, u64), TrainError> {
    use std::os::unix::fs::MetadataExt;
    Ok((found.dev(), found.ino()))
}

#[cfg(not(unix))]
fn identity(path: &Path, _: &Metadata) -> Result<PathBuf, TrainError> {
    fs::canonicalize(path).map_err(|e| TrainError::read(path, e))
}

fn is_glob(text: &str) -> bool {
    text.contains(['*', '?', '['])
}

/// A part of a pattern, between slashes.
enum Part {
    /// This name.
    Name(String),
    /// Names that match.
    Names(Pattern),
    /// `**`: any directories, also none; at the end, any files in them.
    Any,
}

fn parts(pattern: &str) -> Result<Vec<Part>, String> {
    let parts = pattern.split('/').filter(|part| !matches!(*part, "" | "."));
    let part = |part: &str| {
        Ok(match part {
            "**" => Part::Any,
            name if is_glob(name) => Part::Names(Pattern::new(name).map_err(|e| e.to_string())?),
            name => Part::Name(name.into()),
        })
    };
    parts.map(part).collect()
}

/// The files below a directory that match. Each directory is walked once for each part of the pattern that may stand for what
/// is in it: links may lead round in circles. What is not behind a link comes first, for the links to be what is met twice.
fn walk(parts: &[Part], root: PathBuf) -> Result<Vec<PathBuf>, TrainError> {
    let mut files = Vec::new();
    let (mut plain, mut linked) = (vec![(root, 0)], VecDeque::new());
    let mut seen = BTreeSet::new();
    while let Some((directory, at)) = plain.pop().or_else(|| linked.pop_front()) {
        let here = as_directory(&directory);
        let fail = |e| TrainError::read(here, e);
        let found = match fs::metadata(here) {
            Ok(found) if found.is_dir() => found,
            // Where nothing is, nothing matches.
            _ => continue,
        };
        if !seen.insert((identity(here, &found)?, at)) {
            continue;
        }
        let is_last = at + 1 == parts.len();
        if let Part::Name(name) = &parts[at] {
            let path = directory.join(name);
            match is_last {
                true if path.is_file() => files.push(path),
                true => {}
                false if path.is_symlink() => linked.push_back((path, at + 1)),
                false => plain.push((path, at + 1)),
            }
            continue;
        }
        if matches!(parts[at], Part::Any) && !is_last {
            plain.push((directory.clone(), at + 1));
        }
        let matches = |name: &OsStr| match &parts[at] {
            // Bytes that are no text are matched like any sign.
            Part::Names(pattern) => pattern.matches(&name.to_string_lossy()),
            _ => true,
        };
        for entry in fs::read_dir(here).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            if !matches(&entry.file_name()) {
                continue;
            }
            let kind = entry.file_type().map_err(fail)?;
            let path = directory.join(entry.file_name());
            // A link that leads nowhere is no file.
            let end = match kind.is_symlink() {
                true => fs::metadata(entry.path()).map(|found| found.file_type()).ok(),
                false => Some(kind),
            };
            let next = if matches!(parts[at], Part::Any) { at } else { at + 1 };
            match end {
                Some(end) if end.is_file() && is_last => files.push(path),
                Some(end) if end.is_dir() && next < parts.len() => match kind.is_symlink() {
                    true => linked.push_back((path, next)),
                    false => plain.push((path, next)),
                },
                _ => {}
            }
        }
        // The system gives names in no order, and which of two links comes first is to be the same everywhere.
        linked.make_contiguous().sort();
    }
    Ok(files)
}

/// A directory as the system takes it: the empty path is no name of the current one.
fn as_directory(path: &Path) -> &Path {
    if path.as_os_str().is_empty() { Path::new(".") } else { path }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(files: &[&str]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for name in files {
            let path = directory.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, name).unwrap();
        }
        directory
    }

    /// Relative to the directory.
    fn found(patterns: &[&str], base: &Path) -> Vec<String> {
        let patterns: Vec<String> = patterns.iter().map(|p| p.to_string()).collect();
        let files = DataFiles { setting: "data.files", patterns: &patterns, base }.paths().unwrap();
        let name = |path: &PathBuf| path.strip_prefix(base).unwrap_or(path).to_string_lossy().into_owned();
        files.iter().map(name).collect()
    }

    #[test]
    fn a_file_is_there_once_however_its_path_is_written() {
        let kept = directory(&["a.txt", "b/c.txt"]);
        let absolute = kept.path().join("a.txt");
        let all = ["./a.txt", "a.txt", absolute.to_str().unwrap(), "b/../a.txt", "*.txt", "**/*.txt"];
        assert_eq!(found(&all, kept.path()), ["a.txt", "b/c.txt"]);
        assert_eq!(found(&all[1..], &kept.path().join(".")), ["a.txt", "b/c.txt"]);
    }

    #[cfg(unix)]
    #[test]
    fn a_file_is_there_once_however_many_links_lead_to_it() {
        use std::os::unix::fs::symlink;
        let kept = directory(&["a.txt", "b/c.txt", "elsewhere/d.md"]);
        let path = |name: &str| kept.path().join(name);
        symlink("a.txt", path("link.txt")).unwrap();
        symlink("nowhere", path("broken.txt")).unwrap();
        fs::hard_link(path("a.txt"), path("same.txt")).unwrap();
        // Two circles: a walk along all paths would never end.
        symlink(".", path("0")).unwrap();
        symlink("..", path("b/1")).unwrap();
        assert_eq!(found(&["**/*.txt"], kept.path()), ["a.txt", "b/c.txt"]);
        assert_eq!(found(&["*.txt"], kept.path()), ["a.txt"]);
        // What only a link leads to is found, under that name.
        symlink(path("elsewhere"), path("b/0far")).unwrap();
        assert_eq!(found(&["b/**/*.md"], kept.path()), ["b/0far/d.md"]);
        // Also where what it leads to is walked as well, under a name that does not match.
        assert_eq!(found(&["**/0far/*.md"], kept.path()), ["b/0far/d.md"]);
        symlink("elsewhere", path("latest")).unwrap();
        assert_eq!(found(&["l*/*.md"], kept.path()), ["latest/d.md"]);
        assert_eq!(found(&["**/*.md"], kept.path()), ["elsewhere/d.md"]);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn names_that_are_no_text_are_matched_and_walked() {
        use std::os::unix::ffi::OsStrExt;
        let kept = directory(&[]);
        let base = kept.path().join(OsStr::from_bytes(b"base\xff"));
        fs::create_dir(&base).unwrap();
        fs::write(base.join(OsStr::from_bytes(b"\xfe.txt")), "text").unwrap();
        for pattern in ["*.txt", "?.txt", "**/*.txt", "../base?/*"] {
            assert_eq!(found(&[pattern], &base).len(), 1, "{pattern}");
        }
    }

    #[test]
    fn a_name_with_the_signs_of_a_glob_is_a_name_where_no_other_is_meant() {
        let kept = directory(&["a[1].txt", "b[1].txt", "b1.txt"]);
        assert_eq!(found(&["a[1].txt"], kept.path()), ["a[1].txt"]);
        assert_eq!(found(&["b[1].txt"], kept.path()), ["b1.txt"]);
    }

    #[test]
    fn stars_twice_stand_for_any_directories_and_once_for_a_part_of_a_name() {
        let kept = directory(&["x.rs", "src/x.rs", "src/a/b/x.rs", "src/a/y.md", "[s]/x.rs"]);
        assert_eq!(found(&["src/**/*.rs"], kept.path()), ["src/a/b/x.rs", "src/x.rs"]);
        assert_eq!(found(&["./src/**"], kept.path()), ["src/a/b/x.rs", "src/a/y.md", "src/x.rs"]);
        assert_eq!(found(&["**/a/**/x.rs"], kept.path()), ["src/a/b/x.rs"]);
        assert_eq!(found(&["*/x.rs"], kept.path()), ["[s]/x.rs", "src/x.rs"]);
        assert_eq!(found(&["**/x.rs"], &kept.path().join("[s]")), ["x.rs"]);
        assert_eq!(found(&["src//a/**/*.md"], kept.path()), ["src/a/y.md"]);
        let absolute = format!("{}/**/y.*", kept.path().display());
        assert_eq!(found(&[&absolute], Path::new("elsewhere")).len(), 1);
    }
}
