//! The other commands: `cells`, `check`, `init`, `bench`, and what the command line itself refuses.

use crate::sandbox::Sandbox;

#[test]
fn help_and_versions_are_no_errors_and_unknown_commands_are() {
    let sandbox = Sandbox::new();
    for command in
        ["new", "cells", "plan", "check", "init", "run", "grad", "bench", "train", "config", "generate"]
    {
        assert!(sandbox.succeeds("--help").contains(&format!("\n  {command} ")), "{command}");
        assert!(sandbox.succeeds(&format!("{command} --help")).contains(&format!("Usage: rnnc {command} ")));
    }
    assert!(sandbox.succeeds("--version").starts_with("rnnc "));
    for wrong in ["", "fly", "bench", "cells --no-such-option", "bench net.rnn --executor gpu"] {
        assert!(!sandbox.fails(2, wrong).is_empty());
    }
}

#[test]
fn the_library_is_listed_and_its_cells_printed() {
    let sandbox = Sandbox::new();
    let list = sandbox.succeeds("cells");
    for name in ["lstm_peephole", "gru_reset_after", "sru", "slstm", "dilated_rnn"] {
        assert!(list.lines().any(|line| line.starts_with(&format!("{name} "))), "{name}");
    }
    let lstm = sandbox.succeeds("cells lstm");
    assert!(lstm.contains("c = f * c[t-1] + i * z") && lstm.contains("Hochreiter"), "{lstm}");
    assert!(sandbox.fails(2, "cells lstn").contains("the library has no cell `lstn`"));
}

#[test]
fn a_printed_cell_is_text_that_compiles() {
    let sandbox = Sandbox::new();
    let cell = sandbox.succeeds("cells gru").replacen("cell gru", "cell mine", 1);
    sandbox
        .write("net.rnn", format!("{cell}\nnetwork n {{ input x : vector(3)  h = mine(x; 4)  output h }}"));
    sandbox.succeeds("init net.rnn --output w.safetensors");
}

#[test]
fn initial_weights_follow_from_the_seed() {
    let sandbox = Sandbox::with_network();
    let first = std::fs::read(sandbox.path("w.safetensors")).unwrap();
    let again = |seed: u64| {
        sandbox.succeeds(&format!("init net.rnn --seed {seed} --output again.safetensors"));
        std::fs::read(sandbox.path("again.safetensors")).unwrap()
    };
    assert_eq!(again(3), first);
    assert_ne!(again(4), first);
    let tensors = sandbox.tensors("w.safetensors").tensors;
    assert_eq!(tensors["h.f.W.h[t-1]"].shape, [4, 4]);
    assert_eq!(tensors["h.f.bias"].values, [1.0; 4]);
}

#[test]
fn a_sound_network_passes_its_checks_and_one_that_overflows_fails_them() {
    let sandbox = Sandbox::with_network();
    let found = sandbox.succeeds("check net.rnn --seed 5");
    assert!(found.contains("gradients against differences: ok"), "{found}");
    assert!(found.contains("cpu against reference: ok"), "{found}");
    assert!(!sandbox.succeeds("check net.rnn --executor reference").contains("cpu"));
    let found = sandbox.succeeds("check net.rnn --no-differences");
    assert!(found.contains("cpu against reference: ok") && !found.contains("differences:"), "{found}");
    let refused = sandbox.fails(2, "check net.rnn --no-differences --executor reference");
    assert!(refused.contains("leave out `--no-differences`"), "{refused}");

    sandbox.write("net.rnn", "network n { input x : vector(2)  y = exp(dense(x; 2, bias = 100))  output y }");
    let done = sandbox.run("check net.rnn");
    assert_eq!(done.code, 1, "{done:?}");
    assert!(done.out.contains("cpu against reference: FAILED"), "{done:?}");
    assert!(done.out.contains("the network leaves what single precision holds, 3.4e38"), "{done:?}");
}

#[test]
fn what_rounding_explains_is_no_failure() {
    let sandbox = Sandbox::new();
    for equation in [
        // Of equal units: roundings are divided by the root of epsilon.
        "y = layer_norm(broadcast(dense(x; 1); 6))",
        // Of x, some digits are left.
        "y = (x + 1e6) - 1e6",
    ] {
        sandbox.write("net.rnn", format!("network n {{ input x : vector(3)  {equation}  output y }}"));
        let found = sandbox.succeeds("check net.rnn --threads 1");
        assert!(found.contains("cpu against reference: ok"), "{found}");
    }
}

#[test]
fn a_delay_beyond_the_frames_of_a_check_is_told() {
    let sandbox = Sandbox::new();
    sandbox.write("net.rnn", "network n { input x : vector(3)  y = x[t-40]  output y }");
    let found = sandbox.succeeds("check net.rnn --frames 20");
    assert!(found.contains("note: `x[t-40]` reaches further than 20 frames"), "{found}");
    assert!(!sandbox.succeeds("check net.rnn").contains("note"));
}

#[test]
fn one_stream_one_frame_and_one_array_are_singular() {
    let sandbox = Sandbox::new();
    sandbox.write("net.rnn", "network n { input x : vector(3)  y = tanh(x)  output y }");
    let found = sandbox.succeeds("check net.rnn --streams 1 --frames 1");
    assert!(found.contains("1 stream, 1 frame of random data"), "{found}");
    assert!(found.contains("(1 array;"), "{found}");
    let found = sandbox.succeeds("bench net.rnn --streams 1 --frames 1 --seconds 0.01 --threads 1");
    assert!(found.contains("network n, 1 frame a window"), "{found}");
}

#[test]
fn a_check_says_where_the_data_leaves_a_functions_domain_and_takes_ranges_that_stay_inside() {
    let sandbox = Sandbox::new();
    sandbox.write("net.rnn", "network n { input x : vector(4)  y = sqrt(dense(x; 3))  output y }");
    let done = sandbox.run("check net.rnn");
    assert_eq!(done.code, 2, "{done:?}");
    let found = done.out;
    assert!(found.contains("gradients against differences: not checked (3 arrays)"), "{found}");
    assert!(found.contains("layer `y` is NaN in unit 0 of stream 0, frame 0"), "{found}");
    assert!(found.contains("`--range x=0.1:2`") && found.contains("cpu against reference: ok"), "{found}");
    let inside = "check net.rnn --range 0:1 --range y.W.x=0:1 --range y.bias=0:1";
    let found = sandbox.succeeds(inside);
    assert!(found.contains("gradients against differences: ok (3 arrays"), "{found}");
    assert!(found.contains("each along a random direction and 3 of its entries"), "{found}");
    let found = sandbox.succeeds(&format!("{inside} --entries 1000"));
    assert!(found.contains("; every entry)"), "{found}");
}

#[test]
fn a_check_names_the_layer_whose_derivative_is_not_finite_and_calls_nothing_wrong() {
    let sandbox = Sandbox::new();
    let text = |epsilon: &str| {
        format!(
            "network n {{ input x : vector(3)  h = max(dense(x; 3), 0)  y = dense(sqrt(h{epsilon}); 2)  output y }}"
        )
    };
    sandbox.write("net.rnn", text(""));
    let done = sandbox.run("check net.rnn --threads 1");
    assert_eq!(done.code, 2, "{done:?}");
    assert!(done.out.contains("the derivative of sqrt in layer `y.1"), "{done:?}");
    assert!(done.out.contains("an epsilon, as in `sqrt(x + 1e-6)`"), "{done:?}");
    assert!(done.out.contains("h.W.x: not checked in full: the derivative along "), "{done:?}");
    assert!(!done.out.contains("FAILED") && done.out.contains("cpu against reference: ok"), "{done:?}");
    sandbox.write("net.rnn", text(" + 1e-2"));
    assert!(sandbox.succeeds("check net.rnn --threads 1").contains("differences: ok"));
}

#[test]
fn a_check_takes_weights_inputs_and_gradients_of_its_user() {
    let sandbox = Sandbox::with_network();
    sandbox.write_arrays("in.npz", &Sandbox::all_arrays());
    let found = sandbox.succeeds("check net.rnn --weights w.safetensors --input in.npz");
    assert!(found.starts_with("network n: 2 streams, 9 frames of the file's data\n"), "{found}");
    assert!(found.contains("differences: ok") && found.contains("reference: ok"), "{found}");
    sandbox.write_arrays("in.npz", &Sandbox::all_arrays()[..4]);
    let refused = sandbox.fails(2, "check net.rnn --input in.npz");
    assert!(refused.contains("array `d_g`"), "{refused}");

    for (arguments, message) in [
        ("--input in.npz --range x=0:1", "the inputs are those of the file"),
        ("--weights w.safetensors --range y.bias=0:1", "the weights are those of the file"),
        ("--range h.i.W.y=0:1", "did you mean `h.i.W.x`?"),
        ("--range s=0:1", "`s` is a symbol input"),
        ("--range x=2:1", "LOW must be less than HIGH"),
        ("--range x=a", "a range is two numbers"),
    ] {
        let refused = sandbox.fails(2, &format!("check net.rnn {arguments}"));
        assert!(refused.contains(message), "{arguments}: {refused}");
    }
}

#[test]
fn a_check_draws_dropout_masks_if_asked_to_and_says_so() {
    let sandbox = Sandbox::new();
    sandbox.write(
        "net.rnn",
        "network n { input x : vector(4)  y = dense(dropout(lstm(x; 3); 0.5); 2)  output y }",
    );
    let without = sandbox.succeeds("check net.rnn");
    assert!(without.contains("without dropout (`--dropout` draws its masks)"), "{without}");
    let with = sandbox.succeeds("check net.rnn --dropout --seed 2");
    assert!(with.contains("data, with dropout\n"), "{with}");
    assert!(with.contains("differences: ok") && with.contains("reference: ok"), "{with}");
}

#[test]
fn plans_are_printed_for_people_and_tools_and_as_pictures() {
    let sandbox = Sandbox::with_network();
    let text = sandbox.succeeds("plan net.rnn --streams 2 --frames 64");
    for expected in
        ["2 loops over frames", "`h` is computed frame after frame", "backward", "us a frame", "memory"]
    {
        assert!(text.contains(expected), "{expected:?} is not in {text}");
    }
    assert!(text.lines().count() < 25, "{text}");
    assert!(!sandbox.succeeds("plan net.rnn --inference").contains("backward"));
    let text = sandbox.succeeds("plan net.rnn --streams 2 --frames 64 --verbose");
    for expected in ["loop", "h.c", "Amdahl", "parameters", "Memory", "-- barrier --"] {
        assert!(text.contains(expected), "{expected:?} is not in {text}");
    }
    assert!(sandbox.succeeds("plan net.rnn --verbose --inference").len() < text.len());
    let refused = sandbox.fails(2, "plan net.rnn --verbose --format json");
    assert!(refused.contains("`--verbose` goes with `--format text`"), "{refused}");
    let json = sandbox.succeeds("plan net.rnn --streams 2 --frames 64 --format json");
    assert!(serde_json::from_str::<serde_json::Value>(&json).unwrap().is_object());
    let state = |optimizer: &str| {
        let json = sandbox.succeeds(&format!("plan net.rnn --format json --optimizer {optimizer}"));
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        json["memory"]["optimizer_state"].as_u64().unwrap()
    };
    assert_eq!(state("adam"), 2 * state("sgd"));
    assert!(sandbox.fails(2, "plan net.rnn --optimizer adem").contains("there are `adam`, "));
    sandbox.fails(2, "plan net.rnn --optimizer sgd --inference");
    assert!(sandbox.succeeds("plan net.rnn --format dot").starts_with("digraph"));
    assert_eq!(sandbox.succeeds("plan net.rnn --format svg --output net.svg"), "");
    let svg = sandbox.read("net.svg");
    assert!(svg.contains("<svg") && svg.trim_end().ends_with("</svg>"));
    assert!(sandbox.fails(2, "plan net.rnn --frames 0").contains("at least 1 stream and 1 frame"));
    assert!(sandbox.fails(1, "plan net.rnn --output no_directory/plan").contains("cannot write"));
}

#[test]
fn plans_say_what_becomes_of_them_on_a_gpu_that_is_not_there() {
    let sandbox = Sandbox::with_network();
    let on = "plan net.rnn --streams 1 --frames 64 --executor cuda";
    let short = sandbox.succeeds(&format!("{on} --device h200"));
    for expected in [
        "2 loops over frames",
        "on the GPU   Forward and backward, a loop runs in one block",
        "backward on h200",
    ] {
        assert!(short.contains(expected), "{expected:?} is not in {short}");
    }
    assert!(short.lines().count() < 30 && short.contains("`--verbose`"), "{short}");
    let text = sandbox.succeeds(&format!("{on} --device h200 --verbose"));
    for expected in
        ["n on h200: sm_90a", "The backward pass: ", "one block of 256 threads", "in registers", "Memory"]
    {
        assert!(text.contains(expected), "{expected:?} is not in {text}");
    }
    let json = sandbox.succeeds(&format!("{on} --device a100 --format json"));
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["device"]["name"], "a100");
    let kinds = |pass: usize| json["passes"][pass]["stages"].as_array().unwrap().iter().map(|s| &s["kind"]);
    assert!(kinds(0).any(|kind| kind == "loop") && kinds(1).any(|kind| kind == "frames"));
    let cases = [
        ("--executor cuda --device z80", "no device `z80` is known; there are `h200`, `h100` and `a100`"),
        ("--executor cuda --device h200 --format dot", "leave out `--executor cuda`"),
        ("--device h200", "`--device` goes with `--executor cuda`"),
        ("--executor reference", "the reference executor has no plan"),
    ];
    for (arguments, problem) in cases {
        let error = sandbox.fails(2, &format!("plan net.rnn {arguments}"));
        assert!(error.contains(problem), "{error}");
    }
}

#[test]
fn where_there_is_no_gpu_the_command_says_what_runs_instead() {
    let sandbox = Sandbox::with_network();
    for (command, remedy) in [
        ("check net.rnn --executor cuda", "`--executor cpu` runs on any machine"),
        ("bench net.rnn --executor cuda", "`--executor cpu` runs on any machine"),
        ("plan net.rnn --executor cuda", "`--device h200` explains a plan with no GPU at hand"),
    ] {
        // Hides the GPU of a machine that has one.
        let output = sandbox.command(command).env("CUDA_VISIBLE_DEVICES", "-1").output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.contains("the cuda executor cannot run here: ") && error.contains(remedy), "{error}");
    }
}

#[test]
fn a_precision_that_an_executor_does_not_have_is_refused_by_name() {
    let sandbox = Sandbox::with_network();
    let refused = "the reference executor cannot run with `--precision f32`";
    assert!(sandbox.fails(2, "bench net.rnn --executor reference --precision f32").contains(refused));
    for precision in ["f32", "tf32", "bf16"] {
        sandbox.succeeds(&format!("bench net.rnn --precision {precision} --frames 4 --seconds 0"));
        sandbox.succeeds(&format!(
            "bench net.rnn --precision {precision} --frames 4 --seconds 0 --schedule session"
        ));
        sandbox.succeeds(&format!("check net.rnn --precision {precision}"));
    }
}

#[test]
fn timings_are_one_json_object_a_line() {
    let sandbox = Sandbox::with_network();
    for executor in ["cpu", "reference"] {
        let lines = sandbox.succeeds(&format!(
            "bench net.rnn --streams 1,3 --frames 8 --seconds 0.01 --format json --executor {executor} --threads 1"
        ));
        let lines: Vec<serde_json::Value> =
            lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 2);
        for (line, streams) in lines.iter().zip([1, 3]) {
            assert_eq!(line["streams"], streams);
            assert_eq!(line["frames"], 8);
            assert_eq!(line["threads"], 1);
            assert_eq!(line["executor"], executor);
            for field in ["forward_us_per_step", "train_us_per_step"] {
                let time = |suffix: &str| line[format!("{field}{suffix}")].as_f64().unwrap();
                assert!(0.0 < time("_low") && time("_low") <= time("") && time("") <= time("_high"));
            }
        }
    }
    let table = sandbox.succeeds("bench net.rnn --frames 8 --seconds 0.01 --no-bound");
    assert_eq!(table.lines().count(), 4, "{table}");
    let frames =
        sandbox.succeeds("bench net.rnn --schedule frame --streams 2 --frames 8 --seconds 0 --format json");
    let frames: serde_json::Value = serde_json::from_str(&frames).unwrap();
    assert_eq!((&frames["schedule"], &frames["timed"]), (&"frame".into(), &"host".into()));
    assert!(frames["forward_us_per_step"].as_f64().unwrap() > 0.0 && frames["train_us_per_step"].is_null());
    let run = sandbox.succeeds("bench net.rnn --inference --streams 2 --frames 8 --seconds 0 --format json");
    let run: serde_json::Value = serde_json::from_str(&run).unwrap();
    assert!(run["inference"].as_bool().unwrap() && !frames["inference"].as_bool().unwrap());
    assert!(run["forward_us_per_step"].as_f64().unwrap() > 0.0 && run["train_us_per_step"].is_null());
    for option in ["--kernels", "--prepare"] {
        assert!(sandbox.fails(2, &format!("bench net.rnn {option}")).contains("`--executor cuda`"));
    }
    assert!(sandbox.fails(2, "bench net.rnn --streams 0").contains("at least 1 stream"));
    assert!(sandbox.fails(2, "bench net.rnn --seconds=-1").contains("--seconds"));
}

#[test]
fn times_stand_beside_the_bound_that_follows_from_the_machines_speeds() {
    let sandbox = Sandbox::with_network();
    let json = |options: &str| -> serde_json::Value {
        let command = format!("bench net.rnn --streams 2 --frames 8 --seconds 0 --format json {options}");
        serde_json::from_str(&sandbox.succeeds(&command)).unwrap()
    };
    let measured = json("--threads 1");
    assert_eq!(measured["machine"]["threads"], 1);
    // Not measured anew, but taken.
    sandbox.write("machine.json", measured["machine"].to_string());
    let line = json("--threads 1 --machine machine.json");
    assert_eq!(line["machine"], measured["machine"]);
    for (prefix, time) in [("forward_", "forward_us_per_step"), ("", "train_us_per_step")] {
        for count in ["flops", "bytes", "bound_us_per_step"] {
            let key = format!("{prefix}{count}");
            assert!(line[&key].as_f64().unwrap() > 0.0, "{key}");
            assert_eq!(line[&key], measured[&key], "{key} follows from the plan and the machine alone");
        }
        let number = |key: String| line[key].as_f64().unwrap();
        let (bound, fraction) =
            (number(format!("{prefix}bound_us_per_step")), number(format!("{prefix}fraction_of_bound")));
        assert!((fraction - bound / number(time.into())).abs() < 0.01, "{line}");
    }
    assert!(line["flops"].as_f64() > line["forward_flops"].as_f64());
    let frame = json("--threads 1 --machine machine.json --schedule frame");
    assert_eq!(frame["flops"], frame["forward_flops"]);
    let forward = json("--threads 1 --machine machine.json --forward");
    assert!(forward["train_us_per_step"].is_null() && forward["fraction_of_bound"].is_number());

    assert!(json("--no-bound")["fraction_of_bound"].is_null());
    let table = sandbox.succeeds("bench net.rnn --frames 8 --seconds 0 --threads 1 --machine machine.json");
    assert!(table.starts_with("this machine: products ") && table.contains(" of the bound"), "{table}");
    sandbox.write("wrong.json", "{}");
    let gpu = r#"{"device": "a GPU", "precision": "f32", "product_gflops": 5e4, "tf32_product_gflops": 4e5, "copy_gb_s": [[64, 4e3]]}"#;
    sandbox.write("gpu.json", gpu);
    for (options, problem) in [
        ("--machine wrong.json", "does not hold the speeds of a machine"),
        ("--machine machine.json --threads 2", "is of 1 threads, not 2"),
        ("--machine nowhere.json", "cannot read nowhere.json"),
        ("--machine machine.json --executor reference", "`--executor cpu` and `cuda`"),
        ("--machine machine.json --executor cuda", "does not hold the speeds of a GPU"),
        ("--machine gpu.json", "does not hold the speeds of a machine"),
        ("--machine gpu.json --executor cuda --precision bf16", "is of products in f32, not bf16"),
        ("--calls 0", "at least 1 call"),
    ] {
        let found = sandbox.fails(2, &format!("bench net.rnn {options}"));
        assert!(found.contains(problem), "{options}: {found}");
    }
}

#[test]
fn a_session_is_timed_frame_by_frame() {
    let sandbox = Sandbox::with_network();
    let line = sandbox.succeeds(
        "bench net.rnn --schedule session --streams 2 --frames 50 --calls 2 --seconds 0 --no-bound --format json",
    );
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&line["schedule"], &line["frames"]), (&"session".into(), &100.into()));
    let times = ["p50", "p90", "p99", "p999", "max"].map(|key| line["latency_us"][key].as_f64().unwrap());
    assert!(times[0] > 0.0 && times.is_sorted(), "{line}");
    let table = sandbox.succeeds("bench net.rnn --schedule session --frames 50 --seconds 0 --no-bound");
    assert!(table.lines().count() == 4 && table.contains("p99"), "{table}");
    let found = sandbox.fails(2, "bench net.rnn --schedule session --executor reference");
    assert!(found.contains("`--executor cpu`"), "{found}");
    sandbox.write("ahead.rnn", "network n { input x : vector(3)  y = x[t+1]  output y }");
    for schedule in ["session", "frame"] {
        let found = sandbox.fails(2, &format!("bench ahead.rnn --schedule {schedule}"));
        assert!(found.contains("looks ahead"), "{found}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn without_a_number_of_threads_there_are_as_many_as_the_process_may_use_cores() {
    let sandbox = Sandbox::with_network();
    let command =
        sandbox.command("bench net.rnn --frames 4 --seconds 0 --no-bound --format json --streams 1");
    let output = std::process::Command::new("taskset")
        .args(["--cpu-list", &first_core()])
        .arg(command.get_program())
        .args(command.get_args())
        .current_dir(command.get_current_dir().unwrap())
        .output()
        .unwrap();
    let line: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(line["threads"], 1);
}

/// A core that this process may use.
#[cfg(target_os = "linux")]
fn first_core() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap();
    list.trim().chars().take_while(char::is_ascii_digit).collect()
}

#[cfg(target_os = "linux")]
#[test]
fn an_executor_takes_about_the_memory_that_was_planned() {
    let sandbox = Sandbox::new();
    sandbox.write("net.rnn", "network n { input x : vector(64)  h = lstm(x; 64)  output h }");
    let line = sandbox.succeeds(
        "bench net.rnn --streams 4 --frames 4096 --seconds 0 --calls 1 --no-bound --format json --threads 1",
    );
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    let [planned, measured] =
        ["planned", "measured"].map(|key| line[format!("memory_{key}")].as_f64().unwrap());
    // Most of it are values.
    assert!(planned > 30e6 && (0.95 * planned..1.15 * planned).contains(&measured), "{planned} {measured}");
}

#[test]
#[cfg(target_os = "linux")]
fn plans_of_the_largest_layers_take_no_memory_for_what_they_count() {
    let sandbox = Sandbox::new();
    let most = 2_147_483_647usize;
    for (name, text) in [
        ("vector", format!("input x : vector({most})  y = tanh(x)  output y")),
        ("lru", format!("input x : vector(3)  y = lru(x; {most}, 4)  output y")),
        ("broadcast", format!("input x : vector(1)  y = broadcast(x; {most})  output y")),
        ("param", format!("input x : vector(1)  y = x * param({most})  output y")),
        ("dense", format!("input x : vector(2)  y = dense(x; {most})  output y")),
        ("start", format!("input x : vector({most})  h = 0.5 * h[t-1] + x  start h = 0.5  output h")),
    ] {
        sandbox.write("net.rnn", format!("network n {{ {text} }}"));
        // With 2 GB of addresses.
        let limited = format!("ulimit -v 2000000; exec {} plan net.rnn", env!("CARGO_BIN_EXE_rnnc"));
        let mut shell = std::process::Command::new("sh");
        let done = shell.args(["-c", &limited]).current_dir(sandbox.path(".")).output().unwrap();
        let (out, err) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
        assert!(done.status.success(), "{name}: {err}");
        assert!(out.contains("memory") && out.contains(" TB"), "{name}: {out}");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn what_the_limit_of_a_process_does_not_let_it_have_is_refused_with_the_amount() {
    let sandbox = Sandbox::new();
    sandbox.write("net.rnn", "network n { input x : vector(1)  y = broadcast(x; 2000000000)  output y }");
    let limited = format!(
        "ulimit -v 4000000; exec {} bench net.rnn --inference --schedule session --threads 1",
        env!("CARGO_BIN_EXE_rnnc")
    );
    let mut shell = std::process::Command::new("sh");
    let done = shell.args(["-c", &limited]).current_dir(sandbox.path(".")).output().unwrap();
    let err = String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.status.code(), Some(2), "{err}");
    assert!(err.contains("would take ") && err.contains(" are available"), "{err}");
}
