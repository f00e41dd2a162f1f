//! The normal form that lowering and differentiation start from: the same network, in fewer shapes.
//!
//! - Factors and operands are plain reads (identity, broadcast, constant; of vector functions, identity alone); others
//!   become sum layers.
//! - A broadcast of as many units as it writes is an identity.
//! - Full connections write all units of a layer; into a part, they become a layer of that size.
//! - An activation whose derivative needs its argument has one read, unscaled: of a layer with the argument.
//! - What reads copies of other layers reads those (`copies.rs`).
//! - Layers that neither an output nor the held state depends on are gone. Inputs and weights stay, in their order.

use crate::activations::{DerivativeReads, Function};
use crate::copies::forward_copies;
use crate::graph::Graph;
use crate::parts::{Connection, ConnectionId, ConnectionKind, Layer, LayerId, LayerKind, Range, Start};

/// The same network in normal form. Its layers keep their names; new ones are numbered after them.
pub fn normalize(graph: &Graph) -> Graph {
    let mut out = graph.clone();
    for id in graph.layer_ids() {
        let layer = graph.layer_at(id);
        split_terms(&mut out, id);
        if let Function::Apply(activation) = layer.function
            && activation.derivative_reads() == DerivativeReads::Argument
            && !reads_its_argument(&out, id)
        {
            split_argument(&mut out, id);
        }
    }
    forward_copies(&mut out);
    let mut kept = reaches(&out, out.outputs().iter().map(|o| o.layer).chain(out.held().iter().copied()));
    for input in out.inputs() {
        kept[input.index()] = true;
    }
    out.retain(&kept)
}

/// For each layer, whether one of `ends` depends on it, in any frame.
fn reaches(graph: &Graph, ends: impl Iterator<Item = LayerId>) -> Vec<bool> {
    let mut reached = vec![false; graph.layers().len()];
    let mut open: Vec<LayerId> = ends.collect();
    while let Some(layer) = open.pop() {
        if !std::mem::replace(&mut reached[layer.index()], true) {
            open.extend(graph.incoming(layer).filter_map(|c| c.source));
        }
    }
    reached
}

pub(crate) fn anonymous(graph: &Graph, of: LayerId, size: usize, kind: LayerKind) -> Layer {
    let layer = graph.layer_at(of);
    Layer {
        name: layer.name.clone(),
        size,
        kind,
        function: Function::IDENTITY,
        start: Start::Zero,
        origin: layer.origin,
        error_of: layer.error_of,
    }
}

/// Gives each term that the layer cannot take as it is a sum layer of its own, and broadcasts that repeat nothing their
/// simpler name.
pub(crate) fn split_terms(graph: &mut Graph, id: LayerId) {
    let layer = graph.layer_at(id);
    let (kind, size) = (layer.kind, layer.size);
    for place in graph.incoming_ids(id).to_vec() {
        if let ConnectionKind::Broadcast { scale } = graph.connection_at(place).kind
            && graph.connection_at(place).source_range.len == graph.connection_at(place).target_range.len
        {
            graph.connection_at_mut(place).kind = ConnectionKind::Identity { scale };
        }
        let c = graph.connection_at(place).clone();
        let weighted = matches!(c.kind, ConnectionKind::Full { .. } | ConnectionKind::Diagonal { .. });
        let fits = match kind {
            LayerKind::Product => !weighted,
            LayerKind::Operation(op) if op.is_elementwise() => !weighted,
            LayerKind::Operation(_) => c.kind == ConnectionKind::Identity { scale: 1.0 },
            _ => !matches!(c.kind, ConnectionKind::Full { .. }) || c.target_range == Range::new(0, size),
        };
        if !fits {
            split_term(graph, place, c.kind, 1.0);
        }
    }
}

/// Gives the term of a connection a sum layer of its own, which reads what was read by a connection of that kind; the target
/// reads that layer, scaled. Returns the layer.
pub(crate) fn split_term(
    graph: &mut Graph,
    place: ConnectionId,
    kind: ConnectionKind,
    scale: f64,
) -> LayerId {
    let c = graph.connection_at(place).clone();
    let units = Range::new(0, c.target_range.len);
    let term = graph.add_layer(anonymous(graph, c.target, units.len, LayerKind::Sum));
    *graph.connection_at_mut(place) = Connection {
        source: Some(term),
        kind: ConnectionKind::Identity { scale },
        delay: 0,
        source_range: units,
        stops_gradient: false,
        ..c.clone()
    };
    graph.add_connection(Connection { target: term, kind, target_range: units, ..c });
    term
}

/// Whether the layer is f of another layer's units, with nothing between.
fn reads_its_argument(graph: &Graph, id: LayerId) -> bool {
    let mut incoming = graph.incoming(id);
    let (Some(c), None) = (incoming.next(), incoming.next()) else { return false };
    graph.layer_at(id).kind == LayerKind::Sum && is_plain(graph, c)
}

/// Whether a connection hands over all units of the source, undelayed and unscaled, to all units of the target.
fn is_plain(graph: &Graph, c: &Connection) -> bool {
    c.kind == ConnectionKind::Identity { scale: 1.0 }
        && c.delay == 0
        && c.target_range == Range::new(0, graph.layer_at(c.target).size)
        && c.source.is_some_and(|s| c.source_range == Range::new(0, graph.layer_at(s).size))
}

fn split_argument(graph: &mut Graph, id: LayerId) {
    let layer = graph.layer_at(id).clone();
    let argument = graph.add_layer(anonymous(graph, id, layer.size, layer.kind));
    graph.move_incoming(id, argument);
    graph.layer_at_mut(id).kind = LayerKind::Sum;
    graph.connect(argument, id, crate::graph::Connect::identity());
}
