//! How many units each expression has. Sizes flow forward, also through recurrence: an elementwise expression has
//! the size of the first operand known to have more than one unit. Whether they fit where they are used, `checks.rs` says.

use crate::diagnostics::{Diagnostic, counted, shortened};
use crate::ir::{Expanded, Expr, ExprId, NodeId, NodeKind, Op};
use crate::syntax::Span;
use std::collections::HashSet;

/// Finds the sizes of a network.
pub(crate) fn infer(network: &mut Expanded<'_>) -> Result<(), Diagnostic> {
    let mut inference = Inference::new(network);
    inference.run();
    inference.unfounded().map_or(Ok(()), Err)
}

/// Who is to be told of an expression's size.
#[derive(Clone, Copy)]
enum Parent {
    Expr(ExprId),
    Node(NodeId),
    Nobody,
}

struct Inference<'n, 't> {
    network: &'n mut Expanded<'t>,
    parents: Vec<Parent>,
    /// For each layer, the expressions that are reads of it.
    readers: Vec<Vec<ExprId>>,
    /// For each expression, how many of its operands have no size yet.
    missing: Vec<usize>,
    /// Sizes found and not yet told.
    news: Vec<ExprId>,
    /// The same, of layers.
    layer_news: Vec<NodeId>,
}

impl<'n, 't> Inference<'n, 't> {
    fn new(network: &'n mut Expanded<'t>) -> Self {
        let count = network.exprs.len();
        let mut parents = vec![Parent::Nobody; count];
        let mut missing = vec![0; count];
        let mut readers = vec![Vec::new(); network.nodes.len()];
        for (index, expr) in network.exprs.iter().enumerate() {
            expr.op.each_operand(|operand| {
                parents[operand.0] = Parent::Expr(ExprId(index));
                missing[index] += 1;
            });
            if let Op::Read(reference) = &expr.op
                && let Some(target) = reference.target
            {
                readers[target.node.0].push(ExprId(index));
            }
        }
        for (index, node) in network.nodes.iter().enumerate() {
            if let NodeKind::Equation(root) = node.kind {
                parents[root.0] = Parent::Node(NodeId(index));
            }
        }
        Inference { network, parents, readers, missing, news: vec![], layer_news: vec![] }
    }

    fn run(&mut self) {
        for index in 0..self.network.exprs.len() {
            let size = match &self.network.exprs[index].op {
                Op::Number(_) => 1,
                Op::Dense(dense) => dense.size,
                Op::Parameter { size, .. } | Op::Broadcast { size, .. } => *size,
                Op::Slice { from, to, .. } => to - from,
                Op::Reduce { groups, .. } => *groups,
                _ => continue,
            };
            self.found(ExprId(index), size);
        }
        for (index, node) in self.network.nodes.iter().enumerate() {
            if node.size.is_some() {
                self.layer_news.push(NodeId(index));
            }
        }
        self.spread();
        // What reads layers of one unit, and otherwise only itself, has one unit.
        for index in 0..self.network.exprs.len() {
            let id = ExprId(index);
            if self.network.expr(id).size.is_none() && self.reads_one_unit(id) {
                self.found(id, 1);
                self.spread();
            }
        }
    }

    fn reads_one_unit(&self, id: ExprId) -> bool {
        let op = &self.network.expr(id).op;
        let mut some = false;
        if is_elementwise(op) {
            // Numbers in sums and products go with any size.
            let goes = |operand: &Expr<'_>| {
                matches!((&operand.op, op), (Op::Number(_), Op::Sum { .. } | Op::Product { .. }))
            };
            op.each_operand(|operand| {
                let operand = self.network.expr(operand);
                some |= operand.size == Some(1) && !goes(operand);
            });
        }
        some
    }

    fn found(&mut self, id: ExprId, size: usize) {
        let known = &mut self.network.exprs[id.0].size;
        if known.is_none() {
            *known = Some(size);
            self.news.push(id);
        }
    }

    fn spread(&mut self) {
        loop {
            if let Some(id) = self.news.pop() {
                self.tell(id);
            } else if let Some(node) = self.layer_news.pop() {
                let Some(size) = self.network.node(node).size else { continue };
                for reader in std::mem::take(&mut self.readers[node.0]) {
                    self.found(reader, size);
                }
            } else {
                return;
            }
        }
    }

    fn tell(&mut self, id: ExprId) {
        let Some(size) = self.network.expr(id).size else { return };
        match self.parents[id.0] {
            Parent::Nobody => {}
            Parent::Node(node) => {
                self.network.nodes[node.0].size = Some(size);
                self.layer_news.push(node);
            }
            Parent::Expr(parent) => {
                self.missing[parent.0] -= 1;
                let op = &self.network.expr(parent).op;
                if is_elementwise(op) {
                    if size > 1 || self.missing[parent.0] == 0 {
                        self.found(parent, size);
                    }
                } else if let Op::Concat(parts) = op {
                    if self.missing[parent.0] == 0 {
                        let sizes = parts.iter().filter_map(|&part| self.network.expr(part).size);
                        let sum = sizes.fold(0usize, usize::saturating_add);
                        self.found(parent, sum);
                    }
                } else {
                    // The others take over the size of their only operand, or had theirs from the beginning.
                    self.found(parent, size);
                }
            }
        }
    }

    /// The error of a layer whose size follows from nothing: the cycle it stands in.
    fn unfounded(&self) -> Option<Diagnostic> {
        let first = self.network.nodes.iter().position(|node| node.size.is_none())?;
        let mut path: Vec<NodeId> = vec![NodeId(first)];
        let mut seen = HashSet::from([NodeId(first)]);
        let repeated = loop {
            let next = self.unknown_read(*path.last()?)?;
            if !seen.insert(next) {
                break next;
            }
            path.push(next);
        };
        let cycle = &path[path.iter().position(|&node| node == repeated)?..];
        let name = |node: &NodeId| {
            let node = self.network.node(*node);
            format!("`{}`", shortened(node.name.as_ref().unwrap_or(&self.network.equations[node.equation.0])))
        };
        let mut names: Vec<String> = cycle.iter().take(8).map(name).collect();
        names.extend((cycle.len() > 8).then(|| "...".to_owned()));
        names.push(name(&repeated));
        let mut error = Diagnostic::new(
            self.network.node(repeated).span,
            format!("a size that follows from nothing: {}", names.join(" -> ")),
        )
        .label("how many units?")
        .help(match cycle.iter().find_map(|&node| self.added_number(node)) {
            Some(number) => format!(
                "nothing in this cycle says how many units it has, for a number alone fits any size: write \
                 `broadcast({number}; 1)` in place of `{number}` for one unit, `broadcast({number}; n)` for n units"
            ),
            None => {
                "nothing in this cycle says how many units it has; read something of a size in it: an input through \
                 `dense(...; n)`, a `param(n)`, or a number for each of n units, `broadcast(1; n)`"
                    .into()
            }
        });
        for node in cycle.iter().skip(1).take(5) {
            error = error.also(self.network.node(*node).span, "read on the way");
        }
        Some(error)
    }

    /// A number among the terms of a layer without a size.
    fn added_number(&self, node: NodeId) -> Option<f64> {
        let NodeKind::Equation(root) = self.network.node(node).kind else { return None };
        let mut below = vec![root];
        while let Some(id) = below.pop() {
            match &self.network.expr(id).op {
                Op::Number(number) => return Some(*number),
                Op::Product { .. } => {}
                op => op.each_operand(|operand| below.push(operand)),
            }
        }
        None
    }

    /// A layer without a size that a layer without a size reads.
    fn unknown_read(&self, node: NodeId) -> Option<NodeId> {
        let NodeKind::Equation(root) = self.network.node(node).kind else { return None };
        let mut below = vec![root];
        while let Some(id) = below.pop() {
            let expr = self.network.expr(id);
            if expr.size.is_some() {
                continue;
            }
            match &expr.op {
                Op::Read(reference) => return reference.target.map(|target| target.node),
                op => op.each_operand(|operand| below.push(operand)),
            }
        }
        None
    }
}

/// Whether unit u of the result depends on unit u of operands of the same size, or of one unit.
pub(crate) fn is_elementwise(op: &Op<'_>) -> bool {
    matches!(op, Op::Sum { .. } | Op::Product { .. } | Op::Pair(..) | Op::Where { .. })
}

/// Where a size comes from: the place that fixes it.
pub(crate) fn source(network: &Expanded<'_>, id: ExprId) -> Option<Span> {
    let mut current = id;
    let mut seen = HashSet::new();
    loop {
        if !seen.insert(current) {
            return None;
        }
        let expr = network.expr(current);
        match &expr.op {
            Op::Read(reference) => {
                let node = network.node(reference.target?.node);
                match node.kind {
                    NodeKind::Equation(root) => current = root,
                    NodeKind::Input | NodeKind::Symbol => return Some(node.span),
                }
            }
            op if is_elementwise(op) => {
                // The operand that has the size.
                let mut from = None;
                op.each_operand(|operand| {
                    let operand_is = network.expr(operand);
                    if from.is_none()
                        && operand_is.size == expr.size
                        && !matches!(operand_is.op, Op::Number(_))
                    {
                        from = Some(operand);
                    }
                });
                current = from?;
            }
            &Op::Apply(_, operand)
            | &Op::Vector(_, operand)
            | &Op::Normalize { operand, .. }
            | &Op::Diagonal { operand, .. }
            | &Op::StopGradient(operand)
            | &Op::Dropout { operand, .. } => current = operand,
            _ => return Some(expr.span),
        }
    }
}

/// "256 units"
pub(crate) fn units(size: usize) -> String {
    counted(size, "unit")
}
