//! The gradients of the state before the frames of the last backward call, as an executor keeps them.

use super::CudaExecutor;
use super::before::{Before, Borders, GradientArray, Vector};
use super::loaded::Loaded;
use super::memory::{Memory, NUMBER};
use crate::driver::borders::To;
use crate::driver::{Address, Driver, DriverError};
use rnnc_plan::{ExecutionConfig, ExecutorError, Plan, Values};

/// What makes them, and device memory for them.
pub(super) struct StateGradients {
    before: Before,
    borders: Borders,
    /// What its program runs in, if it has one.
    memory: Option<Memory>,
    /// All vectors' gradients, one after another.
    gradients: Address,
    streams: usize,
}

impl StateGradients {
    /// For a plan with state gradients; `None` for others.
    pub fn new(
        driver: &mut dyn Driver,
        plan: &Plan,
        config: ExecutionConfig,
    ) -> Result<Option<StateGradients>, ExecutorError> {
        let Some(before) = Before::new(driver, plan, config)? else { return Ok(None) };
        let borders = Borders::new(driver)?;
        let mut made =
            StateGradients { memory: None, gradients: 0, streams: config.streams, before, borders };
        made.gradients = driver.allocate(made.bytes().max(1))?;
        let rows = 2 * made.before.depth() * config.streams;
        let taken = made.before.sizes().map(|sizes| Memory::allocate(driver, sizes, 0, rows));
        made.memory = taken.transpose()?;
        Ok(Some(made))
    }

    /// Bytes of all gradients.
    fn bytes(&self) -> usize {
        self.before.vectors.iter().map(|vector| self.numbers(vector)).sum::<usize>() * NUMBER as usize
    }

    fn numbers(&self, vector: &Vector) -> usize {
        vector.depth * self.streams * vector.len
    }

    /// Where each vector's gradient is, and of how many numbers.
    fn places(&self) -> impl Iterator<Item = (Vector, Address)> + '_ {
        let mut next = self.gradients;
        self.before.vectors.iter().map(move |vector| {
            let at = next;
            next += self.numbers(vector) as u64 * NUMBER;
            (*vector, at)
        })
    }

    /// A window of so many frames, that leaves a state of these gradients, begins: what it leaves of the frames before it is
    /// what it began with.
    pub fn begin(
        &self,
        driver: &mut dyn Driver,
        frames: usize,
        left: &[Option<Values<'_>>],
    ) -> Result<(), DriverError> {
        driver.clear(self.gradients, self.bytes())?;
        for ((vector, at), left) in self.places().zip(left) {
            let frame = self.streams * vector.len;
            let older = vector.depth.saturating_sub(frames) * frame;
            let to = at + (self.numbers(&vector) - older) as u64 * NUMBER;
            match left {
                Some(Values::F32(values)) => driver.write(to, bytemuck::cast_slice(&values[..older]))?,
                Some(Values::F64(values)) => {
                    let single: Vec<f32> = values[..older].iter().map(|&x| x as f32).collect();
                    driver.write(to, bytemuck::cast_slice(&single))?;
                }
                Some(Values::Symbols(_)) | None => {}
            }
        }
        Ok(())
    }

    /// Adds what comes back from the window's last `frames` frames.
    pub fn run(
        &self,
        driver: &mut dyn Driver,
        of: &Loaded,
        memory: &Memory,
        frames: usize,
    ) -> Result<(), DriverError> {
        let Some(own) = &self.memory else { return Ok(()) };
        let array = |(vector, at): (Vector, Address)| {
            let strides = [self.streams * vector.len, vector.len, 1].map(|stride| stride as i64);
            Some(GradientArray { at, strides, to_kind: To::AddF32 })
        };
        let to: Vec<_> = self.places().map(array).collect();
        self.before.run(driver, &self.borders, (of, memory), own, frames, &to)
    }

    /// Gives the memory back.
    pub fn free(&self, driver: &mut dyn Driver) {
        driver.free(self.gradients);
        if let Some(memory) = &self.memory {
            memory.free(driver);
        }
    }
}

impl CudaExecutor {
    /// A vector's gradient, single precision.
    pub(super) fn read_state_gradient(&self, vector: usize) -> Result<Vec<f32>, ExecutorError> {
        let Some(of) = &self.runner.before else { return Ok(Vec::new()) };
        let Some((vector, at)) = of.places().nth(vector) else { return Ok(Vec::new()) };
        let mut numbers = vec![0.0f32; of.numbers(&vector)];
        self.runner.check_fault()?;
        self.runner.driver.read(at, bytemuck::cast_slice_mut(&mut numbers))?;
        Ok(numbers)
    }
}
