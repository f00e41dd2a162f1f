//! Whether an executor computes what a network means, and whether gradients are derivatives.
//!
//! In comes a [`Trial`], a network with all that is run on it, and a way to make an executor; out come [`Finding`]s, one for
//! each array. The parts, in the order in which to read them:
//! - `random.rs`: the generator of random numbers;
//! - `trial.rs`: what is run; `draw.rs` draws its numbers;
//! - `run.rs`: running it on an executor, into named arrays;
//! - `compare.rs`: two runs' arrays, and what rounding explains of their differences;
//! - `conditioning.rs`: how much rounding a network amplifies;
//! - `agreement.rs`: an executor against the reference, by all of these;
//! - `judge.rs`: whether one number is a derivative, by finite differences; `frozen.rs`: reads that no gradient goes through,
//!   held still; `differences.rs`: all gradients of a network.
//!
//! Nothing is printed: who waits hands in a [`Progress`].
//!
//! ```
//! use rnnc_graph::{Activation, Connect, Graph, Init};
//! use rnnc_plan::ExecutionConfig;
//! use rnnc_reference::ReferenceExecutor;
//! use rnnc_verify::{Make, Spread, Trial, differences};
//! // h = tanh(W x + U h[t-1])
//! let mut graph = Graph::new("elman");
//! let x = graph.input("x", 3);
//! let h = graph.sum("h", 4, Activation::Tanh);
//! let w = graph.weight("h.W.x", &[4, 3], Init::Glorot);
//! let u = graph.weight("h.W.h[t-1]", &[4, 4], Init::Orthogonal);
//! graph.connect(x, h, Connect::full(w));
//! graph.connect(h, h, Connect::full(u).delay(1));
//! graph.output("h", h);
//!
//! // Two streams of five frames, of which one in ten is a reset.
//! let trial = Trial::draw(&graph, ExecutionConfig::new(2, 5), &[5], 0.1, Spread::PLAIN).unwrap();
//! let reference: Make<'_> = &|plan, config| Ok(Box::new(ReferenceExecutor::new(plan, config)?));
//! let found = differences(&trial, 3, reference, &mut |_, _| {}).unwrap();
//! assert!(found.findings.iter().all(|finding| finding.problem.is_none()));
//! ```

mod agreement;
mod compare;
mod conditioning;
mod differences;
mod draw;
mod error;
mod frozen;
mod judge;
mod random;
mod run;
mod trial;

pub use agreement::agreement;
pub use compare::{Finding, Tolerance, agree, compare};
pub use conditioning::{LAST_BITS, Rounding, altered, moved};
pub use differences::{Differences, Progress, differences};
pub use draw::Spread;
pub use error::VerifyError;
pub use judge::{Verdict, judge};
pub use random::Random;
pub use run::{
    Make, Named, input_gradients, outputs, run, state_arrays, state_gradients, weight_arrays, write_double,
    write_weights,
};
pub use trial::{Array, Trial, Window};
