//! `run` and `grad`: arrays in, arrays out.

use crate::sandbox::{FRAMES, STREAMS, Sandbox, assert_close};
use rnnc::io::{Array, ArrayFile, ElementType, Elements, Precision};

#[test]
fn a_run_split_in_two_equals_the_whole() {
    let sandbox = Sandbox::with_network();
    sandbox.write_arrays("all.npz", &Sandbox::inputs(0, FRAMES));
    sandbox.write_arrays("first.npz", &Sandbox::inputs(0, 4));
    sandbox.write_arrays("second.npz", &Sandbox::inputs(4, FRAMES));
    for (executor, tolerance) in [("reference", 0.0), ("cpu", 1e-6)] {
        let run = format!("run net.rnn --weights w.safetensors --executor {executor}");
        sandbox.succeeds(&format!("{run} --input all.npz --output whole.npz --state-out end.npz"));
        sandbox.succeeds(&format!("{run} --input first.npz --output a.npz --state-out half.npz"));
        sandbox.succeeds(&format!(
            "{run} --input second.npz --output b.npz --state-in half.npz --state-out split_end.npz"
        ));
        for output in ["y", "g"] {
            let split = [sandbox.floats("a.npz", output), sandbox.floats("b.npz", output)].concat();
            assert_close(&split, &sandbox.floats("whole.npz", output), tolerance);
        }
        for layer in ["h.h", "h.c", "g"] {
            assert_close(
                &sandbox.floats("split_end.npz", layer),
                &sandbox.floats("end.npz", layer),
                tolerance,
            );
        }
        let mut end = ArrayFile::open(sandbox.path("split_end.npz")).unwrap();
        assert_eq!(end.read("since_reset").unwrap().elements(), &Elements::Integers(vec![9, 4]));
        assert_eq!(end.read("g").unwrap().shape(), [2, STREAMS, 3]);
        assert_eq!(end.names(), ["g", "h.c", "h.h", "since_reset"]);
    }
}

#[test]
fn inputs_longer_than_a_window_run_as_one() {
    let sandbox = Sandbox::new();
    sandbox.write("sum.rnn", "network sum { input x : vector(1)  y = x + y[t-1]  output y }");
    sandbox.succeeds("init sum.rnn --output w.safetensors");
    sandbox.write_arrays("in.npz", &[Array::new("x", &[2500, 1, 1], Elements::F32(vec![1.0; 2500]))]);
    sandbox.succeeds("run sum.rnn --weights w.safetensors --input in.npz --output out.npz");
    let expected: Vec<f64> = (1..=2500).map(f64::from).collect();
    assert_eq!(sandbox.floats("out.npz", "y"), expected);
}

#[test]
fn a_network_that_looks_ahead_sees_all_frames() {
    let sandbox = Sandbox::new();
    sandbox.write("last.rnn", "network last { input x : vector(1)  y = x + y[t+1]  output y }");
    sandbox.succeeds("init last.rnn --output w.safetensors");
    sandbox.write_arrays("in.npz", &[Array::new("x", &[1500, 1, 1], Elements::F32(vec![1.0; 1500]))]);
    sandbox.succeeds("run last.rnn --weights w.safetensors --input in.npz --output out.npz");
    let expected: Vec<f64> = (1..=1500).rev().map(f64::from).collect();
    assert_eq!(sandbox.floats("out.npz", "y"), expected);
}

#[test]
fn numbers_are_single_precision_and_of_the_reference_executor_double() {
    let sandbox = Sandbox::with_network();
    sandbox.write_arrays("in.npz", &Sandbox::all_arrays());
    for (executor, element) in [("reference", ElementType::F64), ("cpu", ElementType::F32)] {
        let same = format!("net.rnn --weights w.safetensors --input in.npz --executor {executor}");
        sandbox.succeeds(&format!("run {same} --output {executor}.npz --state-out state.npz"));
        sandbox.succeeds(&format!("grad {same} --output {executor}_grad.npz"));
        for (file, array) in
            [(executor.into(), "y"), (format!("{executor}_grad"), "d_x"), ("state".into(), "h.c")]
        {
            let mut file = ArrayFile::open(sandbox.path(&format!("{file}.npz"))).unwrap();
            assert_eq!(file.read(array).unwrap().element(), element);
        }
    }
    assert_close(&sandbox.floats("cpu.npz", "y"), &sandbox.floats("reference.npz", "y"), 1e-5);
    let gradients = ArrayFile::open(sandbox.path("cpu_grad.npz")).unwrap().names();
    assert_eq!(gradients.len(), 12 + 4 + 2 + 1, "{gradients:?}");
    for name in gradients {
        let both = ["cpu_grad.npz", "reference_grad.npz"].map(|file| sandbox.floats(file, &name));
        assert_close(&both[0], &both[1], 1e-4);
    }
}

#[test]
fn gradients_are_those_of_differences_of_runs() {
    let sandbox = Sandbox::with_network();
    sandbox.write_arrays("in.npz", &Sandbox::all_arrays());
    let same = "net.rnn --executor reference --input";
    sandbox.succeeds(&format!("grad {same} in.npz --weights w.safetensors --output grads.npz"));

    let objective = |weights: &str, input: &str| -> f64 {
        sandbox.succeeds(&format!("run {same} {input} --weights {weights} --output out.npz"));
        let products = Sandbox::output_gradients().into_iter().map(|d| {
            let y = sandbox.floats("out.npz", d.name().strip_prefix("d_").unwrap());
            y.iter().zip(d.f64s().unwrap().iter()).map(|(y, d)| y * d).sum::<f64>()
        });
        products.sum()
    };
    let step = 1e-5;
    let gradient = |name: &str, place: usize| sandbox.floats("grads.npz", name)[place];
    for (name, place) in [("h.i.W.h[t-1]", 6), ("h.f.bias", 1), ("g.W.s", 8), ("g.W.g[t-2]", 3), ("y.W.g", 5)]
    {
        let at = |step: f64| {
            let mut moved = sandbox.tensors("w.safetensors");
            moved.tensors.get_mut(name).unwrap().values[place] += step;
            moved.write(&sandbox.path("moved.safetensors"), Precision::Double).unwrap();
            objective("moved.safetensors", "in.npz")
        };
        let difference = (at(step) - at(-step)) / (2.0 * step);
        assert!(difference.abs() > 1e-6, "{name} does not matter");
        assert_close(&[gradient(name, place)], &[difference], 1e-8);
    }
    for place in [0, 17, 33] {
        let at = |step: f64| {
            let mut arrays = Sandbox::inputs(0, FRAMES);
            let mut x = arrays[0].f64s().unwrap().into_owned();
            x[place] += step;
            arrays[0] = Array::new("x", &[FRAMES, STREAMS, 3], Elements::F64(x));
            sandbox.write_arrays("moved.npz", &arrays);
            objective("w.safetensors", "moved.npz")
        };
        let difference = (at(step) - at(-step)) / (2.0 * step);
        assert!(difference.abs() > 1e-6, "x does not matter");
        assert_close(&[gradient("d_x", place)], &[difference], 1e-8);
    }
}

#[test]
fn resets_may_be_bytes_or_truth_values_and_matter() {
    let sandbox = Sandbox::with_network();
    let mut arrays = Sandbox::inputs(0, FRAMES);
    sandbox.write_arrays("in.npz", &arrays);
    let bytes = arrays[2].flags().unwrap().into_iter().map(i64::from).collect();
    arrays[2] = Array::new("reset", &[FRAMES, STREAMS], Elements::Integers(bytes));
    sandbox.write_arrays("bytes.npz", &arrays);
    sandbox.write_arrays("none.npz", &arrays[..2]);
    let outputs = ["in", "bytes", "none"].map(|name| {
        sandbox.succeeds(&format!("run net.rnn --weights w.safetensors --input {name}.npz --output out.npz"));
        sandbox.floats("out.npz", "y")
    });
    assert_eq!(outputs[0], outputs[1]);
    // Up to the reset in stream 1 of frame 5, and not from there.
    let reset = (5 * STREAMS + 1) * 2;
    assert_eq!(outputs[0][..reset], outputs[2][..reset]);
    assert_ne!(outputs[0][reset..reset + 2], outputs[2][reset..reset + 2]);
}

#[test]
fn a_list_of_sequences_runs_as_each_of_them_alone() {
    let sandbox = Sandbox::with_network();
    let value = |k: usize, i: usize| ((k * 31 + i * i) % 23) as f32 / 23.0;
    let (mut list, mut alone) = (Vec::new(), Vec::new());
    for (k, n) in [3usize, 0, 5, 1].into_iter().enumerate() {
        let x: Vec<f32> = (0..3 * n).map(|i| value(k, i)).collect();
        let s: Vec<i64> = (0..n).map(|i| ((i + k) % 5) as i64).collect();
        list.push(Array::new(format!("x.{k}"), &[n, 3], Elements::F32(x.clone())));
        list.push(Array::new(format!("s.{k}"), &[n], Elements::Integers(s.clone())));
        if n == 0 {
            alone.push(Vec::new());
            continue;
        }
        let arrays =
            [Array::new("x", &[n, 1, 3], Elements::F32(x)), Array::new("s", &[n, 1], Elements::Integers(s))];
        sandbox.write_arrays("one.npz", &arrays);
        sandbox.succeeds(
            "run net.rnn --weights w.safetensors --input one.npz --output one_out.npz --executor reference",
        );
        alone.push(sandbox.floats("one_out.npz", "g"));
    }
    sandbox.write_arrays("list.npz", &list);
    sandbox.succeeds(
        "run net.rnn --weights w.safetensors --input list.npz --output out.npz --executor reference",
    );
    for (k, expected) in alone.iter().enumerate() {
        assert_eq!(&sandbox.floats("out.npz", &format!("g.{k}")), expected);
    }
}

#[test]
fn a_text_runs_as_its_bytes() {
    let sandbox = Sandbox::new();
    sandbox.write(
        "model.rnn",
        "network m { input x : symbol(100)  h = elman(x; 8)  y = dense(h; 4)  output y }",
    );
    sandbox.succeeds("init model.rnn --output w.safetensors");
    sandbox.write("in.txt", "ab b");
    let symbols = Elements::Integers(b"ab b".iter().map(|&b| b.into()).collect());
    sandbox.write_arrays("in.npz", &[Array::new("x", &[4, 1], symbols)]);
    for input in ["in.txt", "in.npz"] {
        sandbox
            .succeeds(&format!("run model.rnn --weights w.safetensors --input {input} --output {input}.npz"));
    }
    assert_eq!(sandbox.floats("in.txt.npz", "y"), sandbox.floats("in.npz.npz", "y"));
    sandbox.write("in.txt", "abx");
    let found = sandbox.fails(2, "run model.rnn --weights w.safetensors --input in.txt --output o.npz");
    assert!(found.contains("byte 120 at offset 2 is not a symbol"), "{found}");
}
