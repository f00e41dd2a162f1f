//! Layers that depend on parameters alone, taken out of the frames.
//!
//! `softmax(exp(-exp(a)) * cos(b))` of parameters a and b is the same in every frame: it is computed once, when weights have
//! changed, and the network reads it as it reads a parameter. Its gradient is first summed over all frames, as a parameter's
//! is, and then goes once through the adjoint of these few layers.
//!
//! Such a layer reads parameters and others of the kind, all in the same frame. Dropout masks and delayed reads are of a
//! frame, so what reads them is not constant; what is constant may be read with a delay, as a parameter may.

use crate::activations::Function;
use crate::graph::Graph;
use crate::normalize::split_term;
use crate::parts::{ConnectionKind, LayerId, LayerKind, Range};

/// The layers of a network that depend on parameters alone.
#[derive(Clone, Debug, PartialEq)]
pub struct Constants {
    /// These layers and their parameters, with the weights of the network. It has no inputs; its outputs are the
    /// layers, each after those that it reads, in the order of the network's [`Graph::derived`] weights.
    ///
    /// A matrix, a weight for each unit and a broadcast (of scale 1) each are all that a layer does; else a layer reads other
    /// layers' units as they are, or scaled.
    pub graph: Graph,
}

/// A network in normal form whose constant layers are parameters of derived weights, under the ids that they had; and what
/// derives these, if there are any.
pub fn split_constants(mut graph: Graph) -> (Graph, Option<Constants>) {
    let order = constant_layers(&graph);
    if order.is_empty() {
        return (graph, None);
    }
    let mut constants = graph.clone();
    let mut derived = Vec::with_capacity(order.len());
    for &layer in &order {
        derived.extend(split_terms(&mut constants, layer));
        derived.push(layer);
    }
    let mut kept = vec![false; constants.layers().len()];
    for &layer in &derived {
        kept[layer.index()] = true;
        constants.incoming(layer).filter_map(|c| c.source).for_each(|source| kept[source.index()] = true);
    }
    constants.hand_out_only(&derived);
    for &id in &derived {
        let layer = constants.layer_at(id);
        let weight = graph.derive_weight(layer.name.clone(), layer.size);
        // The terms that were split off are in no frame.
        if id.index() < graph.layers().len() {
            graph.make_parameter(id, weight);
        }
    }
    let constants = constants.retain(&kept);
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
                reads > 0 && is_of_all_frames(graph, layer) && graph.incoming(layer).all(|c| c.delay == 0);
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

/// Whether a layer's value follows from what it reads in the same frame, whichever that is.
fn is_of_all_frames(graph: &Graph, layer: LayerId) -> bool {
    match graph.layer_at(layer).kind {
        LayerKind::Sum | LayerKind::Product => true,
        // Of several units at once only what has a single step back: `rnnc-plan/src/once.rs` has no room for more.
        LayerKind::Operation(op) => op.key().is_none() && (op.is_elementwise() || op.gradient().is_some()),
        LayerKind::Input | LayerKind::Symbol | LayerKind::Parameter(_) | LayerKind::Residual(_) => false,
    }
}

/// Gives each term that is more than a number or another layer's units a layer of its own, unless it is all that the layer
/// does. Returns these layers.
fn split_terms(graph: &mut Graph, id: LayerId) -> Vec<LayerId> {
    let layer = graph.layer_at(id);
    let whole = Range::new(0, layer.size);
    let is_sum = layer.kind == LayerKind::Sum && layer.function == Function::IDENTITY;
    let is_alone = is_sum && graph.incoming_ids(id).len() == 1;
    let mut split = Vec::new();
    for place in graph.incoming_ids(id).to_vec() {
        let c = graph.connection_at(place).clone();
        let (kind, scale) = match c.kind {
            ConnectionKind::Identity { .. } | ConnectionKind::Constant { .. } => continue,
            ConnectionKind::Broadcast { scale } => (ConnectionKind::Broadcast { scale: 1.0 }, scale),
            ConnectionKind::Full { .. } | ConnectionKind::Diagonal { .. } => (c.kind, 1.0),
        };
        if is_alone && scale == 1.0 && c.target_range == whole {
            continue;
        }
        split.push(split_term(graph, place, kind, scale));
    }
    split
}
