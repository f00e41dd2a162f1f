//! Truncated backpropagation through time, one window at a time.
//!
//! BPTT(h; h') (Williams & Peng 1990): every h' new frames, the errors of those frames alone go back through the
//! last h frames, and then the weights are updated. The loss is the mean over those new frames, of all streams,
//! whose loss counts.

use crate::data::batch::Batch;
use crate::data::feed::Feed;
use crate::data::preparation::Preparation;
use crate::data::sequences::Sequences;
use crate::diagnosis;
use crate::error::TrainError;
use crate::frozen::Frozen;
use crate::run::checkpoint::{Checkpoint, Progress};
use crate::run::identity::{RunIdentity, hash_of};
use crate::settings::config::TrainingConfig;
use crate::task::losses::{LossNetwork, add_weighted};
use rnnc_graph::{count, name_key};
use rnnc_io::Weights;
use rnnc_plan::{
    ExecutionConfig, Executor, ExecutorError, ParameterArray, Plan, PlanOptions, SettingError, Update,
    Values, ValuesMut, check_available,
};
use std::mem;

/// How an executor is made: which one, is for the caller to say.
pub type MakeExecutor<'a> = &'a dyn Fn(Plan, ExecutionConfig) -> Result<Box<dyn Executor>, ExecutorError>;

/// A network on its way to better weights.
///
/// ```
/// use rnnc_graph::{Activation, Connect, Graph, Init};
/// use rnnc_reference::ReferenceExecutor;
/// use rnnc_train::{Column, Loss, Sequences, Trainer, TrainingConfig};
/// // y = w x, to learn that y = 2 x
/// let mut graph = Graph::new("line");
/// let x = graph.input("x", 1);
/// let y = graph.sum("y", 1, Activation::Identity);
/// let w = graph.weight("y.diag.x", &[1], Init::Zeros);
/// graph.connect(x, y, Connect::diagonal(w));
/// graph.output("y", y);
///
/// let numbers = |values: Vec<f32>| Column::Numbers { size: 1, values };
/// let data = Sequences {
///     columns: vec![numbers(vec![1.0, 2.0, 3.0]), numbers(vec![2.0, 4.0, 6.0])],
///     starts: vec![0],
///     loss_mask: None,
///     frames: 3,
/// };
/// let config = TrainingConfig { learning_rate: 0.1, ..TrainingConfig::new(1, 3, Loss::MeanSquaredError) };
/// let network = config.loss.of(&graph, None)?;
/// let mut trainer = Trainer::new(network, "", data, &config, 1, &|plan, config| {
///     Ok(Box::new(ReferenceExecutor::new(plan, config)?))
/// })?;
/// let first = trainer.step()?.loss();
/// let last = (0..50).map(|_| trainer.step()).last().unwrap()?.loss();
/// assert!(last < first / 10.0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Trainer {
    network: LossNetwork,
    identity: RunIdentity,
    config: TrainingConfig,
    executor: Box<dyn Executor>,
    data: Sequences,
    feed: Feed,
    batch: Batch,
    /// The window behind it, read while a device works on that one.
    next: Batch,
    /// Whether the executor brings that one's inputs to where it needs them.
    brought: bool,
    /// `[step, streams]`
    losses: Vec<f64>,
    /// `[step, streams]`
    gradients: Vec<f64>,
    /// `[step, streams]`: what each loss is multiplied with.
    weights: Vec<f64>,
    /// What is not learned.
    frozen: Frozen,
    /// How often a plateau has reduced the learning rate.
    reductions: u64,
    updates: u64,
    position: u64,
    /// How many of the last frames the executor has run and can send errors back through, at most the window.
    kept: usize,
}

/// What one update did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// The sum of the losses of the new frames, each times its weight.
    pub loss_sum: f64,
    /// What it is divided by: how many frames counted, or the sum of their weights.
    pub counted: f64,
    /// The gradient's norm before clipping.
    pub gradient_norm: f64,
    /// The learning rate.
    pub learning_rate: f64,
}

impl Step {
    /// The loss: their mean per frame; NaN if no frame counted.
    pub fn loss(&self) -> f64 {
        self.loss_sum / self.counted
    }
}

impl Trainer {
    /// Prepares training: `data` has the columns that the network with its loss wants. The weights are the
    /// initial ones of the configuration's seed. `network_text` is recorded in checkpoints, as a hash.
    ///
    /// # Errors
    /// Settings out of their bounds, data that do not fit the network or have no frame whose loss
    /// counts, data shorter than one window of all streams, a network that looks ahead with h' < h, and what plan and
    /// executor refuse.
    pub fn new(
        network: LossNetwork,
        network_text: &str,
        data: Sequences,
        config: &TrainingConfig,
        threads: usize,
        make: MakeExecutor<'_>,
    ) -> Result<Trainer, TrainError> {
        config.check().map_err(TrainError::Setting)?;
        data.check(&network.graph)?;
        let (streams, window, step) = (config.streams, config.window, config.step());
        let need = streams.saturating_mul(window).max(1);
        if data.frames < need {
            return Err(TrainError::Setting(format!(
                "the training data has {}, and one window of {} in each of {} takes {need}: give more data, or a \
                 smaller window or fewer streams",
                count(data.frames, "frame"),
                count(window, "frame"),
                count(streams, "stream"),
            )));
        }
        if !data.has_rows_in_loss() {
            return Err(TrainError::Setting(format!(
                "of the {} to train on, none has a target whose loss counts",
                count(data.frames, "frame")
            )));
        }
        if step < window && network.graph.looks_ahead() {
            return Err(TrainError::Network {
                network: network.graph.name().into(),
                problem: format!(
                    "it looks ahead, so that the frames of a window are known only when it is complete: `step` must \
                     be the whole window ({window}), not {step}"
                ),
            });
        }
        let plan = Plan::new(&network.graph, PlanOptions::training(streams, window))?;
        let execution = ExecutionConfig {
            window,
            step,
            threads,
            seed: config.seed,
            training: true,
            optimizer: config.optimizer.optimizer(),
            ..ExecutionConfig::new(streams, window)
        };
        let mut executor = make(plan, execution)?;
        let initial = Weights::initial(&network.graph, config.seed);
        initial.put_into(&mut *executor, ParameterArray::Weight)?;
        let mut frozen = Frozen::of(&network.graph, &config.frozen)?;
        frozen.keep(&initial);
        let identity = RunIdentity {
            network: network.graph.name().into(),
            text_hash: format!("{:016x}", name_key(network_text)),
            equations_hash: hash_of(&network.graph),
            output: network.output.clone(),
            loss: config.loss,
            seed: config.seed,
            streams,
            window,
            step,
            data_frames: data.frames,
            data_hash: format!("{:016x}", data.hash()),
            executor: executor.name().into(),
            threads: executor.config().threads,
            precision: executor.config().precision,
            optimizer: executor.config().optimizer,
            settings: config.settings(),
        };
        Ok(Trainer {
            batch: Batch::new(&data, streams, step),
            next: Batch::new(&data, streams, step),
            brought: false,
            losses: vec![0.0; step * streams],
            gradients: vec![0.0; step * streams],
            config: config.clone(),
            network,
            identity,
            executor,
            feed: Feed::new(&data, streams, config.shuffles().then_some(config.seed)),
            data,
            weights: Vec::new(),
            frozen,
            reductions: 0,
            updates: 0,
            position: 0,
            kept: 0,
        })
    }

    /// The network with its loss.
    pub fn network(&self) -> &LossNetwork {
        &self.network
    }

    /// What this run is.
    pub fn identity(&self) -> &RunIdentity {
        &self.identity
    }

    /// Updates made.
    pub fn updates(&self) -> u64 {
        self.updates
    }

    /// Frames read so far, of each stream.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The weights as they are.
    pub fn weights(&self) -> Result<Weights, TrainError> {
        Ok(Weights::of(&*self.executor, &self.network.graph, ParameterArray::Weight)?)
    }

    /// Begins with other weights.
    pub fn set_weights(&mut self, weights: &Weights) -> Result<(), TrainError> {
        weights.put_into(&mut *self.executor, ParameterArray::Weight)?;
        self.frozen.keep(weights);
        Ok(())
    }

    /// Multiplies the learning rate with the plateau's factor, so many times.
    pub fn reduce(&mut self, reductions: u64) {
        self.reductions = reductions;
    }

    /// Reads h' new frames of every stream and makes one update.
    ///
    /// # Errors
    /// [`TrainError::NotFinite`], where the weights stay as they are, and what the executor refuses.
    pub fn step(&mut self) -> Result<Step, TrainError> {
        let update = self.updates + 1;
        let frames = self.config.step();
        let ready = self.next.holds(self.position, frames);
        if ready {
            mem::swap(&mut self.batch, &mut self.next);
        } else {
            self.batch.fill_from(&self.data, &mut self.feed, self.position, frames);
        }
        let resets = Some(self.batch.resets());
        if mem::take(&mut self.brought) && ready {
            self.executor.forward_prefetched(resets)?;
        } else {
            self.executor.forward(frames, &self.batch.inputs(), resets)?;
        }

        // Which losses count is known without them, so that the backward pass follows at once where a device works on; unless what
        // they are divided by has to be computed.
        self.network.row_weights(&self.batch, &mut self.weights);
        if self.network.has_weights {
            self.executor.output(1, ValuesMut::F64(&mut self.losses))?;
        } else {
            self.losses.fill(1.0);
        }
        let mut count = 0.0;
        add_weighted(&mut count, &self.losses, &self.weights);
        for (gradient, &weight) in self.gradients.iter_mut().zip(&self.weights) {
            *gradient = if weight > 0.0 { weight / count } else { 0.0 };
        }
        // Older frames are kept only where windows overlap.
        let overlap = self.config.window - frames;
        self.kept = self.kept.min(overlap) + frames;
        let seeds = [Some(Values::F64(&self.gradients)), None];
        self.executor.backward(self.kept, &seeds[..1 + usize::from(self.network.has_weights)])?;

        // Meanwhile comes the next window. This one's batch stays as it is: what went wrong is looked for in it.
        let position = self.position + frames as u64;
        self.next.fill_from(&self.data, &mut self.feed, position, frames);
        self.brought = self.executor.prefetch(frames, &self.next.inputs())?;

        self.executor.output(0, ValuesMut::F64(&mut self.losses))?;
        let mut loss_sum = 0.0;
        add_weighted(&mut loss_sum, &self.losses, &self.weights);
        if !loss_sum.is_finite() {
            let problem = self.find_non_finite();
            return Err(TrainError::NotFinite { update, problem });
        }

        let learning_rate = self.config.learning_rate_at(update) * self.config.reduced(self.reductions);
        self.frozen.clear_gradients(&mut *self.executor)?;
        let gradient_norm = self.executor.update(&Update {
            learning_rate,
            step: update,
            clip_norm: self.config.clip_norm,
            optimizer: self.config.optimizer,
        })?;
        if !gradient_norm.is_finite() {
            let problem = self.find_non_finite_gradient()?;
            return Err(TrainError::NotFinite { update, problem });
        }
        if self.config.optimizer.get("weight_decay").is_some() {
            self.frozen.put_back(&mut *self.executor)?;
        }
        self.updates = update;
        self.position = position;
        Ok(Step { loss_sum, counted: count, gradient_norm, learning_rate })
    }

    /// What went wrong in the window that the batch still holds.
    fn find_non_finite(&self) -> String {
        self.weights()
            .and_then(|weights| {
                diagnosis::of_window(
                    &self.network.graph,
                    &weights,
                    &self.executor.state_before()?,
                    &self.batch,
                    self.executor.config(),
                )
            })
            // The loss is what matters; that its cause could not be found is worth a word, not another error.
            .unwrap_or_else(|e| format!("the loss is not finite, and the layer could not be found: {e}"))
    }

    /// What went wrong on the way back through the window that the batch still holds.
    fn find_non_finite_gradient(&self) -> Result<String, TrainError> {
        let graph = &self.network.graph;
        let gradients = Weights::of(&*self.executor, graph, ParameterArray::Gradient)?;
        let problem = diagnosis::of_gradients(graph, &gradients);
        let cause = || -> Result<Option<String>, TrainError> {
            let (weights, before) = (self.weights()?, self.executor.state_before()?);
            diagnosis::of_derivatives(graph, &weights, &before, &self.batch, self.executor.config())
        };
        // That its cause could not be found is not another error.
        Ok(match cause() {
            Ok(Some(cause)) => format!("{problem}: {cause}"),
            Ok(None) | Err(_) => problem,
        })
    }

    /// All that [`restore`](Trainer::restore) needs. `seconds` is how long training has taken.
    ///
    /// Whether all of it is finite is asked where it is saved.
    ///
    /// With h' < h, that includes the older frames that errors still go back through: their values were computed with
    /// weights that are no more.
    pub fn checkpoint(&self, seconds: f64) -> Result<Checkpoint, TrainError> {
        let graph = &self.network.graph;
        let slots = self.identity.optimizer.slots().len();
        // In double precision, one of each weight and one of each slot.
        let count: u128 = graph.weights().iter().map(|w| w.len() as u128).sum();
        check_available("a checkpoint", 8 * (1 + slots as u128) * count)?;
        let slot = |slot| Weights::of(&*self.executor, graph, ParameterArray::Slot(slot));
        Ok(Checkpoint {
            identity: self.identity.clone(),
            progress: Progress {
                updates: self.updates,
                position: self.position,
                seconds,
                ..Progress::default()
            },
            preparation: Preparation::default(),
            weights: Weights::of(&*self.executor, graph, ParameterArray::Weight)?,
            slots: (0..slots).map(slot).collect::<Result<_, _>>()?,
            state: self.executor.state()?,
        })
    }

    /// Goes on from a checkpoint of the same network, with the same bits as the run that made it, if streams, window and
    /// step are the same too.
    ///
    /// # Errors
    /// A checkpoint whose state does not fit: of another number of streams, or of other delays; one of another optimizer.
    pub fn restore(&mut self, checkpoint: &Checkpoint) -> Result<(), TrainError> {
        let (expected, found) = (self.identity.optimizer.name(), checkpoint.identity.optimizer.name());
        if expected != found {
            return Err(ExecutorError::from(SettingError::Optimizer { expected, found }).into());
        }
        self.executor.set_state(&checkpoint.state)?;
        checkpoint.weights.put_into(&mut *self.executor, ParameterArray::Weight)?;
        for (slot, values) in checkpoint.slots.iter().enumerate() {
            values.put_into(&mut *self.executor, ParameterArray::Slot(slot))?;
        }
        self.frozen.keep(&checkpoint.weights);
        self.reductions = checkpoint.progress.validations.reductions;
        self.updates = checkpoint.progress.updates;
        self.position = checkpoint.progress.position;
        self.kept = checkpoint.state.kept_frames(self.executor.plan(), self.executor.config());
        Ok(())
    }
}
