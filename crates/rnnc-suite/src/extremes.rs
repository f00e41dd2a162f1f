//! Whether an executor's numbers are right where single precision is at its edges: functions over all numbers there are,
//! and the library's cells with inputs and biases from nothing to far too much.

use crate::altered::{Alteration, Altered};
use crate::cells::cell_networks;
use crate::check::Make;
use crate::data::Random;
use rnnc_graph::{Activation, Connect, Graph, WeightId, initial_values};
use rnnc_plan::{ExecutionConfig, Executor, ParameterArray, Plan, PlanOptions, Values, ValuesMut};
use rnnc_reference::ReferenceExecutor;

/// Units of a layer of functions.
const UNITS: usize = 64;

/// Checks every activation and its derivative at each sign and exponent and some mantissas: within 1e-6 of themselves, or 0
/// where that is smaller than the smallest normal number. The derivatives of sigmoid and tanh, which are computed from
/// rounded values near 1, may miss 2e-7.
///
/// # Errors
/// Says where a value is wrong.
pub fn check_functions(make: Make<'_>) -> Result<(), String> {
    let mut graph = Graph::new("functions");
    for f in Activation::ALL {
        let x = graph.input(f.name(), UNITS);
        let y = graph.sum(format!("{} of it", f.name()), UNITS, f);
        graph.connect(x, y, Connect::identity());
        graph.output(f.name(), y);
    }
    let mut x = vec![f32::INFINITY, f32::NEG_INFINITY, f32::NAN];
    for exponent in 0..0x1ff_u32 {
        for mantissa in [0, 1, 0x20_0001, 0x40_0000, 0x5a_82f3, 0x7f_fffe, 0x7f_ffff] {
            // What is no normal number may count as 0.
            x.extend(Some(f32::from_bits(exponent << 23 | mantissa)).filter(|x| x.is_normal() || *x == 0.0));
        }
    }
    x.resize(x.len().next_multiple_of(UNITS), 1.0);
    let frames = x.len() / UNITS;
    let options = PlanOptions::training(1, frames).with_input_gradients();
    let plan = Plan::new(&graph, options).map_err(|e| e.to_string())?;
    let mut executor = make(plan, ExecutionConfig::new(1, frames)).map_err(|e| e.to_string())?;
    let (inputs, ones) = (vec![Values::F32(&x); Activation::ALL.len()], vec![1.0f32; x.len()]);
    executor.forward(frames, &inputs, None).map_err(|e| e.to_string())?;
    let errors = vec![Some(Values::F32(&ones)); inputs.len()];
    executor.backward(frames, &errors).map_err(|e| e.to_string())?;
    let mut wrong = Vec::new();
    for (i, f) in Activation::ALL.into_iter().enumerate() {
        let (mut y, mut d) = (vec![0.0f32; x.len()], vec![0.0f32; x.len()]);
        executor.output(i, ValuesMut::F32(&mut y)).map_err(|e| e.to_string())?;
        executor.input_gradient(i, ValuesMut::F32(&mut d)).map_err(|e| e.to_string())?;
        for ((&x, y), d) in x.iter().zip(y).zip(d) {
            let slack = if matches!(f, Activation::Sigmoid | Activation::Tanh) { 2e-7 } else { 0.0 };
            for (what, got, want, slack) in
                [("", y, f.apply(x.into()), 0.0), ("the derivative of ", d, derivative(f, x.into()), slack)]
            {
                if !near(got, want, slack) {
                    wrong.push(format!("{what}{} at {x:e}: {got:e}, not {want:e}", f.name()));
                }
            }
        }
    }
    wrong.truncate(40);
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
}

/// f'(x), of the argument, without cancellation.
fn derivative(f: Activation, x: f64) -> f64 {
    let sigmoid = |x| Activation::Sigmoid.apply(x);
    match f {
        Activation::Sigmoid => sigmoid(x) * sigmoid(-x),
        Activation::Tanh => 4.0 * sigmoid(2.0 * x) * sigmoid(-2.0 * x),
        Activation::Softplus => sigmoid(x),
        Activation::Sqrt => 0.5 / x.sqrt(),
        Activation::Exp => x.exp(),
        // Kinks, of which the value says on which side it is.
        Activation::Relu | Activation::LeakyRelu | Activation::HardTanh => f.derivative(f.apply(x)),
        _ => f.derivative(x),
    }
}

fn near(got: f32, want: f64, slack: f64) -> bool {
    if want.is_nan() || got.is_nan() {
        return want.is_nan() && got.is_nan();
    }
    if (want as f32).is_infinite() || got.is_infinite() {
        // Close to the largest number, a rounding decides.
        return want.abs() > 0.999_999 * f64::from(f32::MAX)
            && (got.is_infinite() || got.abs() > 0.999_999 * f32::MAX);
    }
    (f64::from(got) - want).abs() <= 1e-6 * want.abs() + slack + 1.5e-45
        || (got == 0.0 && want.abs() < f64::from(f32::MIN_POSITIVE))
}

/// Checks every cell of the library with inputs of 0 to 1e4 and biases of 0 and 100 and -100, forward and backward: no number
/// that is finite in double precision is anything else, and all are as near to it as an array's largest number times 1e-4,
/// or as the last bits of weights and values allow.
///
/// # Errors
/// Says which cell is wrong, for what.
pub fn check_cells(make: Make<'_>) -> Result<(), String> {
    let mut wrong = Vec::new();
    for (name, graph) in cell_networks(3, 8).into_iter().filter(|(name, _)| name.starts_with("cell_")) {
        wrong.extend(cell(&name, &graph, make).err());
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
}

fn cell(name: &str, graph: &Graph, make: Make<'_>) -> Result<(), String> {
    const FRAMES: usize = 6;
    let text = |error: rnnc_plan::ExecutorError| format!("{name}: {error}");
    let plan = || {
        let options = PlanOptions::training(1, FRAMES).with_input_gradients();
        Plan::new(graph, options).map_err(|e| format!("{name}: {e}"))
    };
    let config = ExecutionConfig::new(1, FRAMES);
    let mut candidate = make(plan()?, config).map_err(text)?;
    let mut reference = ReferenceExecutor::new(plan()?, config).map_err(text)?;
    let altered = |alteration| Altered::make(plan()?, config, alteration).map_err(text);
    let (mut moved, mut rounded) = (altered(Alteration::LastBits)?, altered(Alteration::Rounded)?);
    for bias in [0f32, 100.0, -100.0] {
        for (id, weight) in graph.weights().iter().enumerate() {
            let mut values: Vec<f32> = initial_values(weight, 1).iter().map(|&x| x as f32).collect();
            if weight.name.contains(".bias") {
                values.fill(bias);
            }
            for executor in [candidate.as_mut(), &mut reference, moved.as_mut(), rounded.as_mut()] {
                executor
                    .write(ParameterArray::Weight, WeightId::from_index(id), Values::F32(&values))
                    .map_err(text)?;
            }
        }
        for size in [0.0, 1e-30, 1.0, 1e2, 1e4] {
            let says = |error: String| format!("{name}, inputs of {size:e}, biases of {bias}: {error}");
            let want = numbers(graph, &mut reference, FRAMES, size).map_err(says)?;
            let moved = numbers(graph, moved.as_mut(), FRAMES, size).map_err(says)?;
            let rounded = numbers(graph, rounded.as_mut(), FRAMES, size).map_err(says)?;
            let got = numbers(graph, candidate.as_mut(), FRAMES, size).map_err(says)?;
            for (k, (what, want)) in want.iter().enumerate() {
                let altered = [&moved[k].1[..], &rounded[k].1];
                compare(want, altered, &got[k].1).map_err(|error| says(format!("{what}: {error}")))?;
            }
        }
    }
    Ok(())
}

/// Outputs and all gradients, by what they are.
fn numbers(
    graph: &Graph,
    executor: &mut dyn Executor,
    frames: usize,
    size: f64,
) -> Result<Vec<(String, Vec<f64>)>, String> {
    let text = |error: rnnc_plan::ExecutorError| error.to_string();
    let mut random = Random(7);
    let len = |layer| frames * graph.layer_at(layer).size;
    let inputs: Vec<Vec<f32>> = graph.inputs().iter().map(|&i| random.numbers(len(i), size)).collect();
    let errors: Vec<Vec<f32>> = graph.outputs().iter().map(|o| random.numbers(len(o.layer), 1.0)).collect();
    let inputs: Vec<Values<'_>> = inputs.iter().map(|x| Values::F32(x)).collect();
    let errors: Vec<Option<Values<'_>>> = errors.iter().map(|x| Some(Values::F32(x))).collect();
    executor.clear_state();
    executor.forward(frames, &inputs, None).map_err(text)?;
    executor.backward(frames, &errors).map_err(text)?;
    let mut all = Vec::new();
    for (i, output) in graph.outputs().iter().enumerate() {
        let mut values = vec![0.0; len(output.layer)];
        executor.output(i, ValuesMut::F64(&mut values)).map_err(text)?;
        all.push((format!("output `{}`", output.name), values));
    }
    for (i, &input) in graph.inputs().iter().enumerate() {
        let mut values = vec![0.0; len(input)];
        executor.input_gradient(i, ValuesMut::F64(&mut values)).map_err(text)?;
        all.push((format!("gradient of input `{}`", graph.layer_at(input).name), values));
    }
    for (i, weight) in graph.weights().iter().enumerate() {
        let mut values = vec![0.0; weight.len()];
        executor
            .read(ParameterArray::Gradient, WeightId::from_index(i), ValuesMut::F64(&mut values))
            .map_err(text)?;
        all.push((format!("gradient of `{}`", weight.name), values));
    }
    Ok(all)
}

/// `altered` are the reference's numbers with the weights' last bits changed, and with all values rounded: what no executor in
/// single precision can do better than. (A gate at 1 - 1e-7 has a derivative of 1e-7, and half of that by its rounded value.)
fn compare(want: &[f64], altered: [&[f64]; 2], got: &[f64]) -> Result<(), String> {
    let largest = want.iter().fold(0f64, |most, x| most.max(x.abs()));
    let apart = |altered: &[f64]| {
        let apart = want.iter().zip(altered).map(|(a, b)| (a - b).abs());
        apart.filter(|x| x.is_finite()).fold(0f64, f64::max)
    };
    let sensitive = altered.into_iter().map(apart).fold(0f64, f64::max);
    for (i, (&want, &got)) in want.iter().zip(got).enumerate() {
        if want.is_finite() && !got.is_finite() && (want as f32).is_finite() {
            return Err(format!("number {i} is {got:e}, not {want:e}"));
        }
        // Below the smallest normal numbers, all may be 0.
        let within = 1e-4 * largest + 64.0 * sensitive + 1e-37;
        if want.is_finite() && (got - want).abs() > within {
            return Err(format!("number {i} is {got:e}, not {want:e}, of at most {largest:e}"));
        }
        if !want.is_finite() {
            return Err(format!("number {i} is {want} in double precision"));
        }
    }
    Ok(())
}
