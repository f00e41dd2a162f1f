//! Recurrent networks as graphs.
//!
//! In comes what a builder says: layers, connections with delays, weights ([`Graph`]; `parts.rs`). Out come
//! - a verdict: [`validate`] (`validate.rs`: sizes, ranges, names);
//! - its strongly connected components, each with its kind, direction, width and the reason for each:
//!   [`Components`] (`components.rs`; `cycles.rs` finds them and orders their frames, `scan.rs` looks for affine
//!   recurrences, `obstacles.rs` says what stands in the way of them, `width.rs` looks for frames that can run at once,
//!   `barriers.rs` bounds synchronizations, `slices.rs` says by which units layers are shared out);
//! - the network that carries the errors back: [`Adjoint`] (`adjoint.rs`, after `normalize.rs` and before
//!   `simplify.rs`, `gather.rs` and `recompute.rs`; `state_adjoint.rs` for the state before a window). In both, `copies.rs`
//!   lets reads of copies read what is copied, and between them `constants.rs` takes out what depends on parameters alone.
//!
//! `activations/` has the elementwise functions and `ops/` the operations on operands in a fixed order, one file each with all
//! that is known of them but kernels; `init.rs` has the initial weights, `hash.rs` numbers that stand for names, `single.rs` which
//! numbers single precision can hold; `nearest.rs` says which name was meant, `count.rs` how many there are.

mod activations;
mod adjoint;
mod barriers;
mod components;
mod constants;
mod copies;
mod count;
mod cycles;
mod error;
mod gather;
mod graph;
mod hash;
mod init;
mod nearest;
mod normalize;
mod obstacles;
pub mod ops;
mod parts;
mod recompute;
mod scan;
mod simplify;
mod single;
mod slices;
mod state_adjoint;
mod validate;
mod width;

pub use activations::{Activation, DerivativeReads, Formula, Function, Number, Visitor};
pub use adjoint::{Adjoint, AdjointOptions};
pub use components::{Component, Components, Direction, Kind};
pub use constants::{Constants, split_constants};
pub use count::count;
pub use error::GraphError;
pub use graph::{Connect, Graph};
pub use hash::{TextHash, name_key};
pub use init::Init;
pub use nearest::nearest;
pub use normalize::normalize;
pub use obstacles::{Obstacle, ObstacleKind};
pub use ops::Operation;
pub use parts::{
    Accumulation, AccumulationKind, Connection, ConnectionId, ConnectionKind, Layer, LayerId, LayerKind,
    Origin, Output, Range, Start, Submatrix, Weight, WeightId, initial_values,
};
pub use scan::ScanForm;
pub use slices::Slices;
pub use state_adjoint::{StateAdjoint, StateVector, state_vectors};
pub use validate::validate;
pub use width::Width;
