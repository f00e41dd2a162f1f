//! What is computed once a call, of weights alone: the values of constant layers, and their gradients.
//!
//! A constant layer (see [`Constants`]) has a place of its own behind the weights, and behind their gradients. When weights
//! have changed, steps over one row write the values, each after those that it reads. After the backward pass the
//! gradients of all frames stand there, summed as a parameter's are; steps in the other order add them to what they come
//! from.

use crate::ir::{
    Algebra, Binary, Flat, Interpreter, Matrix, Once, OnceLeaf, OnceMap, OnceOuter, OnceProduct, OnceStep,
    OnceVector, Program, Register, WeightLayout, WeightView,
};
use rnnc_graph::ops::Gradient;
use rnnc_graph::{
    Adjoint, AdjointOptions, Components, Connection, ConnectionKind, Constants, DerivativeReads, Function,
    Graph, GraphError, LayerId, LayerKind, Operation, Range, WeightId,
};
use std::collections::HashMap;

impl Once {
    /// Writes the steps of constant layers. Returns them with the weights whose gradients they add to.
    pub(crate) fn new(
        constants: &Constants,
        weights: &WeightLayout,
        gradients: bool,
    ) -> Result<(Once, Vec<WeightId>), GraphError> {
        let graph = &constants.graph;
        let derived: HashMap<LayerId, WeightId> = graph
            .outputs()
            .iter()
            .enumerate()
            .map(|(k, output)| (output.layer, WeightId::from_index(graph.weights().len() + k)))
            .collect();
        let mut writer =
            Writer { graph, weights, derived, gradients, once: Once::default(), touched: Vec::new() };
        for output in graph.outputs() {
            writer.once.layers.push(graph.layer_at(output.layer).name.clone());
            writer.layer(output.layer)?;
        }
        let Writer { mut once, mut touched, derived, .. } = writer;
        once.backward.reverse();
        touched.extend(derived.into_values());
        touched.sort_unstable();
        touched.dedup();
        Ok((once, touched))
    }
}

struct Writer<'a> {
    graph: &'a Graph,
    weights: &'a WeightLayout,
    derived: HashMap<LayerId, WeightId>,
    /// Whether there is a backward pass.
    gradients: bool,
    /// Its backward steps in the order of the forward ones: those of a layer in the order opposite to theirs.
    once: Once,
    touched: Vec<WeightId>,
}

impl Writer<'_> {
    /// The weight that a layer's value is.
    fn weight(&self, layer: LayerId) -> Option<WeightId> {
        match self.graph.layer_at(layer).kind {
            LayerKind::Parameter(weight) => Some(weight),
            _ => self.derived.get(&layer).copied(),
        }
    }

    /// Where what a term reads lies among weights and gradients.
    fn source(&self, c: &Connection) -> Option<(WeightId, usize)> {
        let weight = self.weight(c.source?)?;
        Some((weight, self.weights.view(weight).offset + c.source_range.start))
    }

    fn forward(&mut self, step: OnceStep) {
        self.once.forward.push(step);
    }

    /// A step that adds to the gradient of a weight.
    fn backward(&mut self, step: OnceStep, weight: WeightId) {
        if self.gradients {
            self.once.backward.push(step);
            self.touched.push(weight);
        }
    }

    fn layer(&mut self, id: LayerId) -> Result<(), GraphError> {
        let graph = self.graph;
        let Some(own) = self.weight(id).map(|weight| self.weights.view(weight).offset) else { return Ok(()) };
        let terms: Vec<&Connection> = graph.incoming(id).collect();
        if let LayerKind::Operation(operation) = graph.layer_at(id).kind
            && !operation.is_elementwise()
        {
            self.vector(id, operation, own, &terms);
            return Ok(());
        }
        let Some((first, source)) = terms.first().map(|&c| (c, self.source(c))) else {
            return self.unit_by_unit(id, own, &terms);
        };
        match (first.kind, source) {
            (ConnectionKind::Broadcast { .. }, Some(source)) => self.broadcast(first, source, own),
            (ConnectionKind::Diagonal { weight }, Some(source)) => self.diagonal(first, weight, source, own),
            (ConnectionKind::Full { weight, heads, part, .. }, Some(source)) => {
                self.matrix(first, (weight, self.weights.view(weight).part(part), heads), source, own);
            }
            (ConnectionKind::Identity { .. } | ConnectionKind::Constant { .. }, _) | (_, None) => {
                return self.unit_by_unit(id, own, &terms);
            }
        }
        Ok(())
    }

    fn vector(&mut self, id: LayerId, operation: Operation, own: usize, terms: &[&Connection]) {
        let len = self.graph.layer_at(id).size;
        // What depends on parameters alone reads no symbols, so it has one operand.
        let &[c] = terms else { return };
        let Some((weight, source)) = self.source(c) else { return };
        let (read, units) = (Flat::Weights(source), c.source_range.len);
        let step = OnceVector { operation, operands: vec![(read, units)], to: Flat::Weights(own), len };
        self.forward(OnceStep::Vector(step));
        if c.stops_gradient {
            return;
        }
        let (error, to) = (Flat::Gradients(own), Flat::Gradients(source));
        let step = match operation.gradient() {
            // Of no other operation layers are taken out of the frames: see `rnnc-graph/src/constants.rs`.
            None => return,
            Some(Gradient::Repeat) => repeat(error, units / len, to, units),
            Some(Gradient::Operation(operation, reads)) => {
                let other = match reads {
                    DerivativeReads::Value => (Flat::Weights(own), len),
                    DerivativeReads::Argument => (read, units),
                };
                let operands = vec![(error, len), other];
                OnceStep::Vector(OnceVector { operation, operands, to, len: units })
            }
        };
        self.backward(step, weight);
    }

    fn broadcast(&mut self, c: &Connection, (weight, source): (WeightId, usize), own: usize) {
        let (units, groups) = (c.target_range.len, c.source_range.len);
        self.forward(repeat(Flat::Weights(source), units / groups, Flat::Weights(own), units));
        if !c.stops_gradient {
            let operands = vec![(Flat::Gradients(own), units)];
            let (operation, to) = (Operation::GroupSum { groups }, Flat::Gradients(source));
            let step = OnceVector { operation, operands, to, len: groups };
            self.backward(OnceStep::Vector(step), weight);
        }
    }

    fn diagonal(&mut self, c: &Connection, by: WeightId, (weight, source): (WeightId, usize), own: usize) {
        let (len, diagonal) = (c.target_range.len, self.weights.view(by).offset);
        let product = |a: Flat, b: Flat, to: Flat| {
            let mut program = Program::default();
            let [a, b] = [a, b].map(|from| program.leaf(&OnceLeaf { from, times: 1 }));
            let product = program.binary(Binary::Mul, a, b);
            program.store(&to, product);
            OnceStep::Map(OnceMap { len, program })
        };
        self.forward(product(Flat::Weights(source), Flat::Weights(diagonal), Flat::Weights(own)));
        let error = Flat::Gradients(own);
        self.backward(product(error, Flat::Weights(source), Flat::Gradients(diagonal)), by);
        if !c.stops_gradient {
            self.backward(product(error, Flat::Weights(diagonal), Flat::Gradients(source)), weight);
        }
    }

    fn matrix(
        &mut self,
        c: &Connection,
        (by, view, heads): (WeightId, WeightView, usize),
        (weight, source): (WeightId, usize),
        own: usize,
    ) {
        let (rows, columns) = (c.target_range.len / heads, c.source_range.len / heads);
        for head in 0..heads {
            let matrix = view.matrix(head);
            let (value, result) = (source + head * columns, own + head * rows);
            let (from, to) = (Flat::Weights(value), Flat::Weights(result));
            self.forward(OnceStep::Product(OnceProduct { matrix, rows, columns, from, to }));
            let error = Flat::Gradients(result);
            let outer = OnceOuter { error, source: from, rows, columns, gradient: matrix };
            self.backward(OnceStep::Outer(outer), by);
            if !c.stops_gradient {
                let turned =
                    Matrix { row_stride: matrix.column_stride, column_stride: matrix.row_stride, ..matrix };
                let to = Flat::Gradients(value);
                let step = OnceProduct { matrix: turned, rows: columns, columns: rows, from: error, to };
                self.backward(OnceStep::Product(step), weight);
            }
        }
    }

    /// A layer whose terms are other layers' units as they are, cut wherever one begins or ends.
    fn unit_by_unit(&mut self, id: LayerId, own: usize, terms: &[&Connection]) -> Result<(), GraphError> {
        let size = self.graph.layer_at(id).size;
        let mut cuts: Vec<usize> = terms
            .iter()
            .flat_map(|c| [c.target_range.start, c.target_range.end()])
            .chain([0, size])
            .collect();
        cuts.sort_unstable();
        cuts.dedup();
        for cut in cuts.windows(2) {
            let units = Range::new(cut[0], cut[1] - cut[0]);
            let reaching =
                |c: &&&Connection| c.target_range.start <= cut[0] && cut[1] <= c.target_range.end();
            let terms: Vec<&Connection> = terms.iter().filter(reaching).copied().collect();
            self.units(id, units, own + units.start, &terms)?;
        }
        Ok(())
    }

    fn units(
        &mut self,
        id: LayerId,
        units: Range,
        own: usize,
        terms: &[&Connection],
    ) -> Result<(), GraphError> {
        let skipped = |c: &&Connection| {
            let (weight, first) = self.source(c)?;
            Some((weight, first + units.start - c.target_range.start))
        };
        let reads: Vec<(WeightId, usize)> = terms.iter().filter_map(skipped).collect();
        let options = AdjointOptions { input_gradients: true, ..AdjointOptions::default() };
        let Adjoint { forward, graph: adjoint, .. } =
            Adjoint::derive(&alone(self.graph, id, units.len, terms), options)?;

        let mut program = Program::default();
        let read = |program: &mut Program<OnceLeaf>, from| program.leaf(&OnceLeaf { from, times: 1 });
        let leaf = |layer: LayerId, program: &mut Program<OnceLeaf>| {
            let input = forward.inputs().iter().position(|&input| input == layer)?;
            let &(_, offset) = reads.get(input)?;
            Some(read(program, Flat::Weights(offset)))
        };
        let values = evaluate(&mut program, &forward, leaf)?;
        let result = forward.outputs().first().and_then(|o| values[o.layer.index()]);
        let results = result.map(|register| (register, Flat::Weights(own)));
        self.forward(OnceStep::Map(finish(&program, units.len, results)));
        if !self.gradients {
            return Ok(());
        }
        let error = read(&mut program, Flat::Gradients(own));
        let leaf = |layer: LayerId, _: &mut Program<OnceLeaf>| match adjoint.layer_at(layer).kind {
            LayerKind::Residual(of) => values[of.index()],
            _ => Some(error),
        };
        let errors = evaluate(&mut program, &adjoint, leaf)?;
        let mut results: Vec<(WeightId, usize, Register)> = Vec::new();
        for (output, &(weight, offset)) in adjoint.outputs().iter().zip(&reads) {
            let is_zero = adjoint.incoming(output.layer).next().is_none();
            if let Some(register) = errors[output.layer.index()].filter(|_| !is_zero) {
                results.push((weight, offset, register));
            }
        }
        // Units may run side by side: what adds to places that others of the same map add to is a map of its own.
        results.sort_by_key(|&(_, offset, _)| offset);
        let overlap = results.windows(2).any(|r| r[0].1 != r[1].1 && r[1].1 < r[0].1 + units.len);
        let maps = if overlap { results.chunk_by(|a, b| a.1 == b.1).collect() } else { vec![&results[..]] };
        for results in maps {
            let added = results.iter().map(|&(_, offset, register)| (register, Flat::Gradients(offset)));
            let map = finish(&program, units.len, added);
            results.iter().for_each(|&(weight, ..)| self.touched.push(weight));
            if let Some(&(weight, ..)) = results.first() {
                self.backward(OnceStep::Map(map), weight);
            }
        }
        Ok(())
    }
}

/// Numbers, each so many times.
fn repeat(from: Flat, times: usize, to: Flat, len: usize) -> OnceStep {
    let mut program = Program::default();
    let value = program.leaf(&OnceLeaf { from, times });
    program.store(&to, value);
    OnceStep::Map(OnceMap { len, program })
}

/// So many units of a layer as a network of its own, with an input for each of its reads.
fn alone(graph: &Graph, id: LayerId, len: usize, terms: &[&Connection]) -> Graph {
    let mut alone = Graph::new(graph.name());
    let mut layer = graph.layer_at(id).clone();
    layer.size = len;
    let units = Range::new(0, len);
    let inputs: Vec<Option<LayerId>> = terms
        .iter()
        .enumerate()
        .map(|(k, c)| c.source.map(|_| alone.input(format!("read {k}"), len)))
        .collect();
    let own = alone.add_layer(layer);
    for (&c, source) in terms.iter().zip(inputs) {
        let source_range = if source.is_some() { units } else { c.source_range };
        alone.add_connection(Connection {
            source,
            target: own,
            source_range,
            target_range: units,
            ..c.clone()
        });
    }
    alone.output("value", own);
    alone
}

/// Adds a network to a program whose layers are all unit by unit. Returns the register of each layer; `leaf` has those that are
/// given.
fn evaluate(
    program: &mut Program<OnceLeaf>,
    graph: &Graph,
    leaf: impl Fn(LayerId, &mut Program<OnceLeaf>) -> Option<Register>,
) -> Result<Vec<Option<Register>>, GraphError> {
    let mut values: Vec<Option<Register>> = vec![None; graph.layers().len()];
    for id in Components::find(graph)?.list.into_iter().flat_map(|component| component.layers) {
        let layer = graph.layer_at(id);
        let mut terms = Vec::new();
        for c in graph.incoming(id) {
            let register =
                c.source.map(|source| values[source.index()].unwrap_or_else(|| program.number(0.0)));
            let scale = match c.kind {
                ConnectionKind::Identity { scale } => scale,
                ConnectionKind::Constant { value } => value,
                _ => 1.0,
            };
            terms.push(match register {
                Some(from) if scale != 1.0 => program.scale(scale, from),
                Some(from) => from,
                None => program.number(scale),
            });
        }
        let op = match layer.kind {
            LayerKind::Sum => Some(Binary::Add),
            LayerKind::Product => Some(Binary::Mul),
            LayerKind::Operation(operation) => operation.binary(),
            _ => None,
        };
        let Some(op) = op else {
            values[id.index()] = leaf(id, program);
            continue;
        };
        let mut all = terms.into_iter();
        let mut value = all.next().unwrap_or_else(|| program.number(0.0));
        for b in all {
            value = program.binary(op, value, b);
        }
        if layer.function != Function::IDENTITY {
            value = program.apply(layer.function, value);
        }
        values[id.index()] = Some(value);
    }
    Ok(values)
}

/// The map that computes some results, without what none of them depends on. All that it reads stands first: no load waits for
/// arithmetic.
fn finish(
    program: &Program<OnceLeaf>,
    len: usize,
    results: impl IntoIterator<Item = (Register, Flat)>,
) -> OnceMap {
    let mut program = program.clone();
    results.into_iter().for_each(|(register, to)| program.store(&to, register));
    let mut program = program.part(&program.needed([], |_| true));
    program.instructions.sort_by_key(|instruction| instruction.leaf().is_none());
    OnceMap { len, program }
}
