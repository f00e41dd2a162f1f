//! What a plan says of itself: for people (`text.rs`), for tools (`json.rs`), and as a picture of its network (`dot.rs` for Graphviz, `svg.rs`
//! by itself).
//!
//! `figures.rs` has the numbers, `names.rs` the words for what operations read and write; `picture.rs` chooses what is
//! drawn, `layout.rs` and `layered.rs` where.

mod dot;
mod figures;
mod json;
mod layered;
mod layout;
mod names;
mod picture;
mod svg;
mod text;

pub use dot::dot;
pub use figures::{ComponentFigures, Figures, StageFigures};
pub use json::{SCHEMA_VERSION, json};
pub use svg::{PictureError, svg};
pub use text::text;
