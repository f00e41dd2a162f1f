//! Inputs of the next forward call, brought to the device while it works on what was asked before. They wait there in memory
//! of their own.

use super::CudaExecutor;
use super::memory::NUMBER;
use rnnc_plan::{ExecutionConfig, ExecutorError, Plan, Values, View};

/// Inputs begin at multiples of this many bytes.
const ALIGNMENT: usize = 256;

/// Where inputs wait, and whether they do.
pub(super) struct Prefetched {
    /// Of each input that is stored, by its place in the graph's list. `None`: one of them lies on the device between other
    /// columns, and none waits.
    inputs: Option<Vec<Waiting>>,
    /// Of all of them.
    bytes: usize,
    /// Frames that wait; 0: none.
    frames: usize,
}

struct Waiting {
    input: usize,
    /// Where it is stored.
    view: View,
    /// Its first byte in the memory where inputs wait.
    at: u64,
    /// Bytes of a frame.
    frame: usize,
}

impl Prefetched {
    /// Nothing waits yet.
    pub fn new(plan: &Plan, config: ExecutionConfig) -> Prefetched {
        let mut bytes = 0;
        let stored =
            plan.forward.inputs().iter().enumerate().filter_map(|(input, layer)| {
                plan.forward_pass.storage[layer.index()].map(|view| (input, view))
            });
        let inputs = stored.map(|(input, view)| {
            let (at, frame) = (bytes as u64, config.streams * view.len * NUMBER as usize);
            // As many frames as a call can have. Less than the buffer, which was found to fit.
            bytes += (config.step * frame).next_multiple_of(ALIGNMENT);
            (plan.buffers[view.buffer.0].width == view.len).then_some(Waiting { input, view, at, frame })
        });
        Prefetched { inputs: inputs.collect(), bytes, frames: 0 }
    }

    /// Nothing waits any more.
    pub fn drop_all(&mut self) {
        self.frames = 0;
    }
}

impl CudaExecutor {
    /// Starts to bring inputs, which were checked, in place of those that wait; whether it does. Numbers that must be converted
    /// are left to the forward call.
    pub(super) fn bring(&mut self, frames: usize, inputs: &[Values<'_>]) -> Result<bool, ExecutorError> {
        self.prefetched.drop_all();
        let (driver, memory) = (&mut self.runner.driver, &mut self.runner.memory.waiting);
        let Some(waiting) = &self.prefetched.inputs else { return Ok(false) };
        let bytes: Option<Vec<&[u8]>> = waiting.iter().map(|w| bytes_of(inputs[w.input])).collect();
        let Some(bytes) = bytes else { return Ok(false) };
        if *memory == 0 {
            *memory = driver.allocate(self.prefetched.bytes)?;
        }
        for (input, bytes) in waiting.iter().zip(bytes) {
            driver.write_beside(*memory + input.at, bytes)?;
        }
        // Not before: what was not started does not wait.
        self.prefetched.frames = frames;
        Ok(true)
    }

    /// How many frames wait.
    ///
    /// # Errors
    /// None do.
    pub(super) fn waiting(&self) -> Result<usize, ExecutorError> {
        match self.prefetched.frames {
            0 => Err(ExecutorError::NOTHING_AHEAD),
            frames => Ok(frames),
        }
    }

    /// Takes the inputs that wait, the last frames of the window, to where they belong.
    pub(super) fn take_waiting(&mut self, frames: usize) -> Result<(), ExecutorError> {
        let first = (self.config.window - frames) as i64;
        for input in self.prefetched.inputs.iter().flatten() {
            let (to, _) = self.rows_at(input.view, first);
            self.runner.driver.take(self.runner.memory.waiting + input.at, to, frames * input.frame)?;
        }
        Ok(())
    }
}

/// Values as they lie on the device; `None` if they do not lie so on the host.
fn bytes_of(values: Values<'_>) -> Option<&[u8]> {
    match values {
        Values::F32(v) => Some(bytemuck::cast_slice(v)),
        Values::Symbols(v) => Some(bytemuck::cast_slice(v)),
        Values::F64(_) => None,
    }
}
