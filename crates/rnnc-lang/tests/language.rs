//! What texts mean: the graphs they become, layer by layer and weight by weight.

mod support;

use rnnc_graph::{Components, ConnectionKind, Graph, Init, Kind, LayerKind, Start};
use support::dump;

fn compile(text: &str) -> Graph {
    rnnc_lang::compile("net.rnn", text, None).unwrap_or_else(|errors| panic!("{errors}"))
}

/// A network of one vector input `x` of 4 units.
fn network(equations: &str) -> Graph {
    compile(&format!("network n {{ input x : vector(4)  {equations} }}"))
}

fn weight_names(graph: &Graph) -> Vec<&str> {
    graph.weights().iter().map(|weight| weight.name.as_str()).collect()
}

/// The delays at which `reader` reads `source`, by their names.
fn delays(graph: &Graph, reader: &str, source: &str) -> Vec<i64> {
    let (reader, source) = (graph.find_layer(reader).unwrap(), graph.find_layer(source).unwrap());
    graph.incoming(reader).filter(|c| c.source == Some(source)).map(|c| c.delay).collect()
}

#[test]
fn a_peephole_lstm_on_symbols_becomes_these_layers() {
    insta::assert_snapshot!(dump(&compile(
        "cell lstm_peephole(x; n, forget_bias = 1) {
            i = sigmoid(dense(x, h[t-1]; n) + diag(c[t-1]))
            f = sigmoid(dense(x, h[t-1]; n, bias = forget_bias) + diag(c[t-1]))
            z = tanh(dense(x, h[t-1]; n))
            c = f * c[t-1] + i * z
            o = sigmoid(dense(x, h[t-1]; n) + diag(c))
            h = o * tanh(c)
            return h
        }
        network text_model {
            input x : symbol(256)
            h1 = lstm_peephole(x; 8)
            h2 = lstm_peephole(h1; 8)
            y = dense(h2; 256)
            output y
        }"
    )));
}

#[test]
fn every_operation_becomes_these_layers() {
    insta::assert_snapshot!(dump(&compile(
        "network operations {
            input x : vector(4)
            input s : vector(1)
            signs = 2 * x - (x[t-1] - 0.5) * 3 + s
            folded = x * (2 + 3 * 4) / 7 + sqrt(4)
            factors = -x * (x[t-1] * s) * 2
            quotients = x / s / x[t-1] * 2 * s
            larger = max(x, 0, s)
            smaller = tanh(min(x, s))
            curves = gelu(x) * leaky_relu(x) + elu(softplus(x))
            soft = softmax(x; groups = 2)
            logs = log_softmax(dense(x; 4))
            total = sum(x)
            averages = mean(x * x; groups = 2)
            normal = layer_norm(x)
            plain_normal = layer_norm(x; affine = none, groups = 2)
            scaled = tanh(rms_norm(x) + x)
            both = concat(x, 2 * s, tanh(x), slice(x[t-2]; 1, 3), 0.25)
            part = dense(slice(x; 1, 3); 3)
            product = dense(x; 4) * x
            doubled = 2 * dense(x; 4)
            heads = dense(x, s * x; 6, heads = 2, bias = none)
            wide = broadcast(s; 4) * broadcast(averages; 4)
            stopped = dense(stop_gradient(x); 2) + stop_gradient(averages)
            dropped = dropout(tanh(x); 0.25)
            kept = dropout(x; 0)
            parameters = param(4; init = normal(0.5)) + x
            alone = param(3)
            number = 0.5
            alias = x
            ahead = x[t+2]
            output ahead, total
        }"
    )));
}

#[test]
fn comparisons_and_choices_become_these_layers() {
    insta::assert_snapshot!(dump(&compile(
        "cell held(x; keep = 1) {
            h = where(keep > 0, x, h[t-1])
            return h
        }
        network choices {
            input x : vector(4)
            input s : vector(1)
            less = x < s
            least = x + 1 >= 2 * x
            other = (x != 0) * (x == s) - (2 < 1)
            chosen = where(x > 0, x, -s)
            kept = x + where(x[t-1], 1, kept[t-1]) - where(less, x, s)
            held = held(x)
            within = clamp(x; -1, 2)
            above = 2 * clamp(x - s; lo = 0)
            below = tanh(clamp(x; hi = where(1 <= 1, 3, 4)))
            rest = mod(x, s)
            spikes = step(2 * x)
            sharp = step(x; surrogate = sigmoid(25))
            wide = step(x; triangle(1))
            hard = step(x; surrogate = none)
            norm = layer_norm(x; affine = none, epsilon = 0.5)
            y = concat(spikes, sharp, wide, hard, norm, less, least, other, chosen, kept, held, within, above, below, rest)
            output y
        }"
    )));
}

#[test]
fn a_choice_between_its_own_value_and_another_is_a_scan() {
    let kind = |equations: &str| {
        let graph = network(equations);
        let list = Components::find(&graph).unwrap().list;
        list.into_iter().find(|c| c.kind != Kind::Frames).map(|c| (c.kind == Kind::Loop, c.reason))
    };
    let scan = "h = where(x > 0.5, x, 0.9 * h[t-1])  output h";
    assert!(!kind(scan).unwrap().0);
    let (is_loop, why) = kind("h = where(h[t-1] > 0.5, x, 0.9 * h[t-1])  output h").unwrap();
    assert!(is_loop && why.contains("`h` reaches itself through"), "{why}");
}

#[test]
fn weights_are_named_by_the_equation_they_stand_in() {
    let graph = compile(
        "cell zoo(x; n, k = 2) {
            i = dense(x, h[t-1]; n)
            j = dense(x, i * x, x, h[t - 2*k + 1], i[t]; n)
            d = diag(h[t-1]) + diag(i * x) + diag(x[t+1])
            e = dense(x; n) * dense(x, i; n, bias = none) + dense(dense(x; 3); n)
            p = param(n) + param(n)
            l = layer_norm(x) + layer_norm(i) + rms_norm(x)
            h = i + j + d + e + p + l
            start h = learned
            return h
        }
        network n {
            input x : vector(4)
            h1 = zoo(x; 4)
            y = dense(h1, h1.i[t-1]; 2)
            output y
        }",
    );
    insta::assert_snapshot!(weight_names(&graph).join("\n"), @r"
    h1.i.W.x
    h1.i.W.h[t-1]
    h1.i.bias
    h1.j.W.x
    h1.j.W.2
    h1.j.W.3
    h1.j.W.h[t-3]
    h1.j.W.i
    h1.j.bias
    h1.d.diag.h[t-1]
    h1.d.diag2.1
    h1.d.diag3.x[t+1]
    h1.e.W.x
    h1.e.bias
    h1.e.W2.x
    h1.e.W2.i
    h1.e.W3.1
    h1.e.W4.x
    h1.e.bias4
    h1.e.bias3
    h1.p.param
    h1.p.param2
    h1.l.layer_norm.gain
    h1.l.layer_norm.bias
    h1.l.layer_norm2.gain
    h1.l.layer_norm2.bias
    h1.l.rms_norm.gain
    h1.h.start
    y.W.h1
    y.W.h1.i[t-1]
    y.bias
    ");
}

#[test]
fn cells_called_in_expressions_are_named_after_the_equation_and_counted() {
    let graph = network(
        "y = concat(elman(x; 2), reversed elman(x; 2)) + gru(dense(x; 3); 4)
         h = elman(elman(elman(x; 2); 3); 4)
         output y, h",
    );
    let names = weight_names(&graph);
    for name in [
        "y.elman.h.W.x",
        "y.elman2.h.W.h[t-1]",
        "y.gru.r.W.x",
        "y.W.x",
        "y.bias",
        "h.h.W.x",
        "h.elman.h.W.x",
        "h.elman2.h.W.x",
    ] {
        assert!(names.contains(&name), "{name} is not among {names:?}");
    }
}

#[test]
fn default_initial_values_follow_the_fan_in() {
    let graph = compile(
        "network n {
            input x : vector(12)
            input s : symbol(99)
            y = dense(x, s, x[t-1]; 9) + diag(broadcast(sum(x); 9))
            z = dense(x; 9, bias = 3, init = orthogonal)
            w = dense(x; 9, bias = normal(2), init = constant(0.5))
            output y, z, w
        }",
    );
    let init = |name: &str| graph.weight_at(graph.find_weight(name).unwrap()).init;
    assert_eq!(init("y.W.x"), Init::Uniform(0.2)); // 12 + 1 + 12 inputs
    assert_eq!(init("y.W.s"), Init::Uniform(0.2));
    assert_eq!(init("y.bias"), Init::Zeros);
    assert_eq!(init("y.diag.1"), Init::Uniform(1.0 / 3.0));
    assert_eq!(init("z.W.x"), Init::Orthogonal);
    assert_eq!(init("z.bias"), Init::Constant(3.0));
    assert_eq!(init("w.bias"), Init::Normal(2.0));
    assert_eq!(init("w.W.x"), Init::Constant(0.5));
}

#[test]
fn white_space_and_line_breaks_mean_nothing() {
    let lines = "rnn 1\ncell f ( x ; n )\n{\n  h = tanh ( dense ( x , h [ t - 1 ] ; n ) ) # a comment\n  start h = 1\n  return h\n}\nnetwork n\n{\n  input x : vector ( 4 )\n  a\n  =\n  f ( x ; 3 )\n  output a\n}\n";
    let line = "cell f(x;n){h=tanh(dense(x,h[t-1];n))start h=1 return h}network n{input x:vector(4)a=f(x;3)output a}";
    let marked = format!("\u{feff}{}", lines.replace('\n', "\r\n"));
    let expected = dump(&compile(lines));
    assert_eq!(dump(&compile(line)), expected);
    assert_eq!(dump(&compile(&marked)), expected);
}

#[test]
fn delays_of_arguments_add_and_the_last_layer_gives_the_start() {
    let graph = network(
        "a = tanh(x)
         start a = 0.5
         y = tdnn(a[t-1]; 2)
         z = tdnn(a[t+1] + 0; 2)
         output y, z",
    );
    assert_eq!(delays(&graph, "y.h", "a"), [1, 2, 3]);
    // An expression is a layer of its own, with start 0.
    assert_eq!(delays(&graph, "z.h", "z.1"), [0, 1, 2]);
    assert_eq!(graph.layer_at(graph.find_layer("a").unwrap()).start, Start::Constant(0.5));
    assert_eq!(graph.layer_at(graph.find_layer("z.1").unwrap()).start, Start::Zero);
}

#[test]
fn aliases_go_through_any_number_of_cells() {
    let graph = compile(
        "cell pass(x) { return x[t-1] }
        cell twice(x) { a = pass(x)  b = pass(a)  return b }
        network n {
            input x : vector(2)
            a = twice(x[t-1])
            b = tanh(a[t-1])
            output b, a
        }",
    );
    assert_eq!(delays(&graph, "b", "x"), [4]);
    // An output of another frame gets a layer of its own.
    assert_eq!(delays(&graph, "a", "x"), [3]);
}

#[test]
fn reversed_negates_delays_in_the_cell_and_in_those_it_calls_but_not_in_its_arguments() {
    let graph = compile(
        "cell inner(x; n) { h = tanh(dense(x, h[t-1]; n))  return h }
        cell outer(x; n) { a = inner(x[t-2]; n)  b = reversed inner(a; n)  return b }
        network n {
            input x : vector(3)
            y = outer(x[t-1]; 3)
            z = reversed outer(x[t-1]; 3)
            output y, z
        }",
    );
    assert_eq!(delays(&graph, "y.a.h", "y.a.h"), [1]);
    assert_eq!(delays(&graph, "y.b.h", "y.b.h"), [-1]);
    assert_eq!(delays(&graph, "y.a.h", "x"), [3]);
    assert_eq!(delays(&graph, "z.a.h", "z.a.h"), [-1]);
    assert_eq!(delays(&graph, "z.b.h", "z.b.h"), [1]);
    assert_eq!(delays(&graph, "z.a.h", "x"), [-1]); // 1 ago, and from there 2 ahead
    assert!(graph.find_weight("z.a.h.W.h[t-1]").is_some()); // as the equation writes it
}

#[test]
fn a_cell_with_several_values_gives_its_first_in_an_expression() {
    let graph = compile(
        "cell two(x; n) { a = dense(x; n)  b = tanh(a)  return a, b }
        network n {
            input x : vector(3)
            p, q = two(x; 2)
            y = two(x; 2) + q + p.b + p[t-1]
            output y
        }",
    );
    assert_eq!(delays(&graph, "y", "y.two.a"), [0]);
    assert_eq!(delays(&graph, "y", "p.b"), [0, 0]);
    assert_eq!(delays(&graph, "y", "p.a"), [1]);
}

#[test]
fn layers_inside_cells_inside_cells_can_be_read() {
    let graph = compile(
        "cell two(x; n) { a = lstm(x; n)  b = tanh(gru(a; n))  return b }
        network n {
            input x : vector(3)
            p = two(x; 2)
            y = p.a.c[t-2] + p.a + p.b.gru.z + p.b.gru
            output p.a.c, y
        }",
    );
    assert_eq!(delays(&graph, "y", "p.a.c"), [2]);
    assert_eq!(delays(&graph, "y", "p.a.h"), [0]);
    assert_eq!(delays(&graph, "y", "p.b.gru.z"), [0]);
    assert_eq!(delays(&graph, "y", "p.b.gru.h"), [0]);
    assert_eq!(graph.outputs()[0].name, "p.a.c");
}

#[test]
fn options_are_values_sizes_delays_and_defaults_of_later_ones() {
    let graph = compile(
        "cell f(x; n, k = 2 * n, leak = 1 / k, init = glorot, bias = none) {
            h = leak * h[t-k] + dense(x; n, bias = bias, init = init) - k
            return h
        }
        network n {
            input x : vector(3)
            a = f(x; 2)
            b = f(x; 2, leak = 0.5, k = 3, bias = 7)
            output a, b
        }",
    );
    assert_eq!(delays(&graph, "a.h", "a.h"), [4]);
    assert_eq!(delays(&graph, "b.h", "b.h"), [3]);
    let scale = |name: &str| {
        let layer = graph.find_layer(name).unwrap();
        graph.incoming(layer).find(|c| c.source == Some(layer)).map(|c| c.kind)
    };
    assert_eq!(scale("a.h"), Some(ConnectionKind::Identity { scale: 0.25 }));
    assert_eq!(scale("b.h"), Some(ConnectionKind::Identity { scale: 0.5 }));
    assert_eq!(weight_names(&graph), ["a.h.W.x", "b.h.W.x", "b.h.bias"]);
}

#[test]
fn a_users_cell_hides_the_librarys_but_not_from_the_library() {
    let own = network("y = elman(x; 2) output y");
    assert!(own.find_layer("y.h").is_some());
    let text = "cell elman(x; n) { mine = dense(x; n)  return mine }
        network n { input x : vector(4)  y = elman(x; 2)  output y }";
    let hidden = compile(text);
    assert!(hidden.find_layer("y.mine").is_some());
    assert!(hidden.find_layer("y.h").is_none());
}

#[test]
fn sizes_flow_through_recurrence() {
    let graph = network(
        "c = 0.5 * c[t-1] + d[t-1]
         d = e * x
         e = tanh(c)
         one = 0.5 * one[t-1] + sum(x)
         output c, one",
    );
    for (name, size) in [("c", 4), ("d", 4), ("e", 4), ("one", 1)] {
        assert_eq!(graph.layer_at(graph.find_layer(name).unwrap()).size, size, "{name}");
    }
}

#[test]
fn starts_are_numbers_or_learned() {
    let graph = compile(
        "cell f(x; n, s = learned) { h = tanh(dense(x, h[t-1]; n))  start h = s  return h }
        network n {
            input x : vector(3)
            a = f(x; 2)
            b = f(x; 2, s = -1/2)
            c = f(x; 2, s = 0)
            output a, b, c
        }",
    );
    let start = |name: &str| graph.layer_at(graph.find_layer(name).unwrap()).start;
    assert_eq!(start("a.h"), Start::Learned(graph.find_weight("a.h.start").unwrap()));
    assert_eq!(start("b.h"), Start::Constant(-0.5));
    assert_eq!(start("c.h"), Start::Zero);
}

#[test]
fn layers_remember_where_they_were_written() {
    let text = "network n { input x : vector(3)  y = tanh(x) * x  output y }";
    let graph = compile(text);
    let written = |name: &str| {
        let origin = graph.layer_at(graph.find_layer(name).unwrap()).origin.unwrap();
        &text[origin.start as usize..origin.end as usize]
    };
    assert_eq!(written("y"), "y = tanh(x) * x");
    assert_eq!(written("y.1"), "tanh(x)");
}

#[test]
fn networks_of_a_text_are_listed_and_chosen_by_name() {
    let text = "network a { input x : vector(1)  output x } network b { input z : vector(2)  output z }";
    assert_eq!(rnnc_lang::networks("net.rnn", text).unwrap(), ["a", "b"]);
    let graph = rnnc_lang::compile("net.rnn", text, Some("b")).unwrap();
    assert_eq!((graph.name(), graph.outputs()[0].name.as_str()), ("b", "z"));
}

#[test]
fn every_cell_of_the_library_has_a_head_and_compiles() {
    for cell in rnnc_lang::cells() {
        assert!(
            cell.summary.len() > 20 && cell.summary.ends_with('.') | cell.summary.contains(':'),
            "{}",
            cell.name
        );
        assert!(cell.citation.contains("(19") | cell.citation.contains("(20"), "{} has no year", cell.name);
        let head = cell.text.lines().find(|line| line.starts_with("cell ")).unwrap();
        assert!(head.starts_with(&format!("cell {}(x; n", cell.name)), "{head}");
        let m = if head.contains("; n, m") { ", m = 8" } else { "" };
        let graph = network(&format!("w = dense(x; 8)  y = {}(w; 8{m})  output y", cell.name));
        assert!(
            graph.layers().iter().all(|layer| layer.size == 8
                || layer.kind == LayerKind::Input
                || !layer.name.ends_with(".h"))
        );
    }
}

#[test]
fn cells_made_to_run_in_parallel_have_no_loop() {
    for (cell, options) in [
        ("sru", "4"),
        ("qrnn", "4"),
        ("mingru", "4"),
        ("minlstm", "4"),
        ("lru", "4, 4"),
        ("rg_lru", "4, heads = 2"),
        ("leaky_integrator", "4"),
        ("tdnn", "4"),
    ] {
        let graph = network(&format!("y = {cell}(x; {options})  output y"));
        for component in Components::find(&graph).unwrap().list {
            assert_ne!(component.kind, Kind::Loop, "{cell}: {}", component.reason);
        }
    }
}
