//! Stacks of fibers, aligned to their size so that code finds the top of the one it stands on.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};

/// Bytes of a stack.
pub const STACK_BYTES: usize = 64 << 10;
/// Stacks that are allocated together.
const TOGETHER: usize = 32;
/// Stands at the lowest place of each; if it is gone, the stack was too small.
const MARK: u64 = 0x5bd1_e995_c0de_f00d;

/// Stacks, used again and again.
#[derive(Default)]
pub struct Stacks {
    chunks: Vec<*mut u8>,
    free: Vec<*mut u8>,
}

// SAFETY: it owns the memory that it points to.
unsafe impl Send for Stacks {}

impl Stacks {
    /// A stack: its lowest address.
    pub fn take(&mut self) -> *mut u8 {
        if let Some(stack) = self.free.pop() {
            return stack;
        }
        // SAFETY: the layout is not empty.
        let chunk = unsafe { alloc(layout()) };
        if chunk.is_null() {
            handle_alloc_error(layout());
        }
        self.chunks.push(chunk);
        for k in 0..TOGETHER {
            // SAFETY: the chunk has this many stacks.
            unsafe {
                let stack = chunk.add(k * STACK_BYTES);
                stack.cast::<u64>().write(MARK);
                self.free.push(stack);
            }
        }
        self.free.pop().expect("it was just filled")
    }

    /// Gives a stack back.
    pub fn give_back(&mut self, stack: *mut u8) {
        self.free.push(stack);
    }

    /// All stacks are free again, those too whose fibers never came to their end.
    pub fn reclaim(&mut self) {
        self.free.clear();
        for &chunk in &self.chunks {
            for k in 0..TOGETHER {
                // SAFETY: the chunk has this many stacks.
                unsafe {
                    let stack = chunk.add(k * STACK_BYTES);
                    stack.cast::<u64>().write(MARK);
                    self.free.push(stack);
                }
            }
        }
    }
}

/// Whether a stack was large enough so far.
pub fn is_sound(stack: *mut u8) -> bool {
    // SAFETY: it is the lowest address of a stack.
    unsafe { stack.cast::<u64>().read() == MARK }
}

impl Drop for Stacks {
    fn drop(&mut self) {
        for &chunk in &self.chunks {
            // SAFETY: it was allocated with this layout.
            unsafe { dealloc(chunk, layout()) };
        }
    }
}

fn layout() -> Layout {
    Layout::from_size_align(TOGETHER * STACK_BYTES, STACK_BYTES).expect("a constant that is right")
}
