//! The loss on data that is not trained on.

use crate::data::batch::Batch;
use crate::data::packing::Packing;
use crate::data::sequences::Sequences;
use crate::error::TrainError;
use crate::task::losses::LossNetwork;
use crate::trainer::MakeExecutor;
use rnnc_graph::count;
use rnnc_io::Weights;
use rnnc_plan::{ExecutionConfig, Executor, ExecutorError, ParameterArray, Plan, PlanOptions, ValuesMut};
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
}

impl Evaluator {
    /// Prepares to run the sequences of the data, or of its first `frames` frames: at most `streams` side by side, in
    /// windows of `window` frames, or of more where few sequences run at a time. A network that looks ahead runs whole
    /// sequences in one call. Dropout is off.
    ///
    /// # Errors
    /// Data without a frame whose loss counts, and what plan and executor refuse.
    pub fn new(
        network: &LossNetwork,
        mut data: Sequences,
        streams: usize,
        window: usize,
        frames: Option<usize>,
        threads: usize,
        make: MakeExecutor<'_>,
    ) -> Result<Evaluator, TrainError> {
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
        Ok(Evaluator { executor, data, packing, batch, losses: vec![0.0; window * streams] })
    }

    /// The mean loss per frame with those weights, or `None` if it was told to stop before the end.
    ///
    /// # Errors
    /// What the executor refuses.
    pub fn evaluate(&mut self, weights: &Weights, stop: &AtomicBool) -> Result<Option<f64>, TrainError> {
        weights.put_into(&mut *self.executor, ParameterArray::Weight)?;
        self.executor.clear_state();
        let streams = self.packing.streams();
        let (mut sum, mut count, mut position) = (0.0, 0usize, 0);
        for &frames in self.packing.calls() {
            if stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            self.batch.fill_by(&self.data, frames, |stream, t| self.packing.frame(stream, position + t));
            self.executor.forward(frames, &self.batch.inputs(), Some(self.batch.resets()))?;
            let losses = &mut self.losses[..frames * streams];
            self.executor.output(0, ValuesMut::F64(losses))?;
            for (loss, _) in losses.iter().zip(self.batch.loss_mask()).filter(|(_, counts)| **counts) {
                sum += loss;
                count += 1;
            }
            position += frames;
        }
        // There is one: see `new`.
        Ok(Some(sum / count as f64))
    }
}
