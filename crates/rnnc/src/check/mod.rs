//! Whether a network's numbers are right: gradients against differences, and executors against the reference.

pub mod agreement;
pub mod differences;
mod stopped;

/// What a check found.
#[derive(Clone, Debug)]
pub struct Finding {
    /// The array.
    pub array: String,
    /// How far off it is at most, relative to what it is compared with.
    pub error: f64,
    /// What differs by more than is allowed.
    pub problem: Option<String>,
}
