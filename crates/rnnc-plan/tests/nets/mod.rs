//! Networks for the tests of plans, built layer by layer, as their equations are written.
#![allow(dead_code)] // each test file uses some of them

use rnnc_graph::{Activation, Connect, ConnectionKind, Graph, Init, LayerId, LayerKind, Operation, Range};

pub mod random;

pub use Activation::{Identity, Sigmoid, Tanh};

/// A graph under construction.
pub struct Net {
    pub graph: Graph,
}

impl Net {
    pub fn new(name: &str) -> Net {
        Net { graph: Graph::new(name) }
    }

    fn name(&self, layer: LayerId) -> String {
        self.graph.layer_at(layer).name.clone()
    }

    fn unused(&self, name: String) -> String {
        if self.graph.find_weight(&name).is_none() {
            name
        } else {
            format!("{name}.{}", self.graph.weights().len())
        }
    }

    pub fn size(&self, layer: LayerId) -> usize {
        self.graph.layer_at(layer).size
    }

    /// `name = f(dense(reads; n))`, the reads to be added by [`Net::full`] or given.
    pub fn dense(&mut self, name: &str, n: usize, f: Activation, reads: &[(LayerId, i64)]) -> LayerId {
        let layer = self.graph.sum(name, n, f);
        let weight = self.graph.weight(format!("{name}.bias"), &[n], Init::Zeros);
        let bias = self.graph.parameter(format!("{name}.bias"), weight);
        self.graph.connect(bias, layer, Connect::identity());
        for &(source, delay) in reads {
            self.full(source, layer, delay);
        }
        layer
    }

    /// Adds a matrix times a layer.
    pub fn full(&mut self, source: LayerId, target: LayerId, delay: i64) {
        self.heads(source, target, delay, 1);
    }

    /// Adds a block-diagonal matrix times a layer.
    pub fn heads(&mut self, source: LayerId, target: LayerId, delay: i64, heads: usize) {
        let (rows, columns) = (self.size(target), self.size(source));
        let shape = if heads == 1 { vec![rows, columns] } else { vec![heads, rows / heads, columns / heads] };
        let name = self.unused(format!("{}.W.{}[{delay}]", self.name(target), self.name(source)));
        let weight = self.graph.weight(name, &shape, Init::Glorot);
        let kind = ConnectionKind::Full { weight, heads, transposed: false, part: None };
        self.graph.connect(source, target, Connect::new(kind).delay(delay));
    }

    /// Adds `diag(source[t-delay])`.
    pub fn diag(&mut self, source: LayerId, target: LayerId, delay: i64) {
        let name = self.unused(format!("{}.diag.{}[{delay}]", self.name(target), self.name(source)));
        let weight = self.graph.weight(name, &[self.size(target)], Init::Uniform(0.5));
        self.graph.connect(source, target, Connect::diagonal(weight).delay(delay));
    }

    /// Adds a layer as it is.
    pub fn add(&mut self, source: LayerId, target: LayerId, delay: i64) {
        self.graph.connect(source, target, Connect::identity().delay(delay));
    }

    pub fn product(&mut self, name: &str, factors: &[(LayerId, i64)]) -> LayerId {
        let layer = self.graph.product(name, self.size(factors[0].0), Identity);
        factors.iter().for_each(|&(source, delay)| self.add(source, layer, delay));
        layer
    }

    pub fn map(&mut self, name: &str, f: Activation, source: LayerId) -> LayerId {
        let layer = self.graph.sum(name, self.size(source), f);
        self.add(source, layer, 0);
        layer
    }

    /// `1 - source`
    pub fn complement(&mut self, name: &str, source: LayerId) -> LayerId {
        let layer = self.graph.sum(name, self.size(source), Identity);
        self.graph.connect_constant(1.0, layer);
        self.graph.connect(source, layer, Connect::scaled(-1.0));
        layer
    }

    /// Hands a layer out under its name.
    pub fn out(mut self, layer: LayerId) -> Graph {
        let name = self.name(layer);
        self.graph.output(name, layer);
        self.graph
    }

    /// An LSTM written as four `dense` lines; its state and output.
    pub fn lstm(&mut self, at: &str, x: LayerId, n: usize, peepholes: bool, step: i64) -> LayerId {
        let name = |part: &str| format!("{at}.{part}");
        let i = self.dense(&name("i"), n, Sigmoid, &[(x, 0)]);
        let f = self.dense(&name("f"), n, Sigmoid, &[(x, 0)]);
        let z = self.dense(&name("z"), n, Tanh, &[(x, 0)]);
        let o = self.dense(&name("o"), n, Sigmoid, &[(x, 0)]);
        let c = self.graph.sum(name("c"), n, Identity);
        let keep = self.product(&name("c.1"), &[(f, 0), (c, step)]);
        let write = self.product(&name("c.2"), &[(i, 0), (z, 0)]);
        self.add(keep, c, 0);
        self.add(write, c, 0);
        let squashed = self.map(&name("h.1"), Tanh, c);
        let h = self.product(&name("h"), &[(o, 0), (squashed, 0)]);
        for gate in [i, f, z, o] {
            self.full(h, gate, step);
        }
        if peepholes {
            self.diag(c, i, step);
            self.diag(c, f, step);
            self.diag(c, o, 0);
        }
        h
    }
}

/// One LSTM layer of `n` units over `m` inputs.
pub fn lstm(m: usize, n: usize, peepholes: bool) -> Graph {
    let mut net = Net::new("lstm");
    let x = net.graph.input("x", m);
    let h = net.lstm("lstm", x, n, peepholes, 1);
    net.out(h)
}

/// Symbols through two peephole LSTM layers to logits.
pub fn text_model(symbols: usize, n: usize) -> Graph {
    let mut net = Net::new("text_model");
    let x = net.graph.symbol("x", symbols);
    let h1 = net.lstm("h1", x, n, true, 1);
    let h2 = net.lstm("h2", h1, n, true, 1);
    let y = net.dense("y", symbols, Identity, &[(h2, 0)]);
    net.out(y)
}

/// Cho et al. (2014): the reset gate before the product.
pub fn gru(m: usize, n: usize) -> Graph {
    let mut net = Net::new("gru");
    let x = net.graph.input("x", m);
    let r = net.dense("r", n, Sigmoid, &[(x, 0)]);
    let z = net.dense("z", n, Sigmoid, &[(x, 0)]);
    let candidate = net.dense("n", n, Tanh, &[(x, 0)]);
    let h = net.graph.sum("h", n, Identity);
    let gated = net.product("gated", &[(r, 0), (h, 1)]);
    net.full(gated, candidate, 0);
    finish_gru(net, h, r, z, candidate)
}

/// cuDNN's: the reset gate after the product.
pub fn gru_reset_after(m: usize, n: usize) -> Graph {
    let mut net = Net::new("gru_reset_after");
    let x = net.graph.input("x", m);
    let r = net.dense("r", n, Sigmoid, &[(x, 0)]);
    let z = net.dense("z", n, Sigmoid, &[(x, 0)]);
    let candidate = net.dense("n", n, Tanh, &[(x, 0)]);
    let h = net.graph.sum("h", n, Identity);
    let hidden = net.dense("hidden", n, Identity, &[(h, 1)]);
    let gated = net.product("gated", &[(r, 0), (hidden, 0)]);
    net.add(gated, candidate, 0);
    finish_gru(net, h, r, z, candidate)
}

fn finish_gru(mut net: Net, h: LayerId, r: LayerId, z: LayerId, candidate: LayerId) -> Graph {
    net.full(h, r, 1);
    net.full(h, z, 1);
    let rest = net.complement("rest", z);
    let new = net.product("new", &[(rest, 0), (candidate, 0)]);
    let kept = net.product("kept", &[(z, 0), (h, 1)]);
    net.add(new, h, 0);
    net.add(kept, h, 0);
    net.out(h)
}

/// Lei et al. (2018), without peepholes.
pub fn sru(m: usize, n: usize) -> Graph {
    let mut net = Net::new("sru");
    let x = net.graph.input("x", m);
    let w = net.graph.sum("w", n, Identity);
    net.full(x, w, 0);
    let f = net.dense("f", n, Sigmoid, &[(x, 0)]);
    let r = net.dense("r", n, Sigmoid, &[(x, 0)]);
    let skip = net.dense("skip", n, Identity, &[(x, 0)]);
    let c = net.graph.sum("c", n, Identity);
    let kept = net.product("kept", &[(f, 0), (c, 1)]);
    let rest = net.complement("rest", f);
    let new = net.product("new", &[(rest, 0), (w, 0)]);
    net.add(kept, c, 0);
    net.add(new, c, 0);
    let squashed = net.map("squashed", Tanh, c);
    let a = net.product("a", &[(r, 0), (squashed, 0)]);
    let other = net.complement("other", r);
    let b = net.product("b", &[(other, 0), (skip, 0)]);
    let h = net.graph.sum("h", n, Identity);
    net.add(a, h, 0);
    net.add(b, h, 0);
    net.out(h)
}

/// `h = tanh(dense(x, h[t-delay]))`
pub fn elman(m: usize, n: usize, delay: i64) -> Graph {
    let mut net = Net::new("elman");
    let x = net.graph.input("x", m);
    let h = net.dense("h", n, Tanh, &[(x, 0)]);
    net.full(h, h, delay);
    net.out(h)
}

/// Two LSTM layers that read the same input and nothing of each other.
pub fn two_towers(m: usize, n: usize) -> Graph {
    let mut net = Net::new("two_towers");
    let x = net.graph.input("x", m);
    let a = net.lstm("a", x, n, false, 1);
    let b = net.lstm("b", x, n, false, 1);
    let y = net.dense("y", 4, Identity, &[(a, 0), (b, 0)]);
    net.out(y)
}

/// A loop whose matrix is block-diagonal.
pub fn heads(m: usize, n: usize, heads: usize) -> Graph {
    let mut net = Net::new("heads");
    let x = net.graph.input("x", m);
    let h = net.dense("h", n, Tanh, &[(x, 0)]);
    net.heads(h, h, 1, heads);
    net.out(h)
}

/// An LSTM layer in each direction, side by side.
pub fn bidirectional(m: usize, n: usize) -> Graph {
    let mut net = Net::new("bidirectional");
    let x = net.graph.input("x", m);
    let past = net.lstm("past", x, n, false, 1);
    let future = net.lstm("future", x, n, false, -1);
    let both = net.graph.sum("both", 2 * n, Identity);
    net.graph.connect(past, both, Connect::identity().to(Range::new(0, n)));
    net.graph.connect(future, both, Connect::identity().to(Range::new(n, n)));
    net.out(both)
}

/// A learned mixture over the vector: a softmax in the middle of a loop.
pub fn softmax_loop(m: usize, n: usize) -> Graph {
    let mut net = Net::new("softmax_loop");
    let x = net.graph.input("x", m);
    let a = net.dense("a", n, Identity, &[(x, 0)]);
    let s = net.graph.layer("s", n, LayerKind::Operation(Operation::Softmax { groups: 1 }));
    net.add(a, s, 0);
    net.full(s, a, 1);
    net.out(s)
}
