//! Inputs of the next forward call, brought to the device while it works on what was asked before.
//!
//! They wait in memory of their own, and their bytes are kept on the host too. A forward call takes those that are, byte for
//! byte, what it is given, and copies all others: whatever was announced, it runs with its own inputs.

use super::CudaExecutor;
use super::memory::NUMBER;
use rnnc_plan::{ExecutorError, Plan, Setup, Values, View};

/// Inputs begin at multiples of this many bytes.
const ALIGNMENT: usize = 256;

/// The inputs that can wait, and those that do.
pub(super) struct Prefetched {
    /// Of each input of the graph. One that lies on the device between other columns never waits.
    inputs: Vec<Option<Waiting>>,
    /// Of all of them.
    bytes: usize,
}

struct Waiting {
    /// Where it is stored.
    view: View,
    /// Its first byte in the memory where inputs wait.
    at: u64,
    /// What it is; none: it does not wait.
    bytes: Vec<u8>,
}

impl Prefetched {
    /// Nothing waits yet.
    pub fn new(plan: &Plan, setup: Setup) -> Prefetched {
        let mut bytes = 0;
        let inputs = plan.forward.inputs().iter().map(|input| {
            let view = plan.forward_pass.storage[input.index()]?;
            if plan.buffers[view.buffer.0].width != view.len {
                return None;
            }
            let at = bytes as u64;
            // As many frames as a call can have. Less than the buffer, which was found to fit.
            let most = setup.step * setup.streams * view.len * NUMBER as usize;
            bytes += most.next_multiple_of(ALIGNMENT);
            Some(Waiting { view, at, bytes: Vec::new() })
        });
        Prefetched { inputs: inputs.collect(), bytes }
    }

    /// Nothing waits any more.
    pub fn drop_all(&mut self) {
        self.inputs.iter_mut().flatten().for_each(|input| input.bytes.clear());
    }
}

impl CudaExecutor {
    /// Starts to bring inputs, which were checked, in place of those that wait. Numbers that must be converted are left to
    /// the forward call.
    pub(super) fn bring(&mut self, inputs: &[Values<'_>]) -> Result<(), ExecutorError> {
        self.prefetched.drop_all();
        let (driver, waiting) = (&mut self.runner.driver, &mut self.runner.memory.waiting);
        for (input, values) in self.prefetched.inputs.iter_mut().zip(inputs) {
            let (Some(input), Some(bytes)) = (input, bytes_of(*values)) else { continue };
            if *waiting == 0 {
                *waiting = driver.allocate(self.prefetched.bytes)?;
            }
            driver.write_beside(*waiting + input.at, bytes)?;
            // Not before: what was not started does not wait.
            input.bytes.extend_from_slice(bytes);
        }
        Ok(())
    }

    /// Takes an input of a forward call, whose first frame has that place in the window, if it waits; whether it did.
    pub(super) fn take(
        &mut self,
        input: usize,
        first: i64,
        values: Values<'_>,
    ) -> Result<bool, ExecutorError> {
        let Some(input) = &self.prefetched.inputs[input] else { return Ok(false) };
        if input.bytes.is_empty() || bytes_of(values) != Some(&*input.bytes) {
            return Ok(false);
        }
        let (from, (to, _)) = (self.runner.memory.waiting + input.at, self.rows_at(input.view, first));
        self.runner.driver.take(from, to, input.bytes.len())?;
        Ok(true)
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
