//! Summaries as they stand, and that they stay short and in the words of the text.

#[path = "../../rnnc-plan/tests/nets/mod.rs"]
mod nets;

use proptest::prelude::*;
use proptest::test_runner::contextualize_config;
use rnnc_plan::{Memory, Plan, PlanOptions};
use rnnc_report::{Brief, summary};
use std::fmt::Write;

fn plan_of(text: &str) -> Plan {
    let graph = rnnc_lang::compile("net.rnn", text, None).unwrap();
    Plan::new(&graph, PlanOptions::training(1, 256)).unwrap()
}

fn summary_of(text: &str) -> String {
    summary(&plan_of(text), None)
}

/// The text on one line.
fn flat(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

const FADING: &str = "
cell fading(x; n) {
    keep = sigmoid(dense(x; n) + diag(h[t-1]))
    h = keep * h[t-1] + (1 - keep) * tanh(dense(x, h[t-2]; n))
    return h
}

network words {
    input x : symbol(256)
    h = fading(x; 128)
    y = dense(h; 256)
    output y
}";

#[test]
fn the_summary_of_a_word_model() {
    let memory =
        Memory { buffers: 1_837_000, weights: 461_312, gradients: 461_312, slots: 922_624, working: 0 };
    let brief = Brief {
        memory,
        on: "2 threads of a CPU".into(),
        forward_us: 1.574,
        backward_us: Some(20.04),
        left_out: String::new(),
        more: Vec::new(),
    };
    insta::assert_snapshot!(summary(&plan_of(FADING), Some(&brief)));
}

#[test]
fn the_summary_of_two_lstm_layers() {
    insta::assert_snapshot!(summary_of(
        "network stack { input x : vector(40)  h1 = lstm(x; 128)  h2 = lstm(h1; 128)  y = dense(h2; 10)  output y }"
    ));
}

#[test]
fn the_summary_of_a_scan() {
    insta::assert_snapshot!(summary_of(
        "network net { input x : vector(40)  h = mingru(x; 128)  y = dense(h; 10)  output y }"
    ));
}

#[test]
fn the_summary_of_loops_and_scans() {
    insta::assert_snapshot!(summary_of(
        "network mixed { input x : vector(40)  a = lru(x; 128, 64)  h = lstm(a; 64)  g = mingru(h; 32)
         y = log_softmax(dense(g, h; 10))  output y }"
    ));
}

#[test]
fn the_summary_of_a_network_that_recurs_nowhere() {
    insta::assert_snapshot!(summary_of(
        "network net { input x : vector(40)  a = tdnn(x; 64)  y = softmax(dense(a, x[t-3]; 10))  output y }"
    ));
}

#[test]
fn the_summary_of_a_network_that_reads_both_ways() {
    insta::assert_snapshot!(summary_of(
        "network net { input x : vector(40)  f = gru(x; 64)  b = reversed gru(x; 64)  y = dense(f, b; 10)  output y }"
    ));
}

#[test]
fn the_summary_of_a_hundred_layers_is_no_longer() {
    let mut text = String::from("network deep { input x : vector(16)  h0 = x\n");
    for layer in 1..=100 {
        writeln!(text, "h{layer} = lstm(h{}; 16)", layer - 1).unwrap();
    }
    text.push_str("y = dense(h100; 4)  output y }");
    insta::assert_snapshot!(summary_of(&text));
}

#[test]
fn loops_whose_errors_are_a_scan_are_told_apart() {
    let text = flat(&summary_of(
        "network net { input x : vector(4)  h = indrnn(x; 8)  g = elman(h; 8)  y = dense(g; 2)  output y }",
    ));
    assert!(text.contains("those of `g` are a loop; those of `h` are a scan"), "{text}");
}

#[test]
fn a_loop_of_longer_delays_says_how_many_frames_run_at_once() {
    let text = flat(&summary_of(
        "network net { input x : vector(4)  h = tanh(dense(x, h[t-2], h[t-3]; 8))  output h }",
    ));
    assert!(text.contains("2 frames of it run at once. With a longer delay in place of `h[t-2]`"), "{text}");
}

#[test]
fn heads_that_read_only_themselves_are_told() {
    let of = |heads: usize| {
        flat(&summary_of(&format!(
            "network net {{ input x : vector(4)  h = slstm(x; 8, {heads})  output h }}"
        )))
    };
    assert!(of(4).contains("Its 4 heads never read each other"), "{}", of(4));
    assert!(!of(1).contains("heads"), "{}", of(1));
}

#[test]
fn parts_of_an_equation_outside_its_cycle_are_told() {
    let of = |cell: &str| {
        flat(&summary_of(&format!("network net {{ input x : vector(4)  h = {cell}  output h }}")))
    };
    let text = of("lstm_layer_norm(x; 8)");
    assert!(text.contains("the part of the loop's `dense` that reads `x`"), "{text}");
    let text = of("lru(x; 8, 4)");
    assert!(
        text.contains("`h.y` is computed for all frames at once; so is the part of the scan's `dense`"),
        "{text}"
    );
}

#[test]
fn values_of_a_cell_that_gives_several_are_told_apart() {
    let text = flat(&summary_of(
        "network net { input x : vector(4)  h, c = lstm(x; 8)  g = elman(concat(h, c); 8)  output g }",
    ));
    assert!(text.contains("reads from outside: `x`, `h.h` and `h.c`"), "{text}");
}

#[test]
fn who_does_what_the_summary_says_has_a_scan() {
    let of = |h: &str| {
        flat(&summary_of(&format!(
            "network net {{ input x : vector(8)  h = {h}  y = dense(h; 2)  output y }}"
        )))
    };
    let text = of("tanh(dense(x, h[t-1]; 8))");
    let remedy = "It would be a scan (parallel over time) without tanh on `h`, and without `dense` of `h[t-1]` (a `diag` \
                  would do) in `h`.";
    assert!(text.contains(remedy), "{text}");
    assert!(of("dense(x; 8) + diag(h[t-1])").contains("`h` is computed over time in parallel (a scan)"));
}

#[test]
fn a_long_name_loses_its_middle() {
    let name = "a".repeat(300);
    let text = summary_of(&format!(
        "network net {{ input x : vector(4)  {name} = tanh(dense(x, {name}[t-1]; 8))  output {name} }}"
    ));
    assert!(!text.contains(&name) && text.contains("aaa..aaa"), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
}

/// Whether all names of a text are those of equations, or were.
fn has_helpers(text: &str) -> bool {
    let names = text.split('`').skip(1).step_by(2);
    names.into_iter().any(|name| {
        name.starts_with("d ")
            || name.ends_with("bias")
            || name.split(['.', '[']).any(|part| part.parse::<u32>().is_ok())
    })
}

#[test]
fn every_cell_is_told_in_at_most_thirty_lines_and_in_names_of_its_text() {
    for cell in rnnc_lang::cells() {
        let graph = ["32", "32, 4"].iter().find_map(|sizes| {
            let text =
                format!("network n {{ input x : vector(32)  h = {}(x; {sizes})  output h }}", cell.name);
            rnnc_lang::compile("net.rnn", &text, None).ok()
        });
        let plan = Plan::new(&graph.unwrap(), PlanOptions::training(1, 64)).unwrap();
        let text = summary(&plan, None);
        assert!(text.lines().count() <= 30, "{}: {text}", cell.name);
        assert!(text.lines().all(|line| line.chars().count() <= 100 && line.trim_end() == line), "{text}");
        assert!(!has_helpers(&text), "{}: {text}", cell.name);
    }
}

proptest! {
    #![proptest_config(contextualize_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(64)
    }))]
    #[test]
    fn every_network_is_told_in_short(graph in nets::random::networks(24)) {
        for options in [PlanOptions::training(1, 16), PlanOptions::inference(3, 1)] {
            let plan = Plan::new(&graph, options).unwrap();
            let text = summary(&plan, None);
            prop_assert!(text.lines().count() <= 60, "{text}");
            prop_assert!(!text.contains('\u{1}') && !text.contains('\u{a0}'), "{text}");
        }
    }
}
