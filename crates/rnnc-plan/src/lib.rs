//! From a network to a plan.
//!
//! In comes a [`rnnc_graph::Graph`]; out comes a [`Plan`]: buffers and stages of operations, forward and backward,
//! as data that can be printed and compared without a device; and the [`Executor`] trait that whatever runs
//! plans implements.

pub mod dropout;
mod executor;
mod plan;

pub use executor::{
    Executor, ExecutorError, History, NO_SYMBOL, Part, Setup, State, Update, Values, ValuesMut,
};
pub use plan::{Plan, PlanError, PlanOptions};
