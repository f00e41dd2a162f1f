//! Whether an executor's numbers are right where single precision is at its edges: functions over all numbers there are,
//! and the library's cells with inputs and biases from nothing to far too much.

use crate::cells::cell_networks;
use rnnc_graph::{Activation, Connect, Graph, initial_values};
use rnnc_plan::{ExecutionConfig, ExecutorError, Plan, PlanOptions, Values, ValuesMut};
use rnnc_reference::ReferenceExecutor;
use rnnc_verify::{
    Array, LAST_BITS, Make, Random, Tolerance, Trial, Window, compare, moved, run, write_double,
    write_weights,
};

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

/// What is below the smallest normal numbers may be 0. (A gate at 1 - 1e-7 has a derivative of 1e-7, and half of that by its
/// rounded value: of what last bits make of a number, an executor may make some times more.)
const CELLS: Tolerance = Tolerance { relative: 1e-4, floor: 1e-33, amplified: 64.0 };

fn cell(name: &str, graph: &Graph, make: Make<'_>) -> Result<(), String> {
    const FRAMES: usize = 6;
    let text = |error: ExecutorError| format!("{name}: {error}");
    let config = ExecutionConfig::new(1, FRAMES);
    let mut trial = Trial { graph, config, weights: Vec::new(), windows: Vec::new() };
    let plan = || trial.plan().map_err(|error| format!("{name}: {error}"));
    let reference = || ReferenceExecutor::new(plan()?, config).map_err(text);
    let mut candidate = make(plan()?, config).map_err(text)?;
    let (mut expected, mut other_bits) = (reference()?, reference()?);
    let mut rounded = reference()?.with_rounding(f64::from(f32::EPSILON) / 2.0, 1);
    for bias in [0f32, 100.0, -100.0] {
        let weights = graph.weights().iter().map(|weight| match weight.name.contains(".bias") {
            true => vec![bias; weight.len()],
            false => initial_values(weight, 1).iter().map(|&x| x as f32).collect(),
        });
        trial.weights = weights.collect();
        write_weights(candidate.as_mut(), &trial.weights).map_err(text)?;
        write_weights(&mut expected, &trial.weights).map_err(text)?;
        write_weights(&mut rounded, &trial.weights).map_err(text)?;
        write_double(&mut other_bits, &moved(&trial.weights, LAST_BITS)).map_err(text)?;
        for size in [0.0, 1e-30, 1.0, 1e2, 1e4] {
            trial.windows = vec![window(graph, FRAMES, size)];
            let says = |error: String| format!("{name}, inputs of {size:e}, biases of {bias}: {error}");
            let expected = run(&mut expected, &trial).map_err(text)?;
            let altered =
                [run(&mut other_bits, &trial), run(&mut rounded, &trial)].map(|all| all.map_err(text));
            let [other_bits, rounded] = altered;
            let found = run(candidate.as_mut(), &trial).map_err(text)?;
            for (expected, found) in expected.iter().zip(&found) {
                for (place, (e, f)) in expected.values.iter().zip(&found.values).enumerate() {
                    if !e.is_finite() || (*e as f32).is_finite() && !f.is_finite() {
                        let array = &expected.name;
                        return Err(says(format!(
                            "{array}: value {place} is {f:e}, and the reference gives {e:e}"
                        )));
                    }
                }
            }
            let findings = compare(&expected, &[other_bits?, rounded?], &found, CELLS);
            if let Some((array, problem)) = findings.into_iter().find_map(|f| Some((f.array, f.problem?))) {
                return Err(says(format!("{array}: {problem}")));
            }
        }
    }
    Ok(())
}

/// Inputs of up to that size, and gradients of up to 1.
fn window(graph: &Graph, frames: usize, size: f64) -> Window {
    let mut random = Random(7);
    let len = |layer| frames * graph.layer_at(layer).size;
    let inputs = graph.inputs().iter().map(|&i| Array::Numbers(random.numbers(len(i), size))).collect();
    let gradients = graph.outputs().iter().map(|o| Some(random.numbers(len(o.layer), 1.0))).collect();
    Window { frames, inputs, resets: None, output_gradients: gradients }
}
