//! Inference frame by frame: one frame in, one frame out, state kept in between.

use crate::executor::CpuExecutor;
use rnnc_graph::{Graph, WeightId};
use rnnc_plan::{
    ExecutionConfig, Executor, ExecutorError, ParameterArray, Plan, PlanError, PlanOptions, Precision, State,
    Values, ValuesMut,
};
use thiserror::Error;

/// A network that runs frame by frame. No call after the first allocates.
///
/// ```
/// use rnnc_cpu::Session;
/// use rnnc_graph::{Activation, Connect, Graph};
/// use rnnc_plan::{Executor, Values, ValuesMut};
/// // A running sum.
/// let mut graph = Graph::new("sum");
/// let x = graph.input("x", 1);
/// let y = graph.sum("y", 1, Activation::Identity);
/// graph.connect(x, y, Connect::identity());
/// graph.connect(y, y, Connect::identity().delay(1));
/// graph.output("y", y);
/// let mut session = Session::new(&graph, 1, 1)?;
/// let mut y = [0.0];
/// for (x, sum) in [(1.0, 1.0), (2.0, 3.0), (3.0, 6.0)] {
///     session.step(&[Values::F32(&[x])], None)?;
///     session.output(0, ValuesMut::F32(&mut y))?;
///     assert_eq!(y, [sum]);
/// }
/// session.reset();
/// session.step(&[Values::F32(&[5.0])], None)?;
/// session.output(0, ValuesMut::F32(&mut y))?;
/// assert_eq!(y, [5.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Session {
    executor: CpuExecutor,
}

/// Why there is no session.
#[derive(Debug, Error)]
pub enum SessionError {
    /// The network cannot be planned.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The plan cannot be run.
    #[error(transparent)]
    Executor(#[from] ExecutorError),
    /// The network looks ahead.
    #[error("network `{0}` looks ahead: its frames cannot be computed one by one")]
    LooksAhead(String),
}

impl Session {
    /// A session of B streams on `threads` workers (0: as many as the process may use). Weights are 0 until
    /// [`Session::write`].
    ///
    /// # Errors
    ///
    /// If the network is none, looks ahead, or does not fit into memory.
    pub fn new(graph: &Graph, streams: usize, threads: usize) -> Result<Session, SessionError> {
        Session::with_precision(graph, streams, threads, Precision::F32)
    }

    /// The same whose products may round their operands.
    ///
    /// # Errors
    ///
    /// As [`Session::new`].
    pub fn with_precision(
        graph: &Graph,
        streams: usize,
        threads: usize,
        precision: Precision,
    ) -> Result<Session, SessionError> {
        if graph.looks_ahead() {
            return Err(SessionError::LooksAhead(graph.name().into()));
        }
        let plan = Plan::new(graph, PlanOptions::inference(streams, 1))?;
        let executor = CpuExecutor::new(
            plan,
            ExecutionConfig { threads, precision, ..ExecutionConfig::new(streams, 1) },
        )?;
        Ok(Session { executor })
    }

    /// Sets a weight, in its canonical shape.
    ///
    /// # Errors
    ///
    /// If the values are not as many as the weight has.
    pub fn write(&mut self, weight: WeightId, values: Values<'_>) -> Result<(), ExecutorError> {
        self.executor.write(ParameterArray::Weight, weight, values)
    }

    /// Runs one frame: inputs `[B, N]` each, resets `[B]`.
    ///
    /// # Errors
    ///
    /// If inputs or resets are not of their lengths, or a symbol is none.
    pub fn step(&mut self, inputs: &[Values<'_>], resets: Option<&[bool]>) -> Result<(), ExecutorError> {
        self.executor.forward(1, inputs, resets)
    }

    /// Copies an output of the last step: `[B, N]`.
    ///
    /// # Errors
    ///
    /// If there is no such output, or it is of another length.
    pub fn output(&self, output: usize, into: ValuesMut<'_>) -> Result<(), ExecutorError> {
        self.executor.output(output, into)
    }

    /// Begins all streams anew.
    pub fn reset(&mut self) {
        self.executor.clear_state();
    }

    /// What the next frame will read of those before.
    ///
    /// # Errors
    ///
    /// None on a CPU.
    pub fn state(&self) -> Result<State, ExecutorError> {
        self.executor.state()
    }

    /// Goes on from a state.
    ///
    /// # Errors
    ///
    /// If it is another network's.
    pub fn set_state(&mut self, state: &State) -> Result<(), ExecutorError> {
        self.executor.set_state(state)
    }

    /// The plan it runs.
    pub fn plan(&self) -> &Plan {
        self.executor.plan()
    }
}
