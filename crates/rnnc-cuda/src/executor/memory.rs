//! The device memory of an executor: its regions, and what the host lays into them.

use super::moves::moves;
use crate::device::Device;
use crate::driver::{Address, Args, Driver, DriverError};
use crate::program::Program;
use crate::stages::update::UPDATE_NUMBERS;
use rnnc_plan::{ExecutionConfig, ExecutorError, ParameterArray, Plan, ResetTracker};
use std::ops::Range;

/// Bytes of a number.
pub(crate) const NUMBER: u64 = 4;

/// Numbers of 8 bytes before the tracker's steps since reset: `run` of the prelude.
const RUN: usize = 16;

/// The place in `run` of the first number of an update: `RUN_LIMIT` of the prelude.
const RUN_UPDATE: u64 = 2;

const _: () = assert!(RUN_UPDATE as usize + UPDATE_NUMBERS <= RUN);

/// Where everything is.
#[derive(Clone, Copy)]
pub(crate) struct Memory {
    pub values: Address,
    pub weights: Address,
    pub gradients: Address,
    /// The optimizer's, one after another.
    slots: Address,
    /// Bytes of each.
    slot_bytes: u64,
    pub scratch: Address,
    /// The numbers of a run, steps since reset, frames ahead: written as one.
    pub tracker: Address,
    pub counters: Address,
    /// Of inputs that wait for the next forward call; 0 until the first.
    pub waiting: Address,
    /// Rows of a window.
    rows: u64,
}

/// How many numbers everything takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    pub values: usize,
    pub weights: usize,
    pub gradients: usize,
    /// Of the optimizer, all of them.
    pub slots: usize,
    pub scratch: usize,
    pub tracker: usize,
    pub counters: usize,
}

impl Sizes {
    pub fn of(plan: &Plan, config: ExecutionConfig, program: &Program) -> Sizes {
        let regions = &program.regions;
        let moved = moves(plan, program, config).iter().map(|m| m.most_overlapping(config)).max();
        Sizes {
            values: regions.values,
            weights: regions.weights,
            gradients: if regions.trained { regions.weights } else { 0 },
            // Derived weights have gradients, but are not updated.
            slots: if regions.trained { config.optimizer.slots().len() * plan.weights.len() } else { 0 },
            // The norm of an update stands in the first two numbers.
            scratch: regions.scratch.max(moved.unwrap_or(0)).max(2),
            tracker: 2 * RUN + 2 * config.window * config.streams,
            counters: regions.counters,
        }
    }

    /// Bytes of all of it.
    pub fn bytes(&self) -> u128 {
        let Sizes { values, weights, gradients, slots, scratch, tracker, counters } = *self;
        let numbers = [values, weights, gradients, slots, scratch, tracker, counters];
        numbers.iter().map(|&numbers| numbers as u128 * u128::from(NUMBER)).sum()
    }
}

impl Memory {
    /// Takes all of it, as zeros. A slot has so many numbers.
    pub fn allocate(
        driver: &mut dyn Driver,
        sizes: Sizes,
        slot: usize,
        rows: usize,
    ) -> Result<Memory, DriverError> {
        let mut take = |numbers: usize| match numbers {
            0 => Ok(0),
            _ => driver.allocate(numbers * NUMBER as usize),
        };
        Ok(Memory {
            scratch: take(sizes.scratch)?,
            values: take(sizes.values)?,
            weights: take(sizes.weights)?,
            gradients: take(sizes.gradients)?,
            slots: take(sizes.slots)?,
            slot_bytes: slot as u64 * NUMBER,
            tracker: take(sizes.tracker)?,
            counters: take(sizes.counters)?,
            waiting: 0,
            rows: rows as u64,
        })
    }

    /// Gives all of it back.
    pub fn free(&self, driver: &mut dyn Driver) {
        let Memory { values, weights, gradients, slots, scratch, tracker, counters, waiting, .. } = *self;
        let all = [values, weights, gradients, slots, scratch, tracker, counters, waiting];
        all.into_iter().filter(|&address| address != 0).for_each(|address| driver.free(address));
    }

    pub fn part(&self, part: ParameterArray) -> Address {
        match part {
            ParameterArray::Weight => self.weights,
            ParameterArray::Gradient => self.gradients,
            ParameterArray::Slot(slot) => self.slots + slot as u64 * self.slot_bytes,
        }
    }

    /// Where the numbers of an update go.
    pub fn update_numbers(&self) -> Address {
        self.tracker + RUN_UPDATE * 8
    }

    /// Steps since reset, `[window, streams]`.
    pub fn since_reset(&self) -> Address {
        self.tracker + RUN as u64 * 8
    }

    /// Frames ahead, `[window, streams]`.
    pub fn ahead(&self) -> Address {
        self.since_reset() + self.rows * NUMBER
    }

    /// What kernels are given that run some frames of a pass, which begins at frame `begin`, with their lane's scratch.
    pub fn args(&self, scratch: Address, frames: &Range<usize>, begin: usize) -> Args {
        Args {
            values: self.values,
            weights: self.weights,
            gradients: self.gradients,
            slots: self.slots,
            scratch,
            since_reset: self.since_reset(),
            ahead: self.ahead(),
            run: self.tracker,
            counters: self.counters,
            // Windows that fit into memory have less frames.
            first: frames.start as i32,
            end: frames.end as i32,
            begin: begin as i32,
        }
    }
}

/// The clock as it lies on the device.
pub(super) fn tracker_image(tracker: &ResetTracker, config: ExecutionConfig) -> Vec<u32> {
    let mut image = vec![0; 2 * RUN + 2 * tracker.since_reset().len()];
    image[2] = config.seed as u32;
    image[3] = (config.seed >> 32) as u32;
    update_tracker_image(&mut image, tracker);
    image
}

/// The same again, after the clock has moved on.
pub(super) fn update_tracker_image(image: &mut [u32], tracker: &ResetTracker) {
    let before = tracker.before() as u64;
    image[0] = before as u32;
    image[1] = (before >> 32) as u32;
    let (since_reset, ahead) = image[2 * RUN..].split_at_mut(tracker.since_reset().len());
    since_reset.copy_from_slice(tracker.since_reset());
    ahead.copy_from_slice(tracker.ahead());
}

/// Refuses what would not fit into the device's memory.
pub(crate) fn check_fits(plan: &Plan, bytes: u128, device: &Device) -> Result<(), ExecutorError> {
    let available = device.memory_bytes;
    if bytes <= available {
        return Ok(());
    }
    let what = format!("network `{}` on the device `{}`", plan.forward.name(), device.name);
    Err(ExecutorError::Memory { what, bytes, available })
}
