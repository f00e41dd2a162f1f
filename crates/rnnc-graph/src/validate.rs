//! Whether the parts of a graph fit: sizes, ranges, shapes, names. Cycles are [`crate::Components`]' matter.

use crate::activations::Function;
use crate::count::count;
use crate::error::GraphError;
use crate::graph::Graph;
use crate::init::Init;
use crate::ops::Operation;
use crate::parts::{Connection, ConnectionKind, LayerId, LayerKind, Range, Start, WeightId};
use crate::single::not_single;
use std::collections::{HashMap, HashSet};

/// The longest delay. Its only purpose is that sums of delays cannot overflow.
const LONGEST_DELAY: i64 = 1 << 31;

/// Checks everything but the cycles.
pub fn validate(graph: &Graph) -> Result<(), GraphError> {
    let mut names = HashSet::new();
    for weight in graph.weights() {
        let wrong = |problem: String| Err(GraphError::Weight { name: weight.name.clone(), problem });
        if !names.insert(weight.name.as_str()) {
            return wrong("another weight has the same name".into());
        }
        if let Init::Uniform(number) | Init::Normal(number) | Init::Constant(number) = weight.init
            && let Some(problem) = not_single(number)
        {
            return wrong(format!("its initial number {problem}"));
        }
        if weight.shape.is_empty() || weight.shape.len() > 3 {
            return wrong(format!("a shape has 1 to 3 sizes, not {:?}", weight.shape));
        }
        if weight
            .shape
            .iter()
            .try_fold(1usize, |all, &n| all.checked_mul(n))
            .is_none_or(|n| n > isize::MAX as usize / 8)
        {
            return wrong(format!("shape {:?} is too large to address", weight.shape));
        }
    }
    let mut masks = HashMap::new();
    for id in graph.layer_ids() {
        layer(graph, id)?;
        if let LayerKind::Operation(op) = graph.layer_at(id).kind
            && let Some(key) = op.key()
            && let Some(other) = masks.insert(key, id)
        {
            let other = &graph.layer_at(other).name;
            return wrong(
                graph,
                id,
                format!(
                    "its dropout mask has the key of that of `{other}`, {key:#018x}; give it another name, or another key"
                ),
            );
        }
        for connection in graph.incoming(id) {
            self::connection(graph, connection)?;
        }
    }
    if graph.outputs().is_empty() {
        return Err(GraphError::NoOutput);
    }
    if let Some(output) = graph.outputs().iter().find(|o| graph.layer_at(o.layer).kind == LayerKind::Symbol) {
        return wrong(graph, output.layer, "a symbol input cannot be an output".into());
    }
    Ok(())
}

fn wrong(graph: &Graph, layer: LayerId, problem: String) -> Result<(), GraphError> {
    Err(GraphError::Layer { layer, name: graph.layer_at(layer).name.clone(), problem })
}

fn vector_weight(
    graph: &Graph,
    layer: LayerId,
    weight: WeightId,
    size: usize,
    use_: &str,
) -> Result<(), GraphError> {
    let weight = graph.weight_at(weight);
    if weight.shape != [size] {
        return wrong(
            graph,
            layer,
            format!("{use_} `{}` has shape {:?}, where [{size}] is needed", weight.name, weight.shape),
        );
    }
    Ok(())
}

fn layer(graph: &Graph, id: LayerId) -> Result<(), GraphError> {
    let layer = graph.layer_at(id);
    if layer.size == 0 {
        return wrong(graph, id, "it has no units".into());
    }
    if u32::try_from(layer.size).is_err() {
        return wrong(graph, id, format!("{} units are more than 2^32", layer.size));
    }
    if let Start::Learned(weight) = layer.start {
        vector_weight(graph, id, weight, layer.size, "the start")?;
    }
    if let Start::Constant(number) = layer.start
        && let Some(problem) = not_single(number)
    {
        return wrong(graph, id, format!("its start {problem}"));
    }
    if layer.function != Function::IDENTITY && !matches!(layer.kind, LayerKind::Sum | LayerKind::Product) {
        return wrong(graph, id, format!("{} is applied to neither a sum nor a product", layer.function));
    }
    let given = graph.incoming(id).count();
    match layer.kind {
        LayerKind::Input | LayerKind::Symbol | LayerKind::Residual(_) | LayerKind::Parameter(_)
            if given > 0 =>
        {
            return wrong(graph, id, "it takes no connections".into());
        }
        LayerKind::Parameter(weight) => vector_weight(graph, id, weight, layer.size, "the parameter")?,
        LayerKind::Product if given == 0 => return wrong(graph, id, "a product needs a factor".into()),
        LayerKind::Operation(op) => operation(graph, id, op, given)?,
        _ => {}
    }
    Ok(())
}

fn operation(graph: &Graph, id: LayerId, op: Operation, given: usize) -> Result<(), GraphError> {
    let checked = if given == op.operands() {
        let operands: Vec<usize> = graph.incoming(id).map(|c| c.target_range.len).collect();
        op.check_numbers().and_then(|()| op.check_sizes(&operands, graph.layer_at(id).size))
    } else {
        Err(format!("{} takes {}, not {given}", op.name(), count(op.operands(), "operand")))
    };
    checked.or_else(|problem| wrong(graph, id, problem))
}

/// The units of the operand that a connection feeds; none are fixed where the operation changes sizes.
fn operand_size(graph: &Graph, connection: &Connection) -> Option<usize> {
    let target = graph.layer_at(connection.target);
    match target.kind {
        LayerKind::Operation(op) if op.changes_size() => None,
        _ => Some(target.size),
    }
}

fn connection(graph: &Graph, c: &Connection) -> Result<(), GraphError> {
    let target = graph.layer_at(c.target);
    let fail = |problem: String| wrong(graph, c.target, problem);
    let inside = |range: Range, size: usize| {
        range.len > 0 && range.start.checked_add(range.len).is_some_and(|end| end <= size)
    };
    if c.delay.abs() > LONGEST_DELAY {
        return fail(format!("a delay of {} frames is longer than {LONGEST_DELAY}", c.delay));
    }
    if let ConnectionKind::Identity { scale: number }
    | ConnectionKind::Broadcast { scale: number }
    | ConnectionKind::Constant { value: number } = c.kind
        && let Some(problem) = not_single(number)
    {
        return fail(format!("its number {problem}"));
    }
    let operand = operand_size(graph, c);
    if !inside(c.target_range, operand.unwrap_or(usize::MAX)) {
        return fail(format!(
            "units {}..{} are written, of {}",
            c.target_range.start,
            c.target_range.end(),
            target.size
        ));
    }
    if target.kind != LayerKind::Sum && c.target_range != Range::new(0, operand.unwrap_or(c.target_range.len))
    {
        return fail("only the terms of a sum may cover a part of the units".into());
    }
    let Some(source_id) = c.source else {
        return match c.kind {
            ConnectionKind::Constant { .. } if c.delay == 0 => Ok(()),
            ConnectionKind::Constant { .. } => fail("a constant has no delay".into()),
            _ => fail("a connection other than a constant needs a source".into()),
        };
    };
    let source = graph.layer_at(source_id);
    if !inside(c.source_range, source.size) {
        return fail(format!(
            "units {}..{} of `{}` are read, which has {}",
            c.source_range.start,
            c.source_range.end(),
            source.name,
            source.size
        ));
    }
    let symbols = source.kind == LayerKind::Symbol;
    let reads_symbols = match c.kind {
        ConnectionKind::Full { heads, .. } => heads == 1 && c.source_range == Range::new(0, source.size),
        ConnectionKind::Identity { .. } => {
            matches!(target.kind, LayerKind::Operation(op) if op.symbol().is_some())
        }
        _ => false,
    };
    if symbols && !reads_symbols {
        return fail(format!("`{}` is a symbol, which only a full connection can read", source.name));
    }
    let (from, to) = (c.source_range.len, c.target_range.len);
    let read_into = |from: usize| {
        format!(
            "{} of `{}` {} read into {to}",
            count(from, "unit"),
            source.name,
            if from == 1 { "is" } else { "are" }
        )
    };
    match c.kind {
        ConnectionKind::Full { weight, heads, transposed, part } => {
            let (rows, columns) = if transposed { (from, to) } else { (to, from) };
            if heads == 0 || rows % heads != 0 || columns % heads != 0 {
                return fail(format!(
                    "{} from {from} of `{}`: both must divide by the {}",
                    count(to, "unit"),
                    source.name,
                    count(heads, "head")
                ));
            }
            let needed =
                if heads == 1 { vec![rows, columns] } else { vec![heads, rows / heads, columns / heads] };
            let weight = graph.weight_at(weight);
            if let Some(part) = part {
                let of = |axis: usize| weight.shape.get(axis).copied().unwrap_or(0);
                let fits = inside(part.rows, of(0)) && inside(part.columns, of(1));
                if heads != 1 || symbols || weight.shape.len() != 2 || !fits {
                    return fail(format!(
                        "weight `{}` of shape {:?} has no rows {}..{} with columns {}..{} that `{}` could be read with",
                        weight.name,
                        weight.shape,
                        part.rows.start,
                        part.rows.end(),
                        part.columns.start,
                        part.columns.end(),
                        source.name
                    ));
                }
            }
            let shape = part.map_or(weight.shape.clone(), |part| vec![part.rows.len, part.columns.len]);
            if shape != needed {
                return fail(format!(
                    "weight `{}` has shape {shape:?}, where {needed:?} is needed to connect {} of `{}` to {to}",
                    weight.name,
                    count(from, "unit"),
                    source.name
                ));
            }
        }
        ConnectionKind::Diagonal { weight } => {
            vector_weight(graph, c.target, weight, to, "the diagonal weight")?;
            if from != to {
                return fail(read_into(from));
            }
        }
        ConnectionKind::Identity { .. } => {
            if from != to {
                return fail(read_into(from));
            }
        }
        ConnectionKind::Broadcast { .. } => {
            if to % from != 0 {
                return fail(format!(
                    "{} of `{}` cannot be repeated evenly over {to}",
                    count(from, "unit"),
                    source.name
                ));
            }
        }
        ConnectionKind::Constant { .. } => return fail("a constant has no source".into()),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::activations::Activation;
    use crate::graph::Connect;

    #[test]
    fn numbers_that_single_precision_cannot_hold_are_refused_wherever_they_stand() {
        type Put = fn(&mut Graph, LayerId, LayerId, f64);
        let places: [(&str, Put); 6] = [
            ("layer `y`: its number", |g, x, y, scale| {
                g.connect(x, y, Connect::scaled(scale));
            }),
            ("layer `y`: its number", |g, x, y, scale| {
                g.connect(x, y, Connect::new(ConnectionKind::Broadcast { scale }));
            }),
            ("layer `y`: its number", |g, _, y, number| {
                g.connect_constant(number, y);
            }),
            ("layer `y`: its start", |g, _, y, number| g.set_start(y, Start::Constant(number))),
            ("layer `z`: its epsilon", |g, x, _, epsilon| {
                let normalize = Operation::Normalize { groups: 1, center: true, epsilon };
                let z = g.operation("z", 2, normalize);
                g.connect(x, z, Connect::identity());
            }),
            ("weight `w`: its initial number", |g, _, _, number| {
                g.weight("w", &[2], Init::Constant(number));
            }),
        ];
        for (place, put) in places {
            for (number, what) in
                [(1e39, Some("too large")), (1e-39, Some("too small")), (1e38, None), (0.0, None)]
            {
                let mut g = Graph::new("n");
                let (x, y) = (g.input("x", 2), g.sum("y", 2, Activation::Identity));
                put(&mut g, x, y, number);
                g.output("y", y);
                match (what, validate(&g)) {
                    (None, verdict) => assert_eq!(verdict, Ok(())),
                    (Some(what), verdict) => {
                        let error = verdict.unwrap_err().to_string();
                        assert!(error.contains(place) && error.contains(what), "{error}");
                    }
                }
            }
        }
    }
}
