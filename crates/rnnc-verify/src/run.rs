//! Running a trial on an executor: all that comes out, as named arrays.

use crate::trial::Trial;
use rnnc_graph::{LayerKind, WeightId, state_vectors};
use rnnc_plan::{
    ExecutionConfig, Executor, ExecutorError, History, Kept, ParameterArray, Plan, State, Values, ValuesMut,
};

/// Makes the executor that is checked.
pub type Make<'a> = &'a dyn Fn(Plan, ExecutionConfig) -> Result<Box<dyn Executor>, ExecutorError>;

/// An array that came out of an executor.
#[derive(Clone, Debug, PartialEq)]
pub struct Named {
    /// What it is: `gradient of h.W.x`.
    pub name: String,
    /// Its numbers.
    pub values: Vec<f64>,
    /// Whether these are counts, which no rounding changes.
    pub is_count: bool,
}

impl Named {
    /// An array of numbers that are computed.
    pub fn new(name: impl Into<String>, values: Vec<f64>) -> Named {
        Named { name: name.into(), values, is_count: false }
    }
}

/// Writes weights in single precision.
///
/// # Errors
/// Those of the executor.
pub fn write_weights(executor: &mut dyn Executor, weights: &[Vec<f32>]) -> Result<(), ExecutorError> {
    let mut all = weights.iter().enumerate();
    all.try_for_each(|(place, weight)| {
        executor.write(ParameterArray::Weight, WeightId::from_index(place), Values::F32(weight))
    })
}

/// Writes weights in double precision.
///
/// # Errors
/// Those of the executor.
pub fn write_double(executor: &mut dyn Executor, weights: &[Vec<f64>]) -> Result<(), ExecutorError> {
    let mut all = weights.iter().enumerate();
    all.try_for_each(|(place, weight)| {
        executor.write(ParameterArray::Weight, WeightId::from_index(place), Values::F64(weight))
    })
}

/// Runs all windows forward and back from the beginning, with the weights that the executor has: outputs and all gradients of
/// each window, and the state at the end.
///
/// # Errors
/// Those of the executor.
pub fn run(executor: &mut dyn Executor, trial: &Trial<'_>) -> Result<Vec<Named>, ExecutorError> {
    executor.clear_state();
    let (mut all, mut run) = (Vec::new(), 0);
    for (number, window) in trial.windows.iter().enumerate() {
        run += window.frames;
        let back = trial.back(window.frames, run);
        window.forward(executor)?;
        let of_window = all.len();
        all.extend(outputs(executor, window.frames)?);
        window.backward(executor, back)?;
        all.extend(weight_arrays(executor, ParameterArray::Gradient)?);
        all.extend(input_gradients(executor, back)?);
        for array in &mut all[of_window..] {
            array.name.push_str(&format!(" in window {} of {}", number + 1, trial.windows.len()));
        }
    }
    all.extend(state_arrays(&executor.forward_state()?));
    Ok(all)
}

/// The outputs of the last forward call, of so many frames.
///
/// # Errors
/// Those of the executor.
pub fn outputs(executor: &dyn Executor, frames: usize) -> Result<Vec<Named>, ExecutorError> {
    let graph = &executor.plan().forward;
    let outputs = graph.outputs().iter().enumerate().map(|(place, output)| {
        let mut values = vec![0.0; frames * executor.config().streams * graph.layer_at(output.layer).size];
        executor.output(place, ValuesMut::F64(&mut values))?;
        Ok(Named::new(format!("output {}", output.name), values))
    });
    outputs.collect()
}

/// One array of each weight.
///
/// # Errors
/// Those of the executor.
pub fn weight_arrays(executor: &dyn Executor, part: ParameterArray) -> Result<Vec<Named>, ExecutorError> {
    let what = match part {
        ParameterArray::Weight => "weight",
        ParameterArray::Gradient => "gradient of",
        // The executor refuses a slot that does not exist.
        ParameterArray::Slot(slot) => {
            executor.config().optimizer.slots().get(slot).map_or("no slot", |slot| slot.name)
        }
    };
    let weights = executor.plan().forward.weights().iter().enumerate().map(|(place, weight)| {
        let mut values = vec![0.0; weight.len()];
        executor.read(part, WeightId::from_index(place), ValuesMut::F64(&mut values))?;
        Ok(Named::new(format!("{what} {}", weight.name), values))
    });
    weights.collect()
}

/// The gradients of the vector inputs, in the frames of the last backward call.
///
/// # Errors
/// Those of the executor.
pub fn input_gradients(executor: &dyn Executor, frames: usize) -> Result<Vec<Named>, ExecutorError> {
    let graph = &executor.plan().forward;
    let inputs = graph.inputs().iter().map(|&id| graph.layer_at(id)).enumerate();
    let inputs = inputs.filter(|(_, layer)| layer.kind != LayerKind::Symbol).map(|(place, layer)| {
        let mut values = vec![0.0; frames * executor.config().streams * layer.size];
        executor.input_gradient(place, ValuesMut::F64(&mut values))?;
        Ok(Named::new(format!("gradient of input {}", layer.name), values))
    });
    inputs.collect()
}

/// The gradients of the vectors of the state before the frames of the last backward call.
///
/// # Errors
/// Those of the executor.
pub fn state_gradients(executor: &dyn Executor) -> Result<Vec<Named>, ExecutorError> {
    let graph = &executor.plan().forward;
    let vectors = state_vectors(graph).enumerate().map(|(place, (layer, depth))| {
        let layer = graph.layer_at(layer);
        let mut values = vec![0.0; depth * executor.config().streams * layer.size];
        executor.state_gradient(place, ValuesMut::F64(&mut values))?;
        Ok(Named::new(format!("gradient of the state of {}", layer.name), values))
    });
    vectors.collect()
}

/// A state, but for what is never read again, for which 0 stands.
pub fn state_arrays(state: &State) -> Vec<Named> {
    let mut counts = vec![state.frames];
    counts.extend(&state.since_reset);
    let mut all = Vec::new();
    let mut add = |what: &str, history: &History, end: usize| {
        counts.extend([history.depth as u64, history.size as u64, history.symbols.into()]);
        let mut values = history.values.clone();
        for (row, units) in values.chunks_mut(history.size.max(1)).enumerate() {
            let (frame, stream) = (row / state.since_reset.len(), row % state.since_reset.len());
            if !is_read(state, (end + history.depth).saturating_sub(frame), stream) {
                units.fill(0.0);
            }
        }
        all.push(Named::new(format!("{what} of {}", history.layer), values));
    };
    state.histories.iter().for_each(|history| add("state", history, 0));
    for history in state.kept.iter().flat_map(|kept| &kept.layers) {
        // Kept frames lie before those of the layer's history.
        let own = state.histories.iter().find(|own| own.layer == history.layer);
        add("kept frames", history, own.map_or(0, |own| own.depth));
    }
    if let Some(kept) = &state.kept {
        counts.push(kept.frames as u64);
        counts.extend(&kept.since_reset);
    }
    let values = counts.into_iter().map(|count| count as f64).collect();
    all.push(Named { name: "counts of the state".into(), values, is_count: true });
    all
}

/// Whether anything may yet read the frame that lies so many back. Frames before a reset, or before the stream began,
/// are read from no later one.
fn is_read(state: &State, back: usize, stream: usize) -> bool {
    let by_new = back as u64 <= state.since_reset[stream];
    let by_kept =
        |kept: &Kept| back <= kept.frames || (back - kept.frames) as u64 <= kept.since_reset[stream];
    by_new || state.kept.as_ref().is_some_and(by_kept)
}
