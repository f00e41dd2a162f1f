//! Files and processes as they are: links, pipes and devices, two runs at once, signals, ends without warning, and files
//! that are larger than memory.

#![cfg(unix)]

use crate::sandbox::{Done, FRAMES, Sandbox, names};
use rnnc::io::Tensor;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const MODEL: &str = "network m { input x : symbol(128)  h = elman(x; 8)  y = dense(h; 128)  output y }";

/// With a model and settings for so many updates.
fn training(updates: u64, more: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.write("model.rnn", MODEL);
    sandbox.write("text.txt", "abcdefgh ".repeat(60));
    sandbox.write("train.toml", settings(updates, more));
    sandbox
}

fn settings(updates: u64, more: &str) -> String {
    format!(
        "[network]\nfile = \"model.rnn\"\n[data]\nkind = \"text\"\nfiles = [\"text.txt\"]\n[training]\nstreams = 2\n\
         window = 8\nupdates = {updates}\nloss = \"cross_entropy\"\n[run]\nthreads = 1\n{more}\n"
    )
}

fn tensors(sandbox: &Sandbox) -> BTreeMap<String, Tensor> {
    sandbox.tensors("run/checkpoint.safetensors").tensors
}

/// A run that has made an update, and the lines that it has yet to write.
fn under_way(sandbox: &Sandbox) -> (Child, impl Iterator<Item = String> + use<>) {
    let mut command = sandbox.command("train train.toml");
    let mut process = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.by_ref().any(|line| line.contains("loss")));
    (process, lines)
}

fn send(signal: &str, process: &Child) {
    let sent = Command::new("kill").args([signal, &process.id().to_string()]).status().unwrap();
    assert!(sent.success());
}

/// A command in a shell, where `rnnc` is the program.
fn shell(sandbox: &Sandbox, script: &str) -> Done {
    let output = Command::new("sh")
        .args(["-c", &format!("rnnc() {{ \"$RNNC\" \"$@\"; }}\n{script}")])
        .env("RNNC", env!("CARGO_BIN_EXE_rnnc"))
        .current_dir(sandbox.path(""))
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Done { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
}

#[test]
fn outputs_go_through_links_and_pipes_and_keep_modes() {
    let sandbox = Sandbox::with_network();
    sandbox.write_arrays("in.npz", &Sandbox::all_arrays());
    let commands = [
        "plan net.rnn --frames 8 --output",
        "plan net.rnn --frames 8 --format svg --output",
        "init net.rnn --output",
        "run net.rnn --weights w.safetensors --input in.npz --output",
        "run net.rnn --weights w.safetensors --input in.npz --output other.npz --state-out",
        "grad net.rnn --weights w.safetensors --input in.npz --output",
    ];
    for command in commands {
        fs::remove_dir_all(sandbox.path("out")).ok();
        sandbox.write("out/plain", "old");
        fs::set_permissions(sandbox.path("out/plain"), fs::Permissions::from_mode(0o600)).unwrap();
        symlink("plain", sandbox.path("out/link")).unwrap();
        sandbox.succeeds(&format!("{command} out/link"));
        assert!(sandbox.path("out/link").is_symlink(), "{command}");
        assert_eq!(fs::metadata(sandbox.path("out/plain")).unwrap().mode() & 0o777, 0o600, "{command}");
        let written = fs::read(sandbox.path("out/plain")).unwrap();
        assert_ne!(written, b"old", "{command}");

        let done = shell(
            &sandbox,
            &format!(
                "mkfifo out/pipe && {{ cat out/pipe > out/read & }} && rnnc {command} out/pipe && wait && \
                 rnnc {command} /dev/null && ! rnnc {command} /dev/full"
            ),
        );
        assert_eq!(done.code, 0, "{command}: {done:?}");
        assert!(done.err.starts_with("error: cannot write /dev/full: No space left"), "{command}: {done:?}");
        assert_eq!(fs::read(sandbox.path("out/read")).unwrap(), written, "{command}");
        assert!(fs::metadata(sandbox.path("out/pipe")).unwrap().file_type().is_fifo());
        assert_eq!(names(&sandbox.path("out")), ["link", "pipe", "plain", "read"]);
    }
    assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
    assert!(fs::metadata("/dev/full").unwrap().file_type().is_char_device());
}

#[test]
fn what_goes_to_stdout_by_its_name_is_added_to_what_is_there() {
    let sandbox = Sandbox::with_network();
    let done = shell(
        &sandbox,
        "echo before > log; rnnc plan net.rnn --output /dev/stdout >> log; echo after >> log; cat log",
    );
    assert!(done.out.starts_with("before\n") && done.out.ends_with("\nafter\n"), "{done:?}");
    assert!(done.out.lines().count() > 10, "{done:?}");
}

#[test]
fn what_cannot_go_to_stdout_is_told_as_such() {
    let sandbox = Sandbox::with_network();
    for command in ["plan net.rnn", "cells", "check net.rnn --no-differences"] {
        let done = shell(&sandbox, &format!("rnnc {command} > /dev/full"));
        assert_eq!(done.code, 1);
        assert!(done.err.starts_with("error: cannot write to standard output: No space left"), "{done:?}");
    }
}

#[test]
fn signs_that_steer_a_terminal_are_shown_and_not_sent() {
    let sandbox = Sandbox::with_network();
    let error = sandbox.fails(2, "plan \u{1b}[31mno.rnn");
    assert!(error.starts_with("error: cannot read \\u{1b}[31mno.rnn: "), "{error:?}");
}

#[test]
fn two_outputs_of_one_name_are_refused_however_it_is_spelled() {
    let sandbox = Sandbox::with_network();
    sandbox.write_arrays("in.npz", &Sandbox::inputs(0, FRAMES));
    std::fs::create_dir(sandbox.path("d")).unwrap();
    symlink("d", sandbox.path("link")).unwrap();
    let run = "run net.rnn --weights w.safetensors --input in.npz";
    for (a, b) in [("a", "./a"), ("d/a", "link/a"), ("d/../a", "a")] {
        let error = sandbox.fails(2, &format!("{run} --output {a} --state-out {b}"));
        assert!(error.contains("name the same file"), "{error}");
    }
    sandbox.succeeds(&format!("{run} --output a --state-out d/a"));
}

#[test]
fn a_place_that_cannot_be_written_is_refused_before_anything_is_read() {
    let sandbox = Sandbox::new();
    for command in [
        "plan no.rnn --output",
        "init no.rnn --output",
        "grad no.rnn --weights w --input i --output",
        "run no.rnn --weights w --input i --output",
    ] {
        let error = sandbox.fails(1, &format!("{command} no/file"));
        assert!(error.starts_with("error: cannot write no/file: "), "{error}");
        let error = sandbox.fails(1, &format!("{command} ."));
        assert!(error.starts_with("error: cannot write .: is a directory"), "{error}");
    }
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let sandbox = Sandbox::with_network();
    for command in
        ["plan net.rnn --format json", "plan net.rnn --format json --output /dev/stdout", "cells lstm"]
    {
        let done = shell(&sandbox, &format!("{{ rnnc {command}; echo $? >&2; }} | true"));
        assert_eq!(done.err, "0\n", "{command}: {done:?}");
    }
}

#[test]
fn a_second_training_in_a_directory_is_refused_and_the_first_goes_on() {
    let sandbox = training(100_000_000, "log_every = 1\ncheckpoint_every = 1");
    let (mut process, lines) = under_way(&sandbox);
    let reader = std::thread::spawn(move || lines.last());
    for more in ["", " --resume"] {
        let error = sandbox.fails(2, &format!("train train.toml{more}"));
        assert!(error.contains(&format!("another rnnc train (process {})", process.id())), "{error}");
    }
    // Who only reads may.
    sandbox.succeeds("generate run --prompt a --length 3");
    // What ends without warning holds nothing any more.
    process.kill().unwrap();
    process.wait().unwrap();
    reader.join().unwrap();
    let updates = sandbox.tensors("run/checkpoint.safetensors").about["rnnc"].clone();
    let updates: u64 =
        updates.split_once("\"updates\":").unwrap().1.split(',').next().unwrap().parse().unwrap();
    sandbox.write("train.toml", settings(updates + 1, ""));
    sandbox.succeeds("train train.toml --resume");
    assert_eq!(
        names(&sandbox.path("run")),
        ["checkpoint.safetensors", "metrics.jsonl", "network.rnn", "train.toml"]
    );
}

#[test]
fn a_run_that_is_killed_at_any_moment_goes_on_to_the_same_bits() {
    let (whole, killed) = (training(400, "checkpoint_every = 3"), training(400, "checkpoint_every = 3"));
    whole.succeeds("train train.toml");
    // Moments that look random and are the same in every test.
    let mut random = 12345u64;
    for _ in 0..20 {
        random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let begun = killed.path("run/checkpoint.safetensors").exists();
        let mut command =
            killed.command(if begun { "train train.toml --resume" } else { "train train.toml" });
        let mut process = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_micros(random >> 33 & 0xffff));
        process.kill().unwrap();
        process.wait().unwrap();
    }
    let begun = killed.path("run/checkpoint.safetensors").exists();
    killed.succeeds(if begun { "train train.toml --resume" } else { "train train.toml" });
    assert_eq!(tensors(&whole), tensors(&killed));
    assert_eq!(names(&killed.path("run")), names(&whole.path("run")));
    let updates = |sandbox: &Sandbox| -> Vec<String> {
        let lines = sandbox.read("run/metrics.jsonl");
        lines.lines().map(|line| line.split(',').nth(1).unwrap().to_string()).collect()
    };
    let mut sorted = updates(&killed);
    sorted.dedup();
    assert_eq!(sorted, updates(&killed), "no line is there twice");
}

#[test]
fn every_signal_that_asks_ends_the_run_with_a_checkpoint() {
    for signal in ["-INT", "-TERM", "-HUP"] {
        let sandbox = training(100_000_000, "log_every = 1");
        let (mut process, lines) = under_way(&sandbox);
        send(signal, &process);
        let rest: Vec<String> = lines.collect();
        assert_eq!(process.wait().unwrap().code(), Some(0), "{signal}: {rest:?}");
        let updates = rest.iter().find_map(|line| line.strip_prefix("stopped after ")?.split(' ').next());
        let updates: u64 = updates.unwrap().parse().unwrap();
        sandbox.write("train.toml", settings(updates + 1, ""));
        let out = sandbox.succeeds("train train.toml --resume");
        assert!(out.contains(&format!("going on after update {updates}")), "{signal}: {out}");
    }
}

#[test]
fn a_second_signal_ends_the_run_at_once() {
    let sandbox = training(100_000_000, "log_every = 1");
    let (mut process, lines) = under_way(&sandbox);
    let reader = std::thread::spawn(move || lines.last());
    // Stopped, so that it finds both.
    ["-STOP", "-TERM", "-INT", "-CONT"].iter().for_each(|signal| send(signal, &process));
    let code = process.wait().unwrap().code();
    reader.join().unwrap();
    assert!(matches!(code, Some(130 | 143)), "{code:?}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_closed_terminal_does_not_end_what_is_to_outlive_it() {
    let sandbox = training(100_000_000, "log_every = 1");
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' HUP; exec \"$RNNC\" train train.toml"]);
    command.env("RNNC", env!("CARGO_BIN_EXE_rnnc")).current_dir(sandbox.path("")).stdout(Stdio::piped());
    let mut process = command.spawn().unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.by_ref().any(|line| line.contains("loss")));
    send("-HUP", &process);
    assert!(!lines.by_ref().take(50).any(|line| line.starts_with("stopped")));
    send("-TERM", &process);
    assert!(lines.by_ref().any(|line| line.starts_with("stopped")));
    lines.for_each(drop);
    process.wait().unwrap();
}

#[test]
fn checkpoints_come_by_time_too() {
    let sandbox = training(40, "checkpoint_every = 0\ncheckpoint_minutes = 1e-9");
    let out = sandbox.succeeds("train train.toml");
    assert!(out.contains("update     20  checkpoint written"), "{out}");
    let sandbox = training(40, "checkpoint_every = 0\ncheckpoint_minutes = 0");
    let out = sandbox.succeeds("train train.toml");
    assert_eq!(out.matches("checkpoint written").count(), 1, "{out}");
    sandbox.write("train.toml", settings(40, "checkpoint_minutes = -1.0"));
    assert!(
        sandbox
            .fails(2, "train train.toml")
            .contains("`run.checkpoint_minutes` must be a finite number of at least 0")
    );
}

#[test]
fn a_run_where_its_settings_are_keeps_what_is_there() {
    let here = "directory = \".\"";
    let sandbox = training(2, here);
    sandbox.write("a.toml", settings(2, here));
    for name in ["network.rnn", "train.toml", "metrics.jsonl"] {
        sandbox.write(name, "mine");
        let error = sandbox.fails(2, "train a.toml");
        assert!(error.contains(&format!("{name}: a file that is not a run's is here already")), "{error}");
        assert_eq!(sandbox.read(name), "mine");
        assert!(!sandbox.path("checkpoint.safetensors").exists());
        fs::remove_file(sandbox.path(name)).unwrap();
    }
    // Its own settings and network are no other's.
    sandbox.write("train.toml", settings(2, here).replace("model.rnn", "network.rnn"));
    sandbox.write("network.rnn", MODEL);
    sandbox.succeeds("train train.toml");
    sandbox.succeeds("train train.toml --resume");
    assert_eq!(sandbox.read("network.rnn"), MODEL);
    // With other settings it is still the user's.
    let mine = sandbox.read("train.toml");
    for more in ["", "overwrite = true"] {
        sandbox
            .write("other.toml", settings(4, &format!("{here}\n{more}")).replace("model.rnn", "network.rnn"));
        let refused =
            sandbox.fails(2, if more.is_empty() { "train other.toml --resume" } else { "train other.toml" });
        assert!(refused.contains("train.toml: the run keeps its copy of these settings here"), "{refused}");
        assert_eq!(sandbox.read("train.toml"), mine);
    }
    // And what the run has written is the run's.
    sandbox.write("mine.toml", &mine);
    fs::remove_file(sandbox.path("train.toml")).unwrap();
    sandbox.succeeds("train mine.toml --resume");
    sandbox.succeeds("train other.toml");
    assert!(sandbox.read("train.toml").starts_with(&sandbox.read("other.toml")));
    sandbox.succeeds("generate . --prompt a --length 3");
    // Who changes it makes it his own.
    sandbox.write("train.toml", sandbox.read("train.toml").replace("overwrite = true", "overwrite = false"));
    assert!(sandbox.fails(2, "train mine.toml --resume").contains("these settings here"));
}

#[test]
fn an_old_run_stands_until_the_new_one_has_a_checkpoint() {
    let sandbox = training(4, "log_every = 1");
    sandbox.succeeds("train train.toml");
    let files = || {
        let names = names(&sandbox.path("run"));
        names.iter().map(|name| fs::read(sandbox.path("run").join(name)).unwrap()).collect::<Vec<_>>()
    };
    let old = files();
    // Refused late: the weights to begin with are another network's.
    sandbox.write("train.toml", settings(4, "overwrite = true").replace("[data]", "weights = \"w\"\n[data]"));
    sandbox.write("w", "no weights");
    sandbox.fails(2, "train train.toml");
    assert_eq!(files(), old);
    sandbox.write("train.toml", settings(3, "overwrite = true\nlog_every = 3"));
    sandbox.succeeds("train train.toml");
    assert_eq!(sandbox.read("run/metrics.jsonl").lines().count(), 1);
    assert!(sandbox.read("run/train.toml").starts_with(&sandbox.read("train.toml")));
}

#[test]
fn a_text_counts_once_however_it_is_named() {
    let sandbox = training(1, "");
    symlink(".", sandbox.path("loop")).unwrap();
    let absolute = format!("\"{}\"", sandbox.path("text.txt").display());
    for files in ["\"text.txt\", \"*.txt\"", "\"**/*.txt\"", &format!("\"./text.txt\", {absolute}")] {
        let one = settings(1, "overwrite = true").replace("\"text.txt\"", files);
        sandbox.write("train.toml", one);
        for path in ["train.toml", "./train.toml"] {
            let out = sandbox.succeeds(&format!("train {path}"));
            assert!(out.contains("540 characters to train on"), "{files}: {out}");
        }
    }
}

#[test]
fn more_files_than_a_process_may_open_at_once_are_read_one_after_the_other() {
    let sandbox = training(1, "");
    (0..100).for_each(|i| sandbox.write(&format!("texts/{i}"), "some text"));
    sandbox.write("train.toml", settings(1, "").replace("text.txt", "texts/*"));
    let done = shell(&sandbox, "ulimit -n 40; rnnc train train.toml");
    assert!(done.out.contains("900 characters to train on"), "{done:?}");
}

/// As a process that may take 2 GiB of memory.
#[cfg(target_os = "linux")]
fn in_little_memory(sandbox: &Sandbox, arguments: &str) -> Done {
    shell(sandbox, &format!("ulimit -v 2000000; rnnc {arguments}"))
}

#[cfg(target_os = "linux")]
#[test]
fn files_larger_than_memory_and_files_without_end_are_refused() {
    let sandbox = Sandbox::with_network();
    sandbox.write_arrays("in.npz", &Sandbox::inputs(0, FRAMES));
    sandbox.write("text.txt", "abc");
    sandbox.write("model.rnn", MODEL);
    sandbox.write("train.toml", settings(1, ""));
    // A hole takes no room on the disk.
    File::create(sandbox.path("huge")).unwrap().set_len(1 << 40).unwrap();
    File::create(sandbox.path("large")).unwrap().set_len(3 << 30).unwrap();
    // A header that is as good as its numbers are many.
    let header = format!(
        "{{\"w\":{{\"dtype\":\"F32\",\"shape\":[{}],\"data_offsets\":[0,{}]}}}}",
        1u64 << 29,
        1u64 << 31
    );
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    sandbox.write("w.large", &bytes);
    let large = File::options().write(true).open(sandbox.path("w.large")).unwrap();
    large.set_len(bytes.len() as u64 + (1 << 31)).unwrap();
    assert!(Command::new("mkfifo").arg(sandbox.path("pipe")).status().unwrap().success());

    let run = "run net.rnn --weights w.safetensors --input in.npz --output out.npz";
    let longer = "longer than 16 MiB";
    let device = "it is a device, not a regular file";
    let pipe = "it is a pipe, not a regular file";
    let cases = [
        ("plan huge".to_string(), longer),
        ("plan /dev/zero".into(), longer),
        ("plan .".into(), "this is a directory, not a text of networks"),
        ("train huge".into(), longer),
        ("bench net.rnn --machine /dev/zero".into(), longer),
        (run.replace("in.npz", "huge"), "not a whole .npz file"),
        (run.replace("in.npz", "/dev/zero"), device),
        (run.replace("in.npz", "pipe"), pipe),
        (run.replace("in.npz", "."), "this is a directory, not a file of arrays"),
        (run.replace("w.safetensors", "huge"), "not a safetensors file"),
        (run.replace("w.safetensors", "w.large"), "bytes"),
        (run.replace("w.safetensors", "/dev/zero"), device),
        (run.replace("w.safetensors", "pipe"), pipe),
        (format!("{run} --state-in /dev/zero"), device),
        (format!("{run} --state-in huge"), "not a whole .npz file"),
    ];
    for (arguments, message) in cases {
        let done = in_little_memory(&sandbox, &arguments);
        assert_eq!(done.code, 2, "{arguments}: {done:?}");
        assert!(done.err.contains(message), "{arguments}: {done:?}");
    }
    for (file, message) in [
        ("huge", "bytes"),
        ("large", "bytes"),
        ("/dev/zero", device),
        ("pipe", pipe),
        (".", "is a directory"),
    ] {
        sandbox.write("train.toml", settings(1, "").replace("text.txt", file));
        let done = in_little_memory(&sandbox, "train train.toml");
        assert_eq!(done.code, 2, "{file}: {done:?}");
        assert!(done.err.contains(message), "{file}: {done:?}");
    }
    assert!(!sandbox.path("run").exists());
    // Texts may come through a pipe.
    let mut process =
        sandbox.command("plan /dev/stdin").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut process.stdin.take().unwrap(), MODEL.as_bytes()).unwrap();
    let mut out = String::new();
    process.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    assert!(process.wait().unwrap().success() && out.starts_with("m: 1 loop over frames"), "{out}");
}
