//! Texts that are large, deep or hostile: each is taken or refused in a time that grows with the text.

use rnnc_lang::compile;
use std::fmt::Write;
use std::time::{Duration, Instant};

/// Far more than any of these takes, and far less than anything quadratic would.
const LONG: Duration = Duration::from_secs(60);

fn timed<T>(what: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = what();
    assert!(start.elapsed() < LONG, "took {:?}", start.elapsed());
    result
}

#[test]
fn a_megabyte_of_equations_is_taken_in_linear_time() {
    let mut text = String::from("network n { input x : vector(2)\n y0 = x\n");
    for i in 1..40_000 {
        let before = i - 1;
        writeln!(text, "y{i} = 0.5 * y{before} + y{i}[t-1]").unwrap();
    }
    text += "output y39999 }";
    assert!(text.len() > 1_000_000);
    let graph = timed(|| compile("big.rnn", &text, None).unwrap());
    assert_eq!(graph.layers().len(), 40_001);
}

#[test]
fn one_equation_of_a_hundred_thousand_terms_is_taken() {
    let text =
        format!("network n {{ input x : vector(2)  y = {} x  output y }}", "x[t-1] * 2 + ".repeat(100_000));
    assert_eq!(timed(|| compile("wide.rnn", &text, None).unwrap()).connections().len(), 100_001);
}

#[test]
fn a_megabyte_of_brackets_is_refused() {
    for bracket in ["(", "[", "{", "f(", "-", "x.", "network n {", "cell f(x; n = "] {
        let text = format!("network n {{ input x : vector(2)  y = {}", bracket.repeat(1 << 20));
        assert!(timed(|| compile("deep.rnn", &text, None).map_err(|e| e.to_string())).is_err());
    }
}

#[test]
fn expressions_as_deep_as_allowed_need_little_stack() {
    let (open, close) = ("-tanh(x + ".repeat(190), ")".repeat(190));
    let text = format!("network n {{ input x : vector(2)  y = {open}x{close}  output y }}");
    let small = std::thread::Builder::new().stack_size(1 << 20);
    let layers =
        small.spawn(move || compile("deep.rnn", &text, None).unwrap().layers().len()).unwrap().join();
    assert!(layers.unwrap() >= 190);
}

#[test]
fn a_long_chain_of_divisions_is_refused_not_overflowed() {
    let text = format!("network n {{ input x : vector(2)  y = x {}  output y }}", "/ x ".repeat(100_000));
    let errors = timed(|| compile("deep.rnn", &text, None).unwrap_err());
    assert!(errors.to_string().contains("an expression of more than 1000 levels"));
}

#[test]
fn cells_may_nest_as_deep_as_names_allow() {
    let nested = |levels: usize| {
        let mut text = String::from("cell f0(x) { h = tanh(x)  return h }\n");
        for level in 1..=levels {
            writeln!(text, "cell f{level}(x) {{ a = f{}(x)  return a }}", level - 1).unwrap();
        }
        text + &format!("network n {{ input x : vector(2)  y = f{levels}(x)  output y }}")
    };
    assert_eq!(compile("deep.rnn", &nested(400), None).unwrap().layers().len(), 2);
    let errors = timed(|| compile("deep.rnn", &nested(20_000), None).unwrap_err());
    assert!(errors.to_string().contains("longer than 1000 bytes"));
}

#[test]
fn a_large_cell_called_very_often_is_refused_before_it_is_expanded() {
    let terms = "x + ".repeat(10_000);
    let mut text = format!("cell big(x) {{ h = {terms} x  return h }}\nnetwork n {{ input x : vector(2)\n");
    for i in 0..2_000 {
        writeln!(text, "y{i} = big(x)").unwrap();
    }
    text += "output y0 }";
    assert!(timed(|| compile("big.rnn", &text, None)).is_err());
}

#[test]
fn cells_that_do_nothing_but_double_are_refused() {
    let mut text = String::from("cell f0(x) { return x }\n");
    for level in 1..60 {
        let below = level - 1;
        writeln!(text, "cell f{level}(x) {{ a = f{below}(x)  b = f{below}(a)  return b }}").unwrap();
    }
    text += "network n { input x : vector(2)  y = f59(x)  output y }";
    let errors = timed(|| compile("double.rnn", &text, None).unwrap_err());
    assert!(errors.to_string().contains("more than 500000 layers"));
}

#[test]
fn a_hundred_thousand_wrong_names_are_told_in_time() {
    let mut text = String::from("network n { input x : vector(2)\n");
    for i in 0..50_000 {
        writeln!(text, "good_{i} = x\nbad_{i} = god_{i}").unwrap();
    }
    text += "output x }";
    let errors = timed(|| compile("wrong.rnn", &text, None).unwrap_err());
    assert!(errors.diagnostics().len() > 20);
    assert!(errors.to_string().len() < 100_000);
}
