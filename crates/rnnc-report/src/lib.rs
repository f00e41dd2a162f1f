//! What a plan says of itself: for people in short (`summary.rs`) and in full (`text.rs`), for tools (`json.rs`), and as a
//! picture of its network (`dot.rs` for Graphviz, `svg.rs` by itself).
//!
//! What an executor adds to it, how it runs the plan, comes as [`Notes`].
//!
//! `rnnc_plan::Figures` has the numbers, `names.rs` the words for what operations read and write, `equations.rs` and
//! `expressions.rs` those of the text; `picture.rs` chooses what is drawn, `layout.rs` and `layered.rs` where.
//!
#![cfg_attr(feature = "svg", doc = "```")]
#![cfg_attr(not(feature = "svg"), doc = "```ignore")]
//! use rnnc_graph::{Activation, Connect, Graph, Init};
//! use rnnc_plan::{Plan, PlanOptions};
//! let mut graph = Graph::new("elman");
//! let x = graph.input("x", 3);
//! let h = graph.sum("h", 8, Activation::Tanh);
//! let w = graph.weight("h.W.x", &[8, 3], Init::Uniform(0.3));
//! let u = graph.weight("h.W.h[t-1]", &[8, 8], Init::Uniform(0.3));
//! graph.connect(x, h, Connect::full(w));
//! graph.connect(h, h, Connect::full(u).delay(1));
//! graph.output("h", h);
//!
//! let plan = Plan::new(&graph, PlanOptions::inference(1, 100)).unwrap();
//! assert!(rnnc_report::summary(&plan, None).contains("`h` is computed frame after frame"));
//! assert!(rnnc_report::text(&plan, None).contains("`h` reaches itself through tanh"));
//! assert_eq!(rnnc_report::json(&plan, None)["passes"][0]["stages"][1]["kind"], "loop");
//! assert!(rnnc_report::svg(&plan).unwrap().contains("h[t-1]"));
//! assert!(rnnc_report::dot(&plan).contains("style=dashed"));
//! ```

mod dot;
mod equations;
mod expressions;
mod json;
#[cfg(feature = "svg")]
mod layered;
#[cfg(feature = "svg")]
mod layout;
mod names;
mod notes;
mod page;
mod picture;
mod summary;
#[cfg(feature = "svg")]
mod svg;
mod text;

pub use dot::dot;
pub use json::{SCHEMA_VERSION, json};
pub use names::{Names, count, scaled, trimmed};
pub use notes::{Notes, PassNotes, StageNotes};
pub use summary::{Brief, summary};
#[cfg(feature = "svg")]
pub use svg::{PictureError, svg};
pub use text::text;
