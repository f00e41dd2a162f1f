//! The cells that PyTorch has, against what PyTorch computed (bench/fixtures/make_pytorch_fixtures.py made the
//! fixture): values and all gradients.

use crate::support::{Array, Window, assert_close, compile, run};
use serde_json::Value;

pub const CELLS: &[&str] = &["elman", "lstm", "gru_reset_after"];

fn numbers(value: &Value) -> Vec<f64> {
    let list = value.as_array().expect("the fixture has an array here");
    list.iter().map(|v| v.as_f64().expect("the fixture has a number here")).collect()
}

fn size(value: &Value) -> usize {
    value.as_u64().and_then(|v| usize::try_from(v).ok()).expect("the fixture has a size here")
}

fn check(name: &str) {
    let fixture: Value =
        serde_json::from_str(include_str!("../fixtures/pytorch_cells.json")).expect("the fixture is JSON");
    let cases = fixture["cases"].as_array().expect("the fixture has a list of cases");
    let case = cases.iter().find(|case| case["name"] == name).expect("the fixture has this case");

    let graph = compile(case["network"].as_str().expect("the fixture has a text here"));
    let arrays = case["weights"].as_object().expect("the fixture has weights by name");
    let weights = arrays
        .iter()
        .map(|(name, array)| {
            let shape = numbers(&array["shape"]).iter().map(|&n| n as usize).collect();
            (name.clone(), Array { shape, values: numbers(&array["values"]) })
        })
        .collect();
    assert_eq!(arrays.len(), graph.weights().len(), "PyTorch and the cell have the same weights");
    let (frames, streams) = (size(&case["frames"]), size(&case["streams"]));
    let window =
        Window { frames, streams, input: &numbers(&case["x"]), resets: &vec![false; frames * streams] };
    let run = run(&graph, &weights, &window, &numbers(&case["d_h"]));
    assert_close("output", &run.output, &numbers(&case["h"]), 1e-9);
    assert_close("gradient of the input", &run.input_gradient, &numbers(&case["d_x"]), 1e-9);
    for (name, array) in arrays {
        let found = &run.weight_gradients[name].values;
        assert_close(&format!("gradient of {name}"), found, &numbers(&array["gradient"]), 1e-9);
    }
}

#[test]
fn lstm_equals_pytorch() {
    check("lstm");
}

#[test]
fn gru_reset_after_equals_pytorch() {
    check("gru_reset_after");
}

#[test]
fn elman_equals_pytorch() {
    check("elman");
}

#[test]
fn a_bidirectional_lstm_equals_pytorch() {
    check("bidirectional lstm");
}
