//! What a picture of a network shows: its layers but for biases, who reads whom, and which components they form.

use crate::equations::Equations;
use crate::expressions::{functions, is_named, titles};
use crate::names::{count, plain, shorten};
use rnnc_graph::{Component, ConnectionKind, Direction, Graph, Kind, LayerKind};
use rnnc_plan::Plan;
use std::collections::HashMap;

/// The most letters of the names of a cycle.
const MOST_NAMES: usize = 30;

/// A network to be drawn.
pub(crate) struct Picture {
    /// The network's name and size.
    pub title: String,
    pub nodes: Vec<Node>,
    /// Sorted by target, then source, then delay.
    pub reads: Vec<Read>,
    /// The cycles.
    pub groups: Vec<Group>,
}

/// A layer.
pub(crate) struct Node {
    /// Its name without what all of its group share, or what it computes if it has none.
    pub label: String,
    /// The same, with what all of its group share.
    #[cfg_attr(not(feature = "svg"), allow(dead_code))] // marks of delayed reads have it
    pub full_label: String,
    /// The functions of an equation, and its size.
    pub detail: String,
    /// Everything, for whoever points at it.
    pub title: String,
    pub role: Role,
    /// The cycle it belongs to.
    pub group: Option<usize>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Input,
    Parameter,
    Inner,
    Output,
}

/// A layer reads another, in that frame.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Read {
    pub target: usize,
    pub source: usize,
    pub delay: i64,
    /// Through a matrix.
    pub full: bool,
}

/// A cycle.
pub(crate) struct Group {
    pub kind: GroupKind,
    /// Its name and how it runs.
    pub label: String,
    /// Why, and what would change that.
    pub title: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum GroupKind {
    Scan,
    Loop,
}

impl Picture {
    /// The forward network of a plan, in normal form.
    pub fn of(plan: &Plan) -> Picture {
        let graph = &plan.forward;
        let components = &plan.forward_pass.components;
        let drawn = drawn(graph);
        let equations = Equations::of(graph);
        let mut groups = Vec::new();
        let mut group_of: HashMap<usize, (usize, usize)> = HashMap::new(); // group, and its prefix's length
        for (at, component) in components.list.iter().enumerate() {
            let kind = match component.kind {
                Kind::Frames => continue,
                Kind::Scan(_) => GroupKind::Scan,
                Kind::Loop => GroupKind::Loop,
            };
            let prefix = common_prefix(graph, component);
            group_of.insert(at, (groups.len(), prefix.len()));
            let layers = component.layers.iter().map(|l| equations.of_layer[l.index()]);
            let name = match (&equations.together(layers.collect())[..], prefix.trim_end_matches('.')) {
                ([name], _) => name.to_string(),
                (names, "") => {
                    let names: Vec<String> = names.iter().map(|name| name.to_string()).collect();
                    plain(&shorten(&names, MOST_NAMES))
                }
                (_, name) => name.to_string(),
            };
            let label = format!("{name}: {}", how(component));
            let title = format!("{}\n{}\n{}", component.reason, component.remedy, barriers(component));
            groups.push(Group { kind, label, title: title.trim_end().to_string() });
        }
        let prefixes: Vec<usize> =
            components.of_layer.iter().map(|at| group_of.get(at).map_or(0, |(_, prefix)| *prefix)).collect();
        let mut labels = titles(graph, &equations, &prefixes);
        let mut place: Vec<Option<usize>> = vec![None; graph.layers().len()];
        let mut nodes = Vec::new();
        for id in graph.layer_ids().filter(|id| drawn[id.index()]) {
            place[id.index()] = Some(nodes.len());
            let layer = graph.layer_at(id);
            let group = group_of.get(&components.of_layer[id.index()]).copied();
            let output = graph.outputs().iter().find(|o| o.layer == id);
            let role = match layer.kind {
                LayerKind::Input | LayerKind::Symbol => Role::Input,
                LayerKind::Parameter(_) => Role::Parameter,
                _ if output.is_some() => Role::Output,
                _ => Role::Inner,
            };
            let what = functions(graph, id);
            let label = std::mem::take(&mut labels[id.index()]);
            let is_named = is_named(graph, &equations, id);
            nodes.push(Node {
                detail: if is_named { format!("{what} {}", layer.size) } else { count(layer.size, "unit") },
                title: format!("{}: {what}, {}", layer.name, count(layer.size, "unit")),
                full_label: if is_named { layer.name.clone() } else { label.clone() },
                label,
                role,
                group: group.map(|(group, _)| group),
            });
        }
        let mut reads: Vec<Read> = graph
            .connections()
            .iter()
            .filter_map(|c| {
                Some(Read {
                    target: place[c.target.index()]?,
                    source: place[c.source?.index()]?,
                    delay: c.delay,
                    full: matches!(c.kind, ConnectionKind::Full { .. }),
                })
            })
            .collect();
        // One line for several connections alike; a matrix shows.
        reads.sort_by_key(|r| (r.target, r.source, r.delay, !r.full));
        reads.dedup_by_key(|r| (r.target, r.source, r.delay));
        let parameters: usize = graph.weights().iter().map(rnnc_graph::Weight::len).sum();
        let name = if graph.name().is_empty() { "network" } else { graph.name() };
        let title =
            format!("{name}: {}, {}", count(graph.layers().len(), "layer"), count(parameters, "parameter"));
        Picture { title, nodes, reads, groups }
    }
}

/// Which layers are drawn: all but biases and gains, that is, parameters that only sums and products read as they are
/// (their names stand in the text).
fn drawn(graph: &Graph) -> Vec<bool> {
    let mut drawn: Vec<bool> =
        graph.layers().iter().map(|l| !matches!(l.kind, LayerKind::Parameter(_))).collect();
    for c in graph.connections() {
        let Some(source) = c.source else { continue };
        let plain = matches!(c.kind, ConnectionKind::Identity { .. }) && c.delay == 0;
        if !(plain && graph.layer_at(c.target).kind == LayerKind::Sum) {
            drawn[source.index()] = true;
        }
    }
    for output in graph.outputs() {
        drawn[output.layer.index()] = true;
    }
    drawn
}

/// What the names of a component's layers begin with, up to a point; less than any whole name.
fn common_prefix<'a>(graph: &'a Graph, component: &Component) -> &'a str {
    let mut names = component.layers.iter().map(|&l| graph.layer_at(l).name.as_str());
    let Some(mut prefix) = names.next().map(|name| &name[..name.rfind('.').map_or(0, |at| at + 1)]) else {
        return "";
    };
    for name in names {
        while !name.starts_with(prefix) || name.len() == prefix.len() {
            let shorter = prefix.trim_end_matches('.');
            prefix = &shorter[..shorter.rfind('.').map_or(0, |at| at + 1)];
        }
    }
    prefix
}

/// How a cycle runs.
fn how(component: &Component) -> String {
    let backward = if component.direction == Direction::Backward { ", the last first" } else { "" };
    match component.kind {
        Kind::Frames => "all frames at once".into(),
        Kind::Scan(_) => format!("scan{backward}"),
        Kind::Loop if component.width.frames > 1 => {
            format!("loop, {} at once{backward}", count(component.width.frames, "frame"))
        }
        Kind::Loop => format!("loop, frame after frame{backward}"),
    }
}

fn barriers(component: &Component) -> String {
    match component.barrier_bound {
        Some((links, 1)) => format!("{} a frame", count(links as usize, "barrier")),
        Some((links, delay)) => format!("{} every {delay} frames", count(links as usize, "barrier")),
        None => String::new(),
    }
}
