//! `new`, `train` and `generate`.

use crate::sandbox::{Sandbox, names};
use rnnc::io::{Array, Audio, Elements, read_audio, write_audio};

const MODEL: &str = "network m { input x : symbol(128)  h = elman(x; 8)  y = dense(h; 128)  output y }";

const SETTINGS: &str = r#"
[network]
file = "model.rnn"
[data]
kind = "text"
files = ["text.txt"]
validation = 0.2
[training]
streams = 2
window = 8
updates = 6
loss = "cross_entropy"
learning_rate = 0.01
clip_norm = 1.0
[run]
log_every = 2
validate_every = 4
checkpoint_every = 3
sample_prompt = "ab"
sample_length = 12
threads = 1
"#;

fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.write("model.rnn", MODEL);
    sandbox.write("text.txt", "abcdefgh ".repeat(60));
    sandbox.write("train.toml", SETTINGS);
    sandbox
}

#[test]
fn training_ends_with_bits_per_character_and_a_sample() {
    let sandbox = sandbox();
    let out = sandbox.succeeds("train train.toml");
    for expected in [
        "network m: 2,248 parameters; 432 characters to train on, 108 to validate",
        "cpu executor",
        "update      2  loss ",
        "update      4  validation: ",
        "update      3  checkpoint written",
        "it writes, after \"ab\":\n\nab",
        "done after 6 updates",
        "validation: ",
        " bits per character",
        "rnnc generate run",
    ] {
        assert!(out.contains(expected), "{expected:?} is not in {out}");
    }
    assert_eq!(
        names(&sandbox.path("run")),
        ["best.safetensors", "checkpoint.safetensors", "metrics.jsonl", "network.rnn", "train.toml"]
    );
    assert_eq!(
        sandbox.read("run/metrics.jsonl").lines().filter(|l| l.contains("\"kind\":\"training\"")).count(),
        3
    );
}

#[test]
fn a_run_that_resumes_ends_with_the_same_bits() {
    let (whole, parts) = (sandbox(), sandbox());
    whole.succeeds("train train.toml");
    parts.write("train.toml", SETTINGS.replace("updates = 6", "updates = 3"));
    parts.succeeds("train train.toml");
    parts.write("train.toml", SETTINGS);
    let out = parts.succeeds("train train.toml --resume");
    assert!(out.contains("going on after update 3"), "{out}");
    let tensors = |sandbox: &Sandbox| sandbox.tensors("run/checkpoint.safetensors").tensors;
    assert_eq!(tensors(&whole), tensors(&parts));
}

#[test]
fn a_new_run_leaves_an_old_one_alone() {
    let sandbox = sandbox();
    sandbox.succeeds("train train.toml");
    let before = std::fs::read(sandbox.path("run/checkpoint.safetensors")).unwrap();
    assert!(sandbox.fails(2, "train train.toml").contains("a run is here already"));
    assert_eq!(std::fs::read(sandbox.path("run/checkpoint.safetensors")).unwrap(), before);
}

#[test]
fn a_trained_network_writes_what_seed_and_prompt_say() {
    let sandbox = sandbox();
    sandbox.succeeds("train train.toml");
    let write = |more: &str| {
        let length = if more.contains("--length") { "" } else { "--length 20" };
        sandbox.run(&format!("generate run {length} {more}"))
    };
    let first = write("--prompt abc --seed 1 --temperature 1");
    assert_eq!(first.code, 0, "{first:?}");
    assert!(first.out.starts_with("abc"));
    assert_eq!(first.out, write("--prompt abc --seed 1 --temperature 1").out);
    assert_ne!(first.out, write("--prompt abc --seed 2 --temperature 1").out);
    // The prompt of the settings, and always the likeliest.
    let likeliest = |seed| write(&format!("--temperature 0 --seed {seed} --executor reference")).out;
    assert!(likeliest(1).starts_with("ab") && likeliest(1) == likeliest(2));

    assert_eq!(write("--prompt abc --length 0").out, "abc\n");

    for (wrong, message) in [
        ("--prompt é", "is not a symbol of the network"),
        ("--temperature=-1", "the temperature must be at least 0"),
    ] {
        let done = write(wrong);
        assert_eq!(done.code, 2, "{done:?}");
        assert!(done.err.contains(message), "{done:?}");
        assert!(done.out.is_empty(), "{done:?}");
    }
    assert!(sandbox.fails(2, "generate nowhere").contains("no run is here"));
    assert!(
        sandbox.fails(2, "generate run/checkpoint.safetensors").contains("give the directory of a run"),
        "a file is no run"
    );
}

#[test]
fn the_checkpoint_of_a_run_serves_as_weights() {
    let sandbox = sandbox();
    sandbox.succeeds("train train.toml");
    sandbox.write_arrays("in.npz", &[Array::new("x", &[3, 1], Elements::Integers(vec![97, 98, 99]))]);
    sandbox.succeeds("run model.rnn --weights run/checkpoint.safetensors --input in.npz --output out.npz");
    assert_eq!(sandbox.floats("out.npz", "y").len(), 3 * 128);
}

#[test]
fn what_a_template_makes_trains_and_is_not_overwritten() {
    let sandbox = Sandbox::new();
    let out = sandbox.succeeds("new model --template text");
    assert!(out.contains("rnnc train model/train.toml"), "{out}");
    let settings = sandbox.read("model/train.toml");
    assert!(settings.contains("minutes = 1.0"));
    sandbox.write("model/train.toml", settings.replace("minutes = 1.0", "updates = 2"));
    assert!(sandbox.fails(2, "new model --template text").contains("model/network.rnn is there already"));
    sandbox.succeeds("train model/train.toml");
    assert!(sandbox.succeeds("generate model/run --length 5").starts_with("cell "));
}

#[test]
fn a_template_is_written_whole_or_not_at_all() {
    let sandbox = Sandbox::new();
    // In the way of the last of its files.
    sandbox.write("model/text", "mine");
    let found = sandbox.fails(1, "new model");
    assert!(found.starts_with("error: cannot write model/text: "), "{found}");
    assert_eq!(names(&sandbox.path("model")), ["text"]);
    sandbox.write("file", "mine");
    sandbox.fails(1, "new file/a/model");
    assert_eq!(names(&sandbox.path("")), ["file", "model"]);
    // Ended half way, it is completed.
    sandbox.succeeds("new a/b");
    let whole = sandbox.read("a/b/text/cells.txt");
    std::fs::remove_dir_all(sandbox.path("a/b/text")).unwrap();
    sandbox.succeeds("new a/b");
    assert_eq!(sandbox.read("a/b/text/cells.txt"), whole);
    sandbox.write("a/b/text/cells.txt", "mine");
    assert!(sandbox.fails(2, "new a/b").contains("a/b/network.rnn is there already"));
    assert_eq!(sandbox.read("a/b/text/cells.txt"), "mine");
}

#[test]
fn settings_that_are_none_are_refused_before_anything_is_written() {
    let sandbox = sandbox();
    let cases = [
        ("streams = 2", "stream = 2", "train.toml: "),
        ("streams = 2", "streams = 200", "the training data has 432 frames"),
        (
            "threads = 1",
            "executor = \"tpu\"",
            "there is no executor `tpu`; there are `cpu`, `cuda` and `reference`",
        ),
        ("text.txt", "none.txt", "none.txt"),
        (
            "validation = 0.2",
            "validation_files = [\"*.none\"]",
            "`*.none` in `data.validation_files`: no file in . matches",
        ),
        ("[run]", "[run]\ndirectory = \"text.txt\"", "`run.directory`: text.txt is a file, not a directory"),
        ("text.txt", "*.none", "*.none"),
        ("model.rnn", "none.rnn", "cannot read none.rnn"),
        ("kind = \"text\"", "kind = \"arrays\"", "train.toml: "),
    ];
    for (from, to, message) in cases {
        sandbox.write("train.toml", SETTINGS.replace(from, to));
        let found = sandbox.fails(2, "train train.toml");
        assert!(found.contains(message), "{found}");
        assert!(!sandbox.path("run").exists());
    }
    sandbox.write("text.txt", "");
    sandbox.write("train.toml", SETTINGS);
    assert!(sandbox.fails(2, "train train.toml").contains("there is no text"));
}

#[test]
fn a_checkpoint_of_another_network_is_refused_with_the_weights_that_differ() {
    let sandbox = sandbox();
    sandbox.succeeds("train train.toml");
    sandbox.write("model.rnn", MODEL.replace("elman", "ugrnn"));
    let found = sandbox.fails(2, "train train.toml --resume");
    assert!(found.contains("run/checkpoint.safetensors") && found.contains("missing: `h."), "{found}");
}

#[test]
fn a_loss_that_is_no_number_fails_the_run_and_keeps_the_checkpoint() {
    let sandbox = sandbox();
    sandbox.write(
        "model.rnn",
        MODEL.replace("y = dense(h; 128)", "e = exp(100 * dense(h; 8))  y = dense(e; 128)"),
    );
    sandbox.write("train.toml", SETTINGS.replace("learning_rate = 0.01", "learning_rate = 1000.0"));
    let done = sandbox.run("train train.toml");
    assert_eq!(done.code, 1, "{done:?}");
    assert!(done.err.contains("is kept in run/checkpoint.safetensors"), "{done:?}");
    assert!(done.err.contains('`'), "a layer or weight is named: {done:?}");
    assert!(sandbox.path("run/checkpoint.safetensors").exists());
}

#[test]
fn arrays_are_trained_on_too() {
    let sandbox = Sandbox::new();
    sandbox.write(
        "model.rnn",
        "network follow { input x : vector(1)  h = elman(x; 4)  y = dense(h; 1)  output y }",
    );
    let wave = |shift: f64| Elements::F64((0..400).map(|t| ((f64::from(t) + shift) * 0.3).sin()).collect());
    let arrays = [Array::new("x", &[400, 1, 1], wave(0.0)), Array::new("target", &[400, 1, 1], wave(1.0))];
    sandbox.write_arrays("wave.npz", &arrays);
    sandbox.write(
        "train.toml",
        "[network]\nfile = \"model.rnn\"\n[data]\nkind = \"arrays\"\nfiles = [\"wave.npz\"]\nvalidation = 0.25\n\
         [training]\nstreams = 2\nwindow = 16\nupdates = 40\nloss = \"mean_squared_error\"\nlearning_rate = 0.02\n",
    );
    let out = sandbox.succeeds("train train.toml --executor reference");
    let losses: Vec<f64> = sandbox
        .read("run/metrics.jsonl")
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["loss"].as_f64())
        .collect();
    assert!(losses.len() >= 4 && losses[3] < 0.5 * losses[0], "{losses:?}");
    assert!(out.contains("validation: loss 0."), "{out}");
    assert!(!out.contains("rnnc generate"), "{out}");
    let found = sandbox.fails(2, "generate run");
    assert!(found.contains("run: this run was not trained on text, and its network writes none"), "{found}");
}

#[test]
fn reported_losses_are_those_of_what_run_computes_of_the_same_data() {
    let sandbox = Sandbox::new();
    sandbox.write(
        "model.rnn",
        "network slow { input x : vector(2)  u = tanh(dense(x; 6))  s = 0.98 * s[t-1] + 0.02 * u  y = dense(s; 2)  output y }",
    );
    let value = |k: usize, i: usize| ((k * 31 + i * i) % 23) as f64 / 23.0;
    let lengths = [300usize, 200, 420, 260, 140];
    let array = |name: &str, k: usize, shape: &[usize]| {
        let values = (0..shape.iter().product()).map(|i| value(k, i)).collect();
        Array::new(name, shape, Elements::F64(values))
    };
    let mut arrays = Vec::new();
    for (k, &n) in lengths.iter().enumerate() {
        arrays.push(array(&format!("x.{k}"), k, &[n, 2]));
        arrays.push(array(&format!("target.{k}"), k + 100, &[n, 2]));
    }
    sandbox.write_arrays("data.npz", &arrays);
    sandbox.write(
        "train.toml",
        "[network]\nfile = \"model.rnn\"\n[data]\nkind = \"arrays\"\nfiles = [\"data.npz\"]\nvalidation = 0.1\n\
         test = 0.1\n[training]\nstreams = 4\nwindow = 32\nupdates = 10\nloss = \"mean_squared_error\"\n",
    );
    sandbox.succeeds("train train.toml");
    let reported = |kind: &str| {
        let metrics = sandbox.read("run/metrics.jsonl");
        let lines = metrics.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        lines.rev().find(|line| line["kind"] == kind).unwrap()["loss"].as_f64().unwrap()
    };
    for (kind, k) in [("validation", 3), ("test", 4)] {
        let n = lengths[k];
        sandbox.write_arrays("in.npz", &[array("x", k, &[n, 1, 2])]);
        sandbox
            .succeeds("run model.rnn --weights run/checkpoint.safetensors --input in.npz --output out.npz");
        let outputs = sandbox.floats("out.npz", "y");
        let squares = outputs.iter().enumerate().map(|(i, y)| (y - value(k + 100, i)).powi(2));
        let expected = squares.sum::<f64>() / outputs.len() as f64;
        let found = reported(kind);
        assert!((found - expected).abs() < 1e-5 * expected, "{kind}: {found} {expected}");
    }
}

/// The numbers of the last line of metrics of a kind, but for its update and time.
fn reported(sandbox: &Sandbox, kind: &str) -> serde_json::Value {
    let metrics = sandbox.read("run/metrics.jsonl");
    let lines = metrics.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    lines.rev().find(|line| line["kind"] == kind).unwrap()
}

#[test]
fn what_a_run_reports_is_what_evaluate_says_to_the_last_digit() {
    let sandbox = sandbox();
    let text: Vec<u8> = (0..900usize).map(|i| b"abcdefgh "[(i * i / 7 + i / 50) % 9]).collect();
    sandbox.write("text.txt", text);
    let settings = SETTINGS
        .replace("validation = 0.2", "validation = 0.2\ntest = 0.1")
        .replace("clip_norm", "metrics = [\"accuracy\", \"f1\", \"perplexity\"]\nclip_norm");
    sandbox.write("train.toml", settings);
    let shown = sandbox.succeeds("train train.toml");
    let expected: Vec<String> = ["validation", "test"]
        .iter()
        .map(|kind| {
            let line = reported(&sandbox, kind);
            let number = |name: &str| line[name].as_f64().unwrap();
            format!(
                "{kind}: loss {:?}, accuracy {:?}, f1 {:?}, perplexity {:?}",
                number("loss"),
                number("accuracy"),
                number("f1"),
                number("perplexity")
            )
        })
        .collect();
    assert!(shown.contains(", accuracy 0."), "{shown}");
    let last = reported(&sandbox, "validation")["update"].as_u64();
    for run in
        ["run", "run/checkpoint.safetensors", "train.toml", "train.toml --weights run/best.safetensors"]
    {
        let found = sandbox.succeeds(&format!("evaluate {run}"));
        let lines: Vec<&str> = found.lines().skip(1).collect();
        assert_eq!(lines, expected, "{run}: best after {last:?}");
    }
    // From elsewhere, and one part alone.
    let found = sandbox.succeeds("evaluate ./run --on validation");
    assert_eq!(found.lines().skip(1).collect::<Vec<_>>(), &expected[..1]);
    // All of the file: the same frames as all parts.
    assert!(sandbox.succeeds("evaluate run --files text.txt").contains("files: loss "));
}

#[test]
fn what_cannot_be_evaluated_is_said_with_what_to_do() {
    let sandbox = sandbox();
    assert!(sandbox.fails(2, "evaluate train.toml").contains("no run is here"));
    sandbox.write("train.toml", SETTINGS.replace("validation = 0.2\n", ""));
    sandbox.succeeds("train train.toml");
    assert!(sandbox.fails(2, "evaluate run").contains("the settings name no such data"));
    assert!(
        sandbox
            .fails(2, "evaluate run/checkpoint.safetensors --weights x")
            .contains("there are weights twice")
    );
    let set = "evaluate run --on training --set training.metrics=[\"error_to_signal\"]";
    assert!(sandbox.fails(2, set).contains("choose among \"accuracy\", \"f1\""));
    sandbox.write("train.toml", SETTINGS.replace("clip_norm", "metrics = [\"acc\"]\nclip_norm"));
    assert!(
        sandbox.fails(2, "train train.toml --set run.directory=other").contains("did you mean `accuracy`?")
    );
    // A run's directory that was moved no longer says where the settings stood.
    std::fs::create_dir(sandbox.path("away")).unwrap();
    std::fs::rename(sandbox.path("run"), sandbox.path("away/moved")).unwrap();
    assert!(
        sandbox.fails(2, "evaluate away/moved").contains("give that file instead of the run's directory")
    );
}

/// A table as its rows of cells, without the line of names.
fn cells(text: &str) -> Vec<Vec<&str>> {
    text.lines().skip(1).map(|line| line.split(',').collect()).collect()
}

#[test]
fn a_forecast_is_trained_on_a_table_and_reported_in_its_units() {
    let sandbox = Sandbox::new();
    sandbox.succeeds("new load --template series");
    sandbox
        .succeeds("train load/train.toml --threads 1 --set training.updates=60 --set run.validate_every=20");
    let run =
        "run load/network.rnn --weights load/run/best.safetensors --input load/load.csv --output out.csv";
    sandbox.succeeds(run);
    let (input, output) = (sandbox.read("load/load.csv"), sandbox.read("out.csv"));
    assert_eq!(output.lines().next(), Some("load"));
    let (rows, found) = (cells(&input), cells(&output));
    assert_eq!(rows.len(), found.len());
    // The last tenth is tested with, as one sequence that begins there; the network has forgotten what it read before.
    let begin = rows.len() - rows.len() / 10;
    let errors: Vec<f64> = (begin + 200..rows.len() - 1)
        .filter_map(|row| {
            let target: f64 = rows[row + 1][1].parse().ok()?;
            let forecast: f64 = found[row][0].parse().unwrap();
            Some((target - forecast).abs())
        })
        .collect();
    let by_hand = errors.iter().sum::<f64>() / errors.len() as f64;
    let said = sandbox.succeeds("evaluate load/run --threads 1 --on test");
    let reported: f64 = said.trim().rsplit_once(' ').unwrap().1.parse().unwrap();
    assert!((reported / by_hand - 1.0).abs() < 0.1, "{said}, by hand {by_hand}");
    // Deviations of the load are some 150 megawatts.
    assert!(reported < 60.0, "{said}");
    // In arrays they have the same units.
    sandbox.succeeds(&run.replace("out.csv", "out.npz"));
    let array = sandbox.floats("out.npz", "load");
    assert!(array.iter().zip(&found).all(|(x, row)| (x - row[0].parse::<f64>().unwrap()).abs() < 1e-3));
}

#[test]
fn classes_of_sequences_are_learned_from_a_table_that_is_sorted_by_them() {
    let sandbox = Sandbox::new();
    sandbox.succeeds("new gestures --template labels");
    sandbox.succeeds("train gestures/train.toml --threads 1 --set training.updates=300");
    let said = sandbox.succeeds("evaluate gestures/run --threads 1 --on test");
    let accuracy: f64 = said.split_once("accuracy ").unwrap().1.split(',').next().unwrap().parse().unwrap();
    assert!(accuracy > 0.9, "{said}");
    sandbox.succeeds(
        "run gestures/network.rnn --weights gestures/run/best.safetensors --input gestures/gestures.csv --output out.csv",
    );
    let (input, output) = (sandbox.read("gestures/gestures.csv"), sandbox.read("out.csv"));
    assert_eq!(output.lines().next(), Some("number,class,circle,line,zigzag"));
    let (rows, found) = (cells(&input), cells(&output));
    let is_last = |row: usize| rows.get(row + 1).is_none_or(|next| next[0] != rows[row][0]);
    let last: Vec<usize> = (0..rows.len()).filter(|&row| is_last(row)).collect();
    assert_eq!(last.len(), 150);
    let right =
        last.iter().filter(|&&row| found[row][1] == rows[row][1] && found[row][0] == rows[row][0]).count();
    assert!(right > 140, "{right} of 150");
}

#[test]
fn a_run_on_shuffled_sequences_resumes_with_the_same_bits() {
    let sandbox = Sandbox::new();
    sandbox.succeeds("new m --template labels");
    let train = "train m/train.toml --threads 1 --set run.checkpoint_every=1000 --set training.updates=";
    sandbox.succeeds(&format!("{train}40 --set run.directory=whole"));
    sandbox.succeeds(&format!("{train}23 --set run.directory=parts"));
    sandbox.succeeds(&format!("{train}40 --set run.directory=parts --resume"));
    let read = |run: &str| {
        let mut file = sandbox.tensors(&format!("m/{run}/checkpoint.safetensors"));
        file.tensors.retain(|name, _| !name.is_empty());
        file.tensors
    };
    assert_eq!(read("whole"), read("parts"));
}

#[test]
fn tables_that_cannot_be_run_or_evaluated_are_refused_with_what_to_do() {
    let sandbox = sandbox();
    sandbox.succeeds("init model.rnn --output w.safetensors");
    sandbox.write("in.csv", "a,b\n1,2\n");
    let run = "run model.rnn --weights w.safetensors --input in.csv --output out.csv";
    assert!(sandbox.fails(2, run).contains("it does not say which columns of a table the network reads"));
    let settings = SETTINGS.replace("files =", "inputs = [\"a\"]\nfiles =");
    sandbox.write("train.toml", settings);
    assert!(sandbox.fails(2, "train train.toml").contains("`data.inputs` is for `data.kind = \"csv\"`"));
    sandbox.write("train.toml", SETTINGS.replace("validation = 0.2", "split = \"random\""));
    assert!(sandbox.fails(2, "train train.toml").contains("`data.split` is for shares of the data"));
    sandbox.write(
        "train.toml",
        SETTINGS.replace("validation = 0.2", "validation = 0.2\nsplit = \"stratified\""),
    );
    assert!(sandbox.fails(2, "train train.toml").contains("is for targets that are classes"));
}

/// As Ctrl-C does.
#[cfg(unix)]
fn interrupt(process: &std::process::Child) {
    let sent = std::process::Command::new("kill").args(["-INT", &process.id().to_string()]).status().unwrap();
    assert!(sent.success());
}

#[cfg(unix)]
#[test]
fn an_interrupt_ends_the_run_with_a_checkpoint_from_which_it_goes_on() {
    use std::io::{BufRead, BufReader};
    let sandbox = sandbox();
    sandbox.write(
        "train.toml",
        SETTINGS.replace("updates = 6", "updates = 100000000").replace("log_every = 2", "log_every = 1"),
    );
    let mut process =
        sandbox.command("train train.toml").stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    // Under way once it has made an update.
    assert!(lines.by_ref().any(|line| line.unwrap().contains("loss")));
    interrupt(&process);
    let rest: Vec<String> = lines.map(Result::unwrap).collect();
    assert_eq!(process.wait().unwrap().code(), Some(0), "{rest:?}");
    assert!(rest.iter().any(|line| line.starts_with("stopped after ")), "{rest:?}");
    assert!(rest.iter().any(|line| line.contains("rnnc train train.toml --resume")), "{rest:?}");

    let updates: u64 = rest
        .iter()
        .find_map(|line| line.strip_prefix("stopped after ")?.split(' ').next()?.parse().ok())
        .unwrap();
    sandbox.write("train.toml", SETTINGS.replace("updates = 6", &format!("updates = {}", updates + 2)));
    let out = sandbox.succeeds("train train.toml --resume");
    assert!(out.contains(&format!("going on after update {updates}")), "{out}");
    assert!(out.contains(&format!("done after {} updates", updates + 2)), "{out}");
}

#[test]
fn the_loss_falls_on_text_that_repeats() {
    let sandbox = sandbox();
    sandbox.write(
        "train.toml",
        SETTINGS.replace("updates = 6", "updates = 240").replace("log_every = 2", "log_every = 80"),
    );
    sandbox.succeeds("train train.toml");
    let losses: Vec<f64> = sandbox
        .read("run/metrics.jsonl")
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .filter(|line| line["kind"] == "training")
        .map(|line| line["bits_per_symbol"].as_f64().unwrap())
        .collect();
    assert_eq!(losses.len(), 3);
    assert!(losses[2] < 1.0 && losses[2] < losses[0], "{losses:?}");
}

#[test]
fn the_example_trains() {
    let example = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/source-code");
    let sandbox = Sandbox::new();
    for file in ["net.rnn", "corpus.txt"] {
        sandbox.write(file, std::fs::read(example.join(file)).unwrap());
    }
    let settings = std::fs::read_to_string(example.join("train.toml")).unwrap();
    let short = [
        ("minutes = 1.0", "updates = 2"),
        ("test = 0.04", ""),
        ("[run]", "[run]\nvalidation_frames = 1000"),
        ("sample_length = 400", "sample_length = 20"),
    ];
    let short = short.iter().fold(settings, |settings, (long, short)| {
        assert!(settings.contains(long), "{long}");
        settings.replace(long, short)
    });
    sandbox.write("train.toml", short);
    let out = sandbox.succeeds("train train.toml");
    assert!(out.contains("done after 2 updates") && out.contains("bits per character"), "{out}");
    sandbox.succeeds("train train.toml");
    assert!(sandbox.succeeds("generate run --length 5").starts_with("fn "));
}

#[test]
fn the_settings_in_effect_are_settings_that_train_the_same() {
    let sandbox = sandbox();
    let shown = sandbox.succeeds(
        "config train.toml --set training.seed=3 --set training.optimizer=sgd --set run.directory=other",
    );
    for expected in [
        "seed = 3\n",
        "optimizer = \"sgd\"\n",
        "nesterov = false\n",
        "directory = \"other\"\n",
        "threads = 1\n",
    ] {
        assert!(shown.contains(expected), "{expected:?} is not in {shown}");
    }
    sandbox.write("shown.toml", &shown);
    assert_eq!(sandbox.succeeds("config shown.toml"), shown);
    sandbox.succeeds("train shown.toml");
    sandbox.succeeds(
        "train train.toml --set training.seed=3 --set training.optimizer=sgd --set run.directory=again",
    );
    let weights = |run: &str| sandbox.tensors(&format!("{run}/checkpoint.safetensors"));
    assert_eq!(format!("{:?}", weights("other").tensors), format!("{:?}", weights("again").tensors));
    let copy = std::fs::read_to_string(sandbox.path("again/train.toml")).unwrap();
    assert!(copy.contains("seed = 3") && copy.contains("optimizer = \"sgd\""), "{copy}");
}

#[test]
fn a_setting_set_wrongly_is_refused_with_what_to_write() {
    let sandbox = sandbox();
    for (set, expected) in [
        ("training.windw=3", "did you mean `window`?"),
        ("window=3", "as in `training.learning_rate`"),
        ("training.window", "joined by `=`"),
        ("training.window=many", "expected a whole number"),
        ("training.window=0", "training.window"),
        ("training.lr=1", "`rnnc config --reference`"),
    ] {
        let error = sandbox.fails(2, &format!("train train.toml --set {set}"));
        assert!(error.contains(expected), "{set}: {error}");
    }
    assert!(!sandbox.path("run").exists());
}

#[test]
fn a_model_of_an_amplifier_is_trained_on_recordings_and_plays() {
    let sandbox = Sandbox::new();
    let made = sandbox.succeeds("new amp --template audio");
    assert!(
        made.contains("amp/amplifier-target.wav") && made.contains("rnnc train amp/train.toml"),
        "{made}"
    );
    assert_eq!(
        names(&sandbox.path("amp")),
        ["amplifier-input.wav", "amplifier-target.wav", "network.rnn", "train.toml"]
    );
    // Once more changes nothing.
    sandbox.succeeds("new amp --template audio");
    let out = sandbox.succeeds(
        "train amp/train.toml --set training.updates=3 --set run.threads=1 --set training.window=64 --set run.log_every=1",
    );
    assert!(out.contains("frames to train on") && out.contains("test: "), "{out}");

    let run =
        "run amp/network.rnn --weights amp/run/best.safetensors --input amp/amplifier-input.wav --output";
    sandbox.succeeds(&format!("{run} played.wav"));
    sandbox.succeeds(&format!("{run} played.npz"));
    let [input, target, played] = ["amp/amplifier-input.wav", "amp/amplifier-target.wav", "played.wav"]
        .map(|name| read_audio(&sandbox.path(name)).unwrap());
    assert_eq!((played.rate, played.channels, played.frames()), (input.rate, 1, input.frames()));
    let as_doubles: Vec<f64> = played.samples.iter().map(|&sample| f64::from(sample)).collect();
    assert_eq!(as_doubles, sandbox.floats("played.npz", "y"));
    assert_ne!(played.samples, input.samples);

    // What the run says of the test data is what NumPy would find.
    let said = std::fs::read_to_string(sandbox.path("amp/run/metrics.jsonl")).unwrap();
    let said = said.lines().find(|line| line.contains("\"test\"")).unwrap();
    let said: f64 = said.split("\"loss\":").nth(1).unwrap().trim_end_matches('}').parse().unwrap();
    let first = input.frames() * 9 / 10;
    let tail = |samples: &[f32]| Audio { rate: input.rate, channels: 1, samples: samples[first..].to_vec() };
    write_audio(&sandbox.path("tail.wav"), &tail(&input.samples)).unwrap();
    sandbox.succeeds(
        "run amp/network.rnn --weights amp/run/best.safetensors --input tail.wav --output tail-played.wav",
    );
    let played = read_audio(&sandbox.path("tail-played.wav")).unwrap().samples;
    let squares = played.iter().zip(&target.samples[first..]).map(|(a, b)| f64::from(a - b).powi(2));
    let found = squares.sum::<f64>() / played.len() as f64;
    assert!((found - said).abs() < 1e-5 * said, "{found} {said}");
}

#[test]
fn sounds_that_do_not_fit_the_network_are_refused() {
    let sandbox = Sandbox::with_network();
    let sound = |channels: usize| Audio { rate: 8000, channels, samples: vec![0.5; channels * 4] };
    write_audio(&sandbox.path("one.wav"), &sound(1)).unwrap();
    write_audio(&sandbox.path("two.wav"), &sound(2)).unwrap();
    sandbox.write(
        "amp.rnn",
        "network amp { input x : vector(2)  y = dense(x; 2)  z = dense(x; 1)  output y, z }",
    );
    sandbox.succeeds("init amp.rnn --output amp.safetensors");
    let run = "run amp.rnn --weights amp.safetensors --input";
    for (command, expected) in [
        (
            format!("{run} one.wav --output out.npz"),
            "a sound of 1 channel, and the input of network `amp` has 2 units",
        ),
        (format!("{run} two.wav --output out.wav"), "a network's only output"),
        (
            "run net.rnn --weights w.safetensors --input one.wav --output out.npz".into(),
            "a network of one input",
        ),
        (
            "grad amp.rnn --weights amp.safetensors --input two.wav --output out.npz".into(),
            "no gradients of outputs",
        ),
    ] {
        let error = sandbox.fails(2, &command);
        assert!(error.contains(expected), "{command}: {error}");
    }
    sandbox.succeeds(&format!("{run} two.wav --output out.npz"));
    assert_eq!(sandbox.floats("out.npz", "y").len(), 8);
}
