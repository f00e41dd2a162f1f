//! What a plan says of itself: for people (`text.rs`), for tools (`json.rs`), and as a picture of its network
//! (`dot.rs` for Graphviz, `svg.rs` by itself).
//!
//! `figures.rs` has the numbers, `names.rs` the words for what operations read and write; `picture.rs` chooses what is
//! drawn, `layout.rs` and `layered.rs` where.
//!
//! ```
//! use rnnc_graph::{Activation, Connect, Graph, Init};
//! use rnnc_plan::{Plan, PlanOptions, report};
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
//! assert!(report::text(&plan).contains("`h` reaches itself through tanh"));
//! assert_eq!(report::json(&plan)["passes"][0]["stages"][1]["kind"], "loop");
//! assert!(report::svg(&plan).unwrap().contains("h[t-1]"));
//! assert!(report::dot(&plan).contains("style=dashed"));
//! ```

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
pub use names::{Names, count, passes, scaled};
pub use svg::{PictureError, svg};
pub use text::text;
