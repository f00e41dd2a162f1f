//! Writes beside the commands under way: a stream for copies alone, and what drivers without streams have in its place.

#![allow(unsafe_code)] // calls into the driver

use super::api::call;
use super::staging::Staging;
use super::{Address, DriverError};
use cudarc::driver::sys;
use std::collections::BTreeMap;
use std::ptr;

/// A stream for copies to the device, and what it and the main stream wait for of each other.
pub(super) struct Beside {
    stream: sys::CUstream,
    /// Its own: that of the main stream awaits that stream's copies.
    staging: Option<Staging>,
    /// Behind the last copy.
    written: sys::CUevent,
    /// Behind what the main stream was told to do last with the memory that is written.
    free: sys::CUevent,
}

impl Beside {
    /// Copies come behind all that the main stream was told before: it may still clear their memory. A context must be
    /// current, here and below.
    pub fn new(main: sys::CUstream) -> Result<Beside, DriverError> {
        // From here on, `drop` gives back what was taken, even after an error.
        let mut beside = Beside {
            stream: ptr::null_mut(),
            staging: None,
            written: ptr::null_mut(),
            free: ptr::null_mut(),
        };
        let untimed = sys::CUevent_flags_enum::CU_EVENT_DISABLE_TIMING as u32;
        call!(cuStreamCreate(&mut beside.stream, sys::CUstream_flags_enum::CU_STREAM_NON_BLOCKING as u32))?;
        call!(cuEventCreate(&mut beside.written, untimed))?;
        call!(cuEventCreate(&mut beside.free, untimed))?;
        beside.staging = Some(Staging::new()?);
        beside.release(main)?;
        Ok(beside)
    }

    /// Starts a copy to the device.
    pub fn write(&mut self, to: Address, data: &[u8]) -> Result<(), DriverError> {
        call!(cuStreamWaitEvent(self.stream, self.free, 0))?;
        let staged = match &mut self.staging {
            Some(staging) => staging.write(to, data, self.stream),
            // There from the start to the end.
            None => Ok(()),
        };
        // Whatever was started must be awaited.
        let recorded = call!(cuEventRecord(self.written, self.stream));
        staged.and(recorded)
    }

    /// Has the main stream wait for all copies so far.
    pub fn await_written(&self, main: sys::CUstream) -> Result<(), DriverError> {
        call!(cuStreamWaitEvent(main, self.written, 0))
    }

    /// Copies from here on come behind all that the main stream was told so far.
    pub fn release(&self, main: sys::CUstream) -> Result<(), DriverError> {
        call!(cuEventRecord(self.free, main))
    }

    /// Waits for all copies.
    pub fn synchronize(&self) -> Result<(), DriverError> {
        call!(cuStreamSynchronize(self.stream))
    }
}

impl Drop for Beside {
    /// The context must be current.
    fn drop(&mut self) {
        // Nothing can be done about failures.
        if !self.stream.is_null() {
            let _ = call!(cuStreamSynchronize(self.stream));
        }
        self.staging = None;
        for event in [self.written, self.free] {
            if !event.is_null() {
                let _ = call!(cuEventDestroy_v2(event));
            }
        }
        if !self.stream.is_null() {
            let _ = call!(cuStreamDestroy_v2(self.stream));
        }
    }
}

/// For drivers that run each command before they return: what was written beside and must be seen by no command but
/// [`Driver::take`](super::Driver::take) is kept apart from the memory where it belongs.
#[derive(Clone, Debug, Default)]
pub struct Apart {
    /// By the address of the first byte.
    written: BTreeMap<Address, Vec<u8>>,
}

impl Apart {
    /// See [`super::Driver::write_beside`]. What overlaps with it is forgotten.
    pub fn write(&mut self, to: Address, data: &[u8]) {
        self.forget(to, data.len());
        self.written.insert(to, data.to_vec());
    }

    /// What a range was last written as.
    ///
    /// # Errors
    /// It was not, or not all of it by one call.
    pub fn read(&self, from: Address, bytes: usize) -> Result<&[u8], DriverError> {
        let found = self.written.range(..=from).next_back().and_then(|(&first, data)| {
            let data = data.get(usize::try_from(from - first).ok()?..)?;
            data.get(..bytes)
        });
        found.ok_or_else(|| DriverError::Call {
            call: "take",
            what: format!("{bytes} bytes at {from:#x}, which were not written beside"),
        })
    }

    /// Forgets whatever overlaps with a range: the memory is given back.
    pub fn forget(&mut self, at: Address, bytes: usize) {
        let end = at.saturating_add(bytes as u64);
        self.written.retain(|&first, data| first >= end || first + data.len() as u64 <= at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_apart_is_what_was_written_last() {
        let mut apart = Apart::default();
        assert!(apart.read(100, 1).is_err());
        apart.write(100, &[1, 2, 3, 4]);
        apart.write(200, &[5]);
        assert_eq!(apart.read(101, 3).unwrap(), [2, 3, 4]);
        assert!(apart.read(101, 4).is_err() && apart.read(99, 2).is_err() && apart.read(104, 1).is_err());
        apart.write(103, &[6, 7]);
        assert_eq!(apart.read(103, 2).unwrap(), [6, 7]);
        assert!(apart.read(100, 4).is_err(), "its last byte is another");
        apart.forget(150, 51);
        assert!(apart.read(200, 1).is_err());
    }
}
