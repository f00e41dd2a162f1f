//! Takes out of an adjoint graph what only passes values on, and what nothing depends on.

use crate::copies::forward_copies;
use crate::graph::Graph;
use crate::parts::LayerId;

/// An equal adjoint graph with fewer layers: what reads copies reads what is copied, and layers that neither an output
/// nor an accumulation depends on go. Inputs stay, in their order.
pub(crate) fn simplify(mut graph: Graph) -> Graph {
    forward_copies(&mut graph);
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
