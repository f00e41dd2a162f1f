//! What `bench` is asked for.

use crate::executors::ExecutorArgs;
use crate::network::NetworkArgs;
use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// The arguments.
#[derive(Args)]
#[command(after_help = "\
Times are microseconds per frame, all streams together: of the forward pass as in training, and of forward and backward \
passes with the gradients of all weights and vector inputs, without an update. Each is the median of repeated calls, \
between the quantiles at 10 and 90 percent.

On a GPU, they are the passes' times on the device, by its own clock, with inputs and the outputs' gradients there. What \
calls take on the host, copies of these arrays from its memory included, stands beside them. In JSON, `timed` says \
`device` or `host`, and `host_forward_us_per_step` and so on are there as well.

Times stand beside a bound: the least that the plan's work could take on this machine, whose speeds are measured at the \
start. A bound takes the plan as it is: a better plan may have a lower one. In JSON, `flops`, `bytes` and \
`bound_us_per_step` are those of a frame of all streams, forward and backward, and `fraction_of_bound` is the bound \
divided by the median; with `forward_` before the names, of the forward pass. `machine` has what was measured.

On a CPU, half a second measures as many threads: the arithmetic of a large product and of one of few rows with packed \
weights, and the bandwidths of caches and memory. The bound adds up, stage by stage, products at the first of these \
speeds, those inside loops at the second, or, where that takes longer, the reading of their weights in every step from \
the cache that holds them; and every value that other operations touch, once a stage, at the speed of copying \
as much, or, where stages take turns, as much as is there at a time. It \
leaves out the arithmetic of activations, waiting between threads, the packing of weights and the copying of inputs and \
outputs; and it has weights in single precision whatever --precision says. In JSON, `memory_planned` and \
`memory_measured` are the bytes that the plan foresees and those that the executor took.

On a GPU, a large product in the precision that is asked for, one in TF32, and copies within its memory are measured. A job (a \
loop, the scans of a stage, an operation over all frames) takes what takes longest of three: its products, at the first of \
these speeds, on tensor cores in loops at the second, or a third of it in f32 and twice in bf16; the moving of its weights and \
of every value that it touches, once, at the speed of copying as much; and, in a loop, the barriers of its blocks (of the \
threads of a single one) in every step but the first: each an empty frame of such a loop, but no more than 0.4 microseconds \
where blocks look for what others post. What barriers take is not measured then, but known of some devices, and of others \
taken to be an H200's. The bound of a pass is the longest row of jobs that follow each other, or the products, or the moving, \
of all jobs together, if that takes longer: jobs side by side, in chunks of frames among them, do not add up. It leaves out \
starting kernels, all arithmetic but products, what loops exchange, and zeros. In JSON, `bytes` are what is moved so.

With --inference, nothing is saved for a backward pass, and only the forward pass is timed.

With --schedule frame, the same network runs in windows of a single frame, one call a frame: nothing runs for all \
frames at once. Only the forward pass is timed then, since errors do not go back from window to window. On a GPU, all \
frames' passes stand in its queue one behind the other, and all have the same input.

With --schedule session, a session without gradients steps through the frames, and each step is timed by itself, from \
inputs in to outputs out: the times are a distribution, in JSON `latency_us`.

With --kernels, each command of a pass runs alone, between two timestamps, which take time themselves: the sum is \
more than the pass takes.

Examples:
  rnnc bench net.rnn --streams 1,16 --frames 128
  rnnc bench net.rnn --schedule session --streams 1 --format json")]
pub struct Bench {
    #[command(flatten)]
    pub network: NetworkArgs,
    /// Numbers of streams to time, by commas
    #[arg(long, default_value = "1,4", value_delimiter = ',', value_name = "B,B")]
    pub streams: Vec<usize>,
    /// Frames of a window
    #[arg(long, default_value_t = 256, value_name = "T")]
    pub frames: usize,
    /// How long each measurement takes, in seconds
    #[arg(long, default_value_t = 2.0, value_name = "S")]
    pub seconds: f64,
    /// Calls of each measurement, at least; of a session, times that it goes through the window's frames
    #[arg(long, default_value_t = 10, value_name = "N")]
    pub calls: usize,
    /// Time the forward pass alone
    #[arg(long)]
    pub forward: bool,
    /// Plan the forward pass only, as `run` does, and time that
    #[arg(long)]
    pub inference: bool,
    /// Do not measure the machine, and say nothing of the bound
    #[arg(long)]
    pub no_bound: bool,
    /// Take the machine's speeds from a file, the `machine` of a line of JSON, instead of measuring them
    #[arg(long, value_name = "FILE", conflicts_with = "no_bound")]
    pub machine: Option<PathBuf>,
    /// What a call runs
    #[arg(long, value_enum, default_value_t)]
    pub schedule: Schedule,
    /// With `--executor cuda`: time each command of the passes too
    #[arg(long)]
    pub kernels: bool,
    /// With `--executor cuda`: only compile the kernels, for the cache, and time nothing
    #[arg(long)]
    pub prepare: bool,
    /// How to print: a table, or one JSON object a line
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
    #[command(flatten)]
    pub executor: ExecutorArgs,
    /// What the random numbers begin with
    #[arg(long, default_value_t = 1, value_name = "S")]
    pub seed: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    #[default]
    Text,
    Json,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Schedule {
    /// all frames of the window, as planned
    #[default]
    #[value(alias = "plan")]
    Window,
    /// one frame
    Frame,
    /// one frame of a session, each timed by itself
    Session,
}

impl Schedule {
    /// Its name, as on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Schedule::Window => "window",
            Schedule::Frame => "frame",
            Schedule::Session => "session",
        }
    }
}
