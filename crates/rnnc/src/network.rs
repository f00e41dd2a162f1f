//! Networks from files.

use crate::failure::BadInput;
use clap::Args;
use rnnc_graph::Graph;
use rnnc_train::{Wanted, mistaken};
use std::path::{Path, PathBuf};

/// The arguments of commands that read a network.
#[derive(Args, Clone, Debug)]
pub struct NetworkArgs {
    /// The equations
    #[arg(value_name = "NET.rnn")]
    pub file: PathBuf,
    /// Which network of the file, if it has several
    #[arg(long, value_name = "NAME")]
    pub network: Option<String>,
}

impl NetworkArgs {
    /// Reads and compiles the network.
    pub fn read(&self) -> anyhow::Result<Graph> {
        Ok(compile(&self.file, &read_text(&self.file)?, self.network.as_deref())?)
    }
}

/// Reads a file of equations.
pub fn read_text(path: &Path) -> Result<String, BadInput> {
    if let Some(problem) = mistaken(path, Wanted::Network) {
        return Err(BadInput(format!("{}: {problem}", path.display())));
    }
    std::fs::read_to_string(path)
        .map_err(|error| BadInput(format!("cannot read {}: {error}", path.display())))
}

/// Compiles a network of a text.
pub fn compile(path: &Path, text: &str, network: Option<&str>) -> Result<Graph, rnnc_lang::Errors> {
    rnnc_lang::compile(&path.display().to_string(), text, network)
}
