//! How long passes, and the commands in them, take on the device.

use crate::driver::{Driver, DriverError, Timestamp};

/// What is timed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Timing {
    /// Nothing.
    #[default]
    Off,
    /// Each pass, as it runs without timing.
    Passes,
    /// Each command of a pass. A timestamp between two commands takes time itself (about a microsecond), and keeps the
    /// second from beginning before the first has ended.
    Commands,
}

/// How long something took.
#[derive(Clone, Debug, PartialEq)]
pub struct Timed {
    /// What it was: of a command, its stage (by the number that an explanation gives it) and what it does there.
    pub what: String,
    /// Microseconds.
    pub us: f64,
}

/// How long the last calls took on the device: from the moment at which all that they are handed is there, until their
/// last command has ended. In the order of commands.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Times {
    /// The forward call. Frames of earlier calls that are moved on count with it.
    pub forward: Vec<Timed>,
    /// The backward call, if one followed.
    pub backward: Vec<Timed>,
    /// The update, if one followed.
    pub update: Vec<Timed>,
}

impl Times {
    /// Microseconds of all that is in a list.
    pub fn total_us(timed: &[Timed]) -> f64 {
        timed.iter().map(|t| t.us).sum()
    }
}

/// Between two timestamps.
#[derive(Clone, Debug)]
pub(crate) struct Span {
    pub what: String,
    pub from: Timestamp,
    pub to: Timestamp,
}

/// Marks the ends of commands, where that is asked for.
pub(crate) struct Marks {
    last: Option<Timestamp>,
    pub spans: Vec<Span>,
}

impl Marks {
    pub fn begin(driver: &mut dyn Driver, on: bool) -> Result<Marks, DriverError> {
        let last = if on { Some(mark(driver)?) } else { None };
        Ok(Marks { last, spans: Vec::new() })
    }

    /// What began at the last mark ends here.
    pub fn end(&mut self, driver: &mut dyn Driver, what: impl FnOnce() -> String) -> Result<(), DriverError> {
        if let Some(from) = self.last {
            let to = mark(driver)?;
            self.spans.push(Span { what: what(), from, to });
            self.last = Some(to);
        }
        Ok(())
    }
}

fn mark(driver: &mut dyn Driver) -> Result<Timestamp, DriverError> {
    let timestamp = driver.timestamp()?;
    driver.stamp(timestamp)?;
    Ok(timestamp)
}
