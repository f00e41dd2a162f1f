//! A scan component computed by scan equals the same computed frame after frame.

use proptest::prelude::*;
use proptest::test_runner::contextualize_config;
use rnnc_graph::{
    Activation, Coefficients, Component, Components, Connect, Direction, Graph, Init, Kind, LayerId,
    LayerKind, Operation, Start, WeightId, initial_values,
};
use rnnc_plan::{ExecutionConfig, Executor, ParameterArray, Plan, PlanOptions, Values, ValuesMut};
use rnnc_reference::ReferenceExecutor;

const UNITS: usize = 3;

/// One layer of a cycle to be.
#[derive(Clone, Debug)]
struct Link {
    /// 0..4 sum, 4 product, 5 quotient.
    kind: u8,
    /// The delay of its read of the layer before it in the ring.
    delay: i64,
    /// The connection of that read: scaled, or diagonal.
    diagonal: bool,
    /// Further reads, of sums: the layer, the delay (0 only of layers before), diagonal.
    more: Vec<(usize, i64, bool)>,
    /// Zero, constant, learned.
    start: u8,
}

fn links() -> impl Strategy<Value = Vec<Link>> {
    let more = proptest::collection::vec((0usize..4, 0i64..4, any::<bool>()), 0..3);
    let link = (0u8..6, 0i64..3, any::<bool>(), more, 0u8..3);
    let link =
        link.prop_map(|(kind, delay, diagonal, more, start)| Link { kind, delay, diagonal, more, start });
    proptest::collection::vec(link, 1..5)
}

/// A ring of layers, with gates and terms from outside; `sign` is the direction of time.
fn build(links: &[Link], sign: i64) -> Graph {
    let mut graph = Graph::new("ring");
    let x = graph.input("x", UNITS);
    let dense = |graph: &mut Graph, name: &str, f| {
        let weight = graph.weight(format!("{name}.W"), &[UNITS, UNITS], Init::Uniform(0.8));
        let layer = graph.sum(name, UNITS, f);
        graph.connect(x, layer, Connect::full(weight));
        layer
    };
    let ring: Vec<LayerId> = links
        .iter()
        .enumerate()
        .map(|(i, link)| match link.kind {
            0..4 => graph.sum(format!("c{i}"), UNITS, Activation::Identity),
            4 => graph.product(format!("c{i}"), UNITS, Activation::Identity),
            _ => graph.layer(format!("c{i}"), UNITS, LayerKind::Operation(Operation::Divide)),
        })
        .collect();
    let read = |graph: &mut Graph, from: LayerId, to: LayerId, delay: i64, diagonal: bool| {
        let delay = delay * sign;
        if diagonal {
            let name = format!("diag{}", graph.weights().len());
            let weight = graph.weight(name, &[UNITS], Init::Uniform(0.7));
            graph.connect(from, to, Connect::diagonal(weight).delay(delay));
        } else {
            graph.connect(from, to, Connect::scaled(0.6).delay(delay));
        }
    };
    for (i, link) in links.iter().enumerate() {
        let before = ring[(i + ring.len() - 1) % ring.len()];
        // Without delay only along the ring, and not all the way round.
        let delay = if i == 0 { link.delay.max(1) } else { link.delay };
        let weighted = link.diagonal && link.kind < 4;
        read(&mut graph, before, ring[i], delay, weighted);
        match link.kind {
            0..4 => {
                for &(source, delay, diagonal) in &link.more {
                    let source = source % ring.len();
                    let delay = if source < i { delay } else { delay.max(1) };
                    read(&mut graph, ring[source], ring[i], delay, diagonal);
                }
                let term = dense(&mut graph, &format!("term{i}"), Activation::Tanh);
                // From outside, of other frames too.
                graph.connect(term, ring[i], Connect::scaled(0.5));
                graph.connect(term, ring[i], Connect::scaled(0.25).delay(sign));
            }
            4 => {
                let gate = dense(&mut graph, &format!("gate{i}"), Activation::Sigmoid);
                graph.connect(gate, ring[i], Connect::identity());
                graph.connect(gate, ring[i], Connect::scaled(-1.5).delay(2 * sign));
            }
            _ => {
                let divisor = dense(&mut graph, &format!("divisor{i}"), Activation::Sigmoid);
                let above = graph.sum(format!("above{i}"), UNITS, Activation::Identity);
                graph.connect(divisor, above, Connect::identity());
                graph.connect_constant(1.25, above);
                graph.connect(above, ring[i], Connect::identity());
            }
        }
        match link.start {
            0 => {}
            1 => graph.set_start(ring[i], Start::Constant(0.75)),
            _ => {
                let weight = graph.weight(format!("start{i}"), &[UNITS], Init::Uniform(1.0));
                graph.set_start(ring[i], Start::Learned(weight));
            }
        }
    }
    for (i, &layer) in ring.iter().enumerate() {
        graph.output(format!("c{i}"), layer);
    }
    graph
}

/// The values of all outputs, `[T, B, N]` each.
fn run(graph: &Graph, frames: usize, streams: usize, x: &[f64], resets: &[bool]) -> Vec<Vec<f64>> {
    let plan = Plan::new(graph, PlanOptions::inference(streams, frames)).unwrap();
    let mut executor = ReferenceExecutor::new(plan, ExecutionConfig::new(streams, frames)).unwrap();
    for (i, weight) in graph.weights().iter().enumerate() {
        let values = initial_values(weight, 7);
        executor.write(ParameterArray::Weight, WeightId::from_index(i), Values::F64(&values)).unwrap();
    }
    executor.forward(frames, &[Values::F64(x)], Some(resets)).unwrap();
    let outputs = graph.outputs().iter().enumerate();
    outputs
        .map(|(i, output)| {
            let mut values = vec![0.0; frames * streams * graph.layer_at(output.layer).size];
            executor.output(i, ValuesMut::F64(&mut values)).unwrap();
            values
        })
        .collect()
}

/// s(t) = A s(t-1) + b, of one unit.
#[derive(Clone, Debug)]
struct Step {
    a: Vec<Vec<f64>>,
    b: Vec<f64>,
}

/// What `later` after `earlier` does.
fn combine(later: &Step, earlier: &Step) -> Step {
    let k = later.b.len();
    let dot = |row: &[f64], column: &dyn Fn(usize) -> f64| (0..k).map(|j| row[j] * column(j)).sum::<f64>();
    Step {
        a: (0..k).map(|i| (0..k).map(|j| dot(&later.a[i], &|m| earlier.a[m][j])).collect()).collect(),
        b: (0..k).map(|i| dot(&later.a[i], &|m| earlier.b[m]) + later.b[i]).collect(),
    }
}

/// All prefixes, by recursive doubling (Hillis & Steele 1986): log2 T rounds, in each of which no step waits for
/// another.
fn scan(mut steps: Vec<Step>) -> Vec<Step> {
    let mut distance = 1;
    while distance < steps.len() {
        steps = (0..steps.len())
            .map(|t| match t.checked_sub(distance) {
                Some(earlier) => combine(&steps[t], &steps[earlier]),
                None => steps[t].clone(),
            })
            .collect();
        distance *= 2;
    }
    steps
}

/// Whether, in the direction of the cycle, a read of that delay from frame t crosses a reset or the ends.
fn crosses(
    t: usize,
    delay: usize,
    frames: usize,
    direction: Direction,
    reset: impl Fn(usize) -> bool,
) -> bool {
    match direction {
        Direction::Forward => delay > t || (t - delay + 1..=t).any(reset),
        Direction::Backward => t + delay >= frames || (t + 1..=t + delay).any(reset),
    }
}

fn start(graph: &Graph, layer: LayerId, unit: usize) -> f64 {
    match graph.layer_at(layer).start {
        Start::Zero => 0.0,
        Start::Constant(value) => value,
        Start::Learned(weight) => initial_values(graph.weight_at(weight), 7)[unit],
    }
}

/// The values of the states' layers, by scan: for each row (layer, 1) of the recurrence, `[T, B, N]`.
fn by_scan(
    graph: &Graph,
    component: &Component,
    c: &Coefficients,
    (frames, streams): (usize, usize),
    x: &[f64],
    resets: &[bool],
) -> Vec<(LayerId, Vec<f64>)> {
    let values = run(&c.graph, frames, streams, x, resets);
    let value = |layer: Option<LayerId>, t: usize, stream: usize, unit: usize| match layer {
        None => 0.0,
        Some(layer) => {
            let place = c.graph.outputs().iter().position(|o| o.layer == layer).unwrap();
            values[place][(t * streams + stream) * UNITS + unit]
        }
    };
    let k = c.states.len();
    let rows: Vec<usize> = (0..k).filter(|&row| c.states[row].1 == 1).collect();
    let mut out: Vec<(LayerId, Vec<f64>)> =
        rows.iter().map(|&row| (c.states[row].0, vec![0.0; frames * streams * UNITS])).collect();
    for stream in 0..streams {
        for unit in 0..UNITS {
            let frame = |step: usize| match component.direction {
                Direction::Forward => step,
                Direction::Backward => frames - 1 - step,
            };
            let steps = (0..frames).map(frame).map(|t| {
                let mut step = Step {
                    a: c.matrix
                        .iter()
                        .map(|row| row.iter().map(|&entry| value(entry, t, stream, unit)).collect())
                        .collect(),
                    b: c.vector.iter().map(|&entry| value(entry, t, stream, unit)).collect(),
                };
                for (column, &(layer, delay)) in c.states.iter().enumerate() {
                    let reset = |r: usize| resets[r * streams + stream];
                    if crosses(t, delay, frames, component.direction, reset) {
                        for &row in &rows {
                            let coefficient = std::mem::take(&mut step.a[row][column]);
                            step.b[row] += coefficient * start(graph, layer, unit);
                        }
                    }
                }
                step
            });
            // Before the first frame s is 0: what is left of every prefix is b.
            for (step, prefix) in scan(steps.collect()).into_iter().enumerate() {
                for (place, &row) in rows.iter().enumerate() {
                    out[place].1[(frame(step) * streams + stream) * UNITS + unit] = prefix.b[row];
                }
            }
        }
    }
    out
}

/// The largest difference between the ring's values by scan and by loop, relative to the largest value; `None` if it is
/// no scan.
fn compare(graph: &Graph, frames: usize, streams: usize, x: &[f64], resets: &[bool]) -> Option<f64> {
    let components = Components::find(graph).unwrap();
    let component = components.of(graph.outputs()[0].layer);
    let c = component.coefficients(graph)?;
    rnnc_graph::validate(&c.graph).unwrap();
    let found = Components::find(&c.graph).unwrap();
    assert!(found.list.iter().all(|c| c.kind == Kind::Frames), "the coefficients have a cycle");
    let loops = run(graph, frames, streams, x, resets);
    let mut worst = 0.0f64;
    for (layer, values) in by_scan(graph, component, &c, (frames, streams), x, resets) {
        let place = graph.outputs().iter().position(|o| o.layer == layer).unwrap();
        let largest = loops[place].iter().fold(1.0f64, |m, v| m.max(v.abs()));
        for (a, b) in values.iter().zip(&loops[place]) {
            worst = worst.max((a - b).abs() / largest);
        }
    }
    Some(worst)
}

/// Numbers in -1 .. 1 that repeat.
fn noise(count: usize) -> Vec<f64> {
    (0..count).map(|i| (1.7 * i as f64 + 0.3).sin()).collect()
}

proptest! {
    #![proptest_config(contextualize_config(ProptestConfig {
        failure_persistence: None,
        max_global_rejects: 100_000,
        ..ProptestConfig::with_cases(300)
    }))]
    #[test]
    fn a_scan_component_computed_by_scan_equals_the_same_computed_by_loop(
        links in links(),
        backward in any::<bool>(),
        frames in 1usize..24,
        streams in 1usize..3,
        resets in proptest::collection::vec(proptest::bool::weighted(0.15), 48),
    ) {
        let graph = build(&links, if backward { -1 } else { 1 });
        let x = noise(frames * streams * UNITS);
        let difference = compare(&graph, frames, streams, &x, &resets[..frames * streams]);
        prop_assume!(difference.is_some()); // up to four numbers a unit
        prop_assert!(difference.unwrap() < 1e-9, "{difference:?}");
    }
}

#[test]
fn a_scan_of_two_layers_and_three_numbers_equals_its_loop_in_both_directions() {
    for sign in [1, -1] {
        let link = |kind, delay| Link { kind, delay, diagonal: true, more: vec![(1, 2, true)], start: 2 };
        let graph = build(&[link(0, 2), link(0, 1)], sign);
        let components = Components::find(&graph).unwrap();
        let component = components.of(graph.outputs()[0].layer);
        let c = component.coefficients(&graph).unwrap();
        assert_eq!(c.states.len(), 3); // c0 one frame ago, c1 one and two
        let resets: Vec<bool> = (0..40).map(|i| i % 11 == 5).collect();
        let difference = compare(&graph, 20, 2, &noise(20 * 2 * UNITS), &resets).unwrap();
        assert!(difference < 1e-12, "{difference}");
    }
}

#[test]
fn a_loop_has_no_coefficients() {
    let mut graph = Graph::new("loop");
    let h = graph.sum("h", UNITS, Activation::Tanh);
    graph.connect(h, h, Connect::identity().delay(1));
    graph.output("h", h);
    let components = Components::find(&graph).unwrap();
    assert_eq!(components.of(h).coefficients(&graph), None);
}
