//! A whole run: data, trainer and directory together, from the first window or the last checkpoint to the end.

use crate::checkpoint::Checkpoint;
use crate::config::{Config, DataKind};
use crate::data_files::data_files;
use crate::diagnosis;
use crate::directory::{MetricsFile, RunDirectory};
use crate::error::TrainError;
use crate::evaluation::Evaluator;
use crate::lock::DirectoryLock;
use crate::loss::{Loss, LossNetwork};
use crate::observer::{Beginning, Evaluated, Event, Metrics, Observer, UpdateReport};
use crate::sample::{Sampler, symbol_input};
use crate::sequences::{Sequences, Split};
use crate::series::read_series;
use crate::text::Text;
use crate::trainer::{MakeExecutor, Step, Trainer};
use rnnc_graph::Graph;
use rnnc_io::Weights;
use rnnc_io::list;
use rnnc_plan::{Plan, Setup};
use std::f64::consts::LN_2;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

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
    /// The loss on the test data.
    pub test: Option<Evaluated>,
}

/// Trains as the job says.
///
/// # Errors
/// All input is checked before the first window, and before anything is written: settings, data and targets of all parts,
/// the sample's prompt, the checkpoint to go on from; and all executors are made. After that: a loss, gradient, weight or
/// moment that is not finite (the last checkpoint is kept), and a last checkpoint that cannot be written (the one before is
/// kept).
pub fn train(job: &Job<'_>, observer: &mut dyn Observer) -> Result<Summary, TrainError> {
    let (config, training) = (job.config, &job.config.training);
    config.check().map_err(TrainError::Setting)?;
    let network = training.loss.of(job.network, training.output.as_deref())?;
    let previous = if job.resume {
        let (directory, lock) = RunDirectory::resume(&config.run.directory)?;
        let checkpoint = Checkpoint::load(&directory.checkpoint(), &network.graph)?;
        Some((directory, lock, checkpoint))
    } else {
        None
    };
    // In the precision in which the run began, unless told otherwise.
    let precision =
        previous.as_ref().map(|(_, _, checkpoint)| checkpoint.facts.precision).unwrap_or_default();
    let make = |plan: Plan, setup: Setup| (job.make)(plan, Setup { precision, ..setup });

    let split = read_data(job, &network)?;
    if !split.cuts.is_empty() && config.data.kind == DataKind::Arrays && split.has_several() {
        let places: Vec<String> = split.cuts.iter().map(usize::to_string).collect();
        observer.event(Event::Warning(&format!(
            "no sequence of the data begins near where `data.validation` and `data.test` say: one is cut at frame {}, and \
             its tail begins without the state before it",
            places.join(" and one at ")
        )));
    }
    let parts = [split.train.frames, split.validation.frames, split.test.frames];
    let evaluator = |data: Sequences| {
        if data.frames == 0 {
            return Ok(None);
        }
        let (run, window) = (&config.run, training.window);
        let (streams, frames) = (run.validation_streams, run.validation_frames);
        Evaluator::new(&network, data, streams, window, frames, run.threads, &make).map(Some)
    };
    let (validation, test) = (evaluator(split.validation)?, evaluator(split.test)?);
    let mut trainer =
        Trainer::new(network.clone(), job.network_text, split.train, training, config.run.threads, &make)?;
    let sampler = sampler(job, &trainer, &make)?;

    let mut seconds = 0.0;
    if let Some((_, _, checkpoint)) = &previous {
        for difference in checkpoint.facts.differences(trainer.facts()) {
            let warning = format!("the run goes on otherwise than it began: {difference}");
            observer.event(Event::Warning(&warning));
        }
        trainer.restore(checkpoint)?;
        seconds = checkpoint.progress.seconds;
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
            trainer.checkpoint(0.0)?.save(&directory.checkpoint(), &network.graph)?;
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
    let metrics = directory.metrics_after(trainer.updates())?;

    let written_at = trainer.updates();
    let mut run = Run {
        job,
        observer,
        trainer,
        validation,
        test,
        sampler,
        directory,
        _lock: lock,
        metrics,
        validated: None,
        seconds_before: seconds,
        begun: Instant::now(),
        written_at,
        saved: Instant::now(),
        interval: Interval::default(),
        busy: Duration::ZERO,
        frames_run: 0,
    };
    run.begin(parts);
    run.all_updates()?;
    run.end()
}

/// What writes the sample at the end, if there is to be one: a network or a prompt that cannot are refused at once.
fn sampler(job: &Job<'_>, trainer: &Trainer, make: MakeExecutor<'_>) -> Result<Option<Sampler>, TrainError> {
    let (run, seed) = (&job.config.run, job.config.training.seed);
    if run.sample_length == 0 {
        return Ok(None);
    }
    let output = Some(trainer.facts().output.as_str());
    let sampler = Sampler::new(job.network, &trainer.weights()?, output, run.threads, seed, make)?;
    sampler.check(run.sample_prompt.as_bytes(), run.sample_temperature)?;
    Ok(Some(sampler))
}

/// Reads the data and splits it, and refuses parts that are empty or have no target.
fn read_data(job: &Job<'_>, network: &LossNetwork) -> Result<Split, TrainError> {
    let data = &job.config.data;
    let own = [("validation_files", &data.validation_files), ("test_files", &data.test_files)];
    for (name, files) in own {
        check_apart(job, name, files)?;
    }
    let mut split = read_files(job, network, &data.files)?.split(data.validation, data.test);
    for (fraction, part, name) in
        [(data.validation, &split.validation, "validation"), (data.test, &split.test, "test")]
    {
        if fraction > 0.0 && part.frames < 2 {
            return Err(TrainError::Setting(format!(
                "`data.{name} = {fraction}` leaves {} frames to it: there is too little data",
                part.frames
            )));
        }
    }
    for ((_, files), part) in own.into_iter().zip([&mut split.validation, &mut split.test]) {
        if !files.is_empty() {
            *part = read_files(job, network, files)?;
        }
    }
    let parts = [
        ("training", &split.train, &Vec::new()),
        ("validation", &split.validation, &data.validation_files),
        ("test", &split.test, &data.test_files),
    ];
    let mut from = 0;
    for (name, part, own) in parts {
        let (first, files) = if own.is_empty() { (from, &data.files) } else { (0, own) };
        if part.frames > 0 && !part.has_counted() {
            let files: Vec<&str> = files.iter().map(String::as_str).collect();
            return Err(TrainError::Setting(format!(
                "the {name} data, frames {first} to {} of {}, has no frame with a target whose loss counts",
                first + part.frames - 1,
                list(&files)
            )));
        }
        from += part.frames;
    }
    Ok(split)
}

/// Refuses a file to validate or test with that is trained on too.
fn check_apart(job: &Job<'_>, name: &str, own: &[String]) -> Result<(), TrainError> {
    let Job { config, .. } = job;
    let trained = data_files(&config.data.files, &config.base)?.len();
    // A file that has several names is there once, under the first.
    let all = data_files(&[&config.data.files[..], own].concat(), &config.base)?;
    match data_files(own, &config.base)?.iter().find(|path| !all[trained..].contains(path)) {
        None => Ok(()),
        Some(both) => Err(TrainError::Setting(format!(
            "{} is in `data.files` and in `data.{name}`: a loss on what is trained on says nothing about other data",
            both.display()
        ))),
    }
}

fn read_files(job: &Job<'_>, network: &LossNetwork, files: &[String]) -> Result<Sequences, TrainError> {
    let config = job.config;
    match config.data.kind {
        DataKind::Text => {
            let symbols = symbol_input(job.network)?;
            let problem =
                |problem: String| TrainError::Network { network: job.network.name().into(), problem };
            if config.training.loss != Loss::CrossEntropy {
                return Err(problem(
                    "text has symbols as targets: `training.loss` must be \"cross_entropy\"".into(),
                ));
            }
            if network.target_size < symbols.min(256) {
                return Err(problem(format!(
                    "its input has {symbols} symbols and its output only {}: the next symbol must be one of them",
                    network.target_size
                )));
            }
            Text::read(files, &config.base)?.sequences(symbols)
        }
        DataKind::Arrays => read_series(files, &config.base, &network.graph),
    }
}

/// What the updates since the last line of metrics did.
#[derive(Default)]
struct Interval {
    loss_sum: f64,
    counted: usize,
    largest_norm: f64,
    learning_rate: f64,
    frames: usize,
    busy: Duration,
}

/// A run that goes on.
struct Run<'a> {
    job: &'a Job<'a>,
    observer: &'a mut dyn Observer,
    trainer: Trainer,
    validation: Option<Evaluator>,
    /// For the end.
    test: Option<Evaluator>,
    sampler: Option<Sampler>,
    directory: RunDirectory,
    /// Held until the run ends.
    _lock: DirectoryLock,
    metrics: MetricsFile,
    /// The newest evaluation on the validation data.
    validated: Option<Evaluated>,
    /// Seconds of the sittings before.
    seconds_before: f64,
    begun: Instant,
    /// The update of the newest checkpoint.
    written_at: u64,
    /// When a checkpoint was last tried.
    saved: Instant,
    interval: Interval,
    /// Time spent on updates alone, in this sitting.
    busy: Duration,
    /// Frames of all streams read in this sitting.
    frames_run: u64,
}

impl Run<'_> {
    fn begin(&mut self, [train_frames, validation_frames, test_frames]: [usize; 3]) {
        let facts = self.trainer.facts();
        let beginning = Beginning {
            network: facts.network.clone(),
            parameters: self.job.network.weights().iter().map(|w| w.len()).sum(),
            resumed_at: self.job.resume.then_some(self.trainer.updates()),
            updates: self.job.config.training.updates,
            train_frames,
            validation_frames,
            test_frames,
            executor: facts.executor.clone(),
            threads: facts.threads,
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
            let current = self.validated.filter(|v| v.update == self.trainer.updates());
            validation = if current.is_some() { current } else { self.validate()? };
            test = self.evaluate_test()?;
            self.sample()?;
        }
        Ok(Summary {
            updates: self.trainer.updates(),
            seconds: self.seconds(),
            stopped: self.done() < 1.0,
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

    /// How much is done, by updates or by time, whichever is further.
    fn done(&self) -> f64 {
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
        self.observer.event(Event::Warning(&error.to_string()));
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
        let loss = (interval.counted > 0).then(|| interval.loss_sum / interval.counted as f64);
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
        (self.job.config.training.loss == Loss::CrossEntropy).then_some(loss / LN_2)
    }

    fn checkpoint(&mut self) -> Result<(), TrainError> {
        // Whether or not it can be written: else a full disk would be tried at every update.
        self.saved = Instant::now();
        let checkpoint = self.trainer.checkpoint(self.seconds())?;
        let path = self.directory.checkpoint();
        let saved = checkpoint.save(&path, &self.trainer.network().graph);
        saved.map_err(|error| self.with_checkpoint(error))?;
        let update = self.trainer.updates();
        self.written_at = update;
        self.observer.event(Event::Checkpoint { update, path: &path });
        Ok(())
    }

    fn validate(&mut self) -> Result<Option<Evaluated>, TrainError> {
        let Some(mut evaluator) = self.validation.take() else { return Ok(None) };
        let evaluated = self.evaluate(&mut evaluator);
        self.validation = Some(evaluator);
        let evaluated = evaluated?;
        if let Some(evaluated) = evaluated {
            self.write(&Metrics::Validation(evaluated));
        }
        self.validated = evaluated;
        Ok(evaluated)
    }

    fn evaluate_test(&mut self) -> Result<Option<Evaluated>, TrainError> {
        let Some(mut evaluator) = self.test.take() else { return Ok(None) };
        let evaluated = self.evaluate(&mut evaluator)?;
        if let Some(evaluated) = evaluated {
            self.write(&Metrics::Test(evaluated));
        }
        Ok(evaluated)
    }

    fn evaluate(&self, evaluator: &mut Evaluator) -> Result<Option<Evaluated>, TrainError> {
        let loss = evaluator.evaluate(&self.trainer.weights()?, self.job.stop)?;
        Ok(loss.map(|loss| Evaluated {
            update: self.trainer.updates(),
            seconds: self.seconds(),
            loss,
            bits_per_symbol: self.bits(loss),
        }))
    }

    /// What the network writes by now.
    fn sample(&mut self) -> Result<(), TrainError> {
        let (config, job) = (&self.job.config.run, self.job);
        let Some(mut sampler) = self.sampler.take().filter(|_| !self.stopped()) else { return Ok(()) };
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
