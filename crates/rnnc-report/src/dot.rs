//! A picture of the network for Graphviz.

use crate::names::at;
use crate::picture::{GroupKind, Picture, Role};
use rnnc_plan::Plan;

/// The forward network in Graphviz' language: layers as nodes, cycles boxed and coloured by kind, delays on edges.
/// Biases are not drawn.
pub fn dot(plan: &Plan) -> String {
    let picture = Picture::of(plan);
    let mut out = String::from("digraph network {\n");
    let mut line = |indent: usize, text: String| {
        out.extend(std::iter::repeat_n(' ', indent));
        out.push_str(&text);
        out.push('\n');
    };
    line(2, format!("label={}; labelloc=t; fontname=\"Helvetica\";", quoted(&picture.title)));
    line(2, "node [shape=box, style=filled, fontname=\"Helvetica\", fillcolor=\"#dbe7f5\"];".into());
    line(2, "edge [fontname=\"Helvetica\", fontsize=10];".into());
    let node = |i: usize| {
        let node = &picture.nodes[i];
        let look = match node.role {
            Role::Input => ", fillcolor=white",
            Role::Parameter => ", fillcolor=\"#eeeeee\", fontsize=10",
            Role::Output => ", penwidth=2.5",
            Role::Inner => "",
        };
        let own = match node.group.map(|g| picture.groups[g].kind) {
            Some(GroupKind::Loop) => ", fillcolor=\"#fbe3cf\"",
            Some(GroupKind::Scan) => ", fillcolor=\"#d7efdb\"",
            None => "",
        };
        let label = quoted(&format!("{}\n{}", node.label, node.detail));
        format!("n{i} [label={label}, tooltip={}{own}{look}];", quoted(&node.title))
    };
    for (g, group) in picture.groups.iter().enumerate() {
        let (fill, edge) = match group.kind {
            GroupKind::Loop => ("#fef6ee", "#c8701e"),
            GroupKind::Scan => ("#f1faf2", "#2f8540"),
        };
        line(2, format!("subgraph cluster_{g} {{"));
        line(
            4,
            format!(
                "label={}; tooltip={}; style=\"rounded,filled\"; fillcolor=\"{fill}\"; color=\"{edge}\";",
                quoted(&group.label),
                quoted(&group.title)
            ),
        );
        for i in (0..picture.nodes.len()).filter(|&i| picture.nodes[i].group == Some(g)) {
            line(4, node(i));
        }
        line(2, "}".into());
    }
    for i in (0..picture.nodes.len()).filter(|&i| picture.nodes[i].group.is_none()) {
        line(2, node(i));
    }
    for read in &picture.reads {
        let width = if read.full { 2 } else { 1 };
        // Reads of other frames go against the flow: they are not to shape it.
        let delay = match read.delay {
            0 => String::new(),
            d => format!(", style=dashed, constraint=false, label=\"{}\"", at(d)),
        };
        line(2, format!("n{} -> n{} [penwidth={width}{delay}];", read.source, read.target));
    }
    out.push_str("}\n");
    out
}

/// A string of Graphviz' language.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_and_backslashes_are_escaped() {
        assert_eq!(quoted("a\"b\\c\nd"), "\"a\\\"b\\\\c\\nd\"");
    }
}
