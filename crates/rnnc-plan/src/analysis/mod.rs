//! What follows from a plan, and what executors may make of it.
//!
//! - What runs when: `access.rs` says what jobs touch, `overlaps.rs` finds what touches the same, and `pipelines.rs` finds loops that
//!   can run at the same time.
//! - Scans: `recurrence.rs` says what a unit does in each frame, `affine.rs` what that makes of its state, `chunks.rs` how workers
//!   can share frames out.
//! - Rewriting, for executors that ask for it: `sink.rs` moves into loops what is computed for them alone, `heads.rs` parts loops
//!   whose heads are independent.
//! - Memory: `memory.rs` finds lifetimes and places buffers, by `first_fit.rs`.
//! - Numbers: `work.rs` counts what a window cannot do without, `figures.rs` has what reports print.
//! - `verify.rs` checks that a plan stays within its memory.

pub mod access;
pub mod affine;
mod chunks;
mod figures;
mod first_fit;
mod heads;
pub(crate) mod memory;
pub(crate) mod overlaps;
pub mod pipelines;
pub mod recurrence;
mod sink;
mod verify;
mod work;

pub use chunks::Chunks;
pub use figures::{ComponentFigures, Figures, StageFigures};
pub use memory::{Memory, Placement, Residency};
pub use overlaps::{Overlaps, Views};
pub use work::StageWork;
