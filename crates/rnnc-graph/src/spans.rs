//! By which units a layer is shared out: all of them, or, where other layers read or write it in equal slices (four gates in
//! one layer), those of a slice. Whoever has some units of one slice has the same of all, so nobody must meet between a slice
//! and a layer of its size.

use crate::graph::Graph;
use crate::operation::Operation;
use crate::parts::{Connection, ConnectionKind, LayerId, LayerKind, Range};

/// The most slices that a layer is shared out in: units of many thin slices would be too few for many to share.
const MOST: usize = 16;

/// For each layer, the size of the slices in which its units are shared out.
#[derive(Clone, Debug)]
pub struct Spans(Vec<usize>);

impl Spans {
    /// Finds them. Layers that depend on each other unit by unit are shared out alike, so a layer that must stay `whole` keeps
    /// those whole, too. Takes time linear in layers and connections.
    pub fn find(graph: &Graph, whole: impl Fn(LayerId) -> bool) -> Spans {
        let size = |layer: LayerId| graph.layer_at(layer).size;
        let mut alike = Alike((0..graph.layers().len()).collect());
        let unit_by_unit = |c: &&Connection| match c.kind {
            ConnectionKind::Full { .. } | ConnectionKind::Constant { .. } => false,
            _ => graph.is_whole(c),
        };
        for c in graph.connections().iter().filter(unit_by_unit) {
            if let Some(source) = c.source.filter(|&s| size(s) == size(c.target) && is_computed(graph, s)) {
                alike.join(source.index(), c.target.index());
            }
        }
        // The greatest common divisor of all places where slices begin and end.
        let mut spans: Vec<usize> = graph.layers().iter().map(|layer| layer.size).collect();
        let mut cut = |layer: LayerId, range: Range| {
            if range != Range::new(0, size(layer)) {
                let span = &mut spans[alike.first(layer.index())];
                *span = common_divisor(*span, common_divisor(range.start, range.end()));
            }
        };
        for c in graph.connections() {
            if let (ConnectionKind::Identity { .. } | ConnectionKind::Diagonal { .. }, Some(source)) =
                (c.kind, c.source)
            {
                if is_computed(graph, source) {
                    cut(source, c.source_range);
                }
                cut(c.target, c.target_range);
            }
        }
        for layer in graph.layer_ids() {
            let span = &mut spans[alike.first(layer.index())];
            let thin = size(layer) > MOST * *span;
            if thin
                || whole(layer)
                || counts(graph, layer)
                || !parts(graph, layer).all(|part| fits(part, *span))
            {
                *span = size(layer);
            }
        }
        Spans((0..spans.len()).map(|layer| spans[alike.first(layer)]).collect())
    }

    /// The units of a slice: as many as the layer has, if it is not shared out in slices.
    pub fn of(&self, layer: LayerId) -> usize {
        self.0[layer.index()]
    }

    /// Whether a unit of a connection's target depends on units of the source that others may have: who shares out units must
    /// meet between the two.
    pub fn cross(&self, graph: &Graph, c: &Connection) -> bool {
        let vector =
            matches!(graph.layer_at(c.target).kind, LayerKind::Operation(op) if !op.is_elementwise());
        match (c.kind, c.source) {
            (ConnectionKind::Identity { .. } | ConnectionKind::Diagonal { .. }, Some(source)) if !vector => {
                let (from, to) = (self.of(source), self.of(c.target));
                from != to || (c.source_range.start % from.max(1) != c.target_range.start % to.max(1))
            }
            _ => graph.crosses_units(c),
        }
    }
}

/// Whether a layer is computed, rather than handed in.
fn is_computed(graph: &Graph, layer: LayerId) -> bool {
    !matches!(graph.layer_at(layer).kind, LayerKind::Input | LayerKind::Symbol | LayerKind::Saved(_))
}

/// Whether it matters which places its units have in the layer, and not in a slice alone.
fn counts(graph: &Graph, layer: LayerId) -> bool {
    matches!(graph.layer_at(layer).kind, LayerKind::Operation(Operation::DropoutMask { .. }))
        || graph
            .incoming(layer)
            .any(|c| matches!(c.kind, ConnectionKind::Broadcast { .. }) && graph.crosses_units(c))
}

/// Of what is computed of a layer's units together, the sizes: of heads, and of groups.
fn parts(graph: &Graph, layer: LayerId) -> impl Iterator<Item = usize> {
    let size = graph.layer_at(layer).size;
    let groups = match graph.layer_at(layer).kind {
        LayerKind::Operation(op) => op.groups(),
        _ => 1,
    };
    let heads = graph.incoming(layer).filter_map(|c| match c.kind {
        ConnectionKind::Full { heads, .. } => Some(heads),
        _ => None,
    });
    heads.chain(std::iter::once(groups)).map(move |parts| size / parts.max(1))
}

/// Whether each slice begins with a part.
fn fits(part: usize, span: usize) -> bool {
    span > 0 && part.is_multiple_of(span)
}

fn common_divisor(mut a: usize, mut b: usize) -> usize {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// Sets of layers: of each layer another one of its set, or, of the set's first, itself.
struct Alike(Vec<usize>);

impl Alike {
    fn first(&mut self, mut layer: usize) -> usize {
        while self.0[layer] != layer {
            self.0[layer] = self.0[self.0[layer]];
            layer = self.0[layer];
        }
        layer
    }

    fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.first(a), self.first(b));
        self.0[a.max(b)] = a.min(b);
    }
}
