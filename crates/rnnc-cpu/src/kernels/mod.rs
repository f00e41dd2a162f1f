//! The arithmetic: what runs inside the loops, in versions for each instruction set.
//!
//! | file | what |
//! | --- | --- |
//! | [`isa`] | which instructions the CPU has; one body of code, a version for each |
//! | `vecmath` | exp, tanh, sigmoid and the others, written so that the compiler vectorizes them |
//! | [`elementwise`] | the operations of fused maps, over tiles that stay in the first-level cache |
//! | [`skinny`] | products for few rows: what a loop over frames runs |
//! | [`gemm`] | products over all frames |
//!
//! Kernels check nothing they could not check cheaply: each says what it asks of its arguments. None allocates,
//! except where [`gemm`] says so.

pub mod elementwise;
pub mod gemm;
pub mod isa;
pub mod skinny;
mod vecmath;
