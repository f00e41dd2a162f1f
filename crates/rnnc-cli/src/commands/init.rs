//! `rnnc init`: initial weights.

use crate::failure::Outcome;
use crate::network::NetworkArgs;
use crate::outputs::check_output;
use clap::Args;
use rnnc_io::{Precision, Weights};
use rnnc_plan::check_available;
use std::path::PathBuf;

/// The arguments.
#[derive(Args)]
#[command(after_help = "\
The file is one of safetensors. Each weight has a name that says where it stands in the network, such as `h.i.W.x`: the names and \
shapes that weights from elsewhere must have.

Example:
  rnnc init net.rnn --seed 7 --output w.safetensors")]
pub struct Init {
    #[command(flatten)]
    network: NetworkArgs,
    /// What the random numbers begin with
    #[arg(long, default_value_t = 1, value_name = "S")]
    seed: u64,
    /// Where to write the weights, as float32
    #[arg(long, value_name = "W.safetensors")]
    output: PathBuf,
}

impl Init {
    /// Writes the weights.
    pub fn run(&self) -> anyhow::Result<Outcome> {
        check_output("--output", &self.output, &[("the network", Some(&*self.network.file))])?;
        let graph = self.network.read()?;
        // All of them, and a matrix three times while it is drawn.
        let counts = graph.weights().iter().map(|w| 8 * w.len() as u128);
        let bytes = counts.clone().sum::<u128>() + 2 * counts.max().unwrap_or(0);
        check_available("writing the weights", bytes)?;
        Weights::initial(&graph, self.seed).save(&self.output, &graph, Precision::Single)?;
        Ok(Outcome::Done)
    }
}
