//! Bad input: exit code 2, and a message that names file, array, what was expected and what was found.

use crate::sandbox::{FRAMES, NETWORK, STREAMS, Sandbox, names};
use rnnc::io::{Array, Elements, Precision};

const RUN: &str = "run net.rnn --weights w.safetensors --input in.npz --output out.npz";
const GRAD: &str = "grad net.rnn --weights w.safetensors --input in.npz --output out.npz";

/// Runs a command over arrays, and asserts that it refuses them with that message.
fn refused(command: &str, arrays: &[Array], message: &str) {
    let sandbox = Sandbox::with_network();
    sandbox.write_arrays("in.npz", arrays);
    let found = sandbox.fails(2, command);
    assert_eq!(found, format!("error: in.npz: {message}\n"));
    assert!(!sandbox.path("out.npz").exists());
}

/// The arrays of a good run, one of them replaced.
fn with(array: Array) -> Vec<Array> {
    let mut arrays = Sandbox::inputs(0, FRAMES);
    arrays.retain(|a| a.name() != array.name());
    arrays.push(array);
    arrays
}

#[test]
fn a_missing_array_is_named() {
    let arrays = Sandbox::inputs(0, FRAMES);
    refused(RUN, &arrays[1..], "array `x`: expected an array of this name, found only `reset`, `s`");
    refused(
        GRAD,
        &[&arrays[..], &Sandbox::output_gradients()[..1]].concat(),
        "array `d_g`: expected an array of this name, found only `d_y`, `reset`, `s`, `x`",
    );
}

#[test]
fn an_unknown_array_is_named() {
    refused(
        RUN,
        &with(Array::new("z", &[1], Elements::F32(vec![1.0]))),
        "array `z`: expected the network's inputs, gradients of its outputs, `reset`, and `target` and `mask` of training \
         (`x`, `s`, `d_y`, `d_g`, `reset`, `target`, `mask`), found an array of another name",
    );
    let resets = Array::new("resets", &[FRAMES, STREAMS], Elements::Booleans(vec![false; 18]));
    let sandbox = Sandbox::with_network();
    sandbox.write_arrays("in.npz", &with(resets));
    assert!(sandbox.fails(2, RUN).contains("another name (did you mean `reset`?)"));
    sandbox.write_arrays("in.npz", &with(Array::new("arr_0", &[1], Elements::F32(vec![1.0]))));
    assert!(sandbox.fails(2, RUN).contains("`numpy.savez(path, x=...)` gives it one"));
}

#[test]
fn what_only_training_reads_may_be_there() {
    let sandbox = Sandbox::with_network();
    let target = Array::new("target", &[FRAMES, STREAMS], Elements::Integers(vec![0; 18]));
    sandbox.write_arrays("in.npz", &with(target));
    sandbox.succeeds(RUN);
}

#[test]
fn a_list_of_sequences_that_cannot_be_run_is_refused() {
    let sandbox = Sandbox::with_network();
    let x = |k: usize, n: usize| Array::new(format!("x.{k}"), &[n, 3], Elements::F32(vec![0.0; 3 * n]));
    let s = |k: usize, n: usize| Array::new(format!("s.{k}"), &[n], Elements::Integers(vec![1; n]));
    sandbox.write_arrays("in.npz", &[x(0, 4), s(0, 3)]);
    assert!(sandbox.fails(2, RUN).contains("array `s.0`: expected shape [4], found shape [3]"));
    sandbox.write_arrays("in.npz", &[x(0, 4), s(0, 4), x(2, 1)]);
    assert!(
        sandbox.fails(2, RUN).contains("array `x.2`: expected sequences of the network's inputs, numbered 0")
    );
    sandbox.write_arrays("in.npz", &[x(0, 0), s(0, 0)]);
    assert!(sandbox.fails(2, RUN).contains("its sequences have no frames"));
    sandbox.write_arrays("in.npz", &[x(0, 4), s(0, 4)]);
    let found = sandbox.fails(2, &format!("{RUN} --state-out s.npz"));
    assert!(found.contains("each sequence of a list runs from its start"), "{found}");
}

#[test]
fn a_wrong_shape_is_shown_beside_the_right_one() {
    let zeros = |count| Elements::F32(vec![0.0; count]);
    let cases = [
        (
            Array::new("x", &[9, 2, 4], zeros(72)),
            "array `x`: expected shape [T, B, 3], found shape [9, 2, 4]",
        ),
        (Array::new("x", &[54], zeros(54)), "array `x`: expected shape [T, B, 3], found shape [54]"),
        (
            Array::new("x", &[18, 3], zeros(54)),
            "array `x`: expected shape [T, B, 3], found shape [18, 3] (of a single stream, `x[:, None]` has it)",
        ),
        (
            Array::new("s", &[2, 9], Elements::Integers(vec![0; 18])),
            "array `s`: expected shape [9, 2], found shape [2, 9] (frames come before streams: `s.swapaxes(0, 1)`)",
        ),
        (
            Array::new("x", &[0, 2, 3], zeros(0)),
            "array `x`: expected at least one frame and one stream, found shape [0, 2, 3]",
        ),
        (
            Array::new("s", &[9, 3], Elements::Integers(vec![0; 27])),
            "array `s`: expected shape [9, 2], found shape [9, 3]",
        ),
        (
            Array::new("reset", &[8, 2], Elements::Booleans(vec![false; 16])),
            "array `reset`: expected shape [9, 2], found shape [8, 2]",
        ),
    ];
    for (array, message) in cases {
        refused(RUN, &with(array), message);
    }
    let mut arrays = Sandbox::all_arrays();
    arrays[3] = Array::new("d_y", &[9, 2, 1], zeros(18));
    refused(GRAD, &arrays, "array `d_y`: expected shape [9, 2, 2], found shape [9, 2, 1]");
}

#[test]
fn a_wrong_type_is_shown_beside_the_right_one() {
    let (vector, symbols) = ([FRAMES, STREAMS, 3], [FRAMES, STREAMS]);
    let cases = [
        (
            Array::new("x", &vector, Elements::Integers(vec![(1 << 24) + 1; 54])),
            "array `x`: expected floats, or integers that float32 holds exactly, found 16777217 at [0, 0, 0]",
        ),
        (
            Array::new("s", &symbols, Elements::F32(vec![0.0; 18])),
            "array `s`: expected integers, found float32: `s.astype(\"int64\")` makes them",
        ),
        (
            Array::new("reset", &symbols, Elements::F32(vec![0.0; 18])),
            "array `reset`: expected bool or uint8, found float32: `reset.astype(\"bool\")` makes them",
        ),
        (
            Array::new("reset", &symbols, Elements::Integers(vec![2; 18])),
            "array `reset`: expected 0 or 1, found 2 at [0, 0]",
        ),
    ];
    for (array, message) in cases {
        refused(RUN, &with(array), message);
    }
}

#[test]
fn a_symbol_out_of_range_is_named_with_its_place() {
    for wrong in [5, -1] {
        let mut symbols = vec![0; FRAMES * STREAMS];
        symbols[7] = wrong;
        let message = format!("array `s`: expected symbols from 0 to 4, found {wrong} at [3, 1]");
        refused(RUN, &with(Array::new("s", &[FRAMES, STREAMS], Elements::Integers(symbols))), &message);
    }
}

#[test]
fn files_cut_short_or_of_another_kind_are_refused() {
    let sandbox = Sandbox::with_network();
    sandbox.write_arrays("whole.npz", &Sandbox::inputs(0, FRAMES));
    for (file, argument, message) in [
        ("whole.npz", "in.npz", "not a whole .npz file"),
        ("w.safetensors", "cut.safetensors", "not a whole safetensors file"),
    ] {
        let bytes = std::fs::read(sandbox.path(file)).unwrap();
        for len in [5, bytes.len() / 2, bytes.len() - 1] {
            sandbox.write("in.npz", std::fs::read(sandbox.path("whole.npz")).unwrap());
            sandbox.write("cut.safetensors", std::fs::read(sandbox.path("w.safetensors")).unwrap());
            sandbox.write(argument, &bytes[..len]);
            let found =
                sandbox.fails(2, "run net.rnn --weights cut.safetensors --input in.npz --output out.npz");
            assert!(found.starts_with(&format!("error: {argument}: {message}")), "{found}");
        }
        for (other, kind) in [
            (&b""[..], "an empty file"),
            (b"some text that is neither, and longer than a header would be", "a text"),
            (NETWORK.as_bytes(), "a text of networks (.rnn)"),
            (b"\x80\x04\x95 and so on", "a Python pickle"),
        ] {
            sandbox.write(argument, other);
            let found =
                sandbox.fails(2, "run net.rnn --weights cut.safetensors --input in.npz --output out.npz");
            assert!(
                found.starts_with(&format!("error: {argument}: this is {kind}, not a file of ")),
                "{found}"
            );
        }
    }
}

#[test]
fn files_that_cannot_be_read_are_named() {
    let sandbox = Sandbox::with_network();
    sandbox.write_arrays("in.npz", &Sandbox::inputs(0, FRAMES));
    for command in [
        RUN.replace("net.rnn", "no.file"),
        RUN.replace("w.safetensors", "no.file"),
        RUN.replace("in.npz", "no.file"),
        format!("{RUN} --state-in no.file"),
        "train no.file".into(),
        "plan no.file".into(),
    ] {
        let found = sandbox.fails(2, &command);
        assert!(found.starts_with("error: cannot read no.file: "), "{found}");
    }
}

#[test]
fn every_command_refuses_every_bad_file_in_every_place() {
    let sandbox = Sandbox::with_network();
    sandbox.write_arrays("in.npz", &Sandbox::all_arrays());
    let half = |name: &str| {
        let bytes = std::fs::read(sandbox.path(name)).unwrap();
        bytes[..bytes.len() / 2].to_vec()
    };
    let bad = [
        ("empty", vec![]),
        ("byte", vec![b'{']),
        ("junk", (0..200u8).map(|i| i.wrapping_mul(101) ^ 0xa5).collect()),
        ("text", b"hello = [world, 1e400\n".to_vec()),
        ("zeros", vec![0; 300]),
        ("half.npz", half("in.npz")),
        ("half.safetensors", half("w.safetensors")),
        ("long", [&u64::MAX.to_le_bytes()[..], b"{}"].concat()),
    ];
    bad.iter().for_each(|(name, bytes)| sandbox.write(name, bytes));
    std::fs::create_dir(sandbox.path("directory")).unwrap();
    let names: Vec<&str> =
        bad.iter().map(|(name, _)| *name).chain(["directory", "none", "text/none"]).collect();
    for command in [
        "plan BAD --output out",
        "check BAD",
        "check net.rnn --weights BAD",
        "check net.rnn --input BAD",
        "bench BAD",
        "bench net.rnn --machine BAD",
        "init BAD --output out",
        "run BAD --weights w.safetensors --input in.npz --output out",
        "run net.rnn --weights BAD --input in.npz --output out",
        "run net.rnn --weights w.safetensors --input BAD --output out",
        "run net.rnn --weights w.safetensors --input in.npz --output out --state-in BAD",
        "grad BAD --weights w.safetensors --input in.npz --output out",
        "grad net.rnn --weights BAD --input in.npz --output out",
        "grad net.rnn --weights w.safetensors --input BAD --output out",
        "train BAD",
        "train BAD --resume",
        "train BAD --set run.threads=1",
        "config BAD",
        "generate BAD",
    ] {
        for name in &names {
            let found = sandbox.fails(2, &command.replace("BAD", name));
            assert!(found.starts_with("error: ") && !found.contains("panicked"), "{command} {name}: {found}");
            assert!(!sandbox.path("out").exists(), "{command} {name}");
        }
    }
}

#[test]
fn files_in_each_others_places_are_told_apart() {
    let sandbox = Sandbox::with_network();
    sandbox.write_arrays("in.npz", &Sandbox::inputs(0, FRAMES));
    sandbox.write("train.toml", "[network]\nfile = \"net.rnn\"\n");
    std::fs::create_dir(sandbox.path("directory")).unwrap();
    for (command, message) in [
        (
            RUN.replace("net.rnn", "in.npz"),
            "in.npz: this is a file of NumPy arrays (.npz), not a text of networks",
        ),
        (RUN.replace("net.rnn", "train.toml"), "`rnnc train` takes it"),
        (RUN.replace("net.rnn", "directory"), "directory: this is a directory, not a text of networks"),
        (RUN.replace("w.safetensors", "in.npz"), "`safetensors.numpy.save_file(dict(numpy.load(\"in.npz\"))"),
        (RUN.replace("in.npz", "w.safetensors"), "**safetensors.numpy.load_file(\"w.safetensors\"))`"),
        ("train net.rnn".into(), "net.rnn: this is a text of networks (.rnn), not a file of settings"),
        ("train w.safetensors".into(), "this is a safetensors file, not a file of settings"),
    ] {
        let found = sandbox.fails(2, &command);
        assert!(found.contains(message), "{command}: {found}");
    }
}

#[test]
fn integers_and_truth_values_that_floats_hold_exactly_serve_as_floats() {
    let sandbox = Sandbox::with_network();
    let outputs = |x: Elements| {
        sandbox.write_arrays("in.npz", &with(Array::new("x", &[FRAMES, STREAMS, 3], x)));
        sandbox.succeeds(RUN);
        sandbox.floats("out.npz", "y")
    };
    let floats = outputs(Elements::F32((0..54).map(|i| (i % 2) as f32).collect()));
    assert_eq!(outputs(Elements::Integers((0..54).map(|i| i % 2).collect())), floats);
    assert_eq!(outputs(Elements::Booleans((0..54).map(|i| i % 2 == 1).collect())), floats);
}

#[test]
fn what_cannot_be_written_fails_the_run_and_leaves_what_was_there() {
    let sandbox = Sandbox::with_network();
    sandbox.write_arrays("in.npz", &Sandbox::inputs(0, FRAMES));
    let found = sandbox.fails(1, &RUN.replace("out.npz", "no_directory/out.npz"));
    assert!(found.starts_with("error: cannot write no_directory/out.npz: "), "{found}");
    assert_eq!(names(&sandbox.path("")), ["in.npz", "net.rnn", "w.safetensors"]);
}

#[test]
fn weights_that_are_not_numbers_or_not_the_networks_are_named() {
    let sandbox = Sandbox::with_network();
    sandbox.write_arrays("in.npz", &Sandbox::inputs(0, FRAMES));
    let mut weights = sandbox.tensors("w.safetensors");
    weights.tensors.get_mut("h.i.W.x").unwrap().values[7] = f64::NAN;
    weights.write(&sandbox.path("nan.safetensors"), Precision::Single).unwrap();
    let found = sandbox.fails(2, &RUN.replace("w.safetensors", "nan.safetensors"));
    assert_eq!(
        found,
        "error: nan.safetensors: array `h.i.W.x`: expected finite numbers, found NaN at [2, 1]\n"
    );

    sandbox.write("other.rnn", NETWORK.replace("lstm", "elman"));
    let found = sandbox.fails(2, &RUN.replace("net.rnn", "other.rnn"));
    assert!(found.contains("missing: `h.h.W.x`, ") && found.contains("not in the network: `h.f."), "{found}");
}

#[test]
fn a_state_of_other_layers_or_sizes_is_refused_by_name() {
    let sandbox = Sandbox::with_network();
    sandbox.write_arrays("in.npz", &Sandbox::inputs(0, FRAMES));
    let zeros = |shape: [usize; 3]| Elements::F32(vec![0.0; shape.iter().product()]);
    let array = |name: &str, shape: [usize; 3]| Array::new(name, &shape, zeros(shape));
    let counts = |name: &str, counts: Vec<i64>| Array::new(name, &[counts.len()], Elements::Integers(counts));
    let since_reset = |frames: Vec<i64>| counts("since_reset", frames);
    let good =
        [array("h.h", [1, 2, 4]), array("h.c", [1, 2, 4]), array("g", [2, 2, 3]), since_reset(vec![3, 0])];
    let command = format!("{RUN} --state-in state.npz");
    sandbox.write_arrays("state.npz", &good);
    sandbox.succeeds(&command);
    // As older versions called it.
    let mut old = good.clone();
    old[3] = counts("age", vec![3, 0]);
    sandbox.write_arrays("state.npz", &old);
    sandbox.succeeds(&command);

    let cases = [
        (2, array("g", [1, 2, 3]), "array `g`: expected shape [2, 2, 3], found shape [1, 2, 3]"),
        (2, array("g", [2, 3, 3]), "array `g`: expected shape [2, 2, 3], found shape [2, 3, 3]"),
        (0, array("h.h", [1, 2, 5]), "array `h.h`: expected shape [1, 2, 4], found shape [1, 2, 5]"),
        (3, since_reset(vec![1]), "array `since_reset`: expected shape [2], found shape [1]"),
        (
            3,
            since_reset(vec![1, -1]),
            "array `since_reset`: expected a number of frames, at least 0, found -1",
        ),
        (
            1,
            array("h.o", [1, 2, 4]),
            "array `h.o`: expected the layers that the network reads with a delay, and `since_reset` (`h.c`, `h.h`, `g`, \
             `since_reset`), found an array of another name (did you mean `h.c`?)",
        ),
    ];
    for (place, array, message) in cases {
        let mut arrays = good.clone();
        arrays[place] = array;
        sandbox.write_arrays("state.npz", &arrays);
        assert_eq!(sandbox.fails(2, &command), format!("error: state.npz: {message}\n"));
    }
    sandbox.write_arrays("state.npz", &good[1..]);
    let found = sandbox.fails(2, &command);
    assert!(found.starts_with("error: state.npz: array `h.h`: expected an array of this name"), "{found}");
}

#[test]
fn errors_in_a_network_show_the_line() {
    let sandbox = Sandbox::new();
    sandbox.write("net.rnn", "network n {\n    input x : vector(3)\n    y = tahn(x)\n    output y\n}\n");
    let found = sandbox.fails(2, "init net.rnn --output w.safetensors");
    assert!(
        found.contains("net.rnn:3") && found.contains("y = tahn(x)") && found.contains("`tanh`"),
        "{found}"
    );
    assert!(!found.contains('\x1b'), "no terminal, no colours: {found:?}");
    sandbox.write("net.rnn", NETWORK);
    sandbox.fails(2, "init net.rnn --network other --output w.safetensors");
    assert_eq!(names(&sandbox.path("")), ["net.rnn"]);
}

#[test]
fn an_input_that_is_called_like_a_special_array_is_refused() {
    let sandbox = Sandbox::new();
    sandbox.write("net.rnn", "network n { input reset : vector(1)  y = 2 * reset  output y }");
    sandbox.succeeds("init net.rnn --output w.safetensors");
    sandbox.write_arrays("in.npz", &[Array::new("reset", &[1, 1, 1], Elements::F32(vec![1.0]))]);
    assert!(sandbox.fails(2, RUN).contains("rename the input"));
}

#[test]
fn sizes_that_no_memory_holds_are_refused_with_the_amount() {
    let sandbox = Sandbox::new();
    let net = "network n { input x : vector(1000000)  y = dense(x; 1000000)  output y }";
    sandbox.write("net.rnn", net);
    let found = sandbox.fails(2, "bench net.rnn --streams 1 --frames 1000");
    assert!(found.contains("bytes"), "{found}");
    let found = sandbox.fails(2, "init net.rnn --output w.safetensors");
    assert!(found.contains("bytes"), "{found}");

    sandbox.write("net.rnn", NETWORK);
    for command in ["check net.rnn", "check net.rnn --executor reference", "bench net.rnn"] {
        let found = sandbox.fails(2, &format!("{command} --frames 9999999999999999 --streams 999999999999"));
        assert!(found.contains("bytes"), "{command}: {found}");
    }
    let found = sandbox.fails(2, "bench net.rnn --threads 100000");
    assert!(found.contains("at most 4096, not 100000"), "{found}");
}

#[test]
fn an_output_does_not_replace_what_the_command_reads() {
    let sandbox = Sandbox::with_network();
    sandbox.write_arrays("in.npz", &Sandbox::all_arrays());
    sandbox.succeeds(&format!("{RUN} --state-out state.npz"));
    let before: Vec<Vec<u8>> =
        ["net.rnn", "w.safetensors", "in.npz"].map(|f| std::fs::read(sandbox.path(f)).unwrap()).into();
    for (command, message) in [
        (RUN.replace("out.npz", "in.npz"), "`--output in.npz` would replace its input: name another file"),
        (RUN.replace("out.npz", "./w.safetensors"), "`--output ./w.safetensors` would replace its weights"),
        (GRAD.replace("out.npz", "net.rnn"), "would replace the network"),
        (format!("{RUN} --state-out in.npz"), "`--state-out in.npz` would replace its input"),
        ("init net.rnn --output net.rnn".into(), "would replace the network"),
        ("plan net.rnn --output net.rnn".into(), "would replace the network"),
    ] {
        let found = sandbox.fails(2, &command);
        assert!(found.contains(message), "{command}: {found}");
    }
    for (file, before) in ["net.rnn", "w.safetensors", "in.npz"].iter().zip(before) {
        assert_eq!(std::fs::read(sandbox.path(file)).unwrap(), before);
    }
    sandbox.succeeds(&format!("{RUN} --state-in state.npz --state-out state.npz"));
}

#[test]
fn numbers_that_make_no_sense_are_refused_with_their_option() {
    let sandbox = Sandbox::with_network();
    for (arguments, message) in [
        ("check net.rnn --frames -1", "invalid value '-1' for '--frames <T>'"),
        ("check net.rnn --streams 0", "at least 1 stream"),
        ("check net.rnn --threads 100000", "the number of threads must be at most 4096"),
        ("plan net.rnn --threads 100000", "the number of threads must be at most 4096"),
        ("plan net.rnn --streams 0", "at least 1 stream"),
        ("bench net.rnn --seconds -1", "`--seconds` must be at least 0"),
        ("plan net.rnn --executor cuda --device h300", "no device `h300` is known"),
        ("plan net.rnn --executor gpu", "[possible values: cpu, cuda, reference]"),
        ("cells LSTM", "did you mean `lstm`?"),
    ] {
        let found = sandbox.fails(2, arguments);
        assert!(found.contains(message), "{arguments}: {found}");
    }
}
