//! Layers that depend on parameters alone, taken out of the frames.
//!
//! `exp(-exp(a)) * cos(b)` of parameters a and b is the same in every frame: it is computed once, when weights have changed,
//! and the network reads it as it reads a parameter. Its gradient is first summed over all frames, as a parameter's is, and
//! then goes once through the adjoint of these few layers.
//!
//! Such a layer is computed unit by unit, from parameters and from others of the kind, of the same frame. Dropout masks and
//! delayed reads are of a frame, so what reads them is not constant; what is constant may be read with a delay, as
//! a parameter may.

use crate::graph::Graph;
use crate::operation::Operation;
use crate::parts::{Connection, ConnectionKind, LayerId, LayerKind, Range};

/// The layers of a network that depend on parameters alone.
#[derive(Clone, Debug, PartialEq)]
pub struct Constants {
    /// These layers and their parameters, with the weights of the network. It has no inputs; its outputs are the
    /// layers, each after those that it reads, in the order of the network's [`Graph::derived`] weights.
    pub graph: Graph,
}

/// A network in normal form whose constant layers are parameters of derived weights, under the ids that they had; and what
/// derives these, if there are any.
pub fn split_constants(mut graph: Graph) -> (Graph, Option<Constants>) {
    let order = constant_layers(&graph);
    if order.is_empty() {
        return (graph, None);
    }
    let mut kept = vec![false; graph.layers().len()];
    for &layer in &order {
        kept[layer.index()] = true;
        graph.incoming(layer).filter_map(|c| c.source).for_each(|source| kept[source.index()] = true);
    }
    let mut constants = graph.clone();
    constants.hand_out_only(&order);
    let constants = constants.retain(&kept);
    for &layer in &order {
        graph.derive_weight(layer);
    }
    // All layers stay; connections that no layer has any more do not.
    let all = vec![true; graph.layers().len()];
    (graph.retain(&all), Some(Constants { graph: constants }))
}

/// The constant layers, each after those that it reads.
fn constant_layers(graph: &Graph) -> Vec<LayerId> {
    let is_parameter = |layer: LayerId| matches!(graph.layer_at(layer).kind, LayerKind::Parameter(_));
    let outgoing = graph.outgoing();
    // How many reads of a layer are not known to be of constants. Layers of another kind never come to 0.
    let mut waiting: Vec<usize> = graph
        .layer_ids()
        .map(|layer| {
            let reads = graph.incoming(layer).filter(|c| c.source.is_some()).count();
            let fits =
                reads > 0 && is_unitwise(graph, layer) && graph.incoming(layer).all(|c| is_plain(graph, c));
            if fits { reads } else { usize::MAX }
        })
        .collect();
    let mut order: Vec<LayerId> = graph.layer_ids().filter(|&layer| is_parameter(layer)).collect();
    let mut done = 0;
    while let Some(&layer) = order.get(done) {
        done += 1;
        for target in outgoing[layer.index()].iter().map(|&c| graph.connection_at(c).target) {
            let left = &mut waiting[target.index()];
            if *left != usize::MAX {
                *left -= 1;
                if *left == 0 {
                    order.push(target);
                }
            }
        }
    }
    order.retain(|&layer| !is_parameter(layer));
    order
}

fn is_unitwise(graph: &Graph, layer: LayerId) -> bool {
    match graph.layer_at(layer).kind {
        LayerKind::Sum | LayerKind::Product => true,
        LayerKind::Operation(Operation::DropoutMask { .. }) => false,
        LayerKind::Operation(op) => op.is_elementwise(),
        _ => false,
    }
}

/// Whether a term is a number, or units of another layer in the same frame, one for each unit of the layer.
fn is_plain(graph: &Graph, c: &Connection) -> bool {
    let whole = c.target_range == Range::new(0, graph.layer_at(c.target).size);
    let plain = matches!(c.kind, ConnectionKind::Identity { .. } | ConnectionKind::Constant { .. });
    whole && plain && c.delay == 0
}
