//! Networks that show what connections read: ranges, heads, delays of both signs, starts, parameters.

use crate::net::{Net, part};
use rnnc_graph::Activation::{Identity, Sigmoid, Softplus, Tanh};
use rnnc_graph::{Connect, Graph, Init, Range, Start};

pub fn broadcasts(m: usize, n: usize) -> Graph {
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

pub fn ranges(m: usize, n: usize) -> Graph {
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
    let part = net.graph.weight("y.part", &[n, n + 1], Init::Glorot);
    net.graph.connect(both, y, Connect::full(part).from(Range::new(1, n + 1)).to(Range::new(1, n)));
    let some = net.graph.weight("y.some", &[n], Init::Uniform(0.5));
    net.graph.connect(middle, y, Connect::diagonal(some).to(Range::new(0, n)));
    net.out(y)
}

/// Units that move by one place a frame: elementwise it is not.
pub fn ranges_in_a_loop(m: usize, n: usize) -> Graph {
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

/// Layers whose terms reach parts of them, cut at other places: what reads all of `b` comes after each of its pieces,
/// though the last of them is computed with a piece of `a`, before `whole`.
pub fn pieces(m: usize, n: usize) -> Graph {
    let mut net = Net::new("pieces");
    let x = net.graph.input("x", m);
    let n = n + 2;
    let z = net.dense("z", n, Tanh, &[(x, 0)]);
    let end = Range::new(n - 1, 1);
    let a = net.sum("a", n, Sigmoid);
    net.add(z, a, 1.0, 0);
    net.graph.connect(z, a, Connect::identity().from(end).to(end));
    let whole = net.map("whole", Sigmoid, z);
    let b = net.sum("b", n, Tanh);
    net.graph.connect(z, b, Connect::scaled(0.9).from(Range::new(0, 1)).to(Range::new(0, 1)));
    net.graph.connect(z, b, Connect::scaled(0.3).from(end).to(end));
    let c = net.map("c", Softplus, b);
    let y = net.product("y", &[(a, 0), (whole, 0), (c, 0)]);
    net.out(y)
}

pub fn heads(m: usize, n: usize) -> Graph {
    let mut net = Net::new("heads");
    let x = net.graph.input("x", m);
    let n = 3 * n;
    let h = net.dense("h", n, Tanh, &[(x, 0)]);
    net.heads(h, h, 1, 3);
    let y = net.sum("y", 6, Identity);
    net.heads(h, y, 0, 3);
    net.out(y)
}

/// Sums of whole matrices and of parts, in both orders and in both directions: errors of `a` begin as those of its heads,
/// and a whole matrix adds to them.
pub fn heads_in_sums(m: usize, n: usize) -> Graph {
    let mut net = Net::new("heads_in_sums");
    let x = net.graph.input("x", m);
    let heads = part(n);
    let outside = net.dense("outside", n, Identity, &[(x, 0)]);
    let [a, b, c] = ["a", "b", "c"].map(|name| net.sum(name, n, Tanh));
    net.add(outside, a, 1.0, 0);
    net.heads(a, a, 1, heads);
    net.full(b, a, 1);
    net.heads(c, a, 1, heads);
    net.add(outside, b, 1.0, 0);
    net.heads(c, b, 1, heads);
    net.full(x, c, 0);
    net.full(a, c, 1);
    net.heads(b, c, 1, heads);
    net.out(c)
}

pub fn delays_2_and_3(m: usize, n: usize) -> Graph {
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

pub fn delay_4_alone(m: usize, n: usize) -> Graph {
    let mut net = Net::new("delay_4_alone");
    let x = net.graph.input("x", m);
    let h = net.dense("h", n, Tanh, &[(x, 0)]);
    net.full(h, h, 4);
    net.out(h)
}

pub fn bidirectional(m: usize, n: usize) -> Graph {
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

pub fn look_ahead(m: usize, n: usize) -> Graph {
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

pub fn starts(m: usize, n: usize) -> Graph {
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

pub fn starts_ahead(m: usize, n: usize) -> Graph {
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

pub fn stop_gradients(m: usize, n: usize) -> Graph {
    let mut net = Net::new("stop_gradients");
    let x = net.graph.input("x", m);
    let a = net.dense("a", n, Tanh, &[(x, 0)]);
    let h = net.dense("h", n, Tanh, &[(a, 0)]);
    let state = net.graph.weight("h.state", &[n, n], Init::Glorot);
    net.graph.connect(h, h, Connect::full(state).delay(1).stop_gradient());
    net.graph.connect(a, h, Connect::scaled(0.5).stop_gradient());
    let y = net.graph.product("y", n, Identity);
    net.graph.connect(h, y, Connect::identity().stop_gradient());
    net.add(a, y, 1.0, 0);
    net.out(y)
}

pub fn parameters(m: usize, n: usize) -> Graph {
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
    let derivative = net.map("slope", Softplus, p);
    let product = net.product("product", &[(derivative, 0), (y, 1)]);
    net.out(product)
}

pub fn shared_weights(m: usize, n: usize) -> Graph {
    let mut net = Net::new("shared_weights");
    let x = net.graph.input("x", m);
    let u = net.graph.weight("u", &[n, n], Init::Glorot);
    let v = net.graph.weight("v", &[n], Init::Uniform(0.5));
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
