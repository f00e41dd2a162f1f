//! Inputs of the next forward call, brought to the device while it works on what was asked before. They wait there in memory
//! of their own.

use super::memory::NUMBER;
use crate::driver::{Address, Driver};
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

    /// Of each input that waits: where it belongs, where it is in the memory where inputs wait, and the bytes of a frame.
    pub fn inputs(&self) -> impl Iterator<Item = (View, u64, usize)> {
        self.inputs.iter().flatten().map(|input| (input.view, input.at, input.frame))
    }

    /// Nothing waits any more.
    pub fn drop_all(&mut self) {
        self.frames = 0;
    }

    /// Starts to bring inputs, which were checked, in place of those that wait; whether it does. Numbers that must be converted
    /// are left to the forward call. `memory` is where they wait; 0 until it is taken.
    pub fn bring(
        &mut self,
        driver: &mut dyn Driver,
        memory: &mut Address,
        frames: usize,
        inputs: &[Values<'_>],
    ) -> Result<bool, ExecutorError> {
        self.drop_all();
        let Some(waiting) = &self.inputs else { return Ok(false) };
        let bytes: Option<Vec<&[u8]>> = waiting.iter().map(|w| bytes_of(inputs[w.input])).collect();
        let Some(bytes) = bytes else { return Ok(false) };
        if *memory == 0 {
            *memory = driver.allocate(self.bytes)?;
        }
        for (input, bytes) in waiting.iter().zip(bytes) {
            driver.write_beside(*memory + input.at, bytes)?;
        }
        // Not before: what was not started does not wait.
        self.frames = frames;
        Ok(true)
    }

    /// How many frames wait.
    ///
    /// # Errors
    /// None do.
    pub fn frames(&self) -> Result<usize, ExecutorError> {
        match self.frames {
            0 => Err(ExecutorError::NOTHING_AHEAD),
            frames => Ok(frames),
        }
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
