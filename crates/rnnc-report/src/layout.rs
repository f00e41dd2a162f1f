//! Where everything in a picture stands. Each cycle is laid out by itself, into a box; then the boxes and the layers
//! in no cycle are.
//!
//! In a box time runs in circles, which a layered drawing cannot have. So what a cycle reads of other frames comes
//! in at the top, as a mark `h[t-1]` from which lines go down to all that read it; a dashed line leads up to the mark
//! from the layer itself. What is read from outside comes in at the top as well, and what is read outside goes out at
//! the bottom. A box's title stands at the top between the lines that come in; where no gap is wide enough, the box
//! grows to the left. Layers in no cycle read other frames through marks, too.

use crate::layered::{Edge, Placed, place};
use crate::picture::{Picture, Read};
use std::collections::BTreeMap;

/// Room around what stands in a box.
const PADDING: f64 = 14.0;
/// Room for a box's title.
const HEADER: f64 = 26.0;
/// Where it stands in that.
const TITLE_TOP: f64 = 5.0;
const TITLE_HEIGHT: f64 = 18.0;
/// Room at its left and right.
const TITLE_GAP: f64 = 12.0;
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
    /// Where the groups' titles stand.
    pub titles: Vec<Rect>,
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
}

/// A point.
type Point = (f64, f64);

/// A part of a line: straight, or a cubic Bézier curve.
pub(crate) struct Piece {
    pub from: Point,
    pub controls: Option<(Point, Point)>,
    pub to: Point,
}

impl Line {
    /// Its parts: it leaves and arrives upright wherever it bends.
    pub fn pieces(&self) -> impl Iterator<Item = Piece> {
        self.points.windows(2).enumerate().map(|(i, pair)| {
            let (from, to) = (pair[0], pair[1]);
            let controls = if self.arch && i + 2 == self.points.len() {
                let over = from.1 - 4.0 / 3.0 * ARCH; // where a cubic's middle is three quarters of the way
                Some(((from.0, over), (to.0, over)))
            } else if (from.0 - to.0).abs() < 0.05 || (from.1 - to.1).abs() < 0.05 {
                None
            } else {
                let middle = (from.1 + to.1) / 2.0;
                Some(((from.0, middle), (to.0, middle)))
            };
            Piece { from, controls, to }
        })
    }
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

/// A box, a layer in no cycle, or what such layers read of another frame.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Item {
    Group(usize),
    Node(usize),
    Mark(usize, i64),
}

/// A line between items, by its ends.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Between {
    upper: Item,
    lower: Item,
    /// What is read.
    source: usize,
    delay: i64,
}

struct Inside {
    vertices: Vec<Vertex>,
    edges: Vec<Edge>,
    full: Vec<bool>,
    placed: Placed,
    width: f64,
    height: f64,
    /// From the box's left to what stands in it.
    left: f64,
    /// From the box's left to its title.
    title: f64,
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

    // The lines between items: one from each layer to each item that reads it in some frame. The value says whether it is
    // read through a matrix.
    let mut between: BTreeMap<Between, bool> = BTreeMap::new();
    for &Read { target, source, delay, full } in &picture.reads {
        let (upper, lower) = (item(source), item(target));
        if upper == lower {
            continue;
        }
        let mut line = |upper, lower| {
            *between.entry(Between { upper, lower, source, delay }).or_default() |= full;
        };
        match lower {
            Item::Node(_) if delay != 0 => {
                line(upper, Item::Mark(source, delay));
                line(Item::Mark(source, delay), lower);
            }
            _ => line(upper, lower),
        }
    }
    let mut items: Vec<Item> = (0..picture.nodes.len()).map(item).collect();
    items.extend(between.keys().map(|line| line.lower));
    items.sort_unstable();
    items.dedup();
    let index = |item: Item| items.binary_search(&item).unwrap_or_default(); // all are there
    let sizes: Vec<(f64, f64)> = items
        .iter()
        .map(|&item| match item {
            Item::Group(g) => (inside[g].width, inside[g].height),
            Item::Node(node) => node_size(picture, node),
            Item::Mark(node, delay) => mark_size(&mark_text(picture, node, delay, None)),
        })
        .collect();
    let ports: Vec<BTreeMap<Vertex, f64>> = inside
        .iter()
        .map(|inside| {
            let ports = inside.vertices.iter().zip(&inside.placed.at);
            let ports = ports.filter(|(vertex, _)| matches!(vertex, Vertex::Entry(..) | Vertex::Exit(_)));
            ports.map(|(&vertex, at)| (vertex, at.0 + inside.left - inside.width / 2.0)).collect()
        })
        .collect();
    let edges: Vec<Edge> = between
        .keys()
        .map(|line| Edge {
            upper: index(line.upper),
            lower: index(line.lower),
            upper_at: match line.upper {
                Item::Group(g) => ports[g].get(&Vertex::Exit(line.source)).copied(),
                Item::Node(_) | Item::Mark(..) => None,
            },
            lower_at: match line.lower {
                Item::Group(g) => ports[g].get(&Vertex::Entry(line.source, line.delay)).copied(),
                Item::Node(_) | Item::Mark(..) => None,
            },
        })
        .collect();
    let placed = place(&sizes, &edges, &[])?;

    let mut scene = Scene {
        width: placed.width,
        height: placed.height,
        nodes: vec![Rect::default(); picture.nodes.len()],
        boxes: vec![Rect::default(); picture.groups.len()],
        titles: vec![Rect::default(); picture.groups.len()],
        ..Scene::default()
    };
    for (place, &item) in items.iter().enumerate() {
        let ((x, y), (width, height)) = (placed.at[place], sizes[place]);
        let rect = Rect { x: x - width / 2.0, y: y - height / 2.0, width, height };
        match item {
            Item::Node(node) => scene.nodes[node] = rect,
            Item::Mark(node, delay) => {
                scene.marks.push(Mark { x, y, text: mark_text(picture, node, delay, None) });
            }
            Item::Group(g) => {
                scene.boxes[g] = rect;
                scene.titles[g] = Rect {
                    x: rect.x + inside[g].title,
                    y: rect.y + TITLE_TOP,
                    width: title_width(picture, g),
                    height: TITLE_HEIGHT,
                };
                put_inside(picture, g, &inside[g], rect, &mut scene);
            }
        }
    }
    for ((line, &full), points) in between.iter().zip(placed.routes) {
        let from_mark = matches!(line.upper, Item::Mark(..));
        let arrow = !matches!(line.lower, Item::Group(_));
        scene.lines.push(Line { points, full, dashed: line.delay != 0 && !from_mark, arrow, arch: false });
    }
    Ok(scene)
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
            Vertex::Mark(node, delay) => mark_size(&mark_text(picture, node, delay, Some(g))),
            Vertex::Turn(..) | Vertex::Way(..) | Vertex::Entry(..) | Vertex::Exit(_) => (2.0, 2.0),
        })
        .collect();
    // Every end of a link was made a vertex above.
    let places: BTreeMap<Vertex, usize> = vertices.iter().enumerate().map(|(i, &v)| (v, i)).collect();
    let edges: Vec<Edge> = links.iter().map(|(from, to, _)| Edge::new(places[from], places[to])).collect();
    let last: Vec<usize> = (0..vertices.len()).filter(|&v| matches!(vertices[v], Vertex::Exit(_))).collect();
    let placed = place(&sizes, &edges, &last)?;
    // Room for the title between the lines that come in.
    let room = title_width(picture, g) + 2.0 * TITLE_GAP;
    let mut width = placed.width.max(room - 2.0 * PADDING) + 2.0 * PADDING;
    let mut left = (width - placed.width) / 2.0;
    let mut entries: Vec<f64> = (0..vertices.len())
        .filter(|&v| matches!(vertices[v], Vertex::Entry(..)))
        .map(|v| placed.at[v].0 + left)
        .collect();
    entries.sort_by(f64::total_cmp);
    let gaps =
        std::iter::once(0.0).chain(entries.iter().copied()).zip(entries.iter().copied().chain([width]));
    let title = match gaps.into_iter().find(|(from, to)| to - from >= room) {
        Some((from, _)) => from + TITLE_GAP,
        None => {
            let more = room - entries.first().copied().unwrap_or(width);
            left += more;
            width += more;
            TITLE_GAP
        }
    };
    Ok(Inside {
        width,
        height: placed.height + HEADER + bottom,
        left,
        title,
        full: links.iter().map(|&(_, _, full)| full).collect(),
        vertices,
        edges,
        placed,
    })
}

fn title_width(picture: &Picture, g: usize) -> f64 {
    picture.groups[g].label.chars().count() as f64 * LETTER
}

/// What a mark says in a group, or outside of all; nothing if it only is where a line parts.
fn mark_text(picture: &Picture, node: usize, delay: i64, group: Option<usize>) -> String {
    if delay == 0 {
        return String::new();
    }
    let node = &picture.nodes[node];
    let name = if node.group == group { &node.label } else { &node.full_label };
    let is_name = name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '.'));
    let at = crate::names::at(delay);
    if is_name { format!("{name}[{at}]") } else { format!("({name})[{at}]") }
}

/// Adds what stands in a box, and the lines to its border.
fn put_inside(picture: &Picture, g: usize, inside: &Inside, rect: Rect, scene: &mut Scene) {
    let shift = |(x, y): (f64, f64)| (rect.x + inside.left + x, rect.y + HEADER + y);
    let mut ways: BTreeMap<(usize, i64), Vec<(f64, f64)>> = BTreeMap::new();
    for (i, &vertex) in inside.vertices.iter().enumerate() {
        let (x, y) = shift(inside.placed.at[i]);
        match vertex {
            Vertex::Node(node) => {
                let (width, height) = node_size(picture, node);
                scene.nodes[node] = Rect { x: x - width / 2.0, y: y - height / 2.0, width, height };
            }
            Vertex::Mark(node, delay) => {
                scene.marks.push(Mark { x, y, text: mark_text(picture, node, delay, Some(g)) });
            }
            Vertex::Turn(..) | Vertex::Way(..) | Vertex::Entry(..) | Vertex::Exit(_) => {}
        }
    }
    for ((edge, &full), route) in inside.edges.iter().zip(&inside.full).zip(&inside.placed.routes) {
        let mut points: Vec<(f64, f64)> = route.iter().map(|&p| shift(p)).collect();
        let plain = |points, arrow, dashed| Line { points, full, dashed, arrow, arch: false };
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
            let height = mark_size(&mark_text(picture, node, delay, Some(g))).1;
            let top = y - height / 2.0;
            points.extend([(way, top), (x, top)]);
            scene.lines.push(Line { points, full: false, dashed: true, arrow: true, arch: true });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rnnc_plan::{Plan, PlanOptions};

    fn picture(text: &str) -> Option<Picture> {
        let graph = rnnc_lang::compile("net.rnn", text, None).ok()?;
        Some(Picture::of(&Plan::new(&graph, PlanOptions::inference(1, 64)).unwrap()))
    }

    /// Networks of each cell of the library and of several, by name.
    fn pictures() -> Vec<(String, Picture)> {
        let mut texts: Vec<(String, String)> = Vec::new();
        for cell in rnnc_lang::cells() {
            for sizes in ["32", "32, 4"] {
                let call = |input: &str| format!("{}({input}; {sizes})", cell.name);
                let one = format!("network n {{ input x : vector(32)  h = {}  output h }}", call("x"));
                let many = format!(
                    "network n {{ input x : vector(32)  f = {}  b = reversed {}  y = dense(f, b, x[t-1]; 4)  output y }}",
                    call("x"),
                    call("x")
                );
                texts.extend([(cell.name.to_string(), one), (format!("{} both ways", cell.name), many)]);
            }
        }
        let attention = "network n { input a : vector(6)  input b : vector(6)  h = gru(concat(a, m[t-1]); 6)
             scores = concat(sum(h * a[t-1]), sum(h * b))  shares = softmax(scores / sqrt(6))
             m = slice(shares; 0, 1) * a[t-1] + slice(shares; 1, 2) * b
             y = dropout(layer_norm(m) + dense(a[t-1], b[t-2], b[t-3]; 6); 0.1)  output y }";
        texts.push(("attention".into(), attention.into()));
        let pictures = texts.into_iter().filter_map(|(name, text)| Some((name, picture(&text)?)));
        pictures.collect()
    }

    fn overlap(a: Rect, b: Rect) -> bool {
        a.x < b.x + b.width && b.x < a.x + a.width && a.y < b.y + b.height && b.y < a.y + a.height
    }

    /// Points of a piece, close to each other.
    fn points(piece: &Piece) -> impl Iterator<Item = Point> {
        let (from, to) = (piece.from, piece.to);
        let (c1, c2) = piece.controls.unwrap_or((from, to));
        (0..=400).map(move |i| {
            let t = f64::from(i) / 400.0;
            let at = |a: f64, b: f64, c: f64, d: f64| {
                let s = 1.0 - t;
                s * s * s * a + 3.0 * s * s * t * b + 3.0 * s * t * t * c + t * t * t * d
            };
            (at(from.0, c1.0, c2.0, to.0), at(from.1, c1.1, c2.1, to.1))
        })
    }

    fn inside((x, y): Point, rect: Rect, by: f64) -> bool {
        x > rect.x + by && x < rect.x + rect.width - by && y > rect.y + by && y < rect.y + rect.height - by
    }

    fn mark_rect(mark: &Mark) -> Rect {
        let (width, height) = mark_size(&mark.text);
        Rect { x: mark.x - width / 2.0, y: mark.y - height / 2.0, width, height }
    }

    #[test]
    fn no_line_crosses_the_title_of_a_group_or_a_layer() {
        let pictures = pictures();
        assert!(pictures.len() > 45, "{}", pictures.len());
        for (name, picture) in pictures {
            let scene = arrange(&picture).unwrap();
            for piece in scene.lines.iter().flat_map(Line::pieces) {
                for point in points(&piece) {
                    for (title, group) in scene.titles.iter().zip(&picture.groups) {
                        assert!(!inside(point, *title, 0.0), "{name}: {point:?} in {}", group.label);
                    }
                    for (rect, node) in scene.nodes.iter().zip(&picture.nodes) {
                        assert!(!inside(point, *rect, 0.1), "{name}: {point:?} in {}", node.label);
                    }
                }
            }
        }
    }

    #[test]
    fn no_two_labels_overlap_and_titles_stand_in_their_boxes() {
        for (name, picture) in pictures() {
            let scene = arrange(&picture).unwrap();
            let marks = scene.marks.iter().map(mark_rect);
            let labels: Vec<Rect> = scene.titles.iter().chain(&scene.nodes).copied().chain(marks).collect();
            for (i, &a) in labels.iter().enumerate() {
                for &b in &labels[..i] {
                    assert!(!overlap(a, b), "{name}: at {}, {} and {}, {}", a.x, a.y, b.x, b.y);
                }
            }
            for (title, rect) in scene.titles.iter().zip(&scene.boxes) {
                assert!(title.x > rect.x && title.x + title.width < rect.x + rect.width, "{name}");
            }
        }
    }
}
