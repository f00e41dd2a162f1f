//! Names looked up: every read gets the layer it reads and its whole delay, through any number of aliases.

use crate::diagnostics::{Diagnostic, MAX_ERRORS, listed, shortened, suggestion};
use crate::habits;
use crate::ir::{Binding, BindingId, Expanded, InstanceId, Op, Place, Reference, Target};
use crate::syntax::Span;

/// Looks up all names of a network.
pub(crate) fn resolve(network: &mut Expanded<'_>) -> Result<(), Vec<Diagnostic>> {
    let mut resolver = Resolver { memo: vec![Memo::Unknown; network.bindings.len()], network };
    let mut errors = Vec::new();
    let mut targets = Vec::new();
    for (index, expr) in resolver.network.exprs.iter().enumerate() {
        if let Op::Read(reference) = &expr.op {
            targets.push((index, (**reference).clone()));
        }
    }
    for (index, reference) in targets {
        match resolver.reference(&reference) {
            Ok(target) => {
                if let Op::Read(reference) = &mut resolver.network.exprs[index].op {
                    reference.target = Some(target);
                }
            }
            Err(error) => errors.push(error),
        }
        if errors.len() > MAX_ERRORS {
            return Err(errors);
        }
    }
    for index in 0..resolver.network.outputs.len() {
        let reference = resolver.network.outputs[index].1.clone();
        match resolver.reference(&reference) {
            Ok(target) => resolver.network.outputs[index].1.target = Some(target),
            Err(error) => errors.push(error),
        }
        if errors.len() > MAX_ERRORS {
            return Err(errors);
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

#[derive(Clone, Copy)]
enum Memo {
    Unknown,
    /// Being followed: met again, it leads to itself.
    Open,
    Known(Target),
}

struct Resolver<'n, 't> {
    network: &'n mut Expanded<'t>,
    memo: Vec<Memo>,
}

impl<'t> Resolver<'_, 't> {
    fn reference(&mut self, reference: &Reference<'t>) -> Result<Target, Diagnostic> {
        let binding = self.place(reference)?;
        let target = self.binding(binding, reference)?;
        Ok(Target { delay: target.delay + reference.delay, ..target })
    }

    /// Follows aliases to a layer, and remembers for each of them what was found.
    fn binding(&mut self, first: BindingId, asked: &Reference<'t>) -> Result<Target, Diagnostic> {
        let mut chain: Vec<(BindingId, i64)> = Vec::new();
        let mut current = first;
        let found = loop {
            match self.memo[current.0] {
                Memo::Known(target) => break Ok(target),
                Memo::Open => {
                    break Err(Diagnostic::new(asked.span, "a name that stands for nothing but itself")
                        .label("this leads back to itself")
                        .help("let one of the cells on the way have an equation, as in `y = x`"));
                }
                Memo::Unknown => {}
            }
            let next = match &self.network.bindings[current.0] {
                &Binding::Node(node) => break Ok(Target { node, delay: 0 }),
                Binding::Alias(reference) => Some(reference),
                // What a cell returns was checked: it is there.
                &Binding::Value(instance, value) => self.network.instance(instance).returns.get(value),
            };
            let Some(next) = next.cloned() else {
                break Err(Diagnostic::new(asked.span, "this cell returns nothing"));
            };
            self.memo[current.0] = Memo::Open;
            chain.push((current, next.delay));
            match self.place(&next) {
                Ok(binding) => current = binding,
                Err(error) => break Err(error),
            }
        };
        let mut target = match found {
            Ok(target) => target,
            Err(error) => {
                chain.iter().for_each(|(binding, _)| self.memo[binding.0] = Memo::Unknown);
                return Err(error);
            }
        };
        for &(binding, delay) in chain.iter().rev() {
            // Each is less than 2^31, and there are fewer than 2^31 of them.
            target.delay += delay;
            self.memo[binding.0] = Memo::Known(target);
        }
        Ok(target)
    }

    fn place(&self, reference: &Reference<'t>) -> Result<BindingId, Diagnostic> {
        match &reference.place {
            Place::Binding(binding) => Ok(*binding),
            Place::Path { scope, path } => {
                let found = self.path(*scope, path, reference.span);
                found.map_err(|error| self.network.in_calls(*scope, error))
            }
        }
    }

    fn path(&self, scope: InstanceId, path: &[&'t str], span: Span) -> Result<BindingId, Diagnostic> {
        let (mut inside, mut prefix) = (scope, self.network.instance(scope).prefix.clone());
        let mut binding = None;
        for (index, &name) in path.iter().enumerate() {
            let own = self.network.instance(inside).names.get(name).copied();
            prefix.push_str(name);
            let instance = self.network.named_instances.get(&prefix).copied();
            // The name of a cell in an expression stands for its first value; other names for what they say.
            let in_expression = if index == 0 { None } else { instance.map(|(_, value)| value) };
            let Some(found) = own.filter(|_| self.knows(inside, &prefix)).or(in_expression) else {
                return Err(if index == 0 {
                    self.unknown(scope, name, span)
                } else {
                    self.unknown_inside(inside, path, index, span)
                });
            };
            binding = Some(found);
            if index + 1 == path.len() {
                break;
            }
            match instance {
                Some((instance, _)) => inside = instance,
                // A cell called inside an expression: the next name is its.
                None if self
                    .network
                    .named_instances
                    .contains_key(&format!("{prefix}.{}", path[index + 1])) => {}
                None => {
                    return Err(Diagnostic::new(
                        span,
                        format!("there is nothing inside `{}`", shortened(name)),
                    )
                    .label(format!("`{}` is not what a cell was called as", shortened(name)))
                    .help("a dot reads a layer inside a cell: `h1.c` after `h1 = lstm(x; 64)`"));
                }
            }
            prefix.push('.');
        }
        binding.ok_or_else(|| Diagnostic::new(span, "this is not a name"))
    }

    /// Whether the names of an instance are looked up under this prefix: not when it is the name of an equation
    /// that calls cells in an expression.
    fn knows(&self, inside: InstanceId, prefix: &str) -> bool {
        let own = &self.network.instance(inside).prefix;
        prefix.strip_prefix(own.as_str()).is_some_and(|rest| !rest.contains('.'))
    }

    fn unknown(&self, scope: InstanceId, name: &str, span: Span) -> Diagnostic {
        let instance = self.network.instance(scope);
        let names = || instance.names.keys().chain(instance.options.keys()).copied();
        let error = Diagnostic::new(span, format!("there is no `{}` here", shortened(name)));
        if let Some(near) = suggestion(name, names()) {
            return error.label(near);
        }
        let is_known = |name: &str| names().any(|known| known == name);
        if let Some(help) = habits::of_name(name, is_known) {
            return error.label("unknown").help(help);
        }
        let mut names: Vec<&str> = names().collect();
        names.sort_unstable();
        error.label("unknown").help(match names[..] {
            [] => format!("give it an equation, or an `input` line{}", habits::of_weight(name)),
            _ => format!("the names of this block: {}{}", listed(names), habits::of_weight(name)),
        })
    }

    fn unknown_inside(&self, inside: InstanceId, path: &[&str], index: usize, span: Span) -> Diagnostic {
        let (name, of) = (path[index], path[..index].join("."));
        let mut names: Vec<&str> = self.network.instance(inside).names.keys().copied().collect();
        names.sort_unstable();
        let error =
            Diagnostic::new(span, format!("there is no `{}` inside `{}`", shortened(name), shortened(&of)));
        match suggestion(name, names.iter().copied()) {
            Some(near) => error.label(near),
            None => error.label("unknown").help(format!("the names inside: {}", listed(names))),
        }
    }
}
