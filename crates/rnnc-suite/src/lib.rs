//! The suite that every executor answers to.
//!
//! In comes a way to make an executor; out comes a verdict: whether it computes what
//! [`rnnc_reference::ReferenceExecutor`] does. The parts:
//! - `networks.rs`: networks with every kind of layer and connection, built with `net.rs`;
//! - `cells.rs`: the language's cell library, as networks;
//! - `random.rs`: networks drawn at random, for property tests;
//! - `case.rs`: a network with a number of streams, windows and resets;
//! - `check.rs`: runs a case on both executors and compares, with the parts of `rnnc-verify`; `refusals.rs` hands them what
//!   they must refuse; `updates.rs` says what updates of every optimizer do, and `optimizers.json` what PyTorch's do;
//!   `state_gradients.rs` compares gradients of the state, and [`functional`] calls as pure functions;
//! - `extremes.rs`: functions over all numbers, and cells with inputs and biases of any size; `norms.rs`:
//!   normalizations of numbers of any size;
//! - `altered.rs`: the reference with something wrong, to show that the suite sees it.

mod altered;
mod case;
mod cells;
mod check;
mod extremes;
pub mod functional;
mod net;
mod networks;
mod norms;
mod random;
mod refusals;
mod state_gradients;
mod updates;

pub use altered::{Alteration, Altered};
pub use case::{Case, cases};
pub use cells::cell_networks;
pub use check::{check, check_last_bits, is_well_conditioned};
pub use extremes::{check_cells, check_functions};
pub use net::Net;
pub use networks::{Build, Network, activation_networks, networks, operation_networks};
pub use norms::check_norms;
pub use random::{Smooth, random_case, random_graph};
pub use refusals::check_refusals;
pub use rnnc_verify::Make;
pub use state_gradients::check_state_gradients;
pub use updates::check_updates;
