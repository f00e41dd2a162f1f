//! Whole runs: what they learn, what they leave behind, and how they go on.

use crate::support::{Workplace, reference, text_network};
use rnnc_plan::{Part, Values};
use rnnc_train::{About, Event, Metrics, RunDirectory, Sampler, Weights};
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
    let expected = summary.validation.unwrap().loss / std::f64::consts::LN_2;
    assert_eq!(summary.validation.unwrap().bits_per_symbol.unwrap(), expected);

    let run = RunDirectory::open(place.path("run")).unwrap();
    assert_eq!(run.network_text().unwrap(), "network text { .. }");
    assert_eq!(std::fs::read_to_string(run.path().join("train.toml")).unwrap(), place.config.text);
    let lines = std::fs::read_to_string(run.metrics()).unwrap();
    let kinds: Vec<&str> = lines.lines().map(|l| l.split('"').nth(3).unwrap()).collect();
    assert_eq!(kinds, ["training", "validation", "training", "validation", "training", "validation", "test"]);

    // The same seed writes the same text again, from the directory alone.
    let about = About::read(&run.checkpoint()).unwrap();
    let weights = Weights::load(&run.checkpoint(), &place.network).unwrap();
    let output = Some(about.facts.output.as_str());
    let mut sampler =
        Sampler::new(&place.network, &weights, output, 1, about.facts.seed, &reference).unwrap();
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
    for training in
        [SMALL, "streams = 3\nwindow = 12\nstep = 5\nupdates = 12\nwarmup = 4\ndecay = \"cosine\""]
    {
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

    std::fs::remove_dir(&checkpoint).unwrap();
    std::fs::rename(&aside, &checkpoint).unwrap();
    assert_eq!(place.checkpoint().progress.updates, 4);
    assert_eq!(place.train(true, |_| {}).unwrap().updates, 12);
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
    let start = "the run goes on otherwise than it began: ";
    assert_eq!(
        warnings,
        [format!("{start}window (12 before, 10 now)"), format!("{start}step (12 before, 10 now)")]
    );
    place.config.training.streams = 3;
    let error = place.train(true, |_| {}).unwrap_err().to_string();
    assert!(error.contains("2 streams"), "{error}");
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
    let mut executor = reference(plan, rnnc_plan::Setup::new(1, 2)).unwrap();
    let weights = Weights::initial(&network.graph, 5);
    for part in [Part::Weight, Part::Moment1, Part::Moment2] {
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
                validated.push(*v);
                // Longer than the run.
                std::thread::sleep(std::time::Duration::from_millis(700));
            }
        })
        .unwrap();
    assert_eq!(validated, [summary.validation.unwrap()]);
}
