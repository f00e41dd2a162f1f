//! `rnnc config`: the settings of a training run.

use crate::failure::Outcome;
use crate::settings::SetArgs;
use clap::Args;
use rnnc_train::settings_page;
use std::io::Write;
use std::path::PathBuf;

/// The arguments.
#[derive(Args)]
#[command(after_help = "\
Examples:
  rnnc config train.toml
  rnnc config train.toml --set training.window=64
  rnnc config --reference")]
pub struct ShowConfig {
    /// The settings
    #[arg(value_name = "TRAIN.toml", required_unless_present = "reference")]
    config: Option<PathBuf>,
    #[command(flatten)]
    set: SetArgs,
    /// List all settings that there are, with defaults, as docs/training.md does
    #[arg(long, conflicts_with_all = ["config", "set"])]
    reference: bool,
}

impl ShowConfig {
    /// Prints settings.
    pub fn run(&self) -> anyhow::Result<Outcome> {
        let text = match &self.config {
            Some(path) => self.set.load(path)?.effective().map_err(anyhow::Error::msg)?,
            None => settings_page(),
        };
        std::io::stdout().lock().write_all(text.as_bytes())?;
        Ok(Outcome::Done)
    }
}
