//! Networks from files.

use clap::Args;
use rnnc_graph::Graph;
use rnnc_io::read_network;
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
        Ok(compile(&self.file, &read_network(&self.file)?, self.network.as_deref())?)
    }
}

/// Compiles a network of a text.
pub fn compile(path: &Path, text: &str, network: Option<&str>) -> Result<Graph, rnnc_lang::Errors> {
    rnnc_lang::compile(&path.display().to_string(), text, network)
}
