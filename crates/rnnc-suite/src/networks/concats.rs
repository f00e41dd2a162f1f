//! Networks whose layers have parts side by side, each with terms of its own: sums, products, broadcasts, diagonals,
//! matrices and recurrences within a concatenation.

use crate::net::{Net, part};
use rnnc_graph::Activation::{Identity, Sigmoid, Tanh};
use rnnc_graph::{Connect, Graph, Init, LayerId, Range};

/// Parts of a layer, from the one behind the other on.
struct Parts {
    target: LayerId,
    first: usize,
}

impl Parts {
    /// The next units of the layer.
    fn next(&mut self, len: usize) -> Range {
        self.first += len;
        Range::new(self.first - len, len)
    }

    fn add(&mut self, net: &mut Net, source: LayerId, len: usize, how: Connect) -> Range {
        let to = self.next(len);
        net.graph.connect(source, self.target, how.to(to));
        to
    }
}

/// concat(x, broadcast(a), a + x, broadcast(b) c, diag(c), W c, 0.5), and slices of it across its seams.
pub fn concat_of_all(m: usize, n: usize) -> Graph {
    let mut net = Net::new("concat_of_all");
    let x = net.graph.input("x", m);
    let a = net.dense("a", part(n), Tanh, &[(x, 0)]);
    let b = net.dense("b", 1, Sigmoid, &[(x, 0)]);
    let c = net.dense("c", n, Tanh, &[(x, 0)]);
    let product = net.graph.product("product", n, Identity);
    net.graph.connect(b, product, Connect::broadcast());
    net.add(c, product, 1.0, 1);
    let size = m + 4 * n + 2 * n + 1;
    let all = net.sum("all", size, Identity);
    let mut parts = Parts { target: all, first: 0 };
    parts.add(&mut net, x, m, Connect::identity());
    parts.add(&mut net, a, 2 * n, Connect::broadcast().delay(1));
    let sum = parts.add(&mut net, a, n, Connect::broadcast());
    net.graph.connect(c, all, Connect::scaled(0.5).to(sum));
    parts.add(&mut net, product, n, Connect::identity());
    let diagonal = net.graph.weight("all.diag", &[n], Init::Uniform(0.5));
    parts.add(&mut net, c, n, Connect::diagonal(diagonal));
    let matrix = net.graph.weight("all.W", &[n, part(n)], Init::Glorot);
    parts.add(&mut net, a, n, Connect::full(matrix));
    // One unit that nothing reaches.
    parts.next(1);
    net.learned_start(a);
    // Units from the middle of one part to that of another, and a few of them repeated, read as they are and a frame later.
    let slice = net.sum("slice", 2 * n, Tanh);
    net.graph.connect(all, slice, Connect::identity().from(Range::new(m + n, 2 * n)));
    net.graph.connect(all, slice, Connect::broadcast().from(Range::new(m + 2 * n, n)).delay(1));
    net.graph.connect(all, slice, Connect::broadcast().from(Range::new(m + 3 * n, 1)).to(Range::new(1, n)));
    net.output(all);
    net.out(slice)
}

/// A loop whose state is put together of broadcasts, a matrix's part, and what stands elsewhere in it.
pub fn concat_in_a_loop(m: usize, n: usize) -> Graph {
    let mut net = Net::new("concat_in_a_loop");
    let x = net.graph.input("x", m);
    let z = net.dense("z", n, Tanh, &[(x, 0)]);
    let h = net.sum("h", 3 * n, Tanh);
    let few = net.dense("few", part(n), Sigmoid, &[(x, 0), (h, 1)]);
    let one = net.dense("one", 1, Tanh, &[(x, 0)]);
    net.full(h, one, 1);
    let mut parts = Parts { target: h, first: 0 };
    let first = parts.add(&mut net, z, n, Connect::identity());
    net.graph.connect(h, h, Connect::scaled(0.5).from(Range::new(2 * n, n)).to(first).delay(1));
    let second = parts.add(&mut net, few, n, Connect::broadcast());
    net.graph.connect(z, h, Connect::scaled(0.3).to(second));
    let gated = net.graph.product("gated", n, Identity);
    net.graph.connect(h, gated, Connect::identity().from(first).delay(1));
    net.graph.connect(few, gated, Connect::broadcast());
    let third = parts.add(&mut net, gated, n, Connect::identity());
    net.graph.connect(one, h, Connect::broadcast().to(third));
    net.learned_start(h);
    net.out(h)
}

/// A scan of which each part decays in its own way, and is fed in its own way: the second by repeated values of outside, of
/// this frame and of one before, with a learned start.
pub fn concat_in_a_scan(m: usize, n: usize) -> Graph {
    let mut net = Net::new("concat_in_a_scan");
    let x = net.graph.input("x", m);
    let z = net.dense("z", n, Tanh, &[(x, 0)]);
    let few = net.dense("few", part(n), Sigmoid, &[(x, 0)]);
    net.learned_start(few);
    let c = net.sum("c", 3 * n, Identity);
    let [first, second, third] = [0, 1, 2].map(|k| Range::new(k * n, n));
    net.add(c, c, 0.4, 1);
    net.graph.connect(z, c, Connect::identity().to(first));
    net.graph.connect(few, c, Connect::broadcast().to(second));
    net.graph.connect(few, c, Connect::broadcast().to(Range::new(n, 2 * n)).delay(1));
    let decay = net.graph.weight("c.decay", &[n], Init::Uniform(0.5));
    net.graph.connect(c, c, Connect::diagonal(decay).from(third).to(third).delay(1));
    net.learned_start(c);
    let y = net.sum("y", 2 * n, Identity);
    net.graph.connect(c, y, Connect::identity().from(Range::new(n / 2, 2 * n)));
    net.graph.connect(c, y, Connect::broadcast().from(second).delay(1));
    net.out(y)
}

/// A mask that is called as the adjoint calls the error of an output, and others in parts of a layer and in a loop.
pub fn masks(m: usize, n: usize) -> Graph {
    let mut net = Net::new("masks");
    let x = net.graph.input("x", m);
    let z = net.dense("z", n, Tanh, &[(x, 0)]);
    let mask = net.mask("d_out", n, 0.5);
    let out = net.product("out", &[(z, 0), (mask, 0)]);
    let h = net.sum("h", 2 * n, Tanh);
    let wide = net.mask("d h", 2 * n, 0.25);
    net.graph.connect(wide, h, Connect::scaled(0.3));
    net.graph.connect(out, h, Connect::identity().to(Range::new(n, n)));
    let kept = net.graph.product("kept", n, Identity);
    net.graph.connect(wide, kept, Connect::identity().from(Range::new(n / 2, n)).delay(1));
    net.graph.connect(h, kept, Connect::identity().from(Range::new(n, n)).delay(1));
    net.graph.connect(mask, kept, Connect::identity());
    net.graph.connect(kept, h, Connect::identity().to(Range::new(0, n)));
    // Slices of a product with a mask, by which it is shared out.
    let shared = net.product("shared", &[(h, 0), (wide, 0)]);
    let y = net.sum("y", n, Identity);
    for k in 0..2 {
        net.graph.connect(shared, y, Connect::scaled(0.7).from(Range::new(k * n, n)));
    }
    net.output(out);
    net.out(y)
}
