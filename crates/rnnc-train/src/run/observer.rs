//! What a training run tells while it goes on.

use crate::task::metrics::Measured;
use serde::Serialize;
use std::path::Path;
use std::time::Duration;

/// Hears what happens. A closure over [`Event`] is one.
pub trait Observer {
    /// Something happened.
    fn event(&mut self, event: Event<'_>);
}

impl<F: FnMut(Event<'_>)> Observer for F {
    fn event(&mut self, event: Event<'_>) {
        self(event);
    }
}

/// What happens.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// All is ready; the first window comes next.
    Begin(&'a Beginning),
    /// Something that a user should know, though the run goes on.
    Warning(&'a str),
    /// An update was made.
    Update(&'a UpdateReport),
    /// A line of metrics was written.
    Metrics(&'a Metrics),
    /// A checkpoint was written.
    Checkpoint {
        /// After so many updates.
        update: u64,
        /// Where.
        path: &'a Path,
    },
    /// The network's writing, after the prompt.
    Sample {
        /// What it was given.
        prompt: &'a str,
        /// What it wrote.
        text: &'a [u8],
    },
}

/// What is about to be trained.
#[derive(Clone, Debug, PartialEq)]
pub struct Beginning {
    /// The network's name.
    pub network: String,
    /// How many numbers are learned.
    pub parameters: usize,
    /// Updates made before, if the run resumes.
    pub resumed_at: Option<u64>,
    /// The last update, if there is a limit.
    pub updates: Option<u64>,
    /// Frames to train on.
    pub train_frames: usize,
    /// Frames to validate on.
    pub validation_frames: usize,
    /// Frames to test on.
    pub test_frames: usize,
    /// The executor's name.
    pub executor: String,
    /// Its threads, 0 for all.
    pub threads: usize,
}

/// How a run stands after an update.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct UpdateReport {
    /// Updates made.
    pub update: u64,
    /// The last update, if there is a limit.
    pub updates: Option<u64>,
    /// The mean loss of its frames; NaN if none counted.
    pub loss: f64,
    /// How much is done, 0 to 1, by updates or by time, whichever ends first.
    pub done: f64,
    /// How long this sitting has taken.
    pub elapsed: Duration,
    /// How long the run will take yet, as it goes.
    pub left: Duration,
    /// Frames of all streams per second, of this sitting's updates.
    pub frames_per_second: f64,
}

/// One line of `metrics.jsonl`: a JSON object with its `kind`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Metrics {
    /// The updates since the last such line.
    Training {
        /// Updates made.
        update: u64,
        /// Frames of all streams read so far.
        frames: u64,
        /// Seconds of training so far, over all sittings.
        seconds: f64,
        /// The mean loss per frame whose loss counts; null if there was none.
        loss: Option<f64>,
        /// The same in bits, for cross-entropy.
        #[serde(skip_serializing_if = "Option::is_none")]
        bits_per_symbol: Option<f64>,
        /// The largest norm of a gradient, before clipping.
        gradient_norm: f64,
        /// The learning rate of the last update.
        learning_rate: f64,
        /// Frames of all streams per second.
        frames_per_second: f64,
    },
    /// The loss on the validation data.
    Validation(Evaluated),
    /// The loss on the test data, at the end of a run.
    Test(Evaluated),
}

/// A loss on data that is not trained on.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Evaluated {
    /// Updates made.
    pub update: u64,
    /// Seconds of training so far.
    pub seconds: f64,
    /// The mean loss per frame.
    pub loss: f64,
    /// The same in bits, for cross-entropy: for text, bits per character.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bits_per_symbol: Option<f64>,
    /// The metrics of the settings, by name.
    #[serde(flatten)]
    pub metrics: Measured,
}
