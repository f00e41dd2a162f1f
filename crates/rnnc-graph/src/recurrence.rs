//! The affine recurrence of a scan, written out: s(t) = A(t) s(t-1) + b(t), with A and b as a network of their own.
//!
//! The layers of the cycle are taken in the order of a frame. Each is, unit by unit, a sum of coefficients times the
//! numbers of s(t-1), and of something from outside; eliminating the reads without delay expresses all by these.
//! Frames of the coefficients do not depend on each other, so they are computed for all frames at once, and the
//! pairs (A, b) can then be combined in any grouping: (A, b) after (A', b') is (A A', A b' + b) (Blelloch 1990).

use crate::activations::Activation;
use crate::components::{Component, Kind};
use crate::graph::{Connect, Graph};
use crate::operation::Operation;
use crate::parts::{Connection, ConnectionKind, LayerId, LayerKind, WeightId};
use std::collections::HashMap;

/// An affine recurrence as a network without the cycle.
#[derive(Clone, Debug, PartialEq)]
pub struct Coefficients {
    /// The numbers of a unit's state: s(t-1) holds, for each (layer, d), what the cycle's frame t reads of the layer d
    /// frames before in the direction of the cycle. The layers are those of the graph with the cycle.
    pub states: Vec<(LayerId, usize)>,
    /// The network that computes the coefficients from all that the cycle reads. Its inputs and weights are those of
    /// the graph with the cycle, in their order; its outputs are the layers of `matrix` and `vector`.
    pub graph: Graph,
    /// A, row by row: layers of `graph`, `None` for 0. Where a read crosses a reset, its column of the row of (layer, 1)
    /// counts as 0, and the coefficient times the start of the layer read is added to b.
    pub matrix: Vec<Vec<Option<LayerId>>>,
    /// b: layers of `graph`, `None` for 0.
    pub vector: Vec<Option<LayerId>>,
}

impl Component {
    /// The recurrence of a scan; `None` for other components. The graph is the one in which the component was found.
    pub fn coefficients(&self, graph: &Graph) -> Option<Coefficients> {
        let Kind::Scan(form) = &self.kind else { return None };
        let states: Vec<(LayerId, usize)> =
            form.states.iter().flat_map(|&(layer, longest)| (1..=longest).map(move |d| (layer, d))).collect();
        let mut elimination = Elimination::new(graph, self, states.len());
        for &id in &frame_order(graph, &self.layers) {
            let value = elimination.layer(id, &states);
            elimination.forms.insert(id, value);
        }
        let Elimination { mut out, forms, .. } = elimination;
        let mut one = None;
        let mut matrix = vec![vec![None; states.len()]; states.len()];
        let mut vector = vec![None; states.len()];
        for (row, &(layer, delay)) in states.iter().enumerate() {
            if delay > 1 {
                // What was read at d - 1 frames is read at d, a frame later.
                let size = graph.layer_at(layer).size;
                matrix[row][row - 1] = Some(*one.get_or_insert_with(|| number(&mut out, 1.0, size)));
                continue;
            }
            let form = &forms[&layer]; // of every layer of the component there is one
            for (column, coefficient) in form.coefficients.iter().enumerate() {
                matrix[row][column] = coefficient.map(|c| match c {
                    Coefficient::Number(value) => number(&mut out, value, graph.layer_at(layer).size),
                    Coefficient::Layer(layer) => layer,
                });
            }
            vector[row] = form.rest;
        }
        for (row, (entries, rest)) in matrix.iter().zip(&vector).enumerate() {
            for (column, entry) in entries.iter().enumerate() {
                if let Some(layer) = *entry {
                    out.output(format!("A[{row},{column}]"), layer);
                }
            }
            if let Some(layer) = *rest {
                out.output(format!("b[{row}]"), layer);
            }
        }
        Some(Coefficients { states, graph: out, matrix, vector })
    }
}

fn number(graph: &mut Graph, value: f64, size: usize) -> LayerId {
    let layer = graph.sum("number", size, Activation::Identity);
    graph.connect_constant(value, layer);
    layer
}

/// The layers of a component, each after those that it reads without delay.
fn frame_order(graph: &Graph, layers: &[LayerId]) -> Vec<LayerId> {
    let place: HashMap<LayerId, usize> = layers.iter().enumerate().map(|(i, &l)| (l, i)).collect();
    let mut waiting = vec![0usize; layers.len()];
    let mut readers: Vec<Vec<usize>> = vec![Vec::new(); layers.len()];
    for (i, &layer) in layers.iter().enumerate() {
        for c in graph.incoming(layer).filter(|c| c.delay == 0) {
            if let Some(&source) = c.source.and_then(|s| place.get(&s)) {
                waiting[i] += 1;
                readers[source].push(i);
            }
        }
    }
    let mut order: Vec<usize> = (0..layers.len()).filter(|&i| waiting[i] == 0).collect();
    let mut done = 0;
    while let Some(&i) = order.get(done) {
        done += 1;
        for &reader in &readers[i] {
            waiting[reader] -= 1;
            if waiting[reader] == 0 {
                order.push(reader);
            }
        }
    }
    order.into_iter().map(|i| layers[i]).collect()
}

/// A coefficient that is not 0.
#[derive(Clone, Copy)]
enum Coefficient {
    /// The same in all units and frames.
    Number(f64),
    /// The value of a layer of the new graph.
    Layer(LayerId),
}

/// A layer's value by the numbers of s(t-1).
#[derive(Clone)]
struct Form {
    /// One for each number of the state.
    coefficients: Vec<Option<Coefficient>>,
    /// What is added.
    rest: Option<LayerId>,
}

struct Elimination<'a> {
    graph: &'a Graph,
    inside: Vec<bool>,
    out: Graph,
    /// The new graph's copy of each layer that does not depend on the cycle.
    copies: HashMap<LayerId, LayerId>,
    /// How many numbers a unit's state has.
    order: usize,
    forms: HashMap<LayerId, Form>,
}

impl<'a> Elimination<'a> {
    fn new(graph: &'a Graph, component: &Component, order: usize) -> Self {
        let mut inside = vec![false; graph.layers().len()];
        component.layers.iter().for_each(|l| inside[l.index()] = true);
        // What the cycle leads to is of no use here.
        let mut after = inside.clone();
        let outgoing = graph.outgoing();
        let mut open = component.layers.clone();
        while let Some(layer) = open.pop() {
            for &c in &outgoing[layer.index()] {
                let target = graph.connection_at(c).target;
                if !std::mem::replace(&mut after[target.index()], true) {
                    open.push(target);
                }
            }
        }
        let mut out = Graph::new(format!("recurrence of {}", graph.name()));
        for weight in graph.weights() {
            out.weight(weight.name.clone(), &weight.shape, weight.init);
        }
        out.derive_as(graph);
        let mut copies = HashMap::new();
        for id in graph.layer_ids().filter(|id| !after[id.index()]) {
            copies.insert(id, out.add_layer(graph.layer_at(id).clone()));
        }
        let mut elimination = Elimination { graph, inside, out, copies, order, forms: HashMap::new() };
        for id in graph.layer_ids().filter(|id| !after[id.index()]) {
            for c in graph.incoming(id) {
                let target = elimination.copies[&id]; // made above
                elimination.copy(c, target);
            }
        }
        elimination
    }

    /// Adds to a new layer a term that reads from outside the cycle.
    fn copy(&mut self, c: &Connection, target: LayerId) {
        let source = c.source.and_then(|s| self.copies.get(&s).copied());
        self.out.add_connection(Connection { source, target, ..c.clone() });
    }

    fn is_inside(&self, c: &Connection) -> bool {
        c.source.is_some_and(|s| self.inside[s.index()])
    }

    /// What a connection within the cycle reads.
    fn read(&self, c: &Connection, states: &[(LayerId, usize)]) -> Form {
        let zero = Form { coefficients: vec![None; self.order], rest: None };
        let Some(source) = c.source else { return zero };
        if c.delay == 0 {
            return self.forms.get(&source).cloned().unwrap_or(zero);
        }
        let mut form = zero;
        let delay = usize::try_from(c.delay.unsigned_abs()).unwrap_or(usize::MAX);
        if let Some(place) = states.iter().position(|&state| state == (source, delay)) {
            form.coefficients[place] = Some(Coefficient::Number(1.0));
        }
        form
    }

    /// A layer of the cycle by the state.
    fn layer(&mut self, id: LayerId, states: &[(LayerId, usize)]) -> Form {
        let graph = self.graph;
        let (own, others): (Vec<&Connection>, Vec<&Connection>) =
            graph.incoming(id).partition(|c| self.is_inside(c));
        let reads: Vec<(&Connection, Form)> = own.iter().map(|&c| (c, self.read(c, states))).collect();
        match graph.layer_at(id).kind {
            LayerKind::Product | LayerKind::Operation(Operation::Divide) => {
                // One factor of the cycle, or the dividend: whatever it has is multiplied, or divided.
                let Some((c, form)) = reads.into_iter().next() else {
                    return Form { coefficients: vec![None; self.order], rest: None };
                };
                let coefficients =
                    form.coefficients.iter().map(|x| x.map(|x| self.scaled(id, c, x, &others))).collect();
                let rest = form.rest.map(|x| self.factor(id, c, Coefficient::Layer(x), &others));
                Form { coefficients, rest }
            }
            _ => self.sum(id, &reads, &others),
        }
    }

    fn sum(&mut self, id: LayerId, reads: &[(&Connection, Form)], others: &[&Connection]) -> Form {
        let mut coefficients = Vec::with_capacity(self.order);
        for state in 0..self.order {
            let terms: Vec<(&Connection, Coefficient)> =
                reads.iter().filter_map(|(c, form)| Some((*c, form.coefficients[state]?))).collect();
            coefficients.push(match terms[..] {
                [] => None,
                [(c, x)] if scale(c) == Some(1.0) => Some(x),
                [(c, Coefficient::Number(x))] if scale(c).is_some() => {
                    scale(c).map(|scale| Coefficient::Number(scale * x))
                }
                _ => {
                    let sum = self.new_layer(id, LayerKind::Sum);
                    terms.iter().for_each(|&(c, x)| self.term(c, x, sum));
                    Some(Coefficient::Layer(sum))
                }
            });
        }
        let rests: Vec<(&Connection, LayerId)> =
            reads.iter().filter_map(|(c, form)| Some((*c, form.rest?))).collect();
        let rest = (!rests.is_empty() || !others.is_empty()).then(|| {
            let sum = self.new_layer(id, LayerKind::Sum);
            rests.iter().for_each(|&(c, x)| self.term(c, Coefficient::Layer(x), sum));
            others.iter().for_each(|c| self.copy(c, sum));
            sum
        });
        Form { coefficients, rest }
    }

    /// A coefficient times, or divided by, what else a layer takes.
    fn scaled(&mut self, id: LayerId, c: &Connection, x: Coefficient, others: &[&Connection]) -> Coefficient {
        match (x, scale(c)) {
            (Coefficient::Number(x), Some(scale)) if others.is_empty() => Coefficient::Number(scale * x),
            _ => Coefficient::Layer(self.factor(id, c, x, others)),
        }
    }

    fn factor(&mut self, id: LayerId, c: &Connection, x: Coefficient, others: &[&Connection]) -> LayerId {
        let layer = self.new_layer(id, self.graph.layer_at(id).kind);
        self.term(c, x, layer);
        others.iter().for_each(|other| self.copy(other, layer));
        layer
    }

    fn new_layer(&mut self, of: LayerId, kind: LayerKind) -> LayerId {
        let layer = self.graph.layer_at(of);
        self.out.layer(format!("{} part", layer.name), layer.size, kind)
    }

    /// Adds to `target` a coefficient, on the way of a connection of the cycle.
    fn term(&mut self, c: &Connection, x: Coefficient, target: LayerId) {
        match (x, c.kind) {
            (Coefficient::Layer(layer), ConnectionKind::Diagonal { weight }) => {
                self.out.connect(layer, target, Connect::diagonal(weight));
            }
            (Coefficient::Layer(layer), _) => {
                self.out.connect(layer, target, Connect::scaled(scale(c).unwrap_or(1.0)));
            }
            (Coefficient::Number(x), ConnectionKind::Diagonal { weight }) => {
                let layer = self.parameter(weight);
                self.out.connect(layer, target, Connect::scaled(x));
            }
            (Coefficient::Number(x), _) => {
                self.out.connect_constant(scale(c).unwrap_or(1.0) * x, target);
            }
        }
    }

    fn parameter(&mut self, weight: WeightId) -> LayerId {
        let name = self.graph.weight_at(weight).name.clone();
        self.out.parameter(name, weight)
    }
}

/// The factor of a connection within the cycle, if it is a number.
fn scale(c: &Connection) -> Option<f64> {
    match c.kind {
        ConnectionKind::Identity { scale } | ConnectionKind::Broadcast { scale } => Some(scale),
        _ => None,
    }
}
