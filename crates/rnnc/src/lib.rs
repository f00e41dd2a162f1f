//! A compiler and trainer for recurrent networks.
//!
//! A network is written as its equations; rnnc reads them as a graph, finds everything in it that can run in
//! parallel, and runs and trains it. This crate gathers the parts, each a module:
//!
//! | module | what it is | feature |
//! | --- | --- | --- |
//! | [`lang`] | the language: text in, a graph or errors that show the place out; the library of cells | |
//! | [`graph`] | the network as layers and connections, built by the language or by hand; its adjoint | |
//! | [`plan`] | the network lowered to stages of operations; the [`plan::Executor`] trait | |
//! | [`io`] | NumPy and safetensors files, weights, states | |
//! | `cpu` | the executor that runs on the cores of a CPU, and the session that runs frame by frame | `cpu` (default) |
//! | `cuda` | the executor that runs on an NVIDIA GPU, with kernels generated for the network | `cuda` |
//! | `reference` | the executor that defines the truth, in double precision | `reference` |
//! | `report` | a plan as text, JSON, Graphviz and SVG | `report` |
//! | `verify` | executors against the reference, gradients against finite differences | `verify` |
//! | `train` | data, losses, truncated backpropagation through time, checkpoints | `train` |
//!
//! [`Model`] is the shortest way: inference from files in three lines, training of arrays in memory in four. What it does,
//! step by step:
//!
//! # A network, forward and back
//!
#![cfg_attr(feature = "cpu", doc = "```")]
#![cfg_attr(not(feature = "cpu"), doc = "```ignore")]
//! use rnnc::cpu::CpuExecutor;
//! use rnnc::io::Weights;
//! use rnnc::plan::{
//!     ExecutionConfig, Executor, OptimizerSettings, ParameterArray, Plan, PlanOptions, Update, Values, ValuesMut,
//! };
//!
//! let text = "
//!     network leaky {
//!         input x : vector(2)
//!         h = tanh(dense(x; 3) + diag(h[t-1]))
//!         y = dense(h; 1)
//!         output y
//!     }";
//! let graph = rnnc::lang::compile("leaky.rnn", text, None)?;
//!
//! // Four frames of one stream.
//! let plan = Plan::new(&graph, PlanOptions::training(1, 4))?;
//! let mut executor = CpuExecutor::new(plan, ExecutionConfig::new(1, 4))?;
//! Weights::initial(&graph, 1).put_into(&mut executor, ParameterArray::Weight)?;
//! let x = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8];
//! let mut losses = Vec::new();
//! for step in 1..=10 {
//!     let mut y = [0.0; 4];
//!     executor.clear_state();
//!     executor.forward(4, &[Values::F32(&x)], None)?;
//!     executor.output(0, ValuesMut::F32(&mut y))?;
//!     losses.push(y.iter().map(|y| 0.5 * y * y).sum::<f32>());
//!     // The loss is half the sum of squares: its gradient is y.
//!     executor.backward(4, &[Some(Values::F32(&y))])?;
//!     let (learning_rate, optimizer) = (0.01, OptimizerSettings::default());
//!     executor.update(&Update { learning_rate, step, clip_norm: None, optimizer })?;
//! }
//! assert!(losses[9] < losses[0]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod error;
mod executors;
mod model;

pub use error::ModelError;
pub use executors::{ExecutorKind, UnknownExecutor};
pub use model::Model;
#[cfg(feature = "cpu")]
pub use rnnc_cpu as cpu;
#[cfg(feature = "cuda")]
pub use rnnc_cuda as cuda;
pub use rnnc_graph as graph;
pub use rnnc_io as io;
pub use rnnc_lang as lang;
pub use rnnc_plan as plan;
#[cfg(feature = "reference")]
pub use rnnc_reference as reference;
#[cfg(feature = "report")]
pub use rnnc_report as report;
#[cfg(feature = "train")]
pub use rnnc_train as train;
#[cfg(feature = "verify")]
pub use rnnc_verify as verify;
