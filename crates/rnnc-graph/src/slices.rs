//! By which units a layer is shared out: all of them, or, where other layers read or write it in equal slices (four gates in
//! one layer), those of a slice. Whoever has some units of one slice has the same of all, so nobody must synchronize between a slice
//! and a layer of its size.
//!
//! A slice may fall into *heads*: equal parts, of which none reads another's units. Block-diagonal matrices, groups of vector
//! functions and values repeated within a part make such. Whoever has whole heads of all layers waits for nobody between them.

use crate::graph::Graph;
use crate::parts::{Connection, ConnectionKind, LayerId, LayerKind, Range};
use std::collections::BTreeMap;

/// For each layer, the size of the slices in which its units are shared out.
#[derive(Clone, Debug)]
pub struct Slices(Vec<usize>);

impl Slices {
    /// The most slices that a layer is shared out in: units of many thin slices would be too few for many to share.
    pub const MOST: usize = 16;

    /// Finds them. Layers that depend on each other unit by unit are shared out alike, so a layer that must stay `whole` keeps
    /// those whole, too. Takes time linear in layers and connections.
    pub fn find(graph: &Graph, whole: impl Fn(LayerId) -> bool) -> Slices {
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
        let mut slices = vec![None; graph.layers().len()];
        let mut cut = |layer: LayerId, range: Range| {
            if range != Range::new(0, size(layer)) {
                let (len, slice_len) = (range.len, &mut slices[alike.first(layer.index())]);
                let even = len > 0 && range.start.is_multiple_of(len) && size(layer).is_multiple_of(len);
                *slice_len = if even && slice_len.is_none_or(|slice_len| slice_len == len) {
                    Some(len)
                } else {
                    Some(size(layer))
                };
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
            let slice_len = &mut slices[alike.first(layer.index())];
            // Of whole slices, or within one.
            let fits = |len: usize| {
                parts(graph, layer).all(|part| part.is_multiple_of(len) || len.is_multiple_of(part))
            };
            let stays = |len: usize| {
                size(layer) > Slices::MOST * len || whole(layer) || counts(graph, layer) || !fits(len)
            };
            if slice_len.is_some_and(stays) {
                *slice_len = Some(size(layer));
            }
        }
        let slice_len =
            |layer: LayerId| slices[alike.first(layer.index())].unwrap_or_else(|| size(layer)).max(1);
        Slices(graph.layer_ids().map(slice_len).collect())
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

    /// The same where whole heads are shared out, so many of each slice; with one head, units are.
    pub fn cross_heads(&self, graph: &Graph, c: &Connection, heads: usize) -> bool {
        self.cross(graph, c) && (heads == 1 || !self.blocks(graph, c).is_multiple_of(heads))
    }

    /// Into how many heads the slices of some connections' layers are cut, so that the most of these connections stay within
    /// heads; 1 if none do.
    pub fn heads<'a>(&self, graph: &Graph, connections: impl Iterator<Item = &'a Connection>) -> usize {
        let mut blocks: BTreeMap<usize, usize> = BTreeMap::new();
        for c in connections.filter(|c| self.cross(graph, c)) {
            *blocks.entry(self.blocks(graph, c)).or_default() += 1;
        }
        // Of each prime number, how many connections have a multiple of it, and the greatest number that divides these.
        let mut common: BTreeMap<usize, (usize, usize)> = BTreeMap::new();
        for (blocks, connections) in blocks {
            for prime in prime_factors(blocks) {
                let (count, divisor) = common.entry(prime).or_default();
                (*count, *divisor) = (*count + connections, greatest_common_divisor(*divisor, blocks));
            }
        }
        common.into_values().max().map_or(1, |(_, heads)| heads)
    }

    /// Into how many equal blocks of a slice a connection that crosses units falls, each of which reads the same block of a
    /// slice of the source, and no other.
    fn blocks(&self, graph: &Graph, c: &Connection) -> usize {
        let target = graph.layer_at(c.target);
        let Some(source) = c.source else { return 1 };
        let (blocks, to) = match (target.kind, c.kind) {
            (LayerKind::Operation(op), ConnectionKind::Identity { .. }) if !op.is_elementwise() => {
                (op.groups(), Range::new(0, target.size))
            }
            (LayerKind::Operation(op), _) if !op.is_elementwise() => return 1,
            (_, ConnectionKind::Full { heads, .. }) => (heads, c.target_range),
            (_, ConnectionKind::Broadcast { .. }) => (c.source_range.len, c.target_range),
            (_, _) => return 1,
        };
        let slices = |layer: LayerId, units: Range| {
            let slice_len = self.of(layer);
            let whole = units.start.is_multiple_of(slice_len) && units.len.is_multiple_of(slice_len);
            whole.then_some(units.len / slice_len)
        };
        match (slices(source, c.source_range), slices(c.target, to)) {
            (Some(from), Some(to)) if from == to && to > 0 && blocks.is_multiple_of(to) => blocks / to,
            _ => 1,
        }
    }
}

/// The prime numbers that divide one, each once.
fn prime_factors(mut number: usize) -> Vec<usize> {
    let (mut primes, mut next) = (Vec::new(), 2);
    while number > 1 {
        if next * next > number {
            next = number;
        }
        if number.is_multiple_of(next) {
            primes.push(next);
        }
        while number.is_multiple_of(next) {
            number /= next;
        }
        next += 1;
    }
    primes
}

fn greatest_common_divisor(a: usize, b: usize) -> usize {
    let (mut a, mut b) = (a, b);
    while b > 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// Whether a layer is computed, rather than handed in.
fn is_computed(graph: &Graph, layer: LayerId) -> bool {
    !matches!(graph.layer_at(layer).kind, LayerKind::Input | LayerKind::Symbol | LayerKind::Residual(_))
}

/// Whether it matters which places its units have in the layer, and not in a slice alone.
fn counts(graph: &Graph, layer: LayerId) -> bool {
    matches!(graph.layer_at(layer).kind, LayerKind::Operation(op) if op.key().is_some())
        || graph
            .incoming(layer)
            .any(|c| matches!(c.kind, ConnectionKind::Broadcast { .. }) && graph.crosses_units(c))
}

/// The sizes of what is computed of a layer's units together: of blocks, and of groups.
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
    use crate::ops::Operation;

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

    fn slices(graph: &Graph, layers: [LayerId; 3]) -> [usize; 3] {
        let slices = Slices::find(graph, |_| false);
        layers.map(|layer| slices.of(layer))
    }

    #[test]
    fn what_is_read_in_equal_slices_is_shared_out_slice_by_slice_and_so_is_what_it_is_made_of() {
        let (g, layers) = gates(8);
        assert_eq!(slices(&g, layers), [8, 8, 8]);
        let slices = Slices::find(&g, |_| false);
        let crossing = g.connections().iter().filter(|c| slices.cross(&g, c)).count();
        assert_eq!(crossing, 3, "two products and the normalization");
        let slices = Slices::find(&g, |layer| layer == layers[0]);
        assert_eq!(layers.map(|layer| slices.of(layer)), [32, 32, 8]);
        assert_eq!(g.connections().iter().filter(|c| slices.cross(&g, c)).count(), 7);
    }

    #[test]
    fn unequal_slices_thin_slices_and_places_that_count_keep_a_layer_whole() {
        let (mut g, layers) = gates(8);
        let part = g.sum("part", 4, Activation::Identity);
        g.connect(layers[1], part, Connect::identity().from(Range::new(8, 4)));
        assert_eq!(slices(&g, layers), [32, 32, 8]);
        let (mut g, layers) = gates(8);
        g.connect(layers[1], layers[2], Connect::identity().from(Range::new(4, 8)));
        assert_eq!(slices(&g, layers), [32, 32, 8]);
        let (mut g, layers) = gates(8);
        let mask = g.mask("mask", 32, 0.5);
        g.connect(mask, layers[0], Connect::identity());
        assert_eq!(slices(&g, layers), [32, 32, 8]);
        let (mut g, layers) = gates(8);
        let one = g.sum("one", 1, Activation::Identity);
        g.connect(one, layers[0], Connect::new(ConnectionKind::Broadcast { scale: 1.0 }));
        assert_eq!(slices(&g, layers), [32, 32, 8]);
        let mut g = Graph::new("thin");
        let wide = g.sum("wide", 17, Activation::Tanh);
        let one = g.sum("one", 1, Activation::Tanh);
        g.connect(wide, one, Connect::identity().from(Range::new(3, 1)));
        assert_eq!(slices(&g, [wide, one, one]), [17, 1, 1]);
    }

    /// A block-diagonal product.
    fn blocks(g: &mut Graph, [from, to]: [LayerId; 2], heads: usize, delay: i64) {
        let (rows, columns) = (g.layer_at(to).size, g.layer_at(from).size);
        let shape = [heads, rows / heads, columns / heads];
        let shape = if heads == 1 { &shape[1..] } else { &shape[..] };
        let weight = g.weight(format!("w{}", g.weights().len()), shape, Init::Zeros);
        let kind = ConnectionKind::Full { weight, heads, transposed: false, part: None };
        g.connect(from, to, Connect::new(kind).delay(delay));
    }

    /// The heads of all connections, and how many of these still cross them.
    fn heads(g: &Graph) -> (usize, usize) {
        let slices = Slices::find(g, |_| false);
        let heads = slices.heads(g, g.connections().iter());
        (heads, g.connections().iter().filter(|c| slices.cross_heads(g, c, heads)).count())
    }

    #[test]
    fn heads_are_what_the_most_connections_have_in_common() {
        let of = |counts: &[usize]| {
            let mut g = Graph::new("heads");
            let [a, b] = ["a", "b"].map(|name| g.sum(name, 60, Activation::Tanh));
            g.connect(a, b, Connect::identity());
            counts.iter().for_each(|&count| blocks(&mut g, [a, b], count, 1));
            heads(&g)
        };
        assert_eq!(of(&[4]), (4, 0));
        assert_eq!(of(&[4, 6]), (2, 0));
        assert_eq!(of(&[4, 6, 1]), (2, 1), "a full one crosses them");
        assert_eq!(of(&[4, 12, 5]), (4, 1));
        assert_eq!(of(&[2, 3]), (3, 1));
        assert_eq!(of(&[1]), (1, 1), "all units");
        assert_eq!(of(&[]), (1, 0));
    }

    #[test]
    fn groups_and_values_repeated_within_a_head_do_not_cross_it() {
        let mut g = Graph::new("heads");
        let a = g.sum("a", 24, Activation::Tanh);
        let normalize = Operation::Normalize { groups: 4, center: true, epsilon: 1e-5 };
        let normal = g.operation("normal", 24, normalize);
        let sums = g.operation("sums", 8, Operation::GroupSum { groups: 8 });
        g.connect(a, normal, Connect::identity());
        g.connect(normal, sums, Connect::identity().to(Range::new(0, 24)));
        g.connect(sums, a, Connect::new(ConnectionKind::Broadcast { scale: 1.0 }).delay(1));
        assert_eq!(heads(&g), (4, 0));
        // Six units of three are moved by one place.
        let moved = Connect::identity().from(Range::new(0, 23)).to(Range::new(1, 23)).delay(1);
        g.connect(a, a, moved);
        assert_eq!(heads(&g), (4, 1));
    }

    #[test]
    fn heads_of_slices_are_heads_where_both_ends_have_as_many_slices() {
        let of = |groups: usize| {
            let (mut g, [_, normal, _]) = gates(8);
            let other = g.operation("other", 32, Operation::Softmax { groups });
            g.connect(normal, other, Connect::identity());
            let slices = Slices::find(&g, |_| false);
            let into = g.incoming(other).next().unwrap();
            (slices.of(other), [2, 4].map(|heads| slices.cross_heads(&g, into, heads)))
        };
        assert_eq!(of(16), (8, [false, false]), "four groups to a slice");
        assert_eq!(of(8), (8, [false, true]), "two groups to a slice");
        assert_eq!(of(4), (8, [true, true]), "a group is a slice");
        assert_eq!(of(1), (8, [true, true]), "a group of all slices");
        // A block writes a whole slice of what it reads a quarter for.
        let (mut g, layers) = gates(8);
        blocks(&mut g, [layers[2], layers[0]], 4, 1);
        let slices = Slices::find(&g, |_| false);
        assert!(g.connections().last().is_some_and(|c| slices.cross_heads(&g, c, 2)));
    }

    #[test]
    fn heads_and_groups_are_of_whole_slices_or_lie_within_one() {
        for (heads, slice_len) in [(4, 8), (2, 8), (8, 8), (1, 8)] {
            let (mut g, layers) = gates(8);
            blocks(&mut g, [layers[2], layers[0]], heads, 1);
            assert_eq!(slices(&g, layers), [slice_len, slice_len, 8]);
        }
    }
}
