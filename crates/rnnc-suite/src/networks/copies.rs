//! Networks whose layers copy others: concatenations, slices, other names. What reads them may as well read the others.

use crate::net::Net;
use rnnc_graph::Activation::{Gelu, Identity, Sigmoid, Tanh};
use rnnc_graph::{Connect, Graph, LayerId, Range, Start};

/// One layer after the other, each as it was so many frames before.
fn concat(net: &mut Net, name: &str, parts: &[(LayerId, i64)]) -> LayerId {
    let size = parts.iter().map(|&(layer, _)| net.size(layer)).sum();
    let all = net.sum(name, size, Identity);
    let mut first = 0;
    for &(layer, delay) in parts {
        let len = net.size(layer);
        net.graph.connect(layer, all, Connect::identity().delay(delay).to(Range::new(first, len)));
        first += len;
    }
    all
}

/// Gates that read the input and the state in one: a matrix of some of its columns in the loop, and of the others before.
pub fn gates_of_a_concat(m: usize, n: usize) -> Graph {
    let mut net = Net::new("gates_of_a_concat");
    let x = net.graph.input("x", m);
    let h = net.sum("h", n, Identity);
    let both = concat(&mut net, "both", &[(x, 0), (h, 1)]);
    let gate = net.dense("gate", n, Sigmoid, &[(both, 0)]);
    let reset = net.dense("reset", n, Sigmoid, &[(both, 0), (h, 2)]);
    let kept = net.product("kept", &[(reset, 0), (h, 1)]);
    let all = concat(&mut net, "all", &[(kept, 0), (x, 0), (gate, 0)]);
    let new = net.dense("new", n, Tanh, &[(all, 0), (both, 1)]);
    let mixed = net.product("mixed", &[(gate, 0), (new, 0)]);
    net.add(mixed, h, 1.0, 0);
    net.add(kept, h, 0.5, 0);
    net.out(h)
}

/// Gates of different sizes in one layer: their errors are one layer of the adjoint.
pub fn unequal_slices(m: usize, n: usize) -> Graph {
    let mut net = Net::new("unequal_slices");
    let x = net.graph.input("x", m);
    let (h, wide) = (net.graph.product("h", n, Identity), net.sum("wide", n + 1, Tanh));
    let sums = net.dense("sums", 2 * n + 1, Identity, &[(x, 0), (h, 1), (wide, 1)]);
    let gate = net.sum("gate", n, Sigmoid);
    net.graph.connect(sums, gate, Connect::identity().from(Range::new(0, n)));
    net.graph.connect(sums, wide, Connect::identity().from(Range::new(n, n + 1)));
    let state = net.dense("state", n, Tanh, &[(wide, 0)]);
    net.add(gate, h, 1.0, 0);
    net.add(state, h, 1.0, 0);
    net.out(h)
}

/// Copies of copies, of parts of them, of themselves frames before, and with starts of their own; some may be read
/// through, and some not.
pub fn copies_of_copies(m: usize, n: usize) -> Graph {
    let mut net = Net::new("copies_of_copies");
    let x = net.graph.input("x", m);
    let a = net.dense("a", n, Tanh, &[(x, 0)]);
    net.diagonal(a, a, 1);
    let b = net.dense("b", n + 1, Sigmoid, &[(x, 0), (a, 1)]);
    net.graph.set_start(b, Start::Constant(0.25));
    let c = net.dense("c", n, Tanh, &[(x, 0)]);
    net.learned_start(c);
    let both = concat(&mut net, "both", &[(a, 1), (b, 0), (x, 0)]);
    let more = concat(&mut net, "more", &[(both, 1), (c, 2), (a, -1)]);
    // A delay line: each frame, its units move on by those of x.
    let line = net.sum("line", 3 * m, Identity);
    net.graph.connect(x, line, Connect::identity().to(Range::new(0, m)));
    net.graph.connect(
        line,
        line,
        Connect::identity().from(Range::new(0, 2 * m)).to(Range::new(m, 2 * m)).delay(1),
    );
    // The name of a part across a seam, and copies with a start.
    let part = net.sum("part", n, Identity);
    net.graph.connect(more, part, Connect::identity().from(Range::new(1, n)));
    let named = net.sum("named", n, Identity);
    net.add(c, named, 1.0, 1);
    net.graph.set_start(named, Start::Constant(-0.5));
    let same = net.sum("same", n + 1, Identity);
    net.add(b, same, 1.0, 1);
    net.graph.set_start(same, Start::Constant(0.25));
    let still = net.sum("still", n, Identity);
    net.add(a, still, 1.0, 1);
    let squashed = net.map("squashed", Gelu, part);
    let y = net.dense(
        "y",
        n,
        Tanh,
        &[(more, 0), (both, 2), (both, -1), (line, 1), (named, 1), (same, 2), (still, 1)],
    );
    net.diagonal(named, y, 0);
    net.graph.connect(more, y, Connect::scaled(0.5).from(Range::new(0, n)).delay(-1));
    net.graph.connect(same, y, Connect::broadcast().from(Range::new(n, 1)).delay(1));
    let gated = net.product("gated", &[(y, 0), (squashed, 0), (still, 0), (named, 2)]);
    net.output(same);
    net.out(gated)
}

/// A state that is read in many places, also further back: what comes back of them is summed before it waits.
pub fn many_reads_of_a_state(m: usize, n: usize) -> Graph {
    let mut net = Net::new("many_reads_of_a_state");
    let x = net.graph.input("x", m);
    let z = net.dense("z", n, Tanh, &[(x, 0)]);
    let c = net.sum("c", n, Identity);
    let gates = ["f", "g", "k"].map(|name| {
        let gate = net.sum(name, n, Sigmoid);
        net.add(z, gate, 1.0, 0);
        net.diagonal(c, gate, 1);
        gate
    });
    net.diagonal(c, gates[2], 3);
    let kept = net.product("kept", &[(gates[0], 0), (c, 1)]);
    let older = net.product("older", &[(gates[1], 0), (c, 2)]);
    let new = net.product("new", &[(gates[2], 0), (z, 0)]);
    net.add(kept, c, 0.5, 0);
    net.add(older, c, 0.25, 0);
    net.add(new, c, 1.0, 0);
    net.out(c)
}
