//! The gradients of the state before a window: the plan's [`StateAdjoint`](rnnc_graph::StateAdjoint), as a small program of its
//! own on the same device. What it reads of the window's backward pass is copied within the device.

use super::loaded::{Jobs, Loaded};
use super::memory::{Memory, NUMBER, Sizes};
use super::runner::NAME;
use super::timing::Marks;
use crate::driver::borders::{self, ArrayMove, Border, ClockBefore, From, TapeCheck, To};
use crate::driver::{Address, Driver, DriverError, KernelId};
use rnnc_graph::StateVector;
use rnnc_plan::{ExecutionConfig, ExecutorError, Plan, PlanOptions, View, WeightView};

/// The kernels for arrays of other shapes, loaded.
pub(crate) struct Borders(Vec<KernelId>);

impl Borders {
    pub fn new(driver: &mut dyn Driver) -> Result<Borders, DriverError> {
        Ok(Borders(driver.load(&borders::source())?))
    }

    pub fn launch(&self, driver: &mut dyn Driver, border: &Border) -> Result<(), DriverError> {
        match border.geometry(driver.device().multiprocessors) {
            Some(geometry) => driver.launch_border(self.0[border.kernel()], &geometry, border),
            None => Ok(()),
        }
    }

    /// The same, of arrays on a tape too, and looks whose that is.
    pub fn copy_checked(
        &self,
        driver: &mut dyn Driver,
        moves: &[ArrayMove],
        check: TapeCheck,
    ) -> Result<(), DriverError> {
        for (place, mut border) in Border::moves(moves).enumerate() {
            if let (0, Border::Moves(moves)) = (place, &mut border) {
                moves.check = check;
            }
            self.launch(driver, &border)?;
        }
        Ok(())
    }

    /// Copies arrays, of which none is written that another reads or writes.
    pub fn copy(&self, driver: &mut dyn Driver, moves: &[ArrayMove]) -> Result<(), DriverError> {
        Border::moves(moves).try_for_each(|border| self.launch(driver, &border))
    }
}

/// What makes the gradients of the state of a program's windows.
pub(crate) struct Before {
    /// Runs over as many frames before a window's first as the state has, and as many from there on. `None` if no error ever
    /// comes back to the state.
    loaded: Option<Loaded>,
    sizes: Option<Sizes>,
    /// Of the state: D.
    depth: usize,
    /// The adjoint's errors, and where they go.
    errors: Vec<(View, View)>,
    /// The weights that it reads, where they lie and where they go.
    weights: Vec<(WeightView, WeightView)>,
    pub vectors: Vec<Vector>,
}

/// A vector of the state.
#[derive(Clone, Copy)]
pub(crate) struct Vector {
    pub depth: usize,
    /// Units.
    pub len: usize,
    /// Where its gradient is, if it has one.
    gradient: Option<View>,
}

/// An array of a vector's gradient, `[depth, B, N]`.
#[derive(Clone, Copy)]
pub(crate) struct GradientArray {
    pub at: Address,
    /// In elements.
    pub strides: [i64; 3],
    /// How it is added to.
    pub to_kind: To,
}

impl Before {
    /// For a plan with state gradients; `None` for others.
    pub fn new(
        driver: &mut dyn Driver,
        plan: &Plan,
        config: ExecutionConfig,
    ) -> Result<Option<Before>, ExecutorError> {
        let (Some(state), Some(adjoint)) = (&plan.state_adjoint, &plan.adjoint) else { return Ok(None) };
        let vector = |&StateVector { layer, depth, .. }: &StateVector| Vector {
            depth,
            len: plan.forward.layer_at(layer).size,
            gradient: None,
        };
        let mut before = Before {
            loaded: None,
            sizes: None,
            depth: state.depth,
            errors: Vec::new(),
            weights: Vec::new(),
            vectors: state.vectors.iter().map(vector).collect(),
        };
        if state.depth == 0 {
            return Ok(Some(before));
        }
        let frames = 2 * state.depth;
        let own = Plan::new(&state.graph, PlanOptions::inference(config.streams, frames))
            .map_err(|error| ExecutorError::Unsupported { executor: NAME, what: error.to_string() })?;
        let config = ExecutionConfig { window: frames, step: frames, training: false, ..config };
        own.check_config(NAME, config)?;
        let storage = &own.forward_pass.storage;
        // The adjoint's last outputs are what it takes.
        let inputs = own.forward.inputs();
        let outputs = adjoint.outputs();
        let pass = plan.backward_pass.as_ref();
        for (&input, output) in inputs.iter().zip(&outputs[outputs.len() - inputs.len()..]) {
            let from = pass.and_then(|pass| pass.storage[output.layer.index()]);
            if let Some((from, to)) = from.zip(storage[input.index()]) {
                before.errors.push((from, to));
            }
        }
        before.weights = (state.weights().into_iter())
            .map(|weight| (plan.weights.view(weight), own.weights.view(weight)))
            .collect();
        for (vector, of) in before.vectors.iter_mut().zip(&state.vectors) {
            let output = of.output.map(|output| own.forward.outputs()[output].layer);
            vector.gradient = output.and_then(|layer| storage[layer.index()]);
        }
        let (loaded, sizes) = Loaded::of_plan(driver, &own, config, false)?;
        (before.loaded, before.sizes) = (Some(loaded), Some(sizes));
        Ok(Some(before))
    }

    /// Frames before a window's first that it computes.
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// What its program takes.
    pub fn sizes(&self) -> Option<Sizes> {
        self.sizes
    }

    /// Adds the gradients of the state before the window's last `frames` frames, which the backward pass has just run through,
    /// to these arrays.
    pub fn run(
        &self,
        driver: &mut dyn Driver,
        borders: &Borders,
        (of, memory): (&Loaded, &Memory),
        own: &Memory,
        frames: usize,
        to: &[Option<GradientArray>],
    ) -> Result<(), DriverError> {
        let Some(loaded) = &self.loaded else { return Ok(()) };
        let (streams, window) = (loaded.config.streams, of.config.window);
        let first = window - frames;
        let known = self.depth.min(frames);
        let rows = |frames: usize, view: View| [frames as u32, streams as u32, view.len as u32];
        let mut moves = Vec::new();
        for &(from, into) in &self.errors {
            let to_strides = loaded.strides(into);
            moves.push(ArrayMove {
                from: of.address(memory, from, first as i64),
                to: loaded.address(own, into, self.depth as i64),
                from_strides: of.strides(from),
                to_strides,
                shape: rows(known, into),
                ..ArrayMove::default()
            });
            for (frame, frames) in [(0, self.depth), (self.depth + known, self.depth - known)] {
                moves.push(ArrayMove {
                    to: loaded.address(own, into, frame as i64),
                    to_strides,
                    shape: rows(frames, into),
                    from_kind: From::Nothing,
                    ..ArrayMove::default()
                });
            }
        }
        for &(from, into) in &self.weights {
            moves.push(ArrayMove {
                from: memory.weights + from.offset as u64 * NUMBER,
                to: own.weights + into.offset as u64 * NUMBER,
                from_strides: weight_strides(from),
                to_strides: weight_strides(into),
                shape: [into.heads, into.rows, into.columns].map(|len| len as u32),
                ..ArrayMove::default()
            });
        }
        borders.copy(driver, &moves)?;
        let clock = ClockBefore {
            from: memory.since_reset(),
            since_reset: own.since_reset(),
            ahead: own.ahead(),
            run: own.tracker,
            streams: streams as u32,
            window: window as u32,
            first: first as u32,
            depth: self.depth as u32,
        };
        borders.launch(driver, &Border::ClockBefore(clock))?;
        // Some frames: lanes would not pay.
        let mut marks = Marks::begin(driver, false)?;
        loaded.run(driver, own, Jobs::Forward, 2 * self.depth, false, &mut marks)?;
        moves.clear();
        for (vector, to) in self.vectors.iter().zip(to) {
            let Some((from, to)) = vector.gradient.zip(*to) else { continue };
            moves.push(ArrayMove {
                from: loaded.address(own, from, (self.depth - vector.depth) as i64),
                to: to.at,
                from_strides: loaded.strides(from),
                to_strides: to.strides,
                shape: rows(vector.depth, from),
                to_kind: to.to_kind,
                ..ArrayMove::default()
            });
        }
        borders.copy(driver, &moves)
    }
}

/// From an element of a weight to the next, along heads, rows and columns.
pub(crate) fn weight_strides(view: WeightView) -> [i64; 3] {
    [view.head_stride, view.row_stride, view.column_stride].map(|stride| stride as i64)
}
