//! How many frames of a component can run at once, and with which shifts (retiming: Leiserson & Saxe 1991).
//!
//! A block of d frames: in step k, layer v computes frames k d - r(v) .. k d - r(v) + d. That serves every read if
//! w + r(target) - r(source) >= 0 on each connection of delay w, and the connections left under d form no cycle,
//! for then a block's layers can be computed one after the other. On every cycle some connection must then
//! carry at least d of the delay, so d is at most the least total delay of a cycle.

use crate::cycles::{Digraph, Edge};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Up to this many layers shifts are searched for; above, a bound in linear time does.
pub(crate) const SEARCH_LIMIT: usize = 1000;
/// How many roots of shortest paths are tried.
const ROOTS: usize = 64;

/// The frames of a component that run at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Width {
    /// d: in every step that many frames are computed.
    pub frames: usize,
    /// The least total delay of a cycle: no schedule is wider. `None` where the component is too large to search.
    pub bound: Option<usize>,
}

pub(crate) struct Found {
    pub width: Width,
    /// r, per node.
    pub shifts: Vec<i64>,
    /// An order of the nodes that serves the block.
    pub order: Vec<usize>,
}

/// The widest schedule found. `base` makes every shifted delay non-negative: w + base(to) - base(from) >= 0.
pub(crate) fn widest(graph: &Digraph, base: Vec<i64>) -> Found {
    let mut best = schedule(graph, base.clone());
    if graph.nodes > SEARCH_LIMIT {
        return best;
    }
    let reduced = |e: Edge| e.delay + base[e.to] - base[e.from];
    let bound = least_cycle(graph, reduced);
    best.width.bound = usize::try_from(bound).ok();
    let reversed = Digraph::new(
        graph.nodes,
        graph.edges.iter().map(|e| Edge { from: e.to, to: e.from, ..*e }).collect(),
    );
    // Only what a delay leads to is worth being a root: shifts move delays toward it.
    let mut roots: Vec<usize> = graph.edges.iter().filter(|&&e| reduced(e) > 0).map(|e| e.to).collect();
    roots.sort_unstable();
    roots.dedup();
    for root in roots.into_iter().take(ROOTS) {
        if best.width.frames as i64 >= bound {
            break;
        }
        let toward = distances(graph, root, reduced, i64::MAX);
        let away = distances(&reversed, root, |e| e.delay + base[e.from] - base[e.to], i64::MAX);
        for shifts in [
            toward.iter().zip(&base).map(|(d, b)| b - d).collect::<Vec<i64>>(),
            away.iter().zip(&base).map(|(d, b)| b + d).collect(),
        ] {
            let found = schedule(graph, shifts);
            if found.width.frames > best.width.frames {
                best = Found { width: Width { bound: best.width.bound, ..found.width }, ..found };
            }
        }
    }
    best
}

/// The largest d for which the connections left under d by these shifts form no cycle.
fn schedule(graph: &Digraph, shifts: Vec<i64>) -> Found {
    let left = |e: Edge| e.delay + shifts[e.to] - shifts[e.from];
    let mut steps: Vec<i64> = graph.edges.iter().map(|&e| left(e)).filter(|&w| w > 0).collect();
    steps.sort_unstable();
    steps.dedup();
    // Fewer connections count under a smaller d, so the d that work are those up to some limit.
    let (mut low, mut high) = (0, steps.len());
    while low + 1 < high {
        let middle = (low + high) / 2;
        if graph.order(|e| left(e) < steps[middle]).is_ok() { low = middle } else { high = middle }
    }
    let frames = steps.get(low).copied().unwrap_or(1);
    match graph.order(|e| left(e) < frames) {
        Ok(order) => Found {
            width: Width { frames: usize::try_from(frames).unwrap_or(1), bound: None },
            shifts,
            order,
        },
        // The smallest step is no smaller than 1, and connections left at 0 form no cycle in a valid component.
        Err(_) => {
            Found { width: Width { frames: 1, bound: None }, shifts, order: (0..graph.nodes).collect() }
        }
    }
}

/// Dijkstra (1959) from `root`; nodes further than `limit` keep `i64::MAX / 4`.
fn distances(graph: &Digraph, root: usize, weight: impl Fn(Edge) -> i64, limit: i64) -> Vec<i64> {
    let mut distance = vec![i64::MAX / 4; graph.nodes];
    distance[root] = 0;
    let mut queue = BinaryHeap::from([(Reverse(0i64), root)]);
    while let Some((Reverse(d), node)) = queue.pop() {
        if d > distance[node] || d >= limit {
            continue;
        }
        for e in graph.leaving(node) {
            let through = d + weight(e);
            if through < distance[e.to] {
                distance[e.to] = through;
                queue.push((Reverse(through), e.to));
            }
        }
    }
    distance
}

/// The least total weight of a cycle; weights are not negative, and no cycle weighs 0.
fn least_cycle(graph: &Digraph, weight: impl Fn(Edge) -> i64 + Copy) -> i64 {
    let mut heavy: Vec<Edge> = graph.edges.iter().copied().filter(|&e| weight(e) > 0).collect();
    heavy.sort_by_key(|&e| (e.to, weight(e)));
    let mut least = i64::MAX / 4;
    let mut from_root = (usize::MAX, Vec::new());
    for e in heavy {
        if least <= 1 {
            break;
        }
        if from_root.0 != e.to {
            from_root = (e.to, distances(graph, e.to, weight, least));
        }
        least = least.min(from_root.1[e.from].saturating_add(weight(e)));
    }
    least
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(nodes: usize, edges: &[(usize, usize, i64)]) -> Found {
        let edges = edges.iter().map(|&(from, to, delay)| Edge { from, to, delay }).collect();
        widest(&Digraph::new(nodes, edges), vec![0; nodes])
    }

    #[test]
    fn a_loop_of_delay_four_runs_four_frames_at_once() {
        let f = found(1, &[(0, 0, 4)]);
        assert_eq!(f.width, Width { frames: 4, bound: Some(4) });
    }

    #[test]
    fn delays_spread_over_a_cycle_are_gathered_by_shifts() {
        // Three layers in a ring, each reading the last with delay 1: without shifts one frame, with them three.
        let f = found(3, &[(0, 1, 1), (1, 2, 1), (2, 0, 1)]);
        assert_eq!(f.width, Width { frames: 3, bound: Some(3) });
        for (from, to) in [(0, 1), (1, 2), (2, 0)] {
            assert!(1 + f.shifts[to] - f.shifts[from] >= 0);
        }
    }

    #[test]
    fn the_shortest_cycle_bounds_the_width() {
        let f = found(2, &[(0, 1, 0), (1, 0, 5), (0, 0, 2)]);
        assert_eq!(f.width, Width { frames: 2, bound: Some(2) });
    }
}
