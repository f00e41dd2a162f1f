//! A run's directory: all that is needed to resume the run or to write text with its network.
//!
//! `train.toml` and `network.rnn` are copies of what the run was started with, `checkpoint.safetensors` is the
//! last checkpoint, `best.safetensors` the one of the smallest loss on the validation data, and `metrics.jsonl` has a line of
//! JSON per report.
//!
//! The directory may be the user's own, with files of these names. So a copy ends with a line that says what it is, with a hash of
//! all before it; what has no such line, or was changed since, is somebody's, and no run replaces it. Where it says the same as
//! the copy would, it serves as the copy.

use crate::error::TrainError;
use crate::run::checkpoint::About;
use crate::run::lock::DirectoryLock;
use crate::run::observer::Metrics;
use rnnc_graph::name_key;
use rnnc_io::disk::{self, Handle};
use rnnc_io::read_text;
use rnnc_io::write_whole;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};

/// The directory of a run.
#[derive(Clone, Debug)]
pub struct RunDirectory {
    path: PathBuf,
}

impl RunDirectory {
    /// Opens the directory of a run that has a checkpoint.
    pub fn open(path: impl Into<PathBuf>) -> Result<RunDirectory, TrainError> {
        let directory = RunDirectory { path: path.into() };
        let checkpoint = directory.checkpoint();
        match fs::metadata(&checkpoint) {
            Ok(_) => Ok(directory),
            Err(_) if directory.path.is_file() => Err(TrainError::file(
                &directory.path,
                "this is a file: give the directory of a run, which holds its files",
            )),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                Err(TrainError::file(&directory.path, "no run is here: there is no checkpoint.safetensors"))
            }
            Err(e) => Err(TrainError::read(&checkpoint, e)),
        }
    }

    /// Opens the directory of a run that goes on, for this process alone to write to. `config` and `network` are the texts that
    /// [`keep`](RunDirectory::keep) will be given.
    ///
    /// # Errors
    /// No run; another process that writes to the directory; files that are not the run's, which would be replaced.
    pub fn resume(
        path: impl Into<PathBuf>,
        config: &str,
        network: &str,
    ) -> Result<(RunDirectory, DirectoryLock), TrainError> {
        let directory = RunDirectory::open(path)?;
        let lock = DirectoryLock::take(&directory.path)?;
        directory.check_copies(config, network)?;
        directory.check_metrics()?;
        directory.check_best()?;
        Ok((directory, lock))
    }

    /// Makes the directory of a new run, for this process alone to write to. `config` and `network` are the texts that
    /// [`keep`](RunDirectory::keep) will be given.
    ///
    /// An old run that may be overwritten stays as it is until the new one's first checkpoint takes its place: then
    /// [`keep`](RunDirectory::keep) and [`metrics_after`](RunDirectory::metrics_after) replace the rest.
    ///
    /// # Errors
    /// A run that is there already, unless it may be overwritten; files that no run has left there, which would be
    /// replaced; another process that writes to the directory.
    pub fn create(
        path: impl Into<PathBuf>,
        overwrite: bool,
        config: &str,
        network: &str,
    ) -> Result<(RunDirectory, DirectoryLock), TrainError> {
        let path = path.into();
        RunDirectory::check_place(&path)?;
        fs::create_dir_all(&path).map_err(|e| TrainError::write(&path, e))?;
        let lock = DirectoryLock::take(&path)?;
        let directory = RunDirectory { path };
        directory.check_files(overwrite, config, network)?;
        Ok((directory, lock))
    }

    /// Refuses what [`create`](RunDirectory::create) would, and leaves everything as it is. What is no directory yet is fine.
    pub(crate) fn check(path: &Path, overwrite: bool, config: &str, network: &str) -> Result<(), TrainError> {
        RunDirectory::check_place(path)?;
        if !path.is_dir() {
            return Ok(());
        }
        let _lock = DirectoryLock::take(path)?;
        RunDirectory { path: path.into() }.check_files(overwrite, config, network)
    }

    /// Refuses files that a new run may not replace.
    fn check_files(&self, overwrite: bool, config: &str, network: &str) -> Result<(), TrainError> {
        // Not what a link leads to: a link is somebody's too.
        let checkpoint = self.checkpoint();
        if fs::symlink_metadata(&checkpoint).is_ok() {
            if !overwrite {
                return Err(TrainError::file(
                    &self.path,
                    "a run is here already: resume it, name another `run.directory`, or set `run.overwrite = true`",
                ));
            }
            RunDirectory::check_is_run(&checkpoint)?;
            self.check_best()?;
            self.check_copies(config, network)?;
            return self.check_metrics();
        }
        // No run has come so far as to write these.
        let files =
            [(self.config(), config), (self.network(), network), (self.metrics(), ""), (self.best(), "")];
        for (file, contents) in files {
            match found(&file, contents).map_err(|e| TrainError::read(&file, e))? {
                Found::Nothing | Found::Same => {}
                Found::Copy | Found::Other => {
                    return Err(TrainError::file(
                        &file,
                        "a file that is not a run's is here already, and a run would replace it: name another \
                         `run.directory`, or move the file away",
                    ));
                }
            }
        }
        Ok(())
    }

    /// Refuses a file in the place of the best weights that no run has written.
    fn check_best(&self) -> Result<(), TrainError> {
        self.check_kept(&self.best())
    }

    fn check_is_run(file: &Path) -> Result<(), TrainError> {
        About::read(file).map(drop).map_err(|error| {
            TrainError::Setting(format!(
                "{error}; a run would replace it, though it is not a run's that this version knows: name another \
                 `run.directory`, or move the file away"
            ))
        })
    }

    /// Refuses files of the copies' names that are somebody's and say something else than the copies would.
    fn check_copies(&self, config: &str, network: &str) -> Result<(), TrainError> {
        let config = (self.config(), config, "these settings", "make this file say the same");
        let network = (self.network(), network, "this network", "make this file the network");
        for (file, contents, what, instead) in [config, network] {
            if found(&file, contents).map_err(|e| TrainError::read(&file, e))? == Found::Other {
                return Err(TrainError::file(
                    &file,
                    format!(
                        "the run keeps its copy of {what} here, and would replace a file that it has not written, or that was \
                         changed since: {instead}, or move it away"
                    ),
                ));
            }
        }
        Ok(())
    }

    /// Refuses metrics that do not begin as a run's do.
    fn check_metrics(&self) -> Result<(), TrainError> {
        let path = self.metrics();
        match fs::metadata(&path) {
            Ok(found) if found.is_file() => {}
            // Something that takes lines and gives none back, or nothing yet.
            Ok(_) => return Ok(()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(TrainError::read(&path, e)),
        }
        let mut begin = Vec::new();
        let read = File::open(&path).and_then(|file| file.take(METRICS.len() as u64).read_to_end(&mut begin));
        read.map_err(|e| TrainError::read(&path, e))?;
        // A line may have been cut when a sitting ended.
        match METRICS.as_bytes().starts_with(&begin) {
            true => Ok(()),
            false => Err(TrainError::file(
                &path,
                "the run keeps its metrics here, and would replace a file whose first line is none of its: move it away",
            )),
        }
    }

    /// Refuses the path of a file, or one behind a file or a link that leads nowhere.
    fn check_place(path: &Path) -> Result<(), TrainError> {
        for place in path.ancestors() {
            if fs::symlink_metadata(place).is_ok() {
                return match place.is_dir() {
                    true => Ok(()),
                    false => Err(TrainError::Setting(format!(
                        "`run.directory`: {} is {}, not a directory: name another",
                        place.display(),
                        if place.is_file() { "a file" } else { "there already" }
                    ))),
                };
            }
        }
        Ok(())
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the checkpoint is.
    pub fn checkpoint(&self) -> PathBuf {
        self.path.join("checkpoint.safetensors")
    }

    /// Where the best weights are, with all else of a checkpoint.
    pub fn best(&self) -> PathBuf {
        self.path.join("best.safetensors")
    }

    /// Where the checkpoint after an update is, if the run keeps some.
    pub fn checkpoint_after(&self, update: u64) -> PathBuf {
        self.path.join(format!("{KEPT}{update}{CHECKPOINT}"))
    }

    /// Refuses a file in the place of a checkpoint, of the best weights or one that is kept, which no run has written.
    pub(crate) fn check_kept(&self, path: &Path) -> Result<(), TrainError> {
        if fs::symlink_metadata(path).is_ok() { RunDirectory::check_is_run(path) } else { Ok(()) }
    }

    /// Removes all checkpoints that are kept but for the newest ones.
    pub(crate) fn prune(&self, keep: usize) -> Result<(), TrainError> {
        let mut kept = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(|e| TrainError::read(&self.path, e))? {
            let path = entry.map_err(|e| TrainError::read(&self.path, e))?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let update = name.strip_prefix(KEPT).and_then(|name| name.strip_suffix(CHECKPOINT));
            // What only looks like one stays.
            if let Some(update) = update.and_then(|update| update.parse::<u64>().ok())
                && path.is_file()
                && About::read(&path).is_ok_and(|about| about.progress.updates == update)
            {
                kept.push((update, path));
            }
        }
        kept.sort();
        let old = kept.len().saturating_sub(keep);
        kept.iter().take(old).try_for_each(|(_, path)| remove(path))
    }

    /// Removes what an older run has left that the new one does not write at once. Its own first checkpoint stands.
    pub(crate) fn begin_anew(&self) -> Result<(), TrainError> {
        self.prune(0)?;
        remove(&self.best())
    }

    /// Where the copy of the settings is.
    pub fn config(&self) -> PathBuf {
        self.path.join("train.toml")
    }

    /// Where the copy of the network's text is.
    pub fn network(&self) -> PathBuf {
        self.path.join("network.rnn")
    }

    /// Where the metrics are.
    pub fn metrics(&self) -> PathBuf {
        self.path.join("metrics.jsonl")
    }

    /// Keeps what the run was started with. What is there already is not written again: it may be the user's own.
    ///
    /// # Errors
    /// A file that is somebody's, and says something else.
    pub fn keep(&self, config: &str, network: &str) -> Result<(), TrainError> {
        self.check_copies(config, network)?;
        for (file, contents) in [(self.config(), config), (self.network(), network)] {
            if found(&file, contents).map_err(|e| TrainError::read(&file, e))? != Found::Same {
                write_whole(&file, |out| out.write_all(copy_of(contents).as_bytes()))?;
            }
        }
        Ok(())
    }

    /// Reads the copy of the network's text.
    pub fn network_text(&self) -> Result<String, TrainError> {
        Ok(read_text(&self.network())?)
    }

    /// Opens the metrics to be added to, without the lines of updates after `update`: a run that resumes makes
    /// them again.
    pub fn metrics_after(&self, update: u64) -> Result<MetricsFile, TrainError> {
        #[derive(serde::Deserialize)]
        struct Line {
            update: u64,
        }
        let path = self.metrics();
        let mut old: Box<dyn BufRead> = match fs::metadata(&path) {
            Ok(found) if found.is_file() => {
                Box::new(BufReader::new(File::open(&path).map_err(|e| TrainError::read(&path, e))?))
            }
            // Something that takes lines and gives none back, or nothing yet.
            Ok(_) => Box::new(io::empty()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Box::new(io::empty()),
            Err(e) => return Err(TrainError::read(&path, e)),
        };
        write_whole(&path, |out| {
            let mut line = Vec::new();
            while next_line(&mut old, &mut line)? {
                // A line that was cut when the last sitting ended is no JSON.
                if serde_json::from_slice::<Line>(&line).is_ok_and(|l| l.update <= update) {
                    out.write_all(line.trim_ascii_end())?;
                    out.write_all(b"\n")?;
                }
            }
            Ok(())
        })?;
        let file = disk::append(&path).map_err(|e| TrainError::write(&path, e))?;
        Ok(MetricsFile { path, file })
    }
}

/// Removes a file, if it is there.
fn remove(path: &Path) -> Result<(), TrainError> {
    match disk::remove(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(TrainError::write(path, e)),
        _ => Ok(()),
    }
}

/// What the name of a checkpoint that is kept begins with, and how it ends: between them is its update.
const KEPT: &str = "checkpoint-";
const CHECKPOINT: &str = ".safetensors";

/// What every line of metrics begins with.
const METRICS: &str = "{\"kind\":\"";

/// What the last line of a copy begins with. Behind it stands the hash of all before.
const COPY: &str = "# A copy that rnnc train made, and replaces as long as nobody changes it: ";

/// What a run writes as its copy of a text.
fn copy_of(text: &str) -> String {
    let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    let text = format!("{text}{end}");
    let hash = name_key(&text);
    format!("{text}{COPY}{hash:016x}\n")
}

/// Whether a file's text is a run's copy as the run wrote it.
fn is_copy(text: &str) -> bool {
    let start = text.trim_end_matches('\n').rfind('\n').map_or(0, |end| end + 1);
    let (before, last) = text.split_at(start);
    last.strip_prefix(COPY).is_some_and(|hash| hash == format!("{:016x}\n", name_key(before)))
}

/// What stands where a copy belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    Nothing,
    /// The same text, or its copy.
    Same,
    /// A run's copy of another text.
    Copy,
    /// Somebody's.
    Other,
}

/// What a file is, beside the text of which a copy is to be made.
fn found(file: &Path, text: &str) -> io::Result<Found> {
    /// More than any text that is read, and its copy's last line.
    const LONGEST: u64 = 17 << 20;
    match fs::metadata(file) {
        Ok(found) if found.is_file() && found.len() <= LONGEST => {}
        Ok(_) => return Ok(Found::Other),
        // A link that leads nowhere is somebody's too.
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            return Ok(if fs::symlink_metadata(file).is_ok() { Found::Other } else { Found::Nothing });
        }
        Err(e) => return Err(e),
    }
    let mut bytes = Vec::new();
    File::open(file)?.take(LONGEST + 1).read_to_end(&mut bytes)?;
    Ok(match std::str::from_utf8(&bytes) {
        Ok(there) if there == text || there == copy_of(text) => Found::Same,
        Ok(there) if is_copy(there) => Found::Copy,
        _ => Found::Other,
    })
}

/// Reads the next line with its end, or the beginning of one that is longer than any of a run's. Says whether there is one.
fn next_line(lines: &mut dyn BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    const LONGEST: u64 = 1 << 16;
    line.clear();
    Ok(lines.take(LONGEST).read_until(b'\n', line)? > 0)
}

/// `metrics.jsonl`, open.
#[derive(Debug)]
pub struct MetricsFile {
    path: PathBuf,
    file: Handle,
}

impl MetricsFile {
    /// Adds a line, or, if that fails, nothing.
    pub fn add(&mut self, metrics: &Metrics) -> Result<(), TrainError> {
        let line = serde_json::to_string(metrics).map_err(|e| TrainError::file(&self.path, e.to_string()))?;
        let before = self.file.file().metadata().map(|found| found.len());
        self.file.write_all(format!("{line}\n").as_bytes()).map_err(|e| {
            // The line after it is not to be joined to what a full disk took of this one.
            if let Ok(length) = before {
                let _ = self.file.file().set_len(length);
            }
            TrainError::write(&self.path, e)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::observer::Evaluated;
    use crate::task::metrics::Measured;
    use rnnc_io::disk::faults::{Fault, with_fault};
    use rnnc_io::{Precision, TensorFile};

    /// A checkpoint, as far as it says so of itself.
    fn write_checkpoint(path: &Path) {
        crate::run::checkpoint::tests::checkpoint()
            .save(path, &crate::run::checkpoint::tests::graph("w"))
            .unwrap();
    }

    fn line(update: u64) -> Metrics {
        Metrics::Validation(Evaluated {
            update,
            seconds: 1.0,
            loss: 2.0,
            bits_per_symbol: None,
            metrics: Measured::default(),
        })
    }

    fn text_of(updates: &[u64]) -> String {
        let lines = updates.iter().map(|update| {
            format!("{{\"kind\":\"validation\",\"update\":{update},\"seconds\":1.0,\"loss\":2.0}}\n")
        });
        lines.collect()
    }

    fn create(path: &Path, overwrite: bool) -> Result<(RunDirectory, DirectoryLock), TrainError> {
        RunDirectory::create(path, overwrite, "settings", "network")
    }

    fn resume(path: &Path, config: &str) -> Result<(RunDirectory, DirectoryLock), TrainError> {
        RunDirectory::resume(path, config, "network")
    }

    #[test]
    fn metrics_after_the_checkpoint_are_dropped_when_a_run_resumes() {
        let kept = tempfile::tempdir().unwrap();
        let (directory, _lock) = create(&kept.path().join("run"), false).unwrap();
        let mut metrics = directory.metrics_after(0).unwrap();
        (1..4).for_each(|u| metrics.add(&line(u)).unwrap());
        fs::write(directory.metrics(), fs::read_to_string(directory.metrics()).unwrap() + "{\"upd").unwrap();
        directory.metrics_after(2).unwrap().add(&line(9)).unwrap();
        assert_eq!(fs::read_to_string(directory.metrics()).unwrap(), text_of(&[1, 2, 9]));
    }

    #[test]
    fn a_line_that_is_no_metrics_is_dropped_however_long_it_is() {
        let kept = tempfile::tempdir().unwrap();
        let (directory, _lock) = create(kept.path(), false).unwrap();
        let long = "x".repeat(1_000_000);
        let text = format!("{}{long}\n\u{fffd}\n{}", text_of(&[1]), text_of(&[2]));
        fs::write(directory.metrics(), text).unwrap();
        directory.metrics_after(2).unwrap();
        assert_eq!(fs::read_to_string(directory.metrics()).unwrap(), text_of(&[1, 2]));
    }

    #[test]
    fn a_line_that_a_full_disk_cuts_is_no_part_of_the_metrics() {
        let kept = tempfile::tempdir().unwrap();
        let (directory, _lock) = create(kept.path(), false).unwrap();
        let mut metrics = directory.metrics_after(0).unwrap();
        metrics.add(&line(1)).unwrap();
        let (cut, _) = with_fault(Some((0, Fault::Cut)), || metrics.add(&line(2)));
        assert!(cut.unwrap_err().to_string().contains("metrics.jsonl: "));
        metrics.add(&line(3)).unwrap();
        assert_eq!(fs::read_to_string(directory.metrics()).unwrap(), text_of(&[1, 3]));
    }

    #[test]
    fn a_run_that_is_there_is_kept_unless_it_may_be_overwritten() {
        let kept = tempfile::tempdir().unwrap();
        let path = kept.path().join("run");
        assert!(RunDirectory::open(&path).unwrap_err().to_string().contains("no run is here"));
        fs::write(kept.path().join("file"), "mine").unwrap();
        let error = RunDirectory::open(kept.path().join("file")).unwrap_err().to_string();
        assert!(
            error.ends_with("this is a file: give the directory of a run, which holds its files"),
            "{error}"
        );
        let (directory, lock) = create(&path, false).unwrap();
        drop(lock);
        write_checkpoint(&directory.checkpoint());
        let old = fs::read(directory.checkpoint()).unwrap();
        assert!(create(&path, false).unwrap_err().to_string().contains("a run is here already"));
        RunDirectory::open(&path).unwrap();
        create(&path, true).unwrap();
        assert_eq!(fs::read(directory.checkpoint()).unwrap(), old, "until the new run has one");
    }

    #[test]
    fn what_is_no_checkpoint_is_not_overwritten() {
        let kept = tempfile::tempdir().unwrap();
        let path = kept.path().join("checkpoint.safetensors");
        TensorFile::default().write(&path, Precision::Single).unwrap();
        let error = create(kept.path(), true).unwrap_err();
        assert!(error.is_bad_input() && error.to_string().contains("not a checkpoint of rnnc"), "{error}");
        assert!(error.to_string().contains("move the file away"), "{error}");
    }

    #[test]
    fn a_directory_that_cannot_be_one_is_refused_by_name() {
        let kept = tempfile::tempdir().unwrap();
        fs::write(kept.path().join("file"), "mine").unwrap();
        for name in ["file", "file/run", "file/a/run"] {
            let error = create(&kept.path().join(name), false).unwrap_err();
            let expected =
                format!("`run.directory`: {}/file is a file, not a directory", kept.path().display());
            assert!(error.is_bad_input() && error.to_string().starts_with(&expected), "{error}");
        }
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink("nowhere", kept.path().join("link")).unwrap();
            create(&kept.path().join("link"), false).unwrap_err();
            std::os::unix::fs::symlink(".", kept.path().join("here")).unwrap();
            create(&kept.path().join("here/run"), false).unwrap();
        }
    }

    #[test]
    fn files_that_no_run_has_left_are_kept_unless_they_are_the_same() {
        let kept = tempfile::tempdir().unwrap();
        for (name, same) in [("train.toml", "settings"), ("network.rnn", "network"), ("metrics.jsonl", "")] {
            let path = kept.path().join(name);
            fs::write(&path, "mine").unwrap();
            for overwrite in [false, true] {
                let error = create(kept.path(), overwrite).unwrap_err().to_string();
                assert!(
                    error.starts_with(&format!("{}: a file that is not a run's", path.display())),
                    "{error}"
                );
            }
            assert_eq!(fs::read(&path).unwrap(), b"mine");
            fs::write(&path, same).unwrap();
            create(kept.path(), false).unwrap();
        }
    }

    #[test]
    fn copies_that_are_the_same_are_not_written_again() {
        let kept = tempfile::tempdir().unwrap();
        let (directory, _lock) = create(kept.path(), false).unwrap();
        directory.keep("settings", "network").unwrap();
        let ((), done) = with_fault(None, || directory.keep("settings", "network").unwrap());
        assert!(done.is_empty(), "{done:?}");
        directory.keep("settings", "another").unwrap();
        assert_eq!(directory.network_text().unwrap(), copy_of("another"));
    }

    #[test]
    fn a_run_replaces_its_own_copies_and_nobody_elses_file() {
        let kept = tempfile::tempdir().unwrap();
        let (directory, lock) = create(kept.path(), false).unwrap();
        drop(lock);
        write_checkpoint(&directory.checkpoint());
        fs::write(directory.config(), "settings").unwrap();
        directory.keep("settings", "network").unwrap();
        assert_eq!(fs::read_to_string(directory.config()).unwrap(), "settings", "the user's own");
        // That one is the run's.
        resume(kept.path(), "settings").unwrap();
        directory.keep("settings", "another").unwrap();
        assert!(directory.network_text().unwrap().starts_with("another\n# A copy that rnnc train made"));

        let (mine, copy) = ("mine".to_owned(), fs::read_to_string(directory.network()).unwrap());
        for (file, text) in
            [(directory.config(), &mine), (directory.network(), &copy.replace("another", "mine"))]
        {
            let before = fs::read_to_string(&file).unwrap();
            fs::write(&file, text).unwrap();
            let tried = [
                resume(kept.path(), "settings").map(drop),
                create(kept.path(), true).map(drop),
                RunDirectory::check(kept.path(), true, "settings", "network"),
                directory.keep("settings", "network"),
            ];
            for error in tried.map(Result::unwrap_err) {
                assert!(error.is_bad_input(), "{error}");
                let begin = format!("{}: the run keeps its copy of th", file.display());
                assert!(error.to_string().starts_with(&begin), "{error}");
                assert!(error.to_string().ends_with(", or move it away"), "{error}");
            }
            assert_eq!(&fs::read_to_string(&file).unwrap(), text);
            fs::write(&file, before).unwrap();
        }
        create(kept.path(), true).unwrap();
    }

    #[test]
    fn a_copy_is_one_whatever_the_text_ends_with_and_until_it_is_changed() {
        for text in ["", "\n", "a", "a\n", "a\n\n", "a\r\n", "a\r\nb", &copy_of("a")] {
            let copy = copy_of(text);
            assert!(is_copy(&copy) && copy.starts_with(text), "{text:?}");
            assert!(!is_copy(text) || text == copy_of("a"), "{text:?}");
            for changed in
                [format!("{copy}b"), format!("{copy}\n"), format!("b{copy}"), copy.replace(": ", ":")]
            {
                assert!(!is_copy(&changed), "{changed:?}");
            }
        }
    }

    #[test]
    fn metrics_that_are_no_runs_are_not_replaced() {
        let kept = tempfile::tempdir().unwrap();
        let (directory, lock) = create(kept.path(), false).unwrap();
        drop(lock);
        write_checkpoint(&directory.checkpoint());
        fs::write(directory.metrics(), "{\"step\": 1}\n").unwrap();
        for tried in [resume(kept.path(), "settings").map(drop), create(kept.path(), true).map(drop)] {
            let error = tried.unwrap_err().to_string();
            assert!(error.contains("metrics.jsonl: the run keeps its metrics here"), "{error}");
        }
        assert_eq!(fs::read_to_string(directory.metrics()).unwrap(), "{\"step\": 1}\n");
        for fine in ["", "{\"ki", &text_of(&[1])] {
            fs::write(directory.metrics(), fine).unwrap();
            resume(kept.path(), "settings").unwrap();
        }
    }

    #[test]
    fn a_directory_that_a_run_writes_to_is_refused() {
        let kept = tempfile::tempdir().unwrap();
        let (directory, _lock) = create(kept.path(), false).unwrap();
        fs::write(directory.checkpoint(), "old").unwrap();
        for second in [create(kept.path(), false), create(kept.path(), true), resume(kept.path(), "settings")]
        {
            assert!(second.unwrap_err().to_string().contains("another rnnc train"));
        }
        RunDirectory::open(kept.path()).unwrap();
    }
}
