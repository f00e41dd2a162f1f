//! What a plan says of itself, for people (`text.rs`).
//!
//! `figures.rs` has the numbers, `names.rs` the words for what operations read and write.

mod figures;
mod names;
mod text;

pub use figures::{ComponentFigures, Figures, StageFigures};
pub use text::text;
