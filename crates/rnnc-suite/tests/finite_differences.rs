//! Every gradient of every network against finite differences, in double precision.

use proptest::prelude::*;
use proptest::test_runner::contextualize_config;
use rnnc_graph::{Adjoint, AdjointOptions, Connection, Graph, GraphError, LayerKind, Operation};
use rnnc_plan::{Executor, Plan, PlanOptions, Values, ValuesMut};
use rnnc_reference::ReferenceExecutor;
use rnnc_suite::{
    Case, Smooth, activation_networks, cell_networks, networks, operation_networks, random_case,
};
use rnnc_verify::{Make, Random, differences};

/// Compares derivatives of all weights and inputs, along a random direction and along entries, `each` of every array or all.
fn check_all(case: &Case, each: usize) -> Result<(), String> {
    check_made(case, each, &|plan, config| Ok(Box::new(ReferenceExecutor::new(plan, config)?)))
}

fn check_made(case: &Case, each: usize, make: Make<'_>) -> Result<(), String> {
    let mut trial = case.trial()?;
    // None left out, for every gradient to be something.
    let mut random = Random(case.seed ^ 1);
    for window in &mut trial.windows {
        for (gradient, output) in window.output_gradients.iter_mut().zip(case.graph.outputs()) {
            let count = window.frames * case.streams * case.graph.layer_at(output.layer).size;
            *gradient = Some(random.numbers(count, 1.0));
        }
    }
    let found = differences(&trial, each, make, &mut |_, _| {}).map_err(|error| error.to_string())?;
    if let Some(place) = found.outside.or(found.non_finite) {
        return Err(format!("{}: {place}", case.name));
    }
    match found.findings.into_iter().find_map(|f| Some((f.array, f.problem.or(f.unchecked)?))) {
        Some((array, problem)) => Err(format!("{}: {array}: {problem}", case.name)),
        None => Ok(()),
    }
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
    for network in &networks() {
        for case in small(network.name, (network.build)(2, 4)) {
            check_all(&case, 6).unwrap();
        }
    }
}

#[test]
fn every_gradient_through_every_function_is_a_derivative() {
    // One that another function's derivative stands in for has not its own.
    let is_own = |name: &str| !name.starts_with("function_step");
    for (name, graph) in activation_networks(2, 3).into_iter().filter(|(name, _)| is_own(name)) {
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
fn a_gradient_that_goes_where_it_should_be_stopped_is_no_derivative() {
    let network = *networks().iter().find(|n| n.name == "stop_gradients").unwrap();
    let case = &small(network.name, (network.build)(2, 4))[0];
    let mut goes_on = Graph::new("goes on");
    let graph = &case.graph;
    for weight in graph.weights() {
        goes_on.weight(&*weight.name, &weight.shape, weight.init);
    }
    for layer in graph.layers() {
        goes_on.add_layer(layer.clone());
    }
    for connection in graph.connections() {
        goes_on.add_connection(Connection { stops_gradient: false, ..connection.clone() });
    }
    for output in graph.outputs() {
        goes_on.output(&*output.name, output.layer);
    }
    let make: Make<'_> = &|plan: Plan, config| {
        let options = PlanOptions::training(config.streams, config.window).with_input_gradients();
        assert_eq!(plan.options, options);
        Ok(Box::new(ReferenceExecutor::new(Plan::new(&goes_on, options).unwrap(), config)?))
    };
    assert!(check_made(case, 6, make).unwrap_err().contains("and differences give"));
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
        // A parameter read in a frame before the window is a constant to the gradient, but not to the value.
        let is_parameter = |id| matches!(case.graph.layer_at(id).kind, LayerKind::Parameter(_));
        if connections.iter().any(|c| c.delay > 0 && c.source.is_some_and(is_parameter)) {
            case.windows.truncate(1);
        }
        prop_assert_eq!(check_all(&case, 2), Ok(()));
    }
}
