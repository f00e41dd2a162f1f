//! Cells called: which cell, with which options, and what its inputs are in the caller. Its block is expanded
//! later.

use super::{Context, Expander};
use crate::builtins::Builtin;
use crate::constants::{Wanted, evaluate, frames, matched};
use crate::diagnostics::{Diagnostic, counted, shortened};
use crate::ir::{Binding, BindingId, Constant, Instance, InstanceId, Item, NodeKind, Place, Reference};
use crate::syntax::{self, Call, Cell, ExprKind, Span, Statement};
use std::collections::HashMap;

impl<'t> Expander<'t> {
    /// The cell that a call is of; a function of the language is none.
    pub fn cell(&self, call: &Call<'t>) -> Option<&'t Cell<'t>> {
        if Builtin::find(call.name.text).is_some() { None } else { self.program.find_cell(call.name) }
    }

    /// Makes an instance of a cell; its block is expanded later.
    pub fn call_cell(
        &mut self,
        at: &mut Context<'t>,
        call: &'t Call<'t>,
        cell: &'t Cell<'t>,
        full: String,
        span: Span,
    ) -> Result<(InstanceId, BindingId), Diagnostic> {
        if call.arguments.len() != cell.inputs.len() {
            let place =
                call.arguments.get(cell.inputs.len()).map_or(call.name.span, |argument| argument.span);
            return Err(wrong_inputs(call, place, &counted(cell.inputs.len(), "input"), &usage(cell)));
        }
        let options = self.cell_options(at.instance, call, cell)?;
        self.tokens = self.tokens.saturating_add(cell.tokens);
        let mut names = HashMap::new();
        for (&input, argument) in cell.inputs.iter().zip(&call.arguments) {
            let binding = self.argument(at, argument)?;
            names.insert(input.text, self.binding(binding));
        }
        let caller = self.out.instance(at.instance);
        let sign = if call.reversed { -caller.sign } else { caller.sign };
        let id = InstanceId(self.out.instances.len());
        let value = self.binding(Binding::Value(id, 0));
        if self.out.named_instances.insert(full.clone(), (id, value)).is_some() {
            return Err(Diagnostic::new(
                span,
                format!("two cells would both be called `{}`", shortened(&full)),
            )
            .label("the second")
            .help("give the inner call an equation of its own"));
        }
        self.out.instances.push(Instance {
            prefix: full + ".",
            sign,
            names,
            options,
            returns: vec![],
            items: vec![],
            call: Some((call.name.text, span, at.instance)),
        });
        self.out.instances[at.instance.0].items.push(Item::Instance(id));
        self.waiting.push((id, &cell.block));
        Ok((id, value))
    }

    fn cell_options(
        &self,
        caller: InstanceId,
        call: &'t Call<'t>,
        cell: &'t Cell<'t>,
    ) -> Result<HashMap<&'t str, Constant>, Diagnostic> {
        let names: Vec<&str> = cell.options.iter().map(|option| option.name.text).collect();
        let given = matched(call.name, &names, &call.options)?;
        let mut options = HashMap::new();
        for (declared, given) in cell.options.iter().zip(given) {
            let value = match (given, &declared.default) {
                (Some(given), _) => evaluate(self.options(caller), given, Wanted::Any)?,
                (None, Some(default)) => evaluate(&options, default, Wanted::Any)?,
                (None, None) => return Err(missing_option(call, declared.name.text, &usage(cell))),
            };
            options.insert(declared.name.text, value);
        }
        Ok(options)
    }

    /// A name is an alias; anything else becomes a layer without a name.
    fn argument(
        &mut self,
        at: &mut Context<'t>,
        argument: &'t syntax::Expr<'t>,
    ) -> Result<Binding<'t>, Diagnostic> {
        if let ExprKind::Read { path, .. } = &argument.kind
            && !path.first().is_some_and(|first| self.options(at.instance).contains_key(first.text))
        {
            return Ok(Binding::Alias(self.reference(at.instance, argument)?));
        }
        let root = self.expr(at, argument)?;
        Ok(Binding::Node(self.node(at.instance, NodeKind::Equation(root), None, at.equation, argument.span)))
    }

    /// A name, where an expression will not do.
    pub fn read_only(
        &self,
        instance: InstanceId,
        value: &'t syntax::Expr<'t>,
        what: &str,
    ) -> Result<Reference<'t>, Diagnostic> {
        match value.kind {
            ExprKind::Read { .. } => self.reference(instance, value),
            _ => Err(Diagnostic::new(value.span, what)
                .label("this is an expression")
                .help("give it an equation of its own")),
        }
    }

    /// A name and its delay, as the instance reads it.
    pub fn reference(
        &self,
        instance: InstanceId,
        expr: &'t syntax::Expr<'t>,
    ) -> Result<Reference<'t>, Diagnostic> {
        let ExprKind::Read { path, offset } = &expr.kind else {
            return Err(Diagnostic::new(expr.span, "this is not a name"));
        };
        let scope = self.out.instance(instance);
        if let [first, ..] = path[..]
            && scope.options.contains_key(first.text)
        {
            return Err(Diagnostic::new(
                expr.span,
                format!("`{}` is an option of the cell", shortened(first.text)),
            )
            .label("the same in all frames, with nothing inside")
            .help(format!("write `{}` alone", shortened(first.text))));
        }
        let ahead = offset.as_ref().map_or(Ok(0), |offset| frames(&scope.options, offset))?;
        let path = path.iter().map(|name| name.text).collect();
        let place = Place::Path { scope: instance, path };
        Ok(Reference { place, delay: -ahead * scope.sign, span: expr.span, target: None })
    }
}

/// How an input that is a name is called in weights: as written, the delay worked out.
pub(crate) fn label(
    options: &HashMap<&str, Constant>,
    expr: &syntax::Expr<'_>,
) -> Result<Option<String>, Diagnostic> {
    let ExprKind::Read { path, offset } = &expr.kind else { return Ok(None) };
    if path.first().is_some_and(|first| options.contains_key(first.text)) {
        return Ok(None);
    }
    let path = path.iter().map(|name| name.text).collect::<Vec<_>>().join(".");
    let ahead = offset.as_ref().map_or(Ok(0), |offset| frames(options, offset))?;
    Ok(Some(if ahead == 0 { path } else { format!("{path}[t{ahead:+}]") }))
}

/// How many values a cell returns.
pub(crate) fn returned(cell: &Cell<'_>) -> usize {
    let values =
        cell.block.iter().map(|s| if let Statement::Return { values, .. } = s { values.len() } else { 0 });
    values.sum()
}

/// How a call of a cell is written.
fn usage(cell: &Cell<'_>) -> String {
    let names = |list: Vec<&str>| list.join(", ");
    let inputs = names(cell.inputs.iter().map(|input| input.text).collect());
    let options = names(cell.options.iter().map(|option| option.name.text).collect());
    let between = if options.is_empty() { "" } else { "; " };
    shortened(&format!("{}({inputs}{between}{options})", cell.name.text))
}

/// The error of a call with too few or too many inputs.
pub(crate) fn wrong_inputs(call: &Call<'_>, place: Span, wanted: &str, usage: &str) -> Diagnostic {
    let given = call.arguments.len();
    let verb = if given == 1 { "is" } else { "are" };
    let name = shortened(call.name.text);
    Diagnostic::new(place, format!("`{name}` takes {wanted}, and {given} {verb} given"))
        .label(if place == call.name.span { "an input is missing" } else { "one too many" })
        .help(format!("write `{usage}`; inputs stand before the `;`, sizes and other options after it"))
}

/// The error of a call without an option that has no default.
pub(crate) fn missing_option(call: &Call<'_>, option: &str, usage: &str) -> Diagnostic {
    let name = shortened(call.name.text);
    Diagnostic::new(call.name.span, format!("`{name}` needs its option `{}`", shortened(option)))
        .label(format!("without `{}`", shortened(option)))
        .help(format!("write `{usage}`; options stand after the `;`"))
}
