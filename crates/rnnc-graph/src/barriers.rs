//! How few synchronizations per frame any schedule of a component can do with.
//!
//! A link crosses if a unit of the target depends on units of the source that are of another head, or, where there are no heads,
//! on any others: full connections, vector functions, slices that move units. Workers that share out the heads, or units, must
//! meet between the two ends of such a link, so a cycle needs as many barriers per frame as it has crossing links, over its
//! total delay. The bound is the largest such ratio, found by Dinkelbach's method (1967) over cycles.

use crate::cycles::{Digraph, Edge};

/// The largest ratio of crossing links to delay over all cycles, as (links, delay). `crosses` tells of an edge,
/// by its place. Every cycle has a positive delay.
pub(crate) fn bound(graph: &Digraph, crosses: &[bool]) -> (u64, u64) {
    // Edges are told apart by place, so each carries its place as its delay here.
    let by_place = Digraph::new(
        graph.nodes,
        graph.edges.iter().enumerate().map(|(i, e)| Edge { delay: i as i64, ..*e }).collect(),
    );
    let (mut links, mut delay) = (0i128, 1i128);
    loop {
        let weight = |e: Edge| {
            let place = e.delay as usize;
            links * i128::from(graph.edges[place].delay) - delay * i128::from(crosses[place])
        };
        let Err(cycle) = by_place.potentials(weight) else { break };
        // Of parallel edges the cycle takes the one of least weight.
        let (mut more_links, mut more_delay) = (0i128, 0i128);
        for (i, &from) in cycle.iter().enumerate() {
            let to = cycle[(i + 1) % cycle.len()];
            let Some(edge) = by_place.leaving(from).filter(|e| e.to == to).min_by_key(|&e| weight(e)) else {
                continue;
            };
            more_links += i128::from(crosses[edge.delay as usize]);
            more_delay += i128::from(graph.edges[edge.delay as usize].delay);
        }
        if more_delay <= 0 || more_links * delay <= links * more_delay {
            break; // no better after all: the bound stands
        }
        (links, delay) = (more_links, more_delay);
    }
    (links as u64, delay as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(nodes: usize, edges: &[(usize, usize, i64, bool)]) -> (u64, u64) {
        let crosses: Vec<bool> = edges.iter().map(|e| e.3).collect();
        let edges = edges.iter().map(|&(from, to, delay, _)| Edge { from, to, delay }).collect();
        bound(&Digraph::new(nodes, edges), &crosses)
    }

    #[test]
    fn a_cycle_of_two_full_connections_and_one_frame_needs_two() {
        assert_eq!(of(2, &[(0, 1, 0, true), (1, 0, 1, true), (0, 0, 1, true)]), (2, 1));
    }

    #[test]
    fn elementwise_cycles_need_none() {
        assert_eq!(of(1, &[(0, 0, 1, false)]).0, 0);
    }

    #[test]
    fn delay_divides_the_need() {
        assert_eq!(of(1, &[(0, 0, 4, true)]), (1, 4));
    }
}
