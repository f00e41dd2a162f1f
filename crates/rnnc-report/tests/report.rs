//! What plans say of themselves: the text as it stands, the data, the pictures.

#[path = "../../rnnc-plan/tests/nets/mod.rs"]
mod nets;

use nets::{Identity, Net, Tanh};
use proptest::prelude::*;
use proptest::test_runner::contextualize_config;
use rnnc_graph::{Activation, Connect, Graph, Init};
use rnnc_plan::{Figures, Plan, PlanOptions};
use rnnc_report as report;

fn plan(graph: &rnnc_graph::Graph) -> Plan {
    Plan::new(graph, PlanOptions::training(1, 64)).unwrap()
}

#[test]
fn the_text_of_a_peephole_lstm() {
    insta::assert_snapshot!(report::text(&plan(&nets::lstm(12, 32, true)), None));
}

#[test]
fn the_text_of_independent_towers_tells_their_tasks() {
    let text = report::text(&plan(&nets::two_towers(12, 32)), None);
    assert!(text.contains("2 tasks side by side"), "{text}");
    assert!(text.contains("task of"), "{text}");
}

#[test]
fn the_text_of_a_network_that_looks_ahead_warns_of_windows() {
    let warns = |graph| report::text(&plan(&graph), None).contains("It looks ahead");
    assert!(warns(nets::bidirectional(4, 8)));
    assert!(!warns(nets::lstm(4, 8, false)));
}

#[test]
fn the_text_tells_which_edit_would_make_a_loop_a_scan_or_wider() {
    let text = report::text(&plan(&nets::elman(4, 8, 2)), None);
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(text.contains("2 frames at once (no schedule does more)"), "{text}");
    assert!(text.contains("a longer delay in place of `h[t-2]` would let more frames run at once"), "{text}");
    assert!(text.contains("`h` reaches itself through tanh"), "{text}");
    assert!(text.contains("1 every 2 frames planned"), "{text}");
}

#[test]
fn a_cycle_without_barriers_is_told_nothing_of_them_and_one_number_is_singular() {
    let text = |activation| {
        let mut graph = Graph::new("n");
        let (x, h) = (graph.input("x", 8), graph.sum("h", 8, activation));
        let u = graph.weight("u", &[8], Init::Zeros);
        graph.connect(x, h, Connect::identity());
        graph.connect(h, h, Connect::diagonal(u).delay(1));
        graph.output("y", h);
        report::text(&plan(&graph), None).split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let of_loop = text(Activation::Tanh);
    assert!(
        of_loop.contains("`h` reaches itself through tanh") && !of_loop.contains("barriers"),
        "{of_loop}"
    );
    let of_scan = text(Activation::Identity);
    assert!(of_scan.contains("elementwise and affine, 1 number a unit"), "{of_scan}");
}

#[test]
fn no_line_of_the_text_is_longer_than_100_columns() {
    for graph in
        [nets::text_model(256, 128), nets::bidirectional(4, 8), nets::sru(4, 8), nets::heads(4, 8, 2)]
    {
        for line in report::text(&plan(&graph), None).lines() {
            assert!(line.chars().count() <= 100 && line.trim_end() == line, "{line:?}");
        }
    }
}

#[test]
fn the_data_of_a_plan_has_its_figures() {
    let plan = plan(&nets::lstm(12, 32, true));
    let value = report::json(&plan, None);
    let figures = Figures::of(&plan);
    assert_eq!(value["schema"], report::SCHEMA_VERSION);
    assert_eq!(value["network"]["parameters"], 4 * 32 * (12 + 32 + 1) + 3 * 32);
    assert_eq!(value["work"]["flops"], figures.flops);
    assert_eq!(value["passes"][0]["pass"], "forward");
    assert_eq!(value["passes"][1]["stages"].as_array().unwrap().len(), 3);
    let of_kind = |kind: &str| {
        let components = value["passes"][0]["components"].as_array().unwrap();
        components.iter().filter(|c| c["kind"] == kind).collect::<Vec<_>>()
    };
    let [cycle] = of_kind("loop")[..] else { panic!("{value}") };
    assert_eq!(cycle["frames_at_once"], 1);
    assert_eq!(cycle["barriers"], serde_json::json!({ "links": 1, "delay": 1 }));
    assert!(of_kind("frames").iter().all(|c| c["frames_at_once"].is_null()));
    let op = &value["passes"][0]["stages"][0]["tasks"][0]["phases"][0]["ops"][0];
    assert_eq!(op["op"], "matmul");
    assert_eq!(op["parts"][0], "product lstm.i, lstm.f, lstm.z, lstm.o <- x: 128x12");
    let memory = &value["memory"];
    let sum: u64 = ["weights", "gradients", "optimizer_state", "values"]
        .iter()
        .map(|k| memory[k].as_u64().unwrap())
        .sum();
    assert_eq!(memory["total"], sum);
    assert_eq!(value["saved"]["components"][0]["numbers_per_unit"], 6.0);
}

#[test]
fn the_picture_of_a_peephole_lstm_boxes_its_loop_and_labels_its_delays() {
    for picture in [
        report::svg(&plan(&nets::lstm(12, 32, true))).unwrap(),
        report::dot(&plan(&nets::lstm(12, 32, true))),
    ] {
        assert!(picture.contains("lstm: loop, frame after frame"), "{picture}");
        assert!(picture.contains("t-1"), "{picture}");
        assert!(picture.contains("sigmoid 32"), "{picture}");
        assert!(!picture.contains("bias"), "biases are not drawn");
    }
}

#[test]
fn the_picture_marks_each_read_of_another_frame_once() {
    let svg = report::svg(&plan(&nets::text_model(20, 32))).unwrap();
    assert_eq!(svg.matches(">h[t-1]</text>").count(), 2);
    assert_eq!(svg.matches(">c[t-1]</text>").count(), 2);
    let scan = report::svg(&plan(&nets::sru(4, 8))).unwrap();
    assert!(scan.contains(": scan"), "{scan}");
}

#[test]
fn names_are_escaped_in_pictures() {
    let mut net = Net::new("<network> & \"co\"");
    let x = net.graph.input("x<1>", 4);
    let y = net.dense("y\"&\\", 4, Tanh, &[(x, 0), (x, 2)]);
    let graph = net.out(y);
    let svg = report::svg(&plan(&graph)).unwrap();
    assert!(svg.contains("x&lt;1&gt;") && svg.contains("&lt;network&gt; &amp; &quot;co&quot;"), "{svg}");
    assert!(!svg.contains("x<1>"));
    let dot = report::dot(&plan(&graph));
    assert!(dot.contains(r#"y\"&\\"#), "{dot}");
}

#[test]
fn every_box_and_layer_lies_within_the_picture_and_layers_do_not_overlap() {
    for graph in [
        nets::text_model(20, 32),
        nets::gru(4, 8),
        nets::sru(4, 8),
        nets::bidirectional(4, 8),
        nets::two_towers(4, 8),
    ] {
        let svg = report::svg(&plan(&graph)).unwrap();
        let number = |text: &str, name: &str| -> f64 {
            let from = text.find(&format!(" {name}=\"")).unwrap() + name.len() + 3;
            text[from..from + text[from..].find('"').unwrap()].parse().unwrap()
        };
        let rect = |text: &str| {
            let (x, y) = (number(text, "x"), number(text, "y"));
            (x, y, x + number(text, "width"), y + number(text, "height"))
        };
        let (width, height) = (number(&svg, "width"), number(&svg, "height"));
        let layers: Vec<_> = svg
            .lines()
            .zip(svg.lines().skip(1))
            .filter(|(open, _)| open.starts_with("<g id=\"layer"))
            .map(|(_, line)| rect(line))
            .collect();
        assert!(layers.len() >= 5);
        for (i, a) in layers.iter().enumerate() {
            assert!(a.0 >= 0.0 && a.1 >= 0.0 && a.2 <= width && a.3 <= height, "{a:?}");
            for b in &layers[i + 1..] {
                assert!(a.2 <= b.0 || b.2 <= a.0 || a.3 <= b.1 || b.3 <= a.1, "{a:?} {b:?}");
            }
        }
    }
}

/// A chain of layers, each of which reads the input if `all` do.
fn chain(layers: usize, all: bool) -> rnnc_graph::Graph {
    let mut net = Net::new("chain");
    let x = net.graph.input("x", 2);
    let mut last = x;
    for i in 0..layers {
        let next = net.graph.sum(format!("l{i}"), 2, Tanh);
        net.graph.connect(last, next, Connect::identity());
        if all && last != x {
            net.graph.connect(x, next, Connect::identity());
        }
        last = next;
    }
    net.out(last)
}

#[test]
fn networks_too_large_to_draw_are_refused_with_the_limit() {
    let inference = |graph: &rnnc_graph::Graph| Plan::new(graph, PlanOptions::inference(1, 4)).unwrap();
    let error = report::svg(&inference(&chain(400, false))).unwrap_err();
    assert!(error.to_string().contains("401 layers") && error.to_string().contains("at most 400"), "{error}");
    let error = report::svg(&inference(&chain(300, true))).unwrap_err();
    assert!(error.to_string().contains("at most 4000"), "{error}");
    // As data and for Graphviz there is no limit, and no depth that overflows.
    let large = inference(&chain(20_000, false));
    assert!(report::dot(&large).contains("n20000"));
    assert!(report::text(&large, None).contains("20,001 layers"));
    // The longest that is drawn.
    assert!(report::svg(&inference(&chain(399, false))).is_ok());
}

#[test]
fn an_empty_picture_is_a_picture() {
    let mut net = Net::new("");
    let x = net.graph.input("x", 2);
    let y = net.graph.sum("y", 2, Identity);
    net.graph.connect(x, y, Connect::identity());
    let graph = net.out(y);
    let svg = report::svg(&plan(&graph)).unwrap();
    assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n"));
    assert!(report::text(&plan(&graph), None).starts_with("network: 2 layers"));
}

proptest! {
    #![proptest_config(contextualize_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(64)
    }))]
    #[test]
    fn every_network_can_be_printed_and_drawn_always_the_same(graph in nets::random::networks(24)) {
        let plan = plan(&graph);
        prop_assert!(report::text(&plan, None).contains("Forward pass"));
        prop_assert_eq!(report::json(&plan, None), report::json(&plan, None));
        prop_assert_eq!(report::svg(&plan), report::svg(&plan));
        prop_assert!(report::dot(&plan).starts_with("digraph"));
    }
}

/// The plan of a text, of one stream and a window of 64 frames.
fn plan_of(text: &str) -> Plan {
    plan(&rnnc_lang::compile("net.rnn", text, None).unwrap())
}

#[test]
fn every_cell_can_be_printed_and_drawn() {
    for cell in rnnc_lang::cells() {
        let call = |sizes: &str| {
            let text =
                format!("network n {{ input x : vector(32)  h = {}(x; {sizes})  output h }}", cell.name);
            rnnc_lang::compile("net.rnn", &text, None)
        };
        let plan = plan(&call("32").or_else(|_| call("32, 4")).unwrap());
        for line in report::text(&plan, None).lines() {
            assert!(line.chars().count() <= 100, "{}: {line}", cell.name);
        }
        assert!(report::svg(&plan).is_ok(), "{}", cell.name);
        assert!(report::json(&plan, None)["passes"][1]["stages"].is_array(), "{}", cell.name);
    }
}

#[test]
fn what_runs_once_a_call_is_told() {
    let text = report::text(
        &plan_of(
            "network net { input x : vector(32)  a = param(32)  lambda = exp(-exp(a))  s = lambda * s[t-1] + x  output s }",
        ),
        None,
    );
    assert!(text.contains("computed once a call, of parameters alone"), "{text}");
}
