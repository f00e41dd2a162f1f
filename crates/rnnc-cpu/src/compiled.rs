//! A plan made ready for the cores of a CPU: programs, and where everything lies. It never changes, and any number of threads
//! may run it at a time, as functions, or each going on by itself ([`Run`](crate::Run)).

use crate::foreseen::{Foreseen, Programs, Working};
use crate::functional::{Kept, MOST_KEPT};
use crate::kernels::isa::Isa;
use crate::memory::Aligned;
use crate::places::{Region, Ring, Target};
use crate::program::Program;
use crate::schedule::{Schedule, ScheduleOptions, Speeds};
use crate::slots::Slots;
use crate::team::{self, TeamHandle};
use rnnc_graph::{LayerId, StateAdjoint};
use rnnc_plan::{
    Backward, ExecutionConfig, ExecutorError, Forward, Functional, Memory, Pass, Plan, PlanOptions, Ports,
    TapeHeader, View, check_available,
};
use std::sync::Arc;

/// A plan ready to run, for so many streams and a window of so many frames.
///
/// ```
/// use rnnc_cpu::Compiled;
/// use rnnc_graph::{Activation, Connect, Graph, Init};
/// use rnnc_plan::{Array, ArrayMut, Backward, ExecutionConfig, Forward, Plan, PlanOptions};
/// // h = w x + h[t-1] / 2, one unit and one stream, in calls of up to 2 frames.
/// let mut graph = Graph::new("leak");
/// let (x, h) = (graph.input("x", 1), graph.sum("h", 1, Activation::Identity));
/// let w = graph.weight("w", &[1, 1], Init::Zeros);
/// graph.connect(x, h, Connect::full(w));
/// graph.connect(h, h, Connect::scaled(0.5).delay(1));
/// graph.output("h", h);
/// graph.hold_state(Some(&["h"]))?;
/// let options = PlanOptions::training(1, 2).with_state_gradients();
/// let compiled = Compiled::new(Plan::new(&graph, options)?, ExecutionConfig::new(1, 2))?;
///
/// let (w, x, state) = ([3.0f32], [1.0f32, 0.0], [2.0f32]);
/// let weights = [Array::from_slice(&w, &[1, 1])?];
/// let inputs = [Array::from_slice(&x, &[2, 1, 1])?];
/// let state_in = [Array::from_slice(&state, &[1, 1])?];
/// // A tape begins at a multiple of 64 bytes.
/// let mut room = vec![0.0f32; compiled.tape_len() + 16];
/// let (first, len) = (room.as_ptr().align_offset(64), compiled.tape_len());
/// let mut y = [0.0f32; 2];
/// compiled.forward(Forward {
///     state_in: Some(&state_in),
///     outputs: &mut [Some(ArrayMut::from_slice(&mut y, &[2, 1, 1])?)],
///     tape: Some(ArrayMut::from_slice(&mut room[first..][..len], &[len])?),
///     ..Forward::new(2, &weights, &inputs)
/// })?;
/// assert_eq!(y, [4.0, 2.0]);
///
/// // Of the state that the call leaves, back to the weight and to the state that it began with.
/// let (mut d_w, mut d_state) = ([0.0f32], [0.0f32]);
/// compiled.backward(Backward {
///     d_state_out: &[Some(Array::from_slice(&[1.0f32], &[1, 1])?)],
///     d_weights: &mut [Some(ArrayMut::from_slice(&mut d_w, &[1, 1])?)],
///     d_state_in: &mut [Some(ArrayMut::from_slice(&mut d_state, &[1, 1])?)],
///     ..Backward::new(2, &weights, Array::from_slice(&room[first..][..len], &[len])?)
/// })?;
/// assert_eq!((d_w, d_state), ([0.5], [0.25]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Compiled {
    pub(crate) plan: Plan,
    pub(crate) schedule: Schedule,
    pub(crate) memory: Memory,
    ports: Ports,
    /// What its tapes are marked with.
    pub(crate) program: u64,
    pub(crate) kept: Kept,
    pub(crate) config: ExecutionConfig,
    pub(crate) isa: Isa,
    pub(crate) team: TeamHandle,
    pub(crate) forward: Program,
    pub(crate) backward: Option<Program>,
    /// Vectors of start values.
    pub(crate) constants: Aligned,
    /// Where each buffer begins, with its history.
    pub(crate) buffers: Vec<BufferPlace>,
    pub(crate) sizes: Sizes,
    /// What makes the gradients of the state before a window.
    pub(crate) before: Option<Arc<Compiled>>,
}

/// What a run takes, in numbers of 4 bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    pub values: usize,
    /// If these are apart.
    pub residuals: usize,
    pub weights: usize,
    pub gradients: usize,
    pub working: Working,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct BufferPlace {
    pub region: Region,
    pub offset: usize,
    /// Numbers of a frame, all streams.
    pub frame: usize,
    pub history: usize,
}

pub(crate) const NAME: &str = "cpu";

impl Compiled {
    /// Makes a plan ready, for as many workers as the config says, but no more than there are cores ([`team::workers`]). No
    /// memory is taken to run it yet.
    ///
    /// # Errors
    ///
    /// If streams, window or step are 0, if the memory is not there, or if `RNNC_ISA` asks for what the CPU lacks.
    pub fn new(plan: Plan, config: ExecutionConfig) -> Result<Arc<Compiled>, ExecutorError> {
        Compiled::with_workers(plan, config, team::workers(config.threads), Speeds::CORE, true)
    }

    /// The same for runs that go on ([`Run`](crate::Run)) alone: residuals may share memory with what is computed behind them.
    pub(crate) fn for_runs(plan: Plan, config: ExecutionConfig) -> Result<Arc<Compiled>, ExecutorError> {
        Compiled::with_workers(plan, config, team::workers(config.threads), Speeds::CORE, false)
    }

    pub(crate) fn with_workers(
        plan: Plan,
        config: ExecutionConfig,
        workers: usize,
        speeds: Speeds,
        residuals_apart: bool,
    ) -> Result<Arc<Compiled>, ExecutorError> {
        plan.check_config(NAME, config)?;
        let isa = Isa::choose().map_err(|what| ExecutorError::Unsupported { executor: NAME, what })?;
        let name = format!("network `{}`", plan.forward.name());
        let team = TeamHandle::of(workers).map_err(|error| ExecutorError::Unsupported {
            executor: NAME,
            what: format!("so many threads: {error}"),
        })?;
        let workers = team.size();
        let before = plan.state_adjoint.as_ref().filter(|state| state.depth > 0);
        let before = before.map(|state| compile_before(state, config)).transpose()?;
        let options = ScheduleOptions { speeds, ..ScheduleOptions::new(workers, config) };
        let mut foreseen = Foreseen::scheduled(plan, config, options, residuals_apart);
        // Before anything is counted in numbers of the machine's size.
        check_available(&name, foreseen.memory().total())?;
        let programs = foreseen.compile(config);
        let memory = foreseen.memory();
        check_available(&name, memory.total())?;
        let Foreseen { plan, schedule, placement, .. } = foreseen;
        let Programs { forward, backward, constants, working } = programs;
        let sizes = Sizes {
            values: (placement.total / 4) as usize,
            residuals: (placement.residuals_total / 4) as usize,
            weights: plan.weights.total(),
            gradients: if backward.is_some() { plan.weights.total() } else { 0 },
            working,
        };
        let place = |((buffer, &offset), &residual): ((&rnnc_plan::Buffer, &u128), &bool)| BufferPlace {
            region: Region::of(residual),
            offset: (offset / 4) as usize,
            frame: buffer.width * config.streams,
            history: buffer.history,
        };
        let buffers =
            plan.buffers.iter().zip(&placement.offsets).zip(&placement.residuals).map(place).collect();
        Ok(Arc::new(Compiled {
            constants: constants.allocate(),
            ports: Ports::of(&plan),
            program: TapeHeader::new_program(),
            kept: Slots::new(config.kept(memory.total(), MOST_KEPT)),
            plan,
            schedule,
            memory,
            config,
            isa,
            team,
            forward,
            backward,
            buffers,
            sizes,
            before,
        }))
    }

    /// The plan, in which loops compute what they alone read.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// How it was made ready.
    pub fn config(&self) -> ExecutionConfig {
        self.config
    }

    /// How workers run the plan.
    pub fn schedule(&self) -> &Schedule {
        &self.schedule
    }

    /// The memory that a run takes, and an executor beside it.
    pub fn memory(&self) -> Memory {
        self.memory
    }

    /// How many workers run it.
    pub fn workers(&self) -> usize {
        self.team.size()
    }

    /// The instruction set that its kernels use.
    pub fn instructions(&self) -> &'static str {
        self.isa.level().name()
    }

    /// What a call of it takes and gives.
    pub fn ports(&self) -> &Ports {
        &self.ports
    }

    pub(crate) fn pass(&self, backward: bool) -> Option<&Pass> {
        if backward { self.plan.backward_pass.as_ref() } else { Some(&self.plan.forward_pass) }
    }

    pub(crate) fn view(&self, backward: bool, layer: LayerId) -> Option<View> {
        self.pass(backward)?.storage[layer.index()]
    }

    /// The place of a stored layer's view.
    pub(crate) fn target(&self, view: View) -> Target {
        let place = self.buffers[view.buffer.0];
        let width = self.plan.buffers[view.buffer.0].width;
        Target {
            region: place.region,
            base: place.offset + place.history * place.frame + view.column,
            width,
            len: view.len,
            ring: Ring::NONE,
        }
    }
}

impl Functional for Compiled {
    fn ports(&self) -> &Ports {
        self.ports()
    }

    fn config(&self) -> ExecutionConfig {
        self.config()
    }

    fn tape_len(&self) -> usize {
        self.tape_len()
    }

    fn forward(&self, call: Forward<'_, '_>) -> Result<(), ExecutorError> {
        self.forward(call)
    }

    fn backward(&self, call: Backward<'_, '_>) -> Result<(), ExecutorError> {
        self.backward(call)
    }
}

/// What makes the gradients of the state, over the frames around a window's first.
fn compile_before(state: &StateAdjoint, config: ExecutionConfig) -> Result<Arc<Compiled>, ExecutorError> {
    let frames = 2 * state.depth;
    let plan = Plan::new(&state.graph, PlanOptions::inference(config.streams, frames))
        .map_err(|error| ExecutorError::Unsupported { executor: NAME, what: error.to_string() })?;
    // Some frames: too little to share out.
    let config = ExecutionConfig { window: frames, step: frames, threads: 1, training: false, ..config };
    Compiled::with_workers(plan, config, 1, Speeds::CORE, false)
}
