//! Places the vertices of a graph without cycles in ranks, from top to bottom, few edges crossing (Sugiyama, Tagawa &
//! Toda 1981). `rust-sugiyama` orders the ranks and finds the horizontal places; the ranks are found here, so that
//! long edges can be given a vertex in each rank they pass, and with it a way between the others.

use rust_sugiyama::configure::{Config, CrossingMinimization, RankingType};

/// Room between ranks.
const RANK_GAP: f64 = 34.0;
/// Room between the vertices of a rank.
const GAP: f64 = 16.0;
/// Above this many vertices in all, orders are not refined by swapping, which takes long.
const LARGEST_REFINED: usize = 500;
/// The most vertices, those on the way of long edges included.
pub(crate) const MOST_VERTICES: usize = 4000;

/// An edge, from top to bottom.
#[derive(Clone, Copy)]
pub(crate) struct Edge {
    pub upper: usize,
    pub lower: usize,
    /// Where it leaves, from the vertex's middle; if not given, edges are spread.
    pub upper_at: Option<f64>,
    /// Where it arrives.
    pub lower_at: Option<f64>,
}

impl Edge {
    pub fn new(upper: usize, lower: usize) -> Edge {
        Edge { upper, lower, upper_at: None, lower_at: None }
    }
}

/// Where everything is.
#[derive(Default)]
pub(crate) struct Placed {
    /// The middle of each vertex.
    pub at: Vec<(f64, f64)>,
    /// For each edge the points it goes through, its ends included; straight down within a rank.
    pub routes: Vec<Vec<(f64, f64)>>,
    pub width: f64,
    pub height: f64,
}

/// Places vertices of those sizes. Vertices that are `last` (and have no edges down) are put below all others. `Err`
/// says how many vertices there would be, if too many.
pub(crate) fn place(sizes: &[(f64, f64)], edges: &[Edge], last: &[usize]) -> Result<Placed, usize> {
    if sizes.is_empty() {
        return Ok(Placed::default());
    }
    let ranks = ranks(sizes.len(), edges, last);
    let rank_count = ranks.iter().max().map_or(1, |r| r + 1);
    let passed = |upper: usize, lower: usize| lower.saturating_sub(upper + 1);
    let mut total = sizes.len() + 1;
    for e in edges {
        total += passed(ranks[e.upper], ranks[e.lower]);
    }
    let mut has_upper = vec![false; sizes.len()];
    edges.iter().for_each(|e| has_upper[e.lower] = true);
    total += (0..sizes.len()).filter(|&v| !has_upper[v]).map(|v| ranks[v]).sum::<usize>();
    if total > MOST_VERTICES {
        return Err(total);
    }

    // A root above all ties everything together; its rank is 0, all others are one lower.
    let mut vertices: Vec<(f64, f64)> = sizes.to_vec();
    let mut rank_of: Vec<usize> = ranks.iter().map(|r| r + 1).collect();
    let root = vertices.len();
    vertices.push((1.0, 1.0));
    rank_of.push(0);
    let mut links: Vec<(u32, u32)> = Vec::new();
    let mut link = |vertices: &mut Vec<(f64, f64)>, upper: usize, lower: usize| -> Vec<usize> {
        let (from, to) = (rank_of[upper], rank_of[lower]);
        let mut chain = Vec::new();
        let mut above = upper;
        for rank in from + 1..to {
            chain.push(vertices.len());
            links.push((above as u32, vertices.len() as u32));
            above = vertices.len();
            vertices.push((1.0, 1.0));
            rank_of.push(rank);
        }
        links.push((above as u32, lower as u32));
        chain
    };
    let chains: Vec<Vec<usize>> = edges.iter().map(|e| link(&mut vertices, e.upper, e.lower)).collect();
    for v in (0..sizes.len()).filter(|&v| !has_upper[v]) {
        link(&mut vertices, root, v);
    }
    let xs = horizontal(&vertices, &links);

    let left =
        (0..sizes.len()).map(|v| xs[v] - sizes[v].0 / 2.0).chain(chains.iter().flatten().map(|&v| xs[v]));
    let left = left.fold(f64::INFINITY, f64::min);
    let right =
        (0..sizes.len()).map(|v| xs[v] + sizes[v].0 / 2.0).chain(chains.iter().flatten().map(|&v| xs[v]));
    let right = right.fold(f64::NEG_INFINITY, f64::max);
    let mut heights = vec![0.0f64; rank_count];
    for (v, size) in sizes.iter().enumerate() {
        heights[ranks[v]] = heights[ranks[v]].max(size.1);
    }
    let mut tops = Vec::with_capacity(rank_count);
    let mut y = 0.0;
    for height in &heights {
        tops.push(y);
        y += height + RANK_GAP;
    }
    let x = |v: usize| xs[v] - left;
    let at: Vec<(f64, f64)> =
        (0..sizes.len()).map(|v| (x(v), tops[ranks[v]] + heights[ranks[v]] / 2.0)).collect();
    let mut routes: Vec<Vec<(f64, f64)>> = Vec::with_capacity(edges.len());
    for chain in &chains {
        let mut route = Vec::with_capacity(2 * chain.len() + 2);
        route.push((0.0, 0.0)); // the ends come below
        for &v in chain {
            let rank = rank_of[v] - 1;
            route.push((x(v), tops[rank]));
            route.push((x(v), tops[rank] + heights[rank]));
        }
        route.push((0.0, 0.0));
        routes.push(route);
    }
    set_ends(sizes, edges, &at, &mut routes);
    // Between a vertex and its rank's edge there may be taller ones to the left and right.
    for (e, route) in edges.iter().zip(&mut routes) {
        let bottom = tops[ranks[e.upper]] + heights[ranks[e.upper]];
        let top = tops[ranks[e.lower]];
        let last = route.len() - 1;
        let ((first_x, first_y), (last_x, last_y)) = (route[0], route[last]);
        if last_y > top {
            route.insert(last, (last_x, top));
        }
        if first_y < bottom {
            route.insert(1, (first_x, bottom));
        }
    }
    Ok(Placed { at, routes, width: right - left, height: y - RANK_GAP })
}

/// Longest ways from the top; what nothing leads to comes down to just above what it leads to.
fn ranks(count: usize, edges: &[Edge], last: &[usize]) -> Vec<usize> {
    let mut lower: Vec<Vec<usize>> = vec![Vec::new(); count];
    let mut waiting = vec![0usize; count];
    for e in edges {
        lower[e.upper].push(e.lower);
        waiting[e.lower] += 1;
    }
    let has_upper: Vec<bool> = waiting.iter().map(|&n| n > 0).collect();
    let mut ranks = vec![0usize; count];
    let mut open: Vec<usize> = (0..count).filter(|&v| !has_upper[v]).collect();
    while let Some(v) = open.pop() {
        for &w in &lower[v] {
            ranks[w] = ranks[w].max(ranks[v] + 1);
            waiting[w] -= 1;
            if waiting[w] == 0 {
                open.push(w);
            }
        }
    }
    for v in (0..count).filter(|&v| !has_upper[v]) {
        if let Some(next) = lower[v].iter().map(|&w| ranks[w]).min() {
            ranks[v] = next.saturating_sub(1);
        }
    }
    let bottom = (0..count).filter(|v| !last.contains(v)).map(|v| ranks[v]).max().map_or(0, |r| r + 1);
    for &v in last {
        ranks[v] = bottom;
    }
    ranks
}

/// The middle of each vertex, from left to right.
fn horizontal(vertices: &[(f64, f64)], links: &[(u32, u32)]) -> Vec<f64> {
    let config = Config {
        minimum_length: 1,
        vertex_spacing: GAP,
        dummy_vertices: false,
        dummy_size: 1.0,
        ranking_type: RankingType::Up,
        c_minimization: CrossingMinimization::Barycenter,
        transpose: vertices.len() <= LARGEST_REFINED,
    };
    let named: Vec<(u32, (f64, f64))> =
        vertices.iter().enumerate().map(|(v, &size)| (v as u32, size)).collect();
    let mut xs = vec![0.0; vertices.len()];
    for (layout, ..) in rust_sugiyama::from_vertices_and_edges(&named, links, &config) {
        for (v, (x, _)) in layout {
            xs[v] = x;
        }
    }
    xs
}

/// Gives the edges their ends: spread along the vertices' sides, in the order of where they come from.
fn set_ends(sizes: &[(f64, f64)], edges: &[Edge], at: &[(f64, f64)], routes: &mut [Vec<(f64, f64)>]) {
    let mut below: Vec<Vec<(f64, usize)>> = vec![Vec::new(); sizes.len()];
    let mut above: Vec<Vec<(f64, usize)>> = vec![Vec::new(); sizes.len()];
    for (i, e) in edges.iter().enumerate() {
        let route = &routes[i];
        let passes = route.len() > 2;
        below[e.upper].push((if passes { route[1].0 } else { at[e.lower].0 }, i));
        above[e.lower].push((if passes { route[route.len() - 2].0 } else { at[e.upper].0 }, i));
    }
    for v in 0..sizes.len() {
        let (width, height) = sizes[v];
        for (list, side) in [(&mut below[v], 0.5), (&mut above[v], -0.5)] {
            list.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            let n = list.len() as f64;
            let step = (0.8 * width / n).min(14.0);
            for (place, &(_, i)) in list.iter().enumerate() {
                let e = edges[i];
                let given = if side > 0.0 { e.upper_at } else { e.lower_at };
                let offset = given.unwrap_or((place as f64 - (n - 1.0) / 2.0) * step);
                let end = (at[v].0 + offset, at[v].1 + side * height);
                let route = &mut routes[i];
                let point = if side > 0.0 { 0 } else { route.len() - 1 };
                route[point] = end;
            }
        }
    }
}
