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
fn a_loop_takes_any_number_of_streams_by_turns() {
    let text = "network n { input x : vector(8)  h = lstm(x; 512)  output h }";
    let graph = rnnc_lang::compile("n.rnn", text, None).unwrap_or_else(|errors| panic!("{errors}"));
    let device = Device::named("h200").unwrap();
    for streams in [1024, 1000, 1 << 16] {
        let plan = Plan::new(&graph, PlanOptions::training(streams, 2)).unwrap();
        let config = ExecutionConfig::new(streams, 2);
        let explanation = explain(&plan, config, &device).unwrap_or_else(|error| panic!("{error}"));
        for found in explanation.passes.iter().flat_map(|p| &p.stages).flat_map(|s| &s.loops) {
            let groups = found.groups;
            assert!(found.blocks * groups.launched <= device.multiprocessors, "{found:?}");
            assert!(groups.streams * groups.launched * groups.turns() >= streams, "{found:?}");
            assert!(streams < 2000 || groups.turns() > 1, "{found:?}");
        }
    }
}

#[test]
fn a_loop_whose_sums_have_no_room_is_refused_in_words() {
    let text = "network n { input x : vector(8)  h = lstm(x; 64)  output h }";
    let graph = rnnc_lang::compile("n.rnn", text, None).unwrap_or_else(|errors| panic!("{errors}"));
    let device = Device { shared_bytes: 64, ..Device::named("h200").unwrap() };
    let plan = Plan::new(&graph, PlanOptions::training(4, 8)).unwrap();
    let error =
        compile(&plan, ExecutionConfig::new(4, 8), &device).err().map(|e| e.to_string()).unwrap_or_default();
    assert!(error.contains("loop of `h") && error.contains("no more than 1 of the streams"), "{error}");
}

/// What `rnnc plan` of many streams says of a loop, in whole.
#[test]
fn the_explanation_of_a_loop_whose_streams_are_in_groups() {
    let text = "network n { input x : vector(64)  h = lstm(x; 64)  output h }";
    let graph = rnnc_lang::compile("n.rnn", text, None).unwrap_or_else(|errors| panic!("{errors}"));
    let plan = Plan::new(&graph, PlanOptions::inference(3000, 128)).unwrap();
    let explanation =
        explain(&plan, ExecutionConfig::new(3000, 128), &Device::named("h200").unwrap()).unwrap();
    insta::assert_snapshot!(format!(
        "{explanation}\n{}",
        rnnc_report::summary(&plan, Some(&explanation.brief()))
    ));
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
