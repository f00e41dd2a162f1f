//! Training, end to end, with the reference executor.

mod best;
mod losses;
mod runs;
mod settings;
mod support;
mod updates;
