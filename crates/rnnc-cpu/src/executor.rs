//! The executor: a run that goes on from window to window, and the optimizer's step.

use crate::compiled::{Compiled, NAME};
use crate::flush::FlushSubnormals;
use crate::memory::Aligned;
use crate::ops::update;
use crate::run::{Run, gather, scatter};
use crate::schedule::{Schedule, Speeds};
use crate::team::Policy;
use rnnc_graph::WeightId;
use rnnc_plan::{
    ExecutionConfig, Executor, ExecutorError, Memory, ParameterArray, Plan, State, Update, Values, ValuesMut,
};

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
    run: Run,
    /// The optimizer's.
    slots: Vec<Aligned>,
}

impl CpuExecutor {
    /// Takes the memory for a plan and starts the workers: as many as the config says, but no more than there are cores
    /// ([`workers`](crate::team::workers)).
    ///
    /// # Errors
    ///
    /// If streams, window or step are 0, if the memory is not there, or if `RNNC_ISA` asks for what the CPU lacks.
    pub fn new(plan: Plan, config: ExecutionConfig) -> Result<CpuExecutor, ExecutorError> {
        Ok(CpuExecutor::of(Run::new(&Compiled::for_runs(plan, config)?)))
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
        Ok(CpuExecutor::of(Run::new(&Compiled::with_workers(plan, config, config.threads, speeds, false)?)))
    }

    fn of(run: Run) -> CpuExecutor {
        // Derived weights have gradients, but are not updated.
        let compiled = run.compiled();
        let (slots, len) = match compiled.backward {
            Some(_) => (compiled.config.optimizer.slots().len(), compiled.plan.weights.len()),
            None => (0, 0),
        };
        CpuExecutor { run, slots: (0..slots).map(|_| Aligned::new(len)).collect() }
    }

    /// Decides, for tests, whether passes are shared out: results are the same to the bit.
    pub fn set_policy(&mut self, policy: Policy) {
        self.run.work.experience().set_policy(policy);
    }

    /// How its workers run the plan.
    pub fn schedule(&self) -> &Schedule {
        self.run.compiled().schedule()
    }

    /// The memory that it takes.
    pub fn memory(&self) -> Memory {
        self.run.compiled().memory()
    }

    /// How many workers it has.
    pub fn workers(&self) -> usize {
        self.run.compiled().workers()
    }

    /// The instruction set its kernels use.
    pub fn instructions(&self) -> &'static str {
        self.run.compiled().instructions()
    }

    /// An array that `check_weight` has let through.
    fn part(&self, part: ParameterArray) -> &Aligned {
        match part {
            ParameterArray::Weight => &self.run.work.weights,
            ParameterArray::Gradient => &self.run.work.gradients,
            ParameterArray::Slot(slot) => &self.slots[slot],
        }
    }
}

impl Executor for CpuExecutor {
    fn name(&self) -> &'static str {
        NAME
    }

    fn plan(&self) -> &Plan {
        self.run.compiled().plan()
    }

    fn config(&self) -> ExecutionConfig {
        self.run.compiled().config()
    }

    fn forward(
        &mut self,
        frames: usize,
        inputs: &[Values<'_>],
        resets: Option<&[bool]>,
    ) -> Result<(), ExecutorError> {
        self.run.forward(frames, inputs, resets)
    }

    fn output(&self, output: usize, into: ValuesMut<'_>) -> Result<(), ExecutorError> {
        self.run.output(output, into)
    }

    fn backward(
        &mut self,
        frames: usize,
        output_gradients: &[Option<Values<'_>>],
    ) -> Result<(), ExecutorError> {
        self.run.backward(frames, output_gradients, &[])
    }

    fn backward_from(
        &mut self,
        frames: usize,
        output_gradients: &[Option<Values<'_>>],
        state_gradients: &[Option<Values<'_>>],
    ) -> Result<(), ExecutorError> {
        self.run.backward(frames, output_gradients, state_gradients)
    }

    fn state_gradient(&self, vector: usize, into: ValuesMut<'_>) -> Result<(), ExecutorError> {
        self.run.state_gradient(vector, into)
    }

    fn input_gradient(&self, input: usize, into: ValuesMut<'_>) -> Result<(), ExecutorError> {
        self.run.input_gradient(input, into)
    }

    fn update(&mut self, update: &Update) -> Result<f64, ExecutorError> {
        self.plan().check_update(self.config(), update)?;
        let _flush = FlushSubnormals::begin();
        let norm = update::run(&mut self.run, update, &mut self.slots);
        self.run.work.weights_changed();
        Ok(norm)
    }

    fn read(&self, part: ParameterArray, weight: WeightId, into: ValuesMut<'_>) -> Result<(), ExecutorError> {
        self.plan().check_weight(self.config(), part, weight, into.len())?;
        gather(self.part(part).as_slice(), self.plan().weights.view(weight).places(), into);
        Ok(())
    }

    fn write(
        &mut self,
        part: ParameterArray,
        weight: WeightId,
        values: Values<'_>,
    ) -> Result<(), ExecutorError> {
        if part == ParameterArray::Weight {
            return self.run.write(weight, values);
        }
        self.plan().check_written(self.config(), part, weight, values)?;
        let places = self.plan().weights.view(weight).places();
        let to = match part {
            ParameterArray::Weight => &mut self.run.work.weights,
            ParameterArray::Gradient => &mut self.run.work.gradients,
            ParameterArray::Slot(slot) => &mut self.slots[slot],
        };
        scatter(values, places, to.as_mut_slice());
        Ok(())
    }

    fn state(&self) -> Result<State, ExecutorError> {
        Ok(self.run.state())
    }

    fn forward_state(&self) -> Result<State, ExecutorError> {
        Ok(self.run.forward_state())
    }

    fn state_before(&self) -> Result<State, ExecutorError> {
        Ok(self.run.state_before())
    }

    fn set_state(&mut self, state: &State) -> Result<(), ExecutorError> {
        self.run.set_state(state)
    }

    fn clear_state(&mut self) {
        self.run.clear();
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::program::{GroupCode, Program, Section};
    use rnnc_plan::{Optimizer, Partition, PlanOptions, Stage};
    use rnnc_suite::cases;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::Arc;

    #[test]
    fn what_a_plan_says_that_weights_take_is_taken() {
        let mut derived = 0;
        for (case, optimizer) in cases().into_iter().zip(Optimizer::ALL.into_iter().cycle()) {
            let config = ExecutionConfig { optimizer, ..case.config() };
            let executor = CpuExecutor::new(case.plan().unwrap(), config).unwrap();
            let said = executor.memory();
            let taken = |part| 4 * executor.part(part).as_slice().len() as u128;
            assert_eq!(taken(ParameterArray::Weight), said.weights, "{}", case.name);
            assert_eq!(taken(ParameterArray::Gradient), said.gradients, "{}", case.name);
            let slots = optimizer.slots().len();
            let each: Vec<u128> = (0..slots).map(|slot| taken(ParameterArray::Slot(slot))).collect();
            assert_eq!(each.iter().sum::<u128>(), said.slots, "{}", case.name);
            derived += usize::from(said.slots < slots as u128 * said.gradients);
        }
        let inference = Plan::new(&cases()[0].graph, PlanOptions::inference(1, 1)).unwrap();
        let executor = CpuExecutor::new(inference, ExecutionConfig::new(1, 1)).unwrap();
        assert_eq!((executor.memory().slots, executor.slots.len()), (0, 0));
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
            let partitions = &executor.schedule().forward.partitions;
            if executor.plan().forward_pass.stages.iter().zip(partitions).any(by_chance) {
                continue;
            }
            // So that there is no race, but for the one that is looked for.
            executor.set_policy(Policy::Alone);
            let window = case.trial().unwrap().windows.swap_remove(0);
            window.forward(&mut executor).unwrap();
            if without_barriers(&mut Arc::get_mut(&mut executor.run.compiled).unwrap().forward) == 0 {
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
