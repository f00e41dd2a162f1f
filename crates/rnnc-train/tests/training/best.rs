//! The weights of the smallest loss on the validation data: that they are kept, and that a run which finds none ends.

use crate::support::{Workplace, text_network};
use rnnc_train::{Checkpoint, Event, Metrics, RunDirectory};
use std::sync::atomic::{AtomicBool, Ordering};

/// A workplace whose steps are so large that the loss falls and rises.
fn wild(training: &str, run: &str) -> Workplace {
    let mut place =
        Workplace::new(text_network(), &format!("streams = 2\nwindow = 12\nupdates = 12\n{training}"), run);
    place.config.training.learning_rate = 1.0;
    place
}

#[test]
fn the_weights_of_the_smallest_validation_loss_are_kept_and_tested() {
    let place = wild("", "validate_every = 1");
    let (mut losses, mut tested) = (Vec::new(), None);
    let summary = place
        .train(false, |event| match event {
            Event::Metrics(Metrics::Validation(v)) => losses.push((v.update, v.loss)),
            Event::Metrics(Metrics::Test(t)) => tested = Some(t.update),
            _ => {}
        })
        .unwrap();
    let best = losses.iter().copied().min_by(|a, b| a.1.total_cmp(&b.1)).unwrap();
    assert!(best.0 < 12, "the last weights are the best: nothing is tested by that: {losses:?}");
    let run = RunDirectory::open(place.path("run")).unwrap();
    let kept = Checkpoint::load(&run.best(), &place.network).unwrap();
    assert_eq!(summary.best.map(|best| (best.update, best.loss)), Some(best));
    assert_eq!((kept.progress.updates, tested), (best.0, Some(best.0)));
    assert_eq!(place.checkpoint().progress.validations.best, kept.progress.validations.best);
    assert_ne!(place.checkpoint().weights, kept.weights);
    assert_eq!(place.checkpoint().progress.updates, 12);

    // A new run over it does not leave the old one's best behind.
    let place = wild("", "validate_every = 1\nkeep_best = false\noverwrite = true");
    std::fs::create_dir(place.path("run")).unwrap();
    for name in ["checkpoint.safetensors", "best.safetensors", "metrics.jsonl"] {
        std::fs::copy(run.path().join(name), place.path("run").join(name)).unwrap();
    }
    place
        .train(false, |event| {
            if let Event::Metrics(Metrics::Test(t)) = event {
                tested = Some(t.update)
            }
        })
        .unwrap();
    assert!(!place.path("run").join("best.safetensors").exists());
    assert_eq!(tested, Some(12));
}

#[test]
fn a_run_out_of_patience_ends_and_one_that_was_stopped_before_ends_the_same_way() {
    let settings = ("patience = 3", "validate_every = 2");
    let mut whole = wild(settings.0, settings.1);
    whole.config.training.updates = Some(1000);
    let summary = whole.train(false, |_| {}).unwrap();
    assert!(summary.out_of_patience && !summary.stopped && summary.updates < 1000);
    assert_eq!(summary.updates, summary.best.unwrap().update + 6);

    let mut parts = wild(settings.0, settings.1);
    parts.config.training.updates = Some(1000);
    let stop = AtomicBool::new(false);
    let early = summary.updates - 1;
    parts
        .train_until(false, &stop, &mut |event| {
            if matches!(event, Event::Update(report) if report.update == early) {
                stop.store(true, Ordering::Relaxed);
            }
        })
        .unwrap();
    let resumed = parts.train(true, |_| {}).unwrap();
    assert_eq!((resumed.updates, resumed.out_of_patience), (summary.updates, true));
    let (mut a, mut b) = (whole.checkpoint(), parts.checkpoint());
    (a.progress.seconds, b.progress.seconds) = (0.0, 0.0);
    assert_eq!(a, b);

    // With more patience it goes on.
    parts.config.training.patience = Some(4);
    assert!(parts.train(true, |_| {}).unwrap().updates > summary.updates);
}

#[test]
fn a_file_in_the_place_of_the_best_weights_that_is_no_runs_is_not_replaced() {
    let place = wild("", "validate_every = 1\noverwrite = true");
    std::fs::create_dir(place.path("run")).unwrap();
    let best = place.path("run").join("best.safetensors");
    for runs_before in 0..2 {
        std::fs::write(&best, "mine").unwrap();
        for resume in [false, true].into_iter().take(1 + runs_before) {
            let error = place.train(resume, |_| {}).unwrap_err().to_string();
            assert!(error.contains("best.safetensors") && error.contains("would replace it"), "{error}");
            assert_eq!(std::fs::read_to_string(&best).unwrap(), "mine");
        }
        std::fs::remove_file(&best).unwrap();
        place.train(false, |_| {}).unwrap();
    }
}

#[test]
fn a_plateau_reduces_the_learning_rate_and_a_resumed_run_goes_on_with_it() {
    let settings = "decay = \"plateau\"\ndecay_patience = 1\ndecay_factor = 0.5";
    let rates = |place: &Workplace, resume| {
        let mut rates = Vec::new();
        place
            .train(resume, |event| {
                if let Event::Metrics(Metrics::Training { update, learning_rate, .. }) = event {
                    rates.push((*update, *learning_rate));
                }
            })
            .unwrap();
        rates
    };
    let run = "validate_every = 1\nlog_every = 1";
    let whole = wild(settings, run);
    let all = rates(&whole, false);
    assert!(all.last().unwrap().1 < all[0].1 && all.windows(2).all(|pair| pair[1].1 <= pair[0].1), "{all:?}");
    let mut parts = wild(settings, run);
    parts.config.training.updates = Some(7);
    let mut found = rates(&parts, false);
    parts.config.training.updates = Some(12);
    found.extend(rates(&parts, true));
    assert_eq!(found, all);
}

#[test]
fn the_newest_checkpoints_are_kept_and_files_that_only_look_like_them_stay() {
    let mut place = wild("", "checkpoint_every = 2\nkeep_checkpoints = 3\noverwrite = true");
    let kept = |place: &Workplace| {
        let files = std::fs::read_dir(place.path("run")).unwrap().map(|entry| entry.unwrap().file_name());
        let mut kept: Vec<String> = files.filter_map(|name| name.into_string().ok()).collect();
        kept.retain(|name| name.starts_with("checkpoint-"));
        kept.sort();
        kept
    };
    let names =
        |updates: &[u64]| updates.iter().map(|u| format!("checkpoint-{u}.safetensors")).collect::<Vec<_>>();
    place.train(false, |_| {}).unwrap();
    let mut expected = names(&[8, 10, 12]);
    expected.sort();
    assert_eq!(kept(&place), expected);
    let run = place.path("run");
    let tenth = Checkpoint::load(&run.join("checkpoint-10.safetensors"), &place.network).unwrap();
    assert_eq!(tenth.progress.updates, 10);

    // Somebody's own files: one that is never the run's, and one in the place of a checkpoint.
    std::fs::write(run.join("checkpoint-1.safetensors"), "mine").unwrap();
    std::fs::write(run.join("checkpoint-x.safetensors"), "mine").unwrap();
    std::fs::rename(run.join("checkpoint-12.safetensors"), run.join("checkpoint-7.safetensors")).unwrap();
    place.config.training.updates = Some(4);
    place.train(false, |_| {}).unwrap();
    let mut expected = [names(&[1, 2, 4, 7]), vec!["checkpoint-x.safetensors".into()]].concat();
    expected.sort();
    assert_eq!(kept(&place), expected, "an older run's are gone");
    std::fs::write(run.join("checkpoint-6.safetensors"), "mine").unwrap();
    place.config.training.updates = Some(6);
    let error = place.train(true, |_| {}).unwrap_err().to_string();
    assert!(error.contains("checkpoint-6.safetensors") && error.contains("would replace it"), "{error}");
    assert_eq!(std::fs::read_to_string(run.join("checkpoint-6.safetensors")).unwrap(), "mine");
    assert_eq!(place.checkpoint().progress.updates, 6);
}
