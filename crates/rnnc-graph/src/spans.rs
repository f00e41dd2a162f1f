//! By which units a layer is shared out: all of them, or, where other layers read or write it in equal slices (four gates in
//! one layer), those of a slice. Whoever has some units of one slice has the same of all, so nobody must meet between a slice
//! and a layer of its size.

use crate::graph::Graph;
use crate::operation::Operation;
use crate::parts::{Connection, ConnectionKind, LayerId, LayerKind, Range};

/// For each layer, the size of the slices in which its units are shared out.
#[derive(Clone, Debug)]
pub struct Spans(Vec<usize>);

impl Spans {
    /// The most slices that a layer is shared out in: units of many thin slices would be too few for many to share.
    pub const MOST: usize = 16;

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
        // All slices of layers that are shared out alike must be of one size.
        let mut spans = vec![None; graph.layers().len()];
        let mut cut = |layer: LayerId, range: Range| {
            if range != Range::new(0, size(layer)) {
                let (len, span) = (range.len, &mut spans[alike.first(layer.index())]);
                let even = len > 0 && range.start.is_multiple_of(len) && size(layer).is_multiple_of(len);
                *span =
                    if even && span.is_none_or(|span| span == len) { Some(len) } else { Some(size(layer)) };
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
            let fits = |len: usize| parts(graph, layer).all(|part| part.is_multiple_of(len));
            let stays = |len: usize| {
                size(layer) > Spans::MOST * len || whole(layer) || counts(graph, layer) || !fits(len)
            };
            if span.is_some_and(stays) {
                *span = Some(size(layer));
            }
        }
        let span = |layer: LayerId| spans[alike.first(layer.index())].unwrap_or_else(|| size(layer)).max(1);
        Spans(graph.layer_ids().map(span).collect())
    }

    /// The units of a slice, at least 1: as many as the layer has, if it is not shared out in slices.
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
                from != to || c.source_range.start % from != c.target_range.start % to
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

/// The sizes of what is computed of a layer's units together: of heads, and of groups. Slices must divide them.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::activations::Activation;
    use crate::graph::Connect;
    use crate::init::Init;

    /// Four gates in a layer, normalized, each read by a layer of its own.
    fn gates(n: usize) -> (Graph, [LayerId; 3]) {
        let mut g = Graph::new("gates");
        let (x, h) = (g.input("x", n), g.sum("h", n, Activation::Identity));
        let w = g.weight("w", &[4 * n, n], Init::Zeros);
        let sums = g.sum("sums", 4 * n, Activation::Identity);
        g.connect(x, sums, Connect::full(w));
        g.connect(h, sums, Connect::full(w).delay(1));
        let normalize = Operation::Normalize { groups: 1, center: true, epsilon: 1e-5 };
        let normal = g.operation("normal", 4 * n, normalize);
        g.connect(sums, normal, Connect::identity().to(Range::new(0, 4 * n)));
        for k in 0..4 {
            g.connect(normal, h, Connect::identity().from(Range::new(k * n, n)));
        }
        (g, [sums, normal, h])
    }

    fn spans(graph: &Graph, layers: [LayerId; 3]) -> [usize; 3] {
        let spans = Spans::find(graph, |_| false);
        layers.map(|layer| spans.of(layer))
    }

    #[test]
    fn what_is_read_in_equal_slices_is_shared_out_slice_by_slice_and_so_is_what_it_is_made_of() {
        let (g, layers) = gates(8);
        assert_eq!(spans(&g, layers), [8, 8, 8]);
        let spans = Spans::find(&g, |_| false);
        let crossing = g.connections().iter().filter(|c| spans.cross(&g, c)).count();
        assert_eq!(crossing, 3, "two products and the normalization");
        let spans = Spans::find(&g, |layer| layer == layers[0]);
        assert_eq!(layers.map(|layer| spans.of(layer)), [32, 32, 8]);
        assert_eq!(g.connections().iter().filter(|c| spans.cross(&g, c)).count(), 7);
    }

    #[test]
    fn unequal_slices_thin_slices_and_places_that_count_keep_a_layer_whole() {
        let (mut g, layers) = gates(8);
        let part = g.sum("part", 4, Activation::Identity);
        g.connect(layers[1], part, Connect::identity().from(Range::new(8, 4)));
        assert_eq!(spans(&g, layers), [32, 32, 8]);
        let (mut g, layers) = gates(8);
        g.connect(layers[1], layers[2], Connect::identity().from(Range::new(4, 8)));
        assert_eq!(spans(&g, layers), [32, 32, 8]);
        let (mut g, layers) = gates(8);
        let mask = g.mask("mask", 32, 0.5);
        g.connect(mask, layers[0], Connect::identity());
        assert_eq!(spans(&g, layers), [32, 32, 8]);
        let (mut g, layers) = gates(8);
        let one = g.sum("one", 1, Activation::Identity);
        g.connect(one, layers[0], Connect::new(ConnectionKind::Broadcast { scale: 1.0 }));
        assert_eq!(spans(&g, layers), [32, 32, 8]);
        let mut g = Graph::new("thin");
        let wide = g.sum("wide", 17, Activation::Tanh);
        let one = g.sum("one", 1, Activation::Tanh);
        g.connect(wide, one, Connect::identity().from(Range::new(3, 1)));
        assert_eq!(spans(&g, [wide, one, one]), [17, 1, 1]);
    }

    #[test]
    fn heads_and_groups_are_of_whole_slices() {
        for (heads, span) in [(4, 8), (2, 8), (8, 32)] {
            let (mut g, layers) = gates(8);
            let w = g.weight("heads", &[heads, 32 / heads, 8 / heads], Init::Zeros);
            let kind = ConnectionKind::Full { weight: w, heads, transposed: false, part: None };
            g.connect(layers[2], layers[0], Connect::new(kind).delay(1));
            assert_eq!(spans(&g, layers), [span, span, 8]);
        }
    }
}
