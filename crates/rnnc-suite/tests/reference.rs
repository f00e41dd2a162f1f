//! The reference against itself, split in other ways, and against altered copies of itself: the suite must take the
//! one and refuse the other.

use proptest::prelude::*;
use proptest::test_runner::contextualize_config;
use rnnc_graph::Graph;
use rnnc_plan::{ExecutionConfig, ParameterArray, PlanOptions};
use rnnc_reference::ReferenceExecutor;
use rnnc_suite::{
    Alteration, Altered, Case, Smooth, cases, check, check_last_bits, check_refusals, check_updates,
    is_well_conditioned, networks, random_case,
};
use rnnc_verify::{Trial, outputs, weight_arrays, write_weights};

#[test]
fn the_reference_agrees_with_itself() {
    for case in cases() {
        let make = |plan, config| Altered::make(plan, config, Alteration::Nothing);
        check(&case, &make, 1e-12).unwrap();
    }
}

#[test]
fn the_reference_refuses_what_it_must() {
    check_refusals(&|plan, config| Altered::make(plan, config, Alteration::Nothing)).unwrap();
}

#[test]
fn gradients_of_any_size_move_weights_and_what_is_no_number_changes_nothing() {
    check_updates(&|plan, config| Altered::make(plan, config, Alteration::Nothing)).unwrap();
}

#[test]
fn the_cases_hardly_depend_on_the_last_bits_of_their_weights() {
    for case in cases() {
        check_last_bits(&case, 5e-5).unwrap_or_else(|wrong| panic!("{wrong}"));
    }
}

fn named(name: &str) -> Graph {
    (networks().iter().find(|n| n.name == name).unwrap().build)(3, 4)
}

#[test]
fn whatever_is_altered_is_seen() {
    let case = Case::new("lstm", named("lstm_peephole"), 2, &[3, 4, 2], 0.3).with_window(6);
    for (alteration, part) in [
        (Alteration::NoResets, "window by window"),
        (Alteration::ShortBackward, "window by window"),
        (Alteration::Gradient, "gradient of"),
        (Alteration::Output, "output c"),
        (Alteration::LateInputGradient, "gradient of input x"),
        (Alteration::LateBefore, "the state before"),
        (Alteration::NoState, "from a state"),
        (Alteration::NoKept, "from a state"),
        (Alteration::NoClear, "after clear_state"),
        (Alteration::OldWeights, "with other weights"),
        (Alteration::OutputBehind, "behind the backward pass"),
        (Alteration::NoSlots, "training"),
    ] {
        let error = check(&case, &|plan, config| Altered::make(plan, config, alteration), 1e-3).unwrap_err();
        assert!(error.contains(part), "{alteration:?}: {error}");
    }
}

#[test]
fn an_executor_that_takes_what_was_handed_in_ahead_is_seen() {
    // So many windows of one length that one is handed in ahead in place of another.
    let case = Case::new("lstm", named("lstm_peephole"), 2, &[3; 4], 0.3);
    let make = |plan, config| Altered::make(plan, config, Alteration::TakesPrefetched);
    let error = check(&case, &make, 1e-3).unwrap_err();
    assert!(error.contains("window by window: window 3: output"), "{error}");
}

#[test]
fn an_executor_that_does_not_clip_is_seen() {
    // Outputs in the hundreds have gradients with a norm above 1.
    let case = Case::new("exp", named("oscillator"), 1, &[8], 0.0);
    let loud = |plan, config| Altered::make(plan, config, Alteration::NoClip);
    let quiet = check(&case, &loud, 1e-3);
    let mut graph = case.graph.clone();
    let x = graph.inputs()[0];
    let y = graph.sum("loud", 3, rnnc_graph::Activation::Identity);
    let w = graph.weight("loud.W.x", &[3, 3], rnnc_graph::Init::Glorot);
    graph.connect(x, y, rnnc_graph::Connect::full(w));
    let louder = graph.sum("louder", 3, rnnc_graph::Activation::Identity);
    graph.connect(y, louder, rnnc_graph::Connect::scaled(50.0));
    graph.output("louder", louder);
    let case = Case { graph, ..case };
    let error = check(&case, &loud, 1e-3).unwrap_err();
    assert!(quiet.is_ok() && error.contains("training"), "{error}");
}

/// Runs the windows, each of them backward through everything before it, and sums the gradients.
fn summed_gradients(trial: &Trial<'_>) -> Vec<Vec<f64>> {
    let options = PlanOptions::training(trial.config.streams, trial.config.window);
    let plan = rnnc_plan::Plan::new(trial.graph, options).unwrap();
    let mut executor = ReferenceExecutor::new(plan, trial.config).unwrap();
    write_weights(&mut executor, &trial.weights).unwrap();
    let mut sums: Vec<Vec<f64>> = trial.graph.weights().iter().map(|w| vec![0.0; w.len()]).collect();
    let mut run = 0;
    for window in &trial.windows {
        run += window.frames;
        window.forward(&mut executor).unwrap();
        window.backward(&mut executor, run).unwrap();
        let gradients = weight_arrays(&executor, ParameterArray::Gradient).unwrap();
        for (sum, gradient) in sums.iter_mut().zip(gradients) {
            sum.iter_mut().zip(gradient.values).for_each(|(s, g)| *s += g);
        }
    }
    sums
}

/// Gradients are linear in the errors: with windows that go back to the beginning, those of all windows sum to those
/// of the whole.
#[test]
fn the_gradients_of_all_windows_sum_to_those_of_the_whole() {
    for case in cases().into_iter().filter(|case| !case.graph.looks_ahead() && case.windows.len() > 1) {
        let trial = case.trial().unwrap();
        let whole = trial.joined();
        let split = ExecutionConfig { window: whole.config.window, ..trial.config };
        let split = summed_gradients(&Trial { config: split, ..trial });
        let whole = summed_gradients(&whole);
        for ((split, whole), weight) in split.iter().zip(&whole).zip(case.graph.weights()) {
            let largest = whole.iter().fold(1e-3f64, |m, x| m.max(x.abs()));
            for (a, b) in split.iter().zip(whole) {
                assert!((a - b).abs() < 1e-10 * largest, "{}: `{}`: {a} and {b}", case.name, weight.name);
            }
        }
    }
}

/// The outputs of all windows.
fn all_outputs(trial: &Trial<'_>, plan: rnnc_plan::Plan) -> Vec<f64> {
    let mut executor = ReferenceExecutor::new(plan, trial.config).unwrap();
    write_weights(&mut executor, &trial.weights).unwrap();
    let mut all = Vec::new();
    for window in &trial.windows {
        window.forward(&mut executor).unwrap();
        all.extend(outputs(&executor, window.frames).unwrap().into_iter().flat_map(|array| array.values));
    }
    all
}

/// That a network in normal form, with reads of copies forwarded and constants taken out, computes what was written.
fn normal_form_computes_the_same(case: &Case) {
    // Masks are keyed by layers' names, which new layers leave alone.
    let plan = rnnc_plan::Plan::new(&case.graph, PlanOptions::inference(case.streams, 8)).unwrap();
    let trial = case.trial().unwrap();
    let as_written = rnnc_plan::Plan { forward: case.graph.clone(), constants: None, ..plan.clone() };
    let (found, expected) = (all_outputs(&trial, plan), all_outputs(&trial, as_written));
    for (a, b) in found.iter().zip(&expected) {
        let same = (a - b).abs() <= 1e-9 * b.abs().max(1e-3) || (a.is_nan() && b.is_nan());
        assert!(same, "{}: {a} in normal form, {b} as written", case.name);
    }
}

#[test]
fn the_normal_form_of_every_network_computes_what_was_written() {
    cases().iter().for_each(normal_form_computes_the_same);
}

proptest! {
    #![proptest_config(contextualize_config(ProptestConfig {
        cases: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    }))]

    #[test]
    fn random_networks_agree_with_themselves_however_they_are_split(case in random_case(Smooth::No)) {
        // Differences of the order of summation grow as any others do.
        prop_assume!(is_well_conditioned(&case, 2e-4));
        let make = |plan, config| Altered::make(plan, config, Alteration::Nothing);
        prop_assert_eq!(check(&case, &make, 1e-9), Ok(()));
    }

    #[test]
    fn the_normal_form_of_random_networks_computes_what_was_written(case in random_case(Smooth::No)) {
        prop_assume!(is_well_conditioned(&case, 2e-4));
        normal_form_computes_the_same(&case);
    }
}
