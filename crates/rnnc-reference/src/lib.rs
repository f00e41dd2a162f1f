//! What a network means: the reference executor.
//!
//! In comes a [`rnnc_plan::Plan`], of which only the two graphs are read, the network and its adjoint; out comes
//! [`ReferenceExecutor`]. It computes in double precision, on the caller's thread, one layer in one frame at a
//! time, and trusts no analysis: a value is computed once those that it reads are known. It allocates as it goes.
//! Read it in this order:
//! - `window.rs`: frames, steps since reset, and which reads cross a reset;
//! - `network.rs`: what a read gives, and the value of one layer in one frame (those of activations and operations are
//!   `rnnc-graph`'s);
//! - `rounding.rs`: the random errors that its numbers may get, to find what roundings do;
//! - `order.rs`: all layers in all frames, each after what it reads;
//! - `gradients.rs`: the gradients of the weights, from the errors that the adjoint network computed;
//! - `before.rs`: the gradients of the state before a window; `non_finite.rs`: where numbers stop being finite;
//! - `update.rs`: one step of an optimizer;
//! - `executor.rs`: all of it behind the [`rnnc_plan::Executor`] trait, `borders.rs` what passes in and out.
//!
//! `rnnc-verify` checks its gradients by finite differences.

mod before;
mod borders;
mod executor;
mod gradients;
mod network;
mod non_finite;
mod order;
mod rounding;
mod update;
mod window;

pub use executor::ReferenceExecutor;
pub use non_finite::{NonFinite, NonFiniteDerivative};
