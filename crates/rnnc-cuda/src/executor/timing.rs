//! How long passes, and the commands in them, take on the device.

use super::CudaExecutor;
use super::runner::Recording;
use crate::driver::{Driver, DriverError, Timestamp};
use rnnc_plan::{Executor, ExecutorError};

/// What is timed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Timing {
    /// Nothing.
    #[default]
    Off,
    /// Each pass, as it runs without timing.
    Passes,
    /// Each command of a pass. A timestamp between two commands takes time itself (about a microsecond), and keeps the
    /// second from beginning before the first has ended.
    Commands,
}

/// How long something took.
#[derive(Clone, Debug, PartialEq)]
pub struct Timed {
    /// What it was: of a command, its stage (by the number that an explanation gives it) and what it does there.
    pub what: String,
    /// Microseconds.
    pub us: f64,
}

/// How long the last calls took on the device: from the moment at which all that they are handed is there, until their
/// last command has ended. In the order of commands.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Times {
    /// The forward call. Frames of earlier calls that are moved on count with it.
    pub forward: Vec<Timed>,
    /// The backward call, if one followed.
    pub backward: Vec<Timed>,
    /// The update, if one followed.
    pub update: Vec<Timed>,
}

impl Times {
    /// Microseconds of all that is in a list.
    pub fn total_us(timed: &[Timed]) -> f64 {
        timed.iter().map(|t| t.us).sum()
    }
}

impl CudaExecutor {
    /// From here on, that is timed.
    pub fn set_timing(&mut self, timing: Timing) {
        self.runner.set_timing(timing);
    }

    /// How long the last forward call, and what followed it, took on the device. Waits for it.
    ///
    /// # Errors
    /// A driver that cannot time; whatever failed on the device.
    pub fn times(&self) -> Result<Times, ExecutorError> {
        let times = self.runner.times()?;
        self.runner.check_fault()?;
        Ok(times)
    }

    /// Runs the last forward call so many times more, each going on from the one before with the same inputs, and nothing
    /// between them; the microseconds of all. For what a device does frame by frame, this is the time with all inputs
    /// there. Afterwards all streams begin anew.
    ///
    /// # Errors
    /// No forward call before; symbols that the plan does not keep for a second pass; and those of
    /// [`CudaExecutor::times`].
    pub fn repeat_forward(&mut self, repeats: usize) -> Result<f64, ExecutorError> {
        let frames = self.new_frames;
        if frames == 0 {
            return Err(ExecutorError::Order("there is no forward call to repeat"));
        }
        let inputs = self.plan.forward.inputs().iter().filter_map(|&input| self.view(false, input));
        let mut buffers = inputs.map(|view| &self.plan.buffers[view.buffer.0]);
        if buffers.any(|buffer| buffer.symbols && !buffer.saved) {
            return Err(ExecutorError::Order("only a plan for training keeps its symbols"));
        }
        self.set_timing(Timing::Off);
        let runner = &mut self.runner;
        // Recorded, if it was not.
        runner.replay(Recording::Move(frames))?;
        runner.replay(Recording::Forward(frames))?;
        let (from, to) = runner.span()?;
        runner.driver.stamp(from)?;
        for _ in 0..repeats {
            runner.replay(Recording::Move(frames))?;
            runner.replay(Recording::Forward(frames))?;
        }
        runner.driver.stamp(to)?;
        self.clear_state();
        let us = self.runner.driver.elapsed_us(from, to)?;
        self.runner.check_fault()?;
        Ok(us)
    }
}

/// Between two timestamps.
#[derive(Clone, Debug)]
pub(super) struct Span {
    pub what: String,
    pub from: Timestamp,
    pub to: Timestamp,
}

/// Marks the ends of commands, where that is asked for.
pub(super) struct Marks {
    last: Option<Timestamp>,
    pub spans: Vec<Span>,
}

impl Marks {
    pub fn begin(driver: &mut dyn Driver, on: bool) -> Result<Marks, DriverError> {
        let last = if on { Some(mark(driver)?) } else { None };
        Ok(Marks { last, spans: Vec::new() })
    }

    /// What began at the last mark ends here.
    pub fn end(&mut self, driver: &mut dyn Driver, what: impl FnOnce() -> String) -> Result<(), DriverError> {
        if let Some(from) = self.last {
            let to = mark(driver)?;
            self.spans.push(Span { what: what(), from, to });
            self.last = Some(to);
        }
        Ok(())
    }
}

fn mark(driver: &mut dyn Driver) -> Result<Timestamp, DriverError> {
    let timestamp = driver.timestamp()?;
    driver.stamp(timestamp)?;
    Ok(timestamp)
}
