//! What a plan becomes on a CPU, before memory is taken for it: a schedule, programs, and the memory that they take.

use crate::compile::{Compiler, Constants};
use crate::ops::{TILE, gradient};
use crate::program::Program;
use crate::schedule::{Schedule, ScheduleOptions};
use rnnc_plan::{ExecutionConfig, Memory, Optimizer, Placement, Plan, ResetTracker, Residency};

/// What the executor runs of a plan, and what that takes.
#[derive(Clone, Debug)]
pub struct Foreseen {
    /// The plan, in which loops compute what they alone read.
    pub plan: Plan,
    /// How workers run it.
    pub schedule: Schedule,
    /// Where its buffers lie.
    pub placement: Placement,
    /// Bytes that are taken beside values, weights and their like: packed weights, and what workers compute with. 0 if
    /// all else is more than can be taken.
    pub working: u128,
    /// The optimizer that has slots, if there are gradients.
    pub optimizer: Optimizer,
}

/// The programs of a plan's passes. Sizes are in numbers of 4 bytes.
pub(crate) struct Programs {
    pub forward: Program,
    pub backward: Option<Program>,
    pub constants: Constants,
    pub working: Working,
}

/// What programs compute with. In numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Working {
    pub packed: usize,
    pub found: usize,
    /// Of each worker.
    pub tiles: usize,
    pub pointers: usize,
    pub group: usize,
    pub outer: usize,
}

impl Foreseen {
    /// What the executor would run on so many workers, without taking memory for it.
    pub fn new(plan: Plan, config: ExecutionConfig, workers: usize) -> Foreseen {
        let mut foreseen = Foreseen::scheduled(plan, config, ScheduleOptions::new(workers, config), false);
        // More can neither be taken nor counted.
        if foreseen.memory().total() < isize::MAX as u128 {
            foreseen.compile(config);
        }
        foreseen
    }

    /// The plan with its schedule, before it is known what programs take.
    pub(crate) fn scheduled(
        mut plan: Plan,
        config: ExecutionConfig,
        options: ScheduleOptions,
        residuals_apart: bool,
    ) -> Foreseen {
        plan.sink();
        let schedule = Schedule::new(&plan, options);
        let keep = config.step < config.window;
        let residency = Residency { residuals_apart, ..schedule.residency(&plan, config.window) };
        let placement = plan.place(config.streams, config.window, keep, &residency);
        Foreseen { plan, schedule, placement, working: 0, optimizer: config.optimizer }
    }

    /// Writes the programs, and counts what they take.
    pub(crate) fn compile(&mut self, config: ExecutionConfig) -> Programs {
        let Foreseen { plan, schedule, placement, .. } = self;
        let rings = schedule.residency(plan, config.window).rings;
        let mut compiler = Compiler::new(plan, schedule, &rings, placement, config);
        let (forward, backward) = (compiler.forward(), compiler.backward());
        let outer = if compiler.errors > 0 { gradient::outer_room(compiler.errors) } else { 0 };
        let tiles = compiler.tiles.max(2) * TILE;
        let Compiler { packed_len: packed, found, pointers, group, constants, .. } = compiler;
        let bytes = |numbers: &[usize]| numbers.iter().map(|&numbers| 4 * numbers as u128).sum::<u128>();
        let of_all = bytes(&[packed, found, constants.len, plan.once.room(TILE)]);
        let own = bytes(&[tiles, group, outer, 2 * pointers]) * schedule.options.workers as u128;
        self.working = of_all + own + ResetTracker::bytes(config.streams, config.window);
        let working = Working { packed, found, tiles, pointers, group, outer };
        Programs { forward, backward, constants, working }
    }

    /// What running takes.
    pub fn memory(&self) -> Memory {
        Memory { working: self.working, ..self.plan.memory(&self.placement, self.optimizer) }
    }
}
