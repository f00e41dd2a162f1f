//! Gradients of the state: what a window begins with and what it leaves, against central differences and against a window of
//! both halves.

use proptest::prelude::*;
use proptest::test_runner::contextualize_config;
use rnnc_graph::{Graph, LayerId, WeightId, state_vectors};
use rnnc_plan::{ExecutionConfig, Executor, ParameterArray, Plan, PlanOptions, State, Values, ValuesMut};
use rnnc_reference::ReferenceExecutor;
use rnnc_suite::{Case, Smooth, cell_networks, networks, operation_networks, random_case};
use rnnc_verify::{Random, Trial, Verdict, Window, judge, write_weights};

/// The reference executor of a case, with state gradients, in windows of `window` frames.
fn executor(case: &Case, window: usize, trial: &Trial<'_>) -> ReferenceExecutor {
    let options = PlanOptions::training(case.streams, window).with_input_gradients().with_state_gradients();
    let plan = Plan::new(&case.graph, options).unwrap();
    let config = ExecutionConfig { window, step: window, ..case.config() };
    let mut executor = ReferenceExecutor::new(plan, config).unwrap();
    write_weights(&mut executor, &trial.weights).unwrap();
    executor
}

fn forward(executor: &mut dyn Executor, window: &Window) {
    window.forward(executor).unwrap();
}

fn backward(executor: &mut dyn Executor, window: &Window, left: &[Vec<f64>]) {
    let errors: Vec<_> = window.output_gradients.iter().map(|g| g.as_deref().map(Values::F32)).collect();
    let left: Vec<_> = left.iter().map(|values| Some(Values::F64(values))).collect();
    executor.backward_from(window.frames, &errors, &left).unwrap();
}

/// The layers of a state, and how many numbers each has.
fn vectors(executor: &dyn Executor) -> Vec<(LayerId, usize)> {
    let (graph, streams) = (&executor.plan().forward, executor.config().streams);
    state_vectors(graph).map(|(id, depth)| (id, depth * streams * graph.layer_at(id).size)).collect()
}

fn state_gradients(executor: &dyn Executor) -> Vec<Vec<f64>> {
    let gradient = |(vector, (_, len)): (usize, (LayerId, usize))| {
        let mut values = vec![0.0; len];
        executor.state_gradient(vector, ValuesMut::F64(&mut values)).unwrap();
        values
    };
    vectors(executor).into_iter().enumerate().map(gradient).collect()
}

fn gradients(executor: &dyn Executor) -> Vec<Vec<f64>> {
    let weights = executor.plan().forward.weights().iter().enumerate();
    let gradient = |(id, weight): (usize, &rnnc_graph::Weight)| {
        let mut values = vec![0.0; weight.len()];
        let id = WeightId::from_index(id);
        executor.read(ParameterArray::Gradient, id, ValuesMut::F64(&mut values)).unwrap();
        values
    };
    weights.map(gradient).collect()
}

/// The vectors of a state, symbols left out.
fn numbers(state: &mut State) -> Vec<&mut Vec<f64>> {
    state.histories.iter_mut().filter(|h| !h.symbols).map(|h| &mut h.values).collect()
}

/// A functional of the outputs of a case's last window and of the state that it leaves, as a function of the state that it
/// begins with.
struct Functional<'a> {
    executor: ReferenceExecutor,
    window: &'a Window,
    begin: State,
    left: Vec<Vec<f64>>,
}

impl Functional<'_> {
    /// The value, and the sum of its terms' magnitudes.
    fn value(&mut self, begin: &State) -> (f64, f64) {
        self.executor.set_state(begin).unwrap();
        forward(&mut self.executor, self.window);
        let mut terms = Vec::new();
        for (output, errors) in self.window.output_gradients.iter().enumerate() {
            let Some(errors) = errors else { continue };
            let mut y = vec![0.0; errors.len()];
            self.executor.output(output, ValuesMut::F64(&mut y)).unwrap();
            terms.extend(y.iter().zip(errors).map(|(y, &e)| y * f64::from(e)));
        }
        let mut end = self.executor.forward_state().unwrap();
        for (values, left) in numbers(&mut end).into_iter().zip(&self.left) {
            terms.extend(values.iter().zip(left).map(|(y, e)| y * e));
        }
        (terms.iter().sum(), terms.iter().map(|x| x.abs()).sum())
    }
}

/// Checks some derivatives with respect to the state that the case's last window begins with. Returns how many were not 0.
fn check(case: &Case, each: usize) -> usize {
    let trial = case.trial().unwrap();
    let longest = case.windows.iter().copied().max().unwrap();
    let mut executor = executor(case, longest, &trial);
    let (last, before) = trial.windows.split_last().unwrap();
    before.iter().for_each(|window| forward(&mut executor, window));
    let begin = executor.forward_state().unwrap();
    let mut random = Random(case.seed ^ 5);
    let left: Vec<Vec<f64>> = vectors(&executor)
        .into_iter()
        .map(|(_, len)| random.numbers(len, 1.0).into_iter().map(f64::from).collect())
        .collect();
    let mut functional = Functional { executor, window: last, begin, left };
    let begin = functional.begin.clone();
    let (_, magnitude) = functional.value(&begin);
    let left = functional.left.clone();
    backward(&mut functional.executor, last, &left);
    let gradients = state_gradients(&functional.executor);
    let mut found = 0;
    for (vector, gradient) in gradients.iter().enumerate() {
        for _ in 0..each.min(gradient.len()) {
            let place = (random.bits() % gradient.len() as u64) as usize;
            let verdict = judge(gradient[place], magnitude, |h| {
                let mut moved = begin.clone();
                numbers(&mut moved)[vector][place] += h;
                Ok::<_, String>(functional.value(&moved).0)
            });
            let verdict = verdict.unwrap();
            let layer =
                &functional.executor.plan().forward.layer_at(vectors(&functional.executor)[vector].0).name;
            assert!(
                matches!(verdict, Verdict::Agrees(_)),
                "{}: `{layer}`[{place}]: {:e}, {verdict:?}",
                case.name,
                gradient[place]
            );
            found += usize::from(gradient[place] != 0.0);
        }
    }
    found
}

/// With history, with resets and without, and a last window that is shorter than some delays.
fn small(name: &str, graph: &Graph) -> Vec<Case> {
    [(vec![9, 6], 0.2), (vec![9, 6], 0.0), (vec![9, 1], 0.1)]
        .into_iter()
        .map(|(windows, resets)| Case {
            training: true,
            ..Case::new(name, graph.clone(), 2, &windows, resets)
        })
        .collect()
}

#[test]
fn every_gradient_of_the_state_of_every_network_is_a_derivative() {
    let mut found = 0;
    for network in networks().iter().filter(|n| n.name != "stop_gradients") {
        for case in small(network.name, &(network.build)(2, 4)) {
            found += check(&case, 6);
        }
    }
    assert!(found > 500, "{found}");
}

#[test]
fn every_gradient_of_the_state_of_every_cell_and_operation_is_a_derivative() {
    let mut found = 0;
    for (name, graph) in cell_networks(2, 4).into_iter().chain(operation_networks(2, 3)) {
        for case in small(&name, &graph) {
            found += check(&case, 6);
        }
    }
    assert!(found > 300, "{found}");
}

/// Gradients of the weights and of the state before the first window, from two windows of 32 frames that are joined by the
/// gradient of the state between them, and from one of 64.
#[test]
fn two_windows_joined_by_their_state_have_the_gradient_of_one() {
    let cells = cell_networks(3, 8).into_iter().filter(|(_, graph)| !graph.looks_ahead());
    for (name, graph) in cells {
        for resets in [0.0, 0.1] {
            let case = Case::new(&name, graph.clone(), 2, &[32, 32], resets);
            let trial = case.trial().unwrap();
            let both = trial.joined().windows.swap_remove(0);
            let mut whole = executor(&case, 64, &trial);
            // Begin somewhere.
            let mut begin = {
                forward(&mut whole, &both);
                whole.forward_state().unwrap()
            };
            numbers(&mut begin).into_iter().flatten().for_each(|x| *x *= 0.5);
            whole.set_state(&begin).unwrap();
            forward(&mut whole, &both);
            backward(&mut whole, &both, &[]);
            let expected = (gradients(&whole), state_gradients(&whole));

            let [first, second] = &trial.windows[..] else { unreachable!() };
            let mut halves = executor(&case, 32, &trial);
            halves.set_state(&begin).unwrap();
            forward(&mut halves, first);
            let middle = halves.forward_state().unwrap();
            forward(&mut halves, second);
            backward(&mut halves, second, &[]);
            let (later, between) = (gradients(&halves), state_gradients(&halves));
            halves.set_state(&begin).unwrap();
            forward(&mut halves, first);
            assert_eq!(halves.forward_state().unwrap(), middle);
            backward(&mut halves, first, &between);
            let mut found = (gradients(&halves), state_gradients(&halves));
            found.0.iter_mut().zip(later).for_each(|(g, l)| g.iter_mut().zip(l).for_each(|(g, l)| *g += l));
            for (expected, found) in [(expected.0, found.0), (expected.1, found.1)] {
                for (expected, found) in expected.iter().zip(&found) {
                    let size = expected.iter().fold(1.0f64, |most, x| most.max(x.abs()));
                    for (e, f) in expected.iter().zip(found) {
                        assert!((e - f).abs() <= 1e-12 * size, "{}: {e:e} and {f:e}", case.name);
                    }
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(contextualize_config(ProptestConfig {
        cases: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    }))]

    #[test]
    fn every_gradient_of_the_state_of_random_networks_is_a_derivative(case in random_case(Smooth::Yes)) {
        prop_assume!(case.graph.connections().iter().all(|c| !c.stops_gradient));
        let mut windows = case.windows.clone();
        windows.push(3);
        check(&Case { windows, ..case }, 3);
    }
}
