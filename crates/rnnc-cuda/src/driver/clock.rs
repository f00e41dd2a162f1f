//! Moments on the device's clock, and on the host's for drivers that have no other.

#![allow(unsafe_code)] // calls into the driver

use super::api::{self, call};
use super::{DriverError, Timestamp};
use cudarc::driver::sys;
use std::ptr;
use std::time::Instant;

/// The GPU's timestamps: one event each.
#[derive(Default)]
pub(super) struct Events {
    events: Vec<sys::CUevent>,
}

impl Events {
    /// A context must be current, here and below.
    pub fn add(&mut self) -> Result<Timestamp, DriverError> {
        api::can_time()?;
        let mut event = ptr::null_mut();
        call!(cuEventCreate(&mut event, sys::CUevent_flags_enum::CU_EVENT_DEFAULT as u32))?;
        self.events.push(event);
        Ok(Timestamp(self.events.len() - 1))
    }

    /// Takes it behind all that the stream was told before; in a recording, anew in each replay.
    pub fn stamp(&self, at: Timestamp, stream: sys::CUstream, recording: bool) -> Result<(), DriverError> {
        // In a recording, a plain event would only order its commands.
        let flags = match recording {
            true => sys::CUevent_record_flags_enum::CU_EVENT_RECORD_EXTERNAL,
            false => sys::CUevent_record_flags_enum::CU_EVENT_RECORD_DEFAULT,
        };
        call!(cuEventRecordWithFlags(self.event(at)?, stream, flags as u32))
    }

    pub fn elapsed_us(&self, from: Timestamp, to: Timestamp) -> Result<f64, DriverError> {
        let (from, to) = (self.event(from)?, self.event(to)?);
        let mut ms = 0f32;
        call!(cuEventSynchronize(from))?;
        call!(cuEventSynchronize(to))?;
        call!(cuEventElapsedTime_v2(&mut ms, from, to))?;
        Ok(f64::from(ms) * 1e3)
    }

    fn event(&self, at: Timestamp) -> Result<sys::CUevent, DriverError> {
        self.events.get(at.0).copied().ok_or_else(|| unknown(at))
    }
}

impl Drop for Events {
    /// The context must be current, and its streams at rest.
    fn drop(&mut self) {
        for &event in &self.events {
            // Nothing can be done about failures.
            let _ = call!(cuEventDestroy_v2(event));
        }
    }
}

/// Timestamps by the host's clock, for drivers that run each command before they return.
#[derive(Clone, Debug, Default)]
pub struct HostClock {
    taken: Vec<Option<Instant>>,
}

impl HostClock {
    /// See [`super::Driver::timestamp`].
    pub fn add(&mut self) -> Timestamp {
        self.taken.push(None);
        Timestamp(self.taken.len() - 1)
    }

    /// See [`super::Driver::stamp`].
    pub fn stamp(&mut self, at: Timestamp) -> Result<(), DriverError> {
        *self.taken.get_mut(at.0).ok_or_else(|| unknown(at))? = Some(Instant::now());
        Ok(())
    }

    /// See [`super::Driver::elapsed_us`].
    pub fn elapsed_us(&self, from: Timestamp, to: Timestamp) -> Result<f64, DriverError> {
        let at = |at: Timestamp| self.taken.get(at.0).copied().flatten().ok_or_else(|| unknown(at));
        Ok(at(to)?.saturating_duration_since(at(from)?).as_secs_f64() * 1e6)
    }
}

fn unknown(at: Timestamp) -> DriverError {
    DriverError::Call { call: "elapsed_us", what: format!("timestamp {} was not taken", at.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_must_be_taken_before_it_is_read() {
        let mut clock = HostClock::default();
        let (from, to) = (clock.add(), clock.add());
        clock.stamp(from).unwrap();
        assert!(clock.elapsed_us(from, to).is_err());
        clock.stamp(to).unwrap();
        assert!(clock.elapsed_us(from, to).unwrap() >= 0.0);
        assert!(clock.stamp(Timestamp(2)).is_err());
    }
}
