//! The loss and the metrics of data that is not trained on.

use crate::data::batch::Batch;
use crate::data::packing::Packing;
use crate::data::preparation::{Preparation, Scaled};
use crate::data::sequences::Sequences;
use crate::error::TrainError;
use crate::settings::config::Config;
use crate::task::losses::{LossNetwork, add_weighted};
use crate::task::metrics::{Measure, Measured, Metric, Target};
use crate::trainer::MakeExecutor;
use rnnc_graph::count;
use rnnc_io::{Weights, reserve};
use rnnc_plan::{
    ExecutionConfig, Executor, ExecutorError, ParameterArray, Plan, PlanOptions, Values, ValuesMut,
};
use std::sync::atomic::{AtomicBool, Ordering};

/// A part of the data and an executor to run it with.
///
/// The loss is that of whole sequences: each is run once, from its start to its end, with its state carried on. Several
/// run side by side; one alone is not cut into pieces that would begin without the state before them.
pub struct Evaluator {
    executor: Box<dyn Executor>,
    data: Sequences,
    packing: Packing,
    batch: Batch,
    losses: Vec<f64>,
    /// With the output that metrics are of, if there are some.
    network: LossNetwork,
    weights: Vec<f64>,
    metrics: Vec<Metric>,
    /// What the network gives, for metrics: `[frames, streams, size]`; nothing, where there are none.
    outputs: Vec<f64>,
    scales: Vec<Scaled>,
}

/// How data is evaluated.
#[derive(Clone, Copy, Debug)]
pub struct EvaluatorConfig<'a> {
    /// What is measured beside the loss.
    pub metrics: &'a [Metric],
    /// Sequences that run side by side, at most.
    pub streams: usize,
    /// Frames of a call, or more where few sequences run at a time.
    pub window: usize,
    /// Frames of the data that are used, the first ones; all if left out.
    pub frames: Option<usize>,
    /// Threads, 0 for all.
    pub threads: usize,
    /// How the target's units are scaled: metrics are of what they were before. Nothing, if they are not.
    pub scales: &'a [Scaled],
}

impl EvaluatorConfig<'_> {
    /// As the settings of a run say, for so many frames.
    pub(crate) fn of<'a>(
        config: &'a Config,
        frames: Option<usize>,
        preparation: &'a Preparation,
    ) -> EvaluatorConfig<'a> {
        let Config { training, run, .. } = config;
        EvaluatorConfig {
            metrics: &training.metrics,
            streams: run.validation_streams,
            window: training.window,
            frames,
            threads: run.threads,
            scales: &preparation.targets,
        }
    }
}

/// What was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    /// The mean loss per frame whose loss counts.
    pub loss: f64,
    /// The metrics over these frames.
    pub metrics: Measured,
}

impl Evaluator {
    /// Prepares to run the sequences of the data. A network that looks ahead runs whole sequences in one call. Dropout is off.
    /// Metrics are of the output that the loss reads.
    ///
    /// # Errors
    /// Data without a frame whose loss counts, and what plan and executor refuse.
    pub fn new(
        network: &LossNetwork,
        mut data: Sequences,
        config: &EvaluatorConfig<'_>,
        make: MakeExecutor<'_>,
    ) -> Result<Evaluator, TrainError> {
        let &EvaluatorConfig { metrics, streams, window, frames, threads, scales } = config;
        data.check(&network.graph)?;
        data.truncate(frames.unwrap_or(usize::MAX));
        if !data.has_rows_in_loss() {
            return Err(TrainError::Setting(format!(
                "of the {} to evaluate, none has a target whose loss counts",
                count(data.frames, "frame")
            )));
        }
        let looks_ahead = network.graph.looks_ahead();
        let packing = Packing::new(&data.ranges(), streams, window, looks_ahead);
        let (streams, window) = (packing.streams(), packing.calls().iter().copied().max().unwrap_or(1));
        let mut network = network.clone();
        if !metrics.is_empty() {
            network.graph.output(OUTPUT, network.layer);
        }
        let plan = Plan::new(&network.graph, PlanOptions::inference(streams, window))?;
        let executor = make(plan, ExecutionConfig { threads, ..ExecutionConfig::new(streams, window) }).map_err(|error| match error {
            ExecutorError::Memory { what, bytes, available } if looks_ahead => ExecutorError::Memory {
                what: format!(
                    "{what}, of {window} frames at once, since the network looks ahead and a sequence is so long \
                     (give shorter ones, or to validate with, `run.validation_frames`),"
                ),
                bytes,
                available,
            },
            other => other,
        })?;
        let batch = Batch::new(&data, streams, window);
        let numbers = if metrics.is_empty() { 0 } else { window * streams * network.target_size };
        let mut outputs = reserve(numbers, "the outputs that metrics are of")?;
        outputs.resize(numbers, 0.0);
        let losses = vec![0.0; window * streams];
        Ok(Evaluator {
            executor,
            data,
            packing,
            batch,
            losses,
            network,
            weights: Vec::new(),
            metrics: metrics.into(),
            outputs,
            scales: scales.into(),
        })
    }

    /// The loss and the metrics with those weights, or `None` if it was told to stop before the end.
    ///
    /// # Errors
    /// What the executor refuses.
    pub fn evaluate(
        &mut self,
        weights: &Weights,
        stop: &AtomicBool,
    ) -> Result<Option<Evaluation>, TrainError> {
        weights.put_into(&mut *self.executor, ParameterArray::Weight)?;
        self.executor.clear_state();
        let streams = self.packing.streams();
        let mut measures: Vec<_> = self.metrics.iter().map(|metric| metric.measure()).collect();
        let (mut sum, mut count, mut position) = (0.0, 0.0, 0);
        for call in 0..self.packing.calls().len() {
            let frames = self.packing.calls()[call];
            if stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            self.batch.fill_by(&self.data, frames, |stream, t| self.packing.frame(stream, position + t));
            self.executor.forward(frames, &self.batch.inputs(), Some(self.batch.resets()))?;
            let losses = &mut self.losses[..frames * streams];
            self.executor.output(0, ValuesMut::F64(losses))?;
            self.network.row_weights(&self.batch, &mut self.weights);
            add_weighted(&mut sum, losses, &self.weights);
            if self.network.has_weights {
                self.executor.output(1, ValuesMut::F64(losses))?;
            } else {
                losses.fill(1.0);
            }
            add_weighted(&mut count, losses, &self.weights);
            if !measures.is_empty() {
                self.measure(frames * streams, &mut measures)?;
            }
            position += frames;
        }
        let metrics = self.metrics.iter().zip(&measures).map(|(metric, measure)| (*metric, measure.value()));
        // There is a frame that counts: see `new`.
        Ok(Some(Evaluation { loss: sum / count, metrics: Measured(metrics.collect()) }))
    }

    /// Takes the rows of the last call into account.
    fn measure(&mut self, rows: usize, measures: &mut [Box<dyn Measure>]) -> Result<(), TrainError> {
        let size = self.network.target_size;
        let outputs = &mut self.outputs[..rows * size];
        self.executor.output(1 + usize::from(self.network.has_weights), ValuesMut::F64(outputs))?;
        let inputs = self.batch.inputs();
        let target = |row: usize| match inputs.last() {
            Some(Values::Symbols(symbols)) => Some(Target::Symbol(symbols[row] as usize)),
            Some(Values::F32(units)) => Some(Target::Units(&units[row * size..][..size])),
            _ => None,
        };
        let mut unscaled = vec![0f32; size];
        for (row, output) in outputs.chunks_exact_mut(size.max(1)).enumerate() {
            let Some(mut target) = target(row).filter(|_| self.batch.loss_mask()[row]) else { continue };
            if let (Target::Units(units), false) = (target, self.scales.is_empty()) {
                for (unit, scale) in self.scales.iter().enumerate() {
                    output[unit] = scale.unscale(output[unit]);
                    unscaled[unit] = scale.unscale(f64::from(units[unit])) as f32;
                }
                target = Target::Units(&unscaled);
            }
            measures.iter_mut().for_each(|measure| measure.add(output, target));
        }
        Ok(())
    }
}

/// What the output is called that metrics are of: no name of the language.
const OUTPUT: &str = "metrics.of";
