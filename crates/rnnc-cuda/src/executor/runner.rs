//! Running a program's commands: recorded once for a number of frames, replayed from then on.

use super::loaded::{Jobs, Loaded};
use super::memory::{Memory, NUMBER};
use super::moves::Move;
use super::state_gradients::StateGradients;
use super::timing::{Marks, Span, Timed, Times, Timing};
use crate::driver::{Driver, DriverError, GraphId, Timestamp};
use crate::program::{BufferPlace, Program};
use rnnc_plan::{ExecutionConfig, ExecutorError};
use std::cell::Cell;
use std::collections::HashMap;

/// What is recorded, each for a number of frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Recording {
    /// Older frames, moved on to make room for so many new ones.
    Move(usize),
    Forward(usize),
    Backward(usize),
    /// The gradients of the state before so many frames.
    Before(usize),
    Update,
}

/// A recording of the driver's.
struct Recorded {
    graph: GraphId,
    /// What is timed of it.
    spans: Vec<Span>,
    /// When it was last replayed, as a count of replays.
    used: u64,
}

/// The most recordings that are kept: of windows of some more lengths than callers usually have.
const MOST_RECORDINGS: usize = 64;

/// A driver with a program loaded.
pub(super) struct Runner {
    pub driver: Box<dyn Driver>,
    pub memory: Memory,
    pub loaded: Loaded,
    /// What makes the gradients of the state, if the plan has them.
    pub before: Option<StateGradients>,
    moves: Vec<Move>,
    config: ExecutionConfig,
    recorded: HashMap<Recording, Recorded>,
    replays: u64,
    timing: Timing,
    /// What was replayed since timing last began.
    timed: Vec<Recording>,
    /// For what is timed without being recorded.
    span: Option<(Timestamp, Timestamp)>,
    /// Whether nothing ran since the fault flag was last looked at.
    checked: Cell<bool>,
    /// The fault that was found, until a forward call begins anew.
    fault: Cell<Option<u32>>,
}

impl Runner {
    /// Of a program that the driver has loaded.
    pub fn new(driver: Box<dyn Driver>, loaded: Loaded, memory: Memory, moves: Vec<Move>) -> Runner {
        Runner {
            config: loaded.config,
            driver,
            memory,
            loaded,
            before: None,
            moves,
            recorded: HashMap::new(),
            replays: 0,
            timing: Timing::Off,
            timed: Vec::new(),
            span: None,
            checked: Cell::new(true),
            fault: Cell::new(None),
        }
    }

    /// What it runs.
    pub fn program(&self) -> &Program {
        &self.loaded.program
    }

    /// Runs what the program does there.
    pub fn replay(&mut self, recording: Recording) -> Result<(), ExecutorError> {
        if self.is_empty(recording) {
            return Ok(());
        }
        if let Some(code) = self.fault.get() {
            match recording {
                // What is left of the counters would stop the next loop, too.
                Recording::Move(_) | Recording::Forward(_) => self.clear_fault()?,
                _ => return Err(self.fault_of(code)),
            }
        }
        if !self.recorded.contains_key(&recording) {
            self.make_room()?;
            let recorded = self.record(recording)?;
            self.recorded.insert(recording, recorded);
        }
        self.replays += 1;
        if let Some(recorded) = self.recorded.get_mut(&recording) {
            recorded.used = self.replays;
        }
        self.checked.set(false);
        let jobs = match recording {
            Recording::Forward(_) => Some(Jobs::Forward),
            Recording::Backward(_) => Some(Jobs::Backward),
            Recording::Move(_) | Recording::Before(_) | Recording::Update => None,
        };
        let alone = jobs.is_some_and(|jobs| self.loaded.fills_the_device(jobs));
        if alone {
            self.driver.begin_alone()?;
        }
        let replayed = self.replay_recorded(recording);
        let ended = if alone { self.driver.end_alone() } else { Ok(()) };
        replayed.and(ended)?;
        if self.timing != Timing::Off {
            self.timed.push(recording);
        }
        Ok(())
    }

    fn replay_recorded(&mut self, recording: Recording) -> Result<(), DriverError> {
        let Recorded { graph, spans, .. } = &self.recorded[&recording];
        match (self.timing, &spans[..]) {
            (Timing::Passes, [whole]) => {
                self.driver.stamp(whole.from)?;
                self.driver.replay(*graph)?;
                self.driver.stamp(whole.to)
            }
            _ => self.driver.replay(*graph),
        }
    }

    fn record(&mut self, recording: Recording) -> Result<Recorded, DriverError> {
        self.driver.begin_recording(self.lanes())?;
        let run = self.run(recording);
        // Whatever happened: the driver must not go on recording.
        let graph = self.driver.end_recording();
        let mut spans = run?;
        if self.timing == Timing::Passes {
            let what = match recording {
                Recording::Move(_) => MOVE,
                Recording::Forward(_) => "the forward pass",
                Recording::Backward(_) => "the backward pass",
                Recording::Before(_) => BEFORE,
                Recording::Update => "the update",
            };
            let [from, to] = [self.driver.timestamp()?, self.driver.timestamp()?];
            spans.push(Span { what: what.into(), from, to });
        }
        Ok(Recorded { graph: graph?, spans, used: 0 })
    }

    /// Forgets what was not replayed for longest, where there is no room for one more.
    fn make_room(&mut self) -> Result<(), DriverError> {
        while self.recorded.len() >= MOST_RECORDINGS {
            let oldest = self.recorded.iter().min_by_key(|(_, recorded)| recorded.used).map(|(&key, _)| key);
            let Some(recorded) = oldest.and_then(|oldest| self.recorded.remove(&oldest)) else { break };
            self.driver.forget(recorded.graph)?;
        }
        Ok(())
    }

    /// Begins to run again after a loop stood still.
    fn clear_fault(&mut self) -> Result<(), DriverError> {
        self.driver.clear(self.memory.counters, self.loaded.program.regions.counters * NUMBER as usize)?;
        self.fault.set(None);
        Ok(())
    }

    fn fault_of(&self, code: u32) -> ExecutorError {
        let component = self.loaded.program.watched.get(code as usize - 1).map_or("a loop", |name| &**name);
        let what = format!(
            "{component} stood still: its blocks waited for each other too long. What the call computed, and the \
             state that it left, are not to be used; set the state, or clear it, and run again"
        );
        ExecutorError::Device { executor: NAME, what }
    }

    /// From here on, that is timed.
    pub fn set_timing(&mut self, timing: Timing) {
        if timing != self.timing {
            // What is timed is part of the recordings. A failure shows when the next is made.
            for (_, recorded) in self.recorded.drain() {
                let _ = self.driver.forget(recorded.graph);
            }
            self.timed.clear();
            self.timing = timing;
        }
    }

    /// Forgets what ran before.
    pub fn begin_timing(&mut self) {
        self.timed.clear();
    }

    /// Two timestamps, always the same.
    pub fn span(&mut self) -> Result<(Timestamp, Timestamp), DriverError> {
        match self.span {
            Some(span) => Ok(span),
            None => Ok(*self.span.insert((self.driver.timestamp()?, self.driver.timestamp()?))),
        }
    }

    /// Of all that ran since.
    pub fn times(&self) -> Result<Times, DriverError> {
        let mut times = Times::default();
        for recording in &self.timed {
            let list = match recording {
                Recording::Move(_) | Recording::Forward(_) => &mut times.forward,
                Recording::Backward(_) | Recording::Before(_) => &mut times.backward,
                Recording::Update => &mut times.update,
            };
            for Span { what, from, to } in self.recorded.get(recording).map_or(&[][..], |r| &r.spans) {
                list.push(Timed { what: what.clone(), us: self.driver.elapsed_us(*from, *to)? });
            }
        }
        Ok(times)
    }

    /// An error if a loop gave up since the last forward call began, or before that unnoticed.
    pub fn check_fault(&self) -> Result<(), ExecutorError> {
        if let Some(code) = self.fault.get() {
            return Err(self.fault_of(code));
        }
        if self.checked.get() || self.loaded.program.watched.is_empty() {
            return Ok(());
        }
        let mut code = [0u32];
        self.driver.read(self.memory.counters, bytemuck::cast_slice_mut(&mut code))?;
        self.checked.set(true);
        if code[0] == 0 {
            return Ok(());
        }
        self.fault.set(Some(code[0]));
        Err(self.fault_of(code[0]))
    }

    fn is_empty(&self, recording: Recording) -> bool {
        match recording {
            Recording::Move(frames) => self.moves.iter().all(|m| m.kept(frames, self.config) == 0),
            Recording::Forward(_) => self.loaded.program.forward.is_empty(),
            Recording::Backward(_) => self.loaded.program.backward.is_empty(),
            Recording::Before(_) => self.before.is_none(),
            Recording::Update => self.loaded.program.update.is_empty(),
        }
    }

    /// How many lanes are used: where commands are timed, they run one after the other.
    fn lanes(&self) -> usize {
        if self.timing == Timing::Commands { 1 } else { self.loaded.program.lanes.len().max(1) }
    }

    /// Runs it, command by command; where commands are timed, says between which timestamps each ran.
    fn run(&mut self, recording: Recording) -> Result<Vec<Span>, DriverError> {
        let mut marks = Marks::begin(&mut *self.driver, self.timing == Timing::Commands)?;
        let (jobs, frames) = match recording {
            Recording::Move(frames) => {
                self.run_moves(frames)?;
                marks.end(&mut *self.driver, || MOVE.into())?;
                return Ok(marks.spans);
            }
            Recording::Before(frames) => {
                if let Some(before) = &self.before {
                    before.run(&mut *self.driver, &self.loaded, &self.memory, frames)?;
                }
                marks.end(&mut *self.driver, || BEFORE.into())?;
                return Ok(marks.spans);
            }
            Recording::Forward(frames) => (Jobs::Forward, frames),
            Recording::Backward(frames) => (Jobs::Backward, frames),
            Recording::Update => (Jobs::Update, self.config.window),
        };
        let lanes = self.lanes() > 1;
        self.loaded.run(&mut *self.driver, &self.memory, jobs, frames, lanes, &mut marks)?;
        Ok(marks.spans)
    }

    fn run_moves(&mut self, frames: usize) -> Result<(), DriverError> {
        for m in &self.moves {
            let kept = m.kept(frames, self.config);
            if kept == 0 {
                continue;
            }
            let BufferPlace { offset, frame, history } = m.buffer;
            let at = |place: usize| self.memory.values + (offset + place * frame) as u64 * NUMBER;
            let from = at(history + self.config.window - kept);
            let to = at(history + self.config.window - kept - frames);
            let bytes = kept * frame * NUMBER as usize;
            if kept <= frames {
                self.driver.copy(from, to, bytes)?;
            } else {
                // The two overlap.
                self.driver.copy(from, self.memory.scratch, bytes)?;
                self.driver.copy(self.memory.scratch, to, bytes)?;
            }
        }
        Ok(())
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        // Nothing may run any more in memory that is given back. If it failed, there is no one to tell.
        let _ = self.driver.synchronize();
        if let Some(before) = &self.before {
            before.free(&mut *self.driver);
        }
        self.memory.free(&mut *self.driver);
    }
}

/// What the executor is called.
pub(crate) const NAME: &str = "cuda";

/// What moves are called.
const MOVE: &str = "older frames, moved on";

/// What the state's gradients are called.
const BEFORE: &str = "the gradients of the state";
