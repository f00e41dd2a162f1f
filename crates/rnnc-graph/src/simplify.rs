//! Takes out of an adjoint graph what only passes values on, and what nothing depends on.

use crate::function::Function;
use crate::graph::Graph;
use crate::normalize::is_plain;
use crate::parts::{LayerId, LayerKind, Start};

/// An equal adjoint graph with fewer layers. Layers whose value is another's, undelayed, are read there; layers that
/// neither an output nor an accumulation depends on go. Inputs stay, in their order.
pub(crate) fn simplify(mut graph: Graph) -> Graph {
    let outputs: Vec<LayerId> = graph.outputs().iter().map(|o| o.layer).collect();
    let mut stands_for: Vec<LayerId> = graph.layer_ids().collect();
    for id in graph.layer_ids() {
        let layer = graph.layer_at(id);
        if layer.kind != LayerKind::Sum || layer.function != Function::IDENTITY || outputs.contains(&id) {
            continue;
        }
        let mut terms = graph.incoming(id);
        if let (Some(c), None) = (terms.next(), terms.next())
            && is_plain(&graph, c)
            && let Some(source) = c.source
            // A delayed read of either must give the same where it crosses.
            && graph.layer_at(source).start == Start::Zero
            && layer.start == Start::Zero
        {
            stands_for[id.index()] = source;
        }
    }
    // Chains of such layers: shorten each to its end, halving the way as it is walked. They form no cycle, since
    // a cycle of undelayed reads is no network.
    let end = |mut id: LayerId, stands_for: &mut Vec<LayerId>| {
        while stands_for[id.index()] != id {
            let next = stands_for[id.index()];
            stands_for[id.index()] = stands_for[next.index()];
            id = next;
        }
        id
    };
    for c in graph.connection_ids() {
        if let Some(source) = graph.connection_at(c).source {
            graph.connection_at_mut(c).source = Some(end(source, &mut stands_for));
        }
    }
    for a in graph.accumulations_mut() {
        a.error = end(a.error, &mut stands_for);
    }
    retain_needed(&graph)
}

/// The graph without the layers that no output and no accumulation depends on.
pub(crate) fn retain_needed(graph: &Graph) -> Graph {
    let mut kept = vec![false; graph.layers().len()];
    let mut open: Vec<LayerId> =
        graph.outputs().iter().map(|o| o.layer).chain(graph.inputs().iter().copied()).collect();
    for a in graph.accumulations() {
        open.push(a.error);
        open.extend(a.kind.source());
    }
    while let Some(id) = open.pop() {
        if !std::mem::replace(&mut kept[id.index()], true) {
            open.extend(graph.incoming(id).filter_map(|c| c.source));
        }
    }
    graph.retain(&kept)
}
