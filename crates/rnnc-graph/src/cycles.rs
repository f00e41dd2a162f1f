//! Walks over graphs: strongly connected components, orders, potentials, cycles. No recursion anywhere.
//!
//! A [`Digraph`] is nodes 0..n and weighted edges; [`crate::components`] makes one of the layers, and a small one of
//! each component.

/// An edge with its delay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Edge {
    pub from: usize,
    pub to: usize,
    pub delay: i64,
}

/// Nodes 0..n and edges, with the edges that leave each node.
pub(crate) struct Digraph {
    pub nodes: usize,
    pub edges: Vec<Edge>,
    first: Vec<usize>,
    by_source: Vec<usize>,
}

impl Digraph {
    pub fn new(nodes: usize, edges: Vec<Edge>) -> Digraph {
        let mut first = vec![0; nodes + 1];
        for e in &edges {
            first[e.from + 1] += 1;
        }
        for i in 0..nodes {
            first[i + 1] += first[i];
        }
        let mut next = first.clone();
        let mut by_source = vec![0; edges.len()];
        for (i, e) in edges.iter().enumerate() {
            by_source[next[e.from]] = i;
            next[e.from] += 1;
        }
        Digraph { nodes, edges, first, by_source }
    }

    /// The edges that leave a node.
    pub fn leaving(&self, node: usize) -> impl Iterator<Item = Edge> + '_ {
        self.by_source[self.first[node]..self.first[node + 1]].iter().map(|&i| self.edges[i])
    }

    /// The strongly connected components, each before those it leads to (Tarjan 1972, with its own stack).
    pub fn components(&self) -> Vec<Vec<usize>> {
        const NEW: usize = usize::MAX;
        let mut index = vec![NEW; self.nodes];
        let mut low = vec![0; self.nodes];
        let mut on_stack = vec![false; self.nodes];
        let mut stack = Vec::new();
        let mut walk: Vec<(usize, usize)> = Vec::new(); // a node, and its next edge
        let mut found = Vec::new();
        let mut count = 0;
        for root in 0..self.nodes {
            if index[root] != NEW {
                continue;
            }
            walk.push((root, self.first[root]));
            while let Some(&mut (node, ref mut next)) = walk.last_mut() {
                if index[node] == NEW {
                    index[node] = count;
                    low[node] = count;
                    count += 1;
                    stack.push(node);
                    on_stack[node] = true;
                }
                if *next < self.first[node + 1] {
                    let to = self.edges[self.by_source[*next]].to;
                    *next += 1;
                    if index[to] == NEW {
                        walk.push((to, self.first[to]));
                    } else if on_stack[to] {
                        low[node] = low[node].min(index[to]);
                    }
                    continue;
                }
                walk.pop();
                if let Some(&(parent, _)) = walk.last() {
                    low[parent] = low[parent].min(low[node]);
                }
                if low[node] == index[node] {
                    let mut component = Vec::new();
                    // The node itself lies on the stack, so this ends there.
                    while let Some(member) = stack.pop() {
                        on_stack[member] = false;
                        component.push(member);
                        if member == node {
                            break;
                        }
                    }
                    component.sort_unstable();
                    found.push(component);
                }
            }
        }
        found.reverse();
        found
    }

    /// An order of the nodes in which every edge that `counts` leads onward; or a cycle of such edges. Among
    /// several orders, the one closest to that of the numbers.
    pub fn order(&self, counts: impl Fn(Edge) -> bool) -> Result<Vec<usize>, Vec<usize>> {
        use std::cmp::Reverse;
        use std::collections::BinaryHeap;
        let mut waits = vec![0usize; self.nodes];
        for &e in &self.edges {
            waits[e.to] += usize::from(counts(e));
        }
        let mut ready: BinaryHeap<_> = (0..self.nodes).filter(|&n| waits[n] == 0).map(Reverse).collect();
        let mut order = Vec::with_capacity(self.nodes);
        while let Some(Reverse(node)) = ready.pop() {
            order.push(node);
            for e in self.leaving(node).filter(|&e| counts(e)) {
                waits[e.to] -= 1;
                if waits[e.to] == 0 {
                    ready.push(Reverse(e.to));
                }
            }
        }
        if order.len() == self.nodes {
            return Ok(order);
        }
        // Every node that still waits has a predecessor that waits: walk back until one comes again.
        let mut before = vec![usize::MAX; self.nodes];
        for &e in &self.edges {
            if counts(e) && waits[e.from] > 0 && waits[e.to] > 0 {
                before[e.to] = e.from;
            }
        }
        let start = (0..self.nodes).find(|&n| waits[n] > 0).unwrap_or(0);
        Err(cycle_through(&before, start))
    }

    /// Potentials p with `weight(e) + p(from) - p(to) >= 0` on every edge, or a cycle of negative weight (Bellman
    /// 1958, Ford 1956). Takes time nodes x edges at worst.
    pub fn potentials(&self, weight: impl Fn(Edge) -> i128) -> Result<Vec<i128>, Vec<usize>> {
        let mut p = vec![0i128; self.nodes];
        let mut before = vec![usize::MAX; self.nodes];
        for round in 0..=self.nodes {
            let mut last = None;
            for &e in &self.edges {
                let through = p[e.from] + weight(e);
                if through < p[e.to] {
                    p[e.to] = through;
                    before[e.to] = e.from;
                    last = Some(e.to);
                }
            }
            match last {
                None => return Ok(p),
                Some(node) if round == self.nodes => return Err(cycle_through(&before, node)),
                Some(_) => {}
            }
        }
        Ok(p) // no node, no round
    }
}

/// Follows predecessors from `start` until a node comes again; the cycle in the order of its edges,
/// from its least node.
fn cycle_through(before: &[usize], start: usize) -> Vec<usize> {
    let mut seen = vec![false; before.len()];
    let mut node = start;
    while !seen[node] {
        seen[node] = true;
        if before[node] == usize::MAX {
            return vec![node];
        }
        node = before[node];
    }
    let mut cycle = vec![node];
    let mut at = before[node];
    while at != node {
        cycle.push(at);
        at = before[at];
    }
    cycle.reverse();
    let least = (0..cycle.len()).min_by_key(|&i| cycle[i]).unwrap_or(0);
    cycle.rotate_left(least);
    cycle
}
