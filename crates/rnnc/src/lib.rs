//! A compiler and trainer for recurrent networks.
//!
//! A network is written as its equations; rnnc reads them as a graph, finds everything in it that can run in
//! parallel, and runs and trains it. This crate gathers the parts, each a module:
//!
//! | module | what it is |
//! | --- | --- |
//! | [`lang`] | the language: text in, a graph or errors that show the place out; the library of cells |
//! | [`graph`] | the network as layers and connections, built by the language or by hand; its adjoint |
//! | [`plan`] | the network lowered to stages of operations; the [`plan::Executor`] trait |
//! | [`reference`] | the executor that defines the truth, in double precision |
//! | [`train`] | data, losses, truncated backpropagation through time, checkpoints; NumPy and safetensors files |
//!
//! The command `rnnc` is made of the same parts.
//!
//! ```
//! use rnnc::plan::{Executor, Part, Plan, PlanOptions, Setup, Update, Values, ValuesMut};
//! use rnnc::reference::ReferenceExecutor;
//! use rnnc::train::Weights;
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
//! // Four frames of one stream, forward and back.
//! let plan = Plan::new(&graph, PlanOptions::training(1, 4))?;
//! let mut executor = ReferenceExecutor::new(plan, Setup::new(1, 4))?;
//! Weights::initial(&graph, 1).put_into(&mut executor, Part::Weight)?;
//! let x = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8];
//! let mut y = [0.0; 4];
//! let mut loss = || {
//!     executor.forward(4, &[Values::F32(&x)], None)?;
//!     executor.output(0, ValuesMut::F32(&mut y))?;
//!     // The loss is half the sum of squares, of which y is the gradient.
//!     executor.backward(4, &[Some(Values::F32(&y))])?;
//!     let update = Update { learning_rate: 0.01, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, step: 1, clip_norm: None };
//!     executor.update(&update)?;
//!     executor.clear_state();
//!     Ok::<f32, rnnc::plan::ExecutorError>(y.iter().map(|y| 0.5 * y * y).sum())
//! };
//! assert!(loss()? > loss()?);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub use rnnc_graph as graph;
pub use rnnc_lang as lang;
pub use rnnc_plan as plan;
pub use rnnc_reference as reference;
pub use rnnc_train as train;
