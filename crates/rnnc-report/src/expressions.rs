//! What layers compute, as one would write it: an equation by its name and functions, a layer without a name of its own by
//! its expression (`1 - keep`).

use crate::equations::{Equations, equation};
use crate::names::at;
use rnnc_graph::{Connection, ConnectionKind, Function, Graph, LayerId, LayerKind, Operation, Range};

/// The most letters of an expression.
const MOST_LETTERS: usize = 30;
/// How deep an expression is written out.
const DEPTH: usize = 3;

/// An expression.
#[derive(Clone)]
struct Written {
    text: String,
    /// Whether a factor of it needs brackets.
    is_sum: bool,
}

impl Written {
    fn word(text: impl Into<String>) -> Written {
        Written { text: text.into(), is_sum: false }
    }

    fn factor(&self) -> String {
        if self.is_sum { format!("({})", self.text) } else { self.text.clone() }
    }
}

/// The network as expressions see it.
struct Writer<'a> {
    graph: &'a Graph,
    equations: &'a Equations<'a>,
    /// For each layer, how much of the names around it goes without saying.
    prefixes: &'a [usize],
    /// For each layer without a name, its expression so far.
    said: Vec<Option<Written>>,
}

/// Each layer's name, without its prefix; for one without a name, its expression, or a word or two if that is too long.
/// `prefixes` are lengths, and what is read of layers with the same prefix goes without it, too.
pub(crate) fn titles(graph: &Graph, equations: &Equations<'_>, prefixes: &[usize]) -> Vec<String> {
    let said = vec![None; graph.layers().len()];
    let mut writer = Writer { graph, equations, prefixes, said };
    let nameless: Vec<LayerId> = graph.layer_ids().filter(|&id| !is_named(graph, equations, id)).collect();
    // From the inside out, one level of each expression at a time.
    for _ in 0..DEPTH {
        let longer: Vec<_> = nameless.iter().filter_map(|&id| Some((id, writer.expression(id)?))).collect();
        for (id, written) in longer {
            writer.said[id.index()] = Some(written);
        }
    }
    let title = |id: LayerId| match &writer.said[id.index()] {
        Some(written) => written.text.clone(),
        None if is_named(graph, equations, id) => {
            let name = &graph.layer_at(id).name;
            name.get(prefixes[id.index()]..).unwrap_or(name).to_string()
        }
        None => functions(graph, id),
    };
    graph.layer_ids().map(title).collect()
}

/// Whether the text has a name for a layer.
pub(crate) fn is_named(graph: &Graph, equations: &Equations<'_>, id: LayerId) -> bool {
    let layer = graph.layer_at(id);
    match layer.kind {
        LayerKind::Input | LayerKind::Symbol => true,
        LayerKind::Operation(Operation::DropoutMask { .. }) => false,
        _ => layer.name == equations.name(id),
    }
}

/// What a parameter is called: `param`, `bias`, `gain`, or a name that the text has.
fn parameter(name: &str) -> &str {
    if equation(name) != name {
        return "parameter"; // an expression of parameters
    }
    let last = name.rsplit('.').next().unwrap_or(name);
    match last.trim_end_matches(|c: char| c.is_ascii_digit()) {
        word @ ("param" | "bias" | "gain") => word,
        _ => last,
    }
}

impl Writer<'_> {
    /// The expression of a layer, if it is short.
    fn expression(&self, id: LayerId) -> Option<Written> {
        self.of_operands(id, MOST_LETTERS).or_else(|| self.of_operands(id, MOST_LETTERS / 3)).or_else(|| {
            // At least which function it is of a `dense`.
            match functions(self.graph, id).split(", ").collect::<Vec<_>>()[..] {
                ["dense"] => Some(Written::word("dense(..)")),
                ["dense", function] => Some(Written::word(format!("{function}(dense(..))"))),
                _ => None,
            }
        })
    }

    /// The same, with words for operands of more letters than `longest`.
    fn of_operands(&self, id: LayerId, longest: usize) -> Option<Written> {
        let graph = self.graph;
        let layer = graph.layer_at(id);
        let mut letters = 0;
        let mut operand = |c: &Connection| -> Option<Written> {
            let written = self.read(c, longest);
            letters += written.text.chars().count();
            (letters <= MOST_LETTERS).then_some(written)
        };
        let written = match layer.kind {
            LayerKind::Sum => self.sum(id, &mut operand)?,
            LayerKind::Product => {
                let mut factors = Vec::new();
                for c in graph.incoming(id) {
                    factors.push(operand(c)?.factor());
                }
                Written::word(factors.join(" * "))
            }
            LayerKind::Operation(Operation::DropoutMask { .. }) => Written::word("dropout mask"),
            LayerKind::Operation(operation) => {
                let mut operands = Vec::new();
                for c in graph.incoming(id) {
                    operands.push(operand(c)?);
                }
                match (operation, operands.as_slice()) {
                    (Operation::Divide, [a, b]) => {
                        let below = if b.is_sum || b.text.contains(' ') {
                            format!("({})", b.text)
                        } else {
                            b.text.clone()
                        };
                        Written::word(format!("{} / {below}", a.factor()))
                    }
                    (Operation::Compare { relation }, [a, b]) => {
                        Written::word(format!("({} {} {})", a.text, relation.sign(), b.text))
                    }
                    (operation, operands) => {
                        let operands: Vec<&str> = operands.iter().map(|o| &o.text[..]).collect();
                        Written::word(format!("{}({})", operation_name(operation), operands.join(", ")))
                    }
                }
            }
            _ => return None,
        };
        let written = match layer.function {
            Function::IDENTITY => written,
            function => Written::word(format!("{function}({})", written.text)),
        };
        (!written.text.is_empty() && written.text.chars().count() <= MOST_LETTERS).then_some(written)
    }

    /// The terms of a sum: what goes through matrices is one `dense`.
    fn sum(&self, id: LayerId, operand: &mut impl FnMut(&Connection) -> Option<Written>) -> Option<Written> {
        let graph = self.graph;
        let size = graph.layer_at(id).size;
        if graph.incoming(id).any(|c| c.target_range != Range::new(0, size)) {
            let mut parts = Vec::new();
            for c in graph.incoming(id) {
                parts.push(operand(c)?.text);
            }
            return Some(Written::word(format!("concat({})", parts.join(", "))));
        }
        let is_dense = |c: &Connection| matches!(c.kind, ConnectionKind::Full { .. });
        let mut dense = Vec::new();
        for c in graph.incoming(id).filter(|c| is_dense(c)) {
            dense.push(operand(c)?.text);
        }
        // With their signs before them.
        let mut terms: Vec<(bool, String)> = Vec::new();
        if !dense.is_empty() {
            terms.push((false, format!("dense({})", dense.join(", "))));
        }
        for c in graph.incoming(id).filter(|c| !is_dense(c)) {
            let is_bias = c.source.is_some_and(|source| parameter_word(graph, source) == Some("bias"));
            if is_bias && !dense.is_empty() {
                continue;
            }
            let written = operand(c)?;
            let term = match written.text.strip_prefix('-') {
                Some(rest) => (true, rest.to_string()),
                None => (false, written.text),
            };
            terms.push(term);
        }
        // `1 - z`, not `-z + 1`.
        if let Some(first) = terms.iter().position(|(negative, _)| !negative) {
            let term = terms.remove(first);
            terms.insert(0, term);
        }
        let mut text = String::new();
        for (i, (negative, term)) in terms.iter().enumerate() {
            text.push_str(match (i, negative) {
                (0, false) => "",
                (0, true) => "-",
                (_, false) => " + ",
                (_, true) => " - ",
            });
            text.push_str(term);
        }
        Some(Written { is_sum: terms.len() > 1 || text.starts_with('-'), text })
    }

    /// What a connection hands over.
    fn read(&self, c: &Connection, longest: usize) -> Written {
        let graph = self.graph;
        let Some(source) = c.source else {
            return match c.kind {
                ConnectionKind::Constant { value } => Written::word(number(value)),
                _ => Written::word(""),
            };
        };
        let mut written = self.operand(c.target, source, longest);
        if c.delay != 0 {
            written = Written::word(format!("{}[{}]", written.factor(), at(c.delay)));
        }
        let range = c.source_range;
        if range != Range::new(0, graph.layer_at(source).size) {
            written = Written::word(format!("slice({}; {}, {})", written.text, range.start, range.end()));
        }
        if c.stops_gradient {
            written = Written::word(format!("stop_gradient({})", written.text));
        }
        match c.kind {
            ConnectionKind::Diagonal { weight } if graph.weight_at(weight).name.ends_with("gain") => {
                Written::word(format!("gain * {}", written.factor()))
            }
            ConnectionKind::Diagonal { .. } => Written::word(format!("diag({})", written.text)),
            ConnectionKind::Identity { scale } | ConnectionKind::Broadcast { scale } => match scale {
                1.0 => written,
                -1.0 => Written { text: format!("-{}", written.factor()), is_sum: true },
                scale => Written::word(format!("{} * {}", number(scale), written.factor())),
            },
            ConnectionKind::Full { .. } | ConnectionKind::Constant { .. } => written,
        }
    }

    /// What a layer calls one that it reads.
    fn operand(&self, reader: LayerId, id: LayerId, longest: usize) -> Written {
        let layer = self.graph.layer_at(id);
        let fits = |written: &&Written| written.text.chars().count() <= longest;
        if let Some(written) = self.said[id.index()].as_ref().filter(fits) {
            return written.clone();
        }
        if let LayerKind::Parameter(_) = layer.kind {
            return Written::word(parameter(&layer.name));
        }
        if is_named(self.graph, self.equations, id) {
            let prefix = self.graph.layer_at(reader).name.get(..self.prefixes[reader.index()]).unwrap_or("");
            return match layer.name.strip_prefix(prefix) {
                Some(rest) if !prefix.is_empty() => Written::word(rest),
                _ => Written::word(self.equations.seen_from(reader, id)),
            };
        }
        let functions = functions(self.graph, id);
        let last = functions.rsplit(", ").next().unwrap_or_default();
        match last {
            "sum" | "product" | "quotient" => Written { text: "..".into(), is_sum: true },
            last => Written::word(format!("{last}(..)")),
        }
    }
}

fn parameter_word(graph: &Graph, id: LayerId) -> Option<&str> {
    let layer = graph.layer_at(id);
    matches!(layer.kind, LayerKind::Parameter(_)).then(|| parameter(&layer.name))
}

/// A number in a few letters.
fn number(value: f64) -> String {
    let whole = value.to_string();
    match value.abs() {
        _ if whole.len() <= 6 => whole,
        size if (0.01..1e5).contains(&size) => format!("{value:.3}"),
        _ => format!("{value:.1e}"),
    }
}

/// A function as the language calls it.
pub(crate) fn operation_name(operation: Operation) -> &'static str {
    match operation {
        Operation::GroupSum { .. } => "sum",
        other => other.name(),
    }
}

/// The functions of a layer, the innermost first: `dense, tanh`.
pub(crate) fn functions(graph: &Graph, id: LayerId) -> String {
    let layer = graph.layer_at(id);
    let mut words: Vec<String> = Vec::new();
    match layer.kind {
        LayerKind::Input => words.push("input".into()),
        LayerKind::Symbol => words.push("symbol".into()),
        LayerKind::Parameter(_) => words.push("param".into()),
        LayerKind::Residual(_) => words.push("saved".into()),
        LayerKind::Product => words.push("product".into()),
        LayerKind::Operation(operation) => words.push(operation_name(operation).into()),
        LayerKind::Sum => {
            let incoming = || graph.incoming(id);
            let plain = incoming().filter(|c| !matches!(c.kind, ConnectionKind::Full { .. })).count();
            if incoming().any(|c| matches!(c.kind, ConnectionKind::Full { .. })) {
                words.push("dense".into());
            }
            let weight = |c: &Connection| match c.kind {
                ConnectionKind::Diagonal { weight } => Some(graph.weight_at(weight).name.ends_with("gain")),
                _ => None,
            };
            if incoming().any(|c| weight(c) == Some(true)) {
                words.push("gain".into());
            }
            if incoming().any(|c| weight(c) == Some(false)) {
                words.push("diag".into());
            }
            if incoming().any(|c| c.target_range != Range::new(0, layer.size)) {
                words.push("concat".into());
            } else if words.is_empty() && plain > 1 {
                words.push("sum".into());
            } else if words.is_empty()
                && incoming().any(|c| {
                    c.source.is_some_and(|s| c.source_range != Range::new(0, graph.layer_at(s).size))
                })
            {
                words.push("slice".into());
            }
        }
    }
    match layer.function {
        Function::IDENTITY if words.is_empty() => words.push("copy".into()),
        Function::IDENTITY => {}
        function => words.push(function.to_string()),
    }
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The titles of layers without names, of a text.
    fn expressions(equations: &str) -> Vec<String> {
        let text = format!("network n {{ input x : vector(8)  {equations} }}");
        let graph = rnnc_graph::normalize(&rnnc_lang::compile("net.rnn", &text, None).unwrap());
        let equations = Equations::of(&graph);
        let titles = titles(&graph, &equations, &vec![0; graph.layers().len()]);
        let helpers = graph.layer_ids().filter(|&id| {
            let layer = graph.layer_at(id);
            layer.name != equations.name(id) && !matches!(layer.kind, LayerKind::Parameter(_))
        });
        let mut out: Vec<String> = helpers.map(|id| titles[id.index()].clone()).collect();
        out.sort();
        out
    }

    #[test]
    fn layers_without_names_are_their_expressions() {
        let found = expressions("h = x * h[t-1] + (1 - x) * tanh(dense(x, h[t-2]; 8))  output h");
        assert_eq!(found, ["(1 - x) * tanh(..)", "1 - x", "tanh(dense(x, h[t-2]))", "x * h[t-1]"][..]);
    }

    #[test]
    fn slices_quotients_and_norms_are_written_as_the_language_has_them() {
        let found = expressions("h = softmax(slice(x; 0, 4) / (2 + slice(x; 4, 8)))  output h");
        assert_eq!(found, ["slice(x; 0, 4) / (..)", "slice(x; 4, 8) + 2"]);
        let found = expressions("h = tanh(layer_norm(x))  output h");
        assert!(found.contains(&"layer_norm(x)".to_string()), "{found:?}");
    }

    #[test]
    fn what_is_too_long_is_its_function() {
        let found = expressions(
            "a_rather_long_name = tanh(x)  h = x + a_rather_long_name * a_rather_long_name[t-1]  output h",
        );
        assert_eq!(found, ["product"]); // of names alone it would have 45 letters
    }
}
