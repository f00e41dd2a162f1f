//! The arithmetic: what runs inside the loops, in versions for each instruction set.
//!
//! | file | what |
//! | --- | --- |
//! | [`isa`] | which instructions the CPU has; one body of code, a version for each |
//! | `vecmath` | exp, tanh, sigmoid and the others, written so that the compiler vectorizes them |
//! | `vector` | registers of numbers, for the kernels that say which register holds what |
//! | [`elementwise`] | the operations of fused maps, over tiles that stay in the first-level cache |
//! | [`functions`] | the functions of layers over such tiles, compiled of `rnnc_graph`'s rules for `lane`s |
//! | [`rows`] | softmax, normalization and their like, over whole rows |
//! | [`ahead`] | bringing numbers to the cache before they are needed |
//! | [`recurrence`] | the states of a scan |
//! | [`numbers`] | how packed weights are kept: in single precision, or in half the bytes |
//! | [`pack`] | weights in the order in which products read them |
//! | [`panel`] | the packed order itself |
//! | [`skinny`] | products of rows with packed weights: a loop's few rows, and some at a time of all frames |
//! | [`direct`] | the same with weights as they lie, for one or two rows |
//! | [`outer`] | gradients of weights: sums of outer products over all frames |
//! | [`matrix_block`] | how workers share such a gradient |
//! | [`optimizer`] | an optimizer's step |
//!
//! Kernels check nothing they could not check cheaply: each says what it asks of its arguments. None
//! allocates.

pub mod ahead;
#[cfg(test)]
mod check;
pub mod direct;
pub mod elementwise;
pub mod functions;
pub mod isa;
mod lane;
pub mod matrix_block;
pub mod numbers;
pub mod optimizer;
pub mod outer;
pub mod pack;
pub mod panel;
pub mod recurrence;
pub mod rows;
pub mod skinny;
mod vecmath;
mod vector;
