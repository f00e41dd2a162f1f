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
