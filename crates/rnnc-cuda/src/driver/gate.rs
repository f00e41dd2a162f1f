//! One at a time of what must not run at the same time on a device: passes with loops on the whole grid.
//!
//! The blocks of such a loop wait for each other, so all must be resident at once. A cooperative launch asks the device for that: it
//! starts all blocks or none. But nobody promises it of two at a time, so that the drivers of a process let theirs come one after the other: by
//! an event of the device, which costs the host about a microsecond and never waits there. What is captured into a caller's
//! graph cannot wait for it, and has the device's word alone.

#![allow(unsafe_code)] // calls into the driver

use super::DriverError;
use super::api::call;
use super::context::{Entered, OfThread};
use super::turn::{Turn, Turns};
use cudarc::driver::sys;
use std::collections::HashMap;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Of a device, shared by the drivers of a process.
pub(super) struct Gate {
    handle: sys::CUdevice,
    context: sys::CUcontext,
    /// Behind what last went through.
    event: sys::CUevent,
    /// The stream of that.
    last: AtomicUsize,
    /// Who waits for the event, and records it anew.
    turns: Arc<Turns>,
}

// SAFETY: the driver's handles may be used by any thread for which their context is current.
unsafe impl Send for Gate {}
// SAFETY: as above; the event is used by one thread at a time, who has the turn.
unsafe impl Sync for Gate {}

static GATES: Mutex<Option<HashMap<sys::CUdevice, Weak<Gate>>>> = Mutex::new(None);

impl Gate {
    /// That of a device, whose primary context is current.
    pub fn of(handle: sys::CUdevice) -> Result<Arc<Gate>, DriverError> {
        let mut gates = GATES.lock().unwrap_or_else(PoisonError::into_inner);
        let gates = gates.get_or_insert_with(HashMap::new);
        if let Some(gate) = gates.get(&handle).and_then(Weak::upgrade) {
            return Ok(gate);
        }
        let mut context = ptr::null_mut();
        call!(cuDevicePrimaryCtxRetain(&mut context, handle))?;
        // From here on, `drop` gives back what was taken, even after an error.
        let mut gate = Gate {
            handle,
            context,
            event: ptr::null_mut(),
            last: AtomicUsize::new(usize::MAX),
            turns: Arc::default(),
        };
        let untimed = sys::CUevent_flags_enum::CU_EVENT_DISABLE_TIMING as u32;
        call!(cuEventCreate(&mut gate.event, untimed))?;
        let gate = Arc::new(gate);
        gates.insert(handle, Arc::downgrade(&gate));
        Ok(gate)
    }

    /// What the stream is told from here on comes behind what went through before, and nothing goes through until `leave`.
    pub fn enter(&self, stream: sys::CUstream) -> Result<Turn, DriverError> {
        let turn = self.turns.take();
        // Behind its own it is anyway.
        if self.last.load(Ordering::Relaxed) != stream.addr() {
            call!(cuStreamWaitEvent(stream, self.event, 0))?;
        }
        Ok(turn)
    }

    /// What comes next does so behind all that the stream was told so far.
    pub fn leave(&self, stream: sys::CUstream, turn: Turn) -> Result<(), DriverError> {
        let recorded = call!(cuEventRecord(self.event, stream));
        self.last.store(if recorded.is_ok() { stream.addr() } else { usize::MAX }, Ordering::Relaxed);
        drop(turn);
        recorded
    }
}

impl Gate {
    /// A stream is about to go: another may get its handle.
    pub fn forget(&self, stream: sys::CUstream) {
        let (known, none) = (stream.addr(), usize::MAX);
        let _ = self.last.compare_exchange(known, none, Ordering::Relaxed, Ordering::Relaxed);
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        // Nothing can be done about failures.
        let _entered = Entered::new(OfThread, self.context);
        if !self.event.is_null() {
            let _ = call!(cuEventDestroy_v2(self.event));
        }
        let _ = call!(cuDevicePrimaryCtxRelease_v2(self.handle));
    }
}
