//! Which files `data.files` names: paths and globs in, each file once.

use crate::error::TrainError;
use glob::{MatchOptions, Pattern};
use std::collections::{BTreeSet, VecDeque};
use std::fs::{self, Metadata};
use std::path::{Path, PathBuf};

/// The files that patterns name, relative to `base`: in the order in which they are named, those of a glob sorted by path.
/// A file that has several names, by links or by the ways that its path can be written, is there once, under the first.
///
/// # Errors
/// A file that is not there, a glob that no file matches, and a directory that cannot be read.
pub(crate) fn data_files(patterns: &[String], base: &Path) -> Result<Vec<PathBuf>, TrainError> {
    let (mut files, mut seen) = (Vec::new(), BTreeSet::new());
    for pattern in patterns {
        for path in matches(pattern, base)? {
            let found = fs::metadata(&path).map_err(|e| TrainError::read(&path, e))?;
            if seen.insert(identity(&path, &found)?) {
                files.push(path);
            }
        }
    }
    Ok(files)
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

/// The files that a pattern names: itself, if it has none of a glob's signs.
fn matches(pattern: &str, base: &Path) -> Result<Vec<PathBuf>, TrainError> {
    if !pattern.contains(['*', '?', '[']) {
        return Ok(vec![base.join(pattern)]);
    }
    let bad = |problem: String| TrainError::Setting(format!("`{pattern}` in `data.files`: {problem}"));
    let mut files = Vec::new();
    if pattern.split('/').any(|part| part == "**") {
        // As the paths are written that it is compared with.
        let parts: Vec<&str> = pattern.split('/').filter(|part| *part != ".").collect();
        let whole = Pattern::new(&parts.join("/")).map_err(|e| bad(e.to_string()))?;
        walk(&parts, &whole, base, &mut files)?;
    } else {
        // The base is a path as it is, whatever signs it has.
        let whole = if Path::new(pattern).is_absolute() || base.as_os_str().is_empty() {
            pattern.to_string()
        } else {
            format!("{}/{pattern}", Pattern::escape(&base.to_string_lossy()))
        };
        for path in glob::glob(&whole).map_err(|e| bad(e.to_string()))? {
            let path = path.map_err(|e| TrainError::read(&e.path().to_path_buf(), e.into()))?;
            if path.is_file() {
                files.push(path);
            }
        }
    }
    files.sort();
    if files.is_empty() {
        return Err(bad(format!("no file in {} matches", base.display())));
    }
    Ok(files)
}

/// Walks all directories that `**` may stand for, each once: links may lead round in circles. Those that are not behind a
/// link come first, for the others to be what is met twice.
fn walk(parts: &[&str], whole: &Pattern, base: &Path, files: &mut Vec<PathBuf>) -> Result<(), TrainError> {
    let options = MatchOptions { require_literal_separator: true, ..MatchOptions::new() };
    // Before an absolute pattern's first slash stands nothing.
    let root = if parts[0].is_empty() { "/" } else { "" };
    let fixed = parts.iter().take_while(|part| !part.contains(['*', '?', '[']));
    let fixed = fixed.fold(PathBuf::from(root), |path, part| path.join(part));
    // All relative to the base, if the pattern is.
    let (mut plain, mut linked) = (vec![fixed], VecDeque::new());
    let mut seen = BTreeSet::new();
    while let Some(directory) = plain.pop().or_else(|| linked.pop_front()) {
        let here = directory_at(base, &directory);
        let fail = |e| TrainError::read(&here, e);
        let found = match fs::metadata(&here) {
            Ok(found) if found.is_dir() => found,
            // Where nothing is, nothing matches.
            _ => continue,
        };
        if !seen.insert(identity(&here, &found)?) {
            continue;
        }
        for entry in fs::read_dir(&here).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            let kind = entry.file_type().map_err(fail)?;
            let path = directory.join(entry.file_name());
            // A link that leads nowhere is no file.
            let end = match kind.is_symlink() {
                true => fs::metadata(entry.path()).map(|found| found.file_type()).ok(),
                false => Some(kind),
            };
            match end {
                Some(end) if end.is_dir() && kind.is_symlink() => linked.push_back(path),
                Some(end) if end.is_dir() => plain.push(path),
                Some(end) if end.is_file() && whole.matches_path_with(&path, options) => {
                    files.push(base.join(path));
                }
                _ => {}
            }
        }
        // The system gives names in no order, and which of two links comes first is to be the same everywhere.
        linked.make_contiguous().sort();
    }
    Ok(())
}

/// A directory as the system takes it: the empty path is no name of the current one.
fn directory_at(base: &Path, directory: &Path) -> PathBuf {
    let here = base.join(directory);
    if here.as_os_str().is_empty() { PathBuf::from(".") } else { here }
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
        let files = data_files(&patterns, base).unwrap();
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
    }

    #[test]
    fn stars_twice_stand_for_any_directories_and_once_for_a_part_of_a_name() {
        let kept = directory(&["x.rs", "src/x.rs", "src/a/b/x.rs", "src/a/y.md", "[s]/x.rs"]);
        assert_eq!(found(&["src/**/*.rs"], kept.path()), ["src/a/b/x.rs", "src/x.rs"]);
        assert_eq!(found(&["./src/**"], kept.path()), ["src/a/b/x.rs", "src/a/y.md", "src/x.rs"]);
        assert_eq!(found(&["**/a/**/x.rs"], kept.path()), ["src/a/b/x.rs"]);
        assert_eq!(found(&["*/x.rs"], kept.path()), ["[s]/x.rs", "src/x.rs"]);
        assert_eq!(found(&["**/x.rs"], &kept.path().join("[s]")), ["x.rs"]);
    }
}
