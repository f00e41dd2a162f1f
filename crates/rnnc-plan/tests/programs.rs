//! What programs compute, evaluated in double precision, is what the layers say.

use proptest::prelude::*;
use rnnc_graph::ops::{Given, Operand, Relation};
use rnnc_graph::{
    Activation, Connect, Connection, ConnectionKind, Graph, Init, LayerId, LayerKind, Operation, WeightId,
};
use rnnc_plan::{Flat, Floats, Interpreter, MapLeaf, OnceLeaf, OnceStep, Op, Plan, PlanOptions, View};

/// Units of all layers; an input has as many, or half.
const UNITS: usize = 4;

/// What a layer is made of: its kind, its activation, and its reads, each a source with a number that says how it is read.
type Draw = (usize, usize, Vec<(prop::sample::Index, usize)>);

/// A network whose layers are all unit by unit, and read the row itself alone.
fn network(draws: &[Draw]) -> Graph {
    let mut graph = Graph::new("n");
    let (x, half) = (graph.input("x", UNITS), graph.input("half", UNITS / 2));
    let weight = graph.weight("w", &[UNITS], Init::Uniform(1.0));
    let w = graph.parameter("w", weight);
    let by = graph.weight("by", &[UNITS], Init::Uniform(1.0));
    let mut layers = vec![x, w];
    for (number, (kind, activation, reads)) in draws.iter().enumerate() {
        let function =
            [Activation::Identity, Activation::Tanh, Activation::Relu, Activation::Softplus][*activation];
        let name = format!("l{number}");
        let operations = [
            Operation::Divide,
            Operation::Max,
            Operation::Min,
            Operation::Known,
            Operation::Compare { relation: Relation::Less },
            Operation::When,
            Operation::Unless,
            Operation::Mod,
        ];
        let layer = match kind {
            0..4 => graph.sum(name, UNITS, function),
            4..8 => graph.product(name, UNITS, function),
            _ => graph.operation(name, UNITS, operations[kind - 8]),
        };
        let operands = if *kind < 8 { reads.len() } else { 2 };
        for (source, how) in reads.iter().cycle().take(operands) {
            let source = layers[source.index(layers.len())];
            match how {
                0 => graph.connect(half, layer, Connect::broadcast()),
                1 => graph.connect(source, layer, Connect::diagonal(by)),
                2 if *kind < 8 => graph.connect_constant(0.75, layer),
                3 => graph.connect(source, layer, Connect::scaled(-1.0)),
                4 => graph.connect(source, layer, Connect::scaled(1.5)),
                _ => graph.connect(source, layer, Connect::identity()),
            };
        }
        layers.push(layer);
    }
    graph.output("middle", layers[2 + (layers.len() - 2) / 2]);
    graph.output("last", layers[layers.len() - 1]);
    graph
}

/// The units of each layer of a network, one layer after the other, as its connections say.
fn evaluate(graph: &Graph, given: &[Vec<f64>], weights: &[f64]) -> Vec<Vec<f64>> {
    let weights = [&weights[..UNITS], &weights[UNITS..]];
    let mut values: Vec<Vec<f64>> = Vec::new();
    for id in graph.layer_ids() {
        let layer = graph.layer_at(id);
        let unit = |c: &Connection, u: usize| {
            let source = c.source.map(|source| &values[source.index()]);
            match (c.kind, source) {
                (ConnectionKind::Identity { scale }, Some(v)) => scale * v[u],
                (ConnectionKind::Broadcast { scale }, Some(v)) => scale * v[u / (UNITS / v.len())],
                (ConnectionKind::Diagonal { weight }, Some(v)) => v[u] * weights[weight.index()][u],
                (ConnectionKind::Constant { value }, _) => value,
                other => panic!("{other:?}"),
            }
        };
        let terms: Vec<Vec<f64>> =
            graph.incoming(id).map(|c| (0..UNITS).map(|u| unit(c, u)).collect()).collect();
        let all = |f: fn(f64, f64) -> f64| -> Vec<f64> {
            (0..UNITS).map(|u| layer.function.apply(terms.iter().map(|t| t[u]).reduce(f).unwrap())).collect()
        };
        values.push(match layer.kind {
            LayerKind::Input => given[values.len()].clone(),
            LayerKind::Parameter(weight) => weights[weight.index()].to_vec(),
            LayerKind::Sum => all(|a, b| a + b),
            LayerKind::Product => all(|a, b| a * b),
            LayerKind::Operation(operation) => {
                let operands: Vec<Operand<'_>> = terms.iter().map(|t| Operand::Units(t)).collect();
                operation.evaluate(&Given { operands: &operands, units: UNITS, keeps: None })
            }
            ref other => panic!("{other:?}"),
        });
    }
    values
}

/// A unit of a row: the columns of all buffers, and the weights.
struct Unit<'a> {
    buffers: &'a mut [Vec<f64>],
    weights: &'a mut [f64],
    unit: usize,
}

impl Floats for Unit<'_> {}

impl Interpreter<MapLeaf> for Unit<'_> {
    fn leaf(&mut self, leaf: &MapLeaf) -> f64 {
        let at = |view: View, unit: usize| self.buffers[view.buffer.0][view.column + unit];
        match leaf {
            MapLeaf::Read(read) => at(read.view, self.unit),
            MapLeaf::Repeated(read, repeat) => at(read.view, repeat.place(self.unit)),
            MapLeaf::Weight(offset) => self.weights[offset + self.unit],
            MapLeaf::Mask(_) => 1.0,
        }
    }

    fn store(&mut self, to: &View, value: f64) {
        self.buffers[to.buffer.0][to.column + self.unit] = value;
    }
}

impl Interpreter<OnceLeaf> for Unit<'_> {
    fn leaf(&mut self, leaf: &OnceLeaf) -> f64 {
        let (Flat::Weights(first) | Flat::Gradients(first)) = leaf.from;
        self.weights[first + self.unit / leaf.times]
    }

    fn store(&mut self, to: &Flat, value: f64) {
        let (Flat::Weights(first) | Flat::Gradients(first)) = *to;
        self.weights[first + self.unit] = value;
    }
}

/// The outputs of a plan that has maps alone.
fn run(plan: &Plan, given: &[Vec<f64>], canonical: &[f64]) -> Vec<Vec<f64>> {
    let mut weights = vec![f64::NAN; plan.weights.total()];
    for (number, canonical) in canonical.chunks(UNITS).enumerate() {
        let offset = plan.weights.view(WeightId::from_index(number)).offset;
        weights[offset..][..UNITS].copy_from_slice(canonical);
    }
    for step in &plan.once.forward {
        let OnceStep::Map(map) = step else { panic!("{step:?}") };
        for unit in 0..map.len {
            map.program.run(&mut Unit { buffers: &mut [], weights: &mut weights, unit });
        }
    }
    let mut buffers: Vec<Vec<f64>> = plan.buffers.iter().map(|buffer| vec![f64::NAN; buffer.width]).collect();
    let columns = |view: View| view.column..view.column + view.len;
    for (&input, values) in plan.forward.inputs().iter().zip(given) {
        if let Some(view) = plan.forward_pass.storage[input.index()] {
            buffers[view.buffer.0][columns(view)].copy_from_slice(values);
        }
    }
    let tasks = plan.forward_pass.stages.iter().flat_map(|stage| &stage.tasks);
    for placed in tasks.flat_map(|task| &task.phases).flat_map(|phase| &phase.ops) {
        let Op::Map(map) = &placed.op else { panic!("{:?}", placed.op) };
        for unit in 0..map.len {
            map.program.run(&mut Unit { buffers: &mut buffers, weights: &mut weights, unit });
        }
    }
    let view = |layer: LayerId| plan.forward_pass.storage[layer.index()].unwrap();
    let outputs = plan.forward.outputs().iter().map(|output| view(output.layer));
    outputs.map(|view| buffers[view.buffer.0][columns(view)].to_vec()).collect()
}

proptest! {
    #[test]
    fn programs_compute_what_their_layers_say(
        draws in proptest::collection::vec(
            (0usize..16, 0usize..4, proptest::collection::vec((any::<prop::sample::Index>(), 0usize..7), 1..4)),
            1..20,
        ),
        x in proptest::collection::vec(-2.0f64..2.0, UNITS),
        half in proptest::collection::vec(-2.0f64..2.0, UNITS / 2),
        weights in proptest::collection::vec(-2.0f64..2.0, 2 * UNITS),
    ) {
        let graph = network(&draws);
        let plan = Plan::new(&graph, PlanOptions::inference(1, 1)).unwrap();
        let given = [x, half];
        let expected = evaluate(&graph, &given, &weights);
        let got = run(&plan, &given, &weights);
        for (output, got) in graph.outputs().iter().zip(got) {
            for (&got, &expected) in got.iter().zip(&expected[output.layer.index()]) {
                let same = got == expected || (got.is_nan() && expected.is_nan());
                prop_assert!(same, "{}: {got} instead of {expected}", output.name);
            }
        }
    }
}
