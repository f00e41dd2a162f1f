//! Networks with cycles: the usual cells, and linear recurrences.

use crate::net::{Net, part};
use rnnc_graph::Activation::{Exp, Identity, Relu, Sigmoid, Tanh};
use rnnc_graph::{Graph, Operation, Start};

pub fn elman(m: usize, n: usize) -> Graph {
    let mut net = Net::new("elman");
    let x = net.graph.input("x", m);
    let h = net.dense("h", n, Tanh, &[(x, 0)]);
    net.full(h, h, 1);
    net.out(h)
}

/// Gers, Schraudolph & Schmidhuber (2002).
pub fn lstm_peephole(m: usize, n: usize) -> Graph {
    let mut net = Net::new("lstm_peephole");
    let x = net.graph.input("x", m);
    let c = net.sum("c", n, Identity);
    let h = net.sum("h", n, Identity);
    let i = net.dense("i", n, Sigmoid, &[(x, 0), (h, 1)]);
    net.diagonal(c, i, 1);
    let f = net.dense("f", n, Sigmoid, &[(x, 0), (h, 1)]);
    net.diagonal(c, f, 1);
    let z = net.dense("z", n, Tanh, &[(x, 0), (h, 1)]);
    let kept = net.product("kept", &[(f, 0), (c, 1)]);
    let added = net.product("added", &[(i, 0), (z, 0)]);
    net.add(kept, c, 1.0, 0);
    net.add(added, c, 1.0, 0);
    let o = net.dense("o", n, Sigmoid, &[(x, 0), (h, 1)]);
    net.diagonal(c, o, 0);
    let squashed = net.map("squashed", Tanh, c);
    let gated = net.product("gated", &[(o, 0), (squashed, 0)]);
    net.add(gated, h, 1.0, 0);
    net.output(c);
    net.out(h)
}

/// Two layers of LSTM without peepholes; the second reads the first undelayed and both are handed out.
pub fn two_lstm_layers(m: usize, n: usize) -> Graph {
    let mut net = Net::new("two_lstm_layers");
    let mut below = net.graph.input("x", m);
    for layer in ["h1", "h2"] {
        let name = |gate: &str| format!("{layer}.{gate}");
        let c = net.sum(&name("c"), n, Identity);
        let h = net.graph.product(name("h"), n, Identity);
        let [i, f, o] = ["i", "f", "o"].map(|gate| net.dense(&name(gate), n, Sigmoid, &[(below, 0), (h, 1)]));
        let z = net.dense(&name("z"), n, Tanh, &[(below, 0), (h, 1)]);
        let kept = net.product(&name("kept"), &[(f, 0), (c, 1)]);
        let added = net.product(&name("added"), &[(i, 0), (z, 0)]);
        net.add(kept, c, 1.0, 0);
        net.add(added, c, 1.0, 0);
        let squashed = net.map(&name("squashed"), Tanh, c);
        net.add(o, h, 1.0, 0);
        net.add(squashed, h, 1.0, 0);
        net.output(h);
        below = h;
    }
    let y = net.dense("y", m, Identity, &[(below, 0)]);
    net.out(y)
}

/// Cho et al. (2014): the reset gate acts before the product, so each frame has two products in a row.
pub fn gru(m: usize, n: usize) -> Graph {
    let mut net = Net::new("gru");
    let x = net.graph.input("x", m);
    let h = net.sum("h", n, Identity);
    let r = net.dense("r", n, Sigmoid, &[(x, 0), (h, 1)]);
    let z = net.dense("z", n, Sigmoid, &[(x, 0), (h, 1)]);
    let rh = net.product("rh", &[(r, 0), (h, 1)]);
    let candidate = net.dense("candidate", n, Tanh, &[(x, 0), (rh, 0)]);
    // h = z h[t-1] + (1 - z) candidate
    let kept = net.product("kept", &[(z, 0), (h, 1)]);
    let rest = net.sum("rest", n, Identity);
    net.graph.connect_constant(1.0, rest);
    net.add(z, rest, -1.0, 0);
    let added = net.product("added", &[(rest, 0), (candidate, 0)]);
    net.add(kept, h, 1.0, 0);
    net.add(added, h, 1.0, 0);
    net.out(h)
}

/// c = f c[t-1] + (1 - f) z, all of whose gates come from outside the cycle; two such, one over the other.
pub fn gated_scan(m: usize, n: usize) -> Graph {
    let mut net = Net::new("gated_scan");
    let mut below = net.graph.input("x", m);
    for layer in ["a", "b"] {
        let name = |part: &str| format!("{layer}.{part}");
        let f = net.dense(&name("f"), n, Sigmoid, &[(below, 0)]);
        let z = net.dense(&name("z"), n, Tanh, &[(below, 0), (below, 1)]);
        let rest = net.sum(&name("rest"), n, Identity);
        net.graph.connect_constant(1.0, rest);
        net.add(f, rest, -1.0, 0);
        let c = net.sum(&name("c"), n, Identity);
        let kept = net.product(&name("kept"), &[(f, 0), (c, 1)]);
        let added = net.product(&name("added"), &[(rest, 0), (z, 0)]);
        net.add(kept, c, 1.0, 0);
        net.add(added, c, 1.0, 0);
        net.learned_start(c);
        below = net.map(&name("h"), Tanh, c);
    }
    net.out(below)
}

/// A state of two numbers a unit: position and velocity.
pub fn oscillator(m: usize, n: usize) -> Graph {
    let mut net = Net::new("oscillator");
    let x = net.graph.input("x", m);
    let force = net.dense("force", n, Identity, &[(x, 0)]);
    let position = net.sum("position", n, Identity);
    let velocity = net.sum("velocity", n, Identity);
    net.add(position, position, 0.9, 1);
    net.add(velocity, position, 0.3, 1);
    net.add(velocity, velocity, 0.8, 1);
    net.add(position, velocity, -0.3, 0);
    net.add(force, velocity, 0.5, 0);
    net.graph.set_start(velocity, Start::Constant(0.4));
    net.output(velocity);
    net.out(position)
}

/// A linear recurrence over two and three frames.
pub fn long_memory(m: usize, n: usize) -> Graph {
    let mut net = Net::new("long_memory");
    let x = net.graph.input("x", m);
    let z = net.dense("z", n, Tanh, &[(x, 0)]);
    let c = net.sum("c", n, Identity);
    net.add(c, c, 0.5, 2);
    net.diagonal(c, c, 3);
    net.add(z, c, 1.0, 1);
    net.graph.set_start(c, Start::Constant(-0.5));
    let y = net.dense("y", n, Identity, &[(c, 0), (c, 2)]);
    net.out(y)
}

/// A diagonal recurrence without a function, and one whose coefficient is a weight's sigmoid.
pub fn scan_through_a_diagonal(m: usize, n: usize) -> Graph {
    let mut net = Net::new("scan_through_a_diagonal");
    let x = net.graph.input("x", m);
    let a = net.dense("a", n, Identity, &[(x, 0)]);
    net.diagonal(a, a, 1);
    let parameter = net.parameter("p", n);
    let decay = net.map("decay", Sigmoid, parameter);
    let b = net.sum("b", n, Identity);
    let kept = net.product("kept", &[(decay, 0), (b, 1)]);
    net.add(kept, b, 1.0, 0);
    net.add(a, b, 1.0, 0);
    net.out(b)
}

/// Li et al. (2018): each unit reads itself alone, through a function.
pub fn indrnn(m: usize, n: usize) -> Graph {
    let mut net = Net::new("indrnn");
    let x = net.graph.input("x", m);
    let a = net.dense("a", n, Relu, &[(x, 0)]);
    net.diagonal(a, a, 1);
    let b = net.dense("b", n, Tanh, &[(a, 0)]);
    net.diagonal(b, b, 1);
    net.out(b)
}

/// A running maximum of a decaying state.
pub fn max_gate(m: usize, n: usize) -> Graph {
    let mut net = Net::new("max_gate");
    let x = net.graph.input("x", m);
    let z = net.dense("z", n, Tanh, &[(x, 0)]);
    let peak = net.graph.operation("peak", n, Operation::Max);
    let faded = net.sum("faded", n, Identity);
    net.add(peak, faded, 0.7, 1);
    net.add(z, peak, 1.0, 0);
    net.add(faded, peak, 1.0, 0);
    net.out(peak)
}

/// Beck et al. (2024), sLSTM: exponential gates, with a maximum that keeps them in bounds.
pub fn exponential_gates(m: usize, n: usize) -> Graph {
    let mut net = Net::new("exponential_gates");
    let x = net.graph.input("x", m);
    let h = net.graph.operation("h", n, Operation::Divide);
    let [i, f] = ["i", "f"].map(|gate| {
        let layer = net.dense(gate, n, Identity, &[(x, 0)]);
        net.heads(h, layer, 1, part(n));
        layer
    });
    let z = net.dense("z", n, Tanh, &[(x, 0)]);
    net.heads(h, z, 1, part(n));
    let stabilizer = net.graph.operation("stabilizer", n, Operation::Max);
    let before = net.sum("before", n, Identity);
    net.add(f, before, 1.0, 0);
    net.add(stabilizer, before, 1.0, 1);
    net.add(before, stabilizer, 1.0, 0);
    net.add(i, stabilizer, 1.0, 0);
    let [enter, keep] = [("enter", i), ("keep", before)].map(|(name, gate)| {
        let layer = net.sum(name, n, Exp);
        net.add(gate, layer, 1.0, 0);
        net.add(stabilizer, layer, -1.0, 0);
        layer
    });
    let c = net.sum("c", n, Identity);
    let c_kept = net.product("c_kept", &[(keep, 0), (c, 1)]);
    let c_added = net.product("c_added", &[(enter, 0), (z, 0)]);
    net.add(c_kept, c, 1.0, 0);
    net.add(c_added, c, 1.0, 0);
    let weight = net.sum("weight", n, Identity);
    let weight_kept = net.product("weight_kept", &[(keep, 0), (weight, 1)]);
    net.add(weight_kept, weight, 1.0, 0);
    net.add(enter, weight, 1.0, 0);
    net.add(c, h, 1.0, 0);
    net.add(weight, h, 1.0, 0);
    net.out(h)
}

/// A normalized recurrence, with gain and bias (Ba, Kiros & Hinton 2016).
pub fn layer_norm_in_a_loop(m: usize, n: usize) -> Graph {
    let mut net = Net::new("layer_norm_in_a_loop");
    let x = net.graph.input("x", m);
    let n = 2 * n;
    let a = net.dense("a", n, Identity, &[(x, 0)]);
    let h = net.sum("h", n, Tanh);
    net.full(h, a, 1);
    let layer = Operation::Normalize { groups: 1, center: true, epsilon: 1e-2 };
    let normal = net.operation("normal", n, layer, &[(a, 0)]);
    net.diagonal(normal, h, 0);
    net.bias(h);
    net.out(h)
}

pub fn softmax_in_a_loop(m: usize, n: usize) -> Graph {
    let mut net = Net::new("softmax_in_a_loop");
    let x = net.graph.input("x", m);
    let scores = net.dense("scores", n, Identity, &[(x, 0)]);
    let soft = net.operation("soft", n, Operation::Softmax { groups: part(n) }, &[(scores, 0)]);
    let state = net.sum("state", n, Identity);
    let weighted = net.product("weighted", &[(soft, 0), (state, 1)]);
    net.add(weighted, state, 1.0, 0);
    net.full(x, state, 0);
    net.diagonal(state, scores, 1);
    net.out(state)
}

/// Each unit reads itself as a function of its whole group left it, one and two frames ago.
pub fn softmax_read_back(m: usize, n: usize) -> Graph {
    let mut net = Net::new("softmax_read_back");
    let x = net.graph.input("x", m);
    let scores = net.dense("scores", 2 * n, Identity, &[(x, 0)]);
    let soft = net.operation("soft", 2 * n, Operation::Softmax { groups: part(n) }, &[(scores, 0)]);
    net.add(soft, scores, 0.8, 1);
    net.diagonal(soft, scores, 2);
    net.learned_start(soft);
    net.out(soft)
}

/// Symbols in, a loss out: a look-up, a delayed look-up, a loop, and the cross-entropy with other symbols.
pub fn symbol_model(m: usize, n: usize) -> Graph {
    let mut net = Net::new("symbol_model");
    let symbols = m + 2;
    let x = net.graph.symbol("x", symbols);
    let target = net.graph.symbol("target", symbols);
    let h = net.dense("h", n, Tanh, &[(x, 0), (x, 1)]);
    net.full(h, h, 1);
    let logits = net.dense("logits", symbols, Identity, &[(h, 0)]);
    let loss = net.operation("loss", 1, Operation::CrossEntropy, &[(logits, 0), (target, 0)]);
    let late = net.operation("late", 1, Operation::CrossEntropy, &[(logits, 1), (target, 2)]);
    net.output(loss);
    net.output(late);
    net.out(logits)
}
