//! A network as a pure function on device memory: calls that take and give arrays of the caller's, on the caller's stream, and wait
//! for nothing.
//!
//! A call is commands in that stream: arrays are copied into a workspace, the program's kernels run there, and what is wanted is
//! copied out. So a program never depends on the shapes or the strides of arrays, and calls may come from any threads, with
//! any streams.
//!
//! | file | what |
//! | --- | --- |
//! | `arrays.rs` | how an array is copied to where the program has it, and back |
//! | `workspace.rs` | the memory that calls work in, and who may use it next |
//! | `tape.rs` | what the backward call reads of the forward call |

mod arrays;
mod tape;
mod workspace;

use crate::driver::borders::{ArrayMove, Border, Clock, From, StartGradient, TapeCheck};
use crate::driver::{Address, Capture, Cuda, Driver, DriverError, StreamHandle};
use crate::executor::before::{Before, Borders, GradientArray};
use crate::executor::loaded::{Jobs, Loaded};
use crate::executor::memory::{self, NUMBER, Sizes};
use crate::executor::runner::NAME;
use crate::executor::timing::Marks;
use arrays::Strided;
use rnnc_graph::WeightId;
use rnnc_plan::{
    Array, Backward, ExecutionConfig, ExecutorError, Forward, Functional, NO_SYMBOL, Plan, PortKind, Ports,
    StartValue, StatePort, TapeHeader, View,
};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tape::{TapeLayout, Way};
use workspace::{Workspace, Workspaces};

/// A network as a pure function on an NVIDIA GPU, for so many streams and a window of so many frames: see
/// [`Functional`]. It never changes; threads share it.
///
/// Arrays are device memory, of the device's primary context (which is the one of PyTorch and of CUDA's runtime). A call enqueues
/// its commands and returns: what it reads must stay, and what it writes is there, as the stream's order says. From the second call
/// with the same streams on, nothing is allocated or loaded. Into a graph that the caller captures it goes as all else; the calls of one
/// stream in a capture then have memory of their own for as long as this lives.
///
/// A symbol beyond the last is read as no symbol. That, and a loop that stood still, is an error of the first later call that finds it,
/// which runs nothing; and of [`CudaFunctional::finish`].
pub struct CudaFunctional {
    plan: Plan,
    ports: Ports,
    config: ExecutionConfig,
    loaded: Loaded,
    borders: Borders,
    before: Option<Before>,
    tape: TapeLayout,
    /// Says on a tape whose it is.
    program: u64,
    sizes: Sizes,
    inner: Mutex<Inner>,
    /// Whether a call was captured.
    captured: AtomicBool,
}

struct Inner {
    driver: Box<dyn Driver>,
    workspaces: Workspaces,
}

impl CudaFunctional {
    /// Compiles a plan for a GPU of this machine: the first, or the one that `RNNC_CUDA_DEVICE` says.
    ///
    /// # Errors
    /// [`ExecutorError::Missing`] where there is no GPU, no driver or no compiler for it; and what
    /// [`CudaFunctional::with_driver`] refuses.
    pub fn new(plan: Plan, config: ExecutionConfig) -> Result<CudaFunctional, ExecutorError> {
        plan.check_config(NAME, config)?;
        let driver = Cuda::chosen(config.precision)?;
        CudaFunctional::with_driver(plan, config, Box::new(driver))
    }

    /// Compiles a plan for whatever the driver drives. Of the config, `threads` and `seed` have no bearing, and the step is the
    /// window.
    ///
    /// # Errors
    /// Streams or window out of bounds; more memory than the device has; what the driver refuses.
    pub fn with_driver(
        plan: Plan,
        config: ExecutionConfig,
        mut driver: Box<dyn Driver>,
    ) -> Result<CudaFunctional, ExecutorError> {
        let config = ExecutionConfig { step: config.window, ..config };
        plan.check_config(NAME, config)?;
        let (loaded, sizes) = Loaded::of_plan(&mut *driver, &plan, config, false)?;
        let before = Before::new(&mut *driver, &plan, config)?;
        let borders = Borders::new(&mut *driver)?;
        let tape = TapeLayout::new(&plan, config, &loaded.program, sizes);
        let ports = Ports::of(&plan);
        let of_before = before.as_ref().and_then(Before::sizes).map_or(0, |sizes| sizes.bytes());
        let bytes = sizes.bytes() + of_before + driver.product_bytes() as u128;
        let workspaces = Workspaces::new(config, bytes);
        Ok(CudaFunctional {
            program: TapeHeader::new_program(),
            tape,
            sizes,
            ports,
            loaded,
            borders,
            before,
            config,
            plan,
            inner: Mutex::new(Inner { driver, workspaces }),
            captured: AtomicBool::new(false),
        })
    }

    /// What is compiled.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// What it runs on.
    pub fn device(&self) -> crate::device::Device {
        self.inner().driver.device().clone()
    }

    /// [`Functional::forward`] on that stream.
    ///
    /// # Errors
    /// What does not fit, before anything is enqueued; what the driver refuses; a fault of an earlier call.
    pub fn forward_on(&self, stream: StreamHandle, call: Forward<'_, '_>) -> Result<(), ExecutorError> {
        self.forward_seeded_on(stream, 0, call)
    }

    /// [`CudaFunctional::forward_on`], with the seed that then lies at an address of the device, 8 bytes, and not the call's: so that
    /// each replay of a graph of the caller's may have another.
    ///
    /// # Errors
    /// Those of [`CudaFunctional::forward_on`].
    pub fn forward_seeded_on(
        &self,
        stream: StreamHandle,
        seed_at: Address,
        mut call: Forward<'_, '_>,
    ) -> Result<(), ExecutorError> {
        self.ports.check_forward(self.config, self.tape.len, &call)?;
        self.on(stream, self.forward_can_fault(), |driver, workspace, captured| {
            self.enqueue_forward(driver, workspace, captured, seed_at, &mut call)
        })
    }

    /// [`Functional::backward`] on that stream, which is behind the forward call.
    ///
    /// # Errors
    /// Those of [`CudaFunctional::forward_on`]; a plan without these gradients.
    pub fn backward_on(&self, stream: StreamHandle, mut call: Backward<'_, '_>) -> Result<(), ExecutorError> {
        self.ports.check_backward(self.config, self.tape.len, &call)?;
        // The tape may be another's.
        self.on(stream, true, |driver, workspace, captured| {
            self.enqueue_backward(driver, workspace, captured, &mut call)
        })
    }

    /// Waits until all that was asked for is done, on any stream, and says if something failed.
    ///
    /// # Errors
    /// What failed on the device.
    pub fn finish(&self) -> Result<(), ExecutorError> {
        let Inner { driver, workspaces } = &mut *self.inner();
        workspaces.finish(&mut **driver)?;
        self.check_fault(&mut **driver, workspaces)
    }

    /// Whether calls of it were captured into graphs of the caller's: then these may run only while it lives.
    pub fn is_captured(&self) -> bool {
        self.captured.load(Ordering::Relaxed)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enqueues a call. `can_fault`: something can go wrong with it that only the device sees.
    fn on(
        &self,
        stream: StreamHandle,
        can_fault: bool,
        enqueue: impl FnOnce(&mut dyn Driver, &mut Workspace, bool) -> Result<(), DriverError>,
    ) -> Result<(), ExecutorError> {
        let Inner { driver, workspaces } = &mut *self.inner();
        let driver = &mut **driver;
        self.check_fault(driver, workspaces)?;
        let capture = driver.capture(stream)?;
        driver.permit_capture(true)?;
        let done = self.on_workspace(driver, workspaces, (stream, capture), can_fault, enqueue);
        // Whatever happened: the thread's captures, and the driver's stream, are as before.
        let selected = driver.select_stream(None);
        let permitted = driver.permit_capture(false);
        Ok(done.and(selected).and(permitted)?)
    }

    fn on_workspace(
        &self,
        driver: &mut dyn Driver,
        workspaces: &mut Workspaces,
        (stream, capture): (StreamHandle, Option<Capture>),
        can_fault: bool,
        enqueue: impl FnOnce(&mut dyn Driver, &mut Workspace, bool) -> Result<(), DriverError>,
    ) -> Result<(), DriverError> {
        let before = self.before.as_ref();
        let make = |driver: &mut dyn Driver| Workspace::new(driver, self.sizes, self.config, before);
        let captured = capture.is_some();
        let workspace = workspaces.take(driver, stream, capture, make)?;
        self.captured.fetch_or(captured, Ordering::Relaxed);
        driver.select_stream(Some((stream, workspace.products)))?;
        if !captured {
            workspace.begin(driver, stream)?;
        }
        let counters = self.sizes.counters * NUMBER as usize;
        // A graph's every replay begins so.
        if std::mem::take(&mut workspace.faulted) || captured {
            driver.clear(workspace.memory.counters, counters)?;
        }
        let enqueued = enqueue(driver, workspace, captured);
        if enqueued.is_err() {
            // Nobody knows what of it was.
            workspace.version = None;
        }
        let fetched = match can_fault {
            true => driver.fetch(workspace.memory.counters, workspace.flag),
            false => Ok(()),
        };
        // Also behind an error: some of it may have been enqueued.
        let ended = if captured { Ok(()) } else { workspace.end(driver) };
        enqueued.and(fetched).and(ended)
    }

    /// Whether anything can go wrong with a forward call that only the device sees.
    fn forward_can_fault(&self) -> bool {
        let symbols = |kind: PortKind| kind == PortKind::Symbols;
        !self.loaded.program.watched.is_empty()
            || self.ports.inputs.iter().any(|port| symbols(port.kind))
            || self.ports.state.iter().any(|port| symbols(port.kind))
    }

    fn check_fault(&self, driver: &mut dyn Driver, workspaces: &mut Workspaces) -> Result<(), ExecutorError> {
        let watched = &self.loaded.program.watched;
        for workspace in workspaces.all() {
            let Some(fault) = (driver.look(workspace.flag) as usize).checked_sub(1) else { continue };
            driver.lower(workspace.flag);
            workspace.faulted = true;
            let what = match watched.get(fault) {
                Some(component) => format!(
                    "{component} stood still in an earlier call: its blocks waited for each other too long. What that call \
                     wrote is not to be used"
                ),
                None if fault == watched.len() => {
                    "the tape of an earlier backward call was not what a forward call of this \
                     program with as many frames had left. What that call wrote is not to be used"
                        .into()
                }
                None => {
                    let inputs = self.ports.inputs.iter().map(|port| (&port.name, port.size));
                    let mut all = inputs.chain(self.ports.state.iter().map(|port| (&port.name, port.size)));
                    let (name, size) = all.nth(fault - watched.len() - 1).map_or(("", 0), |(n, s)| (&**n, s));
                    format!(
                        "`{name}` had a symbol beyond the last in an earlier call: there are {size}, from 0. It was read as no \
                         symbol"
                    )
                }
            };
            return Err(ExecutorError::Device { executor: NAME, what });
        }
        Ok(())
    }

    fn enqueue_forward(
        &self,
        driver: &mut dyn Driver,
        workspace: &mut Workspace,
        captured: bool,
        seed_at: Address,
        call: &mut Forward<'_, '_>,
    ) -> Result<(), DriverError> {
        let memory = workspace.memory;
        let (frames, first) = (call.frames, self.config.window - call.frames);
        let mut moves = self.weights(workspace, call.weights, call.weights_version.filter(|_| !captured));
        for (place, (port, array)) in self.ports.inputs.iter().zip(call.inputs).enumerate() {
            let Some(view) = self.plan.forward_pass.storage[port.layer.index()] else { continue };
            let of = self.view(&memory, view, first as i64, frames);
            moves.push(self.checked(&memory, place, port.size, of.filled_from(&Strided::rows(array))));
        }
        for (place, port) in self.ports.state.iter().enumerate() {
            let array = call.state_in.and_then(|state| state.get(place));
            let view = self.plan.forward_pass.storage[port.layer.index()];
            let Some((array, view)) = array.zip(view).filter(|_| port.depth > 0) else { continue };
            let of = self.view(&memory, view, first as i64 - port.depth as i64, port.depth);
            let filled = of.filled_from(&Strided::state(array, port.depth));
            moves.push(self.checked(&memory, self.ports.inputs.len() + place, port.size, filled));
        }
        self.borders.copy(driver, &moves)?;
        let resets = call.resets.as_ref().map(|resets| Strided::rows(resets));
        let clock = Clock {
            resets: resets.map_or(0, |resets| resets.address),
            reset_strides: resets.map_or([0; 2], |resets| [resets.strides[0], resets.strides[1]]),
            since_reset: memory.since_reset(),
            ahead: memory.ahead(),
            run: memory.tracker,
            seed: call.seed,
            program: self.program,
            first_frame: call.first_frame,
            seed_at,
            streams: self.config.streams as u32,
            window: self.config.window as u32,
            first: first as u32,
            age: if call.state_in.is_some() { KNOWN } else { 0 },
        };
        self.borders.launch(driver, &Border::Clock(clock))?;
        self.run(driver, workspace, Jobs::Forward, frames, captured)?;
        moves.clear();
        for (port, array) in self.ports.outputs.iter().zip(call.outputs.iter()) {
            let view = self.plan.forward_pass.storage[port.layer.index()];
            if let Some((array, view)) = array.as_ref().zip(view) {
                moves.push(
                    self.view(&memory, view, first as i64, frames).copied_to(&Strided::rows_mut(array)),
                );
            }
        }
        for (place, array) in call.state_out.iter().enumerate() {
            let port = &self.ports.state[place];
            let view = self.plan.forward_pass.storage[port.layer.index()];
            let Some((array, view)) = array.as_ref().zip(view).filter(|_| port.depth > 0) else { continue };
            let of = self.view(&memory, view, self.config.window as i64 - port.depth as i64, port.depth);
            let copied = of.copied_to(&Strided::state_mut(array, port.depth));
            moves.push(self.started(&memory, place, copied));
        }
        if let Some(tape) = call.tape.as_ref().filter(|_| self.tape.len > 0) {
            moves.extend(self.tape.moves(&self.loaded, &memory, tape.address() as u64, frames, Way::ToTape));
        }
        self.borders.copy(driver, &moves)
    }

    fn enqueue_backward(
        &self,
        driver: &mut dyn Driver,
        workspace: &mut Workspace,
        captured: bool,
        call: &mut Backward<'_, '_>,
    ) -> Result<(), DriverError> {
        let Some((adjoint, pass)) = self.plan.adjoint.as_ref().zip(self.plan.backward_pass.as_ref()) else {
            return Ok(());
        };
        let memory = workspace.memory;
        let (window, frames) = (self.config.window, call.frames);
        let first = window - frames;
        let mut moves = self.weights(workspace, call.weights, call.weights_version.filter(|_| !captured));
        let tape = call.tape.address() as u64;
        let (flag, code) = (memory.counters, self.loaded.program.watched.len() as u32 + 1);
        moves.extend(self.tape.moves(&self.loaded, &memory, tape, frames, Way::FromTape { flag, code }));
        let check = TapeCheck {
            run: self.tape.run(tape),
            program: self.program,
            frames: frames as u64,
            flag,
            code,
            unused: 0,
        };
        // The adjoint's inputs: errors of all frames, then of the state's last ones. Which frames lie before a reset, the
        // clock says, which came with the tape.
        let seed = |place: usize| pass.storage[adjoint.inputs()[place].index()];
        let outputs = self.ports.outputs.len();
        for place in 0..outputs {
            let Some(view) = seed(place) else { continue };
            let of = self.view(&memory, view, first as i64, frames);
            let given = call.d_outputs.get(place).and_then(Option::as_ref);
            moves.push(given.map_or_else(|| of.zeroed(), |array| of.filled_from(&Strided::rows(array))));
        }
        // What looks at the clock, which comes with the tape.
        let (mut starts, mut behind) = (Vec::new(), Vec::new());
        for (place, port) in self.ports.state.iter().enumerate() {
            let Some(vector) = port.vector.filter(|_| self.ports.state_gradients) else { continue };
            let given = call.d_state_out.get(place).and_then(Option::as_ref);
            let given = given.map(|array| Strided::state(array, port.depth));
            let newest = port.depth.min(frames);
            if let Some(view) = seed(outputs + vector) {
                let older = frames - if given.is_some() { newest } else { 0 };
                moves.push(self.view(&memory, view, first as i64, older).zeroed());
                if let Some(given) = given {
                    let of = self.view(&memory, view, (window - newest) as i64, newest);
                    let filled = of.filled_from(&given.frames(port.depth - newest, newest));
                    behind.push(ArrayMove {
                        since: self.last_since(&memory),
                        depth: newest as u32,
                        ..filled
                    });
                }
            }
            let StartValue::Weight(start) = self.start(port) else { continue };
            // Perhaps nothing else writes there.
            let to = memory.gradients + start as u64 * NUMBER;
            driver.clear(to, port.size * NUMBER as usize)?;
            if let Some(given) = given {
                starts.push(StartGradient {
                    from: given.address,
                    strides: given.strides,
                    shape: given.shape,
                    is_f64: u32::from(given.is_f64()),
                    since: self.last_since(&memory),
                    to,
                });
            }
        }
        self.borders.copy_checked(driver, &moves, check)?;
        self.borders.copy(driver, &behind)?;
        moves.clear();
        self.run(driver, workspace, Jobs::Backward, frames, captured)?;
        for start in starts {
            self.borders.launch(driver, &Border::StartGradient(start))?;
        }
        for (id, array) in call.d_weights.iter().enumerate() {
            let Some(array) = array else { continue };
            let view = self.plan.weights.view(WeightId::from_index(id));
            moves.push(Strided::of_weight(memory.gradients, view).copied_to(&Strided::weight_mut(array)));
        }
        // The adjoint's first outputs, one of each input that is no symbol.
        let numbers = self.ports.inputs.iter().zip(call.d_inputs.iter());
        let numbers = numbers.filter(|(port, _)| port.kind == PortKind::Numbers);
        for ((_, array), output) in numbers.zip(adjoint.outputs()) {
            let Some(array) = array else { continue };
            if let Some(view) = pass.storage[output.layer.index()] {
                moves.push(
                    self.view(&memory, view, first as i64, frames).copied_to(&Strided::rows_mut(array)),
                );
            }
        }
        let wanted = self.state_in_gradients(call, &memory, &mut moves);
        self.borders.copy(driver, &moves)?;
        match (&self.before, &workspace.before) {
            (Some(before), Some(own)) if wanted.iter().any(Option::is_some) => {
                before.run(driver, &self.borders, (&self.loaded, &memory), own, frames, &wanted)
            }
            _ => Ok(()),
        }
    }

    /// The gradients of the state before the first frame that are wanted, by the order of the network's vectors. What the window leaves of
    /// frames before it is what it began with: so these begin as the gradients of that.
    fn state_in_gradients(
        &self,
        call: &Backward<'_, '_>,
        memory: &memory::Memory,
        moves: &mut Vec<ArrayMove>,
    ) -> Vec<Option<GradientArray>> {
        let vectors = self.before.as_ref().map_or(0, |before| before.vectors.len());
        let mut wanted = vec![None; vectors];
        for (place, array) in call.d_state_in.iter().enumerate() {
            let port = &self.ports.state[place];
            let Some((array, vector)) = array.as_ref().zip(port.vector) else { continue };
            let to = Strided::state_mut(array, port.depth);
            let newest = port.depth.min(call.frames);
            let older = port.depth - newest;
            let given = call.d_state_out.get(place).and_then(Option::as_ref);
            match given.filter(|_| older > 0) {
                Some(given) => {
                    let given = Strided::state(given, port.depth).frames(0, older);
                    let copied = given.copied_to(&to.frames(newest, older));
                    moves.push(ArrayMove {
                        since: self.last_since(memory),
                        depth: port.depth as u32,
                        ..copied
                    });
                    moves.push(to.frames(0, newest).zeroed());
                }
                None => moves.push(to.zeroed()),
            }
            wanted[vector] =
                Some(GradientArray { at: to.address, strides: to.strides, to_kind: to.added_to() });
        }
        wanted
    }

    /// Runs jobs; side by side, where the stream is not captured: a lane's stream must not become part of a capture.
    fn run(
        &self,
        driver: &mut dyn Driver,
        workspace: &Workspace,
        jobs: Jobs,
        frames: usize,
        captured: bool,
    ) -> Result<(), DriverError> {
        let alone = !captured && self.loaded.fills_the_device(jobs);
        if alone {
            driver.begin_alone()?;
        }
        let ran = self.run_jobs(driver, workspace, jobs, frames, captured);
        let ended = if alone { driver.end_alone() } else { Ok(()) };
        ran.and(ended)
    }

    fn run_jobs(
        &self,
        driver: &mut dyn Driver,
        workspace: &Workspace,
        jobs: Jobs,
        frames: usize,
        captured: bool,
    ) -> Result<(), DriverError> {
        let mut marks = Marks::begin(driver, false)?;
        let lanes = self.loaded.program.lanes.len();
        if captured || lanes < 2 {
            return self.loaded.run(driver, &workspace.memory, jobs, frames, false, &mut marks);
        }
        driver.begin_lanes(lanes)?;
        let ran = self.loaded.run(driver, &workspace.memory, jobs, frames, true, &mut marks);
        ran.and(driver.end_lanes())
    }

    /// Copies of the weights to where the program has them, unless they are there.
    fn weights(
        &self,
        workspace: &mut Workspace,
        weights: &[Array<'_>],
        version: Option<u64>,
    ) -> Vec<ArrayMove> {
        if version.is_some() && workspace.version == version {
            return Vec::new();
        }
        workspace.version = version;
        let copy = |(id, array): (usize, &Array<'_>)| {
            let view = self.plan.weights.view(WeightId::from_index(id));
            Strided::of_weight(workspace.memory.weights, view).filled_from(&Strided::weight(array))
        };
        weights.iter().enumerate().map(copy).collect()
    }

    /// Frames of a view, as an array; symbols as the program has them.
    fn view(&self, memory: &memory::Memory, view: View, first: i64, frames: usize) -> Strided {
        let shape = [frames, self.config.streams, view.len].map(|len| len as u32);
        Strided::of_program(self.loaded.address(memory, view, first), shape, self.loaded.strides(view))
    }

    /// Symbols beyond the last are a fault of that number, behind those of loops and of the tape.
    fn checked(&self, memory: &memory::Memory, fault: usize, size: usize, filled: ArrayMove) -> ArrayMove {
        let limit = u32::try_from(size).unwrap_or(u32::MAX);
        let code = (self.loaded.program.watched.len() + 2 + fault) as u32;
        let symbols = matches!(filled.from_kind, From::I32 | From::I64);
        if symbols { ArrayMove { limit, code, flag: memory.counters, ..filled } } else { filled }
    }

    /// A state that comes out: frames before a reset are the layer's start.
    fn started(&self, memory: &memory::Memory, place: usize, copied: ArrayMove) -> ArrayMove {
        let port = &self.ports.state[place];
        let (start, bits) = match (port.kind, self.start(port)) {
            (PortKind::Symbols, _) => (0, NO_SYMBOL),
            (PortKind::Numbers, StartValue::Number(number)) => (0, (number as f32).to_bits()),
            (PortKind::Numbers, StartValue::Weight(offset)) => (memory.weights + offset as u64 * NUMBER, 0),
            (other, _) => unreachable!("a state of {other:?}"),
        };
        ArrayMove { since: self.last_since(memory), depth: port.depth as u32, start, bits, ..copied }
    }

    /// What a layer of the state begins with.
    fn start(&self, port: &StatePort) -> StartValue {
        self.plan.weights.start(self.plan.forward.layer_at(port.layer).start)
    }

    /// Steps since reset of a window's last frame.
    fn last_since(&self, memory: &memory::Memory) -> u64 {
        memory.since_reset() + ((self.config.window - 1) * self.config.streams) as u64 * NUMBER
    }
}

/// The steps since reset of a stream whose state is given: more than any delay.
const KNOWN: u32 = 1 << 30;

impl Functional for CudaFunctional {
    fn ports(&self) -> &Ports {
        &self.ports
    }

    fn config(&self) -> ExecutionConfig {
        self.config
    }

    fn tape_len(&self) -> usize {
        self.tape.len
    }

    /// On the default stream of the device's primary context.
    fn forward(&self, call: Forward<'_, '_>) -> Result<(), ExecutorError> {
        self.forward_on(StreamHandle::DEFAULT, call)
    }

    /// On the default stream of the device's primary context.
    fn backward(&self, call: Backward<'_, '_>) -> Result<(), ExecutorError> {
        self.backward_on(StreamHandle::DEFAULT, call)
    }
}

impl Drop for CudaFunctional {
    fn drop(&mut self) {
        let Inner { driver, workspaces } = &mut *self.inner();
        // Nothing may run any more in memory that is given back. If it failed, there is no one to tell.
        let _ = workspaces.finish(&mut **driver);
        workspaces.all().for_each(|workspace| workspace.free(&mut **driver));
    }
}
