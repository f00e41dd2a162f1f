//! Whole runs: what they learn, what they leave behind, and how they go on.

use crate::support::{Workplace, reference, text_network};
use rnnc_cpu::CpuExecutor;
use rnnc_graph::{Activation, Connect, Graph};
use rnnc_io::{Array, Elements, Precision as FilePrecision, Weights};
use rnnc_plan::{
    ExecutionConfig, Executor, ExecutorError, Optimizer, OptimizerSettings, ParameterArray, Plan, Precision,
    Values,
};
use rnnc_train::{About, Event, Metrics, RunDirectory, Sampler, TrainError};
use std::sync::atomic::{AtomicBool, Ordering};

const SMALL: &str = "streams = 2\nwindow = 12\nupdates = 12";

#[test]
fn the_loss_falls_on_validation_text_and_the_directory_has_all_that_generate_needs() {
    let place = Workplace::new(
        text_network(),
        "streams = 4\nwindow = 16\nupdates = 120\nclip_norm = 1.0",
        "log_every = 40\nvalidate_every = 40\nsample_length = 30\nsample_prompt = \"the \"",
    );
    let (mut bits, mut sample, mut updates) = (Vec::new(), Vec::new(), 0);
    let summary = place
        .train(false, |event| match event {
            Event::Metrics(Metrics::Validation(v)) => bits.push(v.bits_per_symbol.unwrap()),
            Event::Sample { text, .. } => sample = text.to_vec(),
            Event::Update(report) => {
                updates += 1;
                assert_eq!(report.update, updates);
                assert!((report.done - updates as f64 / 120.0).abs() < 1e-12);
            }
            _ => {}
        })
        .unwrap();
    // Before training it is 8 bits; the text has fewer than 16 letters.
    assert_eq!(bits.len(), 3);
    assert!(bits[0] < 8.0 && bits[2] < bits[0] && bits[2] < 3.0, "{bits:?}");
    assert_eq!((summary.updates, summary.stopped, sample.len()), (120, false, 30));
    assert!(summary.test.unwrap().bits_per_symbol.unwrap() < 3.0);
    let expected = summary.validation.as_ref().unwrap().loss / std::f64::consts::LN_2;
    assert_eq!(summary.validation.unwrap().bits_per_symbol.unwrap(), expected);

    let run = RunDirectory::open(place.path("run")).unwrap();
    assert!(run.network_text().unwrap().starts_with("network text { .. }\n# A copy"));
    assert!(std::fs::read_to_string(run.path().join("train.toml")).unwrap().starts_with(&place.config.text));
    let lines = std::fs::read_to_string(run.metrics()).unwrap();
    let kinds: Vec<&str> = lines.lines().map(|l| l.split('"').nth(3).unwrap()).collect();
    assert_eq!(kinds, ["training", "validation", "training", "validation", "training", "validation", "test"]);

    // The same seed writes the same text again, from the directory alone.
    let about = About::read(&run.checkpoint()).unwrap();
    let weights = Weights::load(&run.checkpoint(), &place.network).unwrap();
    let output = Some(about.identity.output.as_str());
    let mut sampler =
        Sampler::new(&place.network, &weights, output, 1, about.identity.seed, &reference).unwrap();
    let mut again = Vec::new();
    sampler
        .write(b"the ", 30, 0.7, &mut |byte| {
            again.push(byte);
            true
        })
        .unwrap();
    assert_eq!(again, sample);
}

#[test]
fn a_run_that_was_stopped_resumes_to_the_same_bits() {
    let overlapping = "streams = 3\nwindow = 12\nstep = 5\nupdates = 12\nwarmup = 4\ndecay = \"cosine\"";
    let of_each = Optimizer::NAMES.iter().map(|name| format!("{SMALL}\noptimizer = {name:?}"));
    for training in of_each.chain([overlapping.into()]) {
        let training = &*training;
        // Checkpoints change nothing either: the whole run has none but the last.
        let whole = Workplace::new(text_network(), training, "checkpoint_every = 100");
        let parts = Workplace::new(text_network(), training, "checkpoint_every = 2");
        whole.train(false, |_| {}).unwrap();

        let stop = AtomicBool::new(false);
        let summary = parts
            .train_until(false, &stop, &mut |event| {
                if matches!(event, Event::Update(report) if report.update == 6) {
                    stop.store(true, Ordering::Relaxed);
                }
            })
            .unwrap();
        assert!(summary.stopped && summary.validation.is_none());
        assert_eq!(parts.checkpoint().progress.updates, 6);
        // Of 30 frames, errors still go back through 12 - 5.
        let kept = parts.checkpoint().state.kept.map(|kept| kept.frames);
        assert_eq!(kept, training.contains("step").then_some(7));
        let mut resumed_at = None;
        parts
            .train(true, |event| match event {
                Event::Begin(beginning) => resumed_at = beginning.resumed_at,
                Event::Warning(warning) => panic!("{warning}"),
                _ => {}
            })
            .unwrap();
        assert_eq!(resumed_at, Some(6));

        let (mut a, mut b) = (whole.checkpoint(), parts.checkpoint());
        a.progress.seconds = 0.0;
        b.progress.seconds = 0.0;
        assert_eq!(a.progress.updates, 12);
        assert!(a.weights.0.iter().flatten().any(|w| *w as f32 as f64 != *w), "no bits to lose");
        assert_eq!(a, b);
    }
}

#[test]
fn a_run_that_is_over_ends_at_once_when_resumed_and_goes_on_when_given_more() {
    let mut place = Workplace::new(text_network(), SMALL, "");
    place.train(false, |_| {}).unwrap();
    let before = place.checkpoint();
    let summary = place.train(true, |event| assert!(!matches!(event, Event::Update(_)))).unwrap();
    assert!(!summary.stopped);
    assert_eq!(place.checkpoint().weights, before.weights);
    place.config.training.updates = Some(14);
    assert_eq!(place.train(true, |_| {}).unwrap().updates, 14);
}

#[test]
fn a_second_run_does_not_overwrite_the_first_unless_told_so() {
    let mut place = Workplace::new(text_network(), SMALL, "");
    place.train(false, |_| {}).unwrap();
    let before = place.checkpoint();
    let error = place.train(false, |_| {}).unwrap_err();
    assert!(error.is_bad_input() && error.to_string().contains("a run is here already"), "{error}");
    assert_eq!(place.checkpoint(), before);
    place.config.run.overwrite = true;
    place.train(false, |_| {}).unwrap();
    assert_eq!(place.checkpoint().weights, before.weights);
}

#[test]
fn a_run_can_begin_with_given_weights() {
    let mut place = Workplace::new(text_network(), SMALL, "");
    place.train(false, |_| {}).unwrap();
    let path = place.path("first.safetensors");
    std::fs::copy(place.path("run/checkpoint.safetensors"), &path).unwrap();
    let before = place.checkpoint().weights;
    place.config.network.weights = Some(path.clone());
    place.config.run.directory = place.path("second");
    let mut begun_with = None;
    place
        .train(false, |event| {
            if let Event::Checkpoint { update: 0, path } = event {
                begun_with = Some(Weights::load(path, &text_network()).unwrap());
            }
        })
        .unwrap();
    assert_eq!(begun_with.unwrap(), before);
}

#[test]
fn a_disk_that_fills_up_costs_neither_the_run_nor_the_old_checkpoint() {
    let place = Workplace::new(text_network(), SMALL, "checkpoint_every = 4");
    // A directory in the way of the file, as good as a full disk.
    let (checkpoint, aside) = (place.path("run/checkpoint.safetensors"), place.path("aside"));
    let mut warnings = Vec::new();
    let error = place
        .train(false, |event| match event {
            Event::Update(report) if report.update == 6 => {
                std::fs::rename(&checkpoint, &aside).unwrap();
                std::fs::create_dir(&checkpoint).unwrap();
            }
            Event::Warning(warning) => warnings.push(warning.to_string()),
            _ => {}
        })
        .unwrap_err();
    // The checkpoint after update 8 is a warning, the last one an error; that of update 4 stands.
    assert_eq!(warnings.len(), 1);
    assert!(
        warnings[0].contains("cannot write") && warnings[0].contains("checkpoint.safetensors"),
        "{warnings:?}"
    );
    assert!(!error.is_bad_input(), "{error}");
    assert!(error.to_string().ends_with("; the checkpoint after update 4 is kept"), "{error}");

    std::fs::remove_dir(&checkpoint).unwrap();
    std::fs::rename(&aside, &checkpoint).unwrap();
    assert_eq!(place.checkpoint().progress.updates, 4);
    assert_eq!(place.train(true, |_| {}).unwrap().updates, 12);
}

#[cfg(unix)]
#[test]
fn a_run_whose_directory_is_moved_away_writes_nothing_into_the_next_of_its_name() {
    let place = Workplace::new(text_network(), SMALL, "checkpoint_every = 1");
    let (run, moved) = (place.path("run"), place.path("moved"));
    let mut warnings = Vec::new();
    let error = place
        .train(false, |event| match event {
            Event::Update(report) if report.update == 6 => {
                std::fs::rename(&run, &moved).unwrap();
                std::fs::create_dir(&run).unwrap();
            }
            Event::Warning(warning) => warnings.push(warning.to_string()),
            _ => {}
        })
        .unwrap_err();
    assert!(error.to_string().contains("moved, removed or replaced while the run went on"), "{error}");
    assert_eq!(warnings.len(), 1, "of six that are the same, the first is told: {warnings:?}");
    assert_eq!(std::fs::read_dir(&run).unwrap().count(), 0);
    assert_eq!(place.checkpoint_in(&moved).progress.updates, 5);
}

#[test]
fn other_data_of_the_same_length_is_told_when_a_run_goes_on() {
    let mut place = Workplace::new(text_network(), SMALL, "");
    place.train(false, |_| {}).unwrap();
    place.config.training.updates = Some(13);
    std::fs::write(place.path("a.txt"), "the cat sat on the hat, ".repeat(30)).unwrap();
    let mut warnings = Vec::new();
    place
        .train(true, |event| {
            if let Event::Warning(warning) = event {
                warnings.push(warning.to_string());
            }
        })
        .unwrap();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].ends_with(": contents of the training data"), "{warnings:?}");
}

#[test]
fn test_data_is_run_whole_however_little_of_the_validation_data_is() {
    let losses = |run: &str| {
        let place = Workplace::new(text_network(), SMALL, run);
        let summary = place.train(false, |_| {}).unwrap();
        (summary.validation.unwrap().loss, summary.test.unwrap().loss)
    };
    let (all, some) = (losses(""), losses("validation_frames = 20"));
    assert!(all.0 != some.0 && all.1 == some.1, "{all:?} {some:?}");
}

#[test]
fn a_checkpoint_of_another_network_is_refused_weight_by_weight() {
    let mut place = Workplace::new(text_network(), SMALL, "");
    place.train(false, |_| {}).unwrap();
    let extra = place.network.sum("extra", 256, rnnc_graph::Activation::Identity);
    let y = place.network.find_layer("y").unwrap();
    crate::support::dense(&mut place.network, y, extra, 0);
    let error = place.train(true, |_| {}).unwrap_err();
    assert!(error.to_string().ends_with("missing: `extra.W.y[t-0]`"), "{error}");
    assert!(error.is_bad_input());
}

#[test]
fn other_facts_of_a_resumed_run_are_warnings_and_another_number_of_streams_an_error() {
    let mut place = Workplace::new(text_network(), SMALL, "");
    place.train(false, |_| {}).unwrap();
    place.config.training.window = 10;
    place.config.training.updates = Some(13);
    let mut warnings = Vec::new();
    place
        .train(true, |event| {
            if let Event::Warning(warning) = event {
                warnings.push(warning.to_string());
            }
        })
        .unwrap();
    let start = "the run differs from how it began: ";
    assert_eq!(
        warnings,
        [format!("{start}window (12 before, 10 now)"), format!("{start}step (12 before, 10 now)")]
    );
    place.config.training.streams = 3;
    let error = place.train(true, |_| {}).unwrap_err().to_string();
    assert!(
        error.contains("2 streams") && error.contains("begin a new run with the weights of this one"),
        "{error}"
    );
}

#[test]
fn a_run_of_another_optimizer_does_not_go_on_and_says_what_to_do() {
    let sgd = "optimizer = \"sgd\"\nmomentum = 0.9\nnesterov = true";
    let mut place = Workplace::new(text_network(), &format!("{SMALL}\n{sgd}"), "");
    place.train(false, |_| {}).unwrap();
    let before = place.checkpoint();
    assert_eq!((before.identity.optimizer, before.slots.len()), (Optimizer::Sgd, 1));
    assert!(before.slots[0].0.iter().flatten().any(|v| *v != 0.0));
    place.config.training.updates = Some(13);
    place.config.training.optimizer = OptimizerSettings::new(Optimizer::Adam);
    let error = place.train(true, |_| {}).unwrap_err();
    assert!(error.is_bad_input());
    let error = error.to_string();
    assert!(
        error.starts_with("`training.optimizer` must be \"sgd\", not \"adam\", for the run to go on"),
        "{error}"
    );
    assert!(error.contains("begin a new run with the weights of this one: `weights = "), "{error}");
    assert_eq!(place.checkpoint(), before);
    // Another momentum is a setting like others.
    let slower = OptimizerSettings::new(Optimizer::Sgd).with("momentum", &[0.5]).unwrap();
    place.config.training.optimizer = slower;
    let mut warnings = Vec::new();
    let listen = |event: Event<'_>| {
        if let Event::Warning(warning) = event {
            warnings.push(warning.to_owned());
        }
    };
    place.train(true, listen).unwrap();
    let start = "the run differs from how it began: ";
    assert_eq!(
        warnings,
        [
            format!("{start}momentum (0.9 before, 0.5 now)"),
            format!("{start}nesterov (true before, false now)")
        ]
    );
}

#[test]
fn minutes_end_a_run_too() {
    let place = Workplace::new(text_network(), "streams = 2\nwindow = 12\nminutes = 0.002", "");
    let summary = place.train(false, |_| {}).unwrap();
    assert!(!summary.stopped && summary.updates > 0);
    assert!((0.12..30.0).contains(&summary.seconds), "{}", summary.seconds);
}

#[test]
fn text_that_does_not_fit_is_refused_before_anything_is_written() {
    let refused = |change: &dyn Fn(&mut Workplace)| {
        let mut place = Workplace::new(text_network(), SMALL, "");
        change(&mut place);
        let error = place.train(false, |_| {}).unwrap_err();
        assert!(error.is_bad_input());
        assert!(!place.path("run").exists());
        error.to_string()
    };
    let error = refused(&|place| place.config.training.window = 1000);
    assert!(
        error.contains("has 964 frames, and one window of 1000 frames in each of 2 streams takes 2000"),
        "{error}"
    );
    let error = refused(&|place| place.config.data.files = vec!["none.txt".into()]);
    assert!(error.contains("cannot read") && error.contains("none.txt"), "{error}");
    let error = refused(&|place| {
        std::fs::write(place.path("empty"), "").unwrap();
        place.config.data.files = vec!["empty".into()];
    });
    assert!(error.contains("`empty` is empty"), "{error}");
    let error = refused(&|place| place.config.data.validation = 0.0001);
    assert!(error.contains("`data.validation = 0.0001` leaves 0 frames"), "{error}");
    let error = refused(&|place| place.config.training.loss = rnnc_train::Loss::MeanSquaredError);
    assert!(error.contains("must be \"cross_entropy\""), "{error}");
    let error = refused(&|place| {
        place.network.input("z", 3);
    });
    assert!(
        error.contains("one symbol input, and this one has `x` of 256 symbols and `z` of 3 numbers"),
        "{error}"
    );
}

#[test]
fn a_network_cannot_write_on_from_what_it_cannot_read() {
    let network = text_network();
    let weights = Weights::initial(&network, 1);
    let mut sampler = Sampler::new(&network, &weights, None, 1, 1, &reference).unwrap();
    let mut error = |prompt: &[u8], temperature| {
        sampler.write(prompt, 1, temperature, &mut |_| true).unwrap_err().to_string()
    };
    assert!(error(b"", 1.0).contains("at least one byte"));
    assert!(error(b"a", -1.0).contains("temperature must be at least 0"));
}

#[test]
fn the_trained_weights_are_those_of_the_executor() {
    // A weight written is a weight read, for every part that a checkpoint keeps.
    let network = rnnc_train::Loss::CrossEntropy.of(&text_network(), None).unwrap();
    let plan = rnnc_plan::Plan::new(&network.graph, rnnc_plan::PlanOptions::training(1, 2)).unwrap();
    let mut executor = reference(plan, rnnc_plan::ExecutionConfig::new(1, 2)).unwrap();
    let weights = Weights::initial(&network.graph, 5);
    for part in ParameterArray::trained(executor.config().optimizer) {
        weights.put_into(&mut *executor, part).unwrap();
        assert_eq!(Weights::of(&*executor, &network.graph, part).unwrap(), weights);
    }
    executor.forward(1, &[Values::Symbols(&[1]), Values::Symbols(&[2])], None).unwrap();
}

#[test]
fn a_run_whose_time_ends_right_after_a_validation_does_not_validate_again() {
    let training = "streams = 2\nwindow = 12\nminutes = 0.01";
    let place = Workplace::new(text_network(), training, "validate_every = 1");
    let mut validated = Vec::new();
    let summary = place
        .train(false, |event| {
            if let Event::Metrics(Metrics::Validation(v)) = event {
                validated.push(v.clone());
                // Longer than the run.
                std::thread::sleep(std::time::Duration::from_millis(700));
            }
        })
        .unwrap();
    assert_eq!(validated, [summary.validation.unwrap()]);
}

fn on_cpu(plan: Plan, config: ExecutionConfig) -> Result<Box<dyn Executor>, ExecutorError> {
    Ok(Box::new(CpuExecutor::new(plan, ExecutionConfig { threads: 1, ..config })?))
}

/// y = W x of 2 numbers, or 3 logits of them.
fn line(outputs: usize) -> Graph {
    let mut graph = Graph::new("line");
    let x = graph.input("x", 2);
    let y = graph.sum("y", outputs, Activation::Identity);
    crate::support::dense(&mut graph, x, y, 0);
    graph.output("y", y);
    graph
}

fn floats(name: &str, shape: &[usize], scale: f32) -> Array {
    let count = shape.iter().product::<usize>();
    let values = (0..count).map(|i| scale * ((i * i) % 11) as f32 / 11.0).collect();
    Array::new(name, shape, Elements::F32(values))
}

#[test]
fn whatever_numbers_overflow_the_checkpoint_that_is_kept_is_one_to_go_on_from() {
    for learning_rate in ["1e36", "1e38", "3.4e38"] {
        let training = format!("{SMALL}\nlearning_rate = {learning_rate}");
        let mut place = Workplace::new(text_network(), SMALL, "checkpoint_every = 1");
        place.config.training.learning_rate = learning_rate.parse().unwrap();
        let stop = AtomicBool::new(false);
        let error = place.train_on(&on_cpu, false, &stop, &mut |_| {}).unwrap_err();
        assert!(matches!(error, TrainError::NotFinite { .. }), "{training}: {error}");
        let said = error.to_string();
        assert!(said.contains("the checkpoint after update") && said.contains("is kept in"), "{said}");
        let kept = place.checkpoint();
        assert!(said.contains(&format!("after update {} is", kept.progress.updates)), "{said}");
        assert!(kept.weights.0.iter().flatten().all(|w| w.is_finite()));
        // It can be gone on from, to where the same thing happens again.
        let error = place.train_on(&on_cpu, true, &stop, &mut |_| {}).unwrap_err();
        assert!(matches!(error, TrainError::NotFinite { .. }), "{error}");
    }
}

#[test]
fn data_on_another_scale_is_learned_from_though_squares_of_its_gradients_overflow() {
    // Gradients are some 1e21, and their squares 1e42.
    let arrays = [floats("x", &[200, 2, 2], 1e10), floats("target", &[200, 2, 2], 1e11)];
    let training =
        "streams = 2\nwindow = 10\nupdates = 30\nloss = \"mean_squared_error\"\nlearning_rate = 0.1";
    let mut place = Workplace::of_arrays(line(2), &arrays, "", training, "log_every = 1");
    let mut losses = Vec::new();
    let stop = AtomicBool::new(false);
    let mut train = |place: &Workplace, resume| {
        place
            .train_on(&on_cpu, resume, &stop, &mut |event| {
                if let Event::Metrics(Metrics::Training { loss: Some(loss), .. }) = event {
                    losses.push(*loss);
                }
            })
            .unwrap()
            .updates
    };
    assert_eq!(train(&place, false), 30);
    place.config.training.updates = Some(40);
    assert_eq!(train(&place, true), 40);
    assert!(losses[39] < 0.5 * losses[0], "{losses:?}");
}

#[test]
fn a_run_goes_on_in_the_precision_in_which_it_began() {
    let coarse = |plan: Plan, config: ExecutionConfig| {
        on_cpu(plan, ExecutionConfig { precision: Precision::Bf16, ..config })
    };
    let mut place = Workplace::new(text_network(), SMALL, "");
    let stop = AtomicBool::new(false);
    place.train_on(&coarse, false, &stop, &mut |_| {}).unwrap();
    assert_eq!(place.checkpoint().identity.precision, Precision::Bf16);
    place.config.training.updates = Some(14);
    place
        .train_on(&on_cpu, true, &stop, &mut |event| {
            if let Event::Warning(warning) = event {
                panic!("{warning}");
            }
        })
        .unwrap();
    assert_eq!(place.checkpoint().identity.precision, Precision::Bf16);

    // Unless it is told otherwise.
    let fine = |plan: Plan, config: ExecutionConfig| {
        on_cpu(plan, ExecutionConfig { precision: Precision::F32, ..config })
    };
    place.config.training.updates = Some(16);
    let mut warnings = Vec::new();
    place
        .train_on(&fine, true, &stop, &mut |event| {
            if let Event::Warning(warning) = event {
                warnings.push(warning.to_string());
            }
        })
        .unwrap();
    assert_eq!(warnings, ["the run differs from how it began: precision (Bf16 before, F32 now)"]);
}

#[test]
fn settings_that_move_weights_otherwise_are_told_when_a_run_goes_on() {
    let mut place = Workplace::new(text_network(), SMALL, "");
    place.train(false, |_| {}).unwrap();
    place.config.training.updates = Some(13);
    place.config.training.learning_rate = 0.01;
    place.config.training.clip_norm = Some(1.0);
    let mut warnings = Vec::new();
    place
        .train(true, |event| {
            if let Event::Warning(warning) = event {
                warnings
                    .push(warning.strip_prefix("the run differs from how it began: ").unwrap().to_string());
            }
        })
        .unwrap();
    assert_eq!(warnings, ["clip_norm (none before, 1.0 now)", "learning_rate (0.02 before, 0.01 now)"]);
}

#[test]
fn a_part_without_targets_is_refused_before_anything_is_written() {
    let targets = |from: usize, to: usize| {
        let target = |i: usize| if (from..to).contains(&i) { -1 } else { (i % 3) as i64 };
        Array::new("target", &[1000, 1], Elements::Integers((0..1000).map(target).collect()))
    };
    let refused = |from: usize, to: usize, data: &str| {
        let arrays = [floats("x", &[1000, 1, 2], 1.0), targets(from, to)];
        let training = "streams = 2\nwindow = 16\nupdates = 3\nloss = \"cross_entropy\"";
        let place = Workplace::of_arrays(line(3), &arrays, data, training, "");
        let error = place.train(false, |_| panic!("the run began")).unwrap_err();
        assert!(error.is_bad_input() && !place.path("run").exists());
        error.to_string()
    };
    let none = "of `data.npz`, has no frame with a target whose loss counts";
    assert_eq!(
        refused(800, 1000, "validation = 0.1"),
        format!("the validation data, frames 900 to 999 {none}")
    );
    assert_eq!(refused(800, 1000, "test = 0.15"), format!("the test data, frames 850 to 999 {none}"));
    assert_eq!(
        refused(790, 900, "validation = 0.1\ntest = 0.1"),
        format!("the validation data, frames 800 to 899 {none}")
    );
    assert_eq!(refused(0, 900, "test = 0.1"), format!("the training data, frames 0 to 899 {none}"));
    assert_eq!(refused(0, 1000, ""), format!("the training data, frames 0 to 999 {none}"));
}

#[test]
fn a_sample_that_cannot_be_written_is_refused_before_the_first_update() {
    let refused = |network: Graph, run: &str| {
        let place = Workplace::new(network, SMALL, run);
        let error = place.train(false, |_| panic!("the run began")).unwrap_err();
        assert!(error.is_bad_input() && !place.path("run").exists());
        error.to_string()
    };
    let mut ahead = text_network();
    let (x, y) = (ahead.find_layer("x").unwrap(), ahead.find_layer("y").unwrap());
    crate::support::dense(&mut ahead, x, y, -1);
    let error = refused(ahead, "sample_length = 5");
    assert!(error.contains("it looks ahead, at symbols that are yet to be written"), "{error}");

    let mut few = Graph::new("few");
    let x = crate::support::symbol(&mut few, "x", 128);
    let y = few.sum("y", 128, Activation::Identity);
    crate::support::dense(&mut few, x, y, 0);
    few.output("y", y);
    let error = refused(few, "sample_length = 5\nsample_prompt = \"é\"");
    assert!(error.contains("byte 195 of the prompt is not a symbol"), "{error}");
}

#[test]
fn a_weight_that_the_executor_cannot_hold_is_refused_before_a_run_is_overwritten() {
    let arrays = [floats("x", &[200, 2, 2], 1.0), floats("target", &[200, 2, 2], 1.0)];
    let training = "streams = 2\nwindow = 10\nupdates = 3\nloss = \"mean_squared_error\"";
    let mut place = Workplace::of_arrays(line(2), &arrays, "", training, "overwrite = true");
    let stop = AtomicBool::new(false);
    place.train_on(&on_cpu, false, &stop, &mut |_| {}).unwrap();
    let before = place.checkpoint();
    let path = place.path("large.safetensors");
    Weights(vec![vec![1.0, 1e300, 1.0, 1.0]]).save(&path, &place.network, FilePrecision::Double).unwrap();
    place.config.network.weights = Some(path);
    let error = place.train_on(&on_cpu, false, &stop, &mut |_| {}).unwrap_err().to_string();
    assert!(error.contains("y.W.x[t-0]"), "{error}");
    assert_eq!(place.checkpoint(), before);
}

#[test]
fn the_validation_loss_of_a_run_is_that_of_its_last_sequences() {
    // Five sequences; the last two are validation and test data.
    let lengths = [150usize, 90, 220, 130, 70];
    let mut arrays = Vec::new();
    for (k, &n) in lengths.iter().enumerate() {
        arrays.push(floats(&format!("x.{k}"), &[n, 2], 1.0 + k as f32));
        arrays.push(floats(&format!("target.{k}"), &[n, 2], 1.0));
    }
    let mut network = line(2);
    let y = network.find_layer("y").unwrap();
    network.connect(y, y, Connect::scaled(0.97).delay(1));
    let training = "streams = 4\nwindow = 16\nupdates = 5\nloss = \"mean_squared_error\"";
    let place = Workplace::of_arrays(
        network,
        &arrays,
        "validation = 0.1\ntest = 0.1",
        training,
        "validate_every = 2",
    );
    let mut validated = 0;
    let summary = place
        .train(false, |event| match event {
            Event::Metrics(Metrics::Validation(_)) => validated += 1,
            Event::Begin(begin) => {
                assert_eq!((begin.train_frames, begin.validation_frames, begin.test_frames), (460, 130, 70));
            }
            Event::Warning(warning) => panic!("{warning}"),
            _ => {}
        })
        .unwrap();
    assert_eq!(validated, 3);

    let w = &place.checkpoint().weights.0[0];
    let loss = |k: usize| {
        let (n, scale) = (lengths[k], 1.0 + k as f64);
        let number = |i: usize, scale: f64| f64::from((scale as f32) * ((i * i) % 11) as f32 / 11.0);
        let (mut y, mut sum) = ([0.0; 2], 0.0);
        for t in 0..n {
            let x = [number(2 * t, scale), number(2 * t + 1, scale)];
            for unit in 0..2 {
                y[unit] = 0.97 * y[unit] + w[2 * unit] * x[0] + w[2 * unit + 1] * x[1];
                sum += (y[unit] - number(2 * t + unit, 1.0)).powi(2) / 2.0;
            }
        }
        sum / n as f64
    };
    for (found, expected) in [(summary.validation, loss(3)), (summary.test, loss(4))] {
        let found = found.unwrap().loss;
        assert!((found - expected).abs() < 1e-9 * expected, "{found} {expected}");
    }
}

#[test]
fn a_sequence_that_has_to_be_cut_is_told() {
    let arrays = [floats("x", &[300, 2, 2], 1.0), floats("target", &[300, 2, 2], 1.0)];
    let training = "streams = 2\nwindow = 10\nupdates = 1\nloss = \"mean_squared_error\"";
    let place = Workplace::of_arrays(line(2), &arrays, "validation = 0.1", training, "");
    let mut warnings = Vec::new();
    place
        .train(false, |event| {
            if let Event::Warning(warning) = event {
                warnings.push(warning.to_string());
            }
        })
        .unwrap();
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].contains("one is cut at frame 540, and its tail"), "{warnings:?}");
}

#[test]
fn files_of_ones_own_are_validated_and_tested_with_and_none_is_trained_on_too() {
    let mut place = Workplace::new(text_network(), SMALL, "");
    std::fs::write(place.path("own.text"), "the dog sat, ".repeat(20)).unwrap();
    std::fs::write(place.path("last.text"), "a cat ran. ".repeat(9)).unwrap();
    (place.config.data.validation, place.config.data.test) = (0.0, 0.0);
    place.config.data.validation_files = vec!["own.text".into()];
    place.config.data.test_files = vec!["l*.text".into()];
    let mut parts = [0; 3];
    let summary = place
        .train(false, |event| {
            if let Event::Begin(begin) = event {
                parts = [begin.train_frames, begin.validation_frames, begin.test_frames];
            }
        })
        .unwrap();
    assert_eq!(parts, [24 * 30 + 11 * 44, 13 * 20, 11 * 9]);
    assert!(summary.validation.is_some() && summary.test.is_some());

    place.config.run.overwrite = true;
    place.config.data.test_files = vec!["./b.txt".into()];
    let error = place.train(false, |_| panic!("the run began")).unwrap_err();
    assert!(error.is_bad_input());
    assert!(error.to_string().contains("b.txt is in `data.files` and in `data.test_files`"), "{error}");
}
