//! A run's directory: all that is needed to resume the run or to write text with its network.
//!
//! `train.toml` and `network.rnn` are copies of what the run was started with, `checkpoint.safetensors` is the
//! last checkpoint, and `metrics.jsonl` has a line of JSON per report.

use crate::error::TrainError;
use crate::files::write_whole;
use crate::observer::Metrics;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
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
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                Err(TrainError::file(&directory.path, "no run is here: there is no checkpoint.safetensors"))
            }
            Err(e) => Err(TrainError::read(&checkpoint, e)),
        }
    }

    /// Makes the directory of a new run.
    ///
    /// # Errors
    /// A run that is there already, unless it may be overwritten: then it is removed, file by file.
    pub fn create(path: impl Into<PathBuf>, overwrite: bool) -> Result<RunDirectory, TrainError> {
        let directory = RunDirectory { path: path.into() };
        fs::create_dir_all(&directory.path).map_err(|e| TrainError::write(&directory.path, e))?;
        if directory.checkpoint().exists() && !overwrite {
            return Err(TrainError::file(
                &directory.path,
                "a run is here already: resume it, name another `run.directory`, or set `run.overwrite = true`",
            ));
        }
        for old in [directory.checkpoint(), directory.metrics()] {
            match fs::remove_file(&old) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(TrainError::write(&old, e)),
                _ => {}
            }
        }
        Ok(directory)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the checkpoint is.
    pub fn checkpoint(&self) -> PathBuf {
        self.path.join("checkpoint.safetensors")
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

    /// Keeps what the run was started with.
    pub fn keep(&self, config: &str, network: &str) -> Result<(), TrainError> {
        write_whole(&self.config(), |out| out.write_all(config.as_bytes()))?;
        write_whole(&self.network(), |out| out.write_all(network.as_bytes()))
    }

    /// Reads the copy of the network's text.
    pub fn network_text(&self) -> Result<String, TrainError> {
        fs::read_to_string(self.network()).map_err(|e| TrainError::read(&self.network(), e))
    }

    /// Opens the metrics to be added to, without the lines of updates after `update`: a run that resumes makes
    /// them again.
    pub fn metrics_after(&self, update: u64) -> Result<MetricsFile, TrainError> {
        #[derive(serde::Deserialize)]
        struct Line {
            update: u64,
        }
        let path = self.metrics();
        let old = match fs::read_to_string(&path) {
            Ok(old) => old,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(e) => return Err(TrainError::read(&path, e)),
        };
        // A line that was cut when the last sitting ended is no JSON.
        let made = |line: &&str| serde_json::from_str::<Line>(line).is_ok_and(|l| l.update <= update);
        let kept: String = old.lines().filter(made).flat_map(|line| [line, "\n"]).collect();
        write_whole(&path, |out| out.write_all(kept.as_bytes()))?;
        let file = OpenOptions::new().append(true).open(&path).map_err(|e| TrainError::write(&path, e))?;
        Ok(MetricsFile { path, file })
    }
}

/// `metrics.jsonl`, open.
#[derive(Debug)]
pub struct MetricsFile {
    path: PathBuf,
    file: File,
}

impl MetricsFile {
    /// Adds a line.
    pub fn add(&mut self, metrics: &Metrics) -> Result<(), TrainError> {
        let line = serde_json::to_string(metrics).map_err(|e| TrainError::file(&self.path, e.to_string()))?;
        self.file.write_all(format!("{line}\n").as_bytes()).map_err(|e| TrainError::write(&self.path, e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observer::Evaluated;

    fn line(update: u64) -> Metrics {
        Metrics::Validation(Evaluated { update, seconds: 1.0, loss: 2.0, bits_per_symbol: None })
    }

    #[test]
    fn metrics_after_the_checkpoint_are_dropped_when_a_run_resumes() {
        let kept = tempfile::tempdir().unwrap();
        let directory = RunDirectory::create(kept.path().join("run"), false).unwrap();
        let mut metrics = directory.metrics_after(0).unwrap();
        (1..4).for_each(|u| metrics.add(&line(u)).unwrap());
        fs::write(directory.metrics(), fs::read_to_string(directory.metrics()).unwrap() + "{\"upd").unwrap();
        directory.metrics_after(2).unwrap().add(&line(9)).unwrap();
        let text = fs::read_to_string(directory.metrics()).unwrap();
        assert_eq!(
            text,
            "{\"kind\":\"validation\",\"update\":1,\"seconds\":1.0,\"loss\":2.0}\n\
             {\"kind\":\"validation\",\"update\":2,\"seconds\":1.0,\"loss\":2.0}\n\
             {\"kind\":\"validation\",\"update\":9,\"seconds\":1.0,\"loss\":2.0}\n"
        );
    }

    #[test]
    fn a_run_that_is_there_is_kept_unless_it_may_be_overwritten() {
        let kept = tempfile::tempdir().unwrap();
        let path = kept.path().join("run");
        assert!(RunDirectory::open(&path).unwrap_err().to_string().contains("no run is here"));
        let directory = RunDirectory::create(&path, false).unwrap();
        fs::write(directory.checkpoint(), "old").unwrap();
        assert!(
            RunDirectory::create(&path, false).unwrap_err().to_string().contains("a run is here already")
        );
        RunDirectory::open(&path).unwrap();
        RunDirectory::create(&path, true).unwrap();
        assert!(!directory.checkpoint().exists());
    }
}
