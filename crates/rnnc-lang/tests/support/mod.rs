//! A graph as text, for golden tests: a line for each layer with its terms, then weights and outputs.

use rnnc_graph::{Connection, ConnectionKind, Function, Graph, Init, LayerKind, Range, Start};
use std::fmt::Write;

/// The graph as text.
pub fn dump(graph: &Graph) -> String {
    let mut out = String::new();
    for id in graph.layer_ids() {
        let layer = graph.layer_at(id);
        let terms: Vec<String> = graph.incoming(id).map(|c| term(graph, c)).collect();
        let body = match layer.kind {
            LayerKind::Sum => terms.join(" + "),
            LayerKind::Product => terms.join(" * "),
            LayerKind::Operation(operation) => format!("{operation:?}({})", terms.join(", ")),
            LayerKind::Parameter(weight) => format!("weight {}", graph.weight_at(weight).name),
            other => format!("{other:?}").to_lowercase(),
        };
        let body =
            if layer.function == Function::IDENTITY { body } else { format!("{}({body})", layer.function) };
        let start = match layer.start {
            Start::Zero => String::new(),
            Start::Constant(value) => format!(", start {value}"),
            Start::Learned(weight) => format!(", start {}", graph.weight_at(weight).name),
        };
        writeln!(out, "{} [{}] = {body}{start}", layer.name, layer.size).unwrap();
    }
    for weight in graph.weights() {
        let init = match weight.init {
            Init::Uniform(a) => format!("uniform({a:.4})"),
            other => format!("{other:?}").to_lowercase(),
        };
        writeln!(out, "weight {} {:?} {init}", weight.name, weight.shape).unwrap();
    }
    for output in graph.outputs() {
        writeln!(out, "output {} = {}", output.name, graph.layer_at(output.layer).name).unwrap();
    }
    out
}

fn term(graph: &Graph, c: &Connection) -> String {
    let part = |range: Range, size: usize| {
        if range == Range::new(0, size) {
            String::new()
        } else {
            format!("<{}..{}>", range.start, range.end())
        }
    };
    let source = c.source.map_or(String::new(), |id| {
        let layer = graph.layer_at(id);
        let delay = if c.delay == 0 { String::new() } else { format!("[t{:+}]", -c.delay) };
        let stop = if c.stops_gradient { "stop " } else { "" };
        format!("{stop}{}{}{delay}", layer.name, part(c.source_range, layer.size))
    });
    let scaled = |scale: f64| if scale == 1.0 { String::new() } else { format!("{scale} ") };
    let value = match c.kind {
        ConnectionKind::Full { heads: 1, .. } => format!("W {source}"),
        ConnectionKind::Full { heads, .. } => format!("W/{heads} {source}"),
        ConnectionKind::Diagonal { .. } => format!("diag {source}"),
        ConnectionKind::Identity { scale } => format!("{}{source}", scaled(scale)),
        ConnectionKind::Broadcast { scale } => format!("{}each {source}", scaled(scale)),
        ConnectionKind::Constant { value } => format!("{value}"),
    };
    let target = graph.layer_at(c.target);
    let size = match target.kind {
        LayerKind::Sum | LayerKind::Product => target.size,
        _ => c.target_range.len,
    };
    format!("{value}{}", part(c.target_range, size).replace('<', " -> <"))
}
