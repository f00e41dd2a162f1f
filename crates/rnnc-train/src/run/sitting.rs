//! How a run goes on, from the first window or the last checkpoint to its end.

use crate::data::preparation::Preparation;
use crate::error::TrainError;
use crate::evaluation::{Evaluation, Evaluator};
use crate::run::best::{Best, Validations};
use crate::run::checkpoint::Checkpoint;
use crate::run::directory::{MetricsFile, RunDirectory};
use crate::run::job::{Job, Summary};
use crate::run::lock::DirectoryLock;
use crate::run::observer::{Beginning, Evaluated, Event, Metrics, Observer, UpdateReport};
use crate::sample::Sampler;
use crate::settings::learning_rate::Decay;
use crate::trainer::{Step, Trainer};
use rnnc_io::{FileError, Weights};
use std::collections::BTreeSet;
use std::f64::consts::LN_2;
use std::io;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// What the updates since the last line of metrics did.
#[derive(Default)]
struct Interval {
    loss_sum: f64,
    counted: f64,
    largest_norm: f64,
    learning_rate: f64,
    frames: usize,
    busy: Duration,
}

/// A run that goes on.
pub(crate) struct Run<'a> {
    job: &'a Job<'a>,
    observer: &'a mut dyn Observer,
    trainer: Trainer,
    parts: Parts,
    directory: RunDirectory,
    /// Held until the run ends.
    lock: DirectoryLock,
    metrics: MetricsFile,
    /// The newest evaluation on the validation data.
    validated: Option<Evaluated>,
    /// What all of them have found.
    validations: Validations,
    /// Seconds of the sittings before.
    seconds_before: f64,
    begun: Instant,
    /// The update of the newest checkpoint.
    written_at: u64,
    /// When a checkpoint was last tried.
    saved: Instant,
    /// The warnings since the newest checkpoint: a full disk has the same one again and again.
    told: BTreeSet<String>,
    interval: Interval,
    /// Time spent on updates alone, in this sitting.
    busy: Duration,
    /// Frames of all streams read in this sitting.
    frames_run: u64,
}

/// What a run has beside its trainer.
pub(crate) struct Parts {
    pub(crate) validation: Option<Evaluator>,
    /// For the end.
    pub(crate) test: Option<Evaluator>,
    pub(crate) sampler: Option<Sampler>,
    /// What was done to tables.
    pub(crate) preparation: Preparation,
}

impl<'a> Run<'a> {
    /// A run whose trainer is where its directory's checkpoint is, after so many seconds of training and such validations.
    pub(crate) fn new(
        job: &'a Job<'a>,
        observer: &'a mut dyn Observer,
        trainer: Trainer,
        parts: Parts,
        (directory, lock): (RunDirectory, DirectoryLock),
        (seconds_before, validations): (f64, Validations),
    ) -> Result<Run<'a>, TrainError> {
        let written_at = trainer.updates();
        let metrics = directory.metrics_after(written_at)?;
        Ok(Run {
            job,
            observer,
            trainer,
            parts,
            directory,
            lock,
            metrics,
            validated: None,
            validations,
            seconds_before,
            begun: Instant::now(),
            written_at,
            saved: Instant::now(),
            told: BTreeSet::new(),
            interval: Interval::default(),
            busy: Duration::ZERO,
            frames_run: 0,
        })
    }

    /// Goes on to the end. `frames` are those of the data to train on, to validate and to test with.
    pub(crate) fn run(mut self, frames: [usize; 3]) -> Result<Summary, TrainError> {
        self.begin(frames);
        self.all_updates()?;
        self.end()
    }
}

impl Run<'_> {
    fn begin(&mut self, [train_frames, validation_frames, test_frames]: [usize; 3]) {
        let identity = self.trainer.identity();
        let beginning = Beginning {
            network: identity.network.clone(),
            parameters: self.job.network.weights().iter().map(|w| w.len()).sum(),
            resumed_at: self.job.resume.then_some(self.trainer.updates()),
            updates: self.job.config.training.updates,
            train_frames,
            validation_frames,
            test_frames,
            executor: identity.executor.clone(),
            threads: identity.threads,
        };
        self.observer.event(Event::Begin(&beginning));
        if !self.job.resume {
            let path = self.directory.checkpoint();
            self.observer.event(Event::Checkpoint { update: self.written_at, path: &path });
        }
    }

    fn all_updates(&mut self) -> Result<(), TrainError> {
        let run = &self.job.config.run;
        let due = |every: u64, update: u64| every > 0 && update.is_multiple_of(every);
        while self.done() < 1.0 && !self.stopped() {
            self.one_update()?;
            let update = self.trainer.updates();
            if due(run.log_every, update) {
                self.log();
            }
            if self.done() < 1.0 && due(run.validate_every, update) {
                self.validate()?;
            }
            let long = run.checkpoint_minutes > 0.0
                && self.saved.elapsed().as_secs_f64() >= 60.0 * run.checkpoint_minutes;
            if self.done() < 1.0 && (long || due(run.checkpoint_every, update)) {
                match self.checkpoint() {
                    // Weights that are not finite do not become so again.
                    Err(error @ TrainError::NotFinite { .. }) => return Err(error),
                    // A full disk now may be none later; the checkpoint before still stands.
                    Err(error) => self.warn(&error),
                    Ok(()) => {}
                }
            }
        }
        Ok(())
    }

    fn one_update(&mut self) -> Result<(), TrainError> {
        let start = Instant::now();
        let step = self.trainer.step().map_err(|error| self.with_checkpoint(error))?;
        let took = start.elapsed();
        let training = &self.job.config.training;
        let frames = training.streams * training.step();
        self.busy += took;
        self.frames_run += frames as u64;
        self.interval.add(&step, frames, took);

        let (done, elapsed) = (self.done(), self.begun.elapsed());
        // What is left goes as what was done in this sitting.
        let before = self.done_before();
        let left = elapsed.as_secs_f64() * (1.0 - done) / (done - before).max(f64::MIN_POSITIVE);
        let report = UpdateReport {
            update: self.trainer.updates(),
            updates: training.updates,
            loss: step.loss(),
            done,
            elapsed,
            left: Duration::try_from_secs_f64(left.max(0.0)).unwrap_or(Duration::MAX),
            frames_per_second: self.frames_run as f64 / self.busy.as_secs_f64(),
        };
        self.observer.event(Event::Update(&report));
        Ok(())
    }

    /// Says where the last good checkpoint is.
    fn with_checkpoint(&self, error: TrainError) -> TrainError {
        match error {
            TrainError::File(FileError::Write { path, source }) => {
                let problem = format!("{source}; the checkpoint after update {} is kept", self.written_at);
                TrainError::write(&path, io::Error::new(source.kind(), problem))
            }
            TrainError::NotFinite { update, problem } => TrainError::NotFinite {
                update,
                problem: format!(
                    "{problem}; the checkpoint after update {} is kept in {}",
                    self.written_at,
                    self.directory.checkpoint().display()
                ),
            },
            other => other,
        }
    }

    fn end(mut self) -> Result<Summary, TrainError> {
        if self.interval.frames > 0 {
            self.log();
        }
        if self.written_at != self.trainer.updates() {
            self.checkpoint()?;
        }
        let (mut validation, mut test) = (None, None);
        if !self.stopped() {
            // Time may have run out right after one.
            let current = self.validated.clone().filter(|v| v.update == self.trainer.updates());
            let before = self.validations;
            validation = if current.is_some() { current } else { self.validate()? };
            if self.validations != before {
                // What it has found belongs to the checkpoint too.
                self.save(&self.directory.checkpoint(), self.validations)?;
            }
            test = self.evaluate_test()?;
            self.sample()?;
        }
        Ok(Summary {
            updates: self.trainer.updates(),
            seconds: self.seconds(),
            stopped: self.done() < 1.0,
            best: self.validations.best,
            out_of_patience: self.out_of_patience() && self.done_by_now() < 1.0,
            directory: self.directory,
            validation,
            test,
        })
    }

    fn stopped(&self) -> bool {
        self.job.stop.load(Ordering::Relaxed)
    }

    /// Seconds of training, over all sittings.
    fn seconds(&self) -> f64 {
        self.seconds_before + self.begun.elapsed().as_secs_f64()
    }

    /// How much is done, by updates or by time, whichever is further; all, where no validation finds a smaller loss any more.
    fn done(&self) -> f64 {
        if self.out_of_patience() { 1.0 } else { self.done_by_now() }
    }

    fn out_of_patience(&self) -> bool {
        self.job.config.training.patience.is_some_and(|most| self.validations.since_best >= most)
    }

    fn done_by_now(&self) -> f64 {
        self.done_at(self.trainer.updates(), self.seconds())
    }

    /// How much was done when this sitting began.
    fn done_before(&self) -> f64 {
        let steps =
            self.frames_run / (self.job.config.training.streams * self.job.config.training.step()) as u64;
        self.done_at(self.trainer.updates() - steps, self.seconds_before)
    }

    fn done_at(&self, updates: u64, seconds: f64) -> f64 {
        let training = &self.job.config.training;
        let by_updates = training.updates.map_or(0.0, |all| updates as f64 / all as f64);
        let by_time = training.minutes.map_or(0.0, |all| seconds / (60.0 * all));
        by_updates.max(by_time).min(1.0)
    }

    fn warn(&mut self, error: &TrainError) {
        let warning = error.to_string();
        if !self.told.contains(&warning) {
            self.observer.event(Event::Warning(&warning));
            self.told.insert(warning);
        }
    }

    /// Writes a line; that it cannot be written is no reason to stop.
    fn write(&mut self, metrics: &Metrics) {
        if let Err(error) = self.metrics.add(metrics) {
            self.warn(&error);
        }
        self.observer.event(Event::Metrics(metrics));
    }

    fn log(&mut self) {
        let interval = std::mem::take(&mut self.interval);
        let loss = (interval.counted > 0.0).then(|| interval.loss_sum / interval.counted);
        let metrics = Metrics::Training {
            update: self.trainer.updates(),
            frames: self.trainer.position().saturating_mul(self.job.config.training.streams as u64),
            seconds: self.seconds(),
            loss,
            bits_per_symbol: loss.and_then(|loss| self.bits(loss)),
            gradient_norm: interval.largest_norm,
            learning_rate: interval.learning_rate,
            frames_per_second: interval.frames as f64 / interval.busy.as_secs_f64(),
        };
        self.write(&metrics);
    }

    fn bits(&self, loss: f64) -> Option<f64> {
        self.job.config.training.loss.is_in_bits().then_some(loss / LN_2)
    }

    fn checkpoint(&mut self) -> Result<(), TrainError> {
        // Whether or not it can be written: else a full disk would be tried at every update.
        self.saved = Instant::now();
        let path = self.directory.checkpoint();
        let checkpoint = self.save(&path, self.validations)?;
        let update = self.trainer.updates();
        self.written_at = update;
        self.told.clear();
        let keep = self.job.config.run.keep_checkpoints;
        if keep > 0 {
            let kept = self.directory.checkpoint_after(update);
            self.directory.check_kept(&kept)?;
            self.check_lock(&kept)?;
            self.put(&kept, &checkpoint)?;
            self.directory.prune(keep)?;
        }
        self.observer.event(Event::Checkpoint { update, path: &path });
        Ok(())
    }

    /// Saves the run as it is now, which it gives back.
    fn save(&self, path: &Path, validations: Validations) -> Result<Checkpoint, TrainError> {
        self.check_lock(path)?;
        let mut checkpoint = self.trainer.checkpoint(self.seconds())?;
        checkpoint.progress.validations = validations;
        checkpoint.preparation.clone_from(&self.parts.preparation);
        self.put(path, &checkpoint)?;
        Ok(checkpoint)
    }

    /// Refuses to write to a directory that another run has by now.
    fn check_lock(&self, path: &Path) -> Result<(), TrainError> {
        self.lock.check().map_err(|e| TrainError::write(path, e))
    }

    fn put(&self, path: &Path, checkpoint: &Checkpoint) -> Result<(), TrainError> {
        let saved = checkpoint.save(path, &self.trainer.network().graph);
        saved.map_err(|error| self.with_checkpoint(error))
    }

    /// Counts a validation, and keeps the weights if they are the best.
    fn compare(&mut self, validated: &Evaluated) -> Result<(), TrainError> {
        let &Evaluated { update, loss, .. } = validated;
        let mut validations = self.validations.with(update, loss);
        let training = &self.job.config.training;
        if training.decay == Decay::Plateau {
            validations = validations.reduced(training.decay_patience);
        }
        let is_best = validations.best.is_some_and(|best| best.update == update);
        if is_best && self.job.config.run.keep_best {
            match self.save(&self.directory.best(), validations) {
                Err(error @ TrainError::NotFinite { .. }) => return Err(error),
                // Then the one before stays, and what is told of it.
                Err(error) => {
                    self.warn(&error);
                    return Ok(());
                }
                Ok(_) => {}
            }
        }
        self.validations = validations;
        self.trainer.reduce(validations.reductions);
        Ok(())
    }

    fn validate(&mut self) -> Result<Option<Evaluated>, TrainError> {
        let Some(mut evaluator) = self.parts.validation.take() else { return Ok(None) };
        let evaluated = self.evaluate(&mut evaluator, &self.trainer.weights()?, self.trainer.updates());
        self.parts.validation = Some(evaluator);
        let evaluated = evaluated?;
        if let Some(evaluated) = &evaluated {
            self.write(&Metrics::Validation(evaluated.clone()));
            self.compare(evaluated)?;
        }
        self.validated.clone_from(&evaluated);
        Ok(evaluated)
    }

    fn evaluate_test(&mut self) -> Result<Option<Evaluated>, TrainError> {
        let Some(mut evaluator) = self.parts.test.take() else { return Ok(None) };
        let best = self.validations.best.filter(|_| self.job.config.run.keep_best);
        let evaluated = match best.filter(|best| best.update != self.trainer.updates()) {
            Some(Best { update, .. }) => {
                let best = Weights::load(&self.directory.best(), &self.trainer.network().graph)?;
                self.evaluate(&mut evaluator, &best, update)?
            }
            None => self.evaluate(&mut evaluator, &self.trainer.weights()?, self.trainer.updates())?,
        };
        if let Some(evaluated) = &evaluated {
            self.write(&Metrics::Test(evaluated.clone()));
        }
        Ok(evaluated)
    }

    /// The loss of weights that the run had after an update.
    fn evaluate(
        &self,
        evaluator: &mut Evaluator,
        weights: &Weights,
        update: u64,
    ) -> Result<Option<Evaluated>, TrainError> {
        let found = evaluator.evaluate(weights, self.job.stop)?;
        Ok(found.map(|Evaluation { loss, metrics }| Evaluated {
            update,
            seconds: self.seconds(),
            loss,
            bits_per_symbol: self.bits(loss),
            metrics,
        }))
    }

    /// What the network writes by now.
    fn sample(&mut self) -> Result<(), TrainError> {
        let (config, job) = (&self.job.config.run, self.job);
        let Some(mut sampler) = self.parts.sampler.take().filter(|_| !self.stopped()) else { return Ok(()) };
        sampler.set_weights(&self.trainer.weights()?)?;
        let mut text = Vec::with_capacity(config.sample_length);
        sampler.write(
            config.sample_prompt.as_bytes(),
            config.sample_length,
            config.sample_temperature,
            &mut |byte| {
                text.push(byte);
                !job.stop.load(Ordering::Relaxed)
            },
        )?;
        self.observer.event(Event::Sample { prompt: &config.sample_prompt, text: &text });
        Ok(())
    }
}

impl Interval {
    fn add(&mut self, step: &Step, frames: usize, took: Duration) {
        self.loss_sum += step.loss_sum;
        self.counted += step.counted;
        self.largest_norm = self.largest_norm.max(step.gradient_norm);
        self.learning_rate = step.learning_rate;
        self.frames += frames;
        self.busy += took;
    }
}
