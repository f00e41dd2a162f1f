//! Compiled sources on disk, so that a program compiles its kernels once.
//!
//! An entry is a file named by the hash of all that it was made from. Files are written under another name and then
//! renamed, so that concurrent runs never see half of one; what was damaged since is seen by a hash of the contents
//! and made again. Where the directory cannot be written, there is just no cache.

use super::nvrtc::Compiled;
use sha2::{Digest, Sha256};
use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// A directory of compiled sources, or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cache {
    directory: Option<PathBuf>,
}

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
        digits + ".kernels"
    }
}

/// How every entry begins: the format and its version. A hash of what follows comes next.
const MAGIC: &[u8; 16] = b"rnnc kernels 1\n\0";

impl Cache {
    /// The user's: `$RNNC_CACHE`, else `rnnc` in `$XDG_CACHE_HOME` or `~/.cache`.
    pub fn of_user() -> Cache {
        Cache { directory: directory(&|name| std::env::var_os(name)) }
    }

    /// In that directory.
    pub fn at(directory: &Path) -> Cache {
        Cache { directory: Some(directory.to_owned()) }
    }

    /// The whole and undamaged entry of a key.
    pub fn get(&self, key: &Key) -> Option<Compiled> {
        let bytes = fs::read(self.directory.as_ref()?.join(key.file())).ok()?;
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
    }
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

    #[test]
    fn a_directory_that_cannot_be_written_is_no_cache() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        fs::write(&file, "").unwrap();
        let cache = Cache::at(&file.join("below"));
        cache.put(&Key::of(&[]), &compiled(1));
        assert_eq!(cache.get(&Key::of(&[])), None);
        Cache { directory: None }.put(&Key::of(&[]), &compiled(1));
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
