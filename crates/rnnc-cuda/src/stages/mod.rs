//! The kernels of each kind of stage.
//!
//! | file | what |
//! | --- | --- |
//! | `frames.rs` | all frames at once: products, maps, look-ups |
//! | `vector.rs` | vector functions, there and in loops |
//! | `gradients.rs` | gradients of weights, and the optimizer's step |
//! | `rows.rs` | what kernels over rows share |
//! | `scan.rs` | affine elementwise recurrences, in parallel over time |
//! | `step.rs` | loops: one persistent kernel for each component |

pub(crate) mod frames;
pub(crate) mod gradients;
mod rows;
pub(crate) mod scan;
pub(crate) mod step;
pub(crate) mod vector;
