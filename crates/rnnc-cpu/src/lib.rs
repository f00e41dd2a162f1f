//! Runs recurrent networks on the cores of a CPU.
//!
//! | file | what |
//! | --- | --- |
//! | [`kernels`] | the arithmetic, in versions for each instruction set |

pub mod kernels;
pub mod team;
