//! Constant expressions - sizes, delays, starts, options - and which value is meant for which option.

use crate::builtins::{Builtin, of_numbers};
use crate::diagnostics::{Diagnostic, listed, shortened, suggestion};
use crate::habits;
use crate::ir::Constant;
use crate::syntax::{Call, Expr, ExprKind, GivenOption, Name, Span};
use rnnc_graph::{Init, Operation};
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

/// What belongs where a constant stands. Messages say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    Number,
    Initialization,
    Bias,
    Affine,
    Start,
    /// The value of a cell's option: any constant.
    Any,
}

impl Wanted {
    fn label(self) -> &'static str {
        match self {
            Wanted::Number => "a number belongs here",
            Wanted::Initialization => "an initialization belongs here",
            Wanted::Bias => "its initial value, or `none`, belongs here",
            Wanted::Affine => "`none` or `learned` belongs here",
            Wanted::Start => "a number or `learned` belongs here",
            Wanted::Any => "a constant belongs here",
        }
    }

    fn help(self) -> &'static str {
        match self {
            Wanted::Number => {
                "sizes, delays and numbers in options are known before the network runs: write a number, or an option of the cell"
            }
            Wanted::Initialization => {
                "an initialization is `uniform(a)`, `normal(s)`, `glorot`, `orthogonal`, `zeros` or `constant(c)`"
            }
            Wanted::Bias => {
                "write its initial value, as in `bias = 1`, an initialization, or `bias = none` for no bias"
            }
            Wanted::Affine => "gain and bias are learned unless `affine = none`",
            Wanted::Start => {
                "write `start h = 0.5`, the same for all units and sequences, or `start h = learned` for a start that is trained"
            }
            Wanted::Any => {
                "an option is a number, `none`, `learned` or an initialization; layers are a cell's inputs"
            }
        }
    }

    /// The error of a constant of another kind.
    pub fn refuse(self, found: Constant, place: Span) -> Diagnostic {
        let found_is = found.described();
        let message = match self {
            Wanted::Number => format!("{found_is} is not a number"),
            Wanted::Initialization => format!("{found_is} is not an initialization"),
            Wanted::Bias => format!("a bias cannot be {found_is}"),
            Wanted::Affine => format!("`affine` cannot be {found_is}"),
            Wanted::Start => format!("a start cannot be {found_is}"),
            Wanted::Any => format!("an option cannot be {found_is}"),
        };
        let error = Diagnostic::new(place, message).label(self.label());
        match (self, found) {
            (Wanted::Number, Constant::Init(init)) => error.help(format!(
                "an initialization is given by the name of its option: `init = {}`",
                Constant::Init(init).written()
            )),
            (Wanted::Number, Constant::None) => {
                error.help("`none` is given by the name of its option, as in `bias = none`")
            }
            (Wanted::Number, Constant::Learned) => error.help(
                "`learned` is given by the name of its option, as in `affine = learned`, or to a start: `start h = learned`",
            ),
            _ => error.help(self.help()),
        }
    }
}

/// The value of a constant expression, in a cell with these options. Which kinds of constants fit, the caller says.
pub(crate) fn evaluate(
    options: &Options<'_>,
    expr: &Expr<'_>,
    wanted: Wanted,
) -> Result<Constant, Diagnostic> {
    let value = match &expr.kind {
        ExprKind::Number(number) => *number,
        ExprKind::Read { .. } => match expr.as_name() {
            Some(name) => return named(options, name, wanted),
            None => {
                return Err(Diagnostic::new(expr.span, "this changes from frame to frame")
                    .label(wanted.label())
                    .help(wanted.help()));
            }
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
        ExprKind::Compare(comparison, sides) => {
            let [left, right] = &**sides;
            let [a, b] = comparison.sides([number(options, left)?, number(options, right)?]);
            of_numbers(Operation::Compare { relation: comparison.relation }, a, b)
        }
        ExprKind::Call(call) => return called(options, expr, call, wanted),
    };
    finite(value, expr.span).map(Constant::Number)
}

fn named(options: &Options<'_>, name: Name<'_>, wanted: Wanted) -> Result<Constant, Diagnostic> {
    if let Some(&constant) = options.get(name.text) {
        return Ok(constant);
    }
    if let Some((_, constant)) = WORDS.into_iter().find(|&(word, _)| word == name.text) {
        return Ok(constant);
    }
    if INITS.contains(&name.text) {
        return Err(Diagnostic::new(name.span, format!("`{}` takes a number", name.text))
            .label("its number is missing")
            .help(format!("write it in brackets, as in `{}(0.1)`", name.text)));
    }
    let mut names: Vec<&str> = options.keys().copied().collect();
    names.sort_unstable();
    let known = names.clone();
    let what = match wanted {
        Wanted::Initialization => "an initialization",
        _ => "a constant",
    };
    let error = Diagnostic::new(name.span, format!("`{}` is not {what}", shortened(name.text)));
    if let Some(help) = habits::of_constant(name.text) {
        return Err(error.label("unknown").help(help));
    }
    let words = WORDS.into_iter().map(|(word, _)| word).chain(INITS);
    Err(match suggestion(name.text, names.into_iter().chain(words)) {
        Some(near) => error.label(near).help(wanted.help()),
        None if known.is_empty() => error.label(wanted.label()).help(wanted.help()),
        None => error.label(wanted.label()).help(format!(
            "{}; the options of this cell: {}",
            wanted.help(),
            listed(known)
        )),
    })
}

/// The error of a call that makes a layer, where a constant belongs.
fn makes_a_layer(call: &Call<'_>, place: Span, wanted: Wanted) -> Diagnostic {
    Diagnostic::new(place, format!("a call of `{}` makes a layer, not a constant", shortened(call.name.text)))
        .label(wanted.label())
        .help(wanted.help())
}

fn called(
    options: &Options<'_>,
    expr: &Expr<'_>,
    call: &Call<'_>,
    wanted: Wanted,
) -> Result<Constant, Diagnostic> {
    let name = call.name.text;
    if call.reversed || !call.options.is_empty() {
        return Err(makes_a_layer(call, expr.span, wanted));
    }
    if call.arguments.is_empty()
        && let Some((_, constant @ Constant::Init(_))) = WORDS.into_iter().find(|&(word, _)| word == name)
    {
        return Ok(constant);
    }
    let numbers = |count: usize| -> Result<Vec<f64>, Diagnostic> {
        if call.arguments.len() != count {
            let wanted = crate::diagnostics::counted(count, "number");
            let numbers = if count == 1 { "0.1" } else { "1, 2" };
            return Err(Diagnostic::new(expr.span, format!("`{}` takes {wanted}", shortened(name)))
                .label(format!("{} given", call.arguments.len()))
                .help(format!("write it as in `{name}({numbers})`")));
        }
        call.arguments.iter().map(|argument| number(options, argument)).collect()
    };
    if INITS.contains(&name) {
        let value = numbers(1)?[0];
        if name != "constant" && value < 0.0 {
            return Err(Diagnostic::new(
                call.arguments[0].span,
                format!("`{name}` takes a number of at least 0"),
            )
            .label(format!("this is {value}"))
            .help(match name {
                "uniform" => "`uniform(a)` draws numbers from -a to a",
                _ => "`normal(s)` draws numbers of standard deviation s",
            }));
        }
        return Ok(Constant::Init(match name {
            "uniform" => Init::Uniform(value),
            "normal" => Init::Normal(value),
            _ => Init::Constant(value),
        }));
    }
    let value = match Builtin::find(name) {
        Some(Builtin::Apply(f)) => f.apply(numbers(1)?[0]),
        Some(Builtin::Where) => {
            let numbers = numbers(3)?;
            if numbers[0] == 0.0 { numbers[2] } else { numbers[1] }
        }
        Some(Builtin::Pairs(operation) | Builtin::Pair(operation)) => {
            let numbers = numbers(2)?;
            of_numbers(operation, numbers[0], numbers[1])
        }
        Some(_) => return Err(makes_a_layer(call, expr.span, wanted)),
        None => {
            let error = Diagnostic::new(call.name.span, format!("`{}` is not a constant", shortened(name)))
                .help(wanted.help());
            let words = WORDS.into_iter().map(|(word, _)| word).chain(INITS).chain(Builtin::names());
            return Err(match suggestion(name, words) {
                Some(near) => error.label(near),
                None => error.label(wanted.label()),
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
    match evaluate(options, expr, Wanted::Number)? {
        Constant::Number(number) => Ok(number),
        other => Err(Wanted::Number.refuse(other, expr.span)),
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
        .help(match nearly_whole(value) {
            Some(near) => format!("rounding has moved it off {near}: write that number itself"),
            None => "write a whole number in that range".into(),
        }))
}

/// The whole number that a calculation has missed by its rounding.
fn nearly_whole(value: f64) -> Option<f64> {
    let near = value.round();
    (value != near && (value - near).abs() <= 1e-9 * near.abs()).then_some(near)
}

/// A whole number of frames, of any sign.
pub(crate) fn frames(options: &Options<'_>, expr: &Expr<'_>) -> Result<i64, Diagnostic> {
    let value = number(options, expr)?;
    if value.fract() == 0.0 && value.abs() <= MAX_SIZE as f64 {
        return Ok(value as i64);
    }
    if value.abs() > MAX_SIZE as f64 {
        return Err(Diagnostic::new(expr.span, format!("a delay is at most {MAX_SIZE} frames"))
            .label(format!("this is {value}"))
            .help("write a shorter delay"));
    }
    Err(Diagnostic::new(expr.span, "a delay is a whole number of frames")
        .label(format!("this is {value}"))
        .help(match nearly_whole(value) {
            Some(near) => format!("rounding has moved it off {near}: write `[t{near:+}]`"),
            None => "write `h[t-1]`, or with an option of the cell `h[t-k]`".into(),
        }))
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
