//! The strongly connected components of a graph: what runs over all frames at once, what is a scan, what is a
//! loop, in which direction, how wide, and why.

use crate::barriers;
use crate::count::count;
use crate::cycles::{Digraph, Edge};
use crate::error::GraphError;
use crate::graph::Graph;
use crate::obstacles::{LARGEST_ORDER, Obstacle, ObstacleKind, Words};
use crate::parts::LayerId;
use crate::scan::{self, ScanForm};
use crate::slices::Slices;
use crate::width::{self, Width};

/// The direction of a cycle through time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the first frame to the last: cycles read the past.
    Forward,
    /// From the last frame to the first: cycles read the future.
    Backward,
}

/// How a component can run.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// No cycle: all frames at once.
    Frames,
    /// An elementwise affine recurrence: a parallel scan over time.
    Scan(ScanForm),
    /// Any other cycle: frame after frame.
    Loop,
}

/// A strongly connected component, or a layer in no cycle.
#[derive(Clone, Debug, PartialEq)]
pub struct Component {
    /// Its layers, in an order in which the layers of a block of [`Width::frames`] frames can be computed.
    pub layers: Vec<LayerId>,
    /// How it can run.
    pub kind: Kind,
    /// The direction of its cycles; Forward where there are none.
    pub direction: Direction,
    /// How many frames of it can run at once.
    pub width: Width,
    /// For each of `layers`, how many frames its block lies behind the first (in the direction of the cycles):
    /// in step k, the layer computes frames `k d + offset .. k d + offset + d`.
    pub offsets: Vec<i64>,
    /// Into how many heads its layers fall: equal parts, such that the most of what is read within a cycle stays within the
    /// parts; 1 if all cross them.
    pub heads: usize,
    /// (links, delay): no schedule needs fewer than links / delay synchronizations per frame, if workers have whole heads. `None`
    /// where the component is too large to search.
    pub barrier_bound: Option<(u64, u64)>,
    /// Why it is what it is, for people.
    pub reason: String,
    /// For a loop, all that keeps it from being a scan.
    pub obstacles: Vec<Obstacle>,
    /// For a loop, what would make it a scan, in the words of the text, if it has any; else empty.
    pub remedy: String,
}

/// The components of a graph.
#[derive(Clone, Debug, PartialEq)]
pub struct Components {
    /// In topological order: each before those that read it.
    pub list: Vec<Component>,
    /// For each layer, the place of its component in the list.
    pub of_layer: Vec<usize>,
}

impl Components {
    /// Finds the components of a graph and checks its cycles: each must have total delay of one sign, and a
    /// component's cycles all the same.
    ///
    /// Takes time linear in layers + connections while the delays of each component share a sign. Where they do
    /// not, and for the width and barrier bound of components up to 1,000 layers, shortest paths are searched
    /// within the component, which at worst takes its layers times its connections.
    pub fn find(graph: &Graph) -> Result<Components, GraphError> {
        let edges = graph.connections().iter().filter_map(|c| {
            c.source.map(|source| Edge { from: source.index(), to: c.target.index(), delay: c.delay })
        });
        let digraph = Digraph::new(graph.layers().len(), edges.collect());
        let groups = digraph.components();
        let mut of_layer = vec![0; graph.layers().len()];
        for (place, group) in groups.iter().enumerate() {
            for &layer in group {
                of_layer[layer] = place;
            }
        }
        // `local[layer]` is the layer's place in its component.
        let mut local = vec![0; graph.layers().len()];
        let (words, slices) = (Words::of(graph), Slices::find(graph, |_| false));
        let mut list = Vec::with_capacity(groups.len());
        for (place, group) in groups.into_iter().enumerate() {
            for (i, &layer) in group.iter().enumerate() {
                local[layer] = i;
            }
            list.push(component(graph, &words, &slices, place, group, &of_layer, &local)?);
        }
        Ok(Components { list, of_layer })
    }

    /// The component of a layer.
    pub fn of(&self, layer: LayerId) -> &Component {
        &self.list[self.of_layer[layer.index()]]
    }

    /// Whether both layers lie in the same cycle.
    pub fn share_cycle(&self, a: LayerId, b: LayerId) -> bool {
        self.of_layer[a.index()] == self.of_layer[b.index()] && self.of(a).kind != Kind::Frames
    }
}

fn component(
    graph: &Graph,
    words: &Words<'_>,
    slices: &Slices,
    place: usize,
    group: Vec<usize>,
    of_layer: &[usize],
    local: &[usize],
) -> Result<Component, GraphError> {
    let layers: Vec<LayerId> = group.into_iter().map(LayerId::from_index).collect();
    let inside = || {
        layers.iter().flat_map(|&layer| graph.incoming(layer)).filter_map(|c| {
            let source = c.source.filter(|s| of_layer[s.index()] == place)?;
            Some((c, Edge { from: local[source.index()], to: local[c.target.index()], delay: c.delay }))
        })
    };
    let edges: Vec<Edge> = inside().map(|(_, e)| e).collect();
    if edges.is_empty() {
        return Ok(Component {
            offsets: vec![0; layers.len()],
            layers,
            kind: Kind::Frames,
            direction: Direction::Forward,
            width: Width { frames: usize::MAX, bound: None },
            heads: 1,
            barrier_bound: Some((0, 1)),
            reason: "no cycle: all frames at once".into(),
            obstacles: Vec::new(),
            remedy: String::new(),
        });
    }
    let (direction, digraph, base) = direct(graph, &layers, edges)?;
    let found = width::widest(&digraph, base);
    let heads = slices.heads(graph, inside().map(|(c, _)| c));
    let crosses: Vec<bool> = inside().map(|(c, _)| slices.cross_heads(graph, c, heads)).collect();
    let barrier_bound = (layers.len() <= width::SEARCH_LIMIT).then(|| barriers::bound(&digraph, &crosses));
    let member = |layer: LayerId| of_layer[layer.index()] == place;
    // Zero-delay order within a frame, for the affine elimination.
    let frame_order = digraph.order(|e| e.delay == 0).unwrap_or_else(|_| (0..layers.len()).collect());
    let frame_order: Vec<LayerId> = frame_order.into_iter().map(|i| layers[i]).collect();
    let mut obstacles = scan::obstacles(graph, &frame_order, member);
    let form = scan::form(graph, &frame_order, member);
    // An adjoint that were affine otherwise would sum first what it reads (`gather.rs`), and have fewer.
    if form.order > LARGEST_ORDER
        && (obstacles.is_empty() || !words.is_adjoint)
        && let Some(&(layer, longest)) = form.states.iter().max_by_key(|(_, delay)| *delay)
    {
        let layers = (form.states.len() <= LARGEST_ORDER).then_some(form.states.len());
        obstacles.push(Obstacle { layer, kind: ObstacleKind::Order { longest, layers } });
    }
    let (kind, reason) = match obstacles.first() {
        None => {
            let numbers = count(form.order, "number");
            let reason = format!("scan: its reads of itself are elementwise and affine, {numbers} a unit");
            (Kind::Scan(form), reason)
        }
        Some(first) => (Kind::Loop, words.reason(first)),
    };
    let remedy = words.remedy(&obstacles);
    Ok(Component {
        offsets: found.order.iter().map(|&i| -found.shifts[i]).collect(),
        layers: found.order.iter().map(|&i| layers[i]).collect(),
        kind,
        direction,
        width: found.width,
        heads,
        barrier_bound,
        reason,
        obstacles,
        remedy,
    })
}

/// The direction of a component's cycles, its edges with delays positive along it, and potentials that make
/// every shifted delay non-negative.
fn direct(
    graph: &Graph,
    layers: &[LayerId],
    edges: Vec<Edge>,
) -> Result<(Direction, Digraph, Vec<i64>), GraphError> {
    let mut digraph = Digraph::new(layers.len(), edges);
    let names = |cycle: &[usize]| -> (Vec<LayerId>, Vec<String>) {
        cycle.iter().map(|&i| (layers[i], graph.layer_at(layers[i]).name.clone())).unzip()
    };
    let zero = |cycle: Vec<usize>| {
        let (cycle, names) = names(&cycle);
        GraphError::ZeroDelayCycle { cycle, names }
    };
    digraph.order(|e| e.delay == 0).map_err(zero)?;
    let (ahead, behind) =
        (digraph.edges.iter().any(|e| e.delay < 0), digraph.edges.iter().any(|e| e.delay > 0));
    if !ahead {
        return Ok((Direction::Forward, digraph, vec![0; layers.len()]));
    }
    let mut direction = Direction::Backward;
    let mut potentials = vec![0; layers.len()];
    if behind {
        // Delays of both signs: look for a cycle of each.
        match digraph.potentials(|e| i128::from(e.delay)) {
            Ok(p) => (direction, potentials) = (Direction::Forward, p),
            Err(future) => match digraph.potentials(|e| -i128::from(e.delay)) {
                Ok(p) => potentials = p,
                Err(past) => {
                    let ((past, past_names), (future, future_names)) = (names(&past), names(&future));
                    return Err(GraphError::BothDirections { past, past_names, future, future_names });
                }
            },
        }
    }
    if direction == Direction::Backward {
        let turned = digraph.edges.iter().map(|e| Edge { delay: -e.delay, ..*e }).collect();
        digraph = Digraph::new(layers.len(), turned);
    }
    // w + p(from) - p(to) >= 0, so r = -p. Delays are at most 2^31 and layers at most 2^32: no overflow.
    let base: Vec<i64> = potentials.iter().map(|&p| i64::try_from(-p).unwrap_or(0)).collect();
    digraph.order(|e| e.delay + base[e.to] - base[e.from] == 0).map_err(zero)?;
    Ok((direction, digraph, base))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::activations::Activation;
    use crate::graph::Connect;
    use crate::init::Init;
    use proptest::prelude::*;

    fn elman() -> (Graph, LayerId) {
        let mut g = Graph::new("elman");
        let x = g.input("x", 3);
        let h = g.sum("h", 4, Activation::Tanh);
        let (w, u) = (g.weight("w", &[4, 3], Init::Zeros), g.weight("u", &[4, 4], Init::Zeros));
        g.connect(x, h, Connect::full(w));
        g.connect(h, h, Connect::full(u).delay(1));
        g.output("h", h);
        (g, h)
    }

    #[test]
    fn an_elman_layer_is_a_loop_that_needs_one_barrier() {
        let (g, h) = elman();
        let components = Components::find(&g).unwrap();
        let c = components.of(h);
        assert_eq!(
            (c.kind.clone(), c.direction, c.barrier_bound),
            (Kind::Loop, Direction::Forward, Some((1, 1)))
        );
        assert!(c.reason.contains("`h`") && c.reason.contains("tanh"), "{}", c.reason);
    }

    #[test]
    fn a_leaky_integrator_is_a_scan_of_one_number() {
        let mut g = Graph::new("leaky");
        let x = g.input("x", 4);
        let h = g.sum("h", 4, Activation::Identity);
        g.connect(x, h, Connect::identity());
        g.connect(h, h, Connect::scaled(0.9).delay(1));
        let c = Components::find(&g).unwrap();
        assert!(matches!(&c.of(h).kind, Kind::Scan(form) if form.order == 1));
    }

    #[test]
    fn a_cycle_without_delay_is_named_layer_by_layer() {
        let mut g = Graph::new("n");
        let a = g.sum("a", 1, Activation::Identity);
        let b = g.sum("b", 1, Activation::Identity);
        g.connect(a, b, Connect::identity());
        g.connect(b, a, Connect::identity());
        let error = Components::find(&g).unwrap_err();
        assert!(error.to_string().contains("`a` -> `b` -> `a`"), "{error}");
    }

    #[test]
    fn delays_of_both_signs_are_refused_only_if_cycles_have_both() {
        let mut g = Graph::new("n");
        let a = g.sum("a", 1, Activation::Tanh);
        let b = g.sum("b", 1, Activation::Tanh);
        g.connect(a, b, Connect::identity().delay(3));
        g.connect(b, a, Connect::identity().delay(-1));
        let c = Components::find(&g).unwrap();
        assert_eq!(c.of(a).direction, Direction::Forward);
        assert_eq!(c.of(a).width.frames, 2);
        g.connect(b, a, Connect::identity().delay(-4));
        assert!(matches!(Components::find(&g), Err(GraphError::BothDirections { .. })));
        let mut g = Graph::new("n");
        let a = g.sum("a", 1, Activation::Tanh);
        let b = g.sum("b", 1, Activation::Tanh);
        g.connect(a, b, Connect::identity().delay(1));
        g.connect(b, a, Connect::identity().delay(-1));
        assert!(matches!(Components::find(&g), Err(GraphError::ZeroDelayCycle { .. })));
    }

    #[test]
    fn chains_and_rings_of_100_000_layers_are_analysed_in_under_a_second() {
        for ring in [false, true] {
            let mut g = Graph::new("long");
            let ids: Vec<LayerId> =
                (0..100_000).map(|i| g.sum(format!("l{i}"), 1, Activation::Tanh)).collect();
            for pair in ids.windows(2) {
                g.connect(pair[0], pair[1], Connect::identity());
            }
            if ring {
                g.connect(ids[ids.len() - 1], ids[0], Connect::identity().delay(1));
            }
            let start = std::time::Instant::now();
            let components = Components::find(&g).unwrap();
            assert!(start.elapsed().as_secs_f64() < 1.0, "{:?}", start.elapsed());
            assert_eq!(components.list.len(), if ring { 1 } else { ids.len() });
        }
    }

    proptest! {
        #[test]
        fn components_equal_those_of_petgraph(
            nodes in 1usize..30,
            edges in proptest::collection::vec((0usize..30, 0usize..30), 0..60),
        ) {
            let mut g = Graph::new("random");
            let ids: Vec<LayerId> = (0..nodes).map(|i| g.sum(format!("l{i}"), 1, Activation::Tanh)).collect();
            let mut peer = petgraph::graph::DiGraph::<(), ()>::new();
            let peers: Vec<_> = (0..nodes).map(|_| peer.add_node(())).collect();
            for (a, b) in edges {
                let (a, b) = (a % nodes, b % nodes);
                g.connect(ids[a], ids[b], Connect::identity().delay(1));
                peer.add_edge(peers[a], peers[b], ());
            }
            let components = Components::find(&g).unwrap();
            for group in petgraph::algo::tarjan_scc(&peer) {
                let mut ours: Vec<usize> =
                    components.of(ids[group[0].index()]).layers.iter().map(|l| l.index()).collect();
                ours.sort_unstable();
                let mut theirs: Vec<usize> = group.iter().map(|n| n.index()).collect();
                theirs.sort_unstable();
                prop_assert_eq!(ours, theirs);
            }
            // Topological: no connection leads back.
            for c in g.connections() {
                let from = components.of_layer[c.source.unwrap().index()];
                prop_assert!(from <= components.of_layer[c.target.index()]);
            }
        }

        #[test]
        fn every_schedule_serves_every_read(
            nodes in 1usize..8,
            edges in proptest::collection::vec((0usize..8, 0usize..8, 1i64..5), 1..20),
            potentials in proptest::collection::vec(-3i64..4, 8),
        ) {
            // Cycle sums stay positive under any potentials, so mixed signs are valid here.
            let mut g = Graph::new("random");
            let ids: Vec<LayerId> = (0..nodes).map(|i| g.sum(format!("l{i}"), 1, Activation::Tanh)).collect();
            for (a, b, w) in edges {
                let (a, b) = (a % nodes, b % nodes);
                g.connect(ids[a], ids[b], Connect::identity().delay(w + potentials[a] - potentials[b]));
            }
            for component in Components::find(&g).unwrap().list {
                if component.kind == Kind::Frames {
                    continue;
                }
                let d = component.width.frames as i64;
                let place = |l: LayerId| component.layers.iter().position(|&m| m == l);
                for c in g.connections() {
                    if let (Some(from), Some(to)) = (place(c.source.unwrap()), place(c.target)) {
                        // The last frame read of a block, against the first that the source's block computes.
                        let behind = c.delay + component.offsets[from] - component.offsets[to];
                        prop_assert!(behind >= d || (behind >= 0 && from < to), "{c:?} {component:?}");
                    }
                }
            }
        }
    }
}
