//! What explanations look like.

use rnnc_cuda::compile::compile;
use rnnc_cuda::device::Device;
use rnnc_cuda::explain::explain;
use rnnc_plan::{ExecutionConfig, Plan, PlanOptions};

#[test]
fn the_explanation_of_a_network_with_every_kind_of_stage() {
    let text = "network n { input x : symbol(50)  h = lstm(x; 64)  s = indrnn(h; 32)  q = mingru(s; 32)  y = dense(q; 50)  output y }";
    let graph = rnnc_lang::compile("n.rnn", text, None).unwrap_or_else(|errors| panic!("{errors}"));
    let plan = Plan::new(&graph, PlanOptions::training(2, 128)).unwrap();
    let explanation = explain(&plan, ExecutionConfig::new(2, 128), &Device::named("h200").unwrap()).unwrap();
    insta::assert_snapshot!(explanation);
}

#[test]
fn more_streams_than_a_loop_has_room_for_are_refused_in_words() {
    let text = "network n { input x : vector(8)  h = lstm(x; 64)  output h }";
    let graph = rnnc_lang::compile("n.rnn", text, None).unwrap_or_else(|errors| panic!("{errors}"));
    let device = Device::named("h200").unwrap();
    let of = |streams| {
        let plan = Plan::new(&graph, PlanOptions::training(streams, 8)).unwrap();
        compile(&plan, ExecutionConfig::new(streams, 8), &device)
            .map(|_| ())
            .map_err(|error| error.to_string())
    };
    assert_eq!(of(1024), Ok(()));
    let error = of(1 << 20).unwrap_err();
    assert!(error.contains("loop of `h") && error.contains("1048576 streams"), "{error}");
}

/// What `rnnc plan` says of a network on an H200, but for what it lists at length.
fn summary_of(text: &str) -> String {
    let graph = rnnc_lang::compile("n.rnn", text, None).unwrap_or_else(|errors| panic!("{errors}"));
    let plan = Plan::new(&graph, PlanOptions::training(1, 256)).unwrap();
    let explanation = explain(&plan, ExecutionConfig::new(1, 256), &Device::named("h200").unwrap()).unwrap();
    rnnc_report::summary(&plan, Some(&explanation.brief()))
}

#[test]
fn the_summary_of_a_loop() {
    let text = "network lstm { input x : vector(64)  h = lstm(x; 64)  y = dense(h; 10)  output y }";
    insta::assert_snapshot!(summary_of(text));
}

#[test]
fn the_summary_of_loops_that_run_side_by_side() {
    insta::assert_snapshot!(summary_of(
        "network gru2 { input x : vector(64)  a = gru(x; 128)  b = gru(a; 128)  y = dense(b; 10)  output y }"
    ));
}

#[test]
fn the_summary_of_a_scan() {
    let text = "network sru { input x : vector(64)  h = sru(x; 64)  y = dense(h; 10)  output y }";
    insta::assert_snapshot!(summary_of(text));
}

#[test]
fn the_summary_of_a_loop_with_a_vector_function() {
    let text =
        "network norm { input x : vector(64)  h = lstm_layer_norm(x; 64)  y = dense(h; 10)  output y }";
    insta::assert_snapshot!(summary_of(text));
}

#[test]
fn the_summary_of_loops_all_over_the_device() {
    insta::assert_snapshot!(summary_of(
        "network large { input x : vector(64)  a = lstm(x; 4096)  b = lstm(a; 1024)  y = dense(b; 10)  output y }"
    ));
}
