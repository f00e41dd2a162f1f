//! What the backward pass computes again instead of having it saved.

use crate::graph::Graph;
use crate::operation::Operation;
use crate::parts::{Connection, ConnectionKind, LayerId, LayerKind, Range};
use crate::simplify::retain_needed;

/// Replaces saved layers by computing them again, where that takes nothing but undelayed elementwise steps from
/// layers that are saved anyway.
pub(crate) fn recompute(forward: &Graph, mut adjoint: Graph) -> Graph {
    let mut saved: Vec<Option<LayerId>> = vec![None; forward.layers().len()];
    for id in adjoint.layer_ids() {
        if let LayerKind::Saved(of) = adjoint.layer_at(id).kind {
            saved[of.index()] = Some(id);
        }
    }
    // Read with a delay, or over all frames by a weight's gradient: those are needed as arrays.
    let mut fixed = vec![false; adjoint.layers().len()];
    for c in adjoint.connections() {
        if let Some(source) = c.source {
            fixed[source.index()] |= c.delay != 0;
        }
    }
    for source in adjoint.accumulations().iter().filter_map(|a| a.kind.source()) {
        fixed[source.index()] = true;
    }
    // Parameters change between windows, and older frames keep the values that were computed with the old ones.
    let free = |id: LayerId| {
        matches!(forward.layer_at(id).kind, LayerKind::Operation(Operation::DropoutMask { .. }))
    };
    let mut dropped = vec![false; forward.layers().len()];
    for of in forward.layer_ids() {
        let Some(id) = saved[of.index()] else { continue };
        let cheap = match forward.layer_at(of).kind {
            LayerKind::Sum | LayerKind::Product => true,
            LayerKind::Operation(op) => op.is_elementwise(),
            _ => false,
        };
        let at_hand = |c: &Connection| {
            let plain = matches!(
                c.kind,
                ConnectionKind::Identity { .. }
                    | ConnectionKind::Broadcast { .. }
                    | ConnectionKind::Constant { .. }
            );
            let whole = c.target_range == Range::new(0, forward.layer_at(of).size);
            let source =
                c.source.is_none_or(|s| free(s) || (saved[s.index()].is_some() && !dropped[s.index()]));
            plain && whole && c.delay == 0 && source && c.source != Some(of)
        };
        if !cheap || fixed[id.index()] || !forward.incoming(of).all(at_hand) {
            continue;
        }
        dropped[of.index()] = true;
        let layer = forward.layer_at(of).clone();
        let place = adjoint.layer_at_mut(id);
        (place.kind, place.function) = (layer.kind, layer.function);
        for c in forward.incoming(of) {
            // What is not saved is a mask, which the adjoint may have by that name already.
            let source = c.source.map(|s| {
                let named = || adjoint.find_layer(&forward.layer_at(s).name);
                let value = saved[s.index()].or_else(named);
                value.unwrap_or_else(|| adjoint.add_layer(forward.layer_at(s).clone()))
            });
            // What it reads must stay.
            if let Some(value) = source {
                fixed.resize(adjoint.layers().len(), false);
                fixed[value.index()] = true;
            }
            adjoint.add_connection(Connection { source, target: id, ..c.clone() });
        }
    }
    retain_needed(&adjoint)
}
