//! The device memory of an executor: its regions, and what the host lays into them.

use super::runner::Move;
use crate::device::Device;
use crate::driver::{Address, Args, Driver};
use crate::places::Places;
use crate::program::{Program, Region};
use rnnc_plan::{Clock, ExecutorError, Part, Plan, Setup};

/// Bytes of a number.
pub(super) const NUMBER: u64 = 4;

/// Numbers of 8 bytes before the clock's ages: `run` of the prelude.
const RUN: usize = 16;

/// The place in `run` of the first number of an update: `RUN_UPDATE` of the prelude.
const RUN_UPDATE: u64 = 2;

/// Where everything is.
pub(super) struct Memory {
    pub values: Address,
    weights: Address,
    gradients: Address,
    moments: [Address; 2],
    pub scratch: Address,
    /// The numbers of a run, ages, frames ahead: written as one.
    pub clock: Address,
    pub counters: Address,
    /// Of each buffer.
    pub buffers: Vec<BufferPlace>,
    /// Rows of a window.
    rows: u64,
}

/// Where a buffer lies in `values`.
#[derive(Clone, Copy, Debug)]
pub(super) struct BufferPlace {
    /// Its first number, of the oldest frame of its history.
    pub offset: usize,
    /// Numbers of a frame, all streams.
    pub frame: usize,
    /// Frames before the window's first.
    pub history: usize,
}

impl BufferPlace {
    pub fn all(plan: &Plan, setup: Setup) -> Vec<BufferPlace> {
        let places = Places::new(plan, setup);
        let of = |(number, buffer): (usize, &rnnc_plan::Buffer)| {
            let (offset, frame) = places.buffer(number);
            BufferPlace { offset, frame, history: buffer.history }
        };
        plan.buffers.iter().enumerate().map(of).collect()
    }
}

impl Memory {
    /// Takes all of it, as zeros.
    pub fn allocate(
        driver: &mut dyn Driver,
        plan: &Plan,
        setup: Setup,
        program: &Program,
        moves: &[Move],
    ) -> Result<Memory, ExecutorError> {
        let regions = &program.regions;
        let rows = setup.window * setup.streams;
        let trained = if regions.trained { regions.weights } else { 0 };
        let moved = moves.iter().map(|m| m.most_overlapping(setup)).max().unwrap_or(0);
        // The norm of an update stands in the first two numbers.
        let scratch = regions.scratch.max(moved).max(2);
        let clock = 2 * RUN + 2 * rows;
        let sizes = [regions.values, regions.weights, 3 * trained, scratch, clock, regions.counters];
        let total = sizes.iter().map(|&numbers| numbers as u128 * u128::from(NUMBER)).sum();
        check_fits(plan, total, driver.device())?;
        let mut take = |numbers: usize| match numbers {
            0 => Ok(0),
            _ => driver.allocate(numbers * NUMBER as usize),
        };
        Ok(Memory {
            values: take(regions.values)?,
            weights: take(regions.weights)?,
            gradients: take(trained)?,
            moments: [take(trained)?, take(trained)?],
            scratch: take(scratch)?,
            clock: take(clock)?,
            counters: take(regions.counters)?,
            buffers: BufferPlace::all(plan, setup),
            rows: rows as u64,
        })
    }

    /// Gives all of it back.
    pub fn free(&self, driver: &mut dyn Driver) {
        let [m1, m2] = self.moments;
        let all =
            [self.values, self.weights, self.gradients, m1, m2, self.scratch, self.clock, self.counters];
        all.into_iter().filter(|&address| address != 0).for_each(|address| driver.free(address));
    }

    pub fn region(&self, region: Region) -> Address {
        match region {
            Region::Values => self.values,
            Region::Weights => self.weights,
            Region::Gradients => self.gradients,
            Region::Scratch => self.scratch,
            Region::Counters => self.counters,
        }
    }

    pub fn part(&self, part: Part) -> Address {
        match part {
            Part::Weight => self.weights,
            Part::Gradient => self.gradients,
            Part::Moment1 => self.moments[0],
            Part::Moment2 => self.moments[1],
        }
    }

    /// Where the numbers of an update go.
    pub fn update_numbers(&self) -> Address {
        self.clock + RUN_UPDATE * 8
    }

    /// What kernels are given that run frames `first .. end`.
    pub fn args(&self, first: usize, end: usize) -> Args {
        let ages = self.clock + RUN as u64 * 8;
        Args {
            values: self.values,
            weights: self.weights,
            gradients: self.gradients,
            moments1: self.moments[0],
            moments2: self.moments[1],
            scratch: self.scratch,
            ages,
            ahead: ages + self.rows * NUMBER,
            run: self.clock,
            counters: self.counters,
            // Windows that fit into memory have less frames.
            first: first as i32,
            end: end as i32,
        }
    }
}

/// The clock as it lies on the device.
pub(super) fn clock_image(clock: &Clock, setup: Setup) -> Vec<u32> {
    let mut image = vec![0; 2 * RUN + 2 * clock.ages().len()];
    image[2] = setup.seed as u32;
    image[3] = (setup.seed >> 32) as u32;
    update_clock_image(&mut image, clock);
    image
}

/// The same again, after the clock has moved on.
pub(super) fn update_clock_image(image: &mut [u32], clock: &Clock) {
    let before = clock.before() as u64;
    image[0] = before as u32;
    image[1] = (before >> 32) as u32;
    let (ages, ahead) = image[2 * RUN..].split_at_mut(clock.ages().len());
    ages.copy_from_slice(clock.ages());
    ahead.copy_from_slice(clock.ahead());
}

/// Refuses what would not fit into the device's memory.
pub(super) fn check_fits(plan: &Plan, bytes: u128, device: &Device) -> Result<(), ExecutorError> {
    let available = device.memory_bytes;
    if bytes <= available {
        return Ok(());
    }
    let what = format!("network `{}` on the device `{}`", plan.forward.name(), device.name);
    Err(ExecutorError::Memory { what, bytes, available })
}
