//! Gradients against central differences, on the reference executor, in double precision.
//!
//! For each weight and each vector input: the derivative along one random direction through all of its entries, and
//! along a few entries alone.

use crate::check::Finding;
use crate::check::stopped::Stopped;
use crate::numbers::Numbers;
use crate::trial::Trial;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rnnc_graph::{Graph, LayerKind, WeightId};
use rnnc_plan::{Executor, Part, Plan, PlanOptions, Setup, Values, ValuesMut};
use rnnc_reference::ReferenceExecutor;

/// Entries of each array that are moved alone.
const ENTRIES: usize = 3;

/// Steps of the differences: the first that agrees counts. Rounding blurs small steps and curvature large ones, and a
/// step may cross a kink.
const STEPS: [f64; 3] = [1e-5, 1e-6, 1e-4];

/// Of the larger of derivative and difference.
const RELATIVE: f64 = 1e-6;

/// Of the sum of the magnitudes that the differences are taken of: rounding, blown up by the step.
const ABSOLUTE: f64 = 1e-9;

/// Checks the gradients of all weights and vector inputs.
pub fn check(graph: &Graph, trial: &Trial, seed: u64) -> anyhow::Result<Vec<Finding>> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let gradients = Gradients::compute(graph, trial)?;
    let mut objective = Objective::new(graph, trial)?;
    let mut findings = Vec::new();
    for (place, weight) in graph.weights().iter().enumerate() {
        let id = WeightId::from_index(place);
        let directions = directions(weight.len(), &mut random);
        let finding =
            compare(&weight.name, &gradients.weights[place], &directions, objective.magnitude, |moved| {
                objective.with_weight(id, &trial.weights[place], moved)
            });
        findings.push(finding?);
    }
    for (place, &id) in graph.inputs().iter().enumerate() {
        let layer = graph.layer_at(id);
        let (Some(gradient), Numbers::Double(values)) = (&gradients.inputs[place], &trial.inputs[place])
        else {
            continue;
        };
        let directions = directions(values.len(), &mut random);
        let name = format!("input {}", layer.name);
        let finding = compare(&name, gradient, &directions, objective.magnitude, |moved| {
            objective.with_input(place, values, moved)
        });
        findings.push(finding?);
    }
    Ok(findings)
}

/// Where to move: (entry, how far) pairs.
type Direction = Vec<(usize, f64)>;

fn directions(len: usize, random: &mut ChaCha8Rng) -> Vec<Direction> {
    // Of length 1 in all.
    let far = 1.0 / (len as f64).sqrt();
    let all = (0..len).map(|i| (i, if random.random::<bool>() { far } else { -far })).collect();
    let alone = (0..ENTRIES.min(len)).map(|_| vec![(random.random_range(0..len), 1.0)]);
    std::iter::once(all).chain(alone).collect()
}

fn compare(
    name: &str,
    gradient: &[f64],
    directions: &[Direction],
    magnitude: f64,
    mut objective: impl FnMut(&dyn Fn(&mut [f64])) -> anyhow::Result<f64>,
) -> anyhow::Result<Finding> {
    let mut finding = Finding { array: name.into(), error: 0.0, problem: None };
    for direction in directions {
        let derivative: f64 = direction.iter().map(|&(i, far)| gradient[i] * far).sum();
        let mut best: Option<(f64, f64)> = None;
        for step in STEPS {
            let mut at = |step: f64| {
                objective(&|values: &mut [f64]| {
                    direction.iter().for_each(|&(i, far)| values[i] += step * far)
                })
            };
            let difference = (at(step)? - at(-step)?) / (2.0 * step);
            let larger = derivative.abs().max(difference.abs());
            let off = (derivative - difference).abs();
            let excess = off / (RELATIVE * larger + ABSOLUTE * (1.0 + magnitude));
            // A NaN is off by more than any number.
            let excess = if excess.is_nan() { f64::INFINITY } else { excess };
            if best.is_none_or(|(least, _)| excess < least) {
                best = Some((excess, difference));
            }
            if excess <= 1.0 {
                let blurred = ABSOLUTE * (1.0 + magnitude);
                finding.error = finding.error.max(off / larger.max(blurred));
                break;
            }
        }
        if let Some((excess, difference)) = best
            && excess > 1.0
        {
            finding.error = (derivative - difference).abs() / derivative.abs().max(difference.abs());
            finding.problem = Some(format!(
                "the derivative along {} is {derivative:e}, and differences give {difference:e}",
                match direction.as_slice() {
                    [(i, _)] => format!("entry {i}"),
                    _ => "a random direction".into(),
                }
            ));
            break;
        }
    }
    Ok(finding)
}

/// What the adjoint network says.
struct Gradients {
    weights: Vec<Vec<f64>>,
    /// None for symbols.
    inputs: Vec<Option<Vec<f64>>>,
}

impl Gradients {
    fn compute(graph: &Graph, trial: &Trial) -> anyhow::Result<Gradients> {
        let (frames, streams) = (trial.frames, trial.streams);
        let options = PlanOptions::training(streams, frames).with_input_gradients();
        let mut executor = reference(graph, options, trial)?;
        let values: Vec<_> = trial.inputs.iter().map(Numbers::all).collect();
        executor.forward(frames, &values, Some(&trial.resets))?;
        let errors: Vec<_> = trial.output_gradients.iter().map(|g| Some(Values::F64(g))).collect();
        executor.backward(frames, &errors)?;
        let mut weights = Vec::new();
        for (place, weight) in graph.weights().iter().enumerate() {
            let mut gradient = vec![0.0; weight.len()];
            executor.read(Part::Gradient, WeightId::from_index(place), ValuesMut::F64(&mut gradient))?;
            weights.push(gradient);
        }
        let mut inputs = Vec::new();
        for (place, &id) in graph.inputs().iter().enumerate() {
            let layer = graph.layer_at(id);
            if layer.kind == LayerKind::Symbol {
                inputs.push(None);
                continue;
            }
            let mut gradient = vec![0.0; frames * streams * layer.size];
            executor.input_gradient(place, ValuesMut::F64(&mut gradient))?;
            inputs.push(Some(gradient));
        }
        Ok(Gradients { weights, inputs })
    }
}

fn reference(graph: &Graph, options: PlanOptions, trial: &Trial) -> anyhow::Result<ReferenceExecutor> {
    let setup = Setup::new(trial.streams, trial.frames);
    let mut executor = ReferenceExecutor::new(Plan::new(graph, options)?, setup)?;
    for (place, weight) in trial.weights.iter().enumerate() {
        executor.write(Part::Weight, WeightId::from_index(place), Values::F64(weight))?;
    }
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

    fn with_weight(
        &mut self,
        id: WeightId,
        values: &[f64],
        moved: &dyn Fn(&mut [f64]),
    ) -> anyhow::Result<f64> {
        let mut elsewhere = values.to_vec();
        moved(&mut elsewhere);
        self.executor.write(Part::Weight, id, Values::F64(&elsewhere))?;
        let (sum, _) = self.evaluate()?;
        self.executor.write(Part::Weight, id, Values::F64(values))?;
        Ok(sum)
    }

    fn with_input(
        &mut self,
        place: usize,
        values: &[f64],
        moved: &dyn Fn(&mut [f64]),
    ) -> anyhow::Result<f64> {
        let mut elsewhere = values.to_vec();
        moved(&mut elsewhere);
        let before = std::mem::replace(&mut self.inputs[place], Numbers::Double(elsewhere));
        let result = self.evaluate();
        self.inputs[place] = before;
        Ok(result?.0)
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
    let setup = executor.setup();
    let size = graph.layer_at(graph.outputs()[place].layer).size;
    let mut values = vec![0.0; setup.window * setup.streams * size];
    executor.output(place, ValuesMut::F64(&mut values))?;
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(text: &str) -> Vec<Finding> {
        let graph = rnnc_lang::compile("net.rnn", text, None).unwrap();
        check(&graph, &Trial::draw(&graph, 2, 6, 5, 1).unwrap(), 1).unwrap()
    }

    #[test]
    fn right_gradients_agree_with_differences() {
        let found = findings(
            "network n { input x : vector(3)  input s : symbol(4)  h = lstm(x; 5)  g = relu(dense(s, h; 4))
             start g = learned  y = dense(g, g[t-2]; 2)  output y }",
        );
        assert_eq!(found.len(), 20);
        assert!(found.iter().all(|f| f.problem.is_none() && f.error < 1e-5), "{found:#?}");
    }

    #[test]
    fn a_stopped_read_stands_still_under_differences() {
        let found = findings(
            "network n { input x : vector(3)  h = tanh(dense(x, h[t-1]; 3) + stop_gradient(h[t-1]) * x)
             start h = 0.5  output h }",
        );
        assert!(found.iter().all(|f| f.problem.is_none()), "{found:#?}");
    }

    #[test]
    fn a_wrong_gradient_is_found() {
        let objective = |moved: &dyn Fn(&mut [f64])| {
            let mut x = [0.5, 2.0];
            moved(&mut x);
            Ok(x[0] * x[1])
        };
        let along = [vec![(0, 1.0)], vec![(1, 1.0)]];
        let right = compare("x", &[2.0, 0.5], &along, 1.0, objective).unwrap();
        assert!(right.problem.is_none() && right.error < 1e-9, "{right:?}");
        let wrong = compare("x", &[2.0, 0.5001], &along, 1.0, objective).unwrap();
        assert!(wrong.problem.unwrap().starts_with("the derivative along entry 1 is 5.001e-1"));
    }
}
