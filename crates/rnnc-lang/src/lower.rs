//! Expressions to layers and connections. One equation is one layer; what does not fit into it becomes layers
//! without names of their own: `h1.c.1`, `h1.c.2`.

use crate::diagnostics::{Diagnostic, shortened};
use crate::expand::{MAX_LAYERS, too_large};
use crate::ir::{
    Dense, EquationId, Expanded, ExprId, InstanceId, Item, Node, NodeId, NodeKind, Op, StartValue,
};
use crate::syntax::Span;
use rnnc_graph::{
    Activation, Connection, ConnectionKind, Function, Graph, Init, Layer, LayerId, LayerKind, Operation,
    Range, Start, WeightId,
};
use std::collections::HashMap;

/// The epsilon of layer_norm and rms_norm.
const EPSILON: f64 = 1e-5;

/// Makes the graph of a network whose sizes are known.
pub(crate) fn lower(network: &Expanded<'_>, name: &str, place: Span) -> Result<Graph, Diagnostic> {
    let mut lowering = Lowering {
        network,
        graph: Graph::new(name),
        layers: vec![None; network.nodes.len()],
        anonymous: vec![0; network.equations.len()],
        weights: HashMap::new(),
        equation: EquationId(0),
        place,
    };
    let order = order(network);
    // Named layers first, so that no other can take their names.
    for &id in &order {
        lowering.node(id)?;
    }
    for &id in &order {
        lowering.body(id)?;
    }
    lowering.outputs()?;
    Ok(lowering.graph)
}

/// The layers in the order of the text, each cell's where it is called.
fn order(network: &Expanded<'_>) -> Vec<NodeId> {
    let mut order = Vec::with_capacity(network.nodes.len());
    let mut stack: Vec<(InstanceId, usize)> = vec![(InstanceId(0), 0)];
    while let Some((instance, next)) = stack.last_mut() {
        let item = network.instance(*instance).items.get(*next).copied();
        *next += 1;
        match item {
            Some(Item::Node(node)) => order.push(node),
            Some(Item::Instance(instance)) => stack.push((instance, 0)),
            None => {
                stack.pop();
            }
        }
    }
    order
}

/// A plain read: units of a layer, times a number.
#[derive(Clone, Copy)]
struct Read {
    layer: LayerId,
    delay: i64,
    range: Range,
    scale: f64,
    stops_gradient: bool,
}

struct Lowering<'n, 't> {
    network: &'n Expanded<'t>,
    graph: Graph,
    layers: Vec<Option<LayerId>>,
    /// For each equation, how many layers without a name it has so far.
    anonymous: Vec<usize>,
    /// Where each weight comes from, by its name.
    weights: HashMap<String, Span>,
    /// The equation being lowered.
    equation: EquationId,
    /// The network's name, for the budget's error.
    place: Span,
}

// Expressions nest at most as deep as the reader and the expansion of cells allow, so these may recurse.
impl Lowering<'_, '_> {
    fn size(&self, id: ExprId) -> usize {
        // All sizes are known by now.
        self.network.expr(id).size.unwrap_or(1)
    }

    fn add(&mut self, name: String, size: usize, kind: LayerKind, span: Span) -> Result<LayerId, Diagnostic> {
        if self.graph.layers().len() >= MAX_LAYERS {
            return Err(too_large(self.place));
        }
        let (function, start) = (Function::IDENTITY, Start::Zero);
        Ok(self.graph.add_layer(Layer { name, size, kind, function, start, origin: Some(span) }))
    }

    fn weight(
        &mut self,
        name: &str,
        shape: &[usize],
        init: Init,
        span: Span,
    ) -> Result<WeightId, Diagnostic> {
        if let Some(first) = self.weights.insert(name.to_owned(), span) {
            return Err(Diagnostic::new(span, format!("two weights would be called `{}`", shortened(name)))
                .label("the second")
                .also(first, "the first")
                .help("give one of the equations, or of the cells called inside them, another name"));
        }
        Ok(self.graph.weight(name, shape, init))
    }

    fn node(&mut self, id: NodeId) -> Result<(), Diagnostic> {
        let node = self.network.node(id);
        let name = match &node.name {
            Some(name) if self.graph.find_layer(name).is_some() => {
                return Err(Diagnostic::new(
                    node.span,
                    format!("two layers would be called `{}`", shortened(name)),
                )
                .label("the second")
                .help("give one of the equations, or of the cells called inside them, another name"));
            }
            Some(name) => name.clone(),
            None => self.anonymous_name(node.equation),
        };
        let kind = match node.kind {
            NodeKind::Input => LayerKind::Input,
            NodeKind::Symbol => LayerKind::Symbol,
            NodeKind::Equation(_) => LayerKind::Sum,
        };
        let layer = self.add(name, node.size.unwrap_or(1), kind, node.span)?;
        self.layers[id.0] = Some(layer);
        Ok(())
    }

    fn anonymous_name(&mut self, equation: EquationId) -> String {
        let count = &mut self.anonymous[equation.0];
        *count += 1;
        format!("{}.{count}", self.network.equations[equation.0])
    }

    fn body(&mut self, id: NodeId) -> Result<(), Diagnostic> {
        let node: &Node = self.network.node(id);
        let (NodeKind::Equation(root), Some(layer)) = (node.kind, self.layers[id.0]) else { return Ok(()) };
        self.equation = node.equation;
        self.build(layer, Activation::Identity, root)?;
        match node.start {
            None => {}
            Some(StartValue::Constant(0.0)) => self.graph.set_start(layer, Start::Zero),
            Some(StartValue::Constant(number)) => self.graph.set_start(layer, Start::Constant(number)),
            Some(StartValue::Learned) => {
                let name = format!("{}.start", self.network.equations[node.equation.0]);
                let weight = self.weight(&name, &[node.size.unwrap_or(1)], Init::Zeros, node.span)?;
                self.graph.set_start(layer, Start::Learned(weight));
            }
        }
        Ok(())
    }

    fn outputs(&mut self) -> Result<(), Diagnostic> {
        let mut seen: HashMap<&str, Span> = HashMap::new();
        for (name, reference) in &self.network.outputs {
            if let Some(first) = seen.insert(name, reference.span) {
                return Err(Diagnostic::new(
                    reference.span,
                    format!("the output `{}` is there twice", shortened(name)),
                )
                .label("the second")
                .also(first, "the first")
                .help("leave one of them out"));
            }
            let Some(target) = reference.target else { continue };
            let Some(mut layer) = self.layers[target.node.0] else { continue };
            if target.delay != 0 {
                // What a cell returned is in another frame.
                let size = self.graph.layer_at(layer).size;
                let copy = self.add(name.clone(), size, LayerKind::Sum, reference.span)?;
                let range = Range::new(0, size);
                self.connect(
                    Read { layer, delay: target.delay, range, scale: 1.0, stops_gradient: false },
                    copy,
                    range,
                );
                layer = copy;
            }
            self.graph.output(name.clone(), layer);
        }
        Ok(())
    }

    /// A layer without a name for an expression.
    fn anonymous(&mut self, id: ExprId) -> Result<LayerId, Diagnostic> {
        let expr = self.network.expr(id);
        let name = match &expr.op {
            Op::Parameter { weight, .. } => weight.clone(),
            _ => self.anonymous_name(self.equation),
        };
        let layer = self.add(name, self.size(id), LayerKind::Sum, expr.span)?;
        self.build(layer, Activation::Identity, id)?;
        Ok(layer)
    }

    /// Makes a layer compute f(expression).
    fn build(&mut self, layer: LayerId, f: Activation, id: ExprId) -> Result<(), Diagnostic> {
        let plain = f == Activation::Identity;
        self.graph.layer_at_mut(layer).function = Function::Apply(f);
        match &self.network.expr(id).op {
            &Op::Apply(inner, operand) if plain => return self.build(layer, inner, operand),
            Op::Product { factors, .. } if factors.len() > 1 => return self.product(layer, id),
            Op::Dropout { .. } => return self.product(layer, id),
            &Op::Pair(operation, a, b) if plain => return self.operation(layer, operation, &[a, b]),
            &Op::Vector(operation, operand) if plain => return self.operation(layer, operation, &[operand]),
            &Op::Reduce { operand, groups, mean: false } if plain => {
                return self.operation(layer, Operation::GroupSum { groups }, &[operand]);
            }
            &Op::Normalize { operand, groups, center, affine: None } if plain => {
                return self.operation(
                    layer,
                    Operation::Normalize { groups, center, epsilon: EPSILON },
                    &[operand],
                );
            }
            Op::Parameter { size, weight, init } if plain => {
                let weight = self.weight(weight, &[*size], *init, self.network.expr(id).span)?;
                self.graph.layer_at_mut(layer).kind = LayerKind::Parameter(weight);
                return Ok(());
            }
            _ => {}
        }
        let range = Range::new(0, self.graph.layer_at(layer).size);
        self.terms(id, 1.0, layer, range)
    }

    fn operation(
        &mut self,
        layer: LayerId,
        operation: Operation,
        operands: &[ExprId],
    ) -> Result<(), Diagnostic> {
        self.graph.layer_at_mut(layer).kind = LayerKind::Operation(operation);
        for &operand in operands {
            // Those of a sum over groups are more than its own units.
            let size = match operation {
                Operation::GroupSum { .. } => self.size(operand),
                _ => self.graph.layer_at(layer).size,
            };
            let range = Range::new(0, size);
            match self.network.expr(operand).op {
                Op::Number(number) => self.constant(number, layer, range),
                _ => {
                    let read = self.read(operand)?;
                    self.connect(read, layer, range);
                }
            }
        }
        Ok(())
    }

    fn product(&mut self, layer: LayerId, id: ExprId) -> Result<(), Diagnostic> {
        self.graph.layer_at_mut(layer).kind = LayerKind::Product;
        let range = Range::new(0, self.graph.layer_at(layer).size);
        let mut factors = Vec::new();
        let mut scale = self.factors(id, &mut factors)?;
        for mut read in factors {
            // The first factor takes the product's number.
            read.scale *= std::mem::replace(&mut scale, 1.0);
            self.connect(read, layer, range);
        }
        Ok(())
    }

    /// The factors of a product, of products within it too; returns their number.
    fn factors(&mut self, id: ExprId, into: &mut Vec<Read>) -> Result<f64, Diagnostic> {
        let expr = self.network.expr(id);
        match &expr.op {
            Op::Product { scale, factors } => {
                let mut scale = *scale;
                for &factor in factors {
                    scale *= self.factors(factor, into)?;
                }
                Ok(scale)
            }
            Op::Dropout { operand, probability, mask } => {
                let scale = self.factors(*operand, into)?;
                let kind = LayerKind::Operation(Operation::DropoutMask { probability: *probability });
                let size = self.size(id);
                let layer = self.add(mask.clone(), size, kind, expr.span)?;
                let range = Range::new(0, size);
                into.push(Read { layer, delay: 0, range, scale: 1.0, stops_gradient: false });
                Ok(scale)
            }
            _ => {
                let read = self.read(id)?;
                into.push(read);
                Ok(1.0)
            }
        }
    }

    /// Adds an expression to a sum layer, or to a part of one, times a number.
    fn terms(&mut self, id: ExprId, scale: f64, layer: LayerId, range: Range) -> Result<(), Diagnostic> {
        let expr = self.network.expr(id);
        let same_size = self.size(id) == range.len;
        let whole = same_size && range.len == self.graph.layer_at(layer).size;
        match &expr.op {
            &Op::Number(number) => self.constant(scale * number, layer, range),
            &Op::Broadcast { operand, .. } if matches!(self.network.expr(operand).op, Op::Number(_)) => {
                self.terms(operand, scale, layer, range)?;
            }
            Op::Sum { terms, constant } => {
                for &(factor, term) in terms {
                    self.terms(term, scale * factor, layer, range)?;
                }
                if *constant != 0.0 {
                    self.constant(scale * constant, layer, range);
                }
            }
            Op::Product { scale: own, factors } if factors.len() == 1 => {
                self.terms(factors[0], scale * own, layer, range)?;
            }
            Op::Dense(dense) if whole && scale == 1.0 => self.dense(dense, layer, expr.span)?,
            Op::Diagonal { operand, weight, init } if whole && scale == 1.0 => {
                let init = init.unwrap_or(Init::Uniform(1.0 / (range.len as f64).sqrt()));
                let weight = self.weight(weight, &[range.len], init, expr.span)?;
                let read = self.weighable(*operand)?;
                self.weigh(read, layer, ConnectionKind::Diagonal { weight });
            }
            &Op::Normalize { operand, groups, center, affine: Some(ref stem) } if whole && scale == 1.0 => {
                let name = self.anonymous_name(self.equation);
                let normal = self.add(name, range.len, LayerKind::Sum, expr.span)?;
                self.operation(
                    normal,
                    Operation::Normalize { groups, center, epsilon: EPSILON },
                    &[operand],
                )?;
                let gain =
                    self.weight(&format!("{stem}.gain"), &[range.len], Init::Constant(1.0), expr.span)?;
                let read = Read { layer: normal, delay: 0, range, scale: 1.0, stops_gradient: false };
                self.weigh(read, layer, ConnectionKind::Diagonal { weight: gain });
                if center {
                    self.bias(&format!("{stem}.bias"), Init::Zeros, layer, expr.span)?;
                }
            }
            Op::Concat(parts) if same_size => {
                let mut start = range.start;
                for &part in parts {
                    let len = self.size(part);
                    self.terms(part, scale, layer, Range::new(start, len))?;
                    start += len;
                }
            }
            _ => {
                let mut read = self.read(id)?;
                read.scale *= scale;
                self.connect(read, layer, range);
            }
        }
        Ok(())
    }

    /// An expression as a read of a layer: of one that is there, or of a new one without a name.
    fn read(&mut self, id: ExprId) -> Result<Read, Diagnostic> {
        let expr = self.network.expr(id);
        match &expr.op {
            Op::Read(reference) => {
                if let Some(target) = reference.target
                    && let Some(layer) = self.layers[target.node.0]
                {
                    let range = Range::new(0, self.size(id));
                    return Ok(Read { layer, delay: target.delay, range, scale: 1.0, stops_gradient: false });
                }
            }
            &Op::Slice { operand, from, to } => {
                let mut read = self.read_all(operand)?;
                read.range = Range::new(read.range.start + from, to - from);
                return Ok(read);
            }
            // What reads too few units repeats them, where it is connected.
            &Op::Broadcast { operand, .. } => return self.read(operand),
            &Op::StopGradient(operand) => return Ok(Read { stops_gradient: true, ..self.read(operand)? }),
            Op::Product { scale, factors } if factors.len() == 1 => {
                let mut read = self.read(factors[0])?;
                read.scale *= scale;
                return Ok(read);
            }
            Op::Sum { terms, constant: 0.0 } if terms.len() == 1 => {
                let mut read = self.read(terms[0].1)?;
                read.scale *= terms[0].0;
                return Ok(read);
            }
            &Op::Reduce { operand, groups, mean: true } => {
                let name = self.anonymous_name(self.equation);
                let layer = self.add(name, groups, LayerKind::Sum, expr.span)?;
                self.operation(layer, Operation::GroupSum { groups }, &[operand])?;
                let scale = groups as f64 / self.size(operand) as f64;
                return Ok(Read {
                    layer,
                    delay: 0,
                    range: Range::new(0, groups),
                    scale,
                    stops_gradient: false,
                });
            }
            _ => {}
        }
        let layer = self.anonymous(id)?;
        let range = Range::new(0, self.size(id));
        Ok(Read { layer, delay: 0, range, scale: 1.0, stops_gradient: false })
    }

    /// A read that has as many units as the expression.
    fn read_all(&mut self, id: ExprId) -> Result<Read, Diagnostic> {
        let read = self.read(id)?;
        if read.range.len == self.size(id) {
            return Ok(read);
        }
        self.copied(read, id)
    }

    /// A read that a weight can be applied to: all units, as they are, and errors flow back.
    fn weighable(&mut self, id: ExprId) -> Result<Read, Diagnostic> {
        let read = self.read_all(id)?;
        if read.scale == 1.0 && !read.stops_gradient { Ok(read) } else { self.copied(read, id) }
    }

    /// A read of a layer of its own that copies it.
    fn copied(&mut self, read: Read, id: ExprId) -> Result<Read, Diagnostic> {
        let name = self.anonymous_name(self.equation);
        let range = Range::new(0, self.size(id));
        let layer = self.add(name, range.len, LayerKind::Sum, self.network.expr(id).span)?;
        self.connect(read, layer, range);
        Ok(Read { layer, delay: 0, range, scale: 1.0, stops_gradient: false })
    }

    fn dense(&mut self, dense: &Dense, layer: LayerId, span: Span) -> Result<(), Diagnostic> {
        let mut fan_in = 0;
        for &(input, _) in &dense.inputs {
            fan_in += if self.is_symbol(input) { 1 } else { self.size(input) };
        }
        let init = dense.init.unwrap_or(Init::Uniform(1.0 / (fan_in as f64).sqrt()));
        let (heads, rows) = (dense.heads, dense.size);
        for (input, name) in &dense.inputs {
            let columns = self.size(*input);
            let shape: &[usize] =
                if heads == 1 { &[rows, columns] } else { &[heads, rows / heads, columns / heads] };
            let weight = self.weight(name, shape, init, span)?;
            let read = self.weighable(*input)?;
            self.weigh(read, layer, ConnectionKind::Full { weight, heads, transposed: false });
        }
        match &dense.bias {
            Some((name, init)) => self.bias(name, *init, layer, span),
            None => Ok(()),
        }
    }

    fn is_symbol(&self, id: ExprId) -> bool {
        match &self.network.expr(id).op {
            Op::Read(reference) => {
                reference.target.is_some_and(|target| self.network.node(target.node).kind == NodeKind::Symbol)
            }
            _ => false,
        }
    }

    fn bias(&mut self, name: &str, init: Init, layer: LayerId, span: Span) -> Result<(), Diagnostic> {
        let range = Range::new(0, self.graph.layer_at(layer).size);
        let weight = self.weight(name, &[range.len], init, span)?;
        let bias = self.add(name.to_owned(), range.len, LayerKind::Parameter(weight), span)?;
        self.connect(Read { layer: bias, delay: 0, range, scale: 1.0, stops_gradient: false }, layer, range);
        Ok(())
    }

    fn weigh(&mut self, read: Read, target: LayerId, kind: ConnectionKind) {
        let target_range = Range::new(0, self.graph.layer_at(target).size);
        self.graph.add_connection(Connection {
            source: Some(read.layer),
            target,
            kind,
            delay: read.delay,
            source_range: read.range,
            target_range,
            stops_gradient: false,
        });
    }

    fn connect(&mut self, read: Read, target: LayerId, target_range: Range) {
        let scale = read.scale;
        let kind = if read.range.len == target_range.len {
            ConnectionKind::Identity { scale }
        } else {
            ConnectionKind::Broadcast { scale }
        };
        self.graph.add_connection(Connection {
            source: Some(read.layer),
            target,
            kind,
            delay: read.delay,
            source_range: read.range,
            target_range,
            stops_gradient: read.stops_gradient,
        });
    }

    fn constant(&mut self, value: f64, target: LayerId, target_range: Range) {
        self.graph.add_connection(Connection {
            source: None,
            target,
            kind: ConnectionKind::Constant { value },
            delay: 0,
            source_range: Range::new(0, 0),
            target_range,
            stops_gradient: false,
        });
    }
}
