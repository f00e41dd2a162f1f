//! Whether a network's numbers are right: gradients against differences, and executors against the reference.

pub mod agreement;
pub mod differences;
mod progress;
mod stopped;

pub use progress::Progress;

/// What a check found.
#[derive(Clone, Debug)]
pub struct Finding {
    /// The array.
    pub array: String,
    /// How far off it is at most, relative to what it is compared with.
    pub error: f64,
    /// What differs by more than is allowed.
    pub problem: Option<String>,
    /// Why nothing can be said of it, or of some of it.
    pub unchecked: Option<String>,
}

impl Finding {
    fn of(array: impl Into<String>) -> Finding {
        Finding { array: array.into(), error: 0.0, problem: None, unchecked: None }
    }
}
