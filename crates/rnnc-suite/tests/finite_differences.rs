//! Every gradient of every network against central differences, in double precision.

use proptest::prelude::*;
use proptest::test_runner::contextualize_config;
use rnnc_graph::{Adjoint, AdjointOptions, Graph, GraphError, LayerKind, Operation, WeightId};
use rnnc_plan::{Executor, ParameterArray, State, Values, ValuesMut};
use rnnc_reference::{ReferenceExecutor, Verdict, judge};
use rnnc_suite::{
    Array, Case, Data, Random, Smooth, activation_networks, cell_networks, networks, operation_networks,
    random_case,
};

/// A random linear functional of the outputs of one window, as a function of weights and inputs.
struct Functional<'a> {
    case: &'a Case,
    executor: ReferenceExecutor,
    /// Where the window begins.
    state: State,
    weights: Vec<Vec<f64>>,
    inputs: Vec<Vec<f64>>,
    symbols: Vec<Option<Vec<u32>>>,
    resets: Vec<bool>,
    errors: Vec<Vec<f64>>,
    frames: usize,
}

impl<'a> Functional<'a> {
    /// Of the case's last window, after the others.
    fn new(case: &'a Case) -> Functional<'a> {
        let data = Data::draw(case);
        let mut executor = ReferenceExecutor::new(case.plan().unwrap(), case.config()).unwrap();
        let weights: Vec<Vec<f64>> =
            data.weights.iter().map(|w| w.iter().map(|&x| f64::from(x)).collect()).collect();
        write(&mut executor, &weights);
        let (last, before) = data.windows.split_last().unwrap();
        for window in before {
            let inputs: Vec<_> = window.inputs.iter().map(|i| i.values()).collect();
            executor.forward(window.frames, &inputs, window.resets.as_deref()).unwrap();
        }
        let mut random = Random(case.seed ^ 1);
        let outputs = case.graph.outputs().iter();
        let errors = outputs.map(|o| {
            let count = last.frames * case.streams * case.graph.layer_at(o.layer).size;
            random.numbers(count, 1.0).into_iter().map(f64::from).collect()
        });
        Functional {
            errors: errors.collect(),
            inputs: last
                .inputs
                .iter()
                .map(|input| match input {
                    Array::Numbers(numbers) => numbers.iter().map(|&x| f64::from(x)).collect(),
                    Array::Symbols(_) => Vec::new(),
                })
                .collect(),
            symbols: last
                .inputs
                .iter()
                .map(|input| match input {
                    Array::Numbers(_) => None,
                    Array::Symbols(symbols) => Some(symbols.clone()),
                })
                .collect(),
            resets: last.resets.clone().unwrap(),
            frames: last.frames,
            state: executor.state().unwrap(),
            case,
            executor,
            weights,
        }
    }

    fn value(&mut self) -> f64 {
        self.value_and_magnitude().0
    }

    /// The value, and the sum of its terms' magnitudes.
    fn value_and_magnitude(&mut self) -> (f64, f64) {
        let case = self.case;
        write(&mut self.executor, &self.weights);
        self.executor.set_state(&self.state).unwrap();
        let inputs = self.inputs.iter().zip(&self.symbols).map(|(numbers, symbols)| match symbols {
            Some(symbols) => Values::Symbols(symbols),
            None => Values::F64(numbers),
        });
        let inputs: Vec<_> = inputs.collect();
        self.executor.forward(self.frames, &inputs, Some(&self.resets)).unwrap();
        let (mut value, mut magnitude) = (0.0, 0.0);
        for (output, errors) in self.errors.iter().enumerate() {
            let mut y = vec![0.0; errors.len()];
            self.executor.output(output, ValuesMut::F64(&mut y)).unwrap();
            value += y.iter().zip(errors).map(|(y, e)| y * e).sum::<f64>();
            magnitude += y.iter().zip(errors).map(|(y, e)| (y * e).abs()).sum::<f64>();
        }
        assert!(value.is_finite(), "{}: the outputs are not finite", case.name);
        (value, magnitude)
    }

    /// The exact gradients: of the weights, then of the inputs.
    fn gradients(&mut self) -> (Vec<Vec<f64>>, Vec<Vec<f64>>) {
        self.value();
        let errors: Vec<_> = self.errors.iter().map(|e| Some(Values::F64(e))).collect();
        self.executor.backward(self.frames, &errors).unwrap();
        let weights = self.weights.iter().enumerate().map(|(id, w)| {
            let mut gradient = vec![0.0; w.len()];
            let id = WeightId::from_index(id);
            self.executor.read(ParameterArray::Gradient, id, ValuesMut::F64(&mut gradient)).unwrap();
            gradient
        });
        let inputs = self.inputs.iter().enumerate().map(|(id, input)| {
            let mut gradient = vec![0.0; input.len()];
            let layer = self.case.graph.layer_at(self.case.graph.inputs()[id]);
            if layer.kind == LayerKind::Input {
                self.executor.input_gradient(id, ValuesMut::F64(&mut gradient)).unwrap();
            }
            gradient
        });
        (weights.collect(), inputs.collect())
    }
}

fn write(executor: &mut ReferenceExecutor, weights: &[Vec<f64>]) {
    for (id, values) in weights.iter().enumerate() {
        executor.write(ParameterArray::Weight, WeightId::from_index(id), Values::F64(values)).unwrap();
    }
}

/// Compares each derivative, or, of arrays larger than `each`, `each` of them.
fn check_all(case: &Case, each: usize) -> Result<(), String> {
    let mut functional = Functional::new(case);
    let (weights, inputs) = functional.gradients();
    let (_, magnitude) = functional.value_and_magnitude();
    let mut random = Random(case.seed ^ 2);
    let mut places = |len: usize| -> Vec<usize> {
        if len <= each {
            return (0..len).collect();
        }
        (0..each).map(|_| (random.bits() % len as u64) as usize).collect()
    };
    let weight = |f: &mut Functional<'_>, id: usize, i: usize, x: f64| f.weights[id][i] = x;
    let input = |f: &mut Functional<'_>, id: usize, i: usize, x: f64| f.inputs[id][i] = x;
    type Set<'a> = &'a dyn Fn(&mut Functional<'_>, usize, usize, f64);
    let arrays = weights.iter().enumerate().map(|(id, g)| (id, g, &weight as Set<'_>));
    let arrays = arrays.chain(inputs.iter().enumerate().map(|(id, g)| (id, g, &input as Set<'_>)));
    for (place, (id, gradient, set)) in arrays.enumerate() {
        let is_weight = place < weights.len();
        let name = match is_weight {
            true => &case.graph.weights()[id].name,
            false => &case.graph.layer_at(case.graph.inputs()[id]).name,
        };
        for i in places(gradient.len()) {
            let x = if is_weight { functional.weights[id][i] } else { functional.inputs[id][i] };
            let verdict = judge(gradient[i], magnitude, |h| {
                set(&mut functional, id, i, x + h);
                let value = functional.value();
                set(&mut functional, id, i, x);
                Ok::<_, String>(value)
            })?;
            let exact = gradient[i];
            match verdict {
                Verdict::Agrees(_) => {}
                Verdict::Differs(numeric) => {
                    return Err(format!(
                        "{}: `{name}`[{i}]: {exact:e}, but by differences {numeric:e}",
                        case.name
                    ));
                }
                Verdict::Outside | Verdict::Unsettled => {
                    return Err(format!(
                        "{}: `{name}`[{i}]: {exact:e}, and differences say nothing",
                        case.name
                    ));
                }
            }
        }
    }
    Ok(())
}

fn small(name: &str, graph: Graph) -> Vec<Case> {
    // One window from the beginning, and one with history; dropout is on.
    [vec![6], vec![4, 5]]
        .into_iter()
        .map(|windows| Case { training: true, seed: 3, ..Case::new(name, graph.clone(), 2, &windows, 0.2) })
        .collect()
}

#[test]
fn every_gradient_of_every_network_is_a_derivative() {
    for network in networks().iter().filter(|n| n.name != "stop_gradients") {
        for case in small(network.name, (network.build)(2, 4)) {
            check_all(&case, 6).unwrap();
        }
    }
}

#[test]
fn every_gradient_through_every_function_is_a_derivative() {
    for (name, graph) in activation_networks(2, 3) {
        for case in small(&name, graph) {
            check_all(&case, 6).unwrap();
        }
    }
}

#[test]
fn every_gradient_through_every_operation_is_a_derivative() {
    for (name, graph) in operation_networks(2, 3) {
        for case in small(&name, graph) {
            check_all(&case, 6).unwrap();
        }
    }
}

#[test]
fn an_operation_that_is_a_gradient_has_no_adjoint() {
    for operation in Operation::samples().filter(|operation| operation.is_gradient()) {
        let mut graph = Graph::new("second");
        let layer = graph.operation("y", 4, operation);
        graph.output("y", layer);
        let adjoint = Adjoint::derive(&graph, AdjointOptions::default());
        assert!(matches!(adjoint, Err(GraphError::Adjoint(_))), "{}", operation.name());
    }
}

#[test]
fn every_gradient_of_every_cell_of_the_library_is_a_derivative() {
    for (name, graph) in cell_networks(2, 4) {
        for case in small(&name, graph) {
            check_all(&case, 6).unwrap();
        }
    }
}

#[test]
fn a_stopped_gradient_is_no_derivative() {
    let network = *networks().iter().find(|n| n.name == "stop_gradients").unwrap();
    let case = &small(network.name, (network.build)(2, 4))[0];
    assert!(check_all(case, 6).is_err());
}

/// The mask `d_X.dropout` of one equation is called as the adjoint calls the error of the output `X.dropout`.
const CLASH: &str = "
cell c(x; n) { dropout = tanh(x)  return dropout }
network n { input x : vector(8)  X = c(x; 8)  d_X = dropout(x; 0.5)  output d_X, X.dropout }";

#[test]
fn an_error_takes_the_mask_that_its_value_took_whatever_layers_are_called() {
    let graph = rnnc_lang::compile("n.rnn", CLASH, None).map_err(|errors| errors.to_string()).unwrap();
    let case = Case { training: true, ..Case::new("clash", graph, 1, &[16], 0.0) };
    let mut executor = ReferenceExecutor::new(case.plan().unwrap(), case.config()).unwrap();
    let ones = [1.0; 16 * 8];
    executor.forward(16, &[Values::F64(&ones)], None).unwrap();
    executor.backward(16, &[Some(Values::F64(&ones)), None]).unwrap();
    let (mut value, mut gradient) = ([0.0; 16 * 8], [0.0; 16 * 8]);
    executor.output(0, ValuesMut::F64(&mut value)).unwrap();
    executor.input_gradient(0, ValuesMut::F64(&mut gradient)).unwrap();
    assert!(value.contains(&0.0) && value.contains(&2.0));
    assert_eq!(gradient, value);
}

proptest! {
    #![proptest_config(contextualize_config(ProptestConfig {
        cases: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    }))]

    #[test]
    fn gradients_of_random_networks_are_derivatives(mut case in random_case(Smooth::Yes)) {
        let connections = case.graph.connections();
        prop_assume!(connections.iter().all(|c| !c.stops_gradient));
        // A parameter read in a frame before the window is a constant to the gradient, but not to the value.
        let is_parameter = |id| matches!(case.graph.layer_at(id).kind, LayerKind::Parameter(_));
        if connections.iter().any(|c| c.delay > 0 && c.source.is_some_and(is_parameter)) {
            case.windows.truncate(1);
        }
        prop_assert_eq!(check_all(&case, 2), Ok(()));
    }
}
