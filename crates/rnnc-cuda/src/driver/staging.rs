//! Host memory from which the device copies by itself, so that a write returns before its copy ran.

#![allow(unsafe_code)] // memory that the device reads

use super::api::call;
use super::{Address, DriverError};
use cudarc::driver::sys;
use std::ptr;

/// Bytes of a segment.
const SEGMENT: usize = 4 << 20;
/// Segments: so many bytes can be under way.
const SEGMENTS: usize = 4;

/// Segments of page-locked memory, filled one after the other, round and round. All its copies must go through
/// one stream.
pub(super) struct Staging {
    segments: Vec<Segment>,
    present: usize,
}

struct Segment {
    memory: *mut u8,
    used: usize,
    /// Comes when all copies from the segment are done.
    copied: sys::CUevent,
    /// Whether it is still to come.
    awaited: bool,
}

impl Staging {
    /// A context must be current, here and below.
    pub fn new() -> Result<Staging, DriverError> {
        let mut staging = Staging { segments: Vec::new(), present: 0 };
        for _ in 0..SEGMENTS {
            staging.segments.push(Segment {
                memory: ptr::null_mut(),
                used: 0,
                copied: ptr::null_mut(),
                awaited: false,
            });
            let segment = &mut staging.segments[staging.present];
            let mut memory = ptr::null_mut();
            call!(cuMemHostAlloc(&mut memory, SEGMENT, 0))?;
            segment.memory = memory.cast();
            let untimed = sys::CUevent_flags_enum::CU_EVENT_DISABLE_TIMING as u32;
            call!(cuEventCreate(&mut segment.copied, untimed))?;
            staging.present = (staging.present + 1) % SEGMENTS;
        }
        Ok(staging)
    }

    /// Starts a copy to the device, behind all that the stream was told before.
    pub fn write(&mut self, to: Address, data: &[u8], stream: sys::CUstream) -> Result<(), DriverError> {
        let (mut to, mut left) = (to, data);
        while !left.is_empty() {
            let segment = &mut self.segments[self.present];
            let (part, rest) = left.split_at(left.len().min(SEGMENT - segment.used));
            // SAFETY: `used` is within the segment and the part fits behind it; no copy reads there, since those of
            // the last round were awaited.
            let from = unsafe {
                let from = segment.memory.add(segment.used);
                ptr::copy_nonoverlapping(part.as_ptr(), from, part.len());
                from
            };
            call!(cuMemcpyHtoDAsync_v2(to, from.cast(), part.len(), stream))?;
            // The next begins on a line of its own.
            segment.used = (segment.used + part.len()).next_multiple_of(64);
            if segment.used >= SEGMENT {
                self.next(stream)?;
            }
            (to, left) = (to + part.len() as u64, rest);
        }
        Ok(())
    }

    /// Goes on to the next segment, and waits until the device is done with it.
    fn next(&mut self, stream: sys::CUstream) -> Result<(), DriverError> {
        let segment = &mut self.segments[self.present];
        call!(cuEventRecord(segment.copied, stream))?;
        segment.awaited = true;
        self.present = (self.present + 1) % self.segments.len();
        let segment = &mut self.segments[self.present];
        if segment.awaited {
            call!(cuEventSynchronize(segment.copied))?;
            segment.awaited = false;
        }
        segment.used = 0;
        Ok(())
    }
}

impl Drop for Staging {
    /// The context must be current, and its streams at rest.
    fn drop(&mut self) {
        // Nothing can be done about failures.
        for segment in &self.segments {
            if !segment.copied.is_null() {
                let _ = call!(cuEventDestroy_v2(segment.copied));
            }
            if !segment.memory.is_null() {
                let _ = call!(cuMemFreeHost(segment.memory.cast()));
            }
        }
    }
}
