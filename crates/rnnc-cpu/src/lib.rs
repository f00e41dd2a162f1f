//! Runs recurrent networks on the cores of a CPU.
//!
//! In comes a [`rnnc_plan::Plan`]; out comes an [`rnnc_plan::Executor`] that runs it in single precision, or a
//! [`Session`] that runs frame by frame.
//!
//! | file | what |
//! | --- | --- |
//! | `executor.rs`, `session.rs` | memory for a plan, and the calls that run it |
//! | `compile.rs` | from the plan's views and registers to places in memory and kernels |
//! | `program.rs` | a pass ready to run |
//! | `pass.rs` | running it: stage after stage, each worker its share |
//! | `machine.rs` | what this machine can do at most |
//! | `ops/` | what each operation does, for one worker's share |
//! | `memory.rs` | memory that the workers share |
//! | `owners.rs` | debug builds: which of them touched what since they synchronized |
//! | `flush.rs` | subnormal numbers are zero meanwhile |
//! | [`team`] | the workers and their barrier |
//! | [`kernels`] | the arithmetic, in versions for each instruction set |

mod compile;
mod executor;
mod flush;
pub mod kernels;
mod machine;
mod memory;
mod ops;
mod owners;
mod pass;
mod program;
mod session;
pub mod team;

pub use executor::CpuExecutor;
pub use flush::FlushSubnormals;
pub use machine::{Bandwidth, Machine};
pub use session::{Session, SessionError};
