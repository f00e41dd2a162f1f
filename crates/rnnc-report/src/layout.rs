//! Where everything in a picture stands. Each cycle is laid out by itself, into a box; then the boxes and the layers
//! in no cycle are.
//!
//! In a box time runs in circles, which a layered drawing cannot have. So what a cycle reads of other frames comes
//! in at the top, as a mark `h[t-1]` from which lines go down to all that read it; a dashed line leads up to the mark
//! from the layer itself. What is read from outside comes in at the top as well, and what is read outside goes out at
//! the bottom.

use crate::layered::{Edge, Placed, place};
use crate::picture::{Node, Picture, Read};
use std::collections::BTreeMap;

/// Room around what stands in a box.
const PADDING: f64 = 14.0;
/// Room for a box's title.
const HEADER: f64 = 24.0;
/// The width of a letter of a layer's name, and of smaller ones.
pub(crate) const LETTER: f64 = 7.3;
pub(crate) const SMALL_LETTER: f64 = 6.3;

/// A picture with places.
#[derive(Default)]
pub(crate) struct Scene {
    pub width: f64,
    pub height: f64,
    /// The picture's nodes.
    pub nodes: Vec<Rect>,
    /// The picture's groups.
    pub boxes: Vec<Rect>,
    pub marks: Vec<Mark>,
    pub lines: Vec<Line>,
}

#[derive(Clone, Copy, Default)]
pub(crate) struct Rect {
    pub x: f64,
    pub y: f64,
    pub width: f64,
    pub height: f64,
}

/// Where lines from one layer part; with a text, it is another frame that they read.
pub(crate) struct Mark {
    pub x: f64,
    pub y: f64,
    pub text: String,
}

pub(crate) struct Line {
    pub points: Vec<(f64, f64)>,
    /// Through a matrix.
    pub full: bool,
    /// From another frame.
    pub dashed: bool,
    /// Whether it ends here, rather than in another line.
    pub arrow: bool,
    /// Whether its last part is an arch over to a mark.
    pub arch: bool,
    /// Says which frame is read.
    pub label: String,
}

/// How high an arch is.
pub(crate) const ARCH: f64 = 16.0;

/// A vertex of a box's inner layout.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Vertex {
    Node(usize),
    /// What is read of a node in another frame, or of a node outside.
    Mark(usize, i64),
    /// Where a line turns from a node up to its mark.
    Turn(usize, i64),
    /// The way from the turn to the node begins.
    Way(usize, i64),
    /// Where a node outside comes in.
    Entry(usize, i64),
    /// Where a node goes out.
    Exit(usize),
}

/// A box or a layer in no cycle.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Item {
    Group(usize),
    Node(usize),
}

struct Inside {
    vertices: Vec<Vertex>,
    edges: Vec<Edge>,
    full: Vec<bool>,
    placed: Placed,
    width: f64,
    height: f64,
}

pub(crate) fn node_size(picture: &Picture, node: usize) -> (f64, f64) {
    let node = &picture.nodes[node];
    let width = (node.label.chars().count() as f64 * LETTER)
        .max(node.detail.chars().count() as f64 * SMALL_LETTER)
        .max(30.0);
    (width + 16.0, 38.0)
}

fn mark_size(text: &str) -> (f64, f64) {
    if text.is_empty() { (6.0, 6.0) } else { (text.chars().count() as f64 * SMALL_LETTER + 12.0, 18.0) }
}

/// Lays out a picture. `Err` says how many vertices there would be, if too many.
pub(crate) fn arrange(picture: &Picture) -> Result<Scene, usize> {
    let item = |node: usize| picture.nodes[node].group.map_or(Item::Node(node), Item::Group);
    let inside: Vec<Inside> =
        (0..picture.groups.len()).map(|g| arrange_inside(picture, g)).collect::<Result<_, _>>()?;

    // The items, and the lines between them: one from each layer to each item that reads it in some frame.
    let mut items: Vec<Item> = (0..picture.nodes.len()).map(item).collect();
    items.sort_unstable();
    items.dedup();
    let index = |item: Item| items.binary_search(&item).unwrap_or_default(); // all are there
    let sizes: Vec<(f64, f64)> = items
        .iter()
        .map(|&item| match item {
            Item::Group(g) => (inside[g].width, inside[g].height),
            Item::Node(node) => node_size(picture, node),
        })
        .collect();
    let mut between: BTreeMap<(Item, usize, i64), bool> = BTreeMap::new();
    for read in picture.reads.iter().filter(|r| item(r.source) != item(r.target)) {
        *between.entry((item(read.target), read.source, read.delay)).or_default() |= read.full;
    }
    let port = |g: usize, vertex: Vertex| {
        let at = inside[g].vertices.iter().position(|&v| v == vertex)?;
        Some(inside[g].placed.at[at].0 + PADDING + slack(&inside[g]) - inside[g].width / 2.0)
    };
    let edges: Vec<Edge> = between
        .keys()
        .map(|&(to, source, delay)| Edge {
            upper: index(item(source)),
            lower: index(to),
            upper_at: match item(source) {
                Item::Group(g) => port(g, Vertex::Exit(source)),
                Item::Node(_) => None,
            },
            lower_at: match to {
                Item::Group(g) => port(g, Vertex::Entry(source, delay)),
                Item::Node(_) => None,
            },
        })
        .collect();
    let placed = place(&sizes, &edges, &[])?;

    let mut scene = Scene {
        width: placed.width,
        height: placed.height,
        nodes: vec![Rect::default(); picture.nodes.len()],
        boxes: vec![Rect::default(); picture.groups.len()],
        ..Scene::default()
    };
    for (place, &item) in items.iter().enumerate() {
        let ((x, y), (width, height)) = (placed.at[place], sizes[place]);
        let rect = Rect { x: x - width / 2.0, y: y - height / 2.0, width, height };
        match item {
            Item::Node(node) => scene.nodes[node] = rect,
            Item::Group(g) => {
                scene.boxes[g] = rect;
                put_inside(picture, &inside[g], rect, &mut scene);
            }
        }
    }
    for ((&(to, _, delay), &full), points) in between.iter().zip(placed.routes) {
        let to_node = matches!(to, Item::Node(_));
        let label = if to_node && delay != 0 { crate::names::at(delay) } else { String::new() };
        scene.lines.push(Line { points, full, dashed: delay != 0, arrow: to_node, arch: false, label });
    }
    Ok(scene)
}

/// Room at the left where a box's title is wider than what stands in it.
fn slack(inside: &Inside) -> f64 {
    (inside.width - 2.0 * PADDING - inside.placed.width) / 2.0
}

/// Lays out a cycle.
fn arrange_inside(picture: &Picture, g: usize) -> Result<Inside, usize> {
    let member = |node: usize| picture.nodes[node].group == Some(g);
    let mut vertices: Vec<Vertex> =
        (0..picture.nodes.len()).filter(|&n| member(n)).map(Vertex::Node).collect();
    let mut links: Vec<(Vertex, Vertex, bool)> = Vec::new();
    let mut marks: BTreeMap<(usize, i64), bool> = BTreeMap::new();
    let mut exits: BTreeMap<usize, bool> = BTreeMap::new();
    for &Read { target, source, delay, full } in &picture.reads {
        match (member(source), member(target)) {
            (true, true) if delay == 0 => links.push((Vertex::Node(source), Vertex::Node(target), full)),
            (_, true) => {
                *marks.entry((source, delay)).or_default() |= full;
                links.push((Vertex::Mark(source, delay), Vertex::Node(target), full));
            }
            (true, false) => *exits.entry(source).or_default() |= full,
            (false, false) => {}
        }
    }
    for (&(source, delay), &full) in &marks {
        let mark = Vertex::Mark(source, delay);
        vertices.push(mark);
        if member(source) {
            let (turn, way) = (Vertex::Turn(source, delay), Vertex::Way(source, delay));
            vertices.extend([turn, way]);
            links.extend([(turn, mark, full), (turn, way, full), (way, Vertex::Node(source), full)]);
        } else {
            let entry = Vertex::Entry(source, delay);
            vertices.push(entry);
            links.push((entry, mark, full));
        }
    }
    let bottom = if exits.is_empty() { PADDING } else { 0.0 };
    for (node, full) in exits {
        vertices.push(Vertex::Exit(node));
        links.push((Vertex::Node(node), Vertex::Exit(node), full));
    }
    let sizes: Vec<(f64, f64)> = vertices
        .iter()
        .map(|&vertex| match vertex {
            Vertex::Node(node) => node_size(picture, node),
            Vertex::Mark(node, delay) => mark_size(&mark_text(picture, node, delay)),
            Vertex::Turn(..) | Vertex::Way(..) | Vertex::Entry(..) | Vertex::Exit(_) => (2.0, 2.0),
        })
        .collect();
    // Every end of a link was made a vertex above.
    let places: BTreeMap<Vertex, usize> = vertices.iter().enumerate().map(|(i, &v)| (v, i)).collect();
    let edges: Vec<Edge> = links.iter().map(|(from, to, _)| Edge::new(places[from], places[to])).collect();
    let last: Vec<usize> = (0..vertices.len()).filter(|&v| matches!(vertices[v], Vertex::Exit(_))).collect();
    let placed = place(&sizes, &edges, &last)?;
    let title = picture.groups[g].label.chars().count() as f64 * LETTER;
    Ok(Inside {
        width: placed.width.max(title) + 2.0 * PADDING,
        height: placed.height + HEADER + bottom,
        full: links.iter().map(|&(_, _, full)| full).collect(),
        vertices,
        edges,
        placed,
    })
}

/// What a mark says; nothing if it only is where a line parts.
fn mark_text(picture: &Picture, node: usize, delay: i64) -> String {
    if delay == 0 { String::new() } else { read_label(&picture.nodes[node], delay) }
}

/// Adds what stands in a box, and the lines to its border.
fn put_inside(picture: &Picture, inside: &Inside, rect: Rect, scene: &mut Scene) {
    let shift = |(x, y): (f64, f64)| (rect.x + PADDING + slack(inside) + x, rect.y + HEADER + y);
    let mut ways: BTreeMap<(usize, i64), Vec<(f64, f64)>> = BTreeMap::new();
    for (i, &vertex) in inside.vertices.iter().enumerate() {
        let (x, y) = shift(inside.placed.at[i]);
        match vertex {
            Vertex::Node(node) => {
                let (width, height) = node_size(picture, node);
                scene.nodes[node] = Rect { x: x - width / 2.0, y: y - height / 2.0, width, height };
            }
            Vertex::Mark(node, delay) => {
                scene.marks.push(Mark { x, y, text: mark_text(picture, node, delay) });
            }
            Vertex::Turn(..) | Vertex::Way(..) | Vertex::Entry(..) | Vertex::Exit(_) => {}
        }
    }
    for ((edge, &full), route) in inside.edges.iter().zip(&inside.full).zip(&inside.placed.routes) {
        let mut points: Vec<(f64, f64)> = route.iter().map(|&p| shift(p)).collect();
        let plain =
            |points, arrow, dashed| Line { points, full, dashed, arrow, arch: false, label: String::new() };
        match (inside.vertices[edge.upper], inside.vertices[edge.lower]) {
            (Vertex::Entry(..), Vertex::Mark(_, delay)) => {
                let top = (points[0].0, rect.y);
                points.insert(0, top);
                scene.lines.push(plain(points, delay != 0, delay != 0));
            }
            (Vertex::Node(_), Vertex::Exit(_)) => {
                let end = points.len() - 1;
                points[end].1 = rect.y + rect.height;
                scene.lines.push(plain(points, false, false));
            }
            (Vertex::Way(node, delay), _) => {
                points.reverse();
                ways.insert((node, delay), points);
            }
            (Vertex::Turn(..), _) => {}
            (_, Vertex::Node(_)) => scene.lines.push(plain(points, true, false)),
            _ => {}
        }
    }
    // From a layer up its way, and over to the mark.
    for (i, &vertex) in inside.vertices.iter().enumerate() {
        if let Vertex::Mark(node, delay) = vertex
            && let Some(mut points) = ways.remove(&(node, delay))
            && let Some(&(way, _)) = points.last()
        {
            let (x, y) = shift(inside.placed.at[i]);
            let height = mark_size(&mark_text(picture, node, delay)).1;
            let top = y - height / 2.0;
            points.extend([(way, top), (x, top)]);
            let label = String::new();
            scene.lines.push(Line { points, full: false, dashed: true, arrow: true, arch: true, label });
        }
    }
}

/// `h[t-1]`
fn read_label(node: &Node, delay: i64) -> String {
    format!("{}[{}]", node.label, crate::names::at(delay))
}
