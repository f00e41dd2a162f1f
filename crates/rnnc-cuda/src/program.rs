//! What a plan becomes on a device: source texts, and commands in jobs. Pure data: no driver is asked.
//!
//! Jobs stand in an order in which they can run one after the other. Those of different lanes run side by side, as far as
//! none waits for another.

use crate::driver::Source;
use rnnc_graph::Direction;
use std::ops::Range;

/// The device memory of a program, in numbers of 4 bytes. Each region is one allocation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Regions {
    /// The plan's buffers.
    pub values: usize,
    /// The flat weights, derived ones included; gradients have as many numbers where they are needed.
    pub weights: usize,
    /// Whether there are gradients, and slots of the optimizer.
    pub trained: bool,
    /// Copies of rows, partial sums: of all lanes.
    pub scratch: usize,
    /// Counters of loops and scans: zero between launches.
    pub counters: usize,
}

/// A region of device memory that commands address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // named as in `Regions`
pub enum Region {
    Values,
    Weights,
    Gradients,
    Scratch,
    Counters,
}

/// A plan, compiled for a device, a number of streams and a window.
#[derive(Clone, Debug, Default)]
pub struct Program {
    /// What it takes.
    pub regions: Regions,
    /// Where each of the plan's buffers lies in the values.
    pub buffers: Vec<BufferPlace>,
    /// What waits while it runs: components, by names for messages. The fault flag is one more than the place here.
    pub watched: Vec<String>,
    /// What is compiled.
    pub sources: Vec<Source>,
    /// The first number of each lane's part of the scratch region.
    pub lanes: Vec<usize>,
    /// The forward pass.
    pub forward: Vec<Job>,
    /// The backward pass.
    pub backward: Vec<Job>,
    /// The optimizer's step. It leaves the gradients' norm, in double precision, in the first two numbers of the scratch
    /// region.
    pub update: Vec<Job>,
}

/// Where a buffer lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BufferPlace {
    /// Its first number, of the oldest frame of its history.
    pub offset: usize,
    /// Numbers of a frame, all streams.
    pub frame: usize,
    /// Frames before the window's first.
    pub history: usize,
}

/// Commands that run one after the other, and behind all earlier jobs of their lane.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Job {
    /// In order.
    pub commands: Vec<Command>,
    /// The lane: a CUDA stream, with scratch of its own.
    pub lane: usize,
    /// Earlier jobs of other lanes, by their places, that must be done before.
    pub after: Vec<usize>,
    /// The stage that it belongs to, by its place among those of both passes.
    pub stage: Option<usize>,
    /// The frames of the pass that it does.
    pub frames: Frames,
    /// What it cannot do without, in a whole window.
    pub needs: Needs,
}

/// What a job cannot do without, however fast a device is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Needs {
    /// Floating-point operations of its products, but for those of the next line.
    pub flops: f64,
    /// Those of a loop on tensor cores, as operations in TF32 that take as long: three in single precision, half in bf16.
    pub tensor_flops: f64,
    /// Bytes of values and weights.
    pub bytes: f64,
    /// Steps of a loop, of which each but the first waits for the one before.
    pub steps: f64,
    /// Microseconds that the barriers of a step take at least.
    pub barriers_us: f64,
}

impl Needs {
    /// Of one of so many chunks of the frames.
    pub fn of_chunk(self, chunks: usize) -> Needs {
        let part = |all: f64| all / chunks.max(1) as f64;
        Needs {
            flops: part(self.flops),
            tensor_flops: part(self.tensor_flops),
            bytes: part(self.bytes),
            steps: part(self.steps),
            barriers_us: self.barriers_us,
        }
    }
}

/// Some frames of a pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Frames {
    /// All.
    #[default]
    All,
    /// One of several chunks, each but the last of as many frames as `of` need for a whole window.
    Chunk {
        /// Its number, in the order of steps.
        number: usize,
        /// How many there are.
        of: usize,
        /// In which direction they are counted.
        direction: Direction,
    },
}

impl Frames {
    /// Whether it is no chunk but the first.
    pub fn is_first(self) -> bool {
        !matches!(self, Frames::Chunk { number: 1.., .. })
    }

    /// Those of a pass that runs frames `first ..` of a window.
    pub fn of_pass(self, first: usize, window: usize) -> Range<usize> {
        let Frames::Chunk { number, of, direction } = self else { return first..window };
        let len = window.div_ceil(of.max(1));
        match direction {
            Direction::Forward => {
                let from = (first + number * len).min(window);
                from..(from + len).min(window)
            }
            Direction::Backward => {
                let end = window.saturating_sub(number * len).max(first);
                end.saturating_sub(len).max(first)..end
            }
        }
    }
}

/// The commands of some jobs, in an order in which they can run.
pub fn commands<'a>(jobs: impl IntoIterator<Item = &'a Job>) -> impl Iterator<Item = &'a Command> {
    jobs.into_iter().flat_map(|job| &job.commands)
}

/// One thing a device does. Frames are those of the pass: `first .. end` of the window.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// A kernel.
    Kernel(Launch),
    /// A product of matrices over all rows of the pass.
    Product(RowsProduct),
    /// Zeros.
    Clear {
        /// Where.
        region: Region,
        /// The first number.
        offset: usize,
        /// How many.
        len: usize,
    },
}

/// A kernel of a source, and how it is launched.
#[derive(Clone, Debug, PartialEq)]
pub struct Launch {
    /// The source, by its place.
    pub source: usize,
    /// The kernel, by its place in the source.
    pub kernel: usize,
    /// What it is, for messages and timings: the stage and the layers.
    pub what: String,
    /// Its threads.
    pub work: Work,
}

/// How many threads a kernel needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Any number will do: its threads stride over `per_row` elements of each row of the pass, plus `fixed`.
    Elements {
        /// Elements of a row.
        per_row: usize,
        /// Elements that do not depend on the pass.
        fixed: usize,
    },
    /// Any number of blocks will do: they stride over `per_row` items of each row of the pass, plus `fixed`.
    Items {
        /// Items of a row.
        per_row: usize,
        /// Items that do not depend on the pass.
        fixed: usize,
        /// Threads of a block.
        threads: usize,
        /// Of a block.
        shared_bytes: usize,
    },
    /// Exactly this.
    Grid(crate::driver::Geometry),
}

/// A product in which one dimension is the rows of the pass:
/// `c (+)= a b`, all row-major (see [`crate::driver::Product`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowsProduct {
    /// Rows of the result; `None`: the rows of the pass.
    pub m: Option<usize>,
    /// Columns of the result.
    pub n: usize,
    /// The inner dimension; `None`: the rows of the pass.
    pub k: Option<usize>,
    /// The left operand.
    pub a: MatrixPlace,
    /// The right operand.
    pub b: MatrixPlace,
    /// The result.
    pub c: MatrixPlace,
    /// Whether both operands lie in bf16: then their rows count such numbers.
    pub halves: bool,
    /// Add to what is there.
    pub accumulate: bool,
}

/// A matrix in a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MatrixPlace {
    /// The region.
    pub region: Region,
    /// Of its first number in a pass that begins at frame 0 of the window. May be before the window's first frame
    /// (history), never before the region.
    pub offset: usize,
    /// Numbers to go on by for each frame that the pass begins later.
    pub per_frame: usize,
    /// Numbers from a row, as it lies, to the next.
    pub row: usize,
    /// Whether it lies transposed.
    pub transposed: bool,
}
