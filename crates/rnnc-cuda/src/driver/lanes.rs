//! The lanes of recordings: streams beside the main one, which wait for each other by events.

#![allow(unsafe_code)] // calls into the driver

use super::api::call;
use super::{Address, DriverError, Point};
use cudarc::driver::sys;
use std::ptr;

/// Lanes from 1 on; lane 0 is the main stream. A recording begins and ends there: the others join it when they are first
/// selected.
#[derive(Default)]
pub(super) struct Lanes {
    lanes: Vec<Lane>,
    selected: usize,
    /// Events, those of the present recording first: its beginning, then its points.
    events: Vec<sys::CUevent>,
    points: usize,
}

struct Lane {
    stream: sys::CUstream,
    /// Device memory for its products.
    workspace: Address,
    /// Whether it is part of the present recording.
    joined: bool,
}

impl Lanes {
    /// How many there are, with the main stream.
    pub fn count(&self) -> usize {
        self.lanes.len() + 1
    }

    /// Adds a lane. A context must be current, here and below.
    pub fn add(&mut self, workspace: Address) -> Result<(), DriverError> {
        let mut stream = ptr::null_mut();
        call!(cuStreamCreate(&mut stream, sys::CUstream_flags_enum::CU_STREAM_NON_BLOCKING as u32))?;
        self.lanes.push(Lane { stream, workspace, joined: false });
        Ok(())
    }

    /// The selected lane's stream and workspace; `None`: those of the main stream.
    pub fn selected(&self) -> Option<(sys::CUstream, Address)> {
        let lane = self.lanes.get(self.selected.checked_sub(1)?)?;
        Some((lane.stream, lane.workspace))
    }

    /// Begins a recording, which the main stream has begun.
    pub fn begin(&mut self, main: sys::CUstream) -> Result<(), DriverError> {
        self.forget();
        self.record(main).map(|_| ())
    }

    pub fn select(&mut self, lane: usize, after: &[Point], main: sys::CUstream) -> Result<(), DriverError> {
        if lane >= self.count() || after.iter().any(|point| point.0 >= self.points) {
            let what = format!("there is no lane {lane}, or not all of {after:?}");
            return Err(DriverError::Call { call: "cuStreamWaitEvent", what });
        }
        self.selected = lane;
        let (stream, _) = self.selected().unwrap_or((main, 0));
        if let Some(lane) = lane.checked_sub(1).map(|at| &mut self.lanes[at])
            && !lane.joined
        {
            call!(cuStreamWaitEvent(stream, self.events[0], 0))?;
            lane.joined = true;
        }
        for point in after {
            call!(cuStreamWaitEvent(stream, self.events[point.0], 0))?;
        }
        Ok(())
    }

    /// A point behind all that the selected lane was told so far.
    pub fn point(&mut self, main: sys::CUstream) -> Result<Point, DriverError> {
        let (stream, _) = self.selected().unwrap_or((main, 0));
        self.record(stream)
    }

    /// Lets the main stream wait for all lanes of the recording.
    pub fn join(&mut self, main: sys::CUstream) -> Result<(), DriverError> {
        for at in 0..self.lanes.len() {
            if self.lanes[at].joined {
                let point = self.record(self.lanes[at].stream)?;
                call!(cuStreamWaitEvent(main, self.events[point.0], 0))?;
            }
        }
        self.forget();
        Ok(())
    }

    /// Ends a recording, whatever became of it.
    pub fn forget(&mut self) {
        self.lanes.iter_mut().for_each(|lane| lane.joined = false);
        (self.selected, self.points) = (0, 0);
    }

    fn record(&mut self, stream: sys::CUstream) -> Result<Point, DriverError> {
        if self.points == self.events.len() {
            let mut event = ptr::null_mut();
            call!(cuEventCreate(&mut event, sys::CUevent_flags_enum::CU_EVENT_DISABLE_TIMING as u32))?;
            self.events.push(event);
        }
        call!(cuEventRecord(self.events[self.points], stream))?;
        self.points += 1;
        Ok(Point(self.points - 1))
    }
}

impl Drop for Lanes {
    /// The context must be current, and its streams at rest.
    fn drop(&mut self) {
        // Nothing can be done about failures.
        for lane in &self.lanes {
            let _ = call!(cuStreamDestroy_v2(lane.stream));
        }
        for &event in &self.events {
            let _ = call!(cuEventDestroy_v2(event));
        }
    }
}
