//! What executors share: the trait that they implement, and what all of them need.
//!
//! `executor.rs` has the trait, `config.rs`, `values.rs` and `errors.rs` what goes in and comes out; `checks.rs` refuses wrong
//! arguments; `tracker.rs` says which reads cross a reset; `state.rs` has what a run carries from window to window; `dropout.rs`
//! draws masks; `array.rs` has the caller's arrays, `ports.rs` calls as pure functions of them, which `port_checks.rs` checks and `tape.rs` marks,
//! and `replayed.rs` makes such a function of any executor; `available.rs` asks for memory; `update.rs` is one step of an optimizer (`../optimizers/`).

mod array;
mod available;
mod checks;
mod config;
pub mod dropout;
mod errors;
mod executor;
mod port_checks;
mod ports;
mod replayed;
mod state;
mod tape;
mod tracker;
mod update;
mod values;

pub use array::{Array, ArrayElement, ArrayError, ArrayMut, Element, MOST_DIMENSIONS};
pub use available::check_available;
pub use checks::{check_len, check_range, check_resets};
pub use config::{ExecutionConfig, Precision};
pub use errors::ExecutorError;
pub use executor::Executor;
pub use ports::{Backward, Forward, Functional, Port, PortKind, Ports, StatePort, WeightPort};
pub use replayed::Replayed;
pub use state::{History, Kept, State};
pub use tape::TapeHeader;
pub use tracker::ResetTracker;
pub use update::Update;
pub use values::{NO_SYMBOL, ParameterArray, Values, ValuesMut};
