//! What the backward pass computes again instead of having it saved.

use crate::graph::Graph;
use crate::parts::{Connection, ConnectionKind, LayerId, LayerKind, Range};
use crate::simplify::retain_needed;
use std::collections::HashMap;

/// Replaces saved layers by computing them again, where that takes nothing but undelayed elementwise steps from
/// layers that are saved anyway.
pub(crate) fn recompute(forward: &Graph, mut adjoint: Graph) -> Graph {
    let mut saved: Vec<Option<LayerId>> = vec![None; forward.layers().len()];
    for id in adjoint.layer_ids() {
        if let LayerKind::Residual(of) = adjoint.layer_at(id).kind {
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
    let free = |id: LayerId| mask_key(forward, id).is_some();
    // The adjoint's masks. Whatever they are called there, their keys say which they are.
    let mut masks: HashMap<u64, LayerId> =
        adjoint.layer_ids().filter_map(|id| Some((mask_key(&adjoint, id)?, id))).collect();
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
            // What is not saved is a mask, which the adjoint may have already.
            let source = c.source.map(|s| match (saved[s.index()], mask_key(forward, s)) {
                (Some(value), _) => value,
                (None, Some(key)) => {
                    *masks.entry(key).or_insert_with(|| adjoint.add_layer(forward.layer_at(s).clone()))
                }
                (None, None) => adjoint.add_layer(forward.layer_at(s).clone()),
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

/// The key of a layer that is a dropout mask.
fn mask_key(graph: &Graph, id: LayerId) -> Option<u64> {
    match graph.layer_at(id).kind {
        LayerKind::Operation(op) => op.key(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::activations::Activation;
    use crate::adjoint::{Adjoint, AdjointOptions};
    use crate::graph::Connect;
    use crate::validate;

    /// y = tanh(x) times a mask that is called as the adjoint calls the error of `y`; a product with another mask is computed
    /// again by the adjoint.
    fn masked() -> (Graph, [LayerId; 2]) {
        let mut g = Graph::new("masked");
        let x = g.input("x", 4);
        let masks = [g.mask("d_y", 4, 0.5), g.mask("d x", 4, 0.25)];
        let kept = g.product("kept", 4, Activation::Identity);
        g.connect(x, kept, Connect::identity());
        g.connect(masks[1], kept, Connect::identity());
        let y = g.product("y", 4, Activation::Identity);
        g.connect(kept, y, Connect::identity());
        g.connect(kept, y, Connect::identity());
        g.connect(masks[0], y, Connect::identity());
        g.output("y", y);
        (g, masks)
    }

    #[test]
    fn a_mask_keeps_its_key_whatever_the_adjoint_calls_it_and_is_there_once() {
        let (g, masks) = masked();
        let Adjoint { graph: adjoint, .. } =
            Adjoint::derive(&g, AdjointOptions { input_gradients: true, ..AdjointOptions::default() })
                .unwrap();
        let keys = |graph: &Graph| -> Vec<u64> {
            let mut keys: Vec<u64> = graph.layer_ids().filter_map(|id| mask_key(graph, id)).collect();
            keys.sort_unstable();
            keys
        };
        assert_eq!(keys(&adjoint), keys(&g));
        // The one of that name is the error that is handed in.
        let named = adjoint.find_layer("d_y").unwrap();
        assert_eq!(adjoint.layer_at(named).kind, LayerKind::Input);
        assert_ne!(mask_key(&g, masks[0]), mask_key(&g, masks[1]));
    }

    #[test]
    fn two_masks_of_one_key_are_refused_by_their_names() {
        let (mut g, masks) = masked();
        g.layer_at_mut(masks[1]).kind = g.layer_at(masks[0]).kind;
        let error = validate(&g).unwrap_err().to_string();
        assert!(error.contains("layer `d x`: its dropout mask has the key of that of `d_y`"), "{error}");
    }
}
