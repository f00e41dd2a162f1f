//! Gradients against finite differences, on the reference executor, in double precision.
//!
//! For each weight and each vector input: the derivative along one random direction through all of its entries, and along
//! some entries alone. [`judge`] tells a wrong gradient from what differences cannot do.

use crate::compare::Finding;
use crate::error::VerifyError;
use crate::frozen::Frozen;
use crate::judge::{Verdict, judge};
use crate::random::Random;
use crate::run::{Make, input_gradients, outputs, weight_arrays, write_weights};
use crate::trial::{Array, Trial, Window};
use rnnc_graph::{Graph, WeightId};
use rnnc_plan::{Executor, ExecutorError, ParameterArray, Plan, PlanOptions, State, Values};
use rnnc_reference::ReferenceExecutor;

/// What differences say of a network.
#[derive(Debug)]
pub struct Differences {
    /// Of each weight and vector input.
    pub findings: Vec<Finding>,
    /// Where the outputs themselves are no numbers, so that nothing can be said of any gradient.
    pub outside: Option<String>,
    /// Why some derivatives, which were left out, are infinite or no numbers.
    pub non_finite: Option<String>,
    /// Whether some entries were not moved alone.
    pub sampled: bool,
}

/// Is told how many derivatives are checked, and of how many.
pub type Progress<'a> = &'a mut dyn FnMut(u64, u64);

/// Checks an executor's gradients of all weights and vector inputs in a trial's last window, after the others; at most `entries`
/// entries of each are moved alone. The executor must compute in double precision.
///
/// # Errors
/// Those of the executors.
pub fn differences(
    trial: &Trial<'_>,
    entries: usize,
    make: Make<'_>,
    progress: Progress<'_>,
) -> Result<Differences, VerifyError> {
    let Some((last, before)) = trial.windows.split_last() else {
        return Ok(Differences { findings: Vec::new(), outside: None, non_finite: None, sampled: false });
    };
    let mut objective = Objective::new(trial, last, before)?;
    let moved = Moved::all(trial, last);
    let sampled = moved.iter().any(|m| m.values.len() > entries);
    if !objective.magnitude.is_finite() {
        return Ok(Differences {
            findings: moved.into_iter().map(|m| Finding::of(m.name)).collect(),
            outside: Some(objective.first_non_finite()),
            non_finite: None,
            sampled,
        });
    }
    let mut executor = make(trial.plan()?, trial.config)?;
    let gradients = gradients(executor.as_mut(), trial)?;
    let are_finite = |gradients: &[Vec<f64>]| gradients.iter().flatten().all(|x| x.is_finite());
    let non_finite = match are_finite(&gradients) {
        true => None,
        false => non_finite(trial, are_finite)?,
    };
    let mut random = Random(trial.config.seed);
    let (mut done, total) = (0, moved.iter().map(|m| 1 + entries.min(m.values.len()) as u64).sum());
    progress(done, total);
    let mut findings = Vec::new();
    for (moved, gradient) in moved.iter().zip(&gradients) {
        let mut finding = Finding::of(&*moved.name);
        for direction in &directions(moved.values.len(), entries, &mut random) {
            let derivative: f64 = direction.iter().map(|&(i, far)| gradient[i] * far).sum();
            if non_finite.is_some() && !derivative.is_finite() {
                finding.unchecked = Some(format!("the derivative {} is {derivative}", along(direction)));
            } else {
                let verdict = judge(derivative, objective.magnitude, |step| {
                    let mut elsewhere = moved.values.clone();
                    direction.iter().for_each(|&(i, far)| elsewhere[i] += step * far);
                    objective.with(moved, elsewhere)
                })?;
                note(&mut finding, direction, derivative, verdict);
            }
            done += 1;
            progress(done, total);
        }
        findings.push(finding);
    }
    Ok(Differences { findings, outside: None, non_finite, sampled })
}

/// Adds what differences say of one derivative.
fn note(finding: &mut Finding, direction: &Direction, derivative: f64, verdict: Verdict) {
    let along = || along(direction);
    match verdict {
        Verdict::Agrees(off) => finding.error = finding.error.max(off),
        Verdict::Differs(difference) if finding.problem.is_none() => {
            let off = (derivative - difference).abs() / derivative.abs().max(difference.abs());
            finding.error = if off.is_nan() { f64::INFINITY } else { off };
            finding.problem = Some(format!(
                "the derivative {} is {derivative:e}, and differences give {difference:e}",
                along()
            ));
        }
        Verdict::Differs(_) => {}
        Verdict::Outside => {
            let why = format!("the data lies on the edge of a function's domain {}", along());
            finding.unchecked.get_or_insert(why);
        }
        Verdict::Unsettled => {
            let why = format!("differences settle on no number {} (rounding, or kinks)", along());
            finding.unchecked.get_or_insert(why);
        }
    }
}

/// Where to move: (entry, how far) pairs.
type Direction = Vec<(usize, f64)>;

fn along(direction: &Direction) -> String {
    match direction.as_slice() {
        [(i, _)] => format!("along entry {i}"),
        _ => "along a random direction".into(),
    }
}

fn directions(len: usize, entries: usize, random: &mut Random) -> Vec<Direction> {
    // Of length 1 in all.
    let far = 1.0 / (len as f64).sqrt();
    let all = (0..len).map(|i| (i, if random.bits() >> 63 == 0 { far } else { -far })).collect();
    let alone = random.distinct(entries, len);
    std::iter::once(all).chain(alone.into_iter().map(|i| vec![(i, 1.0)])).collect()
}

/// Whose gradient is checked.
struct Moved {
    name: String,
    part: MovedPart,
    values: Vec<f64>,
}

#[derive(Clone, Copy)]
enum MovedPart {
    Weight(WeightId),
    Input(usize),
}

impl Moved {
    /// All weights, then all vector inputs.
    fn all(trial: &Trial<'_>, window: &Window) -> Vec<Moved> {
        let double = |values: &[f32]| values.iter().map(|&x| f64::from(x)).collect();
        let weights = trial.graph.weights().iter().zip(&trial.weights).enumerate();
        let weights = weights.map(|(place, (weight, values))| Moved {
            name: weight.name.clone(),
            part: MovedPart::Weight(WeightId::from_index(place)),
            values: double(values),
        });
        let inputs = trial.graph.inputs().iter().zip(&window.inputs).enumerate();
        let inputs = inputs.filter_map(|(place, (&id, values))| match values {
            Array::Numbers(values) => Some(Moved {
                name: format!("input {}", trial.graph.layer_at(id).name),
                part: MovedPart::Input(place),
                values: double(values),
            }),
            // Symbols do not move.
            Array::Symbols(_) => None,
        });
        weights.chain(inputs).collect()
    }
}

/// What an executor says, in the order of [`Moved::all`].
fn gradients(executor: &mut dyn Executor, trial: &Trial<'_>) -> Result<Vec<Vec<f64>>, ExecutorError> {
    write_weights(executor, &trial.weights)?;
    trial.windows.iter().try_for_each(|window| window.forward(executor))?;
    let Some(last) = trial.windows.last() else { return Ok(Vec::new()) };
    last.backward(executor, last.frames)?;
    let of_weights = weight_arrays(executor, ParameterArray::Gradient)?;
    let all = of_weights.into_iter().chain(input_gradients(executor, last.frames)?);
    Ok(all.map(|array| array.values).collect())
}

/// Where gradients leave the numbers that are finite; none if those of the reference executor do not, so that somebody
/// else's are wrong.
fn non_finite(
    trial: &Trial<'_>,
    are_finite: impl Fn(&[Vec<f64>]) -> bool,
) -> Result<Option<String>, VerifyError> {
    let mut executor = ReferenceExecutor::new(trial.plan()?, trial.config)?;
    if are_finite(&gradients(&mut executor, trial)?) {
        return Ok(None);
    }
    if let Some(found) = executor.first_non_finite_derivative() {
        return Ok(Some(found.to_string()));
    }
    Ok(Some(match named_non_finite(&executor) {
        Some(layer) => layer,
        None => "every layer and its error are finite, but the sum of a gradient is too large".into(),
    }))
}

/// The first layer of the last forward call whose value is infinite or no number.
fn named_non_finite(executor: &ReferenceExecutor) -> Option<String> {
    let found = executor.first_beyond(f64::MAX)?;
    Some(format!(
        "layer `{}` is {:.3e} in unit {} of stream {}, frame {}",
        executor.plan().forward.layer_at(found.layer).name,
        found.value,
        found.unit,
        found.stream,
        found.frame
    ))
}

/// An executor of the trial's weights that runs another form of its network, forward.
fn reference(graph: &Graph, trial: &Trial<'_>) -> Result<ReferenceExecutor, VerifyError> {
    let options = PlanOptions::inference(trial.config.streams, trial.config.window);
    let mut executor = ReferenceExecutor::new(Plan::new(graph, options)?, trial.config)?;
    write_weights(&mut executor, &trial.weights)?;
    Ok(executor)
}

/// An input in double precision, or symbols.
enum Given {
    Numbers(Vec<f64>),
    Symbols(Vec<u32>),
}

impl Given {
    fn of(array: &Array) -> Given {
        match array {
            Array::Numbers(numbers) => Given::Numbers(numbers.iter().map(|&x| x.into()).collect()),
            Array::Symbols(symbols) => Given::Symbols(symbols.clone()),
        }
    }

    fn values(&self) -> Values<'_> {
        match self {
            Given::Numbers(numbers) => Values::F64(numbers),
            Given::Symbols(symbols) => Values::Symbols(symbols),
        }
    }
}

/// The scalar whose gradients are checked: the sum of all outputs of the last window, times its gradients of outputs.
struct Objective<'a> {
    window: &'a Window,
    executor: ReferenceExecutor,
    /// Where the window begins; none at the beginning.
    before: Option<State>,
    /// The network's inputs, and what reads give that no gradient goes through.
    inputs: Vec<Given>,
    /// The sum of the terms' magnitudes, where nothing is moved.
    magnitude: f64,
}

impl<'a> Objective<'a> {
    fn new(trial: &Trial<'_>, window: &'a Window, before: &[Window]) -> Result<Objective<'a>, VerifyError> {
        let frozen = Frozen::of(trial.graph);
        let mut probe = reference(&frozen.probe, trial)?;
        let own = trial.graph.outputs().len();
        let mut given = |window: &Window| -> Result<Vec<Given>, ExecutorError> {
            window.forward(&mut probe)?;
            let read = outputs(&probe, window.frames)?.into_iter().skip(own);
            let read = read.map(|array| Given::Numbers(array.values));
            Ok(window.inputs.iter().map(Given::of).chain(read).collect())
        };
        let mut executor = reference(&frozen.frozen, trial)?;
        for window in before {
            forward(&mut executor, window, &given(window)?)?;
        }
        let state = if before.is_empty() { None } else { Some(executor.forward_state()?) };
        let inputs = given(window)?;
        let mut objective = Objective { window, executor, before: state, inputs, magnitude: 0.0 };
        let (_, magnitude) = objective.evaluate()?;
        objective.magnitude = magnitude;
        Ok(objective)
    }

    /// The scalar with other numbers for one weight or input.
    fn with(&mut self, moved: &Moved, elsewhere: Vec<f64>) -> Result<f64, ExecutorError> {
        match moved.part {
            MovedPart::Weight(id) => {
                self.executor.write(ParameterArray::Weight, id, Values::F64(&elsewhere))?;
                let result = self.evaluate();
                self.executor.write(ParameterArray::Weight, id, Values::F64(&moved.values))?;
                Ok(result?.0)
            }
            MovedPart::Input(place) => {
                let before = std::mem::replace(&mut self.inputs[place], Given::Numbers(elsewhere));
                let result = self.evaluate();
                self.inputs[place] = before;
                Ok(result?.0)
            }
        }
    }

    /// Where the last evaluation left the numbers that are finite.
    fn first_non_finite(&self) -> String {
        named_non_finite(&self.executor).unwrap_or("the outputs are too large to be added up".into())
    }

    fn evaluate(&mut self) -> Result<(f64, f64), ExecutorError> {
        match &self.before {
            None => self.executor.clear_state(),
            Some(state) => self.executor.set_state(state)?,
        }
        forward(&mut self.executor, self.window, &self.inputs)?;
        let (mut sum, mut magnitude) = (0.0, 0.0);
        let gradients = &self.window.output_gradients;
        for (output, gradient) in outputs(&self.executor, self.window.frames)?.iter().zip(gradients) {
            for (y, &g) in output.values.iter().zip(gradient.iter().flatten()) {
                let term = y * f64::from(g);
                sum += term;
                magnitude += term.abs();
            }
        }
        Ok((sum, magnitude))
    }
}

/// A forward call with these inputs in place of the window's.
fn forward(executor: &mut dyn Executor, window: &Window, inputs: &[Given]) -> Result<(), ExecutorError> {
    let inputs: Vec<Values<'_>> = inputs.iter().map(Given::values).collect();
    executor.forward(window.frames, &inputs, window.resets.as_deref())
}
