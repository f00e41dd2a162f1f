//! Stacks of fibers, aligned to their size so that code finds the top of the one it stands on.
//!
//! They have no guards: `compiler.rs` bounds the frame of a function to a quarter of a stack, and generated functions do
//! not call each other deeply.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};

/// Bytes of a stack.
pub const STACK_BYTES: usize = 128 << 10;
/// Stacks that are allocated together.
const TOGETHER: usize = 32;

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
        self.free.extend(stacks(chunk));
        self.free.pop().expect("it was just filled")
    }

    /// Gives a stack back.
    pub fn give_back(&mut self, stack: *mut u8) {
        self.free.push(stack);
    }

    /// All stacks are free again, those too whose fibers never came to their end.
    pub fn reclaim(&mut self) {
        self.free.clear();
        self.free.extend(self.chunks.iter().flat_map(|&chunk| stacks(chunk)));
    }
}

/// The stacks of a chunk.
fn stacks(chunk: *mut u8) -> impl Iterator<Item = *mut u8> {
    // SAFETY: the chunk has this many stacks.
    (0..TOGETHER).map(move |k| unsafe { chunk.add(k * STACK_BYTES) })
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
