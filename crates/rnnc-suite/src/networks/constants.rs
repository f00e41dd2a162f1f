//! Networks with layers that depend on parameters alone: the same in all frames.

use crate::net::Net;
use rnnc_graph::Activation::{Cos, Exp, Gelu, Identity, Sigmoid, Sin, Tanh};
use rnnc_graph::{Connect, ConnectionKind, Graph, Init, Operation, Range, Start};

/// The decays and gains of a rotation, as functions of parameters.
pub fn constants_in_a_scan(m: usize, n: usize) -> Graph {
    let mut net = Net::new("constants_in_a_scan");
    let x = net.graph.input("x", m);
    let z = net.dense("z", n, Tanh, &[(x, 0)]);
    let (a, b) = (net.parameter("a", n), net.parameter("b", n));
    let rate = net.map("rate", Exp, a);
    let decay = net.sum("decay", n, Exp);
    net.add(rate, decay, -1.0, 0);
    let (cos, sin) = (net.map("cos", Cos, b), net.map("sin", Sin, b));
    let along = net.product("along", &[(decay, 0), (cos, 0)]);
    let across = net.product("across", &[(decay, 0), (sin, 0)]);
    let (re, im) = (net.sum("re", n, Identity), net.sum("im", n, Identity));
    for (to, own, other, sign) in [(re, re, im, -1.0), (im, im, re, 1.0)] {
        let kept = net.product("kept", &[(along, 0), (own, 1)]);
        let turned = net.product("turned", &[(across, 0), (other, 1)]);
        net.add(kept, to, 1.0, 0);
        net.add(turned, to, sign, 0);
    }
    let gain = net.graph.sum("gain", n, Identity);
    net.add(decay, gain, -1.0, 0);
    net.graph.connect_constant(1.0, gain);
    let fed = net.product("fed", &[(gain, 0), (z, 0)]);
    net.add(fed, re, 1.0, 0);
    net.output(im);
    net.out(re)
}

/// Constants of every kind of operation, of parts of others, read in loops, with delays and past resets, by matrices, and
/// handed out; and what looks like one but is of a frame.
pub fn constants_everywhere(m: usize, n: usize) -> Graph {
    let mut net = Net::new("constants_everywhere");
    let x = net.graph.input("x", m);
    let (p, q) = (net.parameter("p", n), net.parameter("q", n));
    let long = net.parameter("long", 2 * n);
    let part = net.sum("part", n, Gelu);
    net.graph.connect(long, part, Connect::identity().from(Range::new(1, n)));
    net.add(p, part, 0.5, 0);
    let wide = net.map("wide", Tanh, long);
    let end = net.sum("end", n, Sigmoid);
    net.graph.connect(wide, end, Connect::scaled(2.0).from(Range::new(n, n)));
    net.add(p, end, 1.0, 0);
    let larger = net.operation("larger", n, Operation::Max, &[(part, 0), (q, 0)]);
    let share = net.operation("share", n, Operation::Divide, &[(larger, 0), (end, 0)]);
    net.graph.set_start(share, Start::Constant(0.5));
    let square = net.product("square", &[(share, 0), (share, 0), (q, 0)]);
    let mask = net.mask("mask", n, 0.25);
    let dropped = net.product("dropped", &[(square, 0), (mask, 0)]);
    let h = net.dense("h", n, Tanh, &[(x, 0)]);
    net.full(h, h, 1);
    net.full(share, h, 0);
    let gated = net.product("gated", &[(share, 1), (h, 1)]);
    net.add(gated, h, 0.5, 0);
    net.add(dropped, h, 0.5, 0);
    net.diagonal(square, h, 0);
    let late = net.product("late", &[(q, 2), (h, 0)]);
    net.add(late, h, 1.0, 1);
    net.output(share);
    net.output(end);
    net.out(h)
}

/// Constants that are more than unit by unit: vector functions, sums, broadcasts, matrices, with heads too, a weight for each
/// unit, parts side by side, and slices of one vector that overlap.
pub fn constants_of_vectors(m: usize, n: usize) -> Graph {
    let mut net = Net::new("constants_of_vectors");
    let x = net.graph.input("x", m);
    let (p, q) = (net.parameter("p", n), net.parameter("q", 2 * n));
    let mut vector = |name: &str, operation: Operation, size: usize, of| {
        let layer = net.graph.operation(name, size, operation);
        net.graph.connect(of, layer, Connect::identity());
        layer
    };
    let shares = vector("shares", Operation::Softmax { groups: 1 }, n, p);
    let logs = vector("logs", Operation::LogSoftmax { groups: 2 }, 2 * n, q);
    let normal = Operation::Normalize { groups: 2, center: true, epsilon: 0.1 };
    let normal = vector("normal", normal, 2 * n, logs);
    let root = vector("root", Operation::Normalize { groups: 1, center: false, epsilon: 0.1 }, n, shares);
    let sums = vector("sums", Operation::GroupSum { groups: n }, n, q);
    let two = vector("two", Operation::GroupSum { groups: 2 }, 2, normal);
    // Broadcasts: of one, scaled, into a product, and beside other terms.
    let one = net.sum("one", 1, Tanh);
    net.graph.connect(two, one, Connect::identity().from(Range::new(1, 1)));
    let all = net.sum("all", n, Sigmoid);
    net.graph.connect(one, all, Connect::new(ConnectionKind::Broadcast { scale: -0.5 }));
    net.diagonal(root, all, 0);
    net.graph.connect(q, all, Connect::identity().from(Range::new(1, n)));
    net.graph.connect(q, all, Connect::scaled(0.5).from(Range::new(0, n)));
    let wide = net.sum("wide", 2 * n, Identity);
    net.graph.connect(two, wide, Connect::broadcast());
    let times = net.graph.product("times", 2 * n, Identity);
    net.graph.connect(two, times, Connect::broadcast());
    net.add(normal, times, 1.0, 0);
    net.add(wide, times, 0.5, 0);
    // Parts of a layer: a vector's, a matrix', a number, and what two of them reach.
    let parts = net.sum("parts", 3 * n, Sin);
    net.graph.connect(sums, parts, Connect::identity().to(Range::new(n, n)));
    net.graph.connect(times, parts, Connect::scaled(0.5).to(Range::new(n, 2 * n)));
    let w = net.graph.weight("w", &[n, 2 * n], Init::Glorot);
    net.graph.connect(times, parts, Connect::full(w).to(Range::new(0, n)));
    let heads = net.graph.weight("heads", &[2, n, n], Init::Glorot);
    let kind = ConnectionKind::Full { weight: heads, heads: 2, transposed: false, part: None };
    let mixed = net.sum("mixed", 2 * n, Gelu);
    net.graph.connect(logs, mixed, Connect::new(kind));
    net.graph.connect(wide, mixed, Connect::identity().stop_gradient());
    net.bias(mixed);
    // Read with a delay, by a matrix that a constant has, too, and in a loop.
    let h = net.dense("h", n, Tanh, &[(x, 0), (parts, 1)]);
    net.graph.connect(mixed, h, Connect::full(w));
    net.graph.connect(mixed, h, Connect::scaled(0.5).from(Range::new(n, n)));
    let kept = net.product("kept", &[(all, 0), (h, 1)]);
    net.add(kept, h, 1.0, 0);
    net.output(parts);
    net.out(h)
}
