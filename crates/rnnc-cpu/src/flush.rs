//! Subnormal numbers are zero while the executor computes.
//!
//! A CPU takes some hundred cycles for an operation on a subnormal number, and values that decay (errors going back through
//! many frames, states of quiet inputs) stay subnormal for long: rounding keeps them from reaching zero. So that speed
//! does not depend on values, the CPU is told to take subnormal operands for zero, and to give zero for subnormal results:
//! on the threads of a [`Team`](crate::team::Team) for good, on the caller's thread during a call.
//!
//! Copies are not arithmetic: they keep all bits (symbols are stored as the bits of a number).
//!
//! The compiler takes it for granted that nobody changes that register. It may move arithmetic past the change, or do arithmetic
//! on constants itself, so that now and then a subnormal number is one where it should be zero, or the other way round. That is
//! all it can do: no code here asks whether a number is subnormal, and no address or length depends on one.

#![allow(unsafe_code)] // the control register of floating-point arithmetic

use std::marker::PhantomData;

/// While it lives, subnormal numbers are zero on this thread; then the thread is as it was. They may be nested.
#[derive(Debug)]
pub struct FlushSubnormals {
    /// The control register as it was.
    before: control::Word,
    /// The register is this thread's.
    stays: PhantomData<*const ()>,
}

impl FlushSubnormals {
    /// From now on, on this thread.
    #[inline]
    #[must_use = "it lasts as long as this"]
    pub fn begin() -> FlushSubnormals {
        let before = control::read();
        // Reading the register is cheaper than writing it.
        if before & control::FLUSH != control::FLUSH {
            control::write(before | control::FLUSH);
        }
        FlushSubnormals { before, stays: PhantomData }
    }
}

impl Drop for FlushSubnormals {
    #[inline]
    fn drop(&mut self) {
        if self.before & control::FLUSH != control::FLUSH {
            control::write(self.before);
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod control {
    use std::arch::asm;

    pub(super) type Word = u32;

    /// Flush to zero, and denormals are zero.
    pub(super) const FLUSH: Word = 1 << 15 | 1 << 6;

    pub(super) fn read() -> Word {
        let mut word: Word = 0;
        // SAFETY: stores the register MXCSR, 4 bytes, there.
        unsafe { asm!("stmxcsr [{}]", in(reg) &raw mut word, options(nostack, preserves_flags)) };
        word
    }

    pub(super) fn write(word: Word) {
        // SAFETY: what was read from the register, but for bits that every such CPU has. They change how subnormal numbers
        // are taken, and nothing else (see above). Memory is not left out of what it touches, so that loads and stores of
        // numbers stay on their side of it.
        unsafe { asm!("ldmxcsr [{}]", in(reg) &raw const word, options(nostack, preserves_flags)) };
    }
}

#[cfg(target_arch = "aarch64")]
mod control {
    use std::arch::asm;

    pub(super) type Word = u64;

    /// Flush to zero: operands and results.
    pub(super) const FLUSH: Word = 1 << 24;

    pub(super) fn read() -> Word {
        let word: Word;
        // SAFETY: reads a register.
        unsafe { asm!("mrs {}, fpcr", out(reg) word, options(nostack, preserves_flags)) };
        word
    }

    pub(super) fn write(word: Word) {
        // SAFETY: what was read from the register, but for a bit that every such CPU has. It changes how subnormal numbers
        // are taken, and nothing else (see above). Memory is not left out of what it touches, so that loads and stores of
        // numbers stay on their side of it.
        unsafe { asm!("msr fpcr, {}", in(reg) word, options(nostack, preserves_flags)) };
    }
}

/// Elsewhere speed depends on values.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
mod control {
    pub(super) type Word = u32;

    pub(super) const FLUSH: Word = 0;

    pub(super) fn read() -> Word {
        0
    }

    pub(super) fn write(_: Word) {}
}

#[cfg(all(test, not(loom), any(target_arch = "x86_64", target_arch = "aarch64")))]
mod tests {
    use super::*;
    use std::hint::black_box;
    use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

    /// A subnormal result of normal operands, and a normal result of a subnormal operand.
    fn found() -> [f32; 2] {
        let quotient = black_box(f32::MIN_POSITIVE) / black_box(4.0);
        let product = black_box(f32::from_bits(1 << 20)) * black_box(1e9);
        [quotient, product]
    }

    #[test]
    fn subnormal_operands_and_results_are_zero_while_it_lives_and_numbers_again_after() {
        let as_numbers = found();
        assert!(as_numbers.iter().all(|&number| number > 0.0));
        {
            let _outer = FlushSubnormals::begin();
            assert_eq!(found(), [0.0; 2]);
            drop(FlushSubnormals::begin());
            assert_eq!(found(), [0.0; 2], "the end of an inner one is not the end");
        }
        assert_eq!(found(), as_numbers);
    }

    #[test]
    fn a_panic_ends_it_too() {
        let as_numbers = found();
        let panic = catch_unwind(AssertUnwindSafe(|| {
            let _flush = FlushSubnormals::begin();
            resume_unwind(Box::new(()));
        }));
        assert!(panic.is_err());
        assert_eq!(found(), as_numbers);
    }

    #[test]
    fn infinity_and_nan_pass_through() {
        let _flush = FlushSubnormals::begin();
        assert_eq!(black_box(f32::MAX) * black_box(2.0), f32::INFINITY);
        assert!((black_box(f32::INFINITY) * black_box(0.0)).is_nan());
    }
}
