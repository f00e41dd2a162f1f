//! Training does what PyTorch does: the losses of the first 20 updates of a character model are those that
//! `bench/pytorch_losses.py` found with the same model, data order, initial weights and optimizer.

use rnnc_cpu::CpuExecutor;
use rnnc_plan::{ExecutionConfig, Executor, ExecutorError, Plan};
use rnnc_reference::ReferenceExecutor;
use rnnc_train::{Config, Event, Job, train};
use serde_json::Value;
use std::path::Path;
use std::sync::atomic::AtomicBool;

#[test]
fn the_first_losses_of_the_reference_are_those_of_pytorch() {
    compare(&|plan, config| Ok(Box::new(ReferenceExecutor::new(plan, config)?)));
}

#[test]
fn the_first_losses_of_the_cpu_executor_are_those_of_pytorch() {
    compare(&|plan, config| Ok(Box::new(CpuExecutor::new(plan, config)?)));
}

fn compare(make: &dyn Fn(Plan, ExecutionConfig) -> Result<Box<dyn Executor>, ExecutorError>) {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pytorch_losses");
    let expected: Value = serde_json::from_str(include_str!("pytorch_losses/losses.json")).unwrap();
    let expected: Vec<f64> =
        expected["losses"].as_array().unwrap().iter().map(|loss| loss.as_f64().unwrap()).collect();

    let mut config = Config::load(&fixture.join("train.toml")).unwrap();
    let kept = tempfile::tempdir().unwrap();
    config.run.directory = kept.path().join("run");
    let network_text = std::fs::read_to_string(&config.network.file).unwrap();
    let network = rnnc_lang::compile("network.rnn", &network_text, None).unwrap();
    let job = Job {
        config: &config,
        network: &network,
        network_text: &network_text,
        make,
        resume: false,
        stop: &AtomicBool::new(false),
    };
    let mut losses = Vec::new();
    train(&job, &mut |event: Event<'_>| {
        if let Event::Update(report) = event {
            losses.push(report.loss);
        }
    })
    .unwrap();

    assert_eq!(losses.len(), 20);
    assert_eq!(expected.len(), 20);
    for (update, (found, expected)) in losses.iter().zip(&expected).enumerate() {
        let difference = (found / expected - 1.0).abs();
        assert!(difference < 1e-4, "update {}: loss {found}, in PyTorch {expected}", update + 1);
    }
    // The fixture itself is of a network that learns.
    assert!(expected[19] < expected[0] - 1.0, "{expected:?}");
}
