//! What a run is asked for, and what it answers at its end.

use crate::run::best::Best;
use crate::run::directory::RunDirectory;
use crate::run::observer::Evaluated;
use crate::settings::config::Config;
use crate::trainer::MakeExecutor;
use rnnc_graph::Graph;
use std::sync::atomic::AtomicBool;

/// What is to be done.
pub struct Job<'a> {
    /// How.
    pub config: &'a Config,
    /// The network that `config.network` names.
    pub network: &'a Graph,
    /// The text that it was compiled from.
    pub network_text: &'a str,
    /// Makes the executor that `config.run.executor` names. Setups have the precision in which the run that goes on began,
    /// or the default one.
    pub make: MakeExecutor<'a>,
    /// Go on from the run directory's checkpoint.
    pub resume: bool,
    /// Once true, the run ends after the current window, with a checkpoint.
    pub stop: &'a AtomicBool,
}

/// How a run ended.
#[derive(Clone, Debug)]
pub struct Summary {
    /// Where it is.
    pub directory: RunDirectory,
    /// Updates made, over all sittings.
    pub updates: u64,
    /// Seconds of training, over all sittings.
    pub seconds: f64,
    /// Whether it was stopped before its end.
    pub stopped: bool,
    /// The loss on the validation data at the end.
    pub validation: Option<Evaluated>,
    /// The smallest loss on the validation data, of the weights in [`RunDirectory::best`].
    pub best: Option<Best>,
    /// Whether it ended because no validation found a smaller loss any more.
    pub out_of_patience: bool,
    /// The loss on the test data: of the best weights, where they are kept, else of the last ones.
    pub test: Option<Evaluated>,
}
