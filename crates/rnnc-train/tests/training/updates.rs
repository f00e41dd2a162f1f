//! Single updates: the loss, its gradient, windows, and what is said when numbers go wrong.

use crate::support::{dense, reference, symbol};
use rnnc_graph::{Activation, Connect, Graph, Init, LayerKind, Start, WeightId};
use rnnc_io::Weights;
use rnnc_plan::{ExecutionConfig, Executor, ExecutorError, NO_SYMBOL, OptimizerSettings, Plan};
use rnnc_train::{
    Column, Evaluator, EvaluatorConfig, Loss, MakeExecutor, Sequences, TrainError, Trainer, TrainingConfig,
};
use std::sync::atomic::AtomicBool;

fn text(bytes: &[u8]) -> Sequences {
    Sequences {
        columns: vec![Column::Bytes(bytes.to_vec()), Column::NextByte { of: 0 }],
        starts: vec![0],
        loss_mask: None,
        frames: bytes.len(),
    }
}

/// y = W x, from 4 symbols to 4.
fn bigrams() -> Graph {
    let mut graph = Graph::new("bigrams");
    let x = symbol(&mut graph, "x", 4);
    let y = graph.sum("y", 4, Activation::Identity);
    let w = graph.weight("y.W.x", &[4, 4], Init::Zeros);
    graph.connect(x, y, Connect::full(w));
    graph.output("y", y);
    graph
}

fn trainer(graph: &Graph, data: Sequences, config: &TrainingConfig) -> Result<Trainer, TrainError> {
    let network = config.loss.of(graph, config.output.as_deref()).unwrap();
    Trainer::new(network, "", data, config, 1, &reference)
}

#[test]
fn the_loss_is_the_mean_over_frames_that_have_a_target() {
    let config = TrainingConfig::new(1, 5, Loss::CrossEntropy);
    let mut trainer = trainer(&bigrams(), text(&[0, 1, 0, 1, 0]), &config).unwrap();
    let step = trainer.step().unwrap();
    // The last byte has no next one. Four symbols, none preferred: log 4 each.
    assert_eq!(step.counted, 4.0);
    assert!((step.loss() - 4f64.ln()).abs() < 1e-12);
    // Of the mean: 2 of 4 frames read symbol 0, with d/dy = softmax - one-hot of symbol 1; 2 read 1. For each
    // column of W: (1/4, -3/4, 1/4, 1/4) / 2 in some order, so the norm is sqrt(2 * 12/16) / 2.
    assert!((step.gradient_norm - 1.5f64.sqrt() / 2.0).abs() < 1e-12);
    // Adam's first step is the learning rate along the gradient's sign; symbols 2 and 3 were never read.
    let weights = trainer.weights().unwrap();
    let expected = |row: usize, column: usize| match (row, column) {
        (_, 2 | 3) => 0.0,
        (1, 0) | (0, 1) => 0.002,
        _ => -0.002,
    };
    for (place, w) in weights.0[0].iter().enumerate() {
        assert!((w - expected(place / 4, place % 4)).abs() < 1e-9, "{place}: {w}");
    }
    assert_eq!((trainer.updates(), trainer.position()), (1, 5));
}

#[test]
fn a_window_without_targets_has_no_loss_and_no_gradient() {
    let mut data = text(&[0, 1, 2, 0, 1, 2]);
    data.loss_mask = Some([[false; 3], [true; 3]].concat());
    let config = TrainingConfig::new(1, 3, Loss::CrossEntropy);
    let mut trainer = trainer(&bigrams(), data, &config).unwrap();
    let step = trainer.step().unwrap();
    assert_eq!((step.counted, step.gradient_norm), (0.0, 0.0));
    assert!(step.loss().is_nan());
    assert!(trainer.weights().unwrap().0[0].iter().all(|&w| w == 0.0));
}

#[test]
fn data_without_any_target_is_refused() {
    let mut data = text(&[0, 1, 2]);
    data.loss_mask = Some(vec![false; 3]);
    let config = TrainingConfig::new(1, 3, Loss::CrossEntropy);
    let error = trainer(&bigrams(), data, &config).err().unwrap();
    assert_eq!(error.to_string(), "of the 3 frames to train on, none has a target whose loss counts");
    assert!(error.is_bad_input());
}

#[test]
fn a_setting_out_of_its_bounds_is_refused_by_name_before_anything_else() {
    let config = TrainingConfig::new(1, 3, Loss::CrossEntropy);
    let adam = |name, values: &[f64]| OptimizerSettings::default().with(name, values).unwrap();
    for (config, expected) in [
        (TrainingConfig { learning_rate: 1e39, ..config.clone() }, "`training.learning_rate` must be"),
        (
            TrainingConfig { optimizer: adam("epsilon", &[1e-60]), ..config.clone() },
            "`training.epsilon` must be",
        ),
        (
            TrainingConfig { optimizer: adam("betas", &[0.9, f64::NAN]), ..config.clone() },
            "`training.betas` must be",
        ),
        (TrainingConfig { clip_norm: Some(-1.0), ..config.clone() }, "`training.clip_norm` must be"),
        (TrainingConfig { window: 0, ..config.clone() }, "`training.window` must be"),
    ] {
        let error = trainer(&bigrams(), text(&[0, 1, 2]), &config).err().unwrap().to_string();
        assert!(error.starts_with(expected), "{error}");
    }
}

#[test]
fn a_gradient_that_is_not_finite_leaves_the_weights_as_they_are() {
    // The derivative of sqrt at 0 is infinite.
    let mut graph = derivative();
    let root = graph.sum("root", 1, Activation::Sqrt);
    let w = graph.weight("root.diag.x", &[1], Init::Zeros);
    graph.connect(graph.find_layer("x").unwrap(), root, Connect::diagonal(w));
    graph.connect(root, graph.find_layer("y").unwrap(), Connect::identity());
    let numbers = |values: Vec<f32>| Column::Numbers { size: 1, values };
    let data = Sequences {
        columns: vec![numbers(vec![1.0, 2.0]), numbers(vec![1.0, 2.0])],
        starts: vec![0],
        loss_mask: None,
        frames: 2,
    };
    let config = TrainingConfig::new(1, 2, Loss::MeanSquaredError);
    let mut trainer = trainer(&graph, data, &config).unwrap();
    let error = trainer.step().unwrap_err().to_string();
    assert!(error.contains("the gradient of `root.diag.x` is"), "{error}");
    let cause =
        ": the derivative of sqrt in layer `root` is inf in unit 0 of stream 0, frame 0 of the window. Keep";
    assert!(error.contains(cause), "{error}");
    assert_eq!(trainer.weights().unwrap(), Weights(vec![vec![0.0], vec![0.0]]));
}

/// y = w x, one number each.
fn derivative() -> Graph {
    let mut graph = Graph::new("slope");
    let x = graph.input("x", 1);
    let y = graph.sum("y", 1, Activation::Identity);
    let w = graph.weight("y.diag.x", &[1], Init::Zeros);
    graph.connect(x, y, Connect::diagonal(w));
    graph.output("y", y);
    graph
}

#[test]
fn mean_squared_error_fits_a_line_and_heeds_the_mask() {
    let x: Vec<f32> = (0..20).map(|i| (i as f32 - 10.0) / 10.0).collect();
    // y = 3 x, but for every fourth frame, which does not count.
    let y = x.iter().enumerate().map(|(i, x)| if i % 4 == 0 { 1000.0 } else { 3.0 * x }).collect();
    let data = Sequences {
        columns: vec![Column::Numbers { size: 1, values: x }, Column::Numbers { size: 1, values: y }],
        starts: vec![0],
        loss_mask: Some((0..20).map(|i| i % 4 != 0).collect()),
        frames: 20,
    };
    let config = TrainingConfig { learning_rate: 0.1, ..TrainingConfig::new(2, 10, Loss::MeanSquaredError) };
    let mut trainer = trainer(&derivative(), data, &config).unwrap();
    let first = trainer.step().unwrap();
    assert_eq!(first.counted, 15.0);
    let last = (0..200).map(|_| trainer.step().unwrap().loss()).last().unwrap();
    assert!(last < 1e-3 * first.loss(), "{last}");
    assert!((trainer.weights().unwrap().0[0][0] - 3.0).abs() < 0.05);
}

#[test]
fn what_does_not_count_may_be_no_number_whatever_stands_there() {
    // y = log(x) + b. Frames that do not count have an x of 0, and targets that are none.
    let mut graph = Graph::new("logarithm");
    let x = graph.input("x", 3);
    let log = graph.sum("log", 3, Activation::Log);
    graph.connect(x, log, Connect::identity());
    let y = graph.sum("y", 3, Activation::Identity);
    graph.connect(log, y, Connect::identity());
    let weight = graph.weight("y.bias", &[3], Init::Zeros);
    let bias = graph.parameter("bias", weight);
    graph.connect(bias, y, Connect::identity());
    graph.output("y", y);
    let data = |target: Column| {
        let x = [[1.0; 3], [0.0; 3], [2.0, 1.0, 0.5], [0.0; 3]].concat();
        let loss_mask = Some(vec![true, false, true, false]);
        Sequences {
            columns: vec![Column::Numbers { size: 3, values: x }, target],
            starts: vec![0],
            loss_mask,
            frames: 4,
        }
    };
    let config = TrainingConfig::new(1, 4, Loss::CrossEntropy);
    let mut trainer = trainer(&graph, data(Column::Symbols(vec![1, 2, 0, 0])), &config).unwrap();
    let step = trainer.step().unwrap();
    let expected = 3f64.ln() - (2f64 / 3.5).ln();
    assert!((step.loss_sum - expected).abs() < 1e-12 && step.counted == 2.0, "{step:?}");
    assert!(trainer.weights().unwrap().0[0].iter().all(|w| w.is_finite() && *w != 0.0));

    // Squares of what no frame has: targets that are no numbers.
    let config = TrainingConfig::new(1, 4, Loss::MeanSquaredError);
    let targets = [[1.0; 3], [f32::NAN; 3], [1.0; 3], [f32::INFINITY; 3]].concat();
    let x = Column::Numbers { size: 1, values: vec![1.0; 4] };
    let y = Column::Numbers { size: 1, values: targets.iter().step_by(3).copied().collect() };
    let loss_mask = Some(vec![true, false, true, false]);
    let data = Sequences { columns: vec![x, y], starts: vec![0], loss_mask, frames: 4 };
    let mut trainer = crate::updates::trainer(&derivative(), data, &config).unwrap();
    let step = trainer.step().unwrap();
    assert_eq!((step.loss_sum, step.gradient_norm), (2.0, 2.0));
}

/// h = tanh(dense(x, h[t-1])), y = dense(h) + z
fn spoilt_output() -> Graph {
    let text = "network n { input x : vector(2)  input z : vector(3)  h = tanh(dense(x, h[t-1]; 4))  y = dense(h; 3) + z
        output y }";
    rnnc_lang::compile("net.rnn", text, None).unwrap()
}

/// Two sequences, of which frames 2, 3 and 6 do not count, with these numbers for x and z there; or, if there are none, without
/// these frames.
fn with_spoilt_frames(loss: Loss, spoilt: Option<[f32; 2]>) -> Sequences {
    let (mut columns, mut loss_mask) = ([const { Vec::new() }; 3], Vec::new());
    let mut symbols = Vec::new();
    for frame in 0..8 {
        // The last ones of their sequences, so that what follows is the same without them.
        let counts = ![2, 3, 7].contains(&frame);
        let number = |i: usize| ((frame * 3 + i) as f32).sin();
        let [x, z] = match (counts, spoilt) {
            (true, _) => [number(0), number(1)],
            (false, Some(spoilt)) => spoilt,
            (false, None) => continue,
        };
        columns[0].extend([x, x]);
        columns[1].extend([z, 1.0, z]);
        columns[2].extend([0, 1, 2].map(|i| if counts { number(i) } else { f32::NAN }));
        symbols.push(frame as u32 % 3);
        loss_mask.push(counts);
    }
    let [x, z, target] = columns;
    let target = match loss.takes_symbols() {
        true => Column::Symbols(symbols),
        false => Column::Numbers { size: 3, values: target },
    };
    let starts = vec![0, if spoilt.is_some() { 4 } else { 2 }];
    let frames = loss_mask.len();
    let columns =
        vec![Column::Numbers { size: 2, values: x }, Column::Numbers { size: 3, values: z }, target];
    Sequences { columns, starts, loss_mask: Some(loss_mask), frames }
}

#[test]
fn an_output_that_is_no_number_where_no_loss_counts_leaves_every_gradient_as_it_is_without_these_frames() {
    let cpu = |plan, config| -> Result<Box<dyn Executor>, ExecutorError> {
        Ok(Box::new(rnnc_cpu::CpuExecutor::new(plan, config)?))
    };
    for make in [&reference as MakeExecutor<'_>, &cpu] {
        for loss in Loss::ALL {
            let network = loss.of(&spoilt_output(), None).unwrap();
            let trained = |spoilt| {
                let data = with_spoilt_frames(loss, spoilt);
                let config = TrainingConfig::new(1, data.frames, loss);
                let mut trainer = Trainer::new(network.clone(), "", data, &config, 1, make).unwrap();
                let step = trainer.step().unwrap();
                (step, trainer.weights().unwrap())
            };
            let (without, weights) = trained(None);
            assert!(without.gradient_norm > 0.0 && without.counted > 0.0);
            for z in [0.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 3e38] {
                let (step, found) = trained(Some([0.5, z]));
                let close = |a: f64, b: f64| (a - b).abs() <= 1e-5 * (a.abs() + b.abs());
                assert!(
                    close(step.gradient_norm, without.gradient_norm),
                    "{loss:?}, {z}: {step:?}, {without:?}"
                );
                assert!(
                    close(step.loss_sum, without.loss_sum) && close(step.counted, without.counted),
                    "{loss:?}, {z}: {step:?}"
                );
                let pairs = || found.0.iter().flatten().zip(weights.0.iter().flatten());
                assert!(pairs().all(|(a, b)| (a - b).abs() < 1e-5), "{loss:?}, {z}");
            }
            // What a gradient is a product with is another matter: 0 times x, which is NaN.
            let data = with_spoilt_frames(loss, Some([f32::NAN, 0.0]));
            let config = TrainingConfig::new(1, data.frames, loss);
            let mut trainer = Trainer::new(network, "", data, &config, 1, make).unwrap();
            let error = trainer.step().unwrap_err().to_string();
            assert!(error.contains("the gradient of `"), "{loss:?}: {error}");
        }
    }
}

#[test]
fn a_target_that_is_no_number_is_refused_where_it_counts() {
    let mut data = with_spoilt_frames(Loss::MeanSquaredError, Some([0.5, 0.5]));
    data.loss_mask.as_mut().unwrap()[3] = true;
    let config = TrainingConfig::new(1, 8, Loss::MeanSquaredError);
    let error = trainer(&spoilt_output(), data, &config).err().unwrap();
    assert!(
        error.is_bad_input() && error.to_string().contains("NaN in frame 3, unit 0: give a number"),
        "{error}"
    );
}

#[test]
fn what_is_no_number_where_no_loss_counts_is_not_blamed_for_a_loss_that_is_none() {
    let text = "network n { input x : vector(2)  y = log(x) + param(2)  output y }";
    let graph = rnnc_lang::compile("net.rnn", text, None).unwrap();
    let numbers = |values: Vec<f32>| Column::Numbers { size: 2, values };
    let data = Sequences {
        columns: vec![
            numbers(vec![1.0, 1.0, 1.0, -1.0]),
            numbers(vec![f32::NAN; 2].into_iter().chain([1.0; 2]).collect()),
        ],
        starts: vec![0],
        loss_mask: Some(vec![false, true]),
        frames: 2,
    };
    let config = TrainingConfig::new(1, 2, Loss::MeanSquaredError);
    let error = trainer(&graph, data, &config).unwrap().step().unwrap_err().to_string();
    assert!(error.contains("layer `y") && error.contains("unit 1 of stream 0, frame 1"), "{error}");
}

#[test]
fn a_chain_of_many_layers_is_trained_and_run_on_a_small_stack() {
    const LAYERS: usize = 5000;
    let train = || {
        let chain: String =
            (1..LAYERS).map(|i| format!("h{i} = tanh(dense(h{}; 2) + h{}[t-1])\n", i - 1, i - 1)).collect();
        let text =
            format!("network n {{ input x : vector(2)\n h0 = tanh(x)\n{chain} output h{} }}", LAYERS - 1);
        let graph = rnnc_lang::compile("net.rnn", &text, None).unwrap();
        let numbers = |values: Vec<f32>| Column::Numbers { size: 2, values };
        let columns = vec![numbers(vec![0.5; 16]), numbers(vec![0.25; 16])];
        let data = Sequences { columns, starts: vec![0], loss_mask: None, frames: 8 };
        let config = TrainingConfig::new(1, 4, Loss::MeanSquaredError);
        let network = config.loss.of(&graph, None).unwrap();
        let make = |plan, config| -> Result<Box<dyn Executor>, ExecutorError> {
            Ok(Box::new(rnnc_cpu::CpuExecutor::new(plan, config)?))
        };
        let mut trainer = Trainer::new(network.clone(), "", data.clone(), &config, 1, &make).unwrap();
        for _ in 0..2 {
            assert!(trainer.step().unwrap().gradient_norm.is_finite());
        }
        let mut evaluator = Evaluator::new(&network, data, &evaluation(1, 4, None), &make).unwrap();
        let loss = evaluator.evaluate(&trainer.weights().unwrap(), &AtomicBool::new(false)).unwrap();
        assert!(loss.unwrap().loss.is_finite());
    };
    // Enough for a fixed number of calls one within the other, and not for one a layer.
    let small = std::thread::Builder::new().stack_size(1 << 18);
    small.spawn(train).unwrap().join().unwrap();
}

#[test]
fn with_a_short_step_errors_go_back_through_the_whole_window() {
    // s(t) = s(t-1) + w x(t), y = s: one x, in the first frame; the loss is read in the last step.
    let mut graph = Graph::new("sum");
    let x = graph.input("x", 1);
    let s = graph.sum("s", 1, Activation::Identity);
    let w = graph.weight("s.diag.x", &[1], Init::Zeros);
    graph.connect(x, s, Connect::diagonal(w));
    graph.connect(s, s, Connect::identity().delay(1));
    graph.output("s", s);
    let data = Sequences {
        columns: vec![
            Column::Numbers { size: 1, values: [vec![1.0], vec![0.0; 11]].concat() },
            Column::Numbers { size: 1, values: vec![1.0; 12] },
        ],
        starts: vec![0],
        loss_mask: None,
        frames: 12,
    };
    let norms = |window: usize| {
        let config = TrainingConfig {
            step: Some(2),
            learning_rate: 1e-12,
            ..TrainingConfig::new(1, window, Loss::MeanSquaredError)
        };
        let mut trainer = trainer(&graph, data.clone(), &config).unwrap();
        (0..6).map(|_| trainer.step().unwrap().gradient_norm).collect::<Vec<_>>()
    };
    // Each new frame's error is 2 (s - 1) = -2, and reaches w as long as frame 0 is in the window.
    for (window, reached) in [(2, 1), (4, 2), (6, 3), (12, 6)] {
        let norms = norms(window);
        let expected = |i: usize| if i < reached { 2.0 } else { 0.0 };
        assert!(norms.iter().enumerate().all(|(i, n)| (n - expected(i)).abs() < 1e-6), "{window}: {norms:?}");
    }
}

#[test]
fn a_trainer_that_is_restored_goes_on_from_there_whatever_it_read_ahead() {
    let config = TrainingConfig { step: Some(2), ..TrainingConfig::new(2, 4, Loss::CrossEntropy) };
    let bytes: Vec<u8> = (0..50u32).map(|i| (i * i / 7 % 4) as u8).collect();
    let mut trainer = trainer(&bigrams(), text(&bytes), &config).unwrap();
    let begin = trainer.checkpoint(0.0).unwrap();
    let run = |trainer: &mut Trainer| (0..3).map(|_| trainer.step().unwrap()).collect::<Vec<_>>();
    let (first, half) = (run(&mut trainer), trainer.checkpoint(0.0).unwrap());
    let second = run(&mut trainer);
    trainer.restore(&begin).unwrap();
    assert_eq!(run(&mut trainer), first);
    // Where it would have gone on anyway.
    trainer.restore(&half).unwrap();
    assert_eq!(run(&mut trainer), second);
    trainer.restore(&half).unwrap();
    assert_eq!(run(&mut trainer), second);
    assert_ne!(first, second);
}

#[test]
fn a_layer_that_overflows_is_named_with_its_frame() {
    // s(t) = 1e30 s(t-1) from 1: too large for single precision in frame 1, for double in frame 10.
    let mut graph = Graph::new("explodes");
    let x = symbol(&mut graph, "x", 4);
    let y = graph.sum("y", 4, Activation::Identity);
    dense(&mut graph, x, y, 0);
    let s = graph.sum("s", 4, Activation::Identity);
    graph.connect(s, s, Connect::scaled(1e30).delay(1));
    graph.set_start(s, Start::Constant(1.0));
    graph.connect(s, y, Connect::identity());
    graph.output("y", y);
    let config = TrainingConfig::new(1, 12, Loss::CrossEntropy);
    let mut trainer = trainer(&graph, text(&[0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3]), &config).unwrap();
    let error = trainer.step().unwrap_err();
    assert_eq!(
        error.to_string(),
        "update 1: layer `s` is the first that is too large or not a number: 1.000e60 in unit 0 of stream 0, frame 1 (frame 1 \
         of the window)"
    );
    assert!(!error.is_bad_input());
}

#[test]
fn the_frame_of_a_later_window_is_counted_from_the_beginning() {
    let mut graph = Graph::new("explodes");
    let x = symbol(&mut graph, "x", 4);
    let y = graph.sum("y", 4, Activation::Identity);
    dense(&mut graph, x, y, 0);
    let s = graph.sum("s", 4, Activation::Identity);
    graph.connect(s, s, Connect::scaled(1e15).delay(1));
    graph.set_start(s, Start::Constant(1e-30));
    graph.connect(s, y, Connect::identity());
    graph.output("y", y);
    let config = TrainingConfig::new(1, 8, Loss::CrossEntropy);
    let data = text(&[0, 1, 2, 3].repeat(8));
    let mut trainer = trainer(&graph, data, &config).unwrap();
    // 1e-30 * 1e15^(t+1): past single precision from frame 4 on, and past double from frame 22 on.
    trainer.step().unwrap();
    trainer.step().unwrap();
    let error = trainer.step().unwrap_err().to_string();
    assert!(
        error.starts_with("update 3: layer `s` is the first") && error.contains("frame 16 (frame 0 of"),
        "{error}"
    );
}

#[test]
fn a_gradient_that_is_no_number_names_its_weight() {
    // The derivative of sqrt at 0 is infinite.
    let mut graph = bigrams();
    let p = graph.weight("root.param", &[4], Init::Zeros);
    let parameter = graph.add_layer(rnnc_graph::Layer {
        name: "root.1".into(),
        kind: LayerKind::Parameter(p),
        ..graph.layer_at(graph.find_layer("y").unwrap()).clone()
    });
    let root = graph.sum("root", 4, Activation::Sqrt);
    graph.connect(parameter, root, Connect::identity());
    graph.connect(root, graph.find_layer("y").unwrap(), Connect::identity());
    let config = TrainingConfig::new(1, 3, Loss::CrossEntropy);
    let error = trainer(&graph, text(&[0, 1, 2]), &config).unwrap().step().unwrap_err().to_string();
    assert!(
        error.starts_with("update 1: every layer is finite, but the gradient of `root.param` is"),
        "{error}"
    );
}

#[test]
fn a_weight_that_is_no_number_is_named_before_any_layer() {
    let config = TrainingConfig::new(1, 3, Loss::CrossEntropy);
    let mut trainer = trainer(&bigrams(), text(&[0, 1, 2]), &config).unwrap();
    let mut weights = vec![0.0; 16];
    weights[5] = f64::NAN;
    trainer.set_weights(&Weights(vec![weights])).unwrap();
    let error = trainer.step().unwrap_err().to_string();
    assert_eq!(error, "update 1: weight `y.W.x` is NaN at [1, 1]");
}

#[test]
fn a_network_that_looks_ahead_trains_in_whole_windows_only() {
    let mut graph = bigrams();
    let (x, y) = (graph.find_layer("x").unwrap(), graph.find_layer("y").unwrap());
    graph.connect(x, y, Connect::full(WeightId::from_index(0)).delay(-1));
    let config = TrainingConfig::new(1, 4, Loss::CrossEntropy);
    trainer(&graph, text(&[0, 1, 2, 3, 0]), &config).unwrap().step().unwrap();
    let config = TrainingConfig { step: Some(2), ..config };
    let error = trainer(&graph, text(&[0, 1, 2, 3, 0]), &config).err().unwrap();
    assert!(error.to_string().contains("it looks ahead") && error.is_bad_input(), "{error}");
}

/// s(t) = 0.9 s(t - delay) + x(t), y = s: what was long ago is in every value.
fn leaky(delay: i64) -> Graph {
    let mut graph = Graph::new("leaky");
    let x = graph.input("x", 1);
    let s = graph.sum("s", 1, Activation::Identity);
    graph.connect(x, s, Connect::identity());
    graph.connect(s, s, Connect::scaled(0.9).delay(delay));
    graph.output("s", s);
    graph
}

#[test]
fn an_evaluation_runs_each_sequence_whole_with_its_state_carried_on() {
    let lengths = [300usize, 40, 7, 1, 0, 260].into_iter().filter(|&n| n > 0).collect::<Vec<_>>();
    let frames: usize = lengths.iter().sum();
    let starts: Vec<usize> = lengths.iter().scan(0, |at, n| Some(std::mem::replace(at, *at + n))).collect();
    let x: Vec<f32> = (0..frames).map(|i| ((i * i) % 17) as f32 / 17.0).collect();
    let loss_mask: Vec<bool> = (0..frames).map(|i| i % 5 != 0).collect();
    let data = Sequences {
        columns: vec![
            Column::Numbers { size: 1, values: x.clone() },
            Column::Numbers { size: 1, values: vec![0.25; frames] },
        ],
        starts: starts.clone(),
        loss_mask: Some(loss_mask.clone()),
        frames,
    };
    // The mean of (s - 1/4)^2 over the first frames that count.
    let by_hand = |backwards: bool, first: usize| {
        let (mut sum, mut count) = (0.0, 0.0);
        for (&start, &length) in starts.iter().zip(&lengths) {
            let mut frames: Vec<usize> = (start..(start + length).min(first)).collect();
            if backwards {
                frames.reverse();
            }
            let mut s = 0.0;
            for frame in frames {
                s = 0.9 * s + f64::from(x[frame]);
                if loss_mask[frame] {
                    sum += (s - 0.25) * (s - 0.25);
                    count += 1.0;
                }
            }
        }
        sum / count
    };
    let go_on = AtomicBool::new(false);
    for delay in [1, -1] {
        let network = Loss::MeanSquaredError.of(&leaky(delay), None).unwrap();
        for limit in [None, Some(320), Some(9)] {
            let expected = by_hand(delay < 0, limit.unwrap_or(frames));
            for (streams, window) in [(1, 7), (1, 1000), (3, 64), (16, 5)] {
                let mut evaluator =
                    Evaluator::new(&network, data.clone(), &evaluation(streams, window, limit), &reference)
                        .unwrap();
                for _ in 0..2 {
                    let loss = evaluator.evaluate(&Weights(Vec::new()), &go_on).unwrap().unwrap().loss;
                    assert!(
                        (loss - expected).abs() < 1e-12,
                        "delay {delay}, first {limit:?}, {streams} streams, windows of {window}: {loss} {expected}"
                    );
                }
            }
        }
    }
}

/// How data is evaluated, with one thread and without metrics.
fn evaluation(streams: usize, window: usize, frames: Option<usize>) -> EvaluatorConfig<'static> {
    EvaluatorConfig { metrics: &[], streams, window, frames, threads: 1, scales: &[] }
}

#[test]
fn an_evaluation_is_without_dropout_and_can_be_stopped() {
    let mut graph = Graph::new("masked");
    let x = symbol(&mut graph, "x", 4);
    let e = graph.sum("e", 4, Activation::Identity);
    dense(&mut graph, x, e, 0);
    let mask = graph.mask("mask", 4, 0.5);
    let y = graph.product("y", 4, Activation::Identity);
    graph.connect(e, y, Connect::identity());
    graph.connect(mask, y, Connect::identity());
    graph.output("y", y);
    let network = Loss::CrossEntropy.of(&graph, None).unwrap();
    let weights = Weights::initial(&graph, 4);
    let bytes: Vec<u8> = (0..300u32).map(|i| (i * i / 7 % 4) as u8).collect();

    // By hand: -log softmax(column of W)[next], over all bytes but the last.
    let logits = |x: u8| -> Vec<f64> { (0..4).map(|row| weights.0[0][row * 4 + usize::from(x)]).collect() };
    let frame = |pair: &[u8]| {
        let logits = logits(pair[0]);
        logits.iter().map(|y| y.exp()).sum::<f64>().ln() - logits[usize::from(pair[1])]
    };
    let expected = bytes.windows(2).map(frame).sum::<f64>() / 299.0;
    let mut evaluator = Evaluator::new(&network, text(&bytes), &evaluation(4, 7, None), &reference).unwrap();
    let loss = evaluator.evaluate(&weights, &AtomicBool::new(false)).unwrap().unwrap().loss;
    assert!((loss - expected).abs() < 1e-12, "{loss} {expected}");
    assert_eq!(evaluator.evaluate(&weights, &AtomicBool::new(true)).unwrap(), None);

    let mut none = text(&bytes);
    none.columns[1] = Column::Symbols(vec![NO_SYMBOL; 300]);
    let error =
        Evaluator::new(&network, none, &evaluation(1, 7, None), &reference).err().unwrap().to_string();
    assert_eq!(error, "of the 300 frames to evaluate, none has a target whose loss counts");
}

#[test]
fn what_the_executor_refuses_is_told_in_its_words() {
    let refuse = |_: Plan, _: ExecutionConfig| {
        Err(ExecutorError::Memory { what: "the window".into(), bytes: 1 << 60, available: 1 << 30 })
    };
    let config = TrainingConfig::new(1, 3, Loss::CrossEntropy);
    let network = Loss::CrossEntropy.of(&bigrams(), None).unwrap();
    let error = Trainer::new(network, "", text(&[0, 1, 2]), &config, 1, &refuse).err().unwrap();
    assert_eq!(
        error.to_string(),
        "the window would take 1152921504606846976 bytes; 1073741824 are available"
    );
}
