//! The executor: memory for a plan, and the calls that run it.

mod state;

use crate::flush::FlushSubnormals;
use crate::foreseen::{Foreseen, Programs};
use crate::kernels::isa::Isa;
use crate::memory::{Aligned, Room, Shared};
use crate::ops::border::{self, BufferRows};
use crate::ops::{Local, Share, TILE, once, update};
use crate::owners::{self, Owners};
use crate::pass;
use crate::places::{Ring, Target};
use crate::program::Program;
use crate::schedule::{Schedule, ScheduleOptions, Speeds};
use crate::team::{self, Policy, Team, Work, Worker};
use rnnc_graph::{LayerId, WeightId};
use rnnc_plan::{
    ExecutionConfig, Executor, ExecutorError, Memory, ParameterArray, Pass, Plan, ResetTracker, State,
    Update, Values, ValuesMut, View, check_available,
};
use std::sync::{Mutex, PoisonError};

/// Runs plans on the cores of a CPU, in single precision.
///
/// All memory is taken when it is made; no call allocates after the first window.
///
/// ```
/// use rnnc_cpu::CpuExecutor;
/// use rnnc_graph::{Activation, Connect, Graph, Init};
/// use rnnc_plan::{ExecutionConfig, Executor, Plan, PlanOptions, Values, ValuesMut};
/// let mut graph = Graph::new("sum");
/// let x = graph.input("x", 2);
/// let y = graph.sum("y", 2, Activation::Identity);
/// graph.connect(x, y, Connect::identity());
/// graph.connect(y, y, Connect::scaled(0.5).delay(1));
/// graph.output("y", y);
/// let plan = Plan::new(&graph, PlanOptions::inference(1, 3))?;
/// let mut executor = CpuExecutor::new(plan, ExecutionConfig::new(1, 3))?;
/// executor.forward(3, &[Values::F32(&[1.0, 0.0, 0.0, 1.0, 0.0, 0.0])], None)?;
/// let mut y = [0.0; 6];
/// executor.output(0, ValuesMut::F32(&mut y))?;
/// assert_eq!(y, [1.0, 0.0, 0.5, 1.0, 0.25, 0.5]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct CpuExecutor {
    plan: Plan,
    schedule: Schedule,
    memory: Memory,
    config: ExecutionConfig,
    isa: Isa,
    /// Locked only where results are copied out; whoever changes the executor has it to themselves.
    team: Mutex<Team>,
    /// Of each worker.
    locals: Vec<Mutex<Local>>,
    forward: Program,
    backward: Option<Program>,
    values: Aligned,
    weights: Aligned,
    gradients: Aligned,
    moments: [Aligned; 2],
    constants: Aligned,
    packed: Aligned,
    found: Aligned,
    /// Debug builds: which share touches what of these.
    owners: Option<Owners>,
    tracker: ResetTracker,
    /// Where each buffer begins, with its history.
    buffers: Vec<BufferPlace>,
    /// New frames of the last forward call, 0 before the first.
    new_frames: usize,
    /// Frames that errors can go back through.
    valid_frames: usize,
    /// Frames of the last backward call.
    backward_frames: usize,
    /// What the steps of `Plan::once` compute with.
    once: Aligned,
    /// Whether the weights were packed since they changed, for each pass.
    packed_for: [bool; 2],
}

#[derive(Clone, Copy, Debug)]
struct BufferPlace {
    offset: usize,
    /// Numbers of a frame, all streams.
    frame: usize,
    history: usize,
}

const NAME: &str = "cpu";

impl CpuExecutor {
    /// Takes the memory for a plan and starts the workers: as many as the config says, but no more than there are cores
    /// ([`team::workers`]).
    ///
    /// # Errors
    ///
    /// If streams, window or step are 0, if the memory is not there, or if `RNNC_ISA` asks for what the CPU lacks.
    pub fn new(plan: Plan, config: ExecutionConfig) -> Result<CpuExecutor, ExecutorError> {
        CpuExecutor::with_workers(plan, config, team::workers(config.threads), Speeds::CORE)
    }

    /// The same with just as many workers as the config says, and work partitioned as for cores of other speeds. Results depend on
    /// how it is only as far as sums are rounded: this is for tests, and for finding speeds.
    ///
    /// # Errors
    ///
    /// As [`CpuExecutor::new`].
    pub fn for_cores(
        plan: Plan,
        config: ExecutionConfig,
        speeds: Speeds,
    ) -> Result<CpuExecutor, ExecutorError> {
        CpuExecutor::with_workers(plan, config, config.threads, speeds)
    }

    fn with_workers(
        plan: Plan,
        config: ExecutionConfig,
        workers: usize,
        speeds: Speeds,
    ) -> Result<CpuExecutor, ExecutorError> {
        plan.check_config(NAME, config)?;
        let isa = Isa::choose().map_err(|what| ExecutorError::Unsupported { executor: NAME, what })?;
        let name = format!("network `{}`", plan.forward.name());
        let team = Team::new(workers).map_err(|error| ExecutorError::Unsupported {
            executor: NAME,
            what: format!("so many threads: {error}"),
        })?;
        let workers = team.size();
        let options = ScheduleOptions { speeds, ..ScheduleOptions::new(workers, config) };
        let mut foreseen = Foreseen::scheduled(plan, config, options);
        // Before anything is counted in numbers of the machine's size.
        check_available(&name, foreseen.memory().total())?;
        let programs = foreseen.compile(config);
        let memory = foreseen.memory();
        check_available(&name, memory.total())?;
        let Foreseen { plan, schedule, placement, .. } = foreseen;
        let Programs { forward, backward, constants, packed, found, tiles, pointers, group, outer } =
            programs;
        let local = || {
            Mutex::new(Local {
                tiles: Aligned::new(tiles),
                group: Aligned::new(group),
                outer: Aligned::new(outer),
                pointers: vec![std::ptr::null_mut(); pointers],
            })
        };
        // Derived weights have gradients, but are not updated.
        let (gradients, moments) = match backward {
            Some(_) => (plan.weights.total(), plan.weights.len()),
            None => (0, 0),
        };
        let placed = (placement.total / 4) as usize;
        let owned = placed + gradients + packed + found;
        let buffers = plan
            .buffers
            .iter()
            .zip(&placement.offsets)
            .map(|(b, &offset)| BufferPlace {
                offset: (offset / 4) as usize,
                frame: b.width * config.streams,
                history: b.history,
            })
            .collect();
        Ok(CpuExecutor {
            isa,
            locals: (0..workers).map(|_| local()).collect(),
            team: Mutex::new(team),
            forward,
            backward,
            values: Aligned::new(placed),
            weights: Aligned::new(plan.weights.total()),
            gradients: Aligned::new(gradients),
            moments: [Aligned::new(moments), Aligned::new(moments)],
            constants: constants.allocate(),
            packed: Aligned::new(packed),
            found: Aligned::new(found),
            owners: Owners::new(owned, workers),
            tracker: ResetTracker::new(config.streams, config.window),
            buffers,
            new_frames: 0,
            valid_frames: 0,
            backward_frames: 0,
            once: Aligned::new(plan.once.room(TILE)),
            packed_for: [false; 2],
            plan,
            schedule,
            memory,
            config,
        })
    }

    /// Decides, for tests, whether passes are shared out: results are the same to the bit.
    pub fn set_policy(&mut self, policy: Policy) {
        self.team.get_mut().unwrap_or_else(PoisonError::into_inner).set_policy(policy);
    }

    /// How its workers run the plan.
    pub fn schedule(&self) -> &Schedule {
        &self.schedule
    }

    /// The memory that it takes.
    pub fn memory(&self) -> Memory {
        self.memory
    }

    /// How many workers it has.
    pub fn workers(&self) -> usize {
        self.locals.len()
    }

    /// The instruction set its kernels use.
    pub fn instructions(&self) -> &'static str {
        self.isa.level().name()
    }

    /// Runs a pass over the frames from `first` on. `given` has the values of an input in the last `new` of them.
    fn run<'a>(
        &mut self,
        backward: bool,
        first: usize,
        new: usize,
        given: &(dyn Fn(usize) -> Option<Values<'a>> + Sync),
    ) {
        /// Fewer numbers than these are not worth a barrier.
        const SHARED: usize = 1 << 16;
        // No pass has run since weights changed.
        if self.packed_for == [false; 2] {
            self.derive(false);
        }
        let program = if backward { self.backward.as_ref() } else { Some(&self.forward) };
        let Some(program) = program else { return };
        for range in &program.cleared {
            self.gradients.as_mut_slice()[range.clone()].fill(0.0);
        }
        let packed = std::mem::replace(&mut self.packed_for[usize::from(backward)], true);
        let shared = Shared {
            values: self.values.as_mut_ptr(),
            weights: self.weights.as_slice().as_ptr(),
            gradients: self.gradients.as_mut_ptr(),
            constants: self.constants.as_slice().as_ptr(),
            packed: self.packed.as_mut_ptr(),
            found: self.found.as_mut_ptr(),
            room: Room {
                values: self.values.as_slice().len(),
                weights: self.weights.as_slice().len(),
                gradients: self.gradients.as_slice().len(),
                constants: self.constants.as_slice().len(),
                packed: self.packed.as_slice().len(),
                found: self.found.as_slice().len(),
            },
            owners: self.owners.as_ref(),
            tracker: &self.tracker,
            isa: self.isa,
            streams: self.config.streams,
            first,
            end: self.config.window,
            dropout: self.config.training.then_some(self.config.seed),
        };
        let locals = &self.locals;
        let this_run = self.owners.as_ref().map_or(0, Owners::next_run);
        let (inputs, window) = (&program.inputs, self.config.window);
        let fill = |share: &Share| {
            for (place, to) in inputs.iter().enumerate() {
                if let Some(to) = to {
                    border::fill(&shared, to, share, window - new, given(place));
                }
            }
        };
        let width: usize = inputs.iter().flatten().map(|to| to.len).sum();
        let by_all = !program.alone && (window - first) * shared.streams * width >= SHARED;
        if !by_all {
            owners::enters(0);
            fill(&pass::whole(&shared));
        }
        let job = |worker: Worker<'_>| {
            owners::enters(this_run);
            // Its own worker is the only one to take it.
            let mut local = locals[worker.index].lock().unwrap_or_else(PoisonError::into_inner);
            for index in pass::shares(&worker).filter(|_| by_all) {
                if let Some(share) = pass::first_share(&shared, program, (index, worker.count)) {
                    fill(&share);
                }
            }
            if !packed {
                pass::pack(&shared, program, &worker);
            }
            if by_all || !packed {
                worker.barrier();
            }
            pass::run(&shared, program, &worker, &mut local);
        };
        let team = self.team.get_mut().unwrap_or_else(PoisonError::into_inner);
        if program.alone {
            return team.alone(&job);
        }
        let kind = if backward { Work::Backward } else { Work::Forward };
        team.share(kind, window - first, &job);
    }

    /// Computes what depends on weights alone, or, backward, adds its gradients to those of the weights.
    fn derive(&mut self, backward: bool) {
        let steps = if backward { &self.plan.once.backward } else { &self.plan.once.forward };
        let (weights, gradients) = (self.weights.as_mut_slice(), self.gradients.as_mut_slice());
        let buffers = once::Buffers { weights, gradients };
        once::run(self.isa, steps, buffers, self.once.as_mut_slice());
    }

    /// The place of a stored layer's view.
    fn target(&self, view: View) -> Target {
        let place = self.buffers[view.buffer.0];
        let width = self.plan.buffers[view.buffer.0].width;
        Target {
            base: place.offset + place.history * place.frame + view.column,
            width,
            len: view.len,
            ring: Ring::NONE,
        }
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
        let _flush = FlushSubnormals::begin();
        let streams = self.config.streams;
        let expected = frames * streams * view.len;
        if into.len() != expected {
            let shape = format!("[{frames}, {streams}, {}]", view.len);
            return Err(ExecutorError::Length { name: name.into(), shape, expected, found: into.len() });
        }
        let to = self.target(view);
        let start = to.base as i64 + first * (streams * to.width) as i64;
        let rows =
            BufferRows { values: &self.values.as_slice()[start as usize..], width: to.width, len: view.len };
        match into {
            ValuesMut::F32(out) => border::copy_out(&self.team, &rows, out),
            ValuesMut::F64(out) => border::copy_out(&self.team, &rows, out),
        }
        Ok(())
    }

    fn pass(&self, backward: bool) -> Option<&Pass> {
        if backward { self.plan.backward_pass.as_ref() } else { Some(&self.plan.forward_pass) }
    }

    fn view(&self, backward: bool, layer: LayerId) -> Option<View> {
        self.pass(backward)?.storage[layer.index()]
    }

    fn part(&self, part: ParameterArray) -> &Aligned {
        match part {
            ParameterArray::Weight => &self.weights,
            ParameterArray::Gradient => &self.gradients,
            ParameterArray::Moment1 => &self.moments[0],
            ParameterArray::Moment2 => &self.moments[1],
        }
    }
}

impl Executor for CpuExecutor {
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
        let _flush = FlushSubnormals::begin();
        let window = self.config.window;
        // Move what is kept to the front: the frames before the new ones, as far as history (or, where windows
        // overlap, the window) goes back.
        for (buffer, place) in self.plan.buffers.iter().zip(&self.buffers) {
            let kept = if self.config.step < window && buffer.saved {
                buffer.history + window - frames
            } else {
                buffer.history
            };
            if kept > 0 {
                let end = place.offset + (buffer.history + window) * place.frame;
                let to = place.offset + (buffer.history + window - frames - kept) * place.frame;
                self.values.as_mut_slice().copy_within(end - kept * place.frame..end, to);
            }
        }
        self.tracker.advance(frames, resets);
        self.run(false, window - frames, frames, &|place| inputs.get(place).copied());
        self.new_frames = frames;
        self.backward_frames = 0;
        let kept = if self.config.step < window { window - frames } else { 0 };
        self.valid_frames = self.valid_frames.min(kept) + frames;
        Ok(())
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
        let (new, most) = (self.new_frames, self.valid_frames);
        self.plan.check_output_gradients(self.config, new, most, frames, output_gradients)?;
        let _flush = FlushSubnormals::begin();
        let window = self.config.window;
        let given = |place| output_gradients.get(place).copied().flatten();
        self.run(true, window - frames, new, &given);
        if self.backward.is_some() {
            self.derive(true);
        }
        self.backward_frames = frames;
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
        self.plan.check_update(update)?;
        let _flush = FlushSubnormals::begin();
        let team = self.team.get_mut().unwrap_or_else(PoisonError::into_inner);
        let norm = update::run(team, self.isa, update, &mut self.weights, &self.gradients, &mut self.moments);
        self.packed_for = [false; 2];
        Ok(norm)
    }

    fn read(&self, part: ParameterArray, weight: WeightId, into: ValuesMut<'_>) -> Result<(), ExecutorError> {
        self.plan.check_weight(part, weight, into.len())?;
        let from = self.part(part).as_slice();
        let places = self.plan.weights.view(weight).places();
        match into {
            ValuesMut::F32(out) => out.iter_mut().zip(places).for_each(|(o, at)| *o = from[at]),
            ValuesMut::F64(out) => out.iter_mut().zip(places).for_each(|(o, at)| *o = f64::from(from[at])),
        }
        Ok(())
    }

    fn write(
        &mut self,
        part: ParameterArray,
        weight: WeightId,
        values: Values<'_>,
    ) -> Result<(), ExecutorError> {
        self.plan.check_written(part, weight, values)?;
        let places = self.plan.weights.view(weight).places();
        let to = match part {
            ParameterArray::Weight => &mut self.weights,
            ParameterArray::Gradient => &mut self.gradients,
            ParameterArray::Moment1 => &mut self.moments[0],
            ParameterArray::Moment2 => &mut self.moments[1],
        }
        .as_mut_slice();
        match values {
            Values::F32(v) => places.zip(v).for_each(|(at, v)| to[at] = *v),
            Values::F64(v) => places.zip(v).for_each(|(at, v)| to[at] = *v as f32),
            // Refused above.
            Values::Symbols(_) => {}
        }
        self.packed_for = [false; 2];
        Ok(())
    }

    fn state(&self) -> Result<State, ExecutorError> {
        Ok(State {
            kept: self.kept_state(),
            ..self.histories_state(0, self.tracker.next_since_reset(), self.tracker.frames_run())
        })
    }

    fn forward_state(&self) -> Result<State, ExecutorError> {
        Ok(self.histories_state(0, self.tracker.next_since_reset(), self.tracker.frames_run()))
    }

    fn state_before(&self) -> Result<State, ExecutorError> {
        let (since_reset, frames) = self.tracker.previous();
        Ok(self.histories_state(self.new_frames, since_reset, frames))
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
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::program::{GroupCode, Section};
    use rnnc_plan::{Partition, Stage};
    use rnnc_suite::cases;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    #[test]
    fn what_a_plan_says_that_weights_take_is_taken() {
        let mut derived = 0;
        for case in cases() {
            let executor = CpuExecutor::new(case.plan().unwrap(), case.config()).unwrap();
            let said = executor.memory();
            let taken = |part| 4 * executor.part(part).as_slice().len() as u128;
            assert_eq!(taken(ParameterArray::Weight), said.weights, "{}", case.name);
            assert_eq!(taken(ParameterArray::Gradient), said.gradients, "{}", case.name);
            assert_eq!(
                taken(ParameterArray::Moment1) + taken(ParameterArray::Moment2),
                said.moments,
                "{}",
                case.name
            );
            derived += usize::from(said.moments < 2 * said.gradients);
        }
        assert!(derived > 0, "some network has derived weights");
    }

    /// Takes the barriers out of a program's loops that are shared out by units or heads; says how many there were.
    fn without_barriers(program: &mut Program) -> usize {
        let mut barriers = 0;
        for section in &mut program.sections {
            let (Section::TimeBlocks { stages: depths, .. } | Section::Pipeline { depths, .. }) = section;
            let by_units =
                |group: &&mut GroupCode| matches!(group.partition, Partition::Units | Partition::Heads);
            for group in depths.iter_mut().flat_map(|depth| &mut depth.groups).filter(by_units) {
                for task in &mut group.tasks {
                    let at_end = task.barriers.pop();
                    barriers += task.barriers.drain(..).filter(|barrier| *barrier).count();
                    task.barriers.extend(at_end);
                    task.phases = vec![task.phases.drain(..).flatten().collect()];
                }
            }
        }
        barriers
    }

    #[test]
    #[cfg(debug_assertions)]
    fn a_debug_build_finds_a_missing_barrier_even_where_one_thread_does_all() {
        let slow = Speeds { product: 1.0, other: 1.0, near: 1.0, far: 1.0, memory: 1.0, ..Speeds::CORE };
        let speeds = Speeds { run: 0.0, wake: 0.0, step: 0.0, ..slow };
        let (mut found, mut harmless) = (0, 0);
        for case in cases() {
            let config = ExecutionConfig { threads: 2, ..case.config() };
            let mut executor = CpuExecutor::for_cores(case.plan().unwrap(), config, speeds).unwrap();
            // Units may be whole heads by chance, which need no barrier.
            let by_chance = |(stage, &partition): (&Stage, &Partition)| {
                partition == Partition::Units && stage.tasks.iter().any(|task| task.heads > 1)
            };
            let partitions = &executor.schedule.forward.partitions;
            if executor.plan.forward_pass.stages.iter().zip(partitions).any(by_chance) {
                continue;
            }
            // So that there is no race, but for the one that is looked for.
            executor.set_policy(Policy::Alone);
            let window = case.trial().unwrap().windows.swap_remove(0);
            window.forward(&mut executor).unwrap();
            if without_barriers(&mut executor.forward) == 0 {
                continue;
            }
            let mut again = || window.forward(&mut executor).unwrap();
            // Of some sizes no share needs what another one makes, by chance.
            let Err(panic) = catch_unwind(AssertUnwindSafe(&mut again)) else {
                harmless += 1;
                continue;
            };
            let said = panic.downcast_ref::<String>().unwrap();
            assert!(said.contains("no barrier between"), "{}: {said}", case.name);
            found += 1;
        }
        assert!(found > 5 && harmless * 10 < found, "{found} cases, and {harmless} without harm");
    }
}
