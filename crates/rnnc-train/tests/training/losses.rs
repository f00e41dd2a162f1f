//! Losses whose frames do not all weigh the same, beside PyTorch, and weights that are not learned.

use crate::support::reference;
use rnnc_graph::Graph;
use rnnc_io::Weights;
use rnnc_plan::{Optimizer, OptimizerSettings};
use rnnc_train::{
    Column, Evaluator, EvaluatorConfig, Loss, MakeExecutor, Sequences, Trainer, TrainingConfig,
};
use std::sync::atomic::AtomicBool;

fn compile(text: &str) -> Graph {
    rnnc_lang::compile("net.rnn", text, None).unwrap()
}

fn cpu(
    plan: rnnc_plan::Plan,
    config: rnnc_plan::ExecutionConfig,
) -> Result<Box<dyn rnnc_plan::Executor>, rnnc_plan::ExecutorError> {
    Ok(Box::new(rnnc_cpu::CpuExecutor::new(plan, config)?))
}

/// The loss and the gradient's norm in the first window, and the loss of an evaluation, on every executor.
fn on_all(graph: &Graph, weights: &[Vec<f64>], data: &Sequences, config: &TrainingConfig) -> Vec<[f64; 3]> {
    let makes: [MakeExecutor<'_>; 2] = [&reference, &cpu];
    let network = config.loss.of_with(graph, None, &config.loss_settings()).unwrap();
    let found = makes.map(|make| {
        let mut trainer = Trainer::new(network.clone(), "", data.clone(), config, 1, make).unwrap();
        let weights = Weights(weights.to_vec());
        trainer.set_weights(&weights).unwrap();
        let step = trainer.step().unwrap();
        let setup =
            EvaluatorConfig { metrics: &[], streams: 1, window: 2, frames: None, threads: 1, scales: &[] };
        let mut evaluator = Evaluator::new(&network, data.clone(), &setup, make).unwrap();
        let evaluated = evaluator.evaluate(&weights, &AtomicBool::new(false)).unwrap().unwrap();
        [step.loss(), step.gradient_norm, evaluated.loss]
    });
    found.to_vec()
}

fn are_close(found: &[[f64; 3]], [loss, norm]: [f64; 2]) {
    for found in found {
        let expected = [loss, norm, loss];
        let close = found.iter().zip(expected).all(|(f, e)| (f / e - 1.0).abs() < 1e-6);
        assert!(close, "{found:?}, in PyTorch {expected:?}");
    }
}

#[test]
fn the_error_to_signal_ratio_is_that_of_pytorch_with_and_without_pre_emphasis() {
    let graph = compile("network n { input x : vector(1)  y = dense(x; 1, bias = none)  output y }");
    let numbers = |values: [f32; 6]| Column::numbers(1, values.to_vec());
    let data = Sequences::one(vec![
        numbers([0.5, -1.0, 0.25, 2.0, -0.75, 1.5]),
        numbers([0.25, -0.5, 0.5, 1.0, -1.0, 0.5]),
    ])
    .unwrap();
    for (pre_emphasis, expected) in
        [(0.0, [0.3583256890519669, 1.3110831413374293]), (0.875, [0.11286115406102196, 0.6610851873964485])]
    {
        let config = TrainingConfig { pre_emphasis, ..TrainingConfig::new(1, 6, Loss::ErrorToSignal) };
        are_close(&on_all(&graph, &[vec![0.75]], &data, &config), expected);
    }
}

#[test]
fn a_silent_target_has_a_loss_that_is_a_number() {
    let graph = compile("network n { input x : vector(1)  y = dense(x; 1)  output y }");
    let data =
        Sequences::one(vec![Column::numbers(1, vec![1.0; 4]), Column::numbers(1, vec![0.0; 4])]).unwrap();
    let config = TrainingConfig::new(1, 4, Loss::ErrorToSignal);
    for [loss, norm, evaluated] in on_all(&graph, &[vec![0.5], vec![0.0]], &data, &config) {
        assert!(loss.is_finite() && norm.is_finite() && (evaluated / (0.25 / 1e-5) - 1.0).abs() < 1e-5);
    }
}

#[test]
fn weights_of_classes_are_those_of_pytorch() {
    let graph = compile("network n { input x : vector(2)  y = dense(x; 3, bias = none)  output y }");
    let data = Sequences::one(vec![
        Column::numbers(2, vec![1.0, 2.0, -1.0, 0.5, 0.5, -0.25, 2.0, 1.0]),
        Column::Symbols(vec![0, 2, 1, 2]),
    ])
    .unwrap();
    let class_weights = vec![1.0, 0.25, 3.0];
    let config = TrainingConfig { class_weights, ..TrainingConfig::new(1, 4, Loss::CrossEntropy) };
    let weights = [vec![0.5, -1.0, 0.25, 0.75, -0.5, 0.125]];
    are_close(&on_all(&graph, &weights, &data, &config), [1.7902121617956481, 1.0927447748145833]);
}

#[test]
fn settings_of_another_loss_are_refused_with_whose_they_are() {
    let graph = compile("network n { input x : vector(2)  y = dense(x; 3)  output y }");
    let error = |config: TrainingConfig| {
        config.loss.of_with(&graph, None, &config.loss_settings()).unwrap_err().to_string()
    };
    let plain = |loss| TrainingConfig::new(1, 1, loss);
    let found = error(TrainingConfig { pre_emphasis: 0.9, ..plain(Loss::Huber) });
    assert_eq!(found, "`training.pre_emphasis` is for `loss = \"error_to_signal\"`, not \"huber\"");
    let found = error(TrainingConfig { class_weights: vec![1.0], ..plain(Loss::Huber) });
    assert_eq!(found, "`training.class_weights` is for `loss = \"cross_entropy\"`, not \"huber\"");
    let found = error(TrainingConfig { class_weights: vec![1.0], ..plain(Loss::CrossEntropy) });
    assert_eq!(
        found,
        "`training.class_weights` must have a number for each of the 3 units of output `y`, not 1"
    );
}

#[test]
fn frozen_weights_stay_as_they_are_and_count_to_no_norm() {
    let graph =
        compile("network n { input x : vector(1)  h = tanh(dense(x; 2))  y = dense(h; 1)  output y }");
    let data =
        Sequences::one(vec![Column::numbers(1, vec![1.0, 2.0]), Column::numbers(1, vec![0.0, 1.0])]).unwrap();
    let places: Vec<usize> =
        (0..graph.weights().len()).filter(|&place| graph.weights()[place].name.starts_with("h.")).collect();
    for optimizer in Optimizer::ALL {
        let mut settings = OptimizerSettings::new(optimizer);
        settings = settings.with("weight_decay", &[0.1]).unwrap_or(settings);
        let config = TrainingConfig {
            optimizer: settings,
            frozen: vec!["h.*".into()],
            ..TrainingConfig::new(1, 2, Loss::MeanSquaredError)
        };
        let network = config.loss.of(&graph, None).unwrap();
        for make in [&reference as MakeExecutor<'_>, &cpu] {
            let new = |config: &TrainingConfig| {
                Trainer::new(network.clone(), "", data.clone(), config, 1, make).unwrap()
            };
            let mut trainer = new(&config);
            let before = trainer.weights().unwrap();
            let mut norms = Vec::new();
            for _ in 0..3 {
                norms.push(trainer.step().unwrap().gradient_norm);
            }
            let after = trainer.weights().unwrap();
            for (place, (before, after)) in before.0.iter().zip(&after.0).enumerate() {
                assert_eq!(before == after, places.contains(&place), "{}: weight {place}", optimizer.name());
            }
            let all =
                new(&TrainingConfig { frozen: Vec::new(), ..config.clone() }).step().unwrap().gradient_norm;
            assert!(norms[0] < all);
        }
    }
    let refused = |pattern: &str| {
        let config = TrainingConfig {
            frozen: vec![pattern.into()],
            ..TrainingConfig::new(1, 2, Loss::MeanSquaredError)
        };
        let network = config.loss.of(&graph, None).unwrap();
        Trainer::new(network, "", data.clone(), &config, 1, &reference).err().unwrap().to_string()
    };
    assert!(refused("g.*").starts_with("`training.frozen`: no weight matches `g.*`; they are `h."));
    assert_eq!(refused("*"), "`training.frozen`: it leaves no weight to learn");
}
