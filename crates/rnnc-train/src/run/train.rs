//! A whole run: all that it takes is read, checked and made, and then it goes on to its end.

use crate::data::sequences::Sequences;
use crate::data::split::read_data;
use crate::diagnosis;
use crate::error::TrainError;
use crate::evaluation::{Evaluator, EvaluatorConfig};
use crate::run::best::Validations;
use crate::run::checkpoint::Checkpoint;
use crate::run::directory::RunDirectory;
use crate::run::job::{Job, Summary};
use crate::run::observer::{Event, Observer};
use crate::run::sitting::{Parts, Run};
use crate::sample::Sampler;
use crate::settings::config::DataKind;
use crate::task::metrics::check_metrics;
use crate::trainer::{MakeExecutor, Trainer};
use rnnc_graph::count;
use rnnc_io::Weights;
use rnnc_plan::{ExecutionConfig, Plan};

/// Trains as the job says.
///
/// # Errors
/// All input is checked before the first window, and before anything is written: settings, data and targets of all parts,
/// the sample's prompt, the checkpoint to go on from; and all executors are made. After that: a loss, gradient, weight or
/// slot that is not finite (the last checkpoint is kept), and a last checkpoint that cannot be written (the one before is
/// kept).
pub fn train(job: &Job<'_>, observer: &mut dyn Observer) -> Result<Summary, TrainError> {
    let (config, training) = (job.config, &job.config.training);
    config.check().map_err(TrainError::Setting)?;
    check_metrics(&training.metrics, training.loss)?;
    let network =
        training.loss.of_with(job.network, training.output.as_deref(), &training.loss_settings())?;
    let previous = if job.resume {
        let (directory, lock) = RunDirectory::resume(&config.run.directory, &config.text, job.network_text)?;
        let checkpoint = Checkpoint::load(&directory.checkpoint(), &network.graph)?;
        Some((directory, lock, checkpoint))
    } else {
        // It is asked again where the run begins; but data may take long to read.
        RunDirectory::check(&config.run.directory, config.run.overwrite, &config.text, job.network_text)?;
        None
    };
    // In the precision in which the run began, unless told otherwise.
    let precision =
        previous.as_ref().map(|(_, _, checkpoint)| checkpoint.identity.precision).unwrap_or_default();
    let make =
        |plan: Plan, config: ExecutionConfig| (job.make)(plan, ExecutionConfig { precision, ..config });

    let known = previous.as_ref().map(|(_, _, checkpoint)| &checkpoint.preparation);
    let known = known.filter(|known| !known.is_none());
    let (split, preparation) = read_data(config, job.network, &network, known)?;
    if !split.cuts.is_empty() && config.data.kind != DataKind::Text && split.has_several() {
        let places: Vec<String> = split.cuts.iter().map(usize::to_string).collect();
        observer.event(Event::Warning(&format!(
            "no sequence of the data begins near where `data.validation` and `data.test` say: one is cut at frame {}, and \
             its tail begins without the state before it",
            places.join(" and one at ")
        )));
    }
    let frames = [split.train.frames, split.validation.frames, split.test.frames];
    let evaluator = |data: Sequences, frames| {
        if data.frames == 0 {
            return Ok(None);
        }
        Evaluator::new(&network, data, &EvaluatorConfig::of(config, frames, &preparation), &make).map(Some)
    };
    let validation = evaluator(split.validation, config.run.validation_frames)?;
    let test = evaluator(split.test, None)?;
    let mut trainer =
        Trainer::new(network.clone(), job.network_text, split.train, training, config.run.threads, &make)?;
    let sampler = sampler(job, &trainer, &make)?;

    let (mut seconds, mut validations) = (0.0, Validations::default());
    if let Some((directory, _, checkpoint)) = &previous {
        let before = checkpoint.identity.streams;
        if before != training.streams {
            return Err(TrainError::Setting(format!(
                "`training.streams` must be {before}, not {}, for the run to go on: its state is of {}. To train with another \
                 number, begin a new run with the weights of this one: `weights = {:?}` in `[network]`",
                training.streams,
                count(before, "stream"),
                RunDirectory::checkpoint(directory)
            )));
        }
        let (before, now) = (checkpoint.identity.optimizer, training.optimizer.optimizer());
        if before != now {
            return Err(TrainError::Setting(format!(
                "`training.optimizer` must be {:?}, not {:?}, for the run to go on: what its checkpoint keeps of each weight is \
                 {0}'s. To train with another, begin a new run with the weights of this one: `weights = {:?}` in `[network]`",
                before.name(),
                now.name(),
                RunDirectory::checkpoint(directory)
            )));
        }
        for difference in checkpoint.identity.differences(trainer.identity()) {
            let warning = format!("the run differs from how it began: {difference}");
            observer.event(Event::Warning(&warning));
        }
        trainer.restore(checkpoint)?;
        (seconds, validations) = (checkpoint.progress.seconds, checkpoint.progress.validations);
    } else if let Some(path) = &config.network.weights {
        trainer.set_weights(&Weights::load(path, &network.graph)?)?;
    }
    if let Some(place) = diagnosis::first_non_finite(&network.graph, &trainer.weights()?) {
        return Err(TrainError::Setting(format!("before the first update, weight {place}")));
    }
    let (directory, lock) = match previous {
        Some((directory, lock, _)) => (directory, lock),
        None => {
            let run = &config.run;
            let (directory, lock) =
                RunDirectory::create(&run.directory, run.overwrite, &config.text, job.network_text)?;
            // At once, so that there always is a checkpoint, and a disk that takes none is known early; and first, so that
            // an old run is whole until a new one is.
            let first = Checkpoint { preparation: preparation.clone(), ..trainer.checkpoint(0.0)? };
            first.save(&directory.checkpoint(), &network.graph)?;
            directory.begin_anew()?;
            (directory, lock)
        }
    };
    if !lock.is_held() {
        observer.event(Event::Warning(
            "the file system of the run's directory has no locks: take care that no other run writes there",
        ));
    }
    if network.graph.looks_ahead() {
        observer.event(Event::Warning(
            "the network looks ahead: splitting the data into windows changes what it computes, for the last frames \
             of a window do not see the next window's",
        ));
    }
    directory.keep(&config.text, job.network_text)?;
    let parts = Parts { validation, test, sampler, preparation };
    Run::new(job, observer, trainer, parts, (directory, lock), (seconds, validations))?.run(frames)
}

/// What writes the sample at the end, if there is to be one: a network or a prompt that cannot are refused at once.
fn sampler(job: &Job<'_>, trainer: &Trainer, make: MakeExecutor<'_>) -> Result<Option<Sampler>, TrainError> {
    let (run, seed) = (&job.config.run, job.config.training.seed);
    if run.sample_length == 0 {
        return Ok(None);
    }
    let output = Some(trainer.identity().output.as_str());
    let sampler = Sampler::new(job.network, &trainer.weights()?, output, run.threads, seed, make)?;
    sampler.check(run.sample_prompt.as_bytes(), run.sample_temperature)?;
    Ok(Some(sampler))
}
