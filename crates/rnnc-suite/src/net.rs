//! A short hand for building the suite's networks.

use rnnc_graph::{Activation, Connect, ConnectionKind, Graph, Init, LayerId, Operation, Range};

/// The largest of 1, 2, 3, 4 that divides n: a number of groups or heads.
pub(crate) fn part(n: usize) -> usize {
    (1..=4).rev().find(|k| n.is_multiple_of(*k)).unwrap_or(1)
}

/// A graph under construction, whose weights name themselves.
#[derive(Debug)]
pub struct Net {
    /// The graph so far.
    pub graph: Graph,
}

impl Net {
    /// An empty network.
    pub fn new(name: &str) -> Net {
        Net { graph: Graph::new(name) }
    }

    /// The units of a layer.
    pub fn size(&self, layer: LayerId) -> usize {
        self.graph.layer_at(layer).size
    }

    fn weight_name(&self, what: &str, target: LayerId) -> String {
        format!("{}.{what}.{}", self.graph.layer_at(target).name, self.graph.weights().len())
    }

    /// A sum layer without terms.
    pub fn sum(&mut self, name: &str, size: usize, activation: Activation) -> LayerId {
        self.graph.sum(name, size, activation)
    }

    /// A sum layer with a bias and a full connection from each of the layers, delayed as told.
    pub fn dense(
        &mut self,
        name: &str,
        size: usize,
        activation: Activation,
        reads: &[(LayerId, i64)],
    ) -> LayerId {
        let layer = self.sum(name, size, activation);
        self.bias(layer);
        for &(source, delay) in reads {
            self.full(source, layer, delay);
        }
        layer
    }

    /// A product layer of the layers, delayed as told.
    pub fn product(&mut self, name: &str, factors: &[(LayerId, i64)]) -> LayerId {
        let size = self.size(factors[0].0);
        let layer = self.graph.product(name, size, Activation::Identity);
        for &(source, delay) in factors {
            self.add(source, layer, 1.0, delay);
        }
        layer
    }

    /// f of a layer, unit by unit.
    pub fn map(&mut self, name: &str, activation: Activation, source: LayerId) -> LayerId {
        let layer = self.sum(name, self.size(source), activation);
        self.add(source, layer, 1.0, 0);
        layer
    }

    /// f of the `slice`th of the slices of `len` units of a layer.
    pub fn slice(
        &mut self,
        name: &str,
        activation: Activation,
        source: LayerId,
        slice: usize,
        len: usize,
    ) -> LayerId {
        let layer = self.sum(name, len, activation);
        self.graph.connect(source, layer, Connect::identity().from(Range::new(slice * len, len)));
        layer
    }

    /// An operation of the operands, delayed as told.
    pub fn operation(
        &mut self,
        name: &str,
        size: usize,
        operation: Operation,
        operands: &[(LayerId, i64)],
    ) -> LayerId {
        let layer = self.graph.operation(name, size, operation);
        for &(source, delay) in operands {
            let whole = Range::new(0, self.size(source));
            self.graph.connect(source, layer, Connect::identity().delay(delay).to(whole));
        }
        layer
    }

    /// A dropout mask.
    pub fn mask(&mut self, name: &str, size: usize, probability: f64) -> LayerId {
        self.graph.mask(name, size, probability)
    }

    /// A learned vector.
    pub fn parameter(&mut self, name: &str, size: usize) -> LayerId {
        let weight = self.graph.weight(format!("{name}.param"), &[size], Init::Uniform(0.5));
        self.graph.parameter(name, weight)
    }

    /// Adds a learned vector.
    pub fn bias(&mut self, target: LayerId) {
        let name = self.weight_name("bias", target);
        let bias = self.parameter(&name, self.size(target));
        self.add(bias, target, 1.0, 0);
    }

    /// Adds a matrix times a layer.
    pub fn full(&mut self, source: LayerId, target: LayerId, delay: i64) {
        self.heads(source, target, delay, 1);
    }

    /// Adds a block-diagonal matrix times a layer.
    pub fn heads(&mut self, source: LayerId, target: LayerId, delay: i64, heads: usize) {
        let (rows, columns) = (self.size(target), self.size(source));
        let shape = match heads {
            1 => vec![rows, columns],
            _ => vec![heads, rows / heads, columns / heads],
        };
        let name = self.weight_name("W", target);
        let weight = self.graph.weight(name, &shape, Init::Glorot);
        let kind = ConnectionKind::Full { weight, heads, transposed: false, part: None };
        self.graph.connect(source, target, Connect::new(kind).delay(delay));
    }

    /// Adds one weight per unit times a layer.
    pub fn diagonal(&mut self, source: LayerId, target: LayerId, delay: i64) {
        let name = self.weight_name("diag", target);
        let weight = self.graph.weight(name, &[self.size(target)], Init::Uniform(0.5));
        self.graph.connect(source, target, Connect::diagonal(weight).delay(delay));
    }

    /// Adds a multiple of a layer.
    pub fn add(&mut self, source: LayerId, target: LayerId, scale: f64, delay: i64) {
        self.graph.connect(source, target, Connect::scaled(scale).delay(delay));
    }

    /// A learned start for a layer.
    pub fn learned_start(&mut self, layer: LayerId) {
        let name = format!("{}.start", self.graph.layer_at(layer).name);
        let weight = self.graph.weight(name, &[self.size(layer)], Init::Uniform(0.5));
        self.graph.set_start(layer, rnnc_graph::Start::Learned(weight));
    }

    /// Hands a layer out under its own name, and the network as a whole.
    pub fn out(mut self, layer: LayerId) -> Graph {
        self.output(layer);
        self.graph
    }

    /// Hands a layer out under its own name.
    pub fn output(&mut self, layer: LayerId) {
        let name = self.graph.layer_at(layer).name.clone();
        self.graph.output(name, layer);
    }
}
