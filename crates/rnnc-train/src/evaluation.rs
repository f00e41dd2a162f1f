//! The loss on data that is not trained on.

use crate::error::TrainError;
use crate::loss::LossNetwork;
use crate::sequences::{Batch, Sequences};
use crate::trainer::MakeExecutor;
use crate::weights::Weights;
use rnnc_plan::{Executor, Part, Plan, PlanOptions, Setup, ValuesMut};
use std::sync::atomic::{AtomicBool, Ordering};

/// Streams shorter than this would mostly measure how a network warms up.
const SHORTEST_STREAM: usize = 64;

/// A part of the data and an executor to run it with.
pub struct Evaluator {
    executor: Box<dyn Executor>,
    data: Sequences,
    batch: Batch,
    /// Frames of each stream in all.
    frames: usize,
    losses: Vec<f64>,
}

impl Evaluator {
    /// Prepares to read the data once, from end to end, or at most `frames` of its frames: by at most `streams`
    /// streams side by side, spread evenly, each from its start, in windows of `window` frames. Dropout is off.
    pub fn new(
        network: &LossNetwork,
        data: Sequences,
        streams: usize,
        window: usize,
        frames: Option<usize>,
        threads: usize,
        make: MakeExecutor<'_>,
    ) -> Result<Evaluator, TrainError> {
        let in_all = frames.unwrap_or(data.frames).min(data.frames);
        if in_all == 0 {
            return Err(TrainError::Setting("the validation or test data has no frame".into()));
        }
        let streams = streams.min(in_all / SHORTEST_STREAM).max(1);
        let frames = in_all / streams;
        let window = window.min(frames);
        let plan = Plan::new(&network.graph, PlanOptions::inference(streams, window))?;
        let executor = make(plan, Setup { threads, ..Setup::new(streams, window) })?;
        let batch = Batch::new(&data, streams, window);
        Ok(Evaluator { executor, data, batch, frames, losses: vec![0.0; window * streams] })
    }

    /// The mean loss per frame with those weights, or `None` if it was told to stop before the end.
    ///
    /// # Errors
    /// Data in which no frame's loss counts.
    pub fn evaluate(&mut self, weights: &Weights, stop: &AtomicBool) -> Result<Option<f64>, TrainError> {
        weights.put_into(&mut *self.executor, Part::Weight)?;
        self.executor.clear_state();
        let setup = self.executor.setup();
        let (mut sum, mut count, mut position) = (0.0, 0usize, 0);
        while position < self.frames {
            if stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            let frames = setup.step.min(self.frames - position);
            self.batch.fill(&self.data, position as u64, frames);
            self.executor.forward(frames, &self.batch.inputs(), Some(self.batch.resets()))?;
            let losses = &mut self.losses[..frames * setup.streams];
            self.executor.output(0, ValuesMut::F64(losses))?;
            for (loss, _) in losses.iter().zip(self.batch.counted()).filter(|(_, counts)| **counts) {
                sum += loss;
                count += 1;
            }
            position += frames;
        }
        if count == 0 {
            return Err(TrainError::Setting(
                "no frame of the validation or test data has a target whose loss counts".into(),
            ));
        }
        Ok(Some(sum / count as f64))
    }
}
