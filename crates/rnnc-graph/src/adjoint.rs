//! The adjoint of a network is a network: the one that carries the errors back.
//!
//! For each layer a(t) = f(s(t)) that matters, the adjoint has an error layer e = dL/da and, if f is not the identity,
//! a layer e f'(s) = dL/ds. Every connection is turned round: transposed weights, negated delay, ranges swapped.
//! The start rule is symmetric in the two frames of a read, so resets and truncation come out right by
//! themselves. Weight gradients are sums over frames of products ([`Accumulation`]); nothing of the kind stands in
//! the cycles. The forward values that the adjoint reads are its [`LayerKind::Residual`] layers; those that are cheap to
//! compute from others that are saved anyway are computed again instead.
//!
//! (Backpropagation through time: Werbos 1990; as a transposed graph: Wan & Beaufays 1996.)

use crate::activations::{Activation, DerivativeReads, Function};
use crate::error::GraphError;
use crate::gather::gather_reads;
use crate::graph::{Connect, Graph};
use crate::normalize::{normalize, split_terms};
use crate::ops::{Errors, Operation, Term};
use crate::parts::{
    Accumulation, AccumulationKind, Connection, ConnectionKind, Layer, LayerId, LayerKind, Range, Start,
    WeightId,
};
use crate::recompute::recompute;
use crate::simplify::simplify;
use crate::state_adjoint::{StateAdjoint, StateRead, StateReads, reads_state, state_vectors};

/// What gradients are wanted besides those of the weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct AdjointOptions {
    /// Those of all vector inputs.
    pub input_gradients: bool,
    /// Those of the state that a window begins with, given those of the state that it leaves: see [`StateAdjoint`].
    pub state_gradients: bool,
}

/// A network and its adjoint.
#[derive(Clone, Debug, PartialEq)]
pub struct Adjoint {
    /// The network, in normal form.
    pub forward: Graph,
    /// Its adjoint. Inputs: `d_NAME` for each output, in order; then, with state gradients, `d_state_NAME` for each vector of
    /// the state, whose last frames are the gradient of what the window leaves. Outputs: `d_NAME` for each vector input, in
    /// order, if asked for; then what [`StateAdjoint`] reads. Weights: those of the network.
    pub graph: Graph,
    /// What makes the gradients of the state before the window, if they were asked for.
    pub state: Option<StateAdjoint>,
}

impl Adjoint {
    /// Derives the adjoint of a network. Its own adjoint does not exist: it reads saved values.
    pub fn derive(graph: &Graph, options: AdjointOptions) -> Result<Adjoint, GraphError> {
        Adjoint::of_normal(normalize(graph), options)
    }

    /// The same of a network in normal form.
    pub fn of_normal(forward: Graph, options: AdjointOptions) -> Result<Adjoint, GraphError> {
        let (adjoint, state) = Derivation::new(&forward, options)?.run();
        let mut adjoint = simplify(adjoint);
        gather_reads(&mut adjoint);
        let mut graph = recompute(&forward, adjoint);
        for id in graph.layer_ids() {
            split_terms(&mut graph, id);
        }
        Ok(Adjoint { graph, forward, state })
    }
}

struct Derivation<'a> {
    forward: &'a Graph,
    options: AdjointOptions,
    /// Layers that errors reach and that need them.
    active: Vec<bool>,
    out: Graph,
    /// dL/da of each active layer.
    errors: Vec<Option<LayerId>>,
    /// The adjoint's layer with a forward layer's value.
    values: Vec<Option<LayerId>>,
    /// Forward layers that are read in another frame.
    read_delayed: Vec<bool>,
    /// The reads of the past that the state's errors come back through, if state gradients are wanted.
    state: Option<StateReads>,
}

impl<'a> Derivation<'a> {
    fn new(forward: &'a Graph, options: AdjointOptions) -> Result<Self, GraphError> {
        let second = |c: &Connection| matches!(c.kind, ConnectionKind::Full { transposed: true, .. });
        let of_adjoints = |layer: &Layer| match layer.kind {
            LayerKind::Residual(_) => true,
            LayerKind::Operation(op) => op.is_gradient(),
            _ => false,
        };
        if forward.connections().iter().any(second) || forward.layers().iter().any(of_adjoints) {
            return Err(GraphError::Adjoint("an adjoint network has no adjoint of its own".into()));
        }
        let mut out = Graph::with_weights_of(format!("adjoint of {}", forward.name()), forward);
        out.derive_as(forward);
        let count = forward.layers().len();
        let active = active(forward, options);
        let mut read_delayed = vec![false; count];
        for c in forward.connections() {
            if let Some(source) = c.source {
                read_delayed[source.index()] |= c.delay != 0;
            }
        }
        Ok(Derivation {
            forward,
            options,
            active,
            out,
            errors: vec![None; count],
            values: vec![None; count],
            read_delayed,
            state: options.state_gradients.then(StateReads::default),
        })
    }

    fn run(mut self) -> (Graph, Option<StateAdjoint>) {
        let forward = self.forward;
        let seeds: Vec<LayerId> = forward
            .outputs()
            .iter()
            .map(|o| self.out.input(format!("d_{}", o.name), forward.layer_at(o.layer).size))
            .collect();
        let left: Vec<(LayerId, LayerId)> = match self.options.state_gradients {
            false => Vec::new(),
            true => state_vectors(forward)
                .map(|(id, _)| {
                    let layer = forward.layer_at(id);
                    (id, self.out.input(format!("d_state_{}", layer.name), layer.size))
                })
                .collect(),
        };
        for id in forward.layer_ids() {
            if !self.active[id.index()] {
                continue;
            }
            let layer = forward.layer_at(id);
            let error = self.sum(format!("d {}", layer.name), layer.size, id);
            self.errors[id.index()] = Some(error);
        }
        let seeds = forward.outputs().iter().map(|output| output.layer).zip(seeds);
        for (layer, seed) in seeds.chain(left) {
            if let Some(error) = self.errors[layer.index()] {
                self.out.connect(seed, error, Connect::identity());
            }
        }
        let errors = self.errors.clone();
        let active = || forward.layer_ids().filter_map(|id| Some((id, errors[id.index()]?)));
        for (id, error) in active() {
            self.turn_round(id, error);
        }
        // Now that all their errors' terms are there. Most parameters have none: they are read as they are.
        for (id, error) in active() {
            if let LayerKind::Parameter(weight) = forward.layer_at(id).kind
                && !self.out.incoming_ids(error).is_empty()
            {
                self.accumulate_sum(weight, 1.0, error, Range::new(0, forward.layer_at(id).size));
            }
        }
        if self.options.input_gradients {
            for &input in forward.inputs() {
                let layer = forward.layer_at(input);
                if layer.kind == LayerKind::Input {
                    let error = self.errors[input.index()]
                        .unwrap_or_else(|| self.sum(format!("d {}", layer.name), layer.size, input));
                    self.out.output(format!("d_{}", layer.name), error);
                }
            }
        }
        let state = self.state.map(|reads| reads.adjoint(forward, &mut self.out));
        (self.out, state)
    }

    fn sum(&mut self, name: String, size: usize, of: LayerId) -> LayerId {
        self.add(name, size, LayerKind::Sum, Function::IDENTITY, of)
    }

    fn add(
        &mut self,
        name: String,
        size: usize,
        kind: LayerKind,
        function: Function,
        of: LayerId,
    ) -> LayerId {
        let origin = self.forward.layer_at(of).origin;
        self.out.add_layer(Layer {
            name,
            size,
            kind,
            function,
            start: Start::Zero,
            origin,
            error_of: Some(of),
        })
    }

    /// The adjoint's layer with the value of a forward layer.
    fn value(&mut self, id: LayerId) -> LayerId {
        if let Some(value) = self.values[id.index()] {
            return value;
        }
        let layer = self.forward.layer_at(id);
        // Masks and parameters are there in every frame of the backward window; before it, only as they were saved.
        let kind = match layer.kind {
            LayerKind::Parameter(_) if !self.read_delayed[id.index()] => layer.kind,
            LayerKind::Operation(op) if op.key().is_some() && !self.read_delayed[id.index()] => layer.kind,
            _ => LayerKind::Residual(id),
        };
        let value = self.out.add_layer(Layer { kind, function: Function::IDENTITY, ..layer.clone() });
        self.values[id.index()] = Some(value);
        value
    }

    /// Adds to `target` of the adjoint a term that the forward network reads, as it reads it.
    fn read(&mut self, c: &Connection, target: LayerId) {
        let source = c.source.map(|s| self.value(s));
        self.out.add_connection(Connection { source, target, ..c.clone() });
    }

    /// Sends the error of a layer back along all its connections.
    fn turn_round(&mut self, id: LayerId, error: LayerId) {
        let forward = self.forward;
        let layer = forward.layer_at(id);
        match layer.kind {
            // Nothing comes back through steps, not even 0 times an infinite error.
            LayerKind::Sum | LayerKind::Product if layer.function.is_flat() => {}
            LayerKind::Sum => {
                let delta = self.through_function(id, error);
                for c in forward.incoming(id) {
                    self.turn_term(c, delta);
                }
            }
            LayerKind::Product => {
                let delta = self.through_function(id, error);
                let factors: Vec<&Connection> = forward.incoming(id).collect();
                for (k, c) in factors.iter().enumerate() {
                    if !self.flows(c) {
                        continue;
                    }
                    let mut others =
                        factors.iter().enumerate().filter(|&(j, _)| j != k).map(|(_, c)| c).peekable();
                    let term = if others.peek().is_none() {
                        delta
                    } else {
                        let term = self.out_layer(id, LayerKind::Product, layer.size);
                        self.out.connect(delta, term, Connect::identity());
                        for other in others {
                            self.read(other, term);
                        }
                        term
                    };
                    self.turn_term(c, term);
                }
            }
            LayerKind::Operation(op) => {
                let operands: Vec<&Connection> = forward.incoming(id).collect();
                if operands.len() == op.operands() {
                    op.adjoint(&mut OperationErrors {
                        derivation: self,
                        id,
                        error,
                        operands,
                        made: Vec::new(),
                    });
                }
            }
            LayerKind::Input | LayerKind::Symbol | LayerKind::Parameter(_) | LayerKind::Residual(_) => {}
        }
    }

    fn out_layer(&mut self, of: LayerId, kind: LayerKind, size: usize) -> LayerId {
        let name = format!("d {}", self.forward.layer_at(of).name);
        self.add(name, size, kind, Function::IDENTITY, of)
    }

    /// dL/ds from dL/da.
    fn through_function(&mut self, id: LayerId, error: LayerId) -> LayerId {
        let layer = self.forward.layer_at(id);
        let activation = match layer.function {
            Function::Apply(Activation::Identity) | Function::Derivative(_) => return error,
            Function::Apply(activation) => activation,
        };
        let name = format!("d {}", layer.name);
        let derivative = self.add(name, layer.size, LayerKind::Sum, Function::Derivative(activation), id);
        match activation.derivative_reads() {
            DerivativeReads::Value => {
                let value = self.value(id);
                self.out.connect(value, derivative, Connect::identity());
            }
            // In normal form the argument is one read, as it is.
            DerivativeReads::Argument => {
                let forward = self.forward;
                forward.incoming(id).for_each(|c| self.read(c, derivative));
            }
        }
        let kind = match activation.masks_errors() {
            true => LayerKind::Operation(Operation::When),
            false => LayerKind::Product,
        };
        let delta = self.out_layer(id, kind, layer.size);
        self.out.connect(error, delta, Connect::identity());
        self.out.connect(derivative, delta, Connect::identity());
        delta
    }

    /// Whether an error goes back through a connection to its source.
    fn flows(&self, c: &Connection) -> bool {
        !c.stops_gradient
            && c.source.is_some_and(|s| {
                self.active[s.index()]
                    || self.learned_start(c, s).is_some()
                    || (self.state.is_some() && reads_state(self.forward, c))
            })
    }

    /// The weight that a connection reads where it crosses a reset.
    fn learned_start(&self, c: &Connection, source: LayerId) -> Option<WeightId> {
        match self.forward.layer_at(source).start {
            Start::Learned(weight) if c.delay != 0 => Some(weight),
            _ => None,
        }
    }

    /// Sends back an error `delta` = dL/d(term) along one connection of which it covers the target range (of a
    /// whole layer's delta, that part): to the source, to the weight, and to a learned start.
    fn turn_term(&mut self, c: &Connection, delta: LayerId) {
        let Some(source) = c.source else { return };
        let delay = c.delay;
        let (back, scale) = match c.kind {
            ConnectionKind::Full { weight, heads, transposed, part } => {
                let value = self.value(source);
                let source_range = c.source_range;
                let kind = AccumulationKind::Outer { source: value, source_range, delay, heads, part };
                self.out.accumulate(Accumulation { weight, kind, error: delta, error_range: c.target_range });
                (Connect::new(ConnectionKind::Full { weight, heads, transposed: !transposed, part }), None)
            }
            ConnectionKind::Diagonal { weight } => {
                let value = self.value(source);
                let kind = AccumulationKind::Diagonal { source: value, source_range: c.source_range, delay };
                self.out.accumulate(Accumulation { weight, kind, error: delta, error_range: c.target_range });
                (Connect::new(c.kind), None)
            }
            ConnectionKind::Identity { scale } => (Connect::scaled(scale), Some(scale)),
            ConnectionKind::Broadcast { scale } => {
                if !self.flows(c) {
                    return;
                }
                // What comes back is the sum over each repetition; then it is an identity.
                let groups = c.source_range.len;
                let sum =
                    self.out_layer(source, LayerKind::Operation(Operation::GroupSum { groups }), groups);
                self.out.connect(delta, sum, Connect::identity().from(c.target_range));
                let kind = ConnectionKind::Identity { scale };
                let plain = Connection { kind, target_range: Range::new(0, groups), ..c.clone() };
                return self.turn_term(&plain, sum);
            }
            ConnectionKind::Constant { .. } => return,
        };
        if !self.flows(c) {
            return;
        }
        if let (LayerKind::Parameter(weight), 0, Some(scale)) =
            (self.forward.layer_at(source).kind, delay, scale)
        {
            // A parameter read as it is: straight into its gradient.
            let kind = AccumulationKind::Sum { scale, weight_range: c.source_range };
            self.out.accumulate(Accumulation { weight, kind, error: delta, error_range: c.target_range });
            return;
        }
        if let Some(weight) = self.learned_start(c, source) {
            let (error, error_range, scale) = match scale {
                Some(scale) => (delta, c.target_range, scale),
                None => {
                    let term = self.out_layer(source, LayerKind::Sum, c.source_range.len);
                    self.out.connect(delta, term, back.from(c.target_range));
                    (term, Range::new(0, c.source_range.len), 1.0)
                }
            };
            let kind = AccumulationKind::Start { scale, delay, weight_range: c.source_range };
            self.out.accumulate(Accumulation { weight, kind, error, error_range });
        }
        let back = back.delay(-delay).from(c.target_range).to(c.source_range);
        if let Some(reads) = self.state.as_mut().filter(|_| reads_state(self.forward, c)) {
            reads.add(StateRead { layer: source, error: delta, back });
        }
        if let Some(error) = self.errors[source.index()] {
            self.out.connect(delta, error, back);
        }
    }

    fn accumulate_sum(&mut self, weight: WeightId, scale: f64, error: LayerId, range: Range) {
        let kind = AccumulationKind::Sum { scale, weight_range: range };
        self.out.accumulate(Accumulation { weight, kind, error, error_range: range });
    }
}

/// The errors of an operation's operands, of which its rule says what they are made of.
struct OperationErrors<'d, 'a> {
    derivation: &'d mut Derivation<'a>,
    id: LayerId,
    /// dL/da of the operation.
    error: LayerId,
    operands: Vec<&'a Connection>,
    made: Vec<LayerId>,
}

impl OperationErrors<'_, '_> {
    fn make(&mut self, operand: usize, kind: LayerKind) -> LayerId {
        let layer = self.derivation.out_layer(self.id, kind, self.operands[operand].target_range.len);
        self.made.push(layer);
        layer
    }

    fn last(&self) -> Term {
        Term::Made(self.made.len() - 1)
    }

    fn read(&mut self, term: Term, how: Connect, target: LayerId) {
        let source = match term {
            Term::Error => self.error,
            Term::Value => self.derivation.value(self.id),
            Term::Made(place) => self.made[place],
            Term::Operand(operand) => return self.derivation.read(self.operands[operand], target),
        };
        self.derivation.out.connect(source, target, how);
    }
}

impl Errors for OperationErrors<'_, '_> {
    fn flows(&self, operand: usize) -> bool {
        self.derivation.flows(self.operands[operand])
    }

    fn operation(&mut self, operand: usize, operation: Operation, reads: &[Term]) -> Term {
        let layer = self.make(operand, LayerKind::Operation(operation));
        reads.iter().for_each(|&term| self.read(term, Connect::identity(), layer));
        self.last()
    }

    fn product(&mut self, operand: usize, factors: &[(f64, Term)]) -> Term {
        let layer = self.make(operand, LayerKind::Product);
        for &(scale, term) in factors {
            let as_it_is = scale == 1.0 || !matches!(term, Term::Operand(_));
            assert!(as_it_is, "the adjoint of an operation scales an operand, which is read as it is");
            self.read(term, Connect::scaled(scale), layer);
        }
        self.last()
    }

    fn repeat(&mut self, operand: usize, of: Term) -> Term {
        let layer = self.make(operand, LayerKind::Sum);
        self.read(of, Connect::broadcast(), layer);
        self.last()
    }

    fn send(&mut self, operand: usize, error: Term) {
        let delta = match error {
            Term::Made(place) => self.made[place],
            Term::Error => self.error,
            Term::Value | Term::Operand(_) => {
                panic!("the adjoint of an operation sends back what is no error")
            }
        };
        self.derivation.turn_term(self.operands[operand], delta);
    }
}

/// Layers that both depend on something learned (or on an input whose gradient is asked for) and reach an output,
/// along connections that errors flow through.
fn active(graph: &Graph, options: AdjointOptions) -> Vec<bool> {
    let learns = |id: LayerId| {
        let layer = graph.layer_at(id);
        matches!(layer.kind, LayerKind::Parameter(_))
            || (options.input_gradients && layer.kind == LayerKind::Input)
            || (options.state_gradients
                && graph.incoming(id).any(|c| !c.stops_gradient && reads_state(graph, c)))
            || graph.incoming(id).any(|c| {
                let learned_start = || {
                    c.delay != 0
                        && !c.stops_gradient
                        && c.source.is_some_and(|s| matches!(graph.layer_at(s).start, Start::Learned(_)))
                };
                matches!(c.kind, ConnectionKind::Full { .. } | ConnectionKind::Diagonal { .. })
                    || learned_start()
            })
    };
    let outgoing = graph.outgoing();
    let mut wants = vec![false; graph.layers().len()];
    let mut open: Vec<LayerId> = graph.layer_ids().filter(|&id| learns(id)).collect();
    while let Some(id) = open.pop() {
        if !std::mem::replace(&mut wants[id.index()], true) {
            open.extend(
                outgoing[id.index()]
                    .iter()
                    .map(|&c| graph.connection_at(c))
                    .filter(|c| !c.stops_gradient)
                    .map(|c| c.target),
            );
        }
    }
    let mut reaches = vec![false; graph.layers().len()];
    let mut open: Vec<LayerId> = graph.outputs().iter().map(|o| o.layer).collect();
    if options.state_gradients {
        open.extend(state_vectors(graph).map(|(id, _)| id));
    }
    while let Some(id) = open.pop() {
        if !std::mem::replace(&mut reaches[id.index()], true) {
            open.extend(graph.incoming(id).filter(|c| !c.stops_gradient).filter_map(|c| c.source));
        }
    }
    // Symbols have no error.
    graph
        .layer_ids()
        .map(|id| wants[id.index()] && reaches[id.index()] && graph.layer_at(id).kind != LayerKind::Symbol)
        .collect()
}
