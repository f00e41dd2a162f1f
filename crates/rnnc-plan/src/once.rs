//! What is computed once a call, of weights alone: the values of constant layers, and their gradients.
//!
//! A constant layer (see [`Constants`]) has a place of its own behind the weights, and behind their gradients. When weights
//! have changed, maps over one row write the values, each after those that it reads. After the backward pass the
//! gradients of all frames stand there, summed as a parameter's are; maps in the other order add them to what they come from.

use crate::layout::WeightLayout;
use crate::plan::{Binary, Instruction, Register};
use rnnc_graph::{
    Adjoint, AdjointOptions, Components, Connection, ConnectionKind, Constants, Function, Graph, GraphError,
    LayerId, LayerKind, Range, WeightId,
};
use std::collections::HashMap;

/// What runs once a call.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Once {
    /// Before the forward pass, if weights have changed. Results are written to the flat weights.
    pub forward: Vec<OnceMap>,
    /// After the backward pass. Results are added to the flat gradients.
    pub backward: Vec<OnceMap>,
}

/// A program over the units of one row, whose registers are numbered in the order in which they are written.
#[derive(Clone, Debug, PartialEq)]
pub struct OnceMap {
    /// The layer.
    pub name: String,
    /// Its units.
    pub len: usize,
    /// Before the program, of the flat gradients: the first of so many.
    pub gradients: Vec<(usize, Register)>,
    /// In order: weights, numbers, and what is made of them.
    pub program: Vec<Instruction>,
    /// How many registers there are.
    pub registers: usize,
    /// Where the results go: the first of so many numbers.
    pub results: Vec<(Register, usize)>,
}

impl Once {
    /// Writes the maps of constant layers. Returns them with the weights whose gradients they add to.
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
        let weight = |layer: LayerId| match graph.layer_at(layer).kind {
            LayerKind::Parameter(weight) => Some(weight),
            _ => derived.get(&layer).copied(),
        };
        let mut once = Once::default();
        let mut touched: Vec<WeightId> = derived.values().copied().collect();
        for output in graph.outputs() {
            let id = output.layer;
            let layer = graph.layer_at(id);
            let terms: Vec<&Connection> = graph.incoming(id).collect();
            let reads: Vec<(WeightId, usize)> =
                terms.iter().filter_map(|c| Some((weight(c.source?)?, c.source_range.start))).collect();
            let place = |&(weight, first): &(WeightId, usize)| weights.view(weight).offset + first;
            let own = weights.view(derived[&id]).offset; // every output has one
            let alone = alone(graph, id);
            let options = AdjointOptions { input_gradients: true };
            let Adjoint { forward, graph: adjoint } = Adjoint::derive(&alone, options)?;

            let mut program = Program::default();
            let leaf = |layer: LayerId, program: &mut Program| {
                let input = forward.inputs().iter().position(|&input| input == layer)?;
                let offset = place(reads.get(input)?);
                Some(program.push(|to| Instruction::Weight { offset, to }))
            };
            let values = program.evaluate(&forward, leaf)?;
            let result = forward.outputs().first().and_then(|o| values[o.layer.index()]);
            let results = result.map(|register| (register, own)).into_iter().collect();
            once.forward.push(program.clone().finish(layer.name.clone(), layer.size, Vec::new(), results));
            if !gradients {
                continue;
            }
            let error = program.register();
            let leaf = |layer: LayerId, _: &mut Program| match adjoint.layer_at(layer).kind {
                LayerKind::Saved(of) => values[of.index()],
                _ => Some(error),
            };
            let errors = program.evaluate(&adjoint, leaf)?;
            let mut results = Vec::new();
            for (output, read) in adjoint.outputs().iter().zip(&reads) {
                let is_zero = adjoint.incoming(output.layer).next().is_none();
                if let Some(register) = errors[output.layer.index()].filter(|_| !is_zero) {
                    results.push((register, place(read)));
                    touched.push(read.0);
                }
            }
            once.backward.push(program.finish(layer.name.clone(), layer.size, vec![(own, error)], results));
        }
        once.backward.reverse();
        touched.sort_unstable();
        touched.dedup();
        Ok((once, touched))
    }

    /// The most registers that a map has.
    pub fn registers(&self) -> usize {
        self.forward.iter().chain(&self.backward).map(|map| map.registers).max().unwrap_or(0)
    }
}

/// A layer as a network of its own, with an input for each of its reads.
fn alone(graph: &Graph, id: LayerId) -> Graph {
    let mut alone = Graph::new(graph.name());
    let layer = graph.layer_at(id).clone();
    let reads: Vec<Connection> = graph.incoming(id).cloned().collect();
    let inputs: Vec<Option<LayerId>> = reads
        .iter()
        .enumerate()
        .map(|(k, c)| c.source.map(|_| alone.input(format!("read {k}"), c.source_range.len)))
        .collect();
    let own = alone.add_layer(layer);
    for (c, source) in reads.into_iter().zip(inputs) {
        let source_range = Range::new(0, c.source_range.len);
        alone.add_connection(Connection { source, target: own, source_range, ..c });
    }
    alone.output("value", own);
    alone
}

/// A program on its way.
#[derive(Clone, Default)]
struct Program {
    steps: Vec<Instruction>,
    registers: usize,
}

impl Program {
    fn register(&mut self) -> Register {
        self.registers += 1;
        self.registers - 1
    }

    fn push(&mut self, make: impl FnOnce(Register) -> Instruction) -> Register {
        let to = self.register();
        self.steps.push(make(to));
        to
    }

    /// The register of each layer of a network whose layers are all unit by unit. `leaf` has those that are given.
    fn evaluate(
        &mut self,
        graph: &Graph,
        leaf: impl Fn(LayerId, &mut Program) -> Option<Register>,
    ) -> Result<Vec<Option<Register>>, GraphError> {
        let mut values: Vec<Option<Register>> = vec![None; graph.layers().len()];
        for id in Components::find(graph)?.list.into_iter().flat_map(|component| component.layers) {
            let layer = graph.layer_at(id);
            let mut terms = Vec::new();
            for c in graph.incoming(id) {
                let register =
                    c.source.map(|source| values[source.index()].unwrap_or_else(|| self.number(0.0)));
                let scale = match c.kind {
                    ConnectionKind::Identity { scale } => scale,
                    ConnectionKind::Constant { value } => value,
                    _ => 1.0,
                };
                terms.push(match register {
                    Some(from) if scale != 1.0 => {
                        self.push(|to| Instruction::Scale { factor: scale, from, to })
                    }
                    Some(from) => from,
                    None => self.number(scale),
                });
            }
            let op = match layer.kind {
                LayerKind::Sum => Some(Binary::Add),
                LayerKind::Product => Some(Binary::Mul),
                LayerKind::Operation(operation) => Binary::of(operation),
                _ => None,
            };
            let Some(op) = op else {
                values[id.index()] = leaf(id, self);
                continue;
            };
            let mut all = terms.into_iter();
            let mut value = all.next().unwrap_or_else(|| self.number(0.0));
            for b in all {
                let a = value;
                value = self.push(|to| Instruction::Binary { op, a, b, to });
            }
            if layer.function != Function::IDENTITY {
                let (function, from) = (layer.function, value);
                value = self.push(|to| Instruction::Apply { function, from, to });
            }
            values[id.index()] = Some(value);
        }
        Ok(values)
    }

    fn number(&mut self, value: f64) -> Register {
        self.push(|to| Instruction::Number { value, to })
    }

    /// The map, without steps that no result depends on.
    fn finish(
        self,
        name: String,
        len: usize,
        gradients: Vec<(usize, Register)>,
        results: Vec<(Register, usize)>,
    ) -> OnceMap {
        let mut needed = vec![false; self.registers];
        results.iter().for_each(|&(register, _)| needed[register] = true);
        let mut program: Vec<Instruction> = Vec::with_capacity(self.steps.len());
        for step in self.steps.into_iter().rev() {
            if step.writes().is_some_and(|to| needed[to]) {
                step.reads().for_each(|from| needed[from] = true);
                program.push(step);
            }
        }
        program.reverse();
        OnceMap { name, len, gradients, program, registers: self.registers, results }
    }
}
