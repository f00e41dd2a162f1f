//! Calls of the language's functions: their inputs and options, worked out into operations.

use super::instances::{label, missing_option, wrong_inputs};
use super::{Context, Expander};
use crate::builtins::{Builtin, of_numbers};
use crate::constants::{Wanted, evaluate, finite, matched, number, whole};
use crate::diagnostics::{Diagnostic, counted, counted_are, shortened};
use crate::ir::{Constant, Dense, ExprId, Op};
use crate::syntax::{Call, Expr, ExprKind, Span};
use rnnc_graph::ops::Relation;
use rnnc_graph::{Activation, Init, Number, Operation};
use std::collections::HashSet;
use std::f64::consts::PI;

/// A function's options as given, by their names.
struct Given<'t> {
    names: Vec<&'static str>,
    values: Vec<Option<&'t Expr<'t>>>,
}

impl<'t> Given<'t> {
    fn get(&self, name: &str) -> Option<&'t Expr<'t>> {
        let index = self.names.iter().position(|&n| n == name)?;
        self.values[index]
    }
}

impl<'t> Expander<'t> {
    /// Expands a call of a function of the language.
    pub fn call_builtin(
        &mut self,
        at: &mut Context<'t>,
        builtin: Builtin,
        call: &'t Call<'t>,
        span: Span,
    ) -> Result<ExprId, Diagnostic> {
        let signature = builtin.signature();
        if call.reversed {
            return Err(Diagnostic::new(call.name.span, "only a cell can be reversed")
                .label(format!("`{}` is a function, which has no delays", call.name.text))
                .help("leave `reversed` out"));
        }
        let count = call.arguments.len();
        if builtin == Builtin::Param && count != 1 {
            let place = call.arguments.get(1).map_or(call.name.span, |argument| argument.span);
            return Err(Diagnostic::new(
                place,
                format!("`param` takes its size alone, and {} given", counted_are(count, "number")),
            )
            .label(if count == 0 { "its size is missing" } else { "one too many" })
            .help(
                "write `param(n)`, a vector of n learned numbers; a matrix of weights is in `dense(x; n)`",
            ));
        }
        if !(signature.least..=signature.most).contains(&count) {
            let more = if signature.most > signature.least { " or more" } else { "" };
            let wanted = if more.is_empty() {
                counted(signature.least, "input")
            } else {
                format!("{}{more} inputs", signature.least)
            };
            let place = call.arguments.get(signature.most).map_or(call.name.span, |argument| argument.span);
            return Err(wrong_inputs(call, place, &wanted, &signature.usage));
        }
        let names: Vec<&'static str> = signature.options.iter().map(|&(name, _)| name).collect();
        let values = matched(call.name, &names, &call.options)?;
        if let Some((&(name, _), _)) =
            signature.options.iter().zip(&values).find(|((_, needed), v)| *needed && v.is_none())
        {
            return Err(missing_option(call, name, &signature.usage));
        }
        let given = Given { names, values };
        // Numbered before the arguments are: calls count in the order in which their names are written.
        match builtin {
            Builtin::Dense => return self.dense(at, call, &given, span),
            Builtin::Param => return self.param(at, call, &given, span),
            _ => {}
        }
        let suffix = at.suffix(call.name.text);
        let mut operands = Vec::with_capacity(count);
        for argument in &call.arguments {
            operands.push(self.expr(at, argument)?);
        }
        if let Some(number) = self.folded(builtin, &operands) {
            return self.push(Op::Number(number), span);
        }
        let operand = operands[0];
        let groups = match given.get("groups") {
            Some(groups) => whole(self.options(at.instance), groups, 1, "the number of groups")?,
            None => 1,
        };
        let op = match builtin {
            Builtin::Apply(f) => Op::Apply(f, operand),
            Builtin::Pairs(operation) => {
                let mut result = operand;
                for &next in &operands[1..] {
                    result = self.push(Op::Pair(operation, result, next), span)?;
                }
                return Ok(result);
            }
            Builtin::Pair(operation) => Op::Pair(operation, operand, operands[1]),
            Builtin::Where => {
                let (yes, no) = (operands[1], operands[2]);
                match self.as_number(operand) {
                    Some(condition) => return Ok(if condition == 0.0 { no } else { yes }),
                    None => Op::Where { condition: operand, yes, no },
                }
            }
            Builtin::Step => self.step(at, &given, operand, span)?,
            Builtin::Clamp => self.clamp(at, call, &given, operand)?,
            Builtin::Vector(operation) => {
                Op::Vector(operation.with_groups(groups).unwrap_or(operation), operand)
            }
            Builtin::Sum(_) => Op::Reduce { operand, groups, mean: false },
            Builtin::Mean => Op::Reduce { operand, groups, mean: true },
            Builtin::Norm(operation) => {
                let stem = at.named(&format!("{}{suffix}", call.name.text), call.name.span)?;
                let affine = self.is_affine(at, &given)?.then_some(stem);
                let operation = operation.with_groups(groups).unwrap_or(operation);
                let operation = self.with_epsilon(at, &given, operation)?;
                Op::Normalize { operand, operation, affine }
            }
            Builtin::Diag => {
                let name =
                    label(self.options(at.instance), &call.arguments[0])?.unwrap_or_else(|| "1".into());
                let weight = at.named(&format!("diag{suffix}.{name}"), call.name.span)?;
                Op::Diagonal { operand, weight, init: self.init(at, given.get("init"))? }
            }
            Builtin::Concat => Op::Concat(operands),
            Builtin::Slice => {
                let options = self.options(at.instance);
                let bound =
                    |name| given.get(name).map_or(Ok(0), |e| whole(options, e, 0, "a border of a slice"));
                let (from, to) = (bound("from")?, bound("to")?);
                if from >= to {
                    return Err(Diagnostic::new(span, format!("the slice from {from} to {to} is empty"))
                        .label("`to` must be larger than `from`")
                        .help("the unit `to` is the first that is left out"));
                }
                Op::Slice { operand, from, to }
            }
            Builtin::Broadcast => {
                let size =
                    given.get("n").map_or(Ok(1), |n| whole(self.options(at.instance), n, 1, "a size"))?;
                Op::Broadcast { operand, size }
            }
            Builtin::StopGradient => Op::StopGradient(operand),
            Builtin::Dropout(_) => {
                let Some(expr) = given.get("p") else { return Ok(operand) };
                let probability = number(self.options(at.instance), expr)?;
                if !(0.0..1.0).contains(&probability) {
                    return Err(Diagnostic::new(
                        expr.span,
                        "the probability of dropout is at least 0 and less than 1",
                    )
                    .label(format!("this is {probability}"))
                    .help("write the part of the units that is dropped, as in `dropout(x; 0.1)`"));
                }
                let mask = at.named(&format!("dropout{suffix}"), call.name.span)?;
                if probability == 0.0 {
                    return Ok(operand);
                }
                Op::Dropout { operand, probability, mask }
            }
            Builtin::Dense | Builtin::Param => return Ok(operand), // both are done above
        };
        self.push(op, span)
    }

    /// A function of numbers is a number.
    fn folded(&self, builtin: Builtin, operands: &[ExprId]) -> Option<f64> {
        let numbers: Vec<f64> =
            operands.iter().map(|&operand| self.as_number(operand)).collect::<Option<_>>()?;
        match builtin {
            Builtin::Apply(f) => Some(f.apply(numbers[0])),
            Builtin::Step => Some(numbers[0].heaviside()),
            Builtin::Pair(operation) => Some(of_numbers(operation, numbers[0], numbers[1])),
            Builtin::Pairs(operation) => numbers.into_iter().reduce(|a, b| of_numbers(operation, a, b)),
            _ => None,
        }
    }

    fn with_epsilon(
        &self,
        at: &Context<'t>,
        given: &Given<'t>,
        operation: Operation,
    ) -> Result<Operation, Diagnostic> {
        let (Some(expr), Operation::Normalize { groups, center, .. }) = (given.get("epsilon"), operation)
        else {
            return Ok(operation);
        };
        let epsilon = number(self.options(at.instance), expr)?;
        match epsilon > 0.0 {
            true => Ok(Operation::Normalize { groups, center, epsilon: finite(epsilon, expr.span)? }),
            false => Err(Diagnostic::new(expr.span, "an epsilon is larger than 0")
                .label(format!("this is {epsilon}"))
                .help("it is added to the mean square, and keeps the root of it from 0: `epsilon = 1e-5`")),
        }
    }

    /// 1 where the operand is positive. A surrogate is a function of a multiple of it, which has the same sign.
    fn step(
        &mut self,
        at: &Context<'t>,
        given: &Given<'t>,
        operand: ExprId,
        span: Span,
    ) -> Result<Op<'t>, Diagnostic> {
        let (function, slope) = match given.get("surrogate") {
            None => (Activation::StepAtan, PI),
            Some(expr) if expr.as_name().is_some_and(|name| name.text == "none") => {
                let zero = self.push(Op::Number(0.0), span)?;
                return Ok(Op::Pair(Operation::Compare { relation: Relation::Less }, zero, operand));
            }
            Some(expr) => self.surrogate(at, expr)?,
        };
        let operand = self.product_of(slope, vec![operand], span)?;
        Ok(Op::Apply(function, operand))
    }

    /// `atan(2)`, `sigmoid(25)`, `triangle(1)`: the function, and what its argument is multiplied by.
    fn surrogate(&self, at: &Context<'t>, expr: &'t Expr<'t>) -> Result<(Activation, f64), Diagnostic> {
        const HELP: &str = "a surrogate is `atan(2)`, `sigmoid(25)`, `triangle(1)` or `none`";
        let call = match &expr.kind {
            ExprKind::Call(call)
                if call.arguments.len() == 1 && call.options.is_empty() && !call.reversed =>
            {
                call
            }
            _ => {
                return Err(Diagnostic::new(expr.span, "this is not a surrogate")
                    .label("a function of one number belongs here")
                    .help(HELP));
            }
        };
        let (function, factor) = match call.name.text {
            "atan" => (Activation::StepAtan, PI / 2.0),
            "sigmoid" => (Activation::StepSigmoid, 1.0),
            "triangle" => (Activation::StepTriangle, 1.0),
            other => {
                let message = format!("there is no surrogate `{}`", shortened(other));
                return Err(Diagnostic::new(call.name.span, message).label("unknown").help(HELP));
            }
        };
        let slope = number(self.options(at.instance), &call.arguments[0])?;
        match slope > 0.0 {
            true => Ok((function, factor * slope)),
            false => Err(Diagnostic::new(call.arguments[0].span, "a surrogate's slope is larger than 0")
                .label(format!("this is {slope}"))
                .help(HELP)),
        }
    }

    fn clamp(
        &self,
        at: &Context<'t>,
        call: &'t Call<'t>,
        given: &Given<'t>,
        operand: ExprId,
    ) -> Result<Op<'t>, Diagnostic> {
        let bound = |name| given.get(name).map(|expr| number(self.options(at.instance), expr)).transpose();
        let (lo, hi) = (bound("lo")?, bound("hi")?);
        match (lo, hi) {
            (None, None) => Err(missing_option(call, "lo", &Builtin::Clamp.signature().usage)),
            (Some(low), Some(high)) if low >= high => {
                let place = given.get("hi").map_or(call.name.span, |expr| expr.span);
                Err(Diagnostic::new(place, format!("there are no numbers between {low} and {high}"))
                    .label(format!("`hi` is larger than `lo`, which is {low}"))
                    .help("write the smaller bound first, as in `clamp(a; -1, 1)`"))
            }
            _ => Ok(Op::Clamp { operand, lo, hi }),
        }
    }

    fn is_affine(&self, at: &Context<'t>, given: &Given<'t>) -> Result<bool, Diagnostic> {
        let Some(expr) = given.get("affine") else { return Ok(true) };
        match evaluate(self.options(at.instance), expr, Wanted::Affine)? {
            Constant::None => Ok(false),
            Constant::Learned => Ok(true),
            other => Err(Wanted::Affine.refuse(other, expr.span)),
        }
    }

    fn init(&self, at: &Context<'t>, expr: Option<&'t Expr<'t>>) -> Result<Option<Init>, Diagnostic> {
        let Some(expr) = expr else { return Ok(None) };
        match evaluate(self.options(at.instance), expr, Wanted::Initialization)? {
            Constant::Init(init) => Ok(Some(init)),
            other => Err(Wanted::Initialization.refuse(other, expr.span)),
        }
    }

    fn param(
        &mut self,
        at: &mut Context<'t>,
        call: &'t Call<'t>,
        given: &Given<'t>,
        span: Span,
    ) -> Result<ExprId, Diagnostic> {
        let suffix = at.suffix(call.name.text);
        let size = whole(self.options(at.instance), &call.arguments[0], 1, "a size")?;
        let weight = at.named(&format!("param{suffix}"), call.name.span)?;
        let init = self.init(at, given.get("init"))?.unwrap_or(Init::Zeros);
        self.push(Op::Parameter { size, weight, init }, span)
    }

    fn dense(
        &mut self,
        at: &mut Context<'t>,
        call: &'t Call<'t>,
        given: &Given<'t>,
        span: Span,
    ) -> Result<ExprId, Diagnostic> {
        let suffix = at.suffix(call.name.text);
        let options = self.options(at.instance);
        let size = given.get("n").map_or(Ok(1), |n| whole(options, n, 1, "a size"))?;
        let heads =
            given.get("heads").map_or(Ok(1), |heads| whole(options, heads, 1, "the number of heads"))?;
        let bias = match given
            .get("bias")
            .map(|expr| evaluate(options, expr, Wanted::Bias).map(|bias| (bias, expr.span)))
            .transpose()?
        {
            None | Some((Constant::Number(0.0), _)) => Some(Init::Zeros),
            Some((Constant::Number(number), _)) => Some(Init::Constant(number)),
            Some((Constant::Init(init), _)) => Some(init),
            Some((Constant::None, _)) => None,
            Some((Constant::Learned, place)) => {
                return Err(Diagnostic::new(place, "a bias cannot be `learned`: it always is")
                    .label("its initial value, or `none`, belongs here")
                    .help("leave `bias` out for one that begins as 0; write `bias = 1` for another"));
            }
        };
        let bias =
            bias.map(|init| Ok((at.named(&format!("bias{suffix}"), call.name.span)?, init))).transpose()?;
        let init = self.init(at, given.get("init"))?;
        let mut inputs = Vec::with_capacity(call.arguments.len());
        let mut seen = HashSet::new();
        for (index, argument) in call.arguments.iter().enumerate() {
            // What has no name, or one that is taken, is called by its place.
            let name = label(self.options(at.instance), argument)?.filter(|name| seen.insert(name.clone()));
            let name = name.unwrap_or_else(|| (index + 1).to_string());
            let weight = at.named(&format!("W{suffix}.{name}"), argument.span)?;
            inputs.push((self.expr(at, argument)?, weight));
        }
        self.push(Op::Dense(Box::new(Dense { inputs, size, bias, heads, init })), span)
    }
}
