//! Sums what arrives in one layer from many before it waits, in cycles that are scans: a state for the layer that reads, in
//! place of one for each layer read.
//!
//! A recurrence that reads its state in k places has an adjoint that reads k layers with a delay and adds them up. Its
//! state may be those k numbers a unit, or their sum. With p(t) = q1(t) + .. + qk(t), a layer that reads each q(t - d) reads
//! p(t - d). Of reads with delays d1 < d2, the later ones join on the way: p1(t) = q1(t) + p2(t - (d2 - d1)). So a layer
//! costs its longest delay, which is what the recurrence's own state costs: an adjoint never has the higher order.
//!
//! All starts are 0, so a read that crosses a reset gives 0 by either way.

use crate::cycles::{Digraph, Edge};
use crate::graph::{Connect, Graph};
use crate::normalize::anonymous;
use crate::parts::{Connection, ConnectionId, ConnectionKind, LayerId, LayerKind, Start};
use crate::scan;
use std::collections::{BTreeMap, HashSet};

/// An equal graph in which the elementwise affine cycles that have fewer numbers a unit that way sum first. Connections
/// that no layer has any more are left behind: the graph is to be [`Graph::retain`]ed.
pub(crate) fn gather_reads(graph: &mut Graph) {
    let edges = graph.connections().iter().filter_map(|c| {
        c.source.map(|source| Edge { from: source.index(), to: c.target.index(), delay: c.delay })
    });
    let groups = Digraph::new(graph.layers().len(), edges.collect()).components();
    let mut of_layer = vec![0; graph.layers().len()];
    for (place, group) in groups.iter().enumerate() {
        group.iter().for_each(|&layer| of_layer[layer] = place);
    }
    for (place, group) in groups.iter().enumerate() {
        let layers: Vec<LayerId> = group.iter().map(|&l| LayerId::from_index(l)).collect();
        let member = |layer: LayerId| of_layer.get(layer.index()) == Some(&place);
        let delayed: Vec<ConnectionId> = layers
            .iter()
            .flat_map(|&layer| graph.incoming_ids(layer))
            .copied()
            .filter(|&id| {
                let c = graph.connection_at(id);
                c.delay != 0 && c.source.is_some_and(member)
            })
            .collect();
        // The order in which the obstacles of a frame are found does not matter, only whether there are any.
        if delayed.len() > 1 && scan::obstacles(graph, &layers, member).is_empty() {
            gather(graph, &delayed);
        }
    }
}

/// The same for one cycle, whose delayed reads these are.
fn gather(graph: &mut Graph, delayed: &[ConnectionId]) {
    let ahead = graph.connection_at(delayed[0]).delay < 0;
    let sums = |c: &Connection| {
        let plain = matches!(c.kind, ConnectionKind::Identity { .. } | ConnectionKind::Diagonal { .. });
        let zero = c.source.is_some_and(|s| graph.layer_at(s).start == Start::Zero);
        plain && zero && graph.layer_at(c.target).kind == LayerKind::Sum
    };
    // Of each layer that could sum first, its reads; then what is read in other ways.
    let mut targets: BTreeMap<LayerId, Vec<ConnectionId>> = BTreeMap::new();
    for &id in delayed {
        let c = graph.connection_at(id);
        if (c.delay < 0) != ahead {
            return;
        }
        if sums(c) {
            targets.entry(c.target).or_default().push(id);
        }
    }
    targets.retain(|_, reads| reads.len() > 1);
    let delay = |id: ConnectionId| graph.connection_at(id).delay.unsigned_abs();
    let numbers = |ids: &mut dyn Iterator<Item = ConnectionId>| {
        let mut longest: BTreeMap<Option<LayerId>, u64> = BTreeMap::new();
        for id in ids {
            let longest = longest.entry(graph.connection_at(id).source).or_default();
            *longest = (*longest).max(delay(id));
        }
        longest.values().fold(0u64, |sum, d| sum.saturating_add(*d))
    };
    let before = numbers(&mut delayed.iter().copied());
    let others = |id: &ConnectionId| {
        !targets.contains_key(&graph.connection_at(*id).target) || !sums(graph.connection_at(*id))
    };
    let apart = numbers(&mut delayed.iter().copied().filter(others));
    let longest = |reads: &Vec<ConnectionId>| reads.iter().map(|&id| delay(id)).max().unwrap_or(0);
    let after = targets.values().map(longest).fold(apart, u64::saturating_add);
    if after >= before {
        return;
    }
    for (target, mut reads) in targets {
        let moved: HashSet<ConnectionId> = reads.iter().copied().collect();
        let kept = graph.incoming_ids(target).iter().copied().filter(|id| !moved.contains(id)).collect();
        reads.sort_by_key(|&id| std::cmp::Reverse(graph.connection_at(id).delay.unsigned_abs()));
        graph.keep_incoming(target, kept);
        let mut sum: Option<(LayerId, i64)> = None;
        for id in reads {
            let c = graph.connection_at(id).clone();
            let longer = sum.filter(|&(_, delay)| delay != c.delay);
            let into = match sum {
                Some((layer, delay)) if delay == c.delay => layer,
                _ => graph.add_layer(anonymous(graph, target, graph.layer_at(target).size, LayerKind::Sum)),
            };
            if let Some((layer, delay)) = longer {
                graph.connect(layer, into, Connect::identity().delay(delay - c.delay));
            }
            graph.add_connection(Connection { target: into, delay: 0, ..c });
            sum = Some((into, graph.connection_at(id).delay));
        }
        if let Some((layer, delay)) = sum {
            graph.connect(layer, target, Connect::identity().delay(delay));
        }
    }
}
