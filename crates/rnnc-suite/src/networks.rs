//! The suite's networks: between them, every kind of layer, connection, operation and function, and every kind of
//! component. Each is made for `m` units of input and `n` units of its own.

use crate::net::Net;
use rnnc_graph::Activation::{self, *};
use rnnc_graph::{Connect, Graph, Operation, Range, Start};

/// Makes a network for m and n units.
pub type Build = fn(usize, usize) -> Graph;

/// A network of the suite.
#[derive(Clone, Copy, Debug)]
pub struct Network {
    /// Its name.
    pub name: &'static str,
    /// Makes it for m and n units.
    pub build: Build,
    /// Whether its layers are among the usual ones, whose loops are worth running at all sizes.
    pub usual: bool,
}

/// All of them but those of [`activation_networks`].
pub fn networks() -> Vec<Network> {
    let usual: [(&'static str, Build); 8] = [
        ("elman", elman),
        ("lstm_peephole", lstm_peephole),
        ("gru", gru),
        ("two_lstm_layers", two_lstm_layers),
        ("gated_scan", gated_scan),
        ("layer_norm_in_a_loop", layer_norm_in_a_loop),
        ("bidirectional", bidirectional),
        ("symbol_model", symbol_model),
    ];
    let others: [(&'static str, Build); 27] = [
        ("feed_forward", feed_forward),
        ("oscillator", oscillator),
        ("long_memory", long_memory),
        ("scan_through_a_diagonal", scan_through_a_diagonal),
        ("indrnn", indrnn),
        ("max_gate", max_gate),
        ("exponential_gates", exponential_gates),
        ("quotient", quotient),
        ("max_and_min", max_and_min),
        ("softmax_groups", softmax_groups),
        ("normalize_groups", normalize_groups),
        ("softmax_in_a_loop", softmax_in_a_loop),
        ("group_sums", group_sums),
        ("broadcasts", broadcasts),
        ("ranges", ranges),
        ("ranges_in_a_loop", ranges_in_a_loop),
        ("heads", heads),
        ("delays_2_and_3", delays_2_and_3),
        ("delay_4_alone", delay_4_alone),
        ("look_ahead", look_ahead),
        ("starts", starts),
        ("starts_ahead", starts_ahead),
        ("stop_gradients", stop_gradients),
        ("parameters", parameters),
        ("shared_weights", shared_weights),
        ("products", products),
        ("dropout", dropout),
    ];
    let all = usual.into_iter().map(|(name, build)| Network { name, build, usual: true });
    all.chain(others.into_iter().map(|(name, build)| Network { name, build, usual: false })).collect()
}

/// For each activation, a network that applies it within a loop and outside, to a sum and to a product.
pub fn activation_networks(m: usize, n: usize) -> Vec<(String, Graph)> {
    Activation::ALL.into_iter().map(|f| (format!("function_{}", f.name()), function(f, m, n))).collect()
}

/// The largest of 1, 2, 3, 4 that divides n: a number of groups or heads.
fn part(n: usize) -> usize {
    (1..=4).rev().find(|k| n.is_multiple_of(*k)).unwrap_or(1)
}

fn elman(m: usize, n: usize) -> Graph {
    let mut net = Net::new("elman");
    let x = net.graph.input("x", m);
    let h = net.dense("h", n, Tanh, &[(x, 0)]);
    net.full(h, h, 1);
    net.out(h)
}

/// Gers, Schraudolph & Schmidhuber (2002).
fn lstm_peephole(m: usize, n: usize) -> Graph {
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
fn two_lstm_layers(m: usize, n: usize) -> Graph {
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
fn gru(m: usize, n: usize) -> Graph {
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
fn gated_scan(m: usize, n: usize) -> Graph {
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
fn oscillator(m: usize, n: usize) -> Graph {
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
fn long_memory(m: usize, n: usize) -> Graph {
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
fn scan_through_a_diagonal(m: usize, n: usize) -> Graph {
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
fn indrnn(m: usize, n: usize) -> Graph {
    let mut net = Net::new("indrnn");
    let x = net.graph.input("x", m);
    let a = net.dense("a", n, Relu, &[(x, 0)]);
    net.diagonal(a, a, 1);
    let b = net.dense("b", n, Tanh, &[(a, 0)]);
    net.diagonal(b, b, 1);
    net.out(b)
}

/// A running maximum of a decaying state.
fn max_gate(m: usize, n: usize) -> Graph {
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
fn exponential_gates(m: usize, n: usize) -> Graph {
    let mut net = Net::new("exponential_gates");
    let x = net.graph.input("x", m);
    let h = net.graph.operation("h", n, Operation::Quotient);
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

fn feed_forward(m: usize, n: usize) -> Graph {
    let mut net = Net::new("feed_forward");
    let x = net.graph.input("x", m);
    let also = net.graph.input("also", 2);
    let a = net.dense("a", n, Gelu, &[(x, 0), (also, 0), (x, 2)]);
    let b = net.dense("b", n, Silu, &[(a, 0), (a, 1), (also, 3)]);
    net.output(x);
    net.output(b);
    let y = net.dense("y", 1, Identity, &[(b, 0), (a, 0)]);
    net.out(y)
}

fn quotient(m: usize, n: usize) -> Graph {
    let mut net = Net::new("quotient");
    let x = net.graph.input("x", m);
    let a = net.dense("a", n, Tanh, &[(x, 0)]);
    let b = net.dense("b", n, Sigmoid, &[(x, 0)]);
    let below = net.sum("below", n, Identity);
    net.graph.connect_constant(1.0, below);
    net.add(b, below, 1.0, 0);
    let q = net.graph.operation("q", n, Operation::Quotient);
    net.add(a, q, 1.0, 0);
    net.add(below, q, 1.5, 0);
    // The quotient of weighted terms, and by a constant.
    let ratio = net.graph.operation("ratio", n, Operation::Quotient);
    net.full(q, ratio, 1);
    net.graph.connect_constant(0.5, ratio);
    net.add(ratio, a, 0.5, 1);
    net.out(ratio)
}

fn max_and_min(m: usize, n: usize) -> Graph {
    let mut net = Net::new("max_and_min");
    let x = net.graph.input("x", m);
    let a = net.dense("a", n, Tanh, &[(x, 0)]);
    let b = net.dense("b", n, Identity, &[(x, 0)]);
    let high = net.operation("high", n, Operation::Max, &[(a, 0), (b, 1)]);
    let low = net.operation("low", n, Operation::Min, &[(b, 0), (high, 2)]);
    net.full(low, a, 1);
    let clipped = net.graph.operation("clipped", n, Operation::Min);
    net.add(low, clipped, 1.0, 0);
    net.graph.connect_constant(0.3, clipped);
    net.output(clipped);
    net.out(high)
}

fn softmax_groups(m: usize, n: usize) -> Graph {
    let mut net = Net::new("softmax_groups");
    let x = net.graph.input("x", m);
    let a = net.dense("a", n, Identity, &[(x, 0), (x, 1)]);
    let soft = net.operation("soft", n, Operation::Softmax { groups: part(n) }, &[(a, 0)]);
    let log = net.operation("log", n, Operation::LogSoftmax { groups: part(n) }, &[(a, 1)]);
    let whole = net.operation("whole", n, Operation::LogSoftmax { groups: 1 }, &[(soft, 0)]);
    net.output(log);
    net.output(soft);
    net.out(whole)
}

fn normalize_groups(m: usize, n: usize) -> Graph {
    let mut net = Net::new("normalize_groups");
    let x = net.graph.input("x", m);
    // Four times the size, so that each group has something to normalize.
    let n = 4 * n;
    let a = net.dense("a", n, Tanh, &[(x, 0), (x, 1)]);
    let layer = Operation::Normalize { groups: 4, center: true, epsilon: 1e-2 };
    let b = net.operation("b", n, layer, &[(a, 0)]);
    let rms = Operation::Normalize { groups: 2, center: false, epsilon: 1e-2 };
    let c = net.operation("c", n, rms, &[(a, 1)]);
    let y = net.sum("y", n, Identity);
    net.diagonal(b, y, 0);
    net.diagonal(c, y, 0);
    net.bias(y);
    net.out(y)
}

/// A normalized recurrence, with gain and bias (Ba, Kiros & Hinton 2016).
fn layer_norm_in_a_loop(m: usize, n: usize) -> Graph {
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

fn softmax_in_a_loop(m: usize, n: usize) -> Graph {
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

fn group_sums(m: usize, n: usize) -> Graph {
    let mut net = Net::new("group_sums");
    let x = net.graph.input("x", m);
    let groups = part(n);
    let a = net.dense("a", n, Tanh, &[(x, 0)]);
    let sums = net.operation("sums", groups, Operation::GroupSum { groups }, &[(a, 0)]);
    // A sum over a part of the units, and one inside a loop.
    let some = net.graph.operation("some", 1, Operation::GroupSum { groups: 1 });
    let tail = Range::new(n / 2, n - n / 2);
    net.graph.connect(a, some, Connect::scaled(0.5).from(tail).to(Range::new(0, tail.len)));
    net.graph.connect(sums, a, Connect::new(rnnc_graph::ConnectionKind::Broadcast { scale: -0.3 }).delay(1));
    net.output(some);
    net.out(sums)
}

fn broadcasts(m: usize, n: usize) -> Graph {
    let mut net = Net::new("broadcasts");
    let x = net.graph.input("x", m);
    let one = net.dense("one", 1, Sigmoid, &[(x, 0)]);
    let few = net.dense("few", part(n), Tanh, &[(x, 0)]);
    let h = net.graph.product("h", n, Tanh);
    let wide = net.dense("wide", n, Identity, &[(x, 0)]);
    net.graph.connect(one, h, Connect::broadcast());
    net.graph.connect(few, h, Connect::broadcast().delay(1));
    net.add(wide, h, 1.0, 0);
    net.full(h, one, 1);
    let first = net.sum("first", n, Identity);
    net.graph.connect(h, first, Connect::broadcast().from(Range::new(0, 1)));
    net.out(first)
}

fn ranges(m: usize, n: usize) -> Graph {
    let mut net = Net::new("ranges");
    let x = net.graph.input("x", m);
    let a = net.dense("a", n, Tanh, &[(x, 0)]);
    let b = net.dense("b", n + 2, Sigmoid, &[(x, 0), (a, 1)]);
    // concat(a, b)
    let both = net.sum("both", 2 * n + 2, Identity);
    net.graph.connect(a, both, Connect::identity().to(Range::new(0, n)));
    net.graph.connect(b, both, Connect::identity().to(Range::new(n, n + 2)));
    // A slice across the seam, shifted, and delayed; terms that overlap.
    let middle = net.sum("middle", n, Identity);
    net.graph.connect(both, middle, Connect::identity().from(Range::new(n / 2 + 1, n)));
    net.graph.connect(both, middle, Connect::scaled(2.0).from(Range::new(0, 1)).to(Range::new(n - 1, 1)));
    net.graph.connect(both, middle, Connect::scaled(0.5).from(Range::new(1, n)).delay(2));
    // A matrix from a part to a part, and weights for some units.
    let y = net.sum("y", n + 1, Tanh);
    let part = net.graph.weight("y.part", &[n, n + 1], rnnc_graph::Init::Glorot);
    net.graph.connect(both, y, Connect::full(part).from(Range::new(1, n + 1)).to(Range::new(1, n)));
    let some = net.graph.weight("y.some", &[n], rnnc_graph::Init::Uniform(0.5));
    net.graph.connect(middle, y, Connect::diagonal(some).to(Range::new(0, n)));
    net.out(y)
}

/// Units that move by one place a frame: elementwise it is not.
fn ranges_in_a_loop(m: usize, n: usize) -> Graph {
    let mut net = Net::new("ranges_in_a_loop");
    let x = net.graph.input("x", m);
    let n = n + 1;
    let z = net.dense("z", n, Tanh, &[(x, 0)]);
    let c = net.sum("c", n, Identity);
    net.graph.connect(
        c,
        c,
        Connect::scaled(0.6).from(Range::new(0, n - 1)).to(Range::new(1, n - 1)).delay(1),
    );
    net.graph.connect(c, c, Connect::scaled(0.6).from(Range::new(n - 1, 1)).to(Range::new(0, 1)).delay(1));
    net.add(z, c, 1.0, 0);
    net.out(c)
}

fn heads(m: usize, n: usize) -> Graph {
    let mut net = Net::new("heads");
    let x = net.graph.input("x", m);
    let n = 3 * n;
    let h = net.dense("h", n, Tanh, &[(x, 0)]);
    net.heads(h, h, 1, 3);
    let y = net.sum("y", 6, Identity);
    net.heads(h, y, 0, 3);
    net.out(y)
}

fn delays_2_and_3(m: usize, n: usize) -> Graph {
    let mut net = Net::new("delays_2_and_3");
    let x = net.graph.input("x", m);
    let a = net.dense("a", n, Tanh, &[(x, 0), (x, 3)]);
    let b = net.dense("b", n, Tanh, &[(a, 1)]);
    net.full(b, a, 2);
    net.full(a, a, 3);
    let y = net.dense("y", n, Identity, &[(b, 2), (a, 0)]);
    net.graph.set_start(b, Start::Constant(0.25));
    net.out(y)
}

fn delay_4_alone(m: usize, n: usize) -> Graph {
    let mut net = Net::new("delay_4_alone");
    let x = net.graph.input("x", m);
    let h = net.dense("h", n, Tanh, &[(x, 0)]);
    net.full(h, h, 4);
    net.out(h)
}

fn bidirectional(m: usize, n: usize) -> Graph {
    let mut net = Net::new("bidirectional");
    let x = net.graph.input("x", m);
    let past = net.dense("past", n, Tanh, &[(x, 0)]);
    net.full(past, past, 1);
    let future = net.dense("future", n, Tanh, &[(x, 0)]);
    net.full(future, future, -1);
    let both = net.sum("both", 2 * n, Identity);
    net.graph.connect(past, both, Connect::identity().to(Range::new(0, n)));
    net.graph.connect(future, both, Connect::identity().to(Range::new(n, n)));
    // Read with delays of both signs, and a loop over it.
    let y = net.dense("y", n, Sigmoid, &[(both, 0), (both, 1), (both, -2)]);
    net.full(y, y, 2);
    net.out(y)
}

fn look_ahead(m: usize, n: usize) -> Graph {
    let mut net = Net::new("look_ahead");
    let x = net.graph.input("x", m);
    let z = net.dense("z", n, Tanh, &[(x, 0), (x, -1), (x, 2)]);
    // A scan towards the past.
    let c = net.sum("c", n, Identity);
    net.add(c, c, 0.7, -1);
    net.add(z, c, 1.0, 0);
    let slow = net.dense("slow", n, Tanh, &[(c, -3)]);
    net.diagonal(slow, slow, -2);
    net.out(slow)
}

fn starts(m: usize, n: usize) -> Graph {
    let mut net = Net::new("starts");
    let x = net.graph.input("x", m);
    let h = net.dense("h", n, Tanh, &[(x, 0)]);
    net.full(h, h, 1);
    net.learned_start(h);
    let c = net.sum("c", n, Identity);
    net.add(c, c, 0.5, 2);
    net.add(h, c, 1.0, 1);
    net.learned_start(c);
    let k = net.dense("k", n, Tanh, &[(c, 0)]);
    net.diagonal(k, k, 1);
    net.graph.set_start(k, Start::Constant(0.75));
    let y = net.sum("y", n, Identity);
    net.full(k, y, 3);
    net.add(h, y, -2.0, 2);
    // Part of a learned start, and one read through a broadcast and a product.
    net.graph.connect(h, y, Connect::identity().from(Range::new(n - 1, 1)).to(Range::new(0, 1)).delay(1));
    let one = net.dense("one", 1, Tanh, &[(x, 0)]);
    net.learned_start(one);
    net.graph.connect(one, y, Connect::broadcast().delay(2));
    let gated = net.product("gated", &[(h, 1), (c, 3)]);
    net.add(gated, y, 1.0, 0);
    net.out(y)
}

fn starts_ahead(m: usize, n: usize) -> Graph {
    let mut net = Net::new("starts_ahead");
    let x = net.graph.input("x", m);
    let h = net.dense("h", n, Tanh, &[(x, 0)]);
    net.full(h, h, -1);
    net.learned_start(h);
    let c = net.sum("c", n, Identity);
    net.add(c, c, 0.5, -1);
    net.add(h, c, 1.0, -2);
    net.graph.set_start(c, Start::Constant(-0.5));
    let y = net.dense("y", n, Identity, &[(c, -1), (h, 1)]);
    net.out(y)
}

fn stop_gradients(m: usize, n: usize) -> Graph {
    let mut net = Net::new("stop_gradients");
    let x = net.graph.input("x", m);
    let a = net.dense("a", n, Tanh, &[(x, 0)]);
    let h = net.dense("h", n, Tanh, &[(a, 0)]);
    let state = net.graph.weight("h.state", &[n, n], rnnc_graph::Init::Glorot);
    net.graph.connect(h, h, Connect::full(state).delay(1).stop_gradient());
    net.graph.connect(a, h, Connect::scaled(0.5).stop_gradient());
    let y = net.graph.product("y", n, Identity);
    net.graph.connect(h, y, Connect::identity().stop_gradient());
    net.add(a, y, 1.0, 0);
    net.out(y)
}

fn parameters(m: usize, n: usize) -> Graph {
    let mut net = Net::new("parameters");
    let x = net.graph.input("x", m);
    let p = net.parameter("p", n);
    let q = net.parameter("q", 1);
    let a = net.dense("a", n, Tanh, &[(x, 0)]);
    let scaled = net.product("scaled", &[(a, 0), (p, 0), (a, 1)]);
    let y = net.sum("y", n, Identity);
    net.full(p, y, 0);
    net.graph.connect(q, y, Connect::broadcast());
    net.add(scaled, y, 1.0, 0);
    net.add(p, y, 0.5, 0);
    let slope = net.map("slope", Softplus, p);
    let product = net.product("product", &[(slope, 0), (y, 1)]);
    net.out(product)
}

fn shared_weights(m: usize, n: usize) -> Graph {
    let mut net = Net::new("shared_weights");
    let x = net.graph.input("x", m);
    let u = net.graph.weight("u", &[n, n], rnnc_graph::Init::Glorot);
    let v = net.graph.weight("v", &[n], rnnc_graph::Init::Uniform(0.5));
    let a = net.dense("a", n, Tanh, &[(x, 0)]);
    let b = net.dense("b", n, Tanh, &[(x, 1)]);
    net.graph.connect(a, a, Connect::full(u).delay(1));
    net.graph.connect(b, b, Connect::full(u).delay(2));
    net.graph.connect(a, b, Connect::diagonal(v));
    net.graph.connect(b, b, Connect::diagonal(v).delay(1));
    let y = net.sum("y", n, Identity);
    net.graph.connect(b, y, Connect::full(u));
    let start = net.graph.parameter("v", v);
    net.add(start, y, 1.0, 0);
    net.graph.set_start(a, Start::Learned(v));
    net.out(y)
}

/// Products of weighted terms, constants, the same layer twice, and delayed factors.
fn products(m: usize, n: usize) -> Graph {
    let mut net = Net::new("products");
    let x = net.graph.input("x", m);
    let a = net.dense("a", n, Tanh, &[(x, 0)]);
    let p = net.graph.product("p", n, Tanh);
    net.full(a, p, 0);
    net.diagonal(a, p, 1);
    net.graph.connect_constant(1.5, p);
    let s = net.graph.product("s", n, Identity);
    net.add(p, s, 0.8, 0);
    net.add(p, s, 1.0, 0);
    net.add(a, s, -1.0, 2);
    let alone = net.graph.product("alone", n, Sigmoid);
    net.add(s, alone, 3.0, 1);
    net.full(alone, a, 1);
    net.output(s);
    net.out(alone)
}

fn dropout(m: usize, n: usize) -> Graph {
    let mut net = Net::new("dropout");
    let x = net.graph.input("x", m);
    let inner = net.mask("inner", n, 0.3);
    let outer = net.mask("outer", n, 0.5);
    let h = net.dense("h", n, Tanh, &[(x, 0)]);
    let dropped = net.product("dropped", &[(h, 1), (inner, 0)]);
    net.full(dropped, h, 0);
    let y = net.product("y", &[(h, 0), (outer, 0)]);
    net.out(y)
}

/// Symbols in, a loss out: a look-up, a delayed look-up, a loop, and the cross-entropy with other symbols.
fn symbol_model(m: usize, n: usize) -> Graph {
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

fn function(f: Activation, m: usize, n: usize) -> Graph {
    let mut net = Net::new(f.name());
    let x = net.graph.input("x", m);
    let h = net.dense("h", n, Tanh, &[(x, 0)]);
    let argument = match f {
        // Only what is positive has a logarithm or a slope of its root.
        Log | Sqrt => {
            let square = net.map("square", Square, h);
            let above = net.sum("above", n, Identity);
            net.add(square, above, 1.0, 0);
            net.graph.connect_constant(0.5, above);
            above
        }
        _ => {
            let wide = net.sum("wide", n, Identity);
            net.diagonal(h, wide, 0);
            // Wide enough to reach both ends of the hard functions; what grows is kept from growing too far.
            net.add(h, wide, if matches!(f, Exp | Square) { 0.6 } else { 4.0 }, 0);
            wide
        }
    };
    let inside = net.map("inside", f, argument);
    net.diagonal(inside, h, 1);
    let product = net.graph.product("product", n, f);
    net.add(argument, product, 1.0, 0);
    net.add(argument, product, 1.0, 1);
    // The logarithm of a product needs a start above 0, as the slope of its root does.
    net.graph.set_start(argument, Start::Constant(0.8));
    net.output(inside);
    net.out(product)
}
