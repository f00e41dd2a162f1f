//! Settings of a training run, and what the command line changes of them.

use crate::failure::bad_input;
use clap::Args;
use rnnc_train::Config;
use std::path::Path;

/// Changes of settings.
#[derive(Args)]
pub struct SetArgs {
    /// Another value for a setting of the file; may be given several times
    #[arg(long, value_name = "SECTION.NAME=VALUE", value_parser = change)]
    set: Vec<(String, String)>,
}

impl SetArgs {
    /// Reads a file with these changes.
    pub fn load(&self, path: &Path) -> anyhow::Result<Config> {
        Ok(Config::load_with(path, &self.set)?)
    }

    /// Changes settings that were read.
    pub fn change(&self, config: Config) -> anyhow::Result<Config> {
        if self.set.is_empty() {
            return Ok(config);
        }
        Config::parse_with(config.text, &config.base, &self.set).or_else(bad_input)
    }
}

fn change(argument: &str) -> Result<(String, String), String> {
    match argument.split_once('=') {
        Some((name, value)) => Ok((name.trim().into(), value.trim().into())),
        None => Err("a setting and its value are joined by `=`, as in `training.learning_rate=1e-3`".into()),
    }
}
