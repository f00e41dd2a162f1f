//! The kernels of each kind of stage.
//!
//! | file | what |
//! | --- | --- |
//! | `frames.rs` | all frames at once: products, maps, look-ups |
//! | `vector.rs` | vector functions, there and in loops |
//! | `gradients.rs` | gradients of weights |
//! | `halves.rs` | operands of large products in bf16 |
//! | `once.rs` | what weights alone give, once a call |
//! | `update.rs` | the optimizer's step |
//! | `rows.rs` | what kernels over rows share |
//! | `scan.rs` | affine elementwise recurrences, in parallel over time |
//! | `step.rs` | loops: one persistent kernel for each component |

pub(crate) mod frames;
mod gradients;
mod halves;
pub(crate) mod once;
mod rows;
pub(crate) mod scan;
pub(crate) mod step;
pub(crate) mod update;
pub(crate) mod vector;
