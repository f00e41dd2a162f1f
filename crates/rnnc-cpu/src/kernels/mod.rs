//! The arithmetic: what runs inside the loops, in versions for each instruction set.
//!
//! | file | what |
//! | --- | --- |
//! | [`isa`] | which instructions the CPU has; one body of code, a version for each |
//! | `vecmath` | exp, tanh, sigmoid and the others, written so that the compiler vectorizes them |
//! | `vector` | registers of numbers, for the kernels that say which register holds what |
//! | [`elementwise`] | the operations of fused maps, over tiles that stay in the first-level cache |
//! | [`skinny`] | products for few rows, with packed weights: what a loop over frames runs |
//! | [`direct`] | the same with weights as they lie, for one or two rows |
//! | [`gemm`] | products over all frames |
//!
//! Kernels check nothing they could not check cheaply: each says what it asks of its arguments. None
//! allocates, except where [`gemm`] says so.

#[cfg(test)]
mod check;
pub mod direct;
pub mod elementwise;
pub mod gemm;
pub mod isa;
pub mod skinny;
mod vecmath;
mod vector;
