//! Networks whose layers fall into heads that read each other seldom, or never: block-diagonal matrices, groups of vector
//! functions, and values repeated within a head.

use crate::net::Net;
use rnnc_graph::Activation::{Identity, Sigmoid, Tanh};
use rnnc_graph::{Connect, ConnectionKind, Graph, LayerId, Operation, Range, Start};

/// A layer that reads inputs, and of another layer, `delay` frames ago, each head its own.
fn gate(
    net: &mut Net,
    name: &str,
    n: usize,
    x: LayerId,
    (source, delay, heads): (LayerId, i64, usize),
) -> LayerId {
    let layer = net.dense(name, n, Sigmoid, &[(x, 0)]);
    net.heads(source, layer, delay, heads);
    layer
}

/// An LSTM with peepholes, of so many independent heads; returns its state.
fn lstm(net: &mut Net, name: &str, x: LayerId, n: usize, heads: usize) -> LayerId {
    let named = |part: &str| format!("{name}.{part}");
    let c = net.sum(&named("c"), n, Identity);
    let h = net.graph.product(named("h"), n, Identity);
    let [i, f, o, z] = ["i", "f", "o", "z"].map(|part| gate(net, &named(part), n, x, (h, 1, heads)));
    net.diagonal(c, i, 1);
    net.diagonal(c, f, 1);
    let kept = net.product(&named("kept"), &[(f, 0), (c, 1)]);
    let added = net.product(&named("added"), &[(i, 0), (z, 0)]);
    net.add(kept, c, 1.0, 0);
    net.add(added, c, 1.0, 0);
    let squashed = net.map(&named("squashed"), Tanh, c);
    net.add(o, h, 1.0, 0);
    net.add(squashed, h, 1.0, 0);
    net.learned_start(c);
    net.graph.set_start(h, Start::Constant(0.25));
    h
}

pub fn lstm_of_two_heads(m: usize, n: usize) -> Graph {
    let mut net = Net::new("lstm_of_two_heads");
    let x = net.graph.input("x", m);
    let h = lstm(&mut net, "h", x, 2 * n, 2);
    net.out(h)
}

/// Two loops of one stage, of four heads and of three.
pub fn loops_of_heads_side_by_side(m: usize, n: usize) -> Graph {
    let mut net = Net::new("loops_of_heads_side_by_side");
    let x = net.graph.input("x", m);
    let [a, b] = [("a", 4), ("b", 3)].map(|(name, heads)| lstm(&mut net, name, x, heads * n, heads));
    net.output(a);
    net.out(b)
}

/// All that heads can do within: a product, a normalization, a softmax, a sum that gates them, and a second matrix of more
/// heads.
pub fn independent_heads(m: usize, n: usize) -> Graph {
    let mut net = Net::new("independent_heads");
    let x = net.graph.input("x", m);
    let (heads, n) = (4, 8 * n);
    let a = net.dense("a", n, Tanh, &[(x, 0)]);
    let layer = Operation::Normalize { groups: heads, center: true, epsilon: 0.1 };
    let normal = net.operation("normal", n, layer, &[(a, 0)]);
    let soft = net.operation("soft", n, Operation::Softmax { groups: 2 * heads }, &[(a, 1)]);
    let sums = net.operation("sums", heads, Operation::GroupSum { groups: heads }, &[(soft, 0)]);
    let level = net.map("level", Sigmoid, sums);
    let b = net.graph.product("b", n, Identity);
    net.graph.connect(level, b, Connect::new(ConnectionKind::Broadcast { scale: 1.0 }));
    net.add(normal, b, 1.0, 0);
    net.heads(b, a, 1, heads);
    net.heads(soft, a, 2, 2 * heads);
    net.out(b)
}

/// Heads that read only themselves of what they made, but of one vector of all: it must be met for, once a frame.
pub fn heads_and_a_projection(m: usize, n: usize) -> Graph {
    let mut net = Net::new("heads_and_a_projection");
    let x = net.graph.input("x", m);
    let n = 6 * n;
    let h = net.sum("h", n, Tanh);
    let r = gate(&mut net, "r", n, x, (h, 1, 3));
    let state = net.product("state", &[(r, 0), (h, 1)]);
    let z = gate(&mut net, "z", n, x, (state, 0, 3));
    // Five units divide into no heads.
    let all = net.dense("all", 5, Tanh, &[(z, 0)]);
    net.diagonal(all, all, 1);
    net.heads(z, h, 0, 3);
    net.full(all, h, 0);
    net.out(h)
}

/// Matrices of heads that have no number in common, but two of them.
pub fn heads_of_several_counts(m: usize, n: usize) -> Graph {
    let mut net = Net::new("heads_of_several_counts");
    let x = net.graph.input("x", m);
    let n = 12 * n;
    let a = net.dense("a", n, Tanh, &[(x, 0)]);
    let b = net.dense("b", n, Tanh, &[(x, 0)]);
    net.heads(a, b, 0, 4);
    net.heads(b, a, 1, 6);
    net.heads(a, a, 2, 3);
    net.out(b)
}

/// Two frames at once, of heads that look back by two, or one, at other layers.
pub fn heads_two_frames_at_once(m: usize, n: usize) -> Graph {
    let mut net = Net::new("heads_two_frames_at_once");
    let x = net.graph.input("x", m);
    let n = 2 * n;
    let a = net.dense("a", n, Tanh, &[(x, 0)]);
    let b = net.dense("b", n, Tanh, &[(x, 0)]);
    net.heads(a, a, 2, 2);
    net.heads(a, b, 1, 2);
    net.heads(b, a, 1, 2);
    net.heads(b, b, 3, 2);
    net.out(b)
}

/// Gates in slices of one layer, each head of each gate normalized by itself; a matrix of whole slices beside.
pub fn heads_of_slices(m: usize, n: usize) -> Graph {
    let mut net = Net::new("heads_of_slices");
    let x = net.graph.input("x", m);
    let (heads, n) = (2, 2 * n);
    let h = net.sum("h", n, Tanh);
    let gates = net.sum("gates", 2 * n, Identity);
    for (k, name) in ["left", "right"].into_iter().enumerate() {
        let gate = gate(&mut net, name, n, x, (h, 1, heads));
        net.graph.connect(gate, gates, Connect::identity().to(Range::new(k * n, n)));
    }
    let layer = Operation::Normalize { groups: 2 * heads, center: true, epsilon: 0.1 };
    let normal = net.operation("normal", 2 * n, layer, &[(gates, 0)]);
    let [i, z] = [0, 1].map(|k| net.slice(["i", "z"][k], Sigmoid, normal, k, n));
    let added = net.product("added", &[(i, 0), (z, 0)]);
    net.add(added, h, 1.0, 0);
    net.output(normal);
    net.out(h)
}

/// The same where a matrix of two blocks, each of which writes a slice, makes all heads meet.
pub fn blocks_that_are_slices(m: usize, n: usize) -> Graph {
    let mut net = Net::new("blocks_that_are_slices");
    let x = net.graph.input("x", m);
    let n = 2 * n;
    let h = net.sum("h", n, Tanh);
    let g = gate(&mut net, "g", n, x, (h, 1, 2));
    let both = net.dense("both", 2 * n, Sigmoid, &[(x, 0), (h, 1)]);
    net.heads(g, both, 0, 2);
    for k in 0..2 {
        net.graph.connect(both, h, Connect::scaled(0.7).from(Range::new(k * n, n)));
    }
    net.out(h)
}
