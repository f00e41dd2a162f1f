//! Errors of the graph, said of the equations that its layers came from.

use crate::diagnostics::{Diagnostic, shortened};
use crate::syntax::Span;
use rnnc_graph::{Components, Graph, GraphError, LayerId, validate};

/// The most equations of a cycle that are marked.
const SHOWN: usize = 8;

/// Checks a graph and its cycles. `place` is marked where no layer is to blame.
pub(crate) fn check(graph: &Graph, place: Span) -> Result<(), Diagnostic> {
    match validate(graph).and_then(|()| Components::find(graph)) {
        Ok(_) => Ok(()),
        Err(error) => Err(explain(graph, &error, place)),
    }
}

fn explain(graph: &Graph, error: &GraphError, place: Span) -> Diagnostic {
    match error {
        GraphError::ZeroDelayCycle { cycle, .. } => {
            let equations = equations(graph, cycle);
            let head = format!("a cycle without delay: {}", chain(&equations));
            let error = marked(head, &equations, place, " in the same frame");
            error.help(match equations.first() {
                Some((name, _)) => format!(
                    "one of these reads must be of an earlier frame, such as `{}[t-1]`",
                    name.rsplit('.').next().unwrap_or(name)
                ),
                None => "one of these reads must be of an earlier frame".into(),
            })
        }
        GraphError::BothDirections { past, future, .. } => {
            let (past, future) = (equations(graph, past), equations(graph, future));
            let head = format!(
                "cycles with delays of both signs: {} reads the past, {} the future",
                chain(&past),
                chain(&future)
            );
            let mut error = marked(head, &past, place, "");
            for (_, span) in future.iter().take(SHOWN) {
                if !error.shows(*span) {
                    error = error.also(*span, "in the other cycle");
                }
            }
            error.help("no order of frames serves both; let two layers of their own read the two directions")
        }
        GraphError::Layer { layer, problem, name } => {
            let origin = graph.layers().get(layer.index()).and_then(|layer| layer.origin);
            Diagnostic::new(origin.unwrap_or(place), format!("`{}`: {problem}", shortened(name)))
        }
        other => Diagnostic::new(place, other.to_string()),
    }
}

/// The equations of a cycle of layers, each once where it follows itself: the names and places of the layers that
/// have names of their own.
fn equations(graph: &Graph, cycle: &[LayerId]) -> Vec<(String, Span)> {
    let mut list: Vec<(String, Span)> = Vec::new();
    for &id in cycle {
        let layer = graph.layer_at(id);
        let Some(span) = layer.origin else { continue };
        // A layer without a name is called after its equation: `h1.c.2` after `h1.c`.
        let (stem, last) = layer.name.rsplit_once('.').unwrap_or(("", &layer.name));
        let numbered = last.bytes().all(|b| b.is_ascii_digit());
        let equation = if numbered { stem } else { &layer.name };
        let span = graph.find_layer(equation).and_then(|id| graph.layer_at(id).origin).unwrap_or(span);
        if list.last().is_none_or(|(name, _)| name != equation) {
            list.push((equation.to_owned(), span));
        }
    }
    if list.len() > 1 && list.first().map(|(name, _)| name) == list.last().map(|(name, _)| name) {
        list.pop();
    }
    list
}

/// `a -> b -> a`
fn chain(equations: &[(String, Span)]) -> String {
    let mut names: Vec<String> =
        equations.iter().take(SHOWN).map(|(name, _)| format!("`{}`", shortened(name))).collect();
    if equations.len() > SHOWN {
        names.push(format!("... {} more ...", equations.len() - SHOWN));
    }
    names.extend(equations.first().map(|(name, _)| format!("`{}`", shortened(name))));
    names.join(" -> ")
}

/// The error with each equation marked, and who reads it.
fn marked(message: String, equations: &[(String, Span)], place: Span, how: &str) -> Diagnostic {
    let reader = |index: usize| equations.get(index + 1).or(equations.first()).map_or("", |(name, _)| name);
    let label = |index: usize| format!("read by `{}`{how}", shortened(reader(index)));
    let first = equations.first().map_or(place, |&(_, span)| span);
    let mut error = Diagnostic::new(first, message).label(label(0));
    for (index, &(_, span)) in equations.iter().enumerate().skip(1).take(SHOWN) {
        if !error.shows(span) {
            error = error.also(span, label(index));
        }
    }
    error
}
