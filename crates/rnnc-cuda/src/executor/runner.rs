//! Running a program's commands: resolved for a number of frames, recorded once, replayed from then on.

use super::memory::{Memory, NUMBER};
use super::moves::Move;
use super::timing::{Marks, Span, Timed, Times, Timing};
use crate::driver::{Driver, DriverError, Geometry, GraphId, KernelId, Operand, Point, Product, Timestamp};
use crate::program::{BufferPlace, Command, Job, MatrixPlace, Program, RowsProduct, Work};
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
    Update,
}

/// A recording of the driver's.
struct Recorded {
    graph: GraphId,
    /// What is timed of it.
    spans: Vec<Span>,
}

/// A driver with a program loaded.
pub(super) struct Runner {
    pub driver: Box<dyn Driver>,
    pub memory: Memory,
    program: Program,
    /// Of each source.
    kernels: Vec<Vec<KernelId>>,
    moves: Vec<Move>,
    config: ExecutionConfig,
    recorded: HashMap<Recording, Recorded>,
    timing: Timing,
    /// What was replayed since timing last began.
    timed: Vec<Recording>,
    /// For what is timed without being recorded.
    span: Option<(Timestamp, Timestamp)>,
    /// Whether nothing ran since the fault flag was last looked at.
    checked: Cell<bool>,
}

impl Runner {
    /// Loads a program's sources.
    pub fn new(
        mut driver: Box<dyn Driver>,
        program: Program,
        memory: Memory,
        moves: Vec<Move>,
        config: ExecutionConfig,
    ) -> Result<Runner, DriverError> {
        let mut kernels = Vec::new();
        for source in &program.sources {
            kernels.push(if source.kernels.is_empty() { Vec::new() } else { driver.load(source)? });
        }
        Ok(Runner {
            driver,
            memory,
            program,
            kernels,
            moves,
            config,
            recorded: HashMap::new(),
            timing: Timing::Off,
            timed: Vec::new(),
            span: None,
            checked: Cell::new(true),
        })
    }

    /// What it runs.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// Runs what the program does there.
    pub fn replay(&mut self, recording: Recording) -> Result<(), ExecutorError> {
        if self.is_empty(recording) {
            return Ok(());
        }
        if !self.recorded.contains_key(&recording) {
            let recorded = self.record(recording)?;
            self.recorded.insert(recording, recorded);
        }
        let Recorded { graph, spans } = &self.recorded[&recording];
        self.checked.set(false);
        match (self.timing, &spans[..]) {
            (Timing::Passes, [whole]) => {
                self.driver.stamp(whole.from)?;
                self.driver.replay(*graph)?;
                self.driver.stamp(whole.to)?;
            }
            _ => self.driver.replay(*graph)?,
        }
        if self.timing != Timing::Off {
            self.timed.push(recording);
        }
        Ok(())
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
                Recording::Update => "the update",
            };
            let [from, to] = [self.driver.timestamp()?, self.driver.timestamp()?];
            spans.push(Span { what: what.into(), from, to });
        }
        Ok(Recorded { graph: graph?, spans })
    }

    /// From here on, that is timed.
    pub fn set_timing(&mut self, timing: Timing) {
        if timing != self.timing {
            // What is timed is part of the recordings.
            self.recorded.clear();
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
                Recording::Backward(_) => &mut times.backward,
                Recording::Update => &mut times.update,
            };
            for Span { what, from, to } in self.recorded.get(recording).map_or(&[][..], |r| &r.spans) {
                list.push(Timed { what: what.clone(), us: self.driver.elapsed_us(*from, *to)? });
            }
        }
        Ok(times)
    }

    /// An error if a loop gave up since the last look.
    pub fn check_fault(&self) -> Result<(), ExecutorError> {
        if self.checked.get() || self.program.watched.is_empty() {
            return Ok(());
        }
        let mut code = [0u32];
        self.driver.read(self.memory.counters, bytemuck::cast_slice_mut(&mut code))?;
        if code[0] == 0 {
            self.checked.set(true);
            return Ok(());
        }
        let component = self.program.watched.get(code[0] as usize - 1).map_or("a loop", |name| &**name);
        let what = format!("{component} stood still: its blocks waited for each other too long");
        Err(ExecutorError::Device { executor: NAME, what })
    }

    fn is_empty(&self, recording: Recording) -> bool {
        match recording {
            Recording::Move(frames) => self.moves.iter().all(|m| m.kept(frames, self.config) == 0),
            Recording::Forward(_) => self.program.forward.is_empty(),
            Recording::Backward(_) => self.program.backward.is_empty(),
            Recording::Update => self.program.update.is_empty(),
        }
    }

    /// How many lanes are used: where commands are timed, they run one after the other.
    fn lanes(&self) -> usize {
        if self.timing == Timing::Commands { 1 } else { self.program.lanes.len().max(1) }
    }

    /// Runs it, command by command; where commands are timed, says between which timestamps each ran.
    fn run(&mut self, recording: Recording) -> Result<Vec<Span>, DriverError> {
        let mut marks = Marks::begin(&mut *self.driver, self.timing == Timing::Commands)?;
        let window = self.config.window;
        let (jobs, frames) = match recording {
            Recording::Move(frames) => {
                self.run_moves(frames)?;
                marks.end(&mut *self.driver, || MOVE.into())?;
                return Ok(marks.spans);
            }
            Recording::Forward(frames) => (&self.program.forward, frames),
            Recording::Backward(frames) => (&self.program.backward, frames),
            Recording::Update => (&self.program.update, window),
        };
        let begin = window - frames;
        let multiprocessors = self.driver.device().multiprocessors;
        let mut order = Order::of(jobs, self.lanes());
        for (number, job) in jobs.iter().enumerate() {
            order.begin(&mut *self.driver, job)?;
            let frames = job.frames.of_pass(begin, window);
            let rows = frames.len() * self.config.streams;
            let args = self.memory.args(job.lane, &frames, begin);
            // A chunk that a short pass does not have is left out.
            for command in job.commands.iter().filter(|_| !frames.is_empty()) {
                match command {
                    Command::Kernel(launch) => {
                        if let Some(geometry) = geometry(launch.work, rows, multiprocessors) {
                            let kernel = self.kernels[launch.source][launch.kernel];
                            self.driver.launch(kernel, &geometry, &args)?;
                        }
                    }
                    Command::Product(product) => {
                        self.driver.product(&resolve(product, &self.memory, job.lane, frames.start, rows))?
                    }
                    Command::Clear { len: 0, .. } => {}
                    &Command::Clear { region, offset, len } => {
                        let at = self.memory.region(region, job.lane) + offset as u64 * NUMBER;
                        self.driver.clear(at, len * NUMBER as usize)?;
                    }
                }
                marks.end(&mut *self.driver, || words(job, command, rows))?;
            }
            order.end(&mut *self.driver, number)?;
        }
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
        self.memory.free(&mut *self.driver);
    }
}

/// Tells a driver of lanes, and of what waits for what.
struct Order {
    /// Whether there are any.
    lanes: bool,
    /// Of each job, whether others wait for it, and the point that they wait for.
    awaited: Vec<(bool, Option<Point>)>,
    lane: usize,
}

impl Order {
    fn of(jobs: &[Job], lanes: usize) -> Order {
        let mut awaited = vec![(false, None); jobs.len()];
        jobs.iter().flat_map(|job| &job.after).for_each(|&earlier| awaited[earlier].0 = true);
        Order { lanes: lanes > 1, awaited, lane: 0 }
    }

    fn begin(&mut self, driver: &mut dyn Driver, job: &Job) -> Result<(), DriverError> {
        if !self.lanes || (job.lane == self.lane && job.after.is_empty()) {
            return Ok(());
        }
        self.lane = job.lane;
        let after: Vec<Point> = job.after.iter().filter_map(|&earlier| self.awaited[earlier].1).collect();
        driver.select_lane(job.lane, &after)
    }

    fn end(&mut self, driver: &mut dyn Driver, number: usize) -> Result<(), DriverError> {
        if self.lanes && self.awaited[number].0 {
            self.awaited[number].1 = Some(driver.point()?);
        }
        Ok(())
    }
}

/// What the executor is called.
pub(super) const NAME: &str = "cuda";

/// What moves are called.
const MOVE: &str = "older frames, moved on";

/// What a command does, and in which stage, over so many rows.
fn words(job: &Job, command: &Command, rows: usize) -> String {
    let what = match command {
        Command::Kernel(launch) => launch.what.clone(),
        Command::Product(product) => {
            let [m, k] = [product.m, product.k].map(|size| size.unwrap_or(rows));
            format!("product of {m} x {k} and {k} x {} numbers", product.n)
        }
        Command::Clear { len, .. } => format!("{len} zeros"),
    };
    // Explanations count stages from 1.
    job.stage.map_or(what.clone(), |stage| format!("stage {}: {what}", stage + 1))
}

/// The blocks and threads of a kernel over so many rows; `None` if there is nothing to do.
fn geometry(work: Work, rows: usize, multiprocessors: usize) -> Option<Geometry> {
    const THREADS: usize = 256;
    let plain = |blocks: usize, threads, shared_bytes| {
        (blocks > 0).then_some(Geometry { blocks, threads, shared_bytes, cluster: 1, cooperative: false })
    };
    match work {
        Work::Elements { per_row, fixed } => {
            let blocks = (per_row * rows + fixed).div_ceil(THREADS);
            plain(blocks.min(multiprocessors * 8), THREADS, 0)
        }
        Work::Items { per_row, fixed, threads, shared_bytes } => {
            plain((per_row * rows + fixed).min(multiprocessors * 16), threads, shared_bytes)
        }
        Work::Grid(geometry) => Some(geometry),
    }
}

/// A product for a pass that begins at frame `first` and has so many rows.
fn resolve(product: &RowsProduct, memory: &Memory, lane: usize, first: usize, rows: usize) -> Product {
    let operand = |place: MatrixPlace| Operand {
        address: memory.region(place.region, lane) + (place.offset + first * place.per_frame) as u64 * NUMBER,
        row: place.row,
        transposed: place.transposed,
    };
    Product {
        m: product.m.unwrap_or(rows),
        n: product.n,
        k: product.k.unwrap_or(rows),
        a: operand(product.a),
        b: operand(product.b),
        c: operand(product.c),
        accumulate: product.accumulate,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_have_a_thread_for_each_element_until_the_device_is_full() {
        let blocks = |per_row, fixed, rows| {
            geometry(Work::Elements { per_row, fixed }, rows, 4).map(|g| (g.blocks, g.threads))
        };
        assert_eq!(blocks(0, 0, 10), None);
        assert_eq!(blocks(1, 0, 1), Some((1, 256)));
        assert_eq!(blocks(64, 1, 8), Some((3, 256)));
        assert_eq!(blocks(1000, 0, 1000), Some((32, 256)));
        let items = Work::Items { per_row: 1, fixed: 0, threads: 32, shared_bytes: 8 };
        assert_eq!(
            geometry(items, 1000, 4).map(|g| (g.blocks, g.threads, g.shared_bytes)),
            Some((64, 32, 8))
        );
    }
}
