//! Gradients of the state, from an executor and from the reference: of what each window leaves, and of what it begins with.

use crate::case::Case;
use rnnc_graph::state_vectors;
use rnnc_plan::{Executor, ParameterArray, Plan, PlanOptions};
use rnnc_reference::ReferenceExecutor;
use rnnc_verify::{
    Make, Named, Random, agree, input_gradients, state_gradients, weight_arrays, write_weights,
};

/// Compares an executor's gradients with the reference's on a case, window by window, where the functional depends on the state
/// that each window leaves too: those of weights, of inputs, and of the state that the window began with.
///
/// Numbers may differ by `tolerance` times the largest magnitude in their array plus a hundredth.
///
/// # Errors
/// Says what differs: the array, the place, both values.
pub fn check_state_gradients(case: &Case, make: Make<'_>, tolerance: f64) -> Result<(), String> {
    check(case, make, tolerance).map_err(|error| format!("{}: {error}", case.name))
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn check(case: &Case, make: Make<'_>, tolerance: f64) -> Result<(), String> {
    let trial = case.trial()?;
    let plan = || {
        let options = PlanOptions::training(case.streams, case.window);
        Plan::new(&case.graph, options.with_input_gradients().with_state_gradients()).map_err(text)
    };
    let mut reference = ReferenceExecutor::new(plan()?, case.config()).map_err(text)?;
    let mut candidate = make(plan()?, case.config()).map_err(text)?;
    write_weights(&mut reference, &trial.weights).map_err(text)?;
    write_weights(candidate.as_mut(), &trial.weights).map_err(text)?;
    let mut random = Random(case.seed ^ 7);
    let mut run = 0;
    for (place, window) in trial.windows.iter().enumerate() {
        run += window.frames;
        let back = trial.back(window.frames, run);
        // Of every third vector nothing depends.
        let graph = &reference.plan().forward;
        let left: Vec<Option<Vec<f32>>> = state_vectors(graph)
            .enumerate()
            .map(|(vector, (id, depth))| {
                let values = random.numbers(depth * case.streams * graph.layer_at(id).size, 1.0);
                (!(place + vector).is_multiple_of(3)).then_some(values)
            })
            .collect();
        let gradients = |executor: &mut dyn Executor| -> Result<Vec<Named>, String> {
            window.forward(executor).map_err(text)?;
            window.backward_from(executor, back, &left).map_err(text)?;
            let mut all = weight_arrays(executor, ParameterArray::Gradient).map_err(text)?;
            all.extend(input_gradients(executor, back).map_err(text)?);
            all.extend(state_gradients(executor).map_err(text)?);
            Ok(all)
        };
        let (expected, found) = (gradients(&mut reference)?, gradients(candidate.as_mut())?);
        agree(&expected, &found, tolerance).map_err(|error| format!("window {place}: {error}"))?;
    }
    Ok(())
}
