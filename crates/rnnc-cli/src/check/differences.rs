//! Gradients against differences, on the reference executor, in double precision.
//!
//! For each weight and each vector input: the derivative along one random direction through all of its entries, and
//! along a few entries alone. `rnnc_reference::judge` tells a wrong gradient from what differences cannot do.

use crate::check::stopped::Stopped;
use crate::check::{Finding, Progress};
use crate::numbers::Numbers;
use crate::trial::Trial;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rnnc_graph::{Graph, WeightId};
use rnnc_plan::{
    ExecutionConfig, Executor, ExecutorError, ParameterArray, Plan, PlanOptions, Values, ValuesMut,
};
use rnnc_reference::{ReferenceExecutor, Verdict, judge};

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

/// Makes the executor whose gradients are checked.
pub type Make<'a> = &'a dyn Fn(Plan, ExecutionConfig) -> Result<Box<dyn Executor>, ExecutorError>;

/// Checks the reference executor's gradients of all weights and vector inputs, at most `entries` of each moved alone.
pub fn check(graph: &Graph, trial: &Trial, entries: usize) -> anyhow::Result<Differences> {
    let reference: Make<'_> = &|plan, config| Ok(Box::new(ReferenceExecutor::new(plan, config)?));
    check_made(graph, trial, entries, reference)
}

fn check_made(graph: &Graph, trial: &Trial, entries: usize, make: Make<'_>) -> anyhow::Result<Differences> {
    let mut objective = Objective::new(graph, trial)?;
    let outside = match objective.magnitude.is_finite() {
        true => None,
        false => Some(objective.first_non_finite()),
    };
    let moved = Moved::all(graph, trial);
    let sampled = moved.iter().any(|m| m.values.len() > entries);
    if outside.is_some() {
        return Ok(Differences {
            findings: moved.into_iter().map(|m| Finding::of(m.name)).collect(),
            outside,
            non_finite: None,
            sampled,
        });
    }
    let options = PlanOptions::training(trial.streams, trial.frames).with_input_gradients();
    let mut executor = make(Plan::new(graph, options)?, trial.config())?;
    let gradients = gradients(&mut *executor, trial, &moved)?;
    let non_finite = match gradients.iter().flatten().all(|x| x.is_finite()) {
        true => None,
        false => non_finite(graph, trial, &moved)?,
    };
    let mut random = ChaCha8Rng::seed_from_u64(trial.seed);
    let derivatives = moved.iter().map(|m| 1 + entries.min(m.values.len()) as u64).sum();
    let mut progress = Progress::new("derivatives", derivatives);
    let mut findings = Vec::new();
    for (moved, gradient) in moved.iter().zip(&gradients) {
        let mut finding = Finding::of(&*moved.name);
        for direction in &directions(moved.values.len(), entries, &mut random) {
            let derivative: f64 = direction.iter().map(|&(i, far)| gradient[i] * far).sum();
            if non_finite.is_some() && !derivative.is_finite() {
                finding.unchecked = Some(format!("the derivative {} is {derivative}", along(direction)));
                progress.advance();
                continue;
            }
            let verdict = judge(derivative, objective.magnitude, |step| {
                let mut elsewhere = moved.values.to_vec();
                direction.iter().for_each(|&(i, far)| elsewhere[i] += step * far);
                objective.with(moved, elsewhere)
            })?;
            progress.advance();
            note(&mut finding, direction, derivative, verdict);
        }
        findings.push(finding);
    }
    Ok(Differences { findings, outside, non_finite, sampled })
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

fn directions(len: usize, entries: usize, random: &mut ChaCha8Rng) -> Vec<Direction> {
    // Of length 1 in all.
    let far = 1.0 / (len as f64).sqrt();
    let all = (0..len).map(|i| (i, if random.random::<bool>() { far } else { -far })).collect();
    let alone = rand::seq::index::sample(random, len, entries.min(len));
    std::iter::once(all).chain(alone.into_iter().map(|i| vec![(i, 1.0)])).collect()
}

/// Whose gradient is checked.
struct Moved<'a> {
    name: String,
    part: MovedPart,
    values: &'a [f64],
}

#[derive(Clone, Copy)]
enum MovedPart {
    Weight(WeightId),
    Input(usize),
}

impl<'a> Moved<'a> {
    /// All weights, then all vector inputs.
    fn all(graph: &Graph, trial: &'a Trial) -> Vec<Moved<'a>> {
        let weights = graph.weights().iter().zip(&trial.weights).enumerate();
        let weights = weights.map(|(place, (weight, values))| Moved {
            name: weight.name.clone(),
            part: MovedPart::Weight(WeightId::from_index(place)),
            values,
        });
        let inputs = graph.inputs().iter().zip(&trial.inputs).enumerate();
        let inputs = inputs.filter_map(|(place, (&id, values))| match values {
            Numbers::Double(values) => Some(Moved {
                name: format!("input {}", graph.layer_at(id).name),
                part: MovedPart::Input(place),
                values,
            }),
            // Symbols do not move.
            Numbers::Single(_) | Numbers::Symbols(_) => None,
        });
        weights.chain(inputs).collect()
    }
}

/// What the adjoint network says.
fn gradients(
    executor: &mut dyn Executor,
    trial: &Trial,
    moved: &[Moved<'_>],
) -> anyhow::Result<Vec<Vec<f64>>> {
    write_weights(executor, trial)?;
    let values: Vec<_> = trial.inputs.iter().map(Numbers::all).collect();
    executor.forward(trial.frames, &values, Some(&trial.resets))?;
    let errors: Vec<_> = trial.output_gradients.iter().map(|g| Some(Values::F64(g))).collect();
    executor.backward(trial.frames, &errors)?;
    let mut gradients = Vec::new();
    for Moved { part, values, .. } in moved {
        let mut gradient = vec![0.0; values.len()];
        match *part {
            MovedPart::Weight(id) => {
                executor.read(ParameterArray::Gradient, id, ValuesMut::F64(&mut gradient))?
            }
            MovedPart::Input(place) => executor.input_gradient(place, ValuesMut::F64(&mut gradient))?,
        }
        gradients.push(gradient);
    }
    Ok(gradients)
}

/// Where gradients leave the numbers that are finite; none if those of the reference executor do not, so that somebody
/// else's are wrong.
fn non_finite(graph: &Graph, trial: &Trial, moved: &[Moved<'_>]) -> anyhow::Result<Option<String>> {
    let options = PlanOptions::training(trial.streams, trial.frames).with_input_gradients();
    let mut executor = reference(graph, options, trial)?;
    let gradients = gradients(&mut executor, trial, moved)?;
    if gradients.iter().flatten().all(|x| x.is_finite()) {
        return Ok(None);
    }
    if let Some(found) = executor.first_non_finite_derivative() {
        let what =
            found.function.map_or("the error of".into(), |name| format!("the derivative of {name} in"));
        let frame = found.frame.map_or(String::new(), |frame| format!(", frame {frame}"));
        return Ok(Some(format!(
            "{what} layer `{}` is {} in unit {} of stream {}{frame}",
            found.layer, found.value, found.unit, found.stream
        )));
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

fn write_weights(executor: &mut dyn Executor, trial: &Trial) -> Result<(), ExecutorError> {
    for (place, weight) in trial.weights.iter().enumerate() {
        executor.write(ParameterArray::Weight, WeightId::from_index(place), Values::F64(weight))?;
    }
    Ok(())
}

fn reference(graph: &Graph, options: PlanOptions, trial: &Trial) -> anyhow::Result<ReferenceExecutor> {
    let mut executor = ReferenceExecutor::new(Plan::new(graph, options)?, trial.config())?;
    write_weights(&mut executor, trial)?;
    Ok(executor)
}

/// The scalar whose gradients are checked: the sum of all outputs times the trial's numbers.
struct Objective<'a> {
    trial: &'a Trial,
    executor: ReferenceExecutor,
    /// The network's inputs, and what stopped reads give.
    inputs: Vec<Numbers>,
    /// The sum of the terms' magnitudes, where nothing is moved.
    magnitude: f64,
}

impl<'a> Objective<'a> {
    fn new(graph: &Graph, trial: &'a Trial) -> anyhow::Result<Objective<'a>> {
        let stopped = Stopped::of(graph);
        let options = PlanOptions::inference(trial.streams, trial.frames);
        let mut probe = reference(&stopped.probe, options, trial)?;
        let values: Vec<_> = trial.inputs.iter().map(Numbers::all).collect();
        probe.forward(trial.frames, &values, Some(&trial.resets))?;
        let mut inputs = trial.inputs.clone();
        for place in graph.outputs().len()..stopped.probe.outputs().len() {
            inputs.push(Numbers::Double(output(&probe, place)?));
        }
        let executor = reference(&stopped.frozen, options, trial)?;
        let mut objective = Objective { trial, executor, inputs, magnitude: 0.0 };
        let (_, magnitude) = objective.evaluate()?;
        objective.magnitude = magnitude;
        Ok(objective)
    }

    /// The scalar with other numbers for one weight or input.
    fn with(&mut self, moved: &Moved<'_>, elsewhere: Vec<f64>) -> anyhow::Result<f64> {
        match moved.part {
            MovedPart::Weight(id) => {
                self.executor.write(ParameterArray::Weight, id, Values::F64(&elsewhere))?;
                let (sum, _) = self.evaluate()?;
                self.executor.write(ParameterArray::Weight, id, Values::F64(moved.values))?;
                Ok(sum)
            }
            MovedPart::Input(place) => {
                let before = std::mem::replace(&mut self.inputs[place], Numbers::Double(elsewhere));
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

    fn evaluate(&mut self) -> anyhow::Result<(f64, f64)> {
        self.executor.clear_state();
        let values: Vec<_> = self.inputs.iter().map(Numbers::all).collect();
        self.executor.forward(self.trial.frames, &values, Some(&self.trial.resets))?;
        let (mut sum, mut magnitude) = (0.0, 0.0);
        for (place, gradient) in self.trial.output_gradients.iter().enumerate() {
            for (y, g) in output(&self.executor, place)?.iter().zip(gradient) {
                sum += y * g;
                magnitude += (y * g).abs();
            }
        }
        Ok((sum, magnitude))
    }
}

fn output(executor: &ReferenceExecutor, place: usize) -> anyhow::Result<Vec<f64>> {
    let graph = &executor.plan().forward;
    let config = executor.config();
    let size = graph.layer_at(graph.outputs()[place].layer).size;
    let mut values = vec![0.0; config.window * config.streams * size];
    executor.output(place, ValuesMut::F64(&mut values))?;
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rnnc_suite::{Alteration, Altered};

    const SQRT: &str = "network n { input x : vector(4)  y = sqrt(dense(x; 3))  output y }";
    const RECIPROCAL: &str = "network n { input x : vector(4)  y = 1 / dense(x; 3)  output y }";
    const LSTM: &str = "network n { input x : vector(3)  input s : symbol(4)  h = lstm(x; 5)
        g = relu(dense(s, h; 4))  start g = learned  y = dense(g, g[t-2]; 2)  output y }";
    const DROPOUT: &str =
        "network n { input x : vector(3)  h = dropout(lstm(x; 5); 0.4)  y = dense(h, h[t-1]; 2)  output y }";

    fn compiled(text: &str) -> Graph {
        rnnc_lang::compile("net.rnn", text, None).unwrap()
    }

    fn found(text: &str, trial: impl Fn(&Graph) -> Trial, alteration: Alteration) -> Differences {
        let graph = compiled(text);
        let make: Make<'_> = &|plan, config| Altered::make(plan, config, alteration);
        check_made(&graph, &trial(&graph), 3, make).unwrap()
    }

    fn drawn(seed: u64) -> impl Fn(&Graph) -> Trial {
        move |graph| Trial::draw(graph, 2, 6, 5, seed).unwrap()
    }

    /// A trial inside the domain of [`SQRT`].
    fn positive(seed: u64) -> impl Fn(&Graph) -> Trial {
        move |graph| {
            let mut trial = drawn(seed)(graph);
            let ranges = ["0:1", "y.W.x=0:1", "y.bias=0:1"].map(|r| r.parse().unwrap());
            trial.draw_from(&ranges, graph).unwrap();
            trial
        }
    }

    fn with_dropout(seed: u64) -> impl Fn(&Graph) -> Trial {
        move |graph| Trial { dropout: true, ..drawn(seed)(graph) }
    }

    fn is_wrong(found: &Differences) -> bool {
        found.findings.iter().any(|f| f.problem.is_some())
    }

    fn is_right(found: &Differences) -> bool {
        found.outside.is_none()
            && found.findings.iter().all(|f| f.problem.is_none() && f.unchecked.is_none() && f.error < 1e-4)
    }

    #[test]
    fn right_gradients_agree_with_differences() {
        let found = found(LSTM, drawn(1), Alteration::Nothing);
        assert_eq!(found.findings.len(), 20);
        assert!(is_right(&found) && found.sampled, "{found:#?}");
    }

    #[test]
    fn a_stopped_read_stands_still_under_differences() {
        let text =
            "network n { input x : vector(3)  h = tanh(dense(x, h[t-1]; 3) + stop_gradient(h[t-1]) * x)
             start h = 0.5  output h }";
        assert!(is_right(&found(text, drawn(1), Alteration::Nothing)));
    }

    #[test]
    fn outside_a_functions_domain_no_gradient_is_called_wrong_and_the_layer_is_named() {
        for seed in 0..24 {
            let found = found(SQRT, drawn(seed), Alteration::Nothing);
            assert!(!is_wrong(&found), "{seed}: {found:#?}");
            assert!(found.outside.unwrap().starts_with("layer `y` is NaN in unit "));
        }
    }

    #[test]
    fn inside_a_functions_domain_and_near_poles_right_gradients_agree() {
        for seed in 0..48 {
            let inside = found(SQRT, positive(seed), Alteration::Nothing);
            assert!(is_right(&inside), "{seed}: {inside:#?}");
            let near_poles = found(RECIPROCAL, drawn(seed), Alteration::Nothing);
            assert!(!is_wrong(&near_poles) && near_poles.outside.is_none(), "{seed}: {near_poles:#?}");
        }
    }

    #[test]
    fn wrong_gradients_are_found_near_poles_too() {
        for seed in 0..8 {
            for (text, alteration) in [
                (LSTM, Alteration::Gradient),
                (LSTM, Alteration::ShortBackward),
                (LSTM, Alteration::LateInputGradient),
                (RECIPROCAL, Alteration::LateInputGradient),
            ] {
                let found = found(text, drawn(seed), alteration);
                assert!(is_wrong(&found), "{alteration:?}, {seed}: {found:#?}");
            }
            let found = found(SQRT, positive(seed), Alteration::Gradient);
            assert!(is_wrong(&found), "{seed}: {found:#?}");
        }
    }

    #[test]
    fn gradients_with_dropout_masks_are_checked_with_the_same_masks() {
        for seed in 0..8 {
            let masked = found(DROPOUT, with_dropout(seed), Alteration::Nothing);
            assert!(is_right(&masked), "{seed}: {masked:#?}");
            assert!(is_wrong(&found(DROPOUT, with_dropout(seed), Alteration::Gradient)), "{seed}");
        }
    }

    /// A trial whose vector inputs are 0 where `x` would be negative, and all zeros in the first frame.
    fn with_zeros(seed: u64) -> impl Fn(&Graph) -> Trial {
        move |graph| {
            let mut trial = drawn(seed)(graph);
            for values in &mut trial.inputs {
                if let Numbers::Double(values) = values {
                    let first = values.len() / 6;
                    values[..first].fill(0.0);
                    values.iter_mut().for_each(|x| *x = x.max(0.0));
                }
            }
            trial
        }
    }

    #[test]
    fn where_a_derivative_is_not_finite_no_gradient_is_called_wrong_and_the_layer_is_named() {
        const COSINE: &str = "input x : vector(3)  a = dense(x; 3)
            n = sqrt(sum(x * x)) * sqrt(sum(a * a)) + 1e-3  y = sum(x * a) / n";
        for (equations, place) in [
            (
                "input x : vector(3)  y = sqrt(dense(x; 2, bias = none) * 0)",
                "the derivative of sqrt in layer `y",
            ),
            // Flat, and infinite by the chain rule.
            ("input x : vector(3)  y = sqrt(relu(dense(x; 2)))", "the derivative of sqrt in layer `y"),
            (COSINE, "the derivative of sqrt in layer `n"),
            ("input x : vector(3)  y = sigmoid(log(x))", "the derivative of log in layer `y"),
            (
                "input x : vector(3)  p = param(2)  n = sqrt(0 * p)  y = dense(x; 2) + n",
                "the derivative of sqrt",
            ),
            ("input x : vector(3)  y = tanh(1 / x)", "the derivative of quotient in layer `y"),
            // A power of 0.
            ("input x : vector(3)  y = exp(0.5 * log(x))", "the derivative of log in layer `y"),
            // Layers that are not finite, of which only weights read.
            ("input x : vector(3)  q = 1 / sum(x)  y = tanh(dense(stop_gradient(q); 2))", "layer `q` is inf"),
        ] {
            for seed in 0..4 {
                let text = format!("network n {{ {equations}  output y }}");
                let found = found(&text, with_zeros(seed), Alteration::Nothing);
                assert!(!is_wrong(&found) && found.outside.is_none(), "{text}, {seed}: {found:#?}");
                let named = found.non_finite.as_deref().unwrap_or_default();
                assert!(named.starts_with(place), "{text}, {seed}: {found:#?}");
                assert!(found.findings.iter().any(|f| f.unchecked.is_some()), "{text}: {found:#?}");
            }
        }
    }

    #[test]
    fn beside_a_derivative_that_is_not_finite_a_wrong_gradient_is_found() {
        let text = "network n { input x : vector(3)  input z : vector(3)  a = tanh(dense(z; 2))
            y = sqrt(relu(x))  output a, y }";
        for seed in 0..4 {
            let right = found(text, with_zeros(seed), Alteration::Nothing);
            assert!(!is_wrong(&right) && right.non_finite.is_some(), "{right:#?}");
            let found = found(text, with_zeros(seed), Alteration::Gradient);
            assert!(is_wrong(&found) && found.non_finite.is_some(), "{found:#?}");
        }
    }

    #[test]
    fn a_gradient_at_a_kink_is_a_subgradient() {
        let text = "network n { input x : vector(3)  y = relu(x)  z = max(x, 0 * x)  output y, z }";
        let at_kinks = |graph: &Graph| {
            let mut trial = drawn(1)(graph);
            trial.inputs[0] = Numbers::Double(vec![0.0; 36]);
            trial
        };
        let found = found(text, at_kinks, Alteration::Nothing);
        assert!(is_right(&found), "{found:#?}");
    }
}
