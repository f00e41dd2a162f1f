//! `rnnc new`: a directory that is ready to train.

use crate::failure::{Outcome, bad_input};
use clap::{Args, ValueEnum};
use std::io::Write;
use std::path::PathBuf;

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
    /// Writes the files.
    pub fn run(&self) -> anyhow::Result<Outcome> {
        let files = self.template.files();
        for (name, _) in &files {
            let path = self.directory.join(name);
            if path.symlink_metadata().is_ok() {
                return bad_input(format!("{} is there already, and is not overwritten", path.display()));
            }
        }
        for (name, contents) in files {
            let path = self.directory.join(name);
            let parent = path.parent().unwrap_or(&self.directory);
            std::fs::create_dir_all(parent)
                .map_err(|error| anyhow::anyhow!("cannot write {}: {error}", parent.display()))?;
            rnnc_io::write_whole(&path, |out| out.write_all(contents.as_bytes()))?;
        }
        let mut out = std::io::stdout().lock();
        writeln!(out, "Train it:  rnnc train {}", self.directory.join("train.toml").display())?;
        Ok(Outcome::Done)
    }
}
