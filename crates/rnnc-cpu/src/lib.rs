//! Runs recurrent networks on the cores of a CPU.
//!
//! In comes a [`rnnc_plan::Plan`]; out comes an [`rnnc_plan::Executor`] that runs it in single precision, or a
//! [`Session`] that runs frame by frame.
//!
//! | file | what |
//! | --- | --- |
//! | `compiled.rs` | a plan made ready, which never changes |
//! | `workspace.rs` | the memory that passes compute in |
//! | `functional.rs` | calls that are functions of what they are given |
//! | `slots.rs` | things that any thread may take and put back, without a lock |
//! | `run.rs` | a run that goes on from window to window: forward, backward, state |
//! | `executor.rs`, `session.rs` | a run with an optimizer; frame by frame |
//! | `arrays.rs` | rows of the caller's arrays, whatever their strides |
//! | `schedule.rs` | how workers share a plan's work, and what runs when |
//! | `compile.rs` | from the plan's views and registers to places in memory and kernels |
//! | `foreseen.rs` | all of that, and the memory that it takes, before it is taken |
//! | `places.rs` | where views lie in memory |
//! | `units.rs` | which units of a layer a worker has |
//! | `program.rs` | a pass ready to run |
//! | `pass.rs` | running it: stage after stage, each worker its share |
//! | `explain.rs` | the schedule for people and tools |
//! | `machine.rs`, `bound.rs` | what this machine can do at most, and the time that passes take at least |
//! | `ops/` | what each operation does, for one worker's share |
//! | `memory.rs` | memory that the workers share |
//! | `owners.rs` | debug builds: which of them touched what since they synchronized |
//! | `flush.rs` | subnormal numbers are zero meanwhile |
//! | [`team`] | the workers and their barrier |
//! | [`kernels`] | the arithmetic, in versions for each instruction set |

mod arrays;
mod bound;
mod compile;
mod compiled;
mod executor;
mod explain;
mod flush;
mod foreseen;
mod functional;
pub mod kernels;
mod machine;
mod memory;
mod ops;
mod owners;
mod pass;
mod places;
mod program;
mod run;
mod schedule;
mod session;
mod slots;
pub mod team;
mod units;
mod workspace;

pub use bound::{Least, least};
pub use compiled::Compiled;
pub use executor::CpuExecutor;
pub use flush::FlushSubnormals;
pub use foreseen::Foreseen;
pub use machine::{Bandwidth, Machine};
pub use run::Run;
pub use schedule::{PassSchedule, Schedule, ScheduleOptions, Speeds, TimeBlock, WorkerGroup};
pub use session::{Session, SessionError, SessionOptions};
