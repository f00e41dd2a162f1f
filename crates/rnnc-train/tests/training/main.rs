//! Training, end to end, with the reference executor.

mod runs;
mod support;
mod updates;
