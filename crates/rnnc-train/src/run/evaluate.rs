//! What a trained network reaches on data: the numbers that its run reported, or those of other files.

use crate::data::files::DataFiles;
use crate::data::preparation::Preparation;
use crate::data::sequences::Sequences;
use crate::data::split::{read_data, read_files};
use crate::error::TrainError;
use crate::evaluation::{Evaluation, Evaluator, EvaluatorConfig};
use crate::run::checkpoint::About;
use crate::settings::config::{Config, DataKind};
use crate::task::losses::LossNetwork;
use crate::task::metrics::check_metrics;
use crate::trainer::MakeExecutor;
use rnnc_graph::Graph;
use rnnc_io::Weights;
use rnnc_plan::{ExecutionConfig, Plan};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

/// A part of the data of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataPart {
    /// What is learned from.
    Training,
    /// What is watched meanwhile.
    Validation,
    /// What is reported at the end.
    Test,
}

/// What is to be evaluated.
pub struct EvaluationJob<'a> {
    /// The settings of the run.
    pub config: &'a Config,
    /// The network that they name.
    pub network: &'a Graph,
    /// Makes the executor. Setups have the precision in which the weights were trained, if their file says so.
    pub make: MakeExecutor<'a>,
    /// The weights: a checkpoint, or a file of weights.
    pub weights: &'a Path,
    /// On what.
    pub on: EvaluateOn<'a>,
    /// Once true, nothing more is evaluated.
    pub stop: &'a AtomicBool,
}

/// Data to evaluate on.
#[derive(Clone, Copy, Debug)]
pub enum EvaluateOn<'a> {
    /// Parts of the run's data; of several, those that there are.
    Parts(&'a [DataPart]),
    /// Files and globs of the same kind.
    Files(&'a [String]),
}

/// Computes the loss and the metrics of the settings, for each part that there is; `None` stands for files. What it is of the validation
/// and the test data, the run has reported, to the last digit where executor and threads are the same.
///
/// # Errors
/// What a run with these settings refuses; a part that is not there, and none at all.
pub fn evaluate(job: &EvaluationJob<'_>) -> Result<Vec<(Option<DataPart>, Evaluation)>, TrainError> {
    let (config, training) = (job.config, &job.config.training);
    config.check().map_err(TrainError::Setting)?;
    check_metrics(&training.metrics, training.loss)?;
    let network =
        training.loss.of_with(job.network, training.output.as_deref(), &training.loss_settings())?;
    let weights = Weights::load(job.weights, &network.graph)?;
    // Weights alone do not say.
    let about = About::read(job.weights).ok();
    let precision = about.as_ref().map(|about| about.identity.precision).unwrap_or_default();
    let known = about.map(|about| about.preparation).filter(|known| !known.is_none());
    let make = |plan: Plan, setup: ExecutionConfig| (job.make)(plan, ExecutionConfig { precision, ..setup });
    let mut found = Vec::new();
    let (parts, preparation) = data(job, &network, known.as_ref())?;
    for (part, data) in parts {
        // As the run validates.
        let frames = config.run.validation_frames.filter(|_| part == Some(DataPart::Validation));
        let setup = EvaluatorConfig::of(config, frames, &preparation);
        let mut evaluator = Evaluator::new(&network, data, &setup, &make)?;
        if let Some(evaluation) = evaluator.evaluate(&weights, job.stop)? {
            found.push((part, evaluation));
        }
    }
    Ok(found)
}

/// Parts of the data; `None` is other files.
type Parts = Vec<(Option<DataPart>, Sequences)>;

fn data(
    job: &EvaluationJob<'_>,
    network: &LossNetwork,
    known: Option<&Preparation>,
) -> Result<(Parts, Preparation), TrainError> {
    let parts = match job.on {
        EvaluateOn::Files(patterns) => {
            let files = DataFiles { setting: "--files", patterns, base: Path::new("") };
            let known = match (job.config.data.kind, known) {
                (DataKind::Csv, Some(known)) => known.clone(),
                (DataKind::Csv, None) => {
                    return Err(TrainError::file(
                        job.weights,
                        "it does not say how it read tables: give a checkpoint that was trained on them",
                    ));
                }
                (DataKind::Text | DataKind::Arrays | DataKind::Audio, _) => Preparation::default(),
            };
            let data = read_files(job.config, job.network, network, files, &known)?;
            return Ok((vec![(None, data)], known));
        }
        EvaluateOn::Parts(parts) => parts,
    };
    let (split, preparation) = read_data(job.config, job.network, network, known)?;
    let there = [
        (DataPart::Training, split.train),
        (DataPart::Validation, split.validation),
        (DataPart::Test, split.test),
    ];
    let mut data = Vec::new();
    for (part, sequences) in there {
        if parts.contains(&part) && sequences.frames > 0 {
            data.push((Some(part), sequences));
        }
    }
    if data.is_empty() {
        return Err(TrainError::Setting(
            "the settings name no such data: give shares in `data.validation` and `data.test`, or files in \
             `data.validation_files` and `data.test_files`"
                .into(),
        ));
    }
    Ok((data, preparation))
}

/// The settings of a run whose directory this is, from the copy there. Paths in it are relative to where the settings stood: the
/// directory above, at which `run.directory` leads here.
///
/// # Errors
/// A directory without settings; one that was moved away from what the settings name.
pub fn settings_of_run(directory: &Path) -> Result<Config, TrainError> {
    let copy = directory.join("train.toml");
    let text = rnnc_io::read_text(&copy)?;
    let here = directory.canonicalize().map_err(|e| TrainError::read(directory, e))?;
    let leads_here = |base: &PathBuf| {
        let config = Config::parse(text.clone(), base).ok()?;
        let is_here = config.run.directory.canonicalize().is_ok_and(|found| found == here);
        (is_here && config.network.file.is_file()).then_some(config)
    };
    // Relative ones first, for messages to name files as they are known.
    let given = directory.ancestors().map(Path::to_path_buf);
    let mut bases = given.chain(here.ancestors().map(Path::to_path_buf));
    if let Some(config) = bases.find_map(|base| leads_here(&base)) {
        return Ok(config);
    }
    // What is wrong with the text is said as such.
    Config::parse(text, directory).map_err(|problem| TrainError::file(&copy, problem))?;
    Err(TrainError::file(
        &copy,
        "the copy of the settings does not lead to the network and the data, whose paths are relative to the file that it is of: \
         give that file instead of the run's directory",
    ))
}
