//! Calls as functions of what they are given: the same bits as an executor's, the same numbers as the reference's, whatever the caller's
//! arrays are like, and however many calls there are at a time.

use rnnc_cpu::{Compiled, CpuExecutor};
use rnnc_graph::WeightId;
use rnnc_plan::{
    ExecutionConfig, Executor, Functional, History, ParameterArray, PortKind, Replayed, State, ValuesMut,
};
use rnnc_reference::ReferenceExecutor;
use rnnc_suite::functional::{
    Around, Results, TapeMemory, backward, both, check_functional, check_joined, draw_around, forward,
    functional_config, functional_plan, held, state_len,
};
use rnnc_suite::{Case, cases, cell_networks, networks};
use rnnc_verify::{Random, Window, write_weights};
use std::sync::Arc;

/// Relative to the largest number of an array; single precision against double.
const TOLERANCE: f64 = 2e-4;

fn compiled(case: &Case, config: ExecutionConfig) -> Arc<Compiled> {
    Compiled::new(functional_plan(&held(&case.graph), case.streams, config.window).unwrap(), config).unwrap()
}

fn reference(case: &Case, config: ExecutionConfig) -> Replayed<ReferenceExecutor> {
    let plan = functional_plan(&held(&case.graph), case.streams, config.window).unwrap();
    Replayed::new(ReferenceExecutor::new(plan, config).unwrap())
}

/// What an executor gives in a window, beginning with that state.
fn executed(executor: &mut CpuExecutor, functional: &Compiled, window: &Window, around: &Around) -> Results {
    let (ports, streams) = (functional.ports(), functional.config().streams);
    executor.clear_state();
    if let Some(state) = &around.state {
        let mut histories: Vec<_> = (ports.state.iter().zip(state))
            .map(|(port, values)| {
                let symbols = port.kind == PortKind::Symbols;
                let (layer, depth) = (port.name.clone(), port.depth);
                let size = if symbols { 1 } else { port.size };
                (port.layer, History { layer, depth, size, symbols, values: values.clone() })
            })
            .collect();
        histories.sort_by_key(|(layer, _)| *layer);
        let histories = histories.into_iter().map(|(_, history)| history).collect();
        let since_reset = vec![1 << 40; streams];
        let state = State { histories, since_reset, frames: around.first_frame, kept: None };
        executor.set_state(&state).unwrap();
    }
    window.forward(executor).unwrap();
    let mut left = vec![None; ports.state.iter().filter(|port| port.vector.is_some()).count()];
    for (port, values) in ports.state.iter().zip(&around.left) {
        if let (Some(vector), Some(values)) = (port.vector, values) {
            left[vector] = Some(values.iter().map(|x| *x as f32).collect());
        }
    }
    let frames = window.frames;
    window.backward_from(executor, frames, &left).unwrap();
    let mut results = Results {
        outputs: ports.outputs.iter().map(|port| vec![0.0; frames * streams * port.size]).collect(),
        state: Vec::new(),
        d_weights: ports.weights.iter().map(|port| vec![0.0; port.shape.iter().product()]).collect(),
        d_inputs: Vec::new(),
        d_state: Vec::new(),
    };
    for (place, values) in results.outputs.iter_mut().enumerate() {
        executor.output(place, ValuesMut::F64(values)).unwrap();
    }
    for (place, values) in results.d_weights.iter_mut().enumerate() {
        let id = WeightId::from_index(place);
        executor.read(ParameterArray::Gradient, id, ValuesMut::F64(values)).unwrap();
    }
    for (place, port) in ports.inputs.iter().enumerate() {
        let is_numbers = port.kind == PortKind::Numbers;
        let mut values = vec![0.0; if is_numbers { frames * streams * port.size } else { 0 }];
        if is_numbers {
            executor.input_gradient(place, ValuesMut::F64(&mut values)).unwrap();
        }
        results.d_inputs.push(values);
    }
    let state = executor.forward_state().unwrap();
    for port in &ports.state {
        results.state.push(state.histories.iter().find(|h| h.layer == port.name).unwrap().values.clone());
        let mut values = vec![0.0; port.vector.map_or(0, |_| state_len(port, streams))];
        if let Some(vector) = port.vector {
            executor.state_gradient(vector, ValuesMut::F64(&mut values)).unwrap();
        }
        results.d_state.push(values);
    }
    results
}

/// Without the gradients and the values of state before a reset within several frames: an executor's state says when resets were.
fn without_deep_state(functional: &dyn Functional, mut around: Around) -> Around {
    for (port, left) in functional.ports().state.iter().zip(&mut around.left) {
        if port.depth > 1 {
            *left = None;
        }
    }
    around
}

/// The bits of all results, so that one that is no number equals itself.
fn bits(results: &Results, functional: &dyn Functional) -> Vec<u64> {
    results.named(functional).into_iter().flat_map(|array| array.values).map(f64::to_bits).collect()
}

#[test]
fn calls_have_the_bits_of_an_executor_s() {
    for threads in [1, 2] {
        for case in cases() {
            let config = ExecutionConfig { threads, ..functional_config(&case) };
            let functional = compiled(&case, config);
            let trial = case.trial().unwrap();
            let mut random = Random(case.seed ^ 3);
            let plan = functional_plan(&held(&case.graph), case.streams, config.window).unwrap();
            let mut executor = CpuExecutor::new(plan, config).unwrap();
            write_weights(&mut executor, &trial.weights).unwrap();
            for (place, window) in trial.windows.iter().enumerate() {
                let around = draw_around(&*functional, &case, &trial, &mut random);
                let mut around = without_deep_state(&*functional, around);
                if place == 1 {
                    around = Around { state: None, first_frame: 0, ..around };
                }
                let expected = executed(&mut executor, &functional, window, &around);
                let mut found = both(&*functional, window, &around).unwrap();
                for (place, port) in functional.ports().state.iter().enumerate() {
                    if port.depth > 1 {
                        found.state[place] = expected.state[place].clone();
                    }
                }
                let (found, expected) = (bits(&found, &*functional), bits(&expected, &*functional));
                assert!(found == expected, "{}, window {place}, {threads} threads", case.name);
            }
        }
    }
}

#[test]
fn calls_agree_with_the_reference_with_state_and_without() {
    let wrong: Vec<String> = (cases().iter())
        .filter_map(|case| {
            let config = ExecutionConfig { threads: 2, ..functional_config(case) };
            let (found, expected) = (compiled(case, config), reference(case, config));
            check_functional(case, &*found, &expected, TOLERANCE).err()
        })
        .collect();
    assert!(wrong.is_empty(), "{} cases:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn two_calls_joined_by_state_are_one_call() {
    let networks = networks().into_iter().map(|network| (network.name.to_owned(), (network.build)(3, 8)));
    let mut wrong = Vec::new();
    for (name, graph) in networks.chain(cell_networks(5, 8)).filter(|(_, graph)| !graph.looks_ahead()) {
        for resets in [0.0, 0.1] {
            let case = Case { training: true, ..Case::new(&name, graph.clone(), 2, &[32, 32], resets) };
            let config = |frames| ExecutionConfig { window: frames, step: frames, ..case.config() };
            let (whole, half) = (compiled(&case, config(64)), compiled(&case, config(40)));
            wrong.extend(check_joined(&case, &*whole, &*half, 1e-4).err());
        }
    }
    assert!(wrong.is_empty(), "{} cases:\n{}", wrong.len(), wrong.join("\n"));
}
