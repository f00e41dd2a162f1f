//! An executor against the reference: outputs, gradients and states, window by window.
//!
//! How much they may differ follows from how much the network amplifies rounding: the reference runs some more times with
//! weights altered in the last bits of the executor's precision, and a rounding at random of every number.

use crate::check::Finding;
use crate::executors::{ExecutorArgs, ExecutorKind, Precision, make};
use crate::trial::Trial;
use rnnc_graph::{Graph, LayerKind, WeightId};
use rnnc_plan::{
    ExecutionConfig, Executor, ExecutorError, ParameterArray, Plan, PlanOptions, State, Values, ValuesMut,
};
use rnnc_reference::ReferenceExecutor;

/// How an executor rounds.
struct Rounding {
    /// Half of a last bit.
    unit: f64,
    /// How much results may differ, of an array's largest magnitude and a hundredth.
    tolerance: f64,
}

const SINGLE: Rounding = Rounding { unit: 6e-8, tolerance: 1e-4 };
const TF32: Rounding = Rounding { unit: 4.9e-4, tolerance: 5e-3 };
const BF16: Rounding = Rounding { unit: 3.9e-3, tolerance: 4e-2 };

/// How often the reference runs with roundings.
const ALTERED: u64 = 3;

/// Of what these make of the array.
const AMPLIFIED: f64 = 15.0;

/// Compares an executor with the reference.
pub fn check(graph: &Graph, trial: &Trial, executor: &ExecutorArgs) -> anyhow::Result<Vec<Finding>> {
    let rounding = match executor.precision {
        Some(Precision::Tf32) => TF32,
        Some(Precision::Bf16) => BF16,
        Some(Precision::F32) | None => SINGLE,
    };
    // First, for it may refuse.
    let found = all_arrays(graph, trial, executor, &|plan, config| {
        make(executor.executor, plan, config, executor.precision)
    })?;
    let args = ExecutorArgs { executor: ExecutorKind::Reference, precision: None, ..*executor };
    let reference = |unit: f64, seed: u64| {
        move |plan, config| -> Result<Box<dyn Executor>, ExecutorError> {
            Ok(Box::new(ReferenceExecutor::new(plan, config)?.with_rounding(unit, seed)))
        }
    };
    let expected = all_arrays(graph, trial, &args, &reference(0.0, 0))?;
    let weights = alter(trial, rounding.unit);
    let run = |seed| all_arrays(graph, &weights, &args, &reference(rounding.unit, seed));
    let altered = (0..ALTERED).map(run).collect::<Result<Vec<_>, _>>()?;
    Ok(expected
        .iter()
        .zip(&found)
        .enumerate()
        .map(|(place, (e, f))| {
            let altered: Vec<&[f64]> = altered.iter().map(|run| &*run[place].values).collect();
            compare(e, &altered, &f.values, rounding.tolerance)
        })
        .collect())
}

/// An array that came out of an executor.
struct Named {
    name: String,
    values: Vec<f64>,
}

fn compare(expected: &Named, altered: &[&[f64]], found: &[f64], tolerance: f64) -> Finding {
    let largest = expected.values.iter().filter(|x| x.is_finite()).fold(0.0f64, |m, x| m.max(x.abs())) + 0.01;
    let pairs = |others: &[f64]| -> Vec<f64> {
        let off = |(e, f): (&f64, &f64)| if e == f || e.is_nan() && f.is_nan() { 0.0 } else { (e - f).abs() };
        expected.values.iter().zip(others).map(off).collect()
    };
    let amplified = altered.iter().flat_map(|a| pairs(a)).filter(|x| x.is_finite()).fold(0.0, f64::max);
    let allowed = tolerance * largest + AMPLIFIED * amplified;
    let mut finding = Finding::of(&*expected.name);
    for (place, off) in pairs(found).into_iter().enumerate() {
        // On the edge of a function's domain, or at a pole, where the last bits decide whether there is a number, and which
        // infinity.
        let kind = |x: f64| if x.is_finite() { None } else { Some((x.is_nan(), x > 0.0)) };
        if altered.iter().any(|a| kind(expected.values[place]) != kind(a[place])) {
            continue;
        }
        if off > finding.error * largest {
            finding.error = off / largest;
        }
        // A NaN on one side alone is within nothing.
        if (off > allowed || off.is_nan()) && finding.problem.is_none() {
            let (value, wanted) = (found[place], expected.values[place]);
            // There the executor is right, but of no use.
            let past = if wanted.abs() > f64::from(f32::MAX) {
                ": the network leaves what single precision holds, 3.4e38"
            } else {
                ""
            };
            finding.problem = Some(format!(
                "value {place} of {} is {value:e}, and the reference gives {wanted:e}{past}",
                expected.values.len()
            ));
        }
    }
    if found.len() != expected.values.len() {
        finding.problem =
            Some(format!("it has {} values, and the reference's {}", found.len(), expected.values.len()));
    }
    finding
}

/// The weights moved by so much of themselves, up and down in turn.
fn alter(trial: &Trial, by: f64) -> Trial {
    let mut altered = trial.clone();
    for (place, value) in altered.weights.iter_mut().flatten().enumerate() {
        *value *= if place % 2 == 0 { 1.0 + by } else { 1.0 - by };
    }
    altered
}

/// Runs all frames, in two windows if the network is causal, errors going back through both; everything that comes out.
fn all_arrays(
    graph: &Graph,
    trial: &Trial,
    args: &ExecutorArgs,
    make: &dyn Fn(Plan, ExecutionConfig) -> Result<Box<dyn Executor>, ExecutorError>,
) -> anyhow::Result<Vec<Named>> {
    let threads = args.threads;
    let (frames, streams) = (trial.frames, trial.streams);
    let half = if graph.looks_ahead() { 0 } else { frames / 2 };
    let windows: Vec<_> = [0..half, half..frames].into_iter().filter(|w| !w.is_empty()).collect();
    let step = windows.iter().map(ExactSizeIterator::len).max().unwrap_or(frames);
    let options = PlanOptions::training(streams, frames).with_input_gradients();
    let config = ExecutionConfig { window: frames, step, threads, ..trial.config() };
    let mut executor = make(Plan::new(graph, options)?, config)?;
    for (place, weight) in trial.weights.iter().enumerate() {
        executor.write(ParameterArray::Weight, WeightId::from_index(place), Values::F64(weight))?;
    }

    let mut all = Vec::new();
    for (number, window) in windows.iter().enumerate() {
        let place = format!("window {} of {}", number + 1, windows.len());
        let rows = |size: usize| window.start * streams * size..window.end * streams * size;
        let inputs: Vec<_> = trial.inputs.iter().zip(&trial.sizes).map(|(v, &n)| v.part(rows(n))).collect();
        executor.forward(window.len(), &inputs, Some(&trial.resets[rows(1)]))?;
        let mut errors = Vec::new();
        for (output, gradient) in graph.outputs().iter().zip(&trial.output_gradients) {
            let size = graph.layer_at(output.layer).size;
            let mut values = vec![0.0; window.len() * streams * size];
            executor.output(errors.len(), ValuesMut::F64(&mut values))?;
            all.push(Named { name: format!("output {} in {place}", output.name), values });
            errors.push(Some(Values::F64(&gradient[rows(size)])));
        }
        executor.backward(window.end, &errors)?;
        gradients(&mut all, graph, &*executor, window.end, &place)?;
    }
    histories(&mut all, executor.forward_state()?);
    Ok(all)
}

fn gradients(
    all: &mut Vec<Named>,
    graph: &Graph,
    executor: &dyn Executor,
    frames: usize,
    place: &str,
) -> anyhow::Result<()> {
    for (number, weight) in graph.weights().iter().enumerate() {
        let mut values = vec![0.0; weight.len()];
        executor.read(ParameterArray::Gradient, WeightId::from_index(number), ValuesMut::F64(&mut values))?;
        all.push(Named { name: format!("gradient of {} in {place}", weight.name), values });
    }
    for (number, &id) in graph.inputs().iter().enumerate() {
        let layer = graph.layer_at(id);
        if layer.kind != LayerKind::Symbol {
            let mut values = vec![0.0; frames * executor.config().streams * layer.size];
            executor.input_gradient(number, ValuesMut::F64(&mut values))?;
            all.push(Named { name: format!("gradient of input {} in {place}", layer.name), values });
        }
    }
    Ok(())
}

/// The state, but for frames before the newest reset, which are never read.
fn histories(all: &mut Vec<Named>, state: State) {
    let streams = state.since_reset.len();
    for mut history in state.histories {
        for (row, units) in history.values.chunks_mut(history.size.max(1)).enumerate() {
            let (frame, stream) = (row / streams, row % streams);
            if (history.depth - frame) as u64 > state.since_reset[stream] {
                units.fill(0.0);
            }
        }
        all.push(Named { name: format!("state of {}", history.layer), values: history.values });
    }
    let values = state.since_reset.iter().map(|&since_reset| since_reset as f64).collect();
    all.push(Named { name: "ages".into(), values });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_beyond_the_rounding_that_a_network_amplifies_are_found() {
        let expected = Named { name: "y".into(), values: vec![1.0, -2.0, f64::NAN] };
        let same = compare(&expected, &[&[1.0, -2.0, f64::NAN]], &[1.0001, -2.0, f64::NAN], 1e-4);
        assert!(same.problem.is_none() && same.error > 4e-5, "{same:?}");
        let other = compare(&expected, &[&[1.0, -2.0, f64::NAN]], &[1.001, -2.0, f64::NAN], 1e-4);
        assert_eq!(other.problem.unwrap(), "value 0 of 3 is 1.001e0, and the reference gives 1e0");
        let amplified = compare(&expected, &[&[1.001, -2.0, f64::NAN]], &[1.001, -2.0, f64::NAN], 1e-4);
        assert!(amplified.problem.is_none(), "{amplified:?}");
        let pole = Named { name: "y".into(), values: vec![f64::INFINITY] };
        let found =
            |altered: f64, found: f64| compare(&pole, &[&[altered]], &[found], 1e-4).problem.is_some();
        assert!(!found(f64::INFINITY, f64::INFINITY) && !found(f64::NEG_INFINITY, f64::NEG_INFINITY));
        assert!(!found(f64::NAN, f64::NEG_INFINITY));
        assert!(found(f64::INFINITY, f64::NEG_INFINITY) && found(f64::INFINITY, f64::NAN));
        let lost = compare(&expected, &[&[1.0, -2.0, f64::NAN]], &[f64::NAN, -2.0, f64::NAN], 1e-4);
        assert!(lost.problem.is_some());
    }
}
