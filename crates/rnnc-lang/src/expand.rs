//! Cells expanded where they are called: every equation of every instance becomes expressions, with constants
//! worked out and names left for later. Instances wait in a list, so that cells may nest as deep as they like.

mod calls;
mod instances;

use crate::builtins::{Builtin, of_numbers};
use crate::constants::{Wanted, evaluate, finite, whole};
use crate::diagnostics::{Diagnostic, MAX_ERRORS, counted, shortened};
use crate::ir::{
    Binding, BindingId, Constant, EquationId, Expanded, Expr, ExprId, Instance, InstanceId, Item, Node,
    NodeId, NodeKind, Op, Place, Reference, StartValue,
};
use crate::program::Program;
use crate::syntax::{self, ExprKind, Name, Network, Span, Statement};
use instances::{label, returned};
use rnnc_graph::Operation;
use std::collections::HashMap;

/// The most layers of a network, and the most cell calls.
pub const MAX_LAYERS: usize = 500_000;
/// The most tokens of all expanded cells together; it bounds time and memory.
const MAX_TOKENS: usize = 5_000_000;
/// The most operations one on top of the other in an expression. It bounds the recursion over expressions.
const MAX_LEVELS: usize = 1_000;
/// The longest full name of an equation or weight, in bytes.
pub(crate) const MAX_NAME: usize = 1_000;

/// Expands a network.
pub(crate) fn expand<'t>(
    program: &'t Program<'t>,
    network: &'t Network<'t>,
) -> Result<Expanded<'t>, Vec<Diagnostic>> {
    let mut expander = Expander {
        program,
        out: Expanded::default(),
        errors: vec![],
        waiting: vec![],
        tokens: 0,
        current: InstanceId(0),
    };
    expander.out.instances.push(Instance {
        prefix: String::new(),
        sign: 1,
        names: HashMap::new(),
        options: HashMap::new(),
        returns: vec![],
        items: vec![],
        call: None,
    });
    expander.waiting.push((InstanceId(0), &network.block));
    while let Some((instance, block)) = expander.waiting.pop() {
        expander.block(instance, block);
        if expander.out.instances.len() + expander.out.nodes.len() > MAX_LAYERS
            || expander.tokens > MAX_TOKENS
        {
            expander.errors.push(too_large(network.name.span));
            break;
        }
        if expander.errors.len() > MAX_ERRORS {
            break;
        }
    }
    if expander.errors.is_empty() { Ok(expander.out) } else { Err(expander.errors) }
}

/// The error of a network past the budget of layers.
pub(crate) fn too_large(network: Span) -> Diagnostic {
    Diagnostic::new(network, format!("this network has more than {MAX_LAYERS} layers"))
        .label("expanded from here")
        .help("each equation, each operation without a name and each bias is a layer; a cell that calls another twice doubles it at every level")
}

pub(crate) struct Expander<'t> {
    pub program: &'t Program<'t>,
    pub out: Expanded<'t>,
    errors: Vec<Diagnostic>,
    /// Instances whose blocks are still to be expanded.
    pub waiting: Vec<(InstanceId, &'t [Statement<'t>])>,
    pub tokens: usize,
    /// The instance being expanded.
    current: InstanceId,
}

/// The equation that an expression stands in.
pub(crate) struct Context<'t> {
    pub instance: InstanceId,
    pub equation: EquationId,
    /// The equation's full name.
    pub name: String,
    /// How many calls of each name it has had.
    counts: HashMap<&'t str, usize>,
}

impl<'t> Context<'t> {
    /// What is written behind the name of the next call of that name: nothing, then `2`, `3`.
    pub fn suffix(&mut self, call: &'t str) -> String {
        let count = self.counts.entry(call).or_default();
        *count += 1;
        if *count == 1 { String::new() } else { count.to_string() }
    }

    /// A name in the equation: `h1.i.W.x`.
    pub fn named(&self, name: &str, place: Span) -> Result<String, Diagnostic> {
        checked_name(format!("{}.{name}", self.name), place)
    }
}

fn checked_name(name: String, place: Span) -> Result<String, Diagnostic> {
    if name.len() <= MAX_NAME {
        return Ok(name);
    }
    Err(Diagnostic::new(place, format!("the full name of this is longer than {MAX_NAME} bytes"))
        .label(format!("`{}`", shortened(&name)))
        .help("choose shorter names, or nest cells less deep"))
}

impl<'t> Expander<'t> {
    fn block(&mut self, instance: InstanceId, block: &'t [Statement<'t>]) {
        self.current = instance;
        for statement in block {
            if let Err(error) = self.statement(instance, statement) {
                let error = self.out.in_calls(instance, error);
                self.errors.push(error);
            }
            if self.errors.len() > MAX_ERRORS {
                return;
            }
        }
        // Starts last, when all equations are there.
        for statement in block {
            if let Statement::Start { name, value } = statement
                && let Err(error) = self.start(instance, *name, value)
            {
                let error = self.out.in_calls(instance, error);
                self.errors.push(error);
            }
        }
    }

    fn statement(&mut self, instance: InstanceId, statement: &'t Statement<'t>) -> Result<(), Diagnostic> {
        match statement {
            Statement::Start { .. } => Ok(()),
            Statement::Input { name, symbol, size } => {
                let units = whole(self.options(instance), size, 1, "a size")?;
                let kind = if *symbol { NodeKind::Symbol } else { NodeKind::Input };
                let equation = self.equation(name.text.to_owned());
                let full = checked_name(name.text.to_owned(), name.span)?;
                let node = self.node(instance, kind, Some(full), equation, name.span);
                self.out.nodes[node.0].size = Some(units);
                self.bind(instance, name.text, Binding::Node(node));
                Ok(())
            }
            Statement::Return { values, .. } => {
                for value in values {
                    let reference = self.read_only(instance, value, "`return` takes names")?;
                    self.out.instances[instance.0].returns.push(reference);
                }
                Ok(())
            }
            Statement::Output { values } => {
                for value in values {
                    let reference = self.read_only(instance, value, "`output` takes names")?;
                    if reference.delay != 0 {
                        return Err(Diagnostic::new(value.span, "an output is of the same frame")
                            .label("read in another frame")
                            .help("give it an equation of its own: `y = h[t-1]` and `output y`"));
                    }
                    self.out
                        .outputs
                        .push((label(self.options(instance), value)?.unwrap_or_default(), reference));
                }
                Ok(())
            }
            Statement::Equation { names, value, span } => {
                self.equation_statement(instance, names, value, *span)
            }
        }
    }

    fn equation_statement(
        &mut self,
        instance: InstanceId,
        names: &'t [Name<'t>],
        value: &'t syntax::Expr<'t>,
        span: Span,
    ) -> Result<(), Diagnostic> {
        // A list of names has at least one.
        let Some(&first) = names.first() else { return Ok(()) };
        let full = checked_name(format!("{}{}", self.out.instance(instance).prefix, first.text), first.span)?;
        let equation = self.equation(full.clone());
        let mut at = Context { instance, equation, name: full.clone(), counts: HashMap::new() };
        if let ExprKind::Call(call) = &value.kind
            && let Some(cell) = self.cell(call)
        {
            let (callee, _) = self.call_cell(&mut at, call, cell, full, value.span)?;
            let values = returned(cell);
            if names.len() > values {
                return Err(Diagnostic::new(
                    names[values].span,
                    format!(
                        "`{}` returns {}, and {} are asked for",
                        call.name.text,
                        counted(values, "value"),
                        names.len()
                    ),
                )
                .label("one too many")
                .help(inside(cell, first, names[values])));
            }
            for (value, name) in names.iter().enumerate() {
                self.bind(instance, name.text, Binding::Value(callee, value));
            }
            return Ok(());
        }
        if let Some(second) = names.get(1) {
            return Err(Diagnostic::new(second.span, "only a cell gives several values")
                .label("a second name")
                .help("give each name an equation of its own"));
        }
        let root = self.expr(&mut at, value)?;
        let node = self.node(instance, NodeKind::Equation(root), Some(full), equation, span);
        self.bind(instance, first.text, Binding::Node(node));
        Ok(())
    }

    fn start(
        &mut self,
        instance: InstanceId,
        name: Name<'t>,
        value: &'t syntax::Expr<'t>,
    ) -> Result<(), Diagnostic> {
        let start = match evaluate(self.options(instance), value, Wanted::Start)? {
            Constant::Number(number) => StartValue::Constant(number),
            Constant::Learned => StartValue::Learned,
            other => return Err(Wanted::Start.refuse(other, value.span)),
        };
        let binding = self.out.instance(instance).names.get(name.text).map(|id| &self.out.bindings[id.0]);
        match binding {
            Some(&Binding::Node(node)) => self.out.nodes[node.0].start = Some(start),
            Some(binding) => {
                return Err(Diagnostic::new(
                    name.span,
                    format!("`{}` is what a cell returns", shortened(name.text)),
                )
                .label("not an equation of this block")
                .help(self.start_inside(binding)));
            }
            // Its equation has an error of its own.
            None => {}
        }
        Ok(())
    }

    /// Where to write the start of what a cell returns.
    fn start_inside(&self, binding: &Binding<'t>) -> String {
        let called = match binding {
            &Binding::Value(callee, _) => self.out.instance(callee).call,
            _ => None,
        };
        let Some((text, span, _)) = called else {
            return "write the start in the cell, where the equation is".into();
        };
        let cell = shortened(text);
        match self.program.is_of_the_library(Name { text, span }) {
            true => format!(
                "`{cell}` is a cell of the library: copy it into this text (`rnnc cells {cell}` prints it), and write the start \
                 in the copy, beside the equation"
            ),
            false => format!("write the start in the cell `{cell}`, beside the equation"),
        }
    }

    pub fn options(&self, instance: InstanceId) -> &HashMap<&'t str, Constant> {
        &self.out.instance(instance).options
    }

    fn equation(&mut self, name: String) -> EquationId {
        self.out.equations.push(name);
        EquationId(self.out.equations.len() - 1)
    }

    pub fn node(
        &mut self,
        instance: InstanceId,
        kind: NodeKind,
        name: Option<String>,
        equation: EquationId,
        span: Span,
    ) -> NodeId {
        let id = NodeId(self.out.nodes.len());
        self.out.nodes.push(Node { kind, name, equation, span, start: None, size: None });
        self.out.instances[instance.0].items.push(Item::Node(id));
        id
    }

    pub fn binding(&mut self, binding: Binding<'t>) -> BindingId {
        self.out.bindings.push(binding);
        BindingId(self.out.bindings.len() - 1)
    }

    fn bind(&mut self, instance: InstanceId, name: &'t str, binding: Binding<'t>) {
        let id = self.binding(binding);
        self.out.instances[instance.0].names.insert(name, id);
    }

    /// Adds an expression.
    pub fn push(&mut self, op: Op<'t>, span: Span) -> Result<ExprId, Diagnostic> {
        let mut depth = 0;
        op.each_operand(|operand| depth = depth.max(self.out.expr(operand).depth + 1));
        if depth > MAX_LEVELS {
            return Err(Diagnostic::new(span, format!("an expression of more than {MAX_LEVELS} levels"))
                .label("too many operations, one on top of the other")
                .help("give a part of it an equation of its own"));
        }
        if let Op::Number(value) = op {
            finite(value, span)?;
        }
        self.out.exprs.push(Expr { op, span, instance: self.current, depth, size: None });
        Ok(ExprId(self.out.exprs.len() - 1))
    }

    /// The number that an expression is, if it is one.
    pub fn as_number(&self, id: ExprId) -> Option<f64> {
        match self.out.expr(id).op {
            Op::Number(number) => Some(number),
            _ => None,
        }
    }

    /// Expands an expression of an equation.
    pub fn expr(&mut self, at: &mut Context<'t>, expr: &'t syntax::Expr<'t>) -> Result<ExprId, Diagnostic> {
        match &expr.kind {
            ExprKind::Number(number) => self.push(Op::Number(*number), expr.span),
            ExprKind::Read { .. } => {
                if let Some(name) = expr.as_name()
                    && let Some(&option) = self.options(at.instance).get(name.text)
                {
                    return match option {
                        Constant::Number(number) => self.push(Op::Number(number), expr.span),
                        other => Err(Diagnostic::new(
                            expr.span,
                            format!(
                                "the option `{}` is {}, which is not a number",
                                shortened(name.text),
                                other.described()
                            ),
                        )
                        .label("a number belongs here")
                        .help("call the cell with a number for it")),
                    };
                }
                let reference = self.reference(at.instance, expr)?;
                self.push(Op::Read(Box::new(reference)), expr.span)
            }
            ExprKind::Sum(parts) => {
                let mut terms = Vec::new();
                let mut leading = 0.0;
                for (negative, part) in parts {
                    let sign = if *negative { -1.0 } else { 1.0 };
                    let term = self.expr(at, part)?;
                    match self.as_number(term) {
                        Some(0.0) => {}
                        Some(number) if terms.is_empty() => leading += sign * number,
                        _ => terms.push((sign, term)),
                    }
                }
                if terms.is_empty() {
                    return self.push(Op::Number(leading), expr.span);
                }
                if leading != 0.0 {
                    // Behind the first term: a sum of two is the same either way.
                    let number = self.push(Op::Number(leading), expr.span)?;
                    terms.insert(1, (1.0, number));
                }
                match terms[..] {
                    [(1.0, only)] => Ok(only),
                    _ => self.push(Op::Sum { terms }, expr.span),
                }
            }
            ExprKind::Product(parts) => self.product(at, parts, expr.span),
            ExprKind::Compare(comparison, sides) => {
                let [left, right] = &**sides;
                let operands = [self.expr(at, left)?, self.expr(at, right)?];
                let [a, b] = comparison.sides(operands);
                let operation = Operation::Compare { relation: comparison.relation };
                match (self.as_number(a), self.as_number(b)) {
                    (Some(a), Some(b)) => self.push(Op::Number(of_numbers(operation, a, b)), expr.span),
                    _ => self.push(Op::Pair(operation, a, b), expr.span),
                }
            }
            ExprKind::Call(call) => match Builtin::find(call.name.text) {
                Some(builtin) => self.call_builtin(at, builtin, call, expr.span),
                None => {
                    let Some(cell) = self.cell(call) else { return Err(self.program.unknown_function(call)) };
                    let name = format!("{}{}", call.name.text, at.suffix(call.name.text));
                    let full = at.named(&name, call.name.span)?;
                    let (_, value) = self.call_cell(at, call, cell, full, expr.span)?;
                    let place = Place::Binding(value);
                    let reference = Reference { place, delay: 0, span: expr.span, target: None };
                    self.push(Op::Read(Box::new(reference)), expr.span)
                }
            },
        }
    }

    /// From left to right; a division becomes a quotient on the way, but for one that is as exact as a product.
    fn product(
        &mut self,
        at: &mut Context<'t>,
        parts: &'t [(bool, syntax::Expr<'t>)],
        span: Span,
    ) -> Result<ExprId, Diagnostic> {
        let mut scale = 1.0;
        let mut factors = Vec::new();
        for (divide, part) in parts {
            let factor = self.expr(at, part)?;
            match (self.as_number(factor), *divide) {
                (Some(0.0), true) => return Err(crate::constants::division_by_zero(part.span)),
                (Some(number), true) if factors.is_empty() => scale /= number,
                (Some(number), false) if factors.is_empty() => scale *= number,
                // A product of two is the same either way.
                (Some(number), false) if factors.len() == 1 && scale == 1.0 => scale = number,
                (Some(number), true) if factors.len() == 1 && scale == 1.0 && is_power_of_two(number) => {
                    scale = 1.0 / number;
                }
                (Some(1.0), _) => {}
                (_, false) => factors.push(factor),
                (_, true) => {
                    let above = self.product_of(scale, std::mem::take(&mut factors), span)?;
                    factors.push(self.push(Op::Pair(Operation::Divide, above, factor), span)?);
                    scale = 1.0;
                }
            }
        }
        self.product_of(scale, factors, span)
    }

    fn product_of(&mut self, scale: f64, factors: Vec<ExprId>, span: Span) -> Result<ExprId, Diagnostic> {
        match factors[..] {
            [] => self.push(Op::Number(scale), span),
            [only] if scale == 1.0 => Ok(only),
            _ => self.push(Op::Product { scale: finite(scale, span)?, factors }, span),
        }
    }
}

/// What to do about a name for more than a cell returns: other layers are read inside it.
fn inside(cell: &syntax::Cell<'_>, first: Name<'_>, extra: Name<'_>) -> String {
    let has_extra = cell.block.iter().any(|statement| match statement {
        Statement::Equation { names, .. } => names.iter().any(|name| name.text == extra.text),
        _ => false,
    });
    let (first, extra) = (shortened(first.text), shortened(extra.text));
    match has_extra {
        true => format!("leave it out: `{extra}` inside the cell is read as `{first}.{extra}`"),
        false => format!("leave it out: a layer inside the cell is read as `{first}.NAME`"),
    }
}

/// Whether to divide by the number and to multiply by its inverse is the same, to the last bit.
fn is_power_of_two(number: f64) -> bool {
    let (number, inverse) = (number as f32, (1.0 / number) as f32);
    number.is_normal() && inverse.is_normal() && number * inverse == 1.0 && number.to_bits() << 9 == 0
}
