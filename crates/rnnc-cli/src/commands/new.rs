//! `rnnc new`: a directory that is ready to train.

mod recordings;
mod tables;

use crate::failure::{Outcome, bad_input};
use crate::screen::quoted;
use clap::{Args, ValueEnum};
use recordings::recordings;
use rnnc_io::write_whole;
use std::fs::Metadata;
use std::io::Write;
use std::path::{Path, PathBuf};

/// The arguments.
#[derive(Args)]
#[command(after_help = "\
Example:
  rnnc new my_model
  rnnc train my_model/train.toml")]
pub struct New {
    /// The directory to make; files that are there already stay as they are
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// What to begin with
    #[arg(long, value_enum, default_value_t)]
    template: Template,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Template {
    /// a character model of text, with the equations of the library's cells as text
    #[default]
    Text,
    /// a model that forecasts a table's column, with a year of a grid's load
    Series,
    /// a model that says which class a sequence is of, with a table of gestures
    Labels,
    /// a model of an amplifier, with recordings of what goes in and what comes out
    Audio,
}

impl Template {
    /// The files, by their paths.
    fn files(self) -> std::io::Result<Vec<(&'static str, Vec<u8>)>> {
        Ok(match self {
            Template::Text => vec![
                ("network.rnn", include_bytes!("../../templates/text/network.rnn").into()),
                ("train.toml", include_bytes!("../../templates/text/train.toml").into()),
                (
                    "text/cells.txt",
                    rnnc_lang::cells().iter().map(|cell| cell.text).collect::<Vec<_>>().join("\n").into(),
                ),
            ],
            Template::Series => vec![
                ("network.rnn", include_bytes!("../../templates/series/network.rnn").into()),
                ("train.toml", include_bytes!("../../templates/series/train.toml").into()),
                ("load.csv", tables::load().into()),
            ],
            Template::Labels => vec![
                ("network.rnn", include_bytes!("../../templates/labels/network.rnn").into()),
                ("train.toml", include_bytes!("../../templates/labels/train.toml").into()),
                ("gestures.csv", tables::gestures().into()),
            ],
            Template::Audio => {
                let network = ("network.rnn", include_bytes!("../../templates/audio/network.rnn").into());
                let settings = ("train.toml", include_bytes!("../../templates/audio/train.toml").into());
                [network, settings].into_iter().chain(recordings()?).collect()
            }
        })
    }
}

impl New {
    /// Writes the files: all of them, or none.
    pub fn run(&self) -> anyhow::Result<Outcome> {
        let files = self.template.files()?;
        let path = |name: &str| self.directory.join(name);
        let mut there = files.iter().filter(|(name, _)| path(name).symlink_metadata().is_ok());
        // What is as the template has it was left by a `new` that was ended half way.
        if let Some((first, _)) = there.clone().next()
            && !there.all(|(name, contents)| holds(&path(name), contents))
        {
            return bad_input(format!("{} is there already, and is not overwritten", path(first).display()));
        }
        let mut made = Made::default();
        for (name, contents) in &files {
            made.write(&path(name), contents)?;
        }
        made.keep();
        let mut out = std::io::stdout().lock();
        for (name, _) in &files {
            writeln!(out, "{}", path(name).display())?;
        }
        writeln!(out, "Train it:  rnnc train {}", quoted(&path("train.toml")))?;
        Ok(Outcome::Done)
    }
}

fn holds(path: &Path, contents: &[u8]) -> bool {
    // Not read, if it is of another length.
    let as_long = |found: Metadata| found.is_file() && found.len() == contents.len() as u64;
    path.metadata().is_ok_and(as_long) && std::fs::read(path).is_ok_and(|found| found == contents)
}

/// Files and directories that were made, which are removed again if not all of them can be.
#[derive(Default)]
struct Made(Vec<PathBuf>);

impl Made {
    /// Writes a file, unless it is there.
    fn write(&mut self, path: &Path, contents: &[u8]) -> anyhow::Result<()> {
        if path.symlink_metadata().is_ok() {
            return Ok(());
        }
        let directories: Vec<&Path> =
            path.ancestors().skip(1).take_while(|d| !d.as_os_str().is_empty() && !d.is_dir()).collect();
        for directory in directories.into_iter().rev() {
            std::fs::create_dir(directory)
                .map_err(|error| anyhow::anyhow!("cannot write {}: {error}", directory.display()))?;
            self.0.push(directory.into());
        }
        write_whole(path, |out| out.write_all(contents))?;
        self.0.push(path.into());
        Ok(())
    }

    fn keep(mut self) {
        self.0.clear();
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        for path in self.0.iter().rev() {
            // Best effort: what cannot be removed is left.
            let _ = if path.is_dir() { std::fs::remove_dir(path) } else { std::fs::remove_file(path) };
        }
    }
}
