//! The reference as a pure function: calls joined by state are one call, gradients are derivatives, and every layer can be state.

use rnnc_graph::{Graph, Start};
use rnnc_plan::{ExecutionConfig, Functional, PortKind, Replayed};
use rnnc_reference::ReferenceExecutor;
use rnnc_suite::functional::{
    Around, TapeMemory, both, check_joined, draw_around, forward, functional_config, functional_plan, held,
    odd_state,
};
use rnnc_suite::{Case, cell_networks, networks};
use rnnc_verify::{Random, Verdict, Window, judge};

fn replayed(graph: &Graph, config: ExecutionConfig) -> Replayed<ReferenceExecutor> {
    let plan = functional_plan(graph, config.streams, config.window).unwrap();
    Replayed::new(ReferenceExecutor::new(plan, config).unwrap())
}

fn compile(text: &str) -> Graph {
    rnnc_lang::compile("text", text, None).unwrap_or_else(|errors| panic!("{}", errors.render(false)))
}

#[test]
fn two_calls_joined_by_state_are_one_call_to_the_last_digits() {
    let networks = networks().into_iter().map(|network| (network.name.to_owned(), (network.build)(3, 4)));
    let odd = [("odd".to_owned(), odd_state())];
    let all = networks.chain(cell_networks(3, 4)).chain(odd).filter(|(_, graph)| !graph.looks_ahead());
    let mut wrong = Vec::new();
    for (name, graph) in all {
        for (windows, resets) in [([32, 32], 0.0), ([32, 32], 0.1), ([1, 2], 0.0), ([2, 1], 0.3)] {
            let case = Case { training: true, ..Case::new(&name, graph.clone(), 2, &windows, resets) };
            let config = |frames| ExecutionConfig { window: frames, step: frames, ..case.config() };
            let graph = held(&graph);
            let whole = replayed(&graph, config(windows.iter().sum()));
            let half = replayed(&graph, config(32));
            wrong.extend(check_joined(&case, &whole, &half, 1e-12).err());
        }
    }
    assert!(wrong.is_empty(), "{} cases:\n{}", wrong.len(), wrong.join("\n"));
}

/// The sum of all that a call gives, each number times its gradient; and that of the terms' magnitudes.
fn scalar(functional: &dyn Functional, window: &Window, around: &Around) -> Result<(f64, f64), String> {
    let mut tape = TapeMemory::new(functional.tape_len());
    let [outputs, state] = forward(functional, window, around, &mut tape).map_err(|e| e.to_string())?;
    let mut terms = Vec::new();
    for (y, errors) in outputs.iter().zip(&window.output_gradients) {
        terms.extend(errors.iter().flat_map(|errors| errors.iter().zip(y).map(|(e, y)| f64::from(*e) * y)));
    }
    for ((y, left), port) in state.iter().zip(&around.left).zip(&functional.ports().state) {
        if let (Some(left), PortKind::Numbers) = (left, port.kind) {
            terms.extend(left.iter().zip(y).map(|(e, y)| e * y));
        }
    }
    Ok((terms.iter().sum(), terms.iter().map(|x| x.abs()).sum()))
}

/// Whether the gradients of a case's calls are derivatives, along some directions of all weights and all state at once, and of one
/// vector of the state at a time.
fn check_derivatives(name: &str, graph: &Graph, windows: &[usize], resets: f64) -> Vec<String> {
    let case = Case { training: true, ..Case::new(name, graph.clone(), 2, windows, resets) };
    let trial = case.trial().unwrap();
    let functional = replayed(graph, functional_config(&case));
    let ports = functional.ports();
    let mut random = Random(case.seed ^ 17);
    let mut wrong = Vec::new();
    for window in &trial.windows {
        let given = Around { seed: case.seed, ..draw_around(&functional, &case, &trial, &mut random) };
        for around in [Around { state: None, ..given.clone() }, given] {
            let results = both(&functional, window, &around).unwrap();
            let (_, magnitude) = scalar(&functional, window, &around).unwrap();
            // `None`: weights, and all state.
            let vectors = around.state.iter().flat_map(|state| (0..state.len()).map(Some));
            for alone in std::iter::once(None).chain(vectors) {
                let mut draw = |values: &[f64], moves: bool| -> Vec<f64> {
                    values.iter().map(|_| if moves { 2.0 * random.unit() - 1.0 } else { 0.0 }).collect()
                };
                let weights: Vec<Vec<f64>> =
                    around.weights.iter().map(|w| draw(w, alone.is_none())).collect();
                let state: Vec<Vec<f64>> = (around.state.iter().flatten().enumerate())
                    .map(|(place, values)| {
                        let moves = alone.is_none_or(|alone| alone == place);
                        draw(values, moves && ports.state[place].kind == PortKind::Numbers)
                    })
                    .collect();
                let along = |gradients: &[Vec<f64>], directions: &[Vec<f64>]| -> f64 {
                    let pairs = gradients.iter().zip(directions);
                    pairs.flat_map(|(g, d)| g.iter().zip(d).map(|(g, d)| g * d)).sum()
                };
                let derivative = along(&results.d_weights, &weights) + along(&results.d_state, &state);
                let moved = |from: &[Vec<f64>], directions: &[Vec<f64>], h: f64| -> Vec<Vec<f64>> {
                    let each = from.iter().zip(directions);
                    each.map(|(x, d)| x.iter().zip(d).map(|(x, d)| x + h * d).collect()).collect()
                };
                let verdict = judge(derivative, magnitude, |h| {
                    let around = Around {
                        weights: moved(&around.weights, &weights, h),
                        state: around.state.as_ref().map(|from| moved(from, &state, h)),
                        ..around.clone()
                    };
                    scalar(&functional, window, &around).map(|(value, _)| value)
                });
                let verdict = verdict.unwrap();
                if !matches!(verdict, Verdict::Agrees(_)) {
                    let of = alone.map_or("all", |vector| &ports.state[vector].name);
                    let begins = if around.state.is_some() { "with state" } else { "from the beginning" };
                    wrong.push(format!("{}: of {of}, {begins}: {derivative:e}, {verdict:?}", case.name));
                }
            }
        }
    }
    wrong
}

#[test]
fn gradients_of_weights_and_of_held_state_are_derivatives() {
    let smooth =
        |name: &str| !["stop_gradients", "max_gate", "max_and_min", "order_of_operations"].contains(&name);
    let networks = networks().into_iter().map(|network| (network.name.to_owned(), (network.build)(2, 4)));
    let mut wrong = Vec::new();
    for (name, graph) in networks.filter(|(name, _)| smooth(name)).chain([("odd".to_owned(), odd_state())]) {
        for (windows, resets) in [([5, 1], 0.0), ([3, 7], 0.2)] {
            wrong.extend(check_derivatives(&name, &held(&graph), &windows, resets));
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn every_layer_of_a_network_can_be_state_in_any_order() {
    let mut graph = odd_state();
    let names: Vec<String> = graph.layers().iter().map(|layer| layer.name.clone()).rev().collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    graph.hold_state(Some(&names)).unwrap();
    let functional = replayed(&graph, ExecutionConfig::new(2, 4));
    let ports: Vec<&str> = functional.ports().state.iter().map(|port| &*port.name).collect();
    assert_eq!(ports, names);
    let depth = |name: &str| functional.ports().state.iter().find(|port| port.name == name).unwrap().depth;
    assert_eq!(
        ["cat", "last", "prev", "prev2", "x", "s", "f", "unread", "a", "b", "k", "p"].map(depth),
        [1, 1, 1, 1, 3, 2, 2, 1, 2, 1, 1, 2]
    );
    assert_eq!(check_derivatives("all held", &graph, &[3, 1], 0.2), Vec::<String>::new());
}

#[test]
fn state_that_is_named_is_all_that_the_network_reads_with_a_delay() {
    let said = |names: &[&str]| odd_state().hold_state(Some(names)).unwrap_err().to_string();
    assert_eq!(said(&["pref2"]), "the network has no layer `pref2` to be state; did you mean `prev2`?");
    assert_eq!(said(&["cat", "cat"]), "`cat` is named twice as state");
    let missing = said(&["cat", "last"]);
    assert!(missing.ends_with("is read with a delay, and is not named as state: name it too"), "{missing}");
}

#[test]
fn state_before_a_reset_is_the_layer_s_start() {
    let mut graph =
        compile("network deep { input x: vector(1) h = x + 0 start h = 0.25 y = h[t-3] output y }");
    graph.hold_state(None).unwrap();
    assert_eq!(graph.layer_at(graph.held()[0]).start, Start::Constant(0.25));
    let functional = replayed(&graph, ExecutionConfig::new(1, 4));
    let window = |resets: Option<Vec<bool>>| Window {
        frames: 2,
        inputs: vec![rnnc_verify::Array::Numbers(vec![1.0, 2.0])],
        resets,
        output_gradients: vec![None],
    };
    let around = Around {
        weights: Vec::new(),
        state: Some(vec![vec![7.0, 8.0, 9.0]]),
        left: vec![Some(vec![1.0, 10.0, 100.0])],
        seed: 0,
        first_frame: 0,
    };
    let run = |resets, around: &Around| {
        let results = both(&functional, &window(resets), around).unwrap();
        (results.outputs[0].clone(), results.state[0].clone(), results.d_state[0].clone())
    };
    assert_eq!(run(None, &around), (vec![7.0, 8.0], vec![9.0, 1.0, 2.0], vec![0.0, 0.0, 1.0]));
    let later = run(Some(vec![false, true]), &around);
    assert_eq!(later, (vec![7.0, 0.25], vec![0.25, 0.25, 2.0], vec![0.0, 0.0, 0.0]));
    let beginning = run(None, &Around { state: None, ..around });
    assert_eq!(beginning, (vec![0.25, 0.25], vec![0.25, 1.0, 2.0], vec![0.0, 0.0, 0.0]));
}
