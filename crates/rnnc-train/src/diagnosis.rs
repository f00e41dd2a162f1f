//! What went non-finite first, forward or back: the last window again, in double precision, on the reference executor.

use crate::data::batch::Batch;
use crate::error::TrainError;
use crate::task::losses;
use rnnc_graph::Graph;
use rnnc_io::Weights;
use rnnc_io::index_of;
use rnnc_plan::{ExecutionConfig, Executor, ParameterArray, Plan, PlanOptions, State, Values};
use rnnc_reference::ReferenceExecutor;

/// Names the first weight, or else the first layer and frame, of a window whose loss is not finite. `before` is
/// the state in which the window began.
pub(crate) fn of_window(
    graph: &Graph,
    weights: &Weights,
    before: &State,
    batch: &Batch,
    config: ExecutionConfig,
) -> Result<String, TrainError> {
    if let Some(place) = first_non_finite(graph, weights) {
        return Ok(format!("weight {place}"));
    }
    let reference = run_again(graph, weights, before, batch, config)?;
    // What is not compared with anything is no number by purpose.
    let (counted, forward) = (batch.loss_mask(), &reference.plan().forward);
    let looks = |layer, frame: usize, stream| {
        counted[frame * config.streams + stream] || !losses::is_unknown(&forward.layer_at(layer).name)
    };
    let Some(found) = reference.first_non_finite_of(looks) else {
        return Ok("the loss is not finite, but in double precision every layer is".into());
    };
    let layer = reference.plan().forward.layer_at(found.layer);
    Ok(format!(
        "layer `{}` is the first that is too large or not a number: {:.3e} in unit {} of stream {}, frame {} (frame {} of \
         the window)",
        layer.name,
        found.value,
        found.unit,
        found.stream,
        before.frames + found.frame as u64,
        found.frame
    ))
}

/// Names the first weight whose gradient is not finite.
pub(crate) fn of_gradients(graph: &Graph, gradients: &Weights) -> String {
    match first_non_finite(graph, gradients) {
        Some(place) => format!("every layer is finite, but the gradient of {place}"),
        // Squares of single precision do not overflow in double, where their sum is taken.
        None => "every gradient is finite, but their norm is not".into(),
    }
}

/// Names the first layer of a window whose derivative is not finite, if there is one in the window.
pub(crate) fn of_derivatives(
    graph: &Graph,
    weights: &Weights,
    before: &State,
    batch: &Batch,
    config: ExecutionConfig,
) -> Result<Option<String>, TrainError> {
    let mut reference = run_again(graph, weights, before, batch, config)?;
    let losses: Vec<f64> = batch.loss_mask().iter().map(|&counts| f64::from(u8::from(counts))).collect();
    // A second output is what losses are divided by.
    let mut seeds = vec![None; graph.outputs().len()];
    seeds[0] = Some(Values::F64(&losses));
    reference.backward(batch.frames(), &seeds)?;
    Ok(reference.first_non_finite_derivative().map(|derivative| {
        format!(
            "{derivative} of the window. Keep the network away from there by an epsilon, as in `sqrt(x + 1e-6)` or \
             `a / (b + 1e-6)`"
        )
    }))
}

/// The window again, forward.
fn run_again(
    graph: &Graph,
    weights: &Weights,
    before: &State,
    batch: &Batch,
    config: ExecutionConfig,
) -> Result<ReferenceExecutor, TrainError> {
    let frames = batch.frames();
    // With gradients, for the plan to keep the same layers' histories as the plan that was trained.
    let plan = Plan::new(graph, PlanOptions::training(config.streams, frames))?;
    let mut reference =
        ReferenceExecutor::new(plan, ExecutionConfig { window: frames, step: frames, ..config })?;
    weights.put_into(&mut reference, ParameterArray::Weight)?;
    reference.set_state(before)?;
    reference.forward(frames, &batch.inputs(), Some(batch.resets()))?;
    Ok(reference)
}

/// `h.W.x` is NaN at [0, 3]
pub(crate) fn first_non_finite(graph: &Graph, weights: &Weights) -> Option<String> {
    graph.weights().iter().zip(&weights.0).find_map(|(weight, values)| {
        let place = values.iter().position(|x| !x.is_finite())?;
        Some(format!("`{}` is {} at {:?}", weight.name, values[place], index_of(place, &weight.shape)))
    })
}
