//! Expressions to layers and connections. One equation is one layer; what does not fit into it becomes layers
//! without names of their own: `h1.c.1`, `h1.c.2`.

mod terms;

use crate::diagnostics::{Diagnostic, shortened};
use crate::expand::{MAX_LAYERS, too_large};
use crate::ir::{EquationId, Expanded, ExprId, InstanceId, Item, Node, NodeId, NodeKind, Op, StartValue};
use crate::syntax::Span;
use rnnc_graph::{
    Activation, Function, Graph, Init, Layer, LayerId, LayerKind, Operation, Range, Start, WeightId,
};
use std::collections::HashMap;
use terms::Read;

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

/// A factor of a product layer.
enum Factor {
    Read(Read),
    Number(f64),
}

pub(crate) struct Lowering<'n, 't> {
    pub network: &'n Expanded<'t>,
    pub graph: Graph,
    pub layers: Vec<Option<LayerId>>,
    /// For each equation, how many layers without a name it has so far.
    anonymous: Vec<usize>,
    /// Where each weight comes from, by its name.
    weights: HashMap<String, Span>,
    /// The equation being lowered.
    pub equation: EquationId,
    /// The network's name, for the budget's error.
    place: Span,
}

// Expressions nest at most as deep as the reader and the expansion of cells allow, so these may recurse.
impl Lowering<'_, '_> {
    pub fn size(&self, id: ExprId) -> usize {
        // All sizes are known by now.
        self.network.expr(id).size.unwrap_or(1)
    }

    pub fn add(
        &mut self,
        name: String,
        size: usize,
        kind: LayerKind,
        span: Span,
    ) -> Result<LayerId, Diagnostic> {
        if self.graph.layers().len() >= MAX_LAYERS {
            return Err(too_large(self.place));
        }
        let (function, start) = (Function::IDENTITY, Start::Zero);
        Ok(self.graph.add_layer(Layer {
            name,
            size,
            kind,
            function,
            start,
            origin: Some(span),
            error_of: None,
        }))
    }

    pub fn weight(
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

    pub fn anonymous_name(&mut self, equation: EquationId) -> String {
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
                self.connect(Read { delay: target.delay, ..Read::of(layer, range) }, copy, range);
                layer = copy;
            }
            self.graph.output(name.clone(), layer);
        }
        Ok(())
    }

    /// A layer without a name for an expression.
    pub fn anonymous(&mut self, id: ExprId) -> Result<LayerId, Diagnostic> {
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
            &Op::Normalize { operand, operation, affine: None } if plain => {
                return self.operation(layer, operation, &[operand]);
            }
            Op::Parameter { size, weight, init } if plain => {
                let weight = self.weight(weight, &[*size], *init, self.network.expr(id).span)?;
                self.graph.layer_at_mut(layer).kind = LayerKind::Parameter(weight);
                return Ok(());
            }
            _ => {}
        }
        let range = Range::new(0, self.graph.layer_at(layer).size);
        self.terms(id, 1.0, layer, range, true)
    }

    pub fn operation(
        &mut self,
        layer: LayerId,
        operation: Operation,
        operands: &[ExprId],
    ) -> Result<(), Diagnostic> {
        self.graph.layer_at_mut(layer).kind = LayerKind::Operation(operation);
        for &operand in operands {
            // Those of a sum over groups are more than its own units.
            let size =
                if operation.changes_size() { self.size(operand) } else { self.graph.layer_at(layer).size };
            self.operand(operand, layer, Range::new(0, size))?;
        }
        Ok(())
    }

    /// Adds an operand of an operation.
    pub fn operand(&mut self, id: ExprId, layer: LayerId, range: Range) -> Result<(), Diagnostic> {
        match self.network.expr(id).op {
            Op::Number(number) => self.constant(number, layer, range),
            _ => {
                let read = self.read(id)?;
                self.connect(read, layer, range);
            }
        }
        Ok(())
    }

    fn product(&mut self, layer: LayerId, id: ExprId) -> Result<(), Diagnostic> {
        self.graph.layer_at_mut(layer).kind = LayerKind::Product;
        let range = Range::new(0, self.graph.layer_at(layer).size);
        let mut factors = Vec::new();
        self.factors(id, &mut factors)?;
        for factor in factors {
            match factor {
                Factor::Read(read) => self.connect(read, layer, range),
                Factor::Number(number) => self.constant(number, layer, range),
            }
        }
        Ok(())
    }

    /// The factors of a product, from left to right. A product at its beginning is more of them; one elsewhere is a layer.
    fn factors(&mut self, id: ExprId, into: &mut Vec<Factor>) -> Result<(), Diagnostic> {
        let expr = self.network.expr(id);
        match &expr.op {
            Op::Product { scale, factors } => {
                let (&first, others) = factors.split_first().unwrap_or((&id, &[]));
                if *scale == 1.0 {
                    self.factors(first, into)?;
                } else {
                    let read = self.read(first)?;
                    into.push(Factor::Read(self.times(read, *scale, first)?));
                }
                for &factor in others {
                    into.push(match self.network.expr(factor).op {
                        Op::Number(number) => Factor::Number(number),
                        _ => Factor::Read(self.read(factor)?),
                    });
                }
            }
            Op::Dropout { operand, probability, mask } => {
                self.factors(*operand, into)?;
                let size = self.size(id);
                let layer = self.add(mask.clone(), size, LayerKind::Sum, expr.span)?;
                self.graph.make_mask(layer, *probability);
                let range = Range::new(0, size);
                into.push(Factor::Read(Read::of(layer, range)));
            }
            _ => into.push(Factor::Read(self.read(id)?)),
        }
        Ok(())
    }
}
