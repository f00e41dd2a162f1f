//! The caller's context stays the caller's: ours is current within a call alone, and what was current before is so again when the
//! call returns, whatever became of it.

#![allow(unsafe_code)] // calls into the driver

use super::DriverError;
use super::api::call;
use cudarc::driver::sys;
use std::ptr;

/// Knows the current context of a thread.
pub(super) trait Contexts {
    type Context: Copy + PartialEq;

    fn current(&self) -> Result<Self::Context, DriverError>;

    fn set_current(&self, context: Self::Context) -> Result<(), DriverError>;
}

/// The driver's.
pub(super) struct OfThread;

impl Contexts for OfThread {
    type Context = sys::CUcontext;

    fn current(&self) -> Result<sys::CUcontext, DriverError> {
        let mut context = ptr::null_mut();
        call!(cuCtxGetCurrent(&mut context))?;
        Ok(context)
    }

    fn set_current(&self, context: sys::CUcontext) -> Result<(), DriverError> {
        call!(cuCtxSetCurrent(context))
    }
}

/// A context is current until this is dropped.
#[must_use]
pub(super) struct Entered<C: Contexts = OfThread> {
    contexts: C,
    /// What was current before, if that was another.
    before: Option<C::Context>,
}

impl<C: Contexts> Entered<C> {
    pub fn new(contexts: C, context: C::Context) -> Result<Entered<C>, DriverError> {
        let before = contexts.current()?;
        if before == context {
            return Ok(Entered { contexts, before: None });
        }
        contexts.set_current(context)?;
        Ok(Entered { contexts, before: Some(before) })
    }
}

impl<C: Contexts> Drop for Entered<C> {
    fn drop(&mut self) {
        if let Some(before) = self.before {
            // Nothing can be done about a failure: the caller may have destroyed it.
            let _ = self.contexts.set_current(before);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    struct Fake<'a>(&'a Cell<u32>, bool);

    impl Contexts for Fake<'_> {
        type Context = u32;

        fn current(&self) -> Result<u32, DriverError> {
            Ok(self.0.get())
        }

        fn set_current(&self, context: u32) -> Result<(), DriverError> {
            if self.1 {
                return Err(DriverError::Call { call: "cuCtxSetCurrent", what: "no".into() });
            }
            self.0.set(context);
            Ok(())
        }
    }

    #[test]
    fn what_was_current_before_is_current_again_also_behind_an_error() {
        let current = Cell::new(7);
        let call = |fails: bool| {
            let _entered = Entered::new(Fake(&current, false), 1)?;
            assert_eq!(current.get(), 1);
            // Calls within calls.
            let again = Entered::new(Fake(&current, false), 1)?;
            drop(again);
            assert_eq!(current.get(), 1);
            if fails {
                return Err(DriverError::Call { call: "cuLaunchKernelEx", what: "no".into() });
            }
            Ok(())
        };
        assert!(call(true).is_err());
        assert_eq!(current.get(), 7);
        call(false).unwrap();
        assert_eq!(current.get(), 7);
        // None was current.
        current.set(0);
        call(false).unwrap();
        assert_eq!(current.get(), 0);
        assert!(Entered::new(Fake(&current, true), 1).is_err());
    }
}
