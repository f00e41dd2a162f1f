//! The network as data: layers, connections with delays, weights, and the builder that makes them.
//!
//! Building only records; [`crate::validate`] checks sizes and [`crate::Components`] checks cycles. Every id is
//! an index into the graph that made it.

use crate::function::{Activation, Function};
use crate::init::Init;
use std::collections::HashMap;

/// A layer of a graph, by its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LayerId(pub(crate) u32);

/// A connection of a graph, by its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub(crate) u32);

/// A weight of a graph, by its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WeightId(pub(crate) u32);

macro_rules! index {
    ($($id:ty),*) => {$(
        impl $id {
            /// The place in the graph's list.
            pub fn index(self) -> usize {
                self.0 as usize
            }

            /// The id of a place in the graph's list.
            pub fn from_index(index: usize) -> Self {
                Self(u32::try_from(index).expect("a graph has fewer than 2^32 parts of a kind"))
            }
        }
    )*};
}
index!(LayerId, ConnectionId, WeightId);

/// A place in a text that a network came from, for messages. Which text `text` is, the reader knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    /// The text, by its number.
    pub text: u32,
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

/// A learned array. Its canonical shape is row-major: `[n]` for vectors, `[rows, columns]` for matrices,
/// `[heads, rows / heads, columns / heads]` for block-diagonal ones.
#[derive(Clone, Debug, PartialEq)]
pub struct Weight {
    /// Where it stands in the network: `h1.i.W.x`.
    pub name: String,
    /// The canonical shape.
    pub shape: Vec<usize>,
    /// How it begins.
    pub init: Init,
}

impl Weight {
    /// How many numbers it holds.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What a delayed read of a layer gives where it crosses a reset or the stream's ends.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub enum Start {
    /// 0 in every unit.
    #[default]
    Zero,
    /// The same number in every unit.
    Constant(f64),
    /// A learned vector of the layer's size.
    Learned(WeightId),
}

/// What a layer is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum LayerKind {
    /// A vector handed in for each frame.
    Input,
    /// One of `size` symbols handed in for each frame; as a vector, one-hot. Only full connections (a look-up)
    /// and [`Operation::CrossEntropy`] read it.
    Symbol,
    /// A learned vector, the same in all frames.
    Parameter(WeightId),
    /// In an adjoint graph: the value of that layer of the forward graph, its history included.
    Saved(LayerId),
    /// The sum of the incoming connections' terms.
    Sum,
    /// The elementwise product of the incoming connections' terms.
    Product,
    /// An operation on the incoming connections' terms, in their order.
    Operation(Operation),
}

/// Operations with operands in a fixed order. `groups = g` treats g equal parts of the vector apart.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs)] // `groups` is explained once, above
pub enum Operation {
    /// a / b
    Quotient,
    /// The larger of a and b; NaN if either is.
    Max,
    /// The smaller of a and b; NaN if either is.
    Min,
    /// exp(a_i) / sum_j exp(a_j)
    Softmax { groups: usize },
    /// a_i - log(sum_j exp(a_j))
    LogSoftmax { groups: usize },
    /// (a - mean) / sqrt(variance + epsilon) if `center` (layer norm), else a / sqrt(mean square + epsilon)
    /// (RMS norm). The gain and bias are connections of the layers that read it.
    Normalize { groups: usize, center: bool, epsilon: f64 },
    /// The sum of each of the groups: a layer of `groups` units.
    GroupSum { groups: usize },
    /// Operands: logits, and a symbol layer of as many symbols. One unit: `-log softmax(logits)[symbol]`, and 0 in
    /// frames without a symbol.
    CrossEntropy,
    /// No operands. In training 1 / (1 - p) with probability 1 - p and else 0, drawn afresh for each frame,
    /// stream and unit, keyed by the layer's name; otherwise 1.
    DropoutMask { probability: f64 },

    /// For the adjoints of max and min: 1 where a > b, 1/2 where a = b, else 0.
    Step,
    /// Operands: the error e of a softmax layer, and its value y. y (e - sum(e y))
    SoftmaxGradient { groups: usize },
    /// Operands: the error e of a log-softmax layer, and its value y. e - exp(y) sum(e)
    LogSoftmaxGradient { groups: usize },
    /// Operands: the error e of a [`Operation::Normalize`] layer, and its operand x.
    NormalizeGradient { groups: usize, center: bool, epsilon: f64 },
    /// Operands: the error e (one unit) of a cross-entropy layer, its logits, its symbols.
    /// e (softmax(logits) - one-hot(symbol)), and 0 in frames without a symbol.
    CrossEntropyGradient,
}

impl Operation {
    /// The operation's name in messages.
    pub fn name(self) -> &'static str {
        match self {
            Operation::Quotient => "quotient",
            Operation::Max => "max",
            Operation::Min => "min",
            Operation::Softmax { .. } => "softmax",
            Operation::LogSoftmax { .. } => "log_softmax",
            Operation::Normalize { center: true, .. } => "layer_norm",
            Operation::Normalize { center: false, .. } => "rms_norm",
            Operation::GroupSum { .. } => "sum over groups",
            Operation::CrossEntropy => "cross-entropy",
            Operation::DropoutMask { .. } => "dropout mask",
            Operation::Step => "step",
            Operation::SoftmaxGradient { .. } => "softmax gradient",
            Operation::LogSoftmaxGradient { .. } => "log_softmax gradient",
            Operation::NormalizeGradient { center: true, .. } => "layer_norm gradient",
            Operation::NormalizeGradient { center: false, .. } => "rms_norm gradient",
            Operation::CrossEntropyGradient => "cross-entropy gradient",
        }
    }

    /// How many operands it takes.
    pub fn operands(self) -> usize {
        match self {
            Operation::DropoutMask { .. } => 0,
            Operation::Softmax { .. }
            | Operation::LogSoftmax { .. }
            | Operation::Normalize { .. }
            | Operation::GroupSum { .. } => 1,
            Operation::Quotient
            | Operation::Max
            | Operation::Min
            | Operation::Step
            | Operation::CrossEntropy
            | Operation::SoftmaxGradient { .. }
            | Operation::LogSoftmaxGradient { .. }
            | Operation::NormalizeGradient { .. } => 2,
            Operation::CrossEntropyGradient => 3,
        }
    }

    /// Whether its operands have other sizes than its result. A connection into such a layer writes the units of
    /// the operand, not of the layer.
    pub fn changes_size(self) -> bool {
        matches!(self, Operation::GroupSum { .. } | Operation::CrossEntropy | Operation::CrossEntropyGradient)
    }

    /// Whether unit u of the result depends on unit u of the operands alone.
    pub fn is_elementwise(self) -> bool {
        matches!(
            self,
            Operation::Quotient
                | Operation::Max
                | Operation::Min
                | Operation::Step
                | Operation::DropoutMask { .. }
        )
    }
}

/// A layer: a vector of `size` units with a value in every frame of every stream.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer {
    /// Unique in the graph. An equation's name (`h1.c`), or, for a layer without a name of its own, its
    /// equation's name and a number (`h1.c.1`).
    pub name: String,
    /// Units; of a symbol layer, symbols.
    pub size: usize,
    /// What it computes.
    pub kind: LayerKind,
    /// Applied to the combined inputs. Identity for everything but sums and products.
    pub function: Function,
    /// What reads that cross a reset give.
    pub start: Start,
    /// Where it was written.
    pub origin: Option<Origin>,
}

/// A run of units of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Range {
    /// The first unit.
    pub start: usize,
    /// How many.
    pub len: usize,
}

impl Range {
    /// `start .. start + len`
    pub fn new(start: usize, len: usize) -> Range {
        Range { start, len }
    }

    /// One past the last unit.
    pub fn end(self) -> usize {
        self.start + self.len
    }
}

/// How the target's term follows from the source.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ConnectionKind {
    /// A weight matrix from all units read to all units written: W a, or, `transposed`, W^T a. With `heads` > 1
    /// it is block-diagonal. From a symbol layer it is a look-up.
    Full {
        /// `[rows, columns]`, or `[heads, rows / heads, columns / heads]`.
        weight: WeightId,
        /// 1, or the number of diagonal blocks.
        heads: usize,
        /// Multiply by the transpose (adjoints).
        transposed: bool,
    },
    /// One weight per unit (peepholes, gains).
    Diagonal {
        /// `[n]`
        weight: WeightId,
    },
    /// `scale` times the source.
    Identity {
        /// The factor.
        scale: f64,
    },
    /// `scale` times the source, each of its g units repeated n / g times in a row.
    Broadcast {
        /// The factor.
        scale: f64,
    },
    /// A number in every unit; it has no source.
    Constant {
        /// The number.
        value: f64,
    },
}

/// An edge of the graph: one term of the target layer.
#[derive(Clone, Debug, PartialEq)]
pub struct Connection {
    /// The layer read; of a constant, none.
    pub source: Option<LayerId>,
    /// The layer that has the term.
    pub target: LayerId,
    /// What is done on the way.
    pub kind: ConnectionKind,
    /// Frame t of the target reads frame t - delay of the source.
    pub delay: i64,
    /// The units read.
    pub source_range: Range,
    /// The units written; the term is 0 elsewhere.
    pub target_range: Range,
    /// No error flows back through it.
    pub stops_gradient: bool,
}

/// What is summed into the gradient of a weight over all frames and streams of a window. Only adjoint graphs
/// have these.
#[derive(Clone, Debug, PartialEq)]
pub struct Accumulation {
    /// The weight whose gradient this adds to.
    pub weight: WeightId,
    /// What is added in each frame.
    pub kind: AccumulationKind,
    /// The layer of the adjoint graph that has the error, delay 0.
    pub error: LayerId,
    /// The units of the error.
    pub error_range: Range,
}

/// What one frame adds to a weight's gradient.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum AccumulationKind {
    /// error(t) outer source(t - delay), within each of the `heads` diagonal blocks.
    Outer {
        /// The saved layer that the weight multiplied.
        source: LayerId,
        /// Its units.
        source_range: Range,
        /// Its delay.
        delay: i64,
        /// The number of diagonal blocks.
        heads: usize,
    },
    /// error(t) * source(t - delay), unit by unit.
    Diagonal {
        /// The saved layer that the weight multiplied.
        source: LayerId,
        /// Its units.
        source_range: Range,
        /// Its delay.
        delay: i64,
    },
    /// scale * error(t), added to the weight's units that `weight_range` names.
    Sum {
        /// The factor.
        scale: f64,
        /// The units of the weight.
        weight_range: Range,
    },
    /// error(t) in those frames where a read with this delay crosses a reset (a learned start).
    Start {
        /// The factor.
        scale: f64,
        /// The delay of the read.
        delay: i64,
        /// The units of the weight.
        weight_range: Range,
    },
}

impl AccumulationKind {
    /// The saved layer that is read, if one is.
    pub fn source(self) -> Option<LayerId> {
        match self {
            AccumulationKind::Outer { source, .. } | AccumulationKind::Diagonal { source, .. } => {
                Some(source)
            }
            AccumulationKind::Sum { .. } | AccumulationKind::Start { .. } => None,
        }
    }

    /// The same, reading another layer.
    pub(crate) fn map_source(mut self, map: impl Fn(LayerId) -> LayerId) -> AccumulationKind {
        if let AccumulationKind::Outer { source, .. } | AccumulationKind::Diagonal { source, .. } = &mut self
        {
            *source = map(*source);
        }
        self
    }
}

/// A layer that the network hands out, under a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// As users see it.
    pub name: String,
    /// The layer.
    pub layer: LayerId,
}

/// A recurrent network.
///
/// ```
/// use rnnc_graph::{Activation, Connect, Graph, Init};
/// // An Elman layer: h = tanh(W x + U h[t-1])
/// let mut graph = Graph::new("elman");
/// let x = graph.input("x", 3);
/// let h = graph.sum("h", 8, Activation::Tanh);
/// let w = graph.weight("h.W.x", &[8, 3], Init::Uniform(0.3));
/// let u = graph.weight("h.W.h[t-1]", &[8, 8], Init::Uniform(0.3));
/// graph.connect(x, h, Connect::full(w));
/// graph.connect(h, h, Connect::full(u).delay(1));
/// graph.output("h", h);
/// let components = rnnc_graph::Components::find(&graph).unwrap();
/// assert_eq!(components.list.len(), 2); // the input, and a loop
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Graph {
    name: String,
    layers: Vec<Layer>,
    connections: Vec<Connection>,
    incoming: Vec<Vec<ConnectionId>>,
    weights: Vec<Weight>,
    accumulations: Vec<Accumulation>,
    inputs: Vec<LayerId>,
    outputs: Vec<Output>,
    names: HashMap<String, LayerId>,
}

/// How a connection is to be made: see [`Graph::connect`].
#[derive(Clone, Copy, Debug)]
pub struct Connect {
    kind: ConnectionKind,
    delay: i64,
    source_range: Option<Range>,
    target_range: Option<Range>,
    stops_gradient: bool,
}

impl Connect {
    /// A connection of that kind, undelayed, between whole layers.
    pub fn new(kind: ConnectionKind) -> Connect {
        Connect { kind, delay: 0, source_range: None, target_range: None, stops_gradient: false }
    }

    /// A weight matrix.
    pub fn full(weight: WeightId) -> Connect {
        Connect::new(ConnectionKind::Full { weight, heads: 1, transposed: false })
    }

    /// One weight per unit.
    pub fn diagonal(weight: WeightId) -> Connect {
        Connect::new(ConnectionKind::Diagonal { weight })
    }

    /// The source as it is.
    pub fn identity() -> Connect {
        Connect::scaled(1.0)
    }

    /// A multiple of the source.
    pub fn scaled(scale: f64) -> Connect {
        Connect::new(ConnectionKind::Identity { scale })
    }

    /// Each unit of the source repeated.
    pub fn broadcast() -> Connect {
        Connect::new(ConnectionKind::Broadcast { scale: 1.0 })
    }

    /// Read the source `delay` frames ago (or, negative, ahead).
    pub fn delay(mut self, delay: i64) -> Connect {
        self.delay = delay;
        self
    }

    /// Read these units of the source only.
    pub fn from(mut self, range: Range) -> Connect {
        self.source_range = Some(range);
        self
    }

    /// Write these units of the target only.
    pub fn to(mut self, range: Range) -> Connect {
        self.target_range = Some(range);
        self
    }

    /// Let no error flow back.
    pub fn stop_gradient(mut self) -> Connect {
        self.stops_gradient = true;
        self
    }
}

impl Graph {
    /// An empty network.
    pub fn new(name: impl Into<String>) -> Graph {
        Graph { name: name.into(), ..Graph::default() }
    }

    /// The network's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Adds a layer. Its name, if taken, gets a number.
    pub fn add_layer(&mut self, mut layer: Layer) -> LayerId {
        let id = LayerId::from_index(self.layers.len());
        if self.names.contains_key(&layer.name) {
            layer.name = self.unused_name(&layer.name);
        }
        self.names.insert(layer.name.clone(), id);
        if matches!(layer.kind, LayerKind::Input | LayerKind::Symbol) {
            self.inputs.push(id);
        }
        self.layers.push(layer);
        self.incoming.push(Vec::new());
        id
    }

    fn unused_name(&self, name: &str) -> String {
        // Numbers double and halve, so that n layers of one name take n log n look-ups, not n squared.
        let taken = |k: usize| self.names.contains_key(&format!("{name}.{k}"));
        let mut high = 1;
        while taken(high) {
            high *= 2;
        }
        let mut low = high / 2;
        while low + 1 < high {
            let middle = (low + high) / 2;
            if taken(middle) { low = middle } else { high = middle }
        }
        format!("{name}.{high}")
    }

    /// Adds a layer of a kind, with no activation and start 0.
    pub fn layer(&mut self, name: impl Into<String>, size: usize, kind: LayerKind) -> LayerId {
        self.add_layer(Layer {
            name: name.into(),
            size,
            kind,
            function: Function::IDENTITY,
            start: Start::Zero,
            origin: None,
        })
    }

    /// Adds a vector input.
    pub fn input(&mut self, name: impl Into<String>, size: usize) -> LayerId {
        self.layer(name, size, LayerKind::Input)
    }

    /// Adds an input of one of `symbols` symbols.
    pub fn symbol(&mut self, name: impl Into<String>, symbols: usize) -> LayerId {
        self.layer(name, symbols, LayerKind::Symbol)
    }

    /// Adds a sum layer.
    pub fn sum(&mut self, name: impl Into<String>, size: usize, activation: Activation) -> LayerId {
        let id = self.layer(name, size, LayerKind::Sum);
        self.layers[id.index()].function = Function::Apply(activation);
        id
    }

    /// Adds a product layer.
    pub fn product(&mut self, name: impl Into<String>, size: usize, activation: Activation) -> LayerId {
        let id = self.layer(name, size, LayerKind::Product);
        self.layers[id.index()].function = Function::Apply(activation);
        id
    }

    /// Adds a layer that is an operation; connect its operands in order.
    pub fn operation(&mut self, name: impl Into<String>, size: usize, operation: Operation) -> LayerId {
        self.layer(name, size, LayerKind::Operation(operation))
    }

    /// Adds a learned vector as a layer.
    pub fn parameter(&mut self, name: impl Into<String>, weight: WeightId) -> LayerId {
        let size = self.weights[weight.index()].len();
        self.layer(name, size, LayerKind::Parameter(weight))
    }

    /// Adds a weight. Names are to be unique; [`crate::validate`] checks.
    pub fn weight(&mut self, name: impl Into<String>, shape: &[usize], init: Init) -> WeightId {
        self.weights.push(Weight { name: name.into(), shape: shape.to_vec(), init });
        WeightId::from_index(self.weights.len() - 1)
    }

    /// Adds a term to `target` that reads `source`.
    pub fn connect(&mut self, source: LayerId, target: LayerId, how: Connect) -> ConnectionId {
        let source_range = how.source_range.unwrap_or(Range::new(0, self.layer_at(source).size));
        let operand = match self.layer_at(target).kind {
            LayerKind::Operation(op) if op.changes_size() => source_range.len,
            _ => self.layer_at(target).size,
        };
        self.add_connection(Connection {
            source: Some(source),
            target,
            kind: how.kind,
            delay: how.delay,
            source_range,
            target_range: how.target_range.unwrap_or(Range::new(0, operand)),
            stops_gradient: how.stops_gradient,
        })
    }

    /// Adds a term to `target` that is a number.
    pub fn connect_constant(&mut self, value: f64, target: LayerId) -> ConnectionId {
        let size = self.layer_at(target).size;
        self.add_connection(Connection {
            source: None,
            target,
            kind: ConnectionKind::Constant { value },
            delay: 0,
            source_range: Range::new(0, 0),
            target_range: Range::new(0, size),
            stops_gradient: false,
        })
    }

    /// Adds a connection as it is.
    pub fn add_connection(&mut self, connection: Connection) -> ConnectionId {
        let id = ConnectionId::from_index(self.connections.len());
        self.incoming[connection.target.index()].push(id);
        self.connections.push(connection);
        id
    }

    /// Adds an accumulation (adjoint graphs).
    pub fn accumulate(&mut self, accumulation: Accumulation) {
        self.accumulations.push(accumulation);
    }

    /// Hands a layer out under a name.
    pub fn output(&mut self, name: impl Into<String>, layer: LayerId) {
        self.outputs.push(Output { name: name.into(), layer });
    }

    /// Sets what delayed reads of a layer give where they cross a reset.
    pub fn set_start(&mut self, layer: LayerId, start: Start) {
        self.layers[layer.index()].start = start;
    }

    /// The layer with that id.
    pub fn layer_at(&self, id: LayerId) -> &Layer {
        &self.layers[id.index()]
    }

    /// The layer with that id, to change.
    pub fn layer_at_mut(&mut self, id: LayerId) -> &mut Layer {
        &mut self.layers[id.index()]
    }

    /// The connection with that id.
    pub fn connection_at(&self, id: ConnectionId) -> &Connection {
        &self.connections[id.index()]
    }

    /// The ids of all connections.
    pub(crate) fn connection_ids(&self) -> impl Iterator<Item = ConnectionId> + use<> {
        (0..self.connections.len()).map(ConnectionId::from_index)
    }

    /// The connection with that id, to change all but its target.
    pub(crate) fn connection_at_mut(&mut self, id: ConnectionId) -> &mut Connection {
        &mut self.connections[id.index()]
    }

    /// Makes the terms of one layer those of another.
    pub(crate) fn move_incoming(&mut self, from: LayerId, to: LayerId) {
        let moved = std::mem::take(&mut self.incoming[from.index()]);
        for id in &moved {
            self.connections[id.index()].target = to;
        }
        self.incoming[to.index()].extend(moved);
    }

    /// The accumulations, to change.
    pub(crate) fn accumulations_mut(&mut self) -> &mut [Accumulation] {
        &mut self.accumulations
    }

    /// The graph without the layers that are not `kept`. All that a kept layer reads must be kept.
    pub(crate) fn retain(&self, kept: &[bool]) -> Graph {
        let mut out = Graph::new(self.name.clone());
        let mut new = vec![LayerId(u32::MAX); self.layers.len()];
        for id in self.layer_ids().filter(|id| kept[id.index()]) {
            new[id.index()] = out.add_layer(self.layers[id.index()].clone());
        }
        // Layer by layer, so that operands keep their order.
        for id in self.layer_ids().filter(|id| kept[id.index()]) {
            for c in self.incoming(id) {
                let source = c.source.map(|s| new[s.index()]);
                out.add_connection(Connection { source, target: new[id.index()], ..c.clone() });
            }
        }
        out.weights.clone_from(&self.weights);
        out.accumulations = self
            .accumulations
            .iter()
            .map(|a| Accumulation {
                error: new[a.error.index()],
                kind: a.kind.map_source(|s| new[s.index()]),
                ..a.clone()
            })
            .collect();
        out.outputs = self
            .outputs
            .iter()
            .map(|o| Output { name: o.name.clone(), layer: new[o.layer.index()] })
            .collect();
        out
    }

    /// The weight with that id.
    pub fn weight_at(&self, id: WeightId) -> &Weight {
        &self.weights[id.index()]
    }

    /// All layers, in the order of their ids.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// The ids of all layers.
    pub fn layer_ids(&self) -> impl Iterator<Item = LayerId> + use<> {
        (0..self.layers.len()).map(LayerId::from_index)
    }

    /// All connections, in the order of their ids.
    pub fn connections(&self) -> &[Connection] {
        &self.connections
    }

    /// The connections into a layer, in the order in which they were made.
    pub fn incoming(&self, layer: LayerId) -> impl Iterator<Item = &Connection> + Clone {
        self.incoming[layer.index()].iter().map(|id| &self.connections[id.index()])
    }

    /// The ids of the connections into a layer.
    pub fn incoming_ids(&self, layer: LayerId) -> &[ConnectionId] {
        &self.incoming[layer.index()]
    }

    /// For each layer, the connections that read it.
    pub fn outgoing(&self) -> Vec<Vec<ConnectionId>> {
        let mut outgoing = vec![Vec::new(); self.layers.len()];
        for (i, connection) in self.connections.iter().enumerate() {
            if let Some(source) = connection.source {
                outgoing[source.index()].push(ConnectionId::from_index(i));
            }
        }
        outgoing
    }

    /// All weights, in the order of their ids.
    pub fn weights(&self) -> &[Weight] {
        &self.weights
    }

    /// All accumulations.
    pub fn accumulations(&self) -> &[Accumulation] {
        &self.accumulations
    }

    /// The inputs, vectors and symbols, in the order in which they were made.
    pub fn inputs(&self) -> &[LayerId] {
        &self.inputs
    }

    /// The outputs, in the order in which they were made.
    pub fn outputs(&self) -> &[Output] {
        &self.outputs
    }

    /// The layer of that name.
    pub fn find_layer(&self, name: &str) -> Option<LayerId> {
        self.names.get(name).copied()
    }

    /// The weight of that name.
    pub fn find_weight(&self, name: &str) -> Option<WeightId> {
        self.weights.iter().position(|w| w.name == name).map(WeightId::from_index)
    }

    /// Whether some connection looks ahead.
    pub fn looks_ahead(&self) -> bool {
        self.connections.iter().any(|c| c.delay < 0)
    }

    /// For each layer, how many past frames of it are read: the largest positive delay of the connections that
    /// read it, 0 for most.
    pub fn history_depths(&self) -> Vec<usize> {
        let mut depths = vec![0; self.layers.len()];
        for c in &self.connections {
            if let Some(source) = c.source {
                let depth = usize::try_from(c.delay.max(0)).unwrap_or(usize::MAX);
                depths[source.index()] = depths[source.index()].max(depth);
            }
        }
        depths
    }
}
