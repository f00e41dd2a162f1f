//! Inference as frames arrive: one at a time or in blocks, state kept in between.

use crate::compiled::Compiled;
use crate::run::Run;
use rnnc_graph::{Graph, WeightId, nearest};
use rnnc_plan::{
    ExecutionConfig, ExecutorError, Plan, PlanError, PlanOptions, Precision, State, Values, ValuesMut,
};
use thiserror::Error;

/// A network that runs as frames arrive.
///
/// # On a real-time thread
///
/// With one thread (the default of [`SessionOptions`]), [`step`](Session::step), [`run`](Session::run),
/// [`output`](Session::output), [`reset`](Session::reset) and [`write`](Session::write) run on the calling thread alone. Once
/// the first frame has run they allocate nothing, wait for no other thread and make no system call; how long they take does not
/// depend on the numbers (subnormals are zero meanwhile, and the thread's mode of them is restored). All else allocates. With
/// more threads, a call waits for the others in barriers.
///
/// ```
/// use rnnc_cpu::Session;
/// use rnnc_graph::{Activation, Connect, Graph};
/// use rnnc_plan::{Values, ValuesMut};
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
    run: Run,
}

/// What a session is for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SessionOptions {
    /// Streams side by side, B.
    pub streams: usize,
    /// Worker threads, the caller's included; 0: as many as the process may use.
    pub threads: usize,
    /// The most frames that run at a time: those of a longer [`Session::run`] run block after block. What is parallel over time
    /// is faster in blocks.
    pub block: usize,
    /// How coarsely products may round their operands.
    pub precision: Precision,
}

impl Default for SessionOptions {
    /// One stream, frame by frame, on the calling thread, in single precision.
    fn default() -> SessionOptions {
        SessionOptions { streams: 1, threads: 1, block: 1, precision: Precision::F32 }
    }
}

/// Why there is no session.
#[derive(Debug, Error)]
#[non_exhaustive]
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
    /// A weight that the network does not have.
    #[error("network `{network}` has no weight `{name}`{hint}")]
    NoWeight {
        /// The network.
        network: String,
        /// What was asked for.
        name: String,
        /// What may have been meant.
        hint: String,
    },
}

impl SessionError {
    /// Whether something else would have to be asked for, rather than tried again.
    pub fn is_bad_input(&self) -> bool {
        match self {
            SessionError::Executor(error) => error.is_bad_input(),
            SessionError::Plan(_) | SessionError::LooksAhead(_) | SessionError::NoWeight { .. } => true,
        }
    }
}

impl Session {
    /// A session of B streams, frame by frame, on `threads` workers (0: as many as the process may use). Weights are 0 until
    /// [`Session::write`].
    ///
    /// # Errors
    ///
    /// If the network is invalid, looks ahead, or does not fit into memory.
    pub fn new(graph: &Graph, streams: usize, threads: usize) -> Result<Session, SessionError> {
        Session::with(graph, SessionOptions { streams, threads, ..SessionOptions::default() })
    }

    /// The same, with all that can be chosen.
    ///
    /// # Errors
    ///
    /// As [`Session::new`].
    pub fn with(graph: &Graph, options: SessionOptions) -> Result<Session, SessionError> {
        if graph.looks_ahead() {
            return Err(SessionError::LooksAhead(graph.name().into()));
        }
        let SessionOptions { streams, threads, block, precision } = options;
        let plan = Plan::new(graph, PlanOptions::inference(streams, block))?;
        let config = ExecutionConfig { threads, precision, ..ExecutionConfig::new(streams, block) };
        Ok(Session { run: Run::new(&Compiled::for_runs(plan, config)?) })
    }

    /// Sets a weight, in its canonical shape.
    ///
    /// # Errors
    ///
    /// If the values are not as many as the weight has.
    pub fn write(&mut self, weight: WeightId, values: Values<'_>) -> Result<(), ExecutorError> {
        self.run.write(weight, values)
    }

    /// Sets the weight of that name: `h.i.W.x`, as `rnnc plan --verbose` and weights files have it.
    ///
    /// # Errors
    ///
    /// If there is none, or the values are not as many as it has.
    pub fn write_named(&mut self, name: &str, values: Values<'_>) -> Result<(), SessionError> {
        let graph = &self.run.compiled().plan().forward;
        let weight = graph.find_weight(name).ok_or_else(|| {
            let names = graph.weights().iter().map(|weight| &*weight.name);
            SessionError::NoWeight {
                network: graph.name().into(),
                name: name.into(),
                hint: nearest(name, names)
                    .map_or_else(String::new, |near| format!(": did you mean `{near}`?")),
            }
        })?;
        Ok(self.run.write(weight, values)?)
    }

    /// Runs one frame: inputs `[B, N]` each, resets `[B]`.
    ///
    /// # Errors
    ///
    /// If an array is not of its length, or a symbol is out of range.
    pub fn step(&mut self, inputs: &[Values<'_>], resets: Option<&[bool]>) -> Result<(), ExecutorError> {
        self.run.forward(1, inputs, resets)
    }

    /// Copies an output of the last step: `[B, N]`.
    ///
    /// # Errors
    ///
    /// If there is no such output, or it is of another length.
    pub fn output(&self, output: usize, into: ValuesMut<'_>) -> Result<(), ExecutorError> {
        self.run.output(output, into)
    }

    /// Runs one frame or more: inputs `[frames, B, N]` each, resets `[frames, B]`. All outputs are copied:
    /// `[frames, B, N]` each.
    ///
    /// # Errors
    ///
    /// If there are no frames, an array is not of its length, or a symbol is out of range; nothing has run then.
    pub fn run(
        &mut self,
        frames: usize,
        inputs: &[Values<'_>],
        resets: Option<&[bool]>,
        outputs: &mut [ValuesMut<'_>],
    ) -> Result<(), ExecutorError> {
        self.run.run_blocks(frames, inputs, resets, outputs)
    }

    /// Begins all streams anew.
    pub fn reset(&mut self) {
        self.run.clear();
    }

    /// What the next frame will read of those before.
    pub fn state(&self) -> State {
        self.run.state()
    }

    /// Goes on from a state.
    ///
    /// # Errors
    ///
    /// If it is another network's.
    pub fn set_state(&mut self, state: &State) -> Result<(), ExecutorError> {
        self.run.set_state(state)
    }

    /// The plan it runs.
    pub fn plan(&self) -> &Plan {
        self.run.compiled().plan()
    }
}
