//! Whether sizes fit where they are used, and symbols are read only where a table can be looked up.

use crate::constants::MAX_SIZE;
use crate::diagnostics::{Diagnostic, MAX_ERRORS, shortened};
use crate::ir::{Dense, Expanded, Expr, ExprId, NodeKind, Op};
use crate::sizes::{is_elementwise, source, units};

/// Whether all uses fit; those that do not.
pub(crate) fn check(network: &Expanded<'_>) -> Result<(), Vec<Diagnostic>> {
    let checker = Checker { network };
    let mut errors = Vec::new();
    let mut of_dense = vec![false; network.exprs.len()];
    for expr in &network.exprs {
        if let Op::Dense(dense) = &expr.op {
            dense.inputs.iter().for_each(|(input, _)| of_dense[input.0] = true);
        }
    }
    for (index, expr) in network.exprs.iter().enumerate() {
        let result = if let Op::Read(_) = expr.op {
            checker.symbol(expr, of_dense[index])
        } else {
            checker.expr(expr)
        };
        errors.extend(result.err().map(|error| network.in_calls(expr.instance, error)));
        if errors.len() > MAX_ERRORS {
            return Err(errors);
        }
    }
    for (name, reference) in &network.outputs {
        if let Some(target) = reference.target
            && network.node(target.node).kind == NodeKind::Symbol
        {
            errors.push(
                Diagnostic::new(reference.span, format!("the output `{}` is a symbol", shortened(name)))
                    .label("only vectors can be outputs")
                    .help("an output is what an equation computes: `y = dense(x; n)`"),
            );
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

struct Checker<'n, 't> {
    network: &'n Expanded<'t>,
}

impl Checker<'_, '_> {
    fn size(&self, id: ExprId) -> usize {
        // All sizes are known by now.
        self.network.expr(id).size.unwrap_or(1)
    }

    fn symbol(&self, expr: &Expr<'_>, in_dense: bool) -> Result<(), Diagnostic> {
        let Op::Read(reference) = &expr.op else { return Ok(()) };
        let Some(target) = reference.target else { return Ok(()) };
        let node = self.network.node(target.node);
        if in_dense || node.kind != NodeKind::Symbol {
            return Ok(());
        }
        let name = shortened(node.name.as_deref().unwrap_or_default());
        Err(Diagnostic::new(expr.span, format!("`{name}` is a symbol, which only `dense` can read"))
            .label("a vector belongs here")
            .also(node.span, "a symbol")
            .help(format!(
                "look it up in a table: `dense({name}; n)` has a vector of n units for each symbol"
            )))
    }

    fn expr(&self, expr: &Expr<'_>) -> Result<(), Diagnostic> {
        let own = expr.size.unwrap_or(1);
        match &expr.op {
            op if is_elementwise(op) => self.elementwise(expr, own),
            &(Op::Vector(operation, operand) | Op::Normalize { operation, operand, .. }) => {
                self.groups(expr, operand, operation.groups())?;
                self.larger_groups(expr, operand, operation.groups())
            }
            &Op::Reduce { operand, groups, .. } => self.groups(expr, operand, groups),
            &Op::Slice { operand, to, .. } if to > self.size(operand) => {
                let size = self.size(operand);
                let error = Diagnostic::new(expr.span, format!("a slice up to {to} of {}", units(size)))
                    .label(format!("`to` is at most {size}"));
                Err(self
                    .explained(error, operand)
                    .help("units are counted from 0; `to` is the first that is left out"))
            }
            &Op::Broadcast { operand, size } if !size.is_multiple_of(self.size(operand)) => {
                let from = self.size(operand);
                let error = Diagnostic::new(
                    expr.span,
                    format!("{} {} not repeat evenly over {size}", units(from), does(from)),
                )
                .label(format!("{size} is not a multiple of {from}"));
                Err(self
                    .explained(error, operand)
                    .help("`broadcast(a; n)` repeats each unit of `a` the same number of times"))
            }
            Op::Concat(_) if own > MAX_SIZE => {
                Err(Diagnostic::new(expr.span, format!("a vector of {}", units(own)))
                    .label(format!("at most {MAX_SIZE}"))
                    .help("choose smaller sizes"))
            }
            Op::Dense(dense) => self.dense(expr, dense),
            _ => Ok(()),
        }
    }

    fn elementwise(&self, expr: &Expr<'_>, own: usize) -> Result<(), Diagnostic> {
        let (mut wide, mut wrong) = (None, None);
        expr.op.each_operand(|operand| {
            let size = self.size(operand);
            if size == own && wide.is_none() {
                wide = Some(operand);
            }
            if size != own && size != 1 && wrong.is_none() {
                wrong = Some(operand);
            }
        });
        let Some(wrong) = wrong else { return Ok(()) };
        let size = self.size(wrong);
        let place = self.network.expr(wrong).span;
        let mut error =
            Diagnostic::new(place, format!("sizes do not fit: {} and {}", units(own), units(size)))
                .label(units(size));
        if let Some(wide) = wide {
            error = error.also(self.network.expr(wide).span, units(own));
            error = self.explained(error, wide);
        }
        Err(self
            .explained(error, wrong)
            .help("operands of an elementwise operation have equal sizes, or one unit; `dense(a; n)` changes a size"))
    }

    /// The error, with the place that a size comes from, if that is another than those shown.
    fn explained(&self, error: Diagnostic, operand: ExprId) -> Diagnostic {
        match source(self.network, operand) {
            Some(place) if !error.shows(place) => error.also(place, from_here(self.size(operand))),
            _ => error,
        }
    }

    fn groups(&self, expr: &Expr<'_>, operand: ExprId, groups: usize) -> Result<(), Diagnostic> {
        let size = self.size(operand);
        if size.is_multiple_of(groups) {
            return Ok(());
        }
        let error = Diagnostic::new(
            expr.span,
            format!("{} {} not divide into {groups} groups", units(size), does(size)),
        )
        .label(format!("{size} is not a multiple of {groups}"));
        Err(self.explained(error, operand).help(format!("choose a number of groups that divides {size}")))
    }

    /// Refuses groups of a single unit, of which a norm or a softmax is the same whatever the unit is.
    fn larger_groups(&self, expr: &Expr<'_>, operand: ExprId, groups: usize) -> Result<(), Diagnostic> {
        let size = self.size(operand);
        if groups == 1 || groups < size {
            return Ok(());
        }
        let error = Diagnostic::new(expr.span, format!("{groups} groups of a single unit"))
            .label("the result does not depend on what a single unit is");
        Err(self.explained(error, operand).help(
            "the size follows from the operand: a number here is how many groups of units are treated apart",
        ))
    }

    fn dense(&self, expr: &Expr<'_>, dense: &Dense) -> Result<(), Diagnostic> {
        let heads = dense.heads;
        if !dense.size.is_multiple_of(heads) {
            return Err(Diagnostic::new(
                expr.span,
                format!("{} {} not divide into {heads} heads", units(dense.size), does(dense.size)),
            )
            .label(format!("{} is not a multiple of {heads}", dense.size))
            .help(format!("choose a number of heads that divides {}", dense.size)));
        }
        for &(input, _) in &dense.inputs {
            let size = self.size(input);
            if heads > 1 && self.is_symbol(input) {
                return Err(Diagnostic::new(self.network.expr(input).span, "a symbol has no heads")
                    .label("this is a symbol")
                    .help("look it up in a `dense` of its own, without heads, and add the two"));
            }
            if !size.is_multiple_of(heads) {
                let place = self.network.expr(input).span;
                let error = Diagnostic::new(
                    place,
                    format!("{} {} not divide into {heads} heads", units(size), does(size)),
                )
                .label(format!("{size} is not a multiple of {heads}"));
                return Err(self
                    .explained(error, input)
                    .help(format!("choose a number of heads that divides {size}")));
            }
            if (dense.size as u128) * (size as u128) > (isize::MAX as u128) / 8 {
                return Err(Diagnostic::new(
                    expr.span,
                    format!("a matrix of {} by {size} numbers", dense.size),
                )
                .label("more than a machine can address")
                .help("choose smaller sizes"));
            }
        }
        Ok(())
    }

    fn is_symbol(&self, id: ExprId) -> bool {
        match &self.network.expr(id).op {
            Op::Read(reference) => {
                reference.target.is_some_and(|target| self.network.node(target.node).kind == NodeKind::Symbol)
            }
            _ => false,
        }
    }
}

/// The verb of so many units.
fn does(count: usize) -> &'static str {
    if count == 1 { "does" } else { "do" }
}

fn from_here(size: usize) -> String {
    format!("{} {} from here", units(size), if size == 1 { "comes" } else { "come" })
}
