//! Random networks that are valid by construction.

use super::*;
use proptest::prelude::*;

/// One layer to be: its kind, activation, and what it reads (source by number, delay, how).
#[derive(Clone, Debug)]
pub struct Plan {
    kind: u8,
    activation: u8,
    reads: Vec<(usize, i64, u8)>,
}

/// Up to `most` layers of 4 units with delays up to 3, at least one input and one output.
pub fn networks(most: usize) -> impl Strategy<Value = Graph> {
    let read = (0usize..most + 1, 0i64..4, 0u8..6);
    let layer = (0u8..6, 0u8..6, proptest::collection::vec(read, 1..4));
    let layer = layer.prop_map(|(kind, activation, reads)| Plan { kind, activation, reads });
    proptest::collection::vec(layer, 1..most).prop_map(|layers| build(&layers))
}

fn build(layers: &[Plan]) -> Graph {
    let n = 4;
    let mut net = Net::new("random");
    let x = net.graph.input("x", n);
    let mut ids = vec![x];
    for (i, layer) in layers.iter().enumerate() {
        let f = [Identity, Identity, Sigmoid, Tanh, Activation::Relu, Activation::Softplus]
            [usize::from(layer.activation)];
        let name = format!("l{i}");
        ids.push(match layer.kind {
            0..4 => net.graph.sum(name, n, f),
            4 => net.graph.product(name, n, f),
            _ => net.graph.operation(name, n, Operation::Softmax { groups: 1 }),
        });
    }
    for (i, layer) in layers.iter().enumerate() {
        let target = ids[i + 1];
        let operation = matches!(net.graph.layer_at(target).kind, LayerKind::Operation(_));
        let reads = if operation { &layer.reads[..1] } else { &layer.reads[..] };
        for &(source, delay, how) in reads {
            let source = source % ids.len();
            // Without delay, only what comes before: no cycle is without one.
            let delay = if source <= i { delay } else { delay.max(1) };
            match how {
                0..2 if !operation => net.full(ids[source], target, delay),
                2 if !operation => net.diag(ids[source], target, delay),
                _ => net.add(ids[source], target, delay),
            }
        }
    }
    let last = ids[ids.len() - 1];
    net.graph.output("last", last);
    net.graph.output("middle", ids[ids.len() / 2]);
    net.graph
}
