//! `rnnc new`: a directory that is ready to train.

use crate::failure::{Outcome, bad_input};
use crate::screen::quoted;
use clap::{Args, ValueEnum};
use rnnc_io::{read_text, write_whole};
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
}

impl Template {
    /// The files, by their paths.
    fn files(self) -> Vec<(&'static str, String)> {
        match self {
            Template::Text => vec![
                ("network.rnn", include_str!("../../templates/network.rnn").into()),
                ("train.toml", include_str!("../../templates/train.toml").into()),
                (
                    "text/cells.txt",
                    rnnc_lang::cells().iter().map(|cell| cell.text).collect::<Vec<_>>().join("\n"),
                ),
            ],
        }
    }
}

impl New {
    /// Writes the files: all of them, or none.
    pub fn run(&self) -> anyhow::Result<Outcome> {
        let files = self.template.files();
        let path = |name: &str| self.directory.join(name);
        let mut there = files.iter().filter(|(name, _)| path(name).symlink_metadata().is_ok());
        // What is as the template has it was left by a `new` that was ended half way.
        if let Some((first, _)) = there.clone().next()
            && !there.all(|(name, contents)| holds(&path(name), contents))
        {
            return bad_input(format!("{} is there already, and is not overwritten", path(first).display()));
        }
        let mut made = Made::default();
        for (name, contents) in files {
            made.write(&self.directory.join(name), &contents)?;
        }
        made.keep();
        let mut out = std::io::stdout().lock();
        writeln!(out, "Train it:  rnnc train {}", quoted(&self.directory.join("train.toml")))?;
        Ok(Outcome::Done)
    }
}

fn holds(path: &Path, contents: &str) -> bool {
    path.is_file() && read_text(path).is_ok_and(|text| text == contents)
}

/// Files and directories that were made, which are removed again if not all of them can be.
#[derive(Default)]
struct Made(Vec<PathBuf>);

impl Made {
    /// Writes a file, unless it is there.
    fn write(&mut self, path: &Path, contents: &str) -> anyhow::Result<()> {
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
        write_whole(path, |out| out.write_all(contents.as_bytes()))?;
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
