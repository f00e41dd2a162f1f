//! Bringing numbers to the core's cache before they are needed.

#![allow(unsafe_code)] // an instruction of the CPU

/// Begins to bring so many numbers. Where nothing lies there, nothing happens.
#[inline]
pub fn bring(from: *const f32, len: usize) {
    #[cfg(target_arch = "x86_64")]
    for line in (0..len).step_by(16) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: every x86-64 CPU has the instruction, and it may be given any address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(from.wrapping_add(line).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (from, len);
}
