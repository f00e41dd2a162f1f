//! Runs recurrent networks on NVIDIA GPUs, with kernels generated for them.
//!
//! In comes a [`rnnc_plan::Plan`]; out comes an [`rnnc_plan::Executor`] that runs it in single precision. Everything
//! of CUDA is loaded when it is first asked for: programs that link this crate start on machines without a GPU.
//!
//! | file | what |
//! | --- | --- |
//! | `executor.rs` | the executor: device memory for a program, and the calls that run it |
//! | `functional.rs` | calls on device memory of the caller's, as a pure function |
//! | `explain.rs` | how a plan would run on a device, with none at hand |
//! | `speeds.rs`, `bound.rs` | how fast a device is found to be, and the least that a pass could take there |
//! | `device.rs` | what a GPU is, as far as programs are made for it |
//! | `compile.rs`, `builder.rs` | from a plan to a program; `program.rs` is the result: sources and commands |
//! | `lanes.rs` | which jobs run side by side |
//! | `pipelines.rs` | which loops run at the same time, in chunks of frames |
//! | `heads.rs` | which loops run as several, of some heads each |
//! | `stages/` | the kernels of each kind of stage |
//! | `places.rs`, `source/` | where values are; printing CUDA C++ |
//! | `driver/` | the thin layer below: memory, modules, launches |

mod bound;
mod builder;
pub mod compile;
pub mod device;
pub mod driver;
mod executor;
pub mod explain;
mod functional;
mod heads;
mod lanes;
mod pipelines;
mod places;
pub mod program;
pub mod source;
mod speeds;
mod stages;

pub use bound::Least;
pub use executor::{CudaExecutor, Timed, Times, Timing};
pub use functional::CudaFunctional;
pub use speeds::{Copying, Speeds};
