//! A program whose kernels are loaded, and its commands, one after the other: for a number of frames, in some memory.

use super::memory::{Memory, NUMBER, Sizes, check_fits};
use super::timing::Marks;
use crate::compile::compile;
use crate::driver::{Address, Driver, DriverError, Geometry, KernelId, Operand, Point, Product};
use crate::program::{Command, Job, Launch, MatrixPlace, Program, Region, RowsProduct, Work, commands};
use rnnc_plan::{ExecutionConfig, ExecutorError, Plan, Residency, View};

/// A program whose kernels are loaded. It never changes.
pub(crate) struct Loaded {
    pub program: Program,
    /// Of each source.
    kernels: Vec<Vec<KernelId>>,
    /// Of each list of jobs.
    filling: [bool; 3],
    pub config: ExecutionConfig,
}

/// A list of a program's jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Jobs {
    Forward,
    Backward,
    Update,
}

impl Loaded {
    /// Loads a program's sources.
    pub fn new(
        driver: &mut dyn Driver,
        program: Program,
        config: ExecutionConfig,
    ) -> Result<Loaded, DriverError> {
        let mut kernels = Vec::new();
        for source in &program.sources {
            kernels.push(if source.kernels.is_empty() { Vec::new() } else { driver.load(source)? });
        }
        let waits = |command: &Command| matches!(command, Command::Kernel(Launch { work: Work::Grid(geometry), .. }) if geometry.cooperative);
        let filling = [&program.forward, &program.backward, &program.update]
            .map(|jobs| commands(jobs.iter()).any(waits));
        Ok(Loaded { program, kernels, filling, config })
    }

    /// Compiles a plan and loads it, if what it works in fits on the device, optimizer's slots and all or without; and how much that is.
    pub fn of_plan(
        driver: &mut dyn Driver,
        plan: &Plan,
        config: ExecutionConfig,
        with_slots: bool,
    ) -> Result<(Loaded, Sizes), ExecutorError> {
        // Before compiling, which counts numbers as the machine does.
        let keep = config.step < config.window;
        let placement = plan.place(config.streams, config.window, keep, &Residency::default());
        let memory = plan.memory(&placement, config.optimizer);
        let slots = if with_slots { memory.slots } else { 0 };
        check_fits(plan, rnnc_plan::Memory { slots, ..memory }.total(), driver.device())?;
        let program = compile(plan, config, driver.device())?;
        let sizes = Sizes::of(plan, config, &program);
        let sizes = if with_slots { sizes } else { Sizes { slots: 0, ..sizes } };
        check_fits(plan, sizes.bytes(), driver.device())?;
        Ok((Loaded::new(driver, program, config)?, sizes))
    }

    pub fn jobs(&self, which: Jobs) -> &[Job] {
        match which {
            Jobs::Forward => &self.program.forward,
            Jobs::Backward => &self.program.backward,
            Jobs::Update => &self.program.update,
        }
    }

    /// Whether blocks of the whole grid wait for each other in these jobs: such jobs run alone.
    pub fn fills_the_device(&self, which: Jobs) -> bool {
        self.filling[which as usize]
    }

    /// Runs jobs, command by command, over the window's last frames. In lanes, if a recording has them.
    pub fn run(
        &self,
        driver: &mut dyn Driver,
        memory: &Memory,
        which: Jobs,
        frames: usize,
        in_lanes: bool,
        marks: &mut Marks,
    ) -> Result<(), DriverError> {
        let window = self.config.window;
        let begin = window - frames;
        let multiprocessors = driver.device().multiprocessors;
        let jobs = self.jobs(which);
        let mut order = Order::of(jobs, in_lanes);
        for (number, job) in jobs.iter().enumerate() {
            order.begin(driver, job)?;
            let frames = job.frames.of_pass(begin, window);
            let rows = frames.len() * self.config.streams;
            let args = memory.args(self.scratch(memory, job.lane), &frames, begin);
            // A chunk that a short pass does not have is left out.
            for command in job.commands.iter().filter(|_| !frames.is_empty()) {
                match command {
                    Command::Kernel(launch) => {
                        if let Some(geometry) = geometry(launch.work, rows, multiprocessors) {
                            let kernel = self.kernels[launch.source][launch.kernel];
                            driver.launch(kernel, &geometry, &args)?;
                        }
                    }
                    Command::Product(product) => {
                        driver.product(&self.resolve(product, memory, job.lane, frames.start, rows))?
                    }
                    Command::Clear { len: 0, .. } => {}
                    &Command::Clear { region, offset, len } => {
                        let at = self.region(memory, region, job.lane) + offset as u64 * NUMBER;
                        driver.clear(at, len * NUMBER as usize)?;
                    }
                }
                marks.end(driver, || words(job, command, rows))?;
            }
            order.end(driver, number)?;
        }
        Ok(())
    }

    /// Where a view's first column is in frame `first` of the window (negative: in the history).
    pub fn address(&self, memory: &Memory, view: View, first: i64) -> Address {
        let buffer = &self.program.buffers[view.buffer.0];
        // Never before the buffer: no more frames are asked for than its history has.
        let frame = (buffer.history as i64 + first) as u64;
        memory.values + (buffer.offset as u64 + frame * buffer.frame as u64 + view.column as u64) * NUMBER
    }

    /// From an element of a view to the next, along frames, streams and columns.
    pub fn strides(&self, view: View) -> [i64; 3] {
        let frame = self.program.buffers[view.buffer.0].frame;
        [frame as i64, (frame / self.config.streams) as i64, 1]
    }

    /// A lane's part of the scratch region.
    fn scratch(&self, memory: &Memory, lane: usize) -> Address {
        memory.scratch + self.program.lanes.get(lane).copied().unwrap_or(0) as u64 * NUMBER
    }

    /// Where a region begins, for the commands of a lane.
    fn region(&self, memory: &Memory, region: Region, lane: usize) -> Address {
        match region {
            Region::Values => memory.values,
            Region::Weights => memory.weights,
            Region::Gradients => memory.gradients,
            Region::Scratch => self.scratch(memory, lane),
            Region::Counters => memory.counters,
        }
    }

    /// A product for a pass that begins at frame `first` and has so many rows.
    fn resolve(
        &self,
        product: &RowsProduct,
        memory: &Memory,
        lane: usize,
        first: usize,
        rows: usize,
    ) -> Product {
        let operand = |place: MatrixPlace| Operand {
            address: self.region(memory, place.region, lane)
                + (place.offset + first * place.per_frame) as u64 * NUMBER,
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
            halves: product.halves,
            accumulate: product.accumulate,
        }
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
    fn of(jobs: &[Job], in_lanes: bool) -> Order {
        let mut awaited = vec![(false, None); jobs.len()];
        jobs.iter().flat_map(|job| &job.after).for_each(|&earlier| awaited[earlier].0 = true);
        Order { lanes: in_lanes, awaited, lane: 0 }
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
