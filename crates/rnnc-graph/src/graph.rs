//! The network as data, and the builder that makes it.
//!
//! Building only records; [`crate::validate`] checks sizes and [`crate::Components`] checks cycles. Every id is
//! an index into the graph that made it.

use crate::activations::{Activation, Function};
use crate::error::GraphError;
use crate::hash::name_key;
use crate::init::Init;
use crate::nearest::nearest;
use crate::ops::Operation;
use crate::parts::{
    Accumulation, Connection, ConnectionId, ConnectionKind, Layer, LayerId, LayerKind, Output, Range, Start,
    Weight, WeightId,
};
use std::collections::{HashMap, HashSet};

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
    derived: Vec<Weight>,
    accumulations: Vec<Accumulation>,
    inputs: Vec<LayerId>,
    outputs: Vec<Output>,
    held: Vec<LayerId>,
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
        Connect::new(ConnectionKind::Full { weight, heads: 1, transposed: false, part: None })
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
            error_of: None,
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

    /// Adds a dropout mask.
    pub fn mask(&mut self, name: impl Into<String>, size: usize, probability: f64) -> LayerId {
        let id = self.layer(name, size, LayerKind::Sum);
        self.make_mask(id, probability);
        id
    }

    /// Makes a layer a dropout mask. Its key is that of the name which the layer has in this graph, where no other has it;
    /// from now on it is the mask's own, and graphs that are made of this one keep it, whatever they call the layer.
    pub fn make_mask(&mut self, layer: LayerId, probability: f64) {
        let layer = &mut self.layers[layer.index()];
        let key = name_key(&layer.name);
        layer.kind = LayerKind::Operation(Operation::DropoutMask { probability, key });
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

    /// Holds a layer as state: its last values go into a call and come out of it, under its own name. So what reads it is never
    /// made to read what it copies, and it is kept even if nothing reads it, as if it were read in the next frame.
    pub fn hold(&mut self, layer: LayerId) {
        if !self.held.contains(&layer) {
            self.held.push(layer);
        }
    }

    /// Holds the state of the network: the layers of these names, in that order; or, without names, all that are read with a
    /// positive delay.
    ///
    /// # Errors
    /// A name that no layer has, or that comes twice; a layer that is read with a delay, and is not among them.
    pub fn hold_state(&mut self, names: Option<&[&str]>) -> Result<(), GraphError> {
        let delayed = self.history_depths();
        let delayed = || self.layer_ids().filter(|id| delayed[id.index()] > 0);
        let Some(names) = names else {
            self.held = delayed().collect();
            return Ok(());
        };
        let mut held = Vec::with_capacity(names.len());
        let mut seen = HashSet::new();
        for &name in names {
            let layer = self.find_layer(name).ok_or_else(|| {
                let all = self.layers.iter().map(|layer| &*layer.name);
                let hint =
                    nearest(name, all).map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
                GraphError::State(format!("the network has no layer `{name}` to be state{hint}"))
            })?;
            if !seen.insert(layer) {
                return Err(GraphError::State(format!("`{name}` is named twice as state")));
            }
            held.push(layer);
        }
        if let Some(missing) = delayed().find(|id| !seen.contains(id)) {
            let name = &self.layer_at(missing).name;
            let problem = format!("`{name}` is read with a delay, and is not named as state: name it too");
            return Err(GraphError::State(problem));
        }
        self.held = held;
        Ok(())
    }

    /// The layers that are held as state, in that order.
    pub fn held(&self) -> &[LayerId] {
        &self.held
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

    /// Leaves a layer those of its terms only, in that order.
    pub(crate) fn keep_incoming(&mut self, layer: LayerId, kept: Vec<ConnectionId>) {
        self.incoming[layer.index()] = kept;
    }

    /// The accumulations, handed out to be put back with [`Graph::accumulate`].
    pub(crate) fn take_accumulations(&mut self) -> Vec<Accumulation> {
        std::mem::take(&mut self.accumulations)
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
        out.derived.clone_from(&self.derived);
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
        out.held = self.held.iter().map(|id| new[id.index()]).collect();
        out
    }

    /// The weight with that id.
    pub fn weight_at(&self, id: WeightId) -> &Weight {
        let place = id.index();
        self.weights.get(place).unwrap_or_else(|| &self.derived[place - self.weights.len()])
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

    /// All learned weights, in the order of their ids.
    pub fn weights(&self) -> &[Weight] {
        &self.weights
    }

    /// The vectors that are computed of weights alone, whose ids come after those of the weights: see
    /// [`crate::split_constants`].
    pub fn derived(&self) -> &[Weight] {
        &self.derived
    }

    /// Adds a derived weight.
    pub(crate) fn derive_weight(&mut self, name: String, size: usize) -> WeightId {
        let weight = WeightId::from_index(self.weights.len() + self.derived.len());
        self.derived.push(Weight { name, shape: vec![size], init: Init::Zeros });
        weight
    }

    /// Makes a layer the parameter of a weight.
    pub(crate) fn make_parameter(&mut self, id: LayerId, weight: WeightId) {
        let layer = &mut self.layers[id.index()];
        (layer.kind, layer.function) = (LayerKind::Parameter(weight), Function::IDENTITY);
        self.incoming[id.index()].clear();
    }

    /// The same derived weights as another network has.
    pub(crate) fn derive_as(&mut self, other: &Graph) {
        self.derived.clone_from(&other.derived);
    }

    /// The same graph, ids included, with no outputs.
    pub fn without_outputs(&self) -> Graph {
        Graph { outputs: Vec::new(), ..self.clone() }
    }

    /// A graph of that name with the learned weights of another, and nothing else.
    pub fn with_weights_of(name: impl Into<String>, other: &Graph) -> Graph {
        Graph { weights: other.weights.clone(), ..Graph::new(name) }
    }

    /// Makes these layers the outputs, and leaves no inputs and no state.
    pub(crate) fn hand_out_only(&mut self, layers: &[LayerId]) {
        self.inputs.clear();
        self.held.clear();
        let output = |&layer: &LayerId| Output { name: self.layers[layer.index()].name.clone(), layer };
        self.outputs = layers.iter().map(output).collect();
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

    /// Whether a connection reads all units of its source and writes all of its target.
    pub(crate) fn is_whole(&self, c: &Connection) -> bool {
        let whole = |range: Range, layer: LayerId| range == Range::new(0, self.layer_at(layer).size);
        whole(c.target_range, c.target) && c.source.is_none_or(|source| whole(c.source_range, source))
    }

    /// Whether a unit of a connection's target depends on other units of the source: workers that share out the units
    /// must synchronize between the two.
    pub fn crosses_units(&self, c: &Connection) -> bool {
        if let LayerKind::Operation(op) = self.layer_at(c.target).kind
            && !op.is_elementwise()
        {
            return true;
        }
        match c.kind {
            ConnectionKind::Full { .. } => true,
            ConnectionKind::Broadcast { .. } => c.source_range.len != c.target_range.len || !self.is_whole(c),
            ConnectionKind::Diagonal { .. } | ConnectionKind::Identity { .. } => !self.is_whole(c),
            ConnectionKind::Constant { .. } => false,
        }
    }

    /// Whether it is the adjoint of another: nobody wrote its layers.
    pub fn is_adjoint(&self) -> bool {
        !self.accumulations.is_empty() || self.layers.iter().any(|l| matches!(l.kind, LayerKind::Residual(_)))
    }

    /// Whether it has dropout.
    pub fn has_dropout(&self) -> bool {
        self.layers.iter().any(|l| matches!(l.kind, LayerKind::Operation(op) if op.key().is_some()))
    }

    /// Whether some connection looks ahead.
    pub fn looks_ahead(&self) -> bool {
        self.connections.iter().any(|c| c.delay < 0)
    }

    /// For each layer, how many past frames of it are state: the largest positive delay of the connections that
    /// read it, 0 for most; of one that is held, at least one.
    pub fn history_depths(&self) -> Vec<usize> {
        let mut depths = vec![0; self.layers.len()];
        self.held.iter().for_each(|id| depths[id.index()] = 1);
        for c in &self.connections {
            if let Some(source) = c.source {
                let depth = usize::try_from(c.delay.max(0)).unwrap_or(usize::MAX);
                depths[source.index()] = depths[source.index()].max(depth);
            }
        }
        depths
    }
}
