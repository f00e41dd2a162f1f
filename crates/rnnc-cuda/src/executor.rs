//! The executor: a program, the device memory that it runs in, and the calls that run it.
//!
//! Weights, gradients, optimizer state and all values stay on the device; what crosses is what callers hand in and ask for.

pub(crate) mod before;
pub(crate) mod loaded;
pub(crate) mod memory;
mod moves;
mod prefetch;
pub(crate) mod runner;
mod state;
mod state_gradients;
pub(crate) mod timing;

use crate::bound::Least;
use crate::driver::{Cuda, Driver, DriverError};
use crate::speeds::Speeds;
use crate::stages::update::update_numbers;
use loaded::Loaded;
use memory::{Memory, NUMBER};
use prefetch::Prefetched;
use rnnc_graph::{LayerId, WeightId};
use rnnc_plan::{
    ExecutionConfig, Executor, ExecutorError, ParameterArray, Pass, Plan, ResetTracker, State, Update,
    Values, ValuesMut, View, check_len, check_resets,
};
use runner::{NAME, Recording, Runner};
use state_gradients::StateGradients;
use std::cell::RefCell;
pub use timing::{Timed, Times, Timing};

/// Runs plans on an NVIDIA GPU, in single precision.
///
/// Forward, backward and update calls return when their work is handed to the device; calls that read numbers wait for
/// it, and so does [`Executor::finish`]. What a device does wrong shows there. What is handed in by [`Executor::prefetch`] is
/// copied beside that work, unless it is in double precision.
pub struct CudaExecutor {
    plan: Plan,
    config: ExecutionConfig,
    runner: Runner,
    tracker: ResetTracker,
    /// What the device knows of the clock, as it lies there.
    tracker_image: Vec<u32>,
    /// Where numbers pass that are converted, or picked out of wider rows.
    host: RefCell<Vec<f32>>,
    prefetched: Prefetched,
    /// New frames of the last forward call, 0 before the first.
    new_frames: usize,
    /// Frames that errors can go back through.
    valid_frames: usize,
    /// Frames of the last backward call, 0 before the first.
    backward_frames: usize,
}

/// Numbers that pass through the host's memory at a time.
const CHUNK: usize = 1 << 20;

impl From<DriverError> for ExecutorError {
    fn from(error: DriverError) -> ExecutorError {
        match error {
            DriverError::Missing(what) => ExecutorError::Missing { executor: NAME, what },
            DriverError::Memory { wanted, free } => ExecutorError::Memory {
                what: "what the GPU works in".into(),
                bytes: wanted as u128,
                available: free as u128,
            },
            error => ExecutorError::Device { executor: NAME, what: error.to_string() },
        }
    }
}

impl CudaExecutor {
    /// Compiles a plan for a GPU of this machine, and takes the memory for it: the first, or the one that the environment
    /// variable `RNNC_CUDA_DEVICE` says. For another, and for a stream of the caller's, see [`Cuda::on`] and
    /// [`CudaExecutor::with_driver`].
    ///
    /// # Errors
    /// [`ExecutorError::Missing`] where there is no GPU, no driver or no compiler for it; and what
    /// [`CudaExecutor::with_driver`] refuses.
    pub fn new(plan: Plan, config: ExecutionConfig) -> Result<CudaExecutor, ExecutorError> {
        plan.check_config(NAME, config)?;
        let driver = Cuda::chosen(config.precision)?;
        CudaExecutor::with_driver(plan, config, Box::new(driver))
    }

    /// Compiles a plan for whatever the driver drives, and takes the memory for it. Of the config, `threads` has no
    /// bearing.
    ///
    /// # Errors
    /// Streams, step or window out of bounds; a step shorter than the window for a network that looks ahead; more
    /// memory than the device has; what the driver refuses.
    pub fn with_driver(
        plan: Plan,
        config: ExecutionConfig,
        mut driver: Box<dyn Driver>,
    ) -> Result<CudaExecutor, ExecutorError> {
        plan.check_config(NAME, config)?;
        let (loaded, sizes) = Loaded::of_plan(&mut *driver, &plan, config, true)?;
        let memory =
            Memory::allocate(&mut *driver, sizes, plan.weights.len(), config.window * config.streams)?;
        let moves = moves::moves(&plan, &loaded.program, config);
        let mut runner = Runner::new(driver, loaded, memory, moves);
        runner.before = StateGradients::new(&mut *runner.driver, &plan, config)?;
        let tracker = ResetTracker::new(config.streams, config.window);
        Ok(CudaExecutor {
            tracker_image: memory::tracker_image(&tracker, config),
            tracker,
            runner,
            host: RefCell::default(),
            prefetched: Prefetched::new(&plan, config),
            new_frames: 0,
            valid_frames: 0,
            backward_frames: 0,
            plan,
            config,
        })
    }

    /// What it runs on.
    pub fn device(&self) -> &crate::device::Device {
        self.runner.driver.device()
    }

    /// What the forward pass and the backward pass cannot do without, over a whole window, at these speeds.
    pub fn least(&self, speeds: &Speeds) -> [Least; 2] {
        let program = self.runner.program();
        [&program.forward, &program.backward].map(|jobs| Least::of(jobs, speeds))
    }

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

    /// Takes the inputs that wait, the last frames of the window, to where they belong.
    fn take_waiting(&mut self, frames: usize) -> Result<(), ExecutorError> {
        let first = (self.config.window - frames) as i64;
        for (view, at, frame) in self.prefetched.inputs() {
            let (to, _) = self.rows_at(view, first);
            self.runner.driver.take(self.runner.memory.waiting + at, to, frames * frame)?;
        }
        Ok(())
    }

    fn pass(&self, backward: bool) -> Option<&Pass> {
        if backward { self.plan.backward_pass.as_ref() } else { Some(&self.plan.forward_pass) }
    }

    fn view(&self, backward: bool, layer: LayerId) -> Option<View> {
        self.pass(backward)?.storage[layer.index()]
    }

    /// Where a view's first column is in frame `first` of the window (negative: in the history), and the numbers from
    /// a row to the next.
    fn rows_at(&self, view: View, first: i64) -> (u64, usize) {
        let Runner { loaded, memory, .. } = &self.runner;
        (loaded.address(memory, view, first), self.plan.buffers[view.buffer.0].width)
    }

    /// Copies rows out of a view: frames `first ..` of the window.
    fn copy_out(
        &self,
        view: View,
        first: i64,
        frames: usize,
        name: &str,
        into: ValuesMut<'_>,
    ) -> Result<(), ExecutorError> {
        let streams = self.config.streams;
        check_len(name, &[frames, streams, view.len], into.len())?;
        let ((mut from, width), len) = (self.rows_at(view, first), view.len);
        let driver = &self.runner.driver;
        self.runner.check_fault()?;
        let mut out = match into {
            ValuesMut::F32(out) if width == len => {
                driver.read(from, bytemuck::cast_slice_mut(out))?;
                return Ok(());
            }
            out => out,
        };
        let mut host = self.host.borrow_mut();
        let rows_at_once = (CHUNK / width).max(1);
        for start in (0..frames * streams).step_by(rows_at_once) {
            let rows = rows_at_once.min(frames * streams - start);
            host.resize((rows - 1) * width + len, 0.0);
            driver.read(from, bytemuck::cast_slice_mut(&mut host))?;
            let picked = host.chunks(width).flat_map(|row| &row[..len]);
            let range = start * len..(start + rows) * len;
            match &mut out {
                ValuesMut::F32(out) => out[range].iter_mut().zip(picked).for_each(|(o, v)| *o = *v),
                ValuesMut::F64(out) => {
                    out[range].iter_mut().zip(picked).for_each(|(o, v)| *o = f64::from(*v))
                }
            }
            from += (rows * width) as u64 * NUMBER;
        }
        Ok(())
    }

    /// Copies rows into a view: frames `first ..` of the window; no values are zeros.
    fn copy_in(
        &mut self,
        view: View,
        first: i64,
        frames: usize,
        values: Option<Values<'_>>,
    ) -> Result<(), ExecutorError> {
        let ((mut to, width), len) = (self.rows_at(view, first), view.len);
        let count = frames * self.config.streams;
        if count == 0 || len == 0 {
            return Ok(());
        }
        let driver = &mut self.runner.driver;
        match values {
            None if width == len => return Ok(driver.clear(to, count * len * NUMBER as usize)?),
            Some(Values::F32(v)) if width == len => return Ok(driver.write(to, bytemuck::cast_slice(v))?),
            Some(Values::Symbols(v)) if width == len => return Ok(driver.write(to, bytemuck::cast_slice(v))?),
            _ => {}
        }
        let host = self.host.get_mut();
        let rows_at_once = (CHUNK / width).max(1);
        for start in (0..count).step_by(rows_at_once) {
            let rows = rows_at_once.min(count - start);
            host.resize((rows - 1) * width + len, 0.0);
            if width != len {
                // What lies between the columns stays.
                driver.read(to, bytemuck::cast_slice_mut(host))?;
            }
            let columns = host.chunks_mut(width).flat_map(|row| &mut row[..len]);
            let range = start * len..(start + rows) * len;
            match values {
                None => columns.for_each(|to| *to = 0.0),
                Some(Values::F32(v)) => columns.zip(&v[range]).for_each(|(to, v)| *to = *v),
                Some(Values::F64(v)) => columns.zip(&v[range]).for_each(|(to, v)| *to = *v as f32),
                Some(Values::Symbols(v)) => {
                    columns.zip(&v[range]).for_each(|(to, v)| *to = f32::from_bits(*v))
                }
            }
            driver.write(to, bytemuck::cast_slice(host))?;
            to += (rows * width) as u64 * NUMBER;
        }
        Ok(())
    }

    /// Makes room for new frames, and tells the device of them.
    fn begin_forward(&mut self, frames: usize, resets: Option<&[bool]>) -> Result<(), ExecutorError> {
        self.runner.begin_timing();
        self.runner.replay(Recording::Move(frames))?;
        self.tracker.advance(frames, resets);
        memory::update_tracker_image(&mut self.tracker_image, &self.tracker);
        Ok(self.runner.driver.write(self.runner.memory.tracker, bytemuck::cast_slice(&self.tracker_image))?)
    }

    /// Runs new frames whose inputs are there.
    fn end_forward(&mut self, frames: usize) -> Result<(), ExecutorError> {
        self.runner.replay(Recording::Forward(frames))?;
        self.new_frames = frames;
        self.backward_frames = 0;
        let ExecutionConfig { step, window, .. } = self.config;
        let kept = if step < window { window - frames } else { 0 };
        self.valid_frames = self.valid_frames.min(kept) + frames;
        Ok(())
    }

    /// Sets an input of the adjoint: errors of the last `known` of a backward call's frames, no errors before.
    fn seed(
        &mut self,
        place: usize,
        frames: usize,
        known: usize,
        values: Option<Values<'_>>,
    ) -> Result<(), ExecutorError> {
        let window = self.config.window;
        let seed = self.plan.adjoint.as_ref().map(|adjoint| adjoint.inputs()[place]);
        let Some(view) = seed.and_then(|seed| self.view(true, seed)) else { return Ok(()) };
        self.copy_in(view, (window - frames) as i64, frames - known, None)?;
        self.copy_in(view, (window - known) as i64, known, values)
    }

    /// The numbers of a weight's array as they lie on the device, from its first to its last, and each element's place
    /// among them.
    fn weight_slice_len(
        &self,
        part: ParameterArray,
        weight: WeightId,
    ) -> (u64, usize, impl Iterator<Item = usize> + use<>) {
        let view = self.plan.weights.view(weight);
        let last = view.offset
            + view.heads.saturating_sub(1) * view.head_stride
            + view.rows.saturating_sub(1) * view.row_stride
            + view.columns.saturating_sub(1) * view.column_stride;
        let places = view.places().map(move |place| place - view.offset);
        let at = self.runner.memory.part(part) + view.offset as u64 * NUMBER;
        (at, last - view.offset + 1, places)
    }
}

impl Executor for CudaExecutor {
    fn name(&self) -> &'static str {
        NAME
    }

    fn plan(&self) -> &Plan {
        &self.plan
    }

    fn config(&self) -> ExecutionConfig {
        self.config
    }

    fn forward(
        &mut self,
        frames: usize,
        inputs: &[Values<'_>],
        resets: Option<&[bool]>,
    ) -> Result<(), ExecutorError> {
        self.plan.check_inputs(self.config, frames, inputs, resets)?;
        self.prefetched.drop_all();
        self.begin_forward(frames, resets)?;
        let first = (self.config.window - frames) as i64;
        for (place, values) in inputs.iter().enumerate() {
            if let Some(view) = self.view(false, self.plan.forward.inputs()[place]) {
                self.copy_in(view, first, frames, Some(*values))?;
            }
        }
        self.end_forward(frames)
    }

    fn prefetch(&mut self, frames: usize, inputs: &[Values<'_>]) -> Result<bool, ExecutorError> {
        self.plan.check_inputs(self.config, frames, inputs, None)?;
        let (driver, memory) = (&mut *self.runner.driver, &mut self.runner.memory.waiting);
        self.prefetched.bring(driver, memory, frames, inputs)
    }

    fn forward_prefetched(&mut self, resets: Option<&[bool]>) -> Result<(), ExecutorError> {
        let frames = self.prefetched.frames()?;
        check_resets(self.config, frames, resets)?;
        self.prefetched.drop_all();
        self.begin_forward(frames, resets)?;
        self.take_waiting(frames)?;
        self.end_forward(frames)
    }

    fn output(&self, output: usize, into: ValuesMut<'_>) -> Result<(), ExecutorError> {
        let output = self.plan.check_output(output)?;
        let view = self.view(false, output.layer).ok_or(ExecutorError::Order("the output is not stored"))?;
        let first = (self.config.window - self.new_frames) as i64;
        self.copy_out(view, first, self.new_frames, &output.name, into)
    }

    fn backward(
        &mut self,
        frames: usize,
        output_gradients: &[Option<Values<'_>>],
    ) -> Result<(), ExecutorError> {
        self.backward_from(frames, output_gradients, &[])
    }

    fn backward_from(
        &mut self,
        frames: usize,
        output_gradients: &[Option<Values<'_>>],
        state_gradients: &[Option<Values<'_>>],
    ) -> Result<(), ExecutorError> {
        let (new, most) = (self.new_frames, self.valid_frames);
        self.plan.check_output_gradients(self.config, new, most, frames, output_gradients)?;
        self.plan.check_state_gradients(self.config, state_gradients)?;
        // The adjoint's inputs: errors of the new frames, then of the state's last ones.
        for (place, values) in output_gradients.iter().enumerate() {
            self.seed(place, frames, new, *values)?;
        }
        let vectors = self.plan.state_adjoint.as_ref().map_or(0, |state| state.vectors.len());
        for vector in 0..vectors {
            let depth = self.plan.state_adjoint.as_ref().map_or(0, |state| state.vectors[vector].depth);
            let newest = depth.min(frames);
            let values = state_gradients.get(vector).copied().flatten();
            let values = values.map(|values| values.frames(depth - newest..depth, depth));
            self.seed(output_gradients.len() + vector, frames, newest, values)?;
        }
        self.runner.replay(Recording::Backward(frames))?;
        if let Some(before) = &self.runner.before {
            before.begin(&mut *self.runner.driver, frames, state_gradients)?;
            self.runner.replay(Recording::Before(frames))?;
        }
        self.backward_frames = frames;
        Ok(())
    }

    fn state_gradient(&self, vector: usize, into: ValuesMut<'_>) -> Result<(), ExecutorError> {
        let (layer, depth) = self.plan.check_state_gradient(vector, self.backward_frames)?;
        let layer = self.plan.forward.layer_at(layer);
        check_len(&layer.name, &[depth, self.config.streams, layer.size], into.len())?;
        let gradient = self.read_state_gradient(vector)?;
        match into {
            ValuesMut::F32(out) => out.copy_from_slice(&gradient),
            ValuesMut::F64(out) => out.iter_mut().zip(gradient).for_each(|(out, x)| *out = f64::from(x)),
        }
        Ok(())
    }

    fn input_gradient(&self, input: usize, into: ValuesMut<'_>) -> Result<(), ExecutorError> {
        let layer = self.plan.check_input_gradient(input, self.backward_frames)?;
        let view = self.view(true, layer).ok_or(ExecutorError::Order("the gradient is not stored"))?;
        let name = self.plan.adjoint.as_ref().map_or("", |adjoint| &*adjoint.layer_at(layer).name);
        let first = (self.config.window - self.backward_frames) as i64;
        self.copy_out(view, first, self.backward_frames, name, into)
    }

    fn update(&mut self, update: &Update) -> Result<f64, ExecutorError> {
        self.plan.check_update(self.config, update)?;
        let numbers = update_numbers(update);
        self.runner.driver.write(self.runner.memory.update_numbers(), bytemuck::cast_slice(&numbers))?;
        self.runner.replay(Recording::Update)?;
        let mut norm = [0.0f64];
        self.runner.driver.read(self.runner.memory.scratch, bytemuck::cast_slice_mut(&mut norm))?;
        self.runner.check_fault()?;
        Ok(norm[0])
    }

    fn read(&self, part: ParameterArray, weight: WeightId, into: ValuesMut<'_>) -> Result<(), ExecutorError> {
        self.plan.check_weight(self.config, part, weight, into.len())?;
        if into.is_empty() {
            return Ok(());
        }
        let (at, len, places) = self.weight_slice_len(part, weight);
        let mut host = vec![0.0f32; len];
        self.runner.check_fault()?;
        self.runner.driver.read(at, bytemuck::cast_slice_mut(&mut host))?;
        match into {
            ValuesMut::F32(out) => out.iter_mut().zip(places).for_each(|(o, at)| *o = host[at]),
            ValuesMut::F64(out) => out.iter_mut().zip(places).for_each(|(o, at)| *o = f64::from(host[at])),
        }
        Ok(())
    }

    fn write(
        &mut self,
        part: ParameterArray,
        weight: WeightId,
        values: Values<'_>,
    ) -> Result<(), ExecutorError> {
        self.plan.check_written(self.config, part, weight, values)?;
        if values.is_empty() {
            return Ok(());
        }
        let (at, len, places) = self.weight_slice_len(part, weight);
        let mut host = vec![0.0f32; len];
        if len > values.len() {
            // Numbers of other weights lie between.
            self.runner.driver.read(at, bytemuck::cast_slice_mut(&mut host))?;
        }
        match values {
            Values::F32(v) => places.zip(v).for_each(|(at, v)| host[at] = *v),
            Values::F64(v) => places.zip(v).for_each(|(at, v)| host[at] = *v as f32),
            // Refused above.
            Values::Symbols(_) => {}
        }
        Ok(self.runner.driver.write(at, bytemuck::cast_slice(&host))?)
    }

    fn state(&self) -> Result<State, ExecutorError> {
        Ok(State { kept: self.kept_state()?, ..self.forward_state()? })
    }

    fn forward_state(&self) -> Result<State, ExecutorError> {
        self.histories_state(0, self.tracker.next_since_reset(), self.tracker.frames_run())
    }

    fn state_before(&self) -> Result<State, ExecutorError> {
        let (since_reset, frames) = self.tracker.previous();
        self.histories_state(self.new_frames, since_reset, frames)
    }

    fn set_state(&mut self, state: &State) -> Result<(), ExecutorError> {
        self.go_on_from(state)
    }

    fn clear_state(&mut self) {
        self.tracker.set(&vec![0; self.config.streams], 0);
        self.new_frames = 0;
        self.valid_frames = 0;
        self.backward_frames = 0;
    }

    fn finish(&self) -> Result<(), ExecutorError> {
        self.runner.driver.synchronize()?;
        self.runner.check_fault()
    }
}
