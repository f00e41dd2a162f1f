//! Gradients of the state, from an executor and from the reference: of what each window leaves, and of what it begins with.

use crate::case::Case;
use crate::check::Make;
use crate::data::{Array, Data, Random, WindowData};
use rnnc_graph::{LayerKind, WeightId, state_vectors};
use rnnc_plan::{Executor, ParameterArray, Plan, PlanOptions, Values, ValuesMut};
use rnnc_reference::ReferenceExecutor;

/// Compares an executor's gradients with the reference's on a case, window by window, where the functional depends on the state
/// that each window leaves too: those of weights, of inputs, and of the state that the window began with.
///
/// Numbers may differ by `tolerance` times the largest magnitude in their array plus a hundredth.
///
/// # Errors
/// Says what differs: the array, the place, both values.
pub fn check_state_gradients(case: &Case, make: Make<'_>, tolerance: f64) -> Result<(), String> {
    let says = |error: String| format!("{}: {error}", case.name);
    check(case, make, tolerance).map_err(says)
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn check(case: &Case, make: Make<'_>, tolerance: f64) -> Result<(), String> {
    let data = Data::draw(case);
    let plan = || {
        let options = PlanOptions::training(case.streams, case.window);
        Plan::new(&case.graph, options.with_input_gradients().with_state_gradients()).map_err(text)
    };
    let mut reference = ReferenceExecutor::new(plan()?, case.config()).map_err(text)?;
    let mut candidate = make(plan()?, case.config()).map_err(text)?;
    for executor in [&mut reference as &mut dyn Executor, candidate.as_mut()] {
        for (id, values) in data.weights.iter().enumerate() {
            let id = WeightId::from_index(id);
            executor.write(ParameterArray::Weight, id, Values::F32(values)).map_err(text)?;
        }
    }
    let mut random = Random(case.seed ^ 7);
    let mut run = 0;
    for (place, window) in data.windows.iter().enumerate() {
        run += window.frames;
        let back = if case.step == case.window { window.frames } else { run.min(case.window) };
        // Of every third vector nothing depends.
        let graph = &reference.plan().forward;
        let left: Vec<Option<Vec<f32>>> = state_vectors(graph)
            .enumerate()
            .map(|(vector, (id, depth))| {
                let values = random.numbers(depth * case.streams * graph.layer_at(id).size, 1.0);
                (!(place + vector).is_multiple_of(3)).then_some(values)
            })
            .collect();
        let expected = gradients(&mut reference, window, back, &left)?;
        let found = gradients(candidate.as_mut(), window, back, &left)?;
        for ((name, expected), (_, found)) in expected.iter().zip(&found) {
            compare(expected, found, tolerance)
                .map_err(|error| format!("window {place}: {name}: {error}"))?;
        }
    }
    Ok(())
}

/// All gradients of a window, with what they are of.
fn gradients(
    executor: &mut dyn Executor,
    window: &WindowData,
    back: usize,
    left: &[Option<Vec<f32>>],
) -> Result<Vec<(String, Vec<f64>)>, String> {
    let inputs: Vec<Values<'_>> = window.inputs.iter().map(Array::values).collect();
    executor.forward(window.frames, &inputs, window.resets.as_deref()).map_err(text)?;
    executor.backward_from(back, &optional(&window.errors), &optional(left)).map_err(text)?;
    let (graph, streams) = (executor.plan().forward.clone(), executor.config().streams);
    let mut all = Vec::new();
    for (id, weight) in graph.weights().iter().enumerate() {
        let mut values = vec![0.0; weight.len()];
        let into = ValuesMut::F64(&mut values);
        executor.read(ParameterArray::Gradient, WeightId::from_index(id), into).map_err(text)?;
        all.push((format!("the gradient of {}", weight.name), values));
    }
    for (place, &id) in graph.inputs().iter().enumerate() {
        let layer = graph.layer_at(id);
        if layer.kind != LayerKind::Symbol {
            let mut values = vec![0.0; back * streams * layer.size];
            executor.input_gradient(place, ValuesMut::F64(&mut values)).map_err(text)?;
            all.push((format!("the gradient of input {}", layer.name), values));
        }
    }
    for (place, (id, depth)) in state_vectors(&graph).enumerate() {
        let layer = graph.layer_at(id);
        let mut values = vec![0.0; depth * streams * layer.size];
        executor.state_gradient(place, ValuesMut::F64(&mut values)).map_err(text)?;
        all.push((format!("the gradient of the state of {}", layer.name), values));
    }
    Ok(all)
}

fn compare(expected: &[f64], found: &[f64], tolerance: f64) -> Result<(), String> {
    let largest = expected.iter().fold(0.01f64, |most, x| most.max(x.abs()));
    let off = |(_, (e, f)): &(usize, (&f64, &f64))| {
        (*e - *f).abs() > tolerance * (largest + 0.01) || e.is_nan() != f.is_nan()
    };
    match expected.iter().zip(found).enumerate().find(off) {
        None => Ok(()),
        Some((place, (e, f))) => Err(format!("value {place} is {f:e}, not {e:e}")),
    }
}

fn optional(arrays: &[Option<Vec<f32>>]) -> Vec<Option<Values<'_>>> {
    arrays.iter().map(|array| array.as_ref().map(|values| Values::F32(values))).collect()
}
