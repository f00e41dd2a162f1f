//! Constant expressions - sizes, delays, options - and which value is meant for which option.

use crate::builtins::Builtin;
use crate::diagnostics::{Diagnostic, listed, shortened, suggestion};
use crate::habits;
use crate::ir::Constant;
use crate::syntax::{Call, Expr, ExprKind, GivenOption, Name, Span};
use rnnc_graph::Init;
use std::collections::HashMap;

/// The most units of a layer, and the longest delay: what the graph can count in half of 32 bits.
pub(crate) const MAX_SIZE: usize = (1 << 31) - 1;

/// Words that stand for constants where no option has the name.
const WORDS: [(&str, Constant); 5] = [
    ("none", Constant::None),
    ("learned", Constant::Learned),
    ("glorot", Constant::Init(Init::Glorot)),
    ("orthogonal", Constant::Init(Init::Orthogonal)),
    ("zeros", Constant::Init(Init::Zeros)),
];

const INITS: [&str; 3] = ["uniform", "normal", "constant"];

type Options<'t> = HashMap<&'t str, Constant>;

/// The value of a constant expression, in a cell with these options.
pub(crate) fn evaluate(options: &Options<'_>, expr: &Expr<'_>) -> Result<Constant, Diagnostic> {
    let value = match &expr.kind {
        ExprKind::Number(number) => *number,
        ExprKind::Read { .. } => match expr.as_name() {
            Some(name) => return named(options, name),
            None => return Err(varies(expr)),
        },
        ExprKind::Sum(terms) => {
            let mut sum = 0.0;
            for (negative, term) in terms {
                let value = number(options, term)?;
                sum += if *negative { -value } else { value };
            }
            sum
        }
        ExprKind::Product(factors) => {
            let mut product = 1.0;
            for (divide, factor) in factors {
                let value = number(options, factor)?;
                if *divide && value == 0.0 {
                    return Err(division_by_zero(factor.span));
                }
                product = if *divide { product / value } else { product * value };
            }
            product
        }
        ExprKind::Call(call) => return called(options, expr, call),
    };
    finite(value, expr.span).map(Constant::Number)
}

fn named(options: &Options<'_>, name: Name<'_>) -> Result<Constant, Diagnostic> {
    if let Some(&constant) = options.get(name.text) {
        return Ok(constant);
    }
    if let Some((_, constant)) = WORDS.into_iter().find(|&(word, _)| word == name.text) {
        return Ok(constant);
    }
    let mut names: Vec<&str> = options.keys().copied().collect();
    names.sort_unstable();
    let known = names.clone();
    let error = Diagnostic::new(name.span, format!("`{}` is no constant", shortened(name.text)));
    if let Some(help) = habits::of_constant(name.text) {
        return Err(error.label("unknown").help(help));
    }
    Err(match suggestion(name.text, names.into_iter().chain(WORDS.into_iter().map(|(word, _)| word))) {
        Some(near) => error.label(near),
        None if known.is_empty() => error.label("a number belongs here").help("here only numbers can stand"),
        None => error
            .label("a number or an option belongs here")
            .help(format!("the options of this cell: {}", listed(known))),
    })
}

/// The error of a value that changes from frame to frame where a constant belongs.
fn varies(expr: &Expr<'_>) -> Diagnostic {
    Diagnostic::new(expr.span, "this changes from frame to frame")
        .label("a constant belongs here")
        .help("sizes, delays and options are made of numbers and the cell's options")
}

fn called(options: &Options<'_>, expr: &Expr<'_>, call: &Call<'_>) -> Result<Constant, Diagnostic> {
    let name = call.name.text;
    if call.reversed || !call.options.is_empty() {
        return Err(varies(expr));
    }
    if call.arguments.is_empty()
        && let Some((_, constant @ Constant::Init(_))) = WORDS.into_iter().find(|&(word, _)| word == name)
    {
        return Ok(constant);
    }
    let numbers = |count: usize| -> Result<Vec<f64>, Diagnostic> {
        if call.arguments.len() != count {
            let wanted = crate::diagnostics::counted(count, "number");
            return Err(Diagnostic::new(expr.span, format!("`{}` takes {wanted}", shortened(name)))
                .label(format!("{} given", call.arguments.len())));
        }
        call.arguments.iter().map(|argument| number(options, argument)).collect()
    };
    if INITS.contains(&name) {
        let value = numbers(1)?[0];
        if name != "constant" && value < 0.0 {
            return Err(Diagnostic::new(
                call.arguments[0].span,
                format!("`{name}` takes no negative number"),
            )
            .label(format!("this is {value}")));
        }
        return Ok(Constant::Init(match name {
            "uniform" => Init::Uniform(value),
            "normal" => Init::Normal(value),
            _ => Init::Constant(value),
        }));
    }
    let value = match Builtin::find(name) {
        Some(Builtin::Apply(f)) => f.apply(numbers(1)?[0]),
        Some(Builtin::Max) => numbers(2)?.into_iter().fold(f64::NEG_INFINITY, f64::max),
        Some(Builtin::Min) => numbers(2)?.into_iter().fold(f64::INFINITY, f64::min),
        Some(_) => return Err(varies(expr)),
        None => {
            let error = Diagnostic::new(call.name.span, format!("`{}` is no constant", shortened(name)));
            let words = WORDS.into_iter().map(|(word, _)| word).chain(INITS).chain(Builtin::names());
            return Err(match suggestion(name, words) {
                Some(near) => error.label(near),
                None => error.label("a number belongs here"),
            });
        }
    };
    finite(value, expr.span).map(Constant::Number)
}

/// The error of a constant division by 0.
pub(crate) fn division_by_zero(place: Span) -> Diagnostic {
    Diagnostic::new(place, "a division by 0").label("this is 0").help("divide by another number")
}

/// The number, unless it is none that an executor in single precision could hold.
pub(crate) fn finite(value: f64, place: Span) -> Result<f64, Diagnostic> {
    if value.is_finite() {
        let single = value as f32;
        // Subnormal numbers are 0 on a CPU.
        let small = value != 0.0 && single.abs() < f32::MIN_POSITIVE;
        if single.is_finite() && !small {
            return Ok(value);
        }
        let (what, bound) = match small {
            true => ("small", "the smallest number but 0 is about 1.2e-38"),
            false => ("large", "the largest number is about 3.4e38"),
        };
        return Err(Diagnostic::new(place, format!("a number too {what} for single precision"))
            .label(format!("this is {value:e}"))
            .help(format!("networks are computed in single precision, where {bound}")));
    }
    Err(Diagnostic::new(
        place,
        format!("a constant that is {}", if value.is_nan() { "not a number" } else { "infinite" }),
    )
    .label("worked out before the network runs")
    .help("constants are finite numbers"))
}

/// The value of a constant expression that is a number.
pub(crate) fn number(options: &Options<'_>, expr: &Expr<'_>) -> Result<f64, Diagnostic> {
    match evaluate(options, expr)? {
        Constant::Number(number) => Ok(number),
        other => Err(Diagnostic::new(expr.span, format!("{} is no number", other.described()))
            .label("a number belongs here")),
    }
}

/// A whole number from `least` to [`MAX_SIZE`].
pub(crate) fn whole(
    options: &Options<'_>,
    expr: &Expr<'_>,
    least: usize,
    what: &str,
) -> Result<usize, Diagnostic> {
    let value = number(options, expr)?;
    if value.fract() == 0.0 && value >= least as f64 && value <= MAX_SIZE as f64 {
        return Ok(value as usize);
    }
    Err(Diagnostic::new(expr.span, format!("{what} is a whole number from {least} to {MAX_SIZE}"))
        .label(format!("this is {value}"))
        .help("sizes, delays and options are worked out before the network runs"))
}

/// A whole number of frames, of any sign.
pub(crate) fn frames(options: &Options<'_>, expr: &Expr<'_>) -> Result<i64, Diagnostic> {
    let value = number(options, expr)?;
    if value.fract() == 0.0 && value.abs() <= MAX_SIZE as f64 {
        return Ok(value as i64);
    }
    Err(Diagnostic::new(expr.span, "a delay is a whole number of frames")
        .label(format!("this is {value}"))
        .help("write `h[t-1]`, or with an option of the cell `h[t-k]`"))
}

/// Which of the values given in a call is for which option, by position first and then by name.
pub(crate) fn matched<'e, 't>(
    callee: Name<'_>,
    names: &[&str],
    given: &'e [GivenOption<'t>],
) -> Result<Vec<Option<&'e Expr<'t>>>, Diagnostic> {
    let mut values: Vec<Option<&Expr<'t>>> = vec![None; names.len()];
    let mut after_named = None;
    let callee = shortened(callee.text);
    let known = || {
        if names.is_empty() {
            "it has no options".into()
        } else {
            format!("its options: {}", listed(names.iter().copied()))
        }
    };
    for (position, option) in given.iter().enumerate() {
        let index = match option.name {
            None if after_named.is_some() => {
                return Err(Diagnostic::new(
                    option.value.span,
                    "an option without a name after one with a name",
                )
                .label("which option is this?")
                .help(format!("write its name before it; {}", known())));
            }
            None if position >= names.len() => {
                return Err(Diagnostic::new(
                    option.value.span,
                    format!("`{callee}` has no option number {}", position + 1),
                )
                .label("one too many")
                .help(known()));
            }
            None => position,
            Some(name) => {
                after_named = Some(name);
                let Some(index) = names.iter().position(|&n| n == name.text) else {
                    let error = Diagnostic::new(
                        name.span,
                        format!("`{callee}` has no option `{}`", shortened(name.text)),
                    );
                    return Err(match suggestion(name.text, names.iter().copied()) {
                        Some(near) => error.label(near),
                        None => error
                            .label("unknown")
                            .help(habits::of_option(name.text, names).map_or_else(known, String::from)),
                    });
                };
                index
            }
        };
        if let Some(first) = values[index] {
            let place = option.name.map_or(option.value.span, |name| name.span);
            return Err(Diagnostic::new(
                place,
                format!("option `{}` of `{callee}` is given twice", names[index]),
            )
            .label("the second value")
            .also(first.span, "the first")
            .help("keep one of them"));
        }
        values[index] = Some(&option.value);
    }
    Ok(values)
}
