//! Training, end to end, with the reference executor.

mod runs;
mod settings;
mod support;
mod updates;
