//! Networks whose layers are read and written in equal slices, so that their units are shared out slice by slice.

use crate::net::{Net, part};
use rnnc_graph::Activation::{Identity, Sigmoid, Tanh};
use rnnc_graph::{Connect, Graph, LayerId, Operation, Range};

/// The state and cell of an LSTM, without its gates.
fn state(net: &mut Net, n: usize) -> [LayerId; 2] {
    [net.graph.product("h", n, Identity), net.sum("c", n, Identity)]
}

/// Makes the slices of a layer the gates of a state and its cell; what of the cell is let out is handed in, or the cell
/// itself.
fn gate(net: &mut Net, gates: LayerId, [h, c]: [LayerId; 2], out: Option<LayerId>) {
    let n = net.size(h);
    let [i, f, o] = [("i", 0), ("f", 1), ("o", 2)].map(|(name, k)| net.slice(name, Sigmoid, gates, k, n));
    let z = net.slice("z", Tanh, gates, 3, n);
    let kept = net.product("kept", &[(f, 0), (c, 1)]);
    let added = net.product("added", &[(i, 0), (z, 0)]);
    net.add(kept, c, 1.0, 0);
    net.add(added, c, 1.0, 0);
    let squashed = net.map("squashed", Tanh, out.unwrap_or(c));
    net.add(o, h, 1.0, 0);
    net.add(squashed, h, 1.0, 0);
}

/// An LSTM whose gates are one layer.
pub fn gates_in_one_layer(m: usize, n: usize) -> Graph {
    let mut net = Net::new("gates_in_one_layer");
    let x = net.graph.input("x", m);
    let [h, c] = state(&mut net, n);
    let gates = net.dense("gates", 4 * n, Identity, &[(x, 0), (h, 1)]);
    gate(&mut net, gates, [h, c], None);
    net.output(c);
    net.out(h)
}

/// The same with the gates' sums normalized together, and the cell by itself.
pub fn normalized_gates(m: usize, n: usize) -> Graph {
    let mut net = Net::new("normalized_gates");
    let x = net.graph.input("x", m);
    let [h, c] = state(&mut net, n);
    let sums = net.dense("sums", 4 * n, Identity, &[(x, 0), (h, 1)]);
    // A large epsilon: small layers have variances near 0.
    let layer = |groups| Operation::Normalize { groups, center: true, epsilon: 0.1 };
    let normal = net.operation("normal", 4 * n, layer(1), &[(sums, 0)]);
    let gates = net.sum("gates", 4 * n, Identity);
    net.diagonal(normal, gates, 0);
    net.bias(gates);
    let out = net.operation("out", n, layer(1), &[(c, 0)]);
    gate(&mut net, gates, [h, c], Some(out));
    net.out(h)
}

/// The same with each gate's sums by themselves, of a matrix that is block-diagonal, and of a table.
pub fn gates_normalized_apart(m: usize, n: usize) -> Graph {
    let mut net = Net::new("gates_normalized_apart");
    let x = net.graph.input("x", m);
    let s = net.graph.symbol("s", 3);
    let n = n * part(n);
    let [h, c] = state(&mut net, n);
    let sums = net.dense("sums", 4 * n, Identity, &[(x, 0), (s, 0)]);
    net.heads(h, sums, 1, part(n));
    let root = Operation::Normalize { groups: 4, center: false, epsilon: 0.1 };
    let gates = net.operation("gates", 4 * n, root, &[(sums, 0)]);
    gate(&mut net, gates, [h, c], None);
    net.out(h)
}

/// Slices that are shares of one whole, and a layer of two that are put side by side, read a frame later too.
pub fn shares_side_by_side(m: usize, n: usize) -> Graph {
    let mut net = Net::new("shares_side_by_side");
    let x = net.graph.input("x", m);
    let scores = net.dense("scores", 2 * n, Identity, &[(x, 0)]);
    let shares = net.operation("shares", 2 * n, Operation::Softmax { groups: 1 }, &[(scores, 0)]);
    let [first, second] = [0, 1].map(|k| net.slice(["first", "second"][k], Identity, shares, k, n));
    net.full(x, first, 0);
    let both = net.sum("both", 2 * n, Tanh);
    net.graph.connect(second, both, Connect::scaled(2.0).to(Range::new(0, n)));
    net.graph.connect(first, both, Connect::identity().to(Range::new(n, n)));
    net.diagonal(both, both, 1);
    net.graph.connect(both, first, Connect::scaled(0.3).from(Range::new(n, n)).delay(2));
    net.full(both, scores, 1);
    net.learned_start(both);
    net.output(shares);
    net.out(both)
}

/// A layer that would be in slices, but for units that count their places: of a mask, and of a part that is repeated.
pub fn slices_that_stay_whole(m: usize, n: usize) -> Graph {
    let mut net = Net::new("slices_that_stay_whole");
    let x = net.graph.input("x", m);
    let h = net.sum("h", n, Tanh);
    let pair = net.dense("pair", 2, Tanh, &[(x, 0)]);
    let wide = net.dense("wide", 2 * n, Sigmoid, &[(x, 0), (h, 1)]);
    net.graph.connect(pair, wide, Connect::new(rnnc_graph::ConnectionKind::Broadcast { scale: 0.5 }));
    let mask = net.mask("mask", 2 * n, 0.25);
    let kept = net.product("kept", &[(mask, 0), (wide, 0)]);
    for k in 0..2 {
        net.graph.connect(kept, h, Connect::scaled(0.7).from(Range::new(k * n, n)));
    }
    net.out(h)
}
