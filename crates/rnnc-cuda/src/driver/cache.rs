//! Compiled sources on disk, so that a program compiles its kernels once.
//!
//! An entry is a file named by the hash of all that it was made from. Files are written under another name and then
//! renamed, so that concurrent runs never see half of one; what was damaged since is seen by a hash of the contents
//! and made again. Where the directory cannot be written, there is just no cache.
//!
//! A file's time of change is when it was last used. Whoever adds an entry removes those that were not used for longest
//! while all together are too large; who has opened one of them keeps it, and who finds it gone makes it again.

use super::nvrtc::Compiled;
use sha2::{Digest, Sha256};
use std::ffi::OsString;
use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

/// A directory of compiled sources, or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cache {
    directory: Option<PathBuf>,
    /// Bytes of all entries together that are kept.
    most: u64,
}

/// Some thousand networks.
const MOST: u64 = 1 << 30;

/// What was not renamed for so long is of a run that ended in between.
const ABANDONED: Duration = Duration::from_secs(3600);

/// What an entry was made from, in short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key([u8; 32]);

impl Key {
    /// The key of some texts in their order.
    pub fn of(parts: &[&str]) -> Key {
        let mut hash = Sha256::new();
        for part in parts {
            // With its length, so that no two lists of texts run together.
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part.as_bytes());
        }
        Key(hash.finalize().into())
    }

    fn file(&self) -> String {
        let digits: String = self.0.iter().map(|byte| format!("{byte:02x}")).collect();
        digits + ENDING
    }
}

/// How the names of entries end.
const ENDING: &str = ".kernels";

/// How every entry begins: the format and its version. A hash of what follows comes next.
const MAGIC: &[u8; 16] = b"rnnc kernels 1\n\0";

impl Cache {
    /// The user's: `$RNNC_CACHE`, else `rnnc` in `$XDG_CACHE_HOME` or `~/.cache`.
    pub fn of_user() -> Cache {
        Cache { directory: directory(&|name| std::env::var_os(name)), most: MOST }
    }

    /// In that directory.
    pub fn at(directory: &Path) -> Cache {
        Cache { directory: Some(directory.to_owned()), most: MOST }
    }

    /// The same, with so many bytes at most.
    pub fn of_at_most(self, bytes: u64) -> Cache {
        Cache { most: bytes, ..self }
    }

    /// The whole and undamaged entry of a key.
    pub fn get(&self, key: &Key) -> Option<Compiled> {
        let mut file = fs::File::open(self.directory.as_ref()?.join(key.file())).ok()?;
        // Somebody else's may be read alone: then it counts as used when it was made.
        let _ = file.set_modified(SystemTime::now());
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).ok()?;
        let contents = bytes.strip_prefix(MAGIC)?;
        let (hash, contents) = contents.split_at_checked(32)?;
        if Sha256::digest(contents)[..] != *hash {
            return None;
        }
        let (len, contents) = contents.split_first_chunk::<8>()?;
        let (image, log) = contents.split_at_checked(usize::try_from(u64::from_le_bytes(*len)).ok()?)?;
        Some(Compiled { image: image.to_vec(), log: String::from_utf8(log.to_vec()).ok()? })
    }

    /// Keeps an entry. If it cannot be kept, the next run makes it again.
    pub fn put(&self, key: &Key, compiled: &Compiled) {
        let Some(directory) = &self.directory else { return };
        let len = (compiled.image.len() as u64).to_le_bytes();
        let contents = [&len[..], &compiled.image, compiled.log.as_bytes()].concat();
        let entry = [MAGIC, &Sha256::digest(&contents)[..], &contents].concat();
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let unfinished = directory.join(format!("{}.{}-{number}", key.file(), std::process::id()));
        let written = fs::create_dir_all(directory)
            .and_then(|()| fs::File::create_new(&unfinished))
            .and_then(|mut file| file.write_all(&entry))
            .and_then(|()| fs::rename(&unfinished, directory.join(key.file())));
        if written.is_err() {
            // There may be none.
            let _ = fs::remove_file(&unfinished);
        }
        // What cannot be listed now is trimmed by a later run.
        let _ = trim(directory, self.most);
    }
}

/// Removes what was used longest ago while entries take more than so many bytes, and what ended runs left unfinished.
fn trim(directory: &Path, most: u64) -> io::Result<()> {
    let mut entries = Vec::new();
    for file in fs::read_dir(directory)? {
        let file = file?;
        let name = file.file_name();
        // The user's other files are none of ours; what another run has just removed or renamed has no facts.
        let Some((hash, rest)) = name.to_str().and_then(|name| name.split_once(ENDING)) else { continue };
        let Ok(facts) = file.metadata() else { continue };
        if hash.len() != 64 || !facts.is_file() {
            continue;
        }
        let used = facts.modified()?;
        if rest.is_empty() {
            entries.push((used, file.path(), facts.len()));
        } else if used.elapsed().is_ok_and(|since_reset| since_reset > ABANDONED) {
            let _ = fs::remove_file(file.path());
        }
    }
    entries.sort();
    let mut bytes: u64 = entries.iter().map(|(_, _, len)| len).sum();
    for (_, path, len) in entries {
        if bytes <= most {
            break;
        }
        // Another run may have removed it.
        let _ = fs::remove_file(path);
        bytes -= len;
    }
    Ok(())
}

fn directory(environment: &dyn Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    // An empty variable is as good as none.
    let path = |name: &str| environment(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    path("RNNC_CACHE")
        .or_else(|| path("XDG_CACHE_HOME").map(|cache| cache.join("rnnc")))
        .or_else(|| path("HOME").map(|home| home.join(".cache").join("rnnc")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compiled(len: usize) -> Compiled {
        Compiled { image: (0..len).map(|i| i as u8).collect(), log: "ptxas info".into() }
    }

    #[test]
    fn what_was_kept_is_found_by_its_key_alone() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::at(&directory.path().join("made/when/needed"));
        let key = Key::of(&["text", "sm_90a"]);
        assert_eq!(cache.get(&key), None);
        cache.put(&key, &compiled(1000));
        assert_eq!(cache.get(&key), Some(compiled(1000)));
        assert_eq!(cache.get(&Key::of(&["texts", "m_90a"])), None);
        assert_eq!(cache.get(&Key::of(&["text", "sm_80"])), None);
    }

    #[test]
    fn every_damaged_entry_is_made_again() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::at(directory.path());
        let key = Key::of(&["text"]);
        cache.put(&key, &compiled(50));
        let path = directory.path().join(key.file());
        let whole = fs::read(&path).unwrap();
        for len in 0..whole.len() {
            fs::write(&path, &whole[..len]).unwrap();
            assert_eq!(cache.get(&key), None, "cut to {len} bytes");
        }
        for place in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[place] ^= 1;
            fs::write(&path, &damaged).unwrap();
            assert_eq!(cache.get(&key), None, "damaged at {place}");
        }
        cache.put(&key, &compiled(50));
        assert_eq!(cache.get(&key), Some(compiled(50)));
    }

    #[test]
    fn concurrent_runs_see_whole_entries_and_leave_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let key = Key::of(&["text"]);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let cache = Cache::at(directory.path());
                    for _ in 0..50 {
                        cache.put(&key, &compiled(100_000));
                        assert_eq!(cache.get(&key), Some(compiled(100_000)));
                    }
                });
            }
        });
        let files: Vec<_> = fs::read_dir(directory.path()).unwrap().map(|f| f.unwrap().file_name()).collect();
        assert_eq!(files, [OsString::from(key.file())]);
    }

    /// Makes an entry as if it was last used so many seconds ago.
    fn used_before(cache: &Cache, key: &Key, seconds: u64) {
        let path = cache.directory.as_ref().unwrap().join(key.file());
        let file = fs::File::options().write(true).open(path).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(seconds)).unwrap();
    }

    #[test]
    fn what_was_not_used_for_longest_goes_when_there_is_too_much() {
        let directory = tempfile::tempdir().unwrap();
        // Four entries of 1000 bytes and what stands before them.
        let cache = Cache::at(directory.path()).of_at_most(4500);
        let keys = ["a", "b", "c", "d", "e", "f"].map(|text| Key::of(&[text]));
        for (since_reset, key) in keys[..4].iter().enumerate() {
            cache.put(key, &compiled(1000));
            used_before(&cache, key, 1000 - since_reset as u64);
        }
        // Found is used.
        assert_eq!(cache.get(&keys[0]), Some(compiled(1000)));
        cache.put(&keys[4], &compiled(1000));
        cache.put(&keys[5], &compiled(1000));
        let kept = keys.map(|key| cache.get(&key).is_some());
        assert_eq!(kept, [true, false, false, true, true, true]);
    }

    #[test]
    fn other_files_stay_and_those_of_ended_runs_go() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::at(directory.path()).of_at_most(0);
        let key = Key::of(&["text"]);
        let names = ["notes.kernels".to_owned(), key.file() + ".12-0", key.file() + ".34-0"];
        let long_ago = SystemTime::now() - 2 * ABANDONED;
        for name in &names {
            fs::write(directory.path().join(name), [0; 100]).unwrap();
        }
        for name in &names[..2] {
            let file = fs::File::options().write(true).open(directory.path().join(name)).unwrap();
            file.set_modified(long_ago).unwrap();
        }
        cache.put(&key, &compiled(10));
        assert_eq!(cache.get(&key), None);
        let left = names.map(|name| directory.path().join(name).exists());
        assert_eq!(left, [true, false, true]);
    }

    #[test]
    fn concurrent_runs_that_want_more_than_is_kept_see_whole_entries_or_none() {
        let directory = tempfile::tempdir().unwrap();
        let keys: Vec<Key> = (0..8).map(|k| Key::of(&[&k.to_string()])).collect();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (keys, directory) = (&keys, directory.path());
                scope.spawn(move || {
                    let cache = Cache::at(directory).of_at_most(35_000);
                    for round in 0..100 {
                        let place = (thread * 3 + round) % keys.len();
                        cache.put(&keys[place], &compiled(10_000 + place));
                        let found = cache.get(&keys[(place + round) % keys.len()]);
                        let known = |found: &Compiled| *found == compiled(found.image.len());
                        assert!(found.as_ref().is_none_or(known));
                    }
                });
            }
        });
        Cache::at(directory.path()).of_at_most(35_000).put(&keys[0], &compiled(10_000));
        let bytes: u64 =
            fs::read_dir(directory.path()).unwrap().map(|f| f.unwrap().metadata().unwrap().len()).sum();
        assert!((30_000..=35_000).contains(&bytes), "{bytes}");
    }

    #[test]
    fn a_directory_that_cannot_be_written_is_no_cache() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        fs::write(&file, "").unwrap();
        let cache = Cache::at(&file.join("below"));
        cache.put(&Key::of(&[]), &compiled(1));
        assert_eq!(cache.get(&Key::of(&[])), None);
        Cache { directory: None, most: MOST }.put(&Key::of(&[]), &compiled(1));
    }

    #[test]
    fn the_directory_is_the_users_choice_then_the_systems() {
        let with = |set: &'static [(&str, &str)]| {
            directory(&|name| set.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).into()))
        };
        let all = &[("RNNC_CACHE", "/r"), ("XDG_CACHE_HOME", "/x"), ("HOME", "/h")];
        assert_eq!(with(all), Some("/r".into()));
        assert_eq!(with(&all[1..]), Some("/x/rnnc".into()));
        assert_eq!(with(&[("XDG_CACHE_HOME", ""), ("HOME", "/h")]), Some("/h/.cache/rnnc".into()));
        assert_eq!(with(&[]), None);
    }
}
