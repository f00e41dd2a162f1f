//! The thin layer between a program and whatever runs it: device memory, modules, launches. [`Cuda`] is a real device;
//! tests put a recorder, or the host's own processor, in its place.
//!
//! | file | what |
//! | --- | --- |
//! | `cuda.rs`, `staging.rs` | a GPU by NVIDIA's driver; writes that return before their copies ran |
//! | `api.rs`, `facts.rs` | calling that driver, if it is there; what it knows of the GPU |
//! | `borders.rs` | copies between arrays of any strides; the clock of resets |
//! | `beside.rs` | writes beside the commands under way |
//! | `clock.rs` | moments between commands |
//! | `context.rs` | the caller's context is current again behind each call |
//! | `gate.rs`, `turn.rs` | what comes one at a time on a device, and in a process |
//! | `lanes.rs` | streams that run side by side |
//! | `nvrtc.rs`, `cache.rs` | compiling sources; keeping on disk what was compiled |
//! | `cublas.rs` | products of matrices |
//! | `libraries.rs` | finding these libraries when they are first needed |
//! | `recorder.rs` | for tests: records calls, runs no kernel |

mod api;
mod beside;
pub mod borders;
mod cache;
mod clock;
mod context;
mod cublas;
mod cuda;
mod facts;
mod gate;
mod lanes;
mod libraries;
mod nvrtc;
mod recorder;
mod staging;
mod turn;

pub use beside::Apart;
pub use cache::{Cache, Key};
pub use clock::HostClock;
pub use cuda::Cuda;
pub use libraries::search_cuda_libraries_in;
pub use nvrtc::{Compiled, Nvrtc, Output, Usage};
pub use recorder::{Call, Recorder};

use crate::device::Device;
use borders::Border;
use thiserror::Error;

/// An address of device memory, in bytes. 0 is none.
pub type Address = u64;

/// A kernel of a loaded module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KernelId(pub usize);

/// A recorded sequence of commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GraphId(pub usize);

/// A stream of a caller's, by its handle in NVIDIA's driver (`CUstream`, `cudaStream_t`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StreamHandle(usize);

impl StreamHandle {
    /// The default stream of the device's primary context.
    pub const DEFAULT: StreamHandle = StreamHandle(0);

    /// A stream of the device's primary context, which is the one of CUDA's runtime.
    ///
    /// # Safety
    /// It lives as long as anything that is handed it.
    #[allow(unsafe_code)] // whoever makes one promises that
    pub unsafe fn from_raw(handle: usize) -> StreamHandle {
        StreamHandle(handle)
    }

    fn raw(self) -> cudarc::driver::sys::CUstream {
        std::ptr::with_exposed_provenance_mut(self.0)
    }
}

/// A capture of commands into a graph of a caller's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Capture(pub u64);

/// A place in a stream, behind all that it was told before; other streams can wait for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Mark(pub usize);

/// A word of the host's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Flag(pub usize);

/// A moment between commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Timestamp(pub usize);

/// A point in a recording: behind all that a lane was told before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Point(pub usize);

/// CUDA C++ to be compiled: stands alone, with the prelude in it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Source {
    /// What it is, for messages.
    pub name: String,
    /// The text.
    pub text: String,
    /// The names of its kernels, all of them `extern "C"`.
    pub kernels: Vec<String>,
}

/// How many threads a launch has, and what they share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Blocks of the grid.
    pub blocks: usize,
    /// Threads of a block.
    pub threads: usize,
    /// Dynamic shared memory of a block, in bytes.
    pub shared_bytes: usize,
    /// Blocks of a cluster; 1: no clusters.
    pub cluster: usize,
    /// Whether all blocks must be resident at once, since they wait for each other.
    pub cooperative: bool,
}

/// What every kernel is given; `struct Args` of the prelude.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)] // the prelude explains each
pub struct Args {
    pub values: Address,
    pub weights: Address,
    pub gradients: Address,
    pub slots: Address,
    pub scratch: Address,
    pub since_reset: Address,
    pub ahead: Address,
    pub run: Address,
    pub counters: Address,
    pub first: i32,
    pub end: i32,
    pub begin: i32,
}

/// A product of matrices in device memory, all row-major with `row` numbers from a row to the next:
/// `c[m, n] (+)= a[m, k] b[k, n]`, where an operand marked transposed lies as its transpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Product {
    /// Rows of the result.
    pub m: usize,
    /// Columns of the result.
    pub n: usize,
    /// Columns of a, rows of b.
    pub k: usize,
    /// The left operand.
    pub a: Operand,
    /// The right operand.
    pub b: Operand,
    /// The result.
    pub c: Operand,
    /// Whether both operands lie in bf16.
    pub halves: bool,
    /// Add to what is there.
    pub accumulate: bool,
}

/// A matrix in device memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operand {
    /// Of its first number.
    pub address: Address,
    /// Numbers from a row, as it lies, to the next.
    pub row: usize,
    /// Whether it lies transposed.
    pub transposed: bool,
}

/// What a driver could not do.
#[derive(Debug, Error, Clone, PartialEq)]
#[non_exhaustive]
pub enum DriverError {
    /// There is no device, or no driver or library for it.
    #[error("{0}")]
    Missing(String),
    /// A kernel that does not compile: a mistake of ours.
    #[error("`{name}` does not compile for {target}:\n{log}")]
    Compile {
        /// Of the source.
        name: String,
        /// The architecture.
        target: String,
        /// What the compiler said.
        log: String,
    },
    /// A call that failed.
    #[error("{call} failed: {what}")]
    Call {
        /// The driver's function.
        call: &'static str,
        /// Its error.
        what: String,
    },
    /// More memory than is free.
    #[error("the GPU has {free} bytes free, and {wanted} more are needed")]
    Memory {
        /// Asked for.
        wanted: usize,
        /// There.
        free: usize,
    },
    /// A loop's sums have no room, however few of the streams a block has.
    #[error(
        "{name} needs {wanted} bytes of shared memory for no more than {streams} of the streams at a time, and a block has {free}: use fewer units"
    )]
    Shared {
        /// The loop.
        name: String,
        /// Streams that a block has at a time.
        streams: usize,
        /// Bytes that are needed.
        wanted: usize,
        /// Bytes that there are.
        free: usize,
    },
    /// More than fits.
    #[error("{what} do not fit on the device at once: {fit} of {wanted} blocks of {name} would be resident")]
    Resident {
        /// Blocks or clusters.
        what: &'static str,
        /// The kernel.
        name: String,
        /// How many are needed.
        wanted: usize,
        /// How many fit.
        fit: usize,
    },
}

/// Runs commands in the order in which they are given, but for `write_beside`. Only `read`, `synchronize`, `elapsed_us` and `occupancy` wait.
pub trait Driver: Send {
    /// What it drives.
    fn device(&self) -> &Device;

    /// Takes device memory; its contents are zeros.
    fn allocate(&mut self, bytes: usize) -> Result<Address, DriverError>;

    /// Gives it back.
    fn free(&mut self, address: Address);

    /// Copies to the device. The data may be reused when the call returns.
    fn write(&mut self, to: Address, data: &[u8]) -> Result<(), DriverError>;

    /// Copies to the device beside the commands under way, into memory that [`take`](Driver::take) alone reads: a `take`
    /// that was asked for before still finds there what was there before. The data may be reused when the call returns.
    fn write_beside(&mut self, to: Address, data: &[u8]) -> Result<(), DriverError>;

    /// Copies within the device what [`write_beside`](Driver::write_beside) wrote, in the order of all other commands, and
    /// once it is there. The two do not overlap.
    fn take(&mut self, from: Address, to: Address, bytes: usize) -> Result<(), DriverError>;

    /// Copies from the device, after all commands before.
    fn read(&self, from: Address, into: &mut [u8]) -> Result<(), DriverError>;

    /// Copies within the device; the two do not overlap.
    fn copy(&mut self, from: Address, to: Address, bytes: usize) -> Result<(), DriverError>;

    /// Zeros.
    fn clear(&mut self, at: Address, bytes: usize) -> Result<(), DriverError>;

    /// Compiles (or finds compiled) a source and loads it: its kernels, in their order.
    fn load(&mut self, source: &Source) -> Result<Vec<KernelId>, DriverError>;

    /// How many blocks of a kernel can be resident at once (a multiple of the cluster).
    fn occupancy(&self, kernel: KernelId, geometry: &Geometry) -> Result<usize, DriverError>;

    /// Starts a kernel.
    fn launch(&mut self, kernel: KernelId, geometry: &Geometry, args: &Args) -> Result<(), DriverError>;

    /// Starts one of the kernels of [`borders::source`].
    fn launch_border(
        &mut self,
        kernel: KernelId,
        geometry: &Geometry,
        border: &Border,
    ) -> Result<(), DriverError>;

    /// Starts a product of matrices, in single precision.
    fn product(&mut self, product: &Product) -> Result<(), DriverError>;

    /// A timestamp, not taken yet.
    fn timestamp(&mut self) -> Result<Timestamp, DriverError>;

    /// Takes a timestamp: the moment at which all commands before are done. (Again: the later one counts.)
    fn stamp(&mut self, at: Timestamp) -> Result<(), DriverError>;

    /// Microseconds from a timestamp to a later one, when both have come.
    fn elapsed_us(&self, from: Timestamp, to: Timestamp) -> Result<f64, DriverError>;

    /// From here on, commands (copies and clears within the device, launches, products, timestamps) are recorded, not
    /// run, in up to so many lanes: at first in lane 0.
    fn begin_recording(&mut self, lanes: usize) -> Result<(), DriverError>;

    /// What is recorded from here on is for that lane: to run in order with all else of it, and beside other lanes, but
    /// not before these points.
    fn select_lane(&mut self, lane: usize, after: &[Point]) -> Result<(), DriverError>;

    /// The point behind all that the selected lane was told so far, for other lanes of the same recording.
    fn point(&mut self) -> Result<Point, DriverError>;

    /// Ends a recording, which is done when all its lanes are.
    fn end_recording(&mut self) -> Result<GraphId, DriverError>;

    /// Runs what was recorded.
    fn replay(&mut self, graph: GraphId) -> Result<(), DriverError>;

    /// Gives back what was recorded.
    fn forget(&mut self, graph: GraphId) -> Result<(), DriverError>;

    /// Bytes of device memory that products work in.
    fn product_bytes(&self) -> usize;

    /// From here on, commands go to that stream, and products work in that memory, which no other stream's products use;
    /// `None`: to the driver's own again.
    fn select_stream(&mut self, stream: Option<(StreamHandle, Address)>) -> Result<(), DriverError>;

    /// The capture of its owner's that a stream is part of, if one is under way.
    fn capture(&self, stream: StreamHandle) -> Result<Option<Capture>, DriverError>;

    /// What is told from here on, until `end_alone`, runs at no time at which something else does that any driver of the device in this
    /// process was told so. Not for streams that are captured.
    fn begin_alone(&mut self) -> Result<(), DriverError>;

    /// Others may go on behind what was told since.
    fn end_alone(&mut self) -> Result<(), DriverError>;

    /// From here on, commands are for lanes, as in a recording, but run: at first for lane 0, the stream that commands go to.
    fn begin_lanes(&mut self, lanes: usize) -> Result<(), DriverError>;

    /// That stream goes on when all lanes are done.
    fn end_lanes(&mut self) -> Result<(), DriverError>;

    /// A word that the host can look at without waiting; 0.
    fn flag(&mut self) -> Result<Flag, DriverError>;

    /// Copies 4 bytes to a flag, in the order of all commands.
    fn fetch(&mut self, from: Address, flag: Flag) -> Result<(), DriverError>;

    /// What was last copied there, as far as that has happened.
    fn look(&self, flag: Flag) -> u32;

    /// Sets a flag to 0.
    fn lower(&mut self, flag: Flag);

    /// Whether this thread may, while it captures, do what captures must usually not see: take memory, load kernels. Until it
    /// is told otherwise.
    fn permit_capture(&mut self, relaxed: bool) -> Result<(), DriverError>;

    /// A mark, not set yet: nobody waits for it.
    fn mark(&mut self) -> Result<Mark, DriverError>;

    /// Sets a mark behind all that the stream was told to which commands go. (Again: the later one counts.)
    fn set_mark(&mut self, mark: Mark) -> Result<(), DriverError>;

    /// What that stream is told from here on comes behind a mark.
    fn await_mark(&mut self, mark: Mark) -> Result<(), DriverError>;

    /// Waits for all commands, and says whether one failed.
    fn synchronize(&self) -> Result<(), DriverError>;
}
