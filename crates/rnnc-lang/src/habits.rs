//! What people write by habit, from other languages and libraries, from papers and word processors; and how it is
//! written here. For the help of messages alone: nothing here decides what is right.

use crate::syntax::Comparison;
use crate::token::{Kind, RESERVED, Token};
use rnnc_graph::ops::Relation;

/// What to write instead of text that begins with a character from outside the language.
pub(crate) fn of_character(rest: &str) -> Option<String> {
    let first = rest.chars().next()?;
    Some(match first {
        '^' => "a square is `square(x)` or `x * x`; other powers are `exp(p * log(x))`".into(),
        '@' => "a matrix times a vector is `dense(x; n)`, with a weight matrix of its own and a bias".into(),
        '!' | '&' | '|' => {
            "comparisons are 0 or 1: both are `(a < b) * (c < d)`, one of them `max(a < b, c < d)`, not is `1 - (a < b)`"
                .into()
        }
        '?' => "a choice is `where(a > b, a, b)`".into(),
        '%' => "the remainder is `mod(a, b)`".into(),
        '"' | '\'' | '`' | '“' | '”' | '„' | '‘' | '’' | '′' => {
            "words stand without quotes, as in `init = glorot`; names have no quotes either".into()
        }
        '\\' => "functions are written as they are called: `tanh(x)`; names are made of letters".into(),
        '$' | '~' => {
            "names are made of the letters a-z and A-Z, digits and `_`, and nothing stands before them".into()
        }
        '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{fe63}' => "this looks like a minus sign: write `-`".into(),
        '×' | '⊙' | '·' | '∘' | '∗' | '⋅' | '•' => {
            "a product, unit by unit, is written `*`".into()
        }
        '÷' | '∕' => "a quotient is written `/`".into(),
        '←' | '→' | '≔' | '≡' => "an equation is a name, `=` and an expression".into(),
        '²' => "a square is `square(x)` or `x * x`".into(),
        '₀'..='₎' | 'ₐ'..='ₜ' => "a read of the frame before is written `h[t-1]`".into(),
        'σ' => "the logistic function is `sigmoid(x)`".into(),
        'α'..='ω' | 'Α'..='Ω' => {
            "names are made of the letters a-z and A-Z: write this one out, as in `alpha`".into()
        }
        // What stands for a sign of ASCII in East Asian texts.
        '\u{ff01}'..='\u{ff5e}' => match char::from_u32(first as u32 - 0xfee0) {
            Some(sign) => format!("this looks like `{sign}`: write that"),
            None => return None,
        },
        c if c.is_whitespace() => "this looks like a space, and is another character: write a space".into(),
        '\u{200b}'..='\u{200f}' | '\u{feff}' | '\u{2060}' => {
            "this character cannot be seen: delete it".into()
        }
        _ => return None,
    })
}

/// What to write instead of a function that there is none of.
pub(crate) fn of_function(name: &str) -> Option<&'static str> {
    let plain: String = name.chars().filter(|&c| c != '_').flat_map(char::to_lowercase).collect();
    Some(match plain.as_str() {
        "linear" | "fc" | "fullyconnected" | "affine" | "projection" | "proj" | "mlp" | "matmul" | "mm"
        | "bmm" | "mv" | "einsum" => "`dense(x; n)` is a weight matrix to n units and a bias",
        "embedding" | "embed" | "lookup" => "`dense(s; n)` of a symbol input is a table look-up",
        "dot" | "inner" => "a dot product is `sum(a * b)`; a weight matrix is in `dense(x; n)`",
        "logistic" | "expit" | "sigma" | "sigm" => "the logistic function is `sigmoid`",
        "swish" => "it is called `silu`",
        "lrelu" | "leaky" => "it is called `leaky_relu`",
        "ln" => "the natural logarithm is `log`",
        "cat" | "concatenate" | "stack" | "hstack" | "join" => "vectors are joined by `concat(a, b)`",
        "split" | "chunk" | "narrow" | "part" => "a part of a vector is `slice(a; from, to)`",
        "repeat" | "expand" | "tile" => "`broadcast(a; n)` repeats each unit, to n units",
        "pow" | "power" => "a square is `square(x)` or `x * x`; other powers are `exp(p * log(x))`",
        "rsqrt" => "write `1 / sqrt(x)`",
        "identity" | "id" => "leave it out: a name or an expression is itself",
        "batchnorm" | "batchnorm1d" | "norm" | "normalize" => "there are `layer_norm(a)` and `rms_norm(a)`",
        "clip" => "write `clamp(x; lo, hi)`",
        "relu6" => "write `clamp(x; 0, 6)`",
        "detach" | "nograd" => "it is called `stop_gradient`",
        "rnn" | "simplernn" | "rnncell" => "the simple recurrent network is `elman(x; n)`",
        "lstmcell" => "it is called `lstm`",
        "grucell" => "it is called `gru`",
        "bilstm" | "bidirectional" | "bigru" | "birnn" => {
            "both directions are `concat(lstm(x; n), reversed lstm(x; n))`, or so with another cell"
        }
        "conv" | "conv1d" | "convolution" => "a convolution over frames is `dense(x, x[t-1], x[t-2]; n)`",
        "delay" | "lag" | "prev" | "previous" | "last" | "shift" | "roll" => {
            "a value of the frame before is written `h[t-1]`"
        }
        "parameter" | "variable" | "weight" | "bias" => "`param(n)` is n learned numbers",
        "sgn" => "it is called `sign`",
        "heaviside" => "write `x > 0`",
        "ceil" => "write `-floor(-x)`",
        "trunc" => "write `sign(x) * floor(abs(x))`",
        "fmod" | "remainder" => "it is called `mod`",
        "arctan" => "it is called `atan`",
        "logaddexp" => "write `max(a, b) + log1p(exp(-abs(a - b)))`",
        "tan" => "write `sin(x) / cos(x)`",
        "ones" | "full" | "fill" => {
            "the number 1 for each of n units is `broadcast(1; n)`; a number alone fits any size"
        }
        "select" | "cond" | "if" | "ifelse" => "a choice is `where(a > b, a, b)`",
        _ => return None,
    })
}

/// What to write instead of an option that there is none of: its size goes by many names.
pub(crate) fn of_option(name: &str, options: &[&str]) -> Option<&'static str> {
    let plain: String = name.chars().filter(|&c| c != '_').flat_map(char::to_lowercase).collect();
    match plain.as_str() {
        "units" | "numunits" | "hidden" | "hiddensize" | "hiddendim" | "size" | "dim" | "outfeatures"
        | "features" | "outputsize" | "width" | "numhidden" | "d" | "hidden_units"
            if options.contains(&"n") =>
        {
            Some("the number of units is its option `n`")
        }
        "usebias" | "nobias" if options.contains(&"bias") => Some("`bias = none` leaves the bias out"),
        _ => None,
    }
}

/// What to write instead of a constant that there is none of.
pub(crate) fn of_constant(name: &str) -> Option<&'static str> {
    match name {
        "True" | "False" | "true" | "false" | "None" | "null" | "no" | "off" => {
            Some("there are no truth values; `none` leaves out what can be left out, as in `bias = none`")
        }
        "pi" | "PI" => Some("write 3.14159265"),
        _ => None,
    }
}

/// What to write instead of a name that there is none of, where `is_known` says which there are.
pub(crate) fn of_name(name: &str, is_known: impl Fn(&str) -> bool) -> Option<String> {
    for (suffix, read) in
        [("_prev", "[t-1]"), ("_tm1", "[t-1]"), ("_last", "[t-1]"), ("_old", "[t-1]"), ("_next", "[t+1]")]
    {
        if let Some(of) = name.strip_suffix(suffix) {
            let of = of.strip_suffix("_t").filter(|&of| is_known(of)).unwrap_or(of);
            let shown = if is_known(of) { of } else { "h" };
            return Some(format!("the value of another frame is written `{shown}{read}`"));
        }
    }
    if let Some(of) = name.strip_suffix("_t").filter(|&of| is_known(of)) {
        return Some(format!(
            "`{of}` is its value in the frame t itself; in the frame before it is `{of}[t-1]`"
        ));
    }
    if matches!(name, "pi" | "PI") {
        return Some("write 3.14159265".into());
    }
    if name == "t" {
        return Some("the number of the frame is not a value; `t` stands in `h[t-1]` alone".into());
    }
    None
}

/// What to say more of a name that there is none of, if it looks like that of a weight.
pub(crate) fn of_weight(name: &str) -> &'static str {
    let stem = name.split('_').next().unwrap_or(name);
    match matches!(stem, "W" | "U" | "V" | "R" | "b" | "w") || name.starts_with('W') && name.len() <= 4 {
        true => {
            "; weights need none: `dense(x; n)` has a weight matrix and a bias, `diag(x)` a weight for each unit, and `param(n)` is \
             n learned numbers"
        }
        false => "",
    }
}

/// How what is expected is written, where nothing closer to what was meant can be said.
pub(crate) fn how_to_write(expected: &[&str]) -> &'static str {
    let expects = |what: &str| expected.contains(&what);
    if expects("`{`") {
        "a block stands in braces: `network n { ... }` or `cell f(x; n) { ... }`"
    } else if expects("`]`") {
        "a read in another frame is written `h[t-1]` or `h[t+1]`"
    } else if expects("`:`") || expects("`vector`") {
        "an input is written `input x : vector(3)` or `input s : symbol(256)`"
    } else if expects("`,`") {
        "inputs and options are divided by `,`, and a `)` ends them"
    } else if expects("`)`") {
        "what begins with `(` ends with `)`"
    } else if expects("`(`") {
        "inputs, options and sizes stand in brackets, as in `cell f(x; n) { ... }` and `vector(3)`"
    } else if expects("an expression") {
        "an expression is made of numbers, names, calls such as `tanh(x)`, `+`, `-`, `*` and `/`"
    } else {
        "a name is made of the letters a-z and A-Z, digits and `_`, and does not begin with a digit"
    }
}

/// The place of the bracket that is open at a token, if one is.
fn opened_before(tokens: &[Token<'_>], index: usize) -> Option<usize> {
    let mut closed = 0usize;
    tokens[..index].iter().rposition(|token| match token.kind {
        Kind::Sign(')') => {
            closed += 1;
            false
        }
        Kind::Sign('(') if closed > 0 => {
            closed -= 1;
            false
        }
        Kind::Sign('(') => true,
        _ => false,
    })
}

/// What to write instead of a `,` in brackets that hold one expression.
fn of_comma_in_brackets(tokens: &[Token<'_>], index: usize) -> Option<String> {
    let open = opened_before(tokens, index)?;
    let number = |at: usize| match tokens.get(at)?.kind {
        Kind::Number(number) => Some(number),
        _ => None,
    };
    let before = open.checked_sub(1).map(|i| tokens[i].kind);
    Some(match before {
        Some(Kind::Name("vector")) => match (number(open + 1), number(index + 1)) {
            (Some(a), Some(b)) if index == open + 2 => {
                format!("an input has one size: of {a} by {b} numbers, write `vector({})`", a * b)
            }
            _ => "an input has one size: the number of all its numbers in a frame, as in `vector(12)`".into(),
        },
        Some(Kind::Name("symbol")) => {
            "a symbol input has one size: how many symbols there are, as in `symbol(256)`".into()
        }
        _ => "brackets hold one expression; vectors are joined by `concat(a, b)`".into(),
    })
}

/// Whether a name is the first word of a statement or block.
fn begins_a_statement(name: &str, next: Option<&Token<'_>>) -> bool {
    ["output", "input", "return", "start", "cell", "network"].contains(&name)
        || next.is_some_and(|t| t.kind == Kind::Sign('='))
}

/// What to write where a token does not fit.
pub(crate) fn of_token(tokens: &[Token<'_>], index: usize, expected: &[&str]) -> Option<String> {
    let at = |back: usize| index.checked_sub(back).map(|i| tokens[i]);
    let kind = |back: usize| at(back).map(|t| t.kind);
    let (found, before, two_before) = (tokens[index].kind, kind(1), kind(2));
    // Whether a token goes on where the one before ended.
    let adjoins = |back: usize| match (at(back + 1), at(back)) {
        (Some(a), Some(b)) => a.span.end == b.span.start,
        _ => false,
    };
    let expects = |what: &str| expected.contains(&what);
    Some(match (two_before, before, found) {
        // Numbers.
        (_, Some(Kind::Number(number)), Kind::Sign('.')) if adjoins(0) => format!("write `{number}.0`"),
        (_, _, Kind::Sign('.')) if expects("an expression") => {
            "a number begins with a digit: write `0.5`".into()
        }
        (Some(Kind::Number(number)), Some(Kind::Name(name)), _) if adjoins(1) => format!(
            "`{}` is stuck to the number {number}: numbers are digits with a point and an exponent, as in `1000`, `0.5` and \
             `1e-3`, and a product is written `2 * x`",
            crate::diagnostics::shortened(name)
        ),
        // Signs of other languages.
        (_, Some(Kind::Sign('*')), Kind::Sign('*')) if adjoins(0) => {
            "a square is `square(x)` or `x * x`; other powers are `exp(p * log(x))`".into()
        }
        (_, Some(Kind::Sign('/')), Kind::Sign('/' | '*')) if adjoins(0) => "a comment begins with `#`".into(),
        (_, _, Kind::Compare(_)) if expects("the end of the comparison") => {
            "one comparison at a time: both of two are `(a < b) * (b < c)`, for they are 0 or 1".into()
        }
        (_, _, Kind::Compare(Comparison { relation: Relation::Equal, .. })) if expects("`=`") => {
            "an equation has one `=`".into()
        }
        (_, Some(Kind::Name(_)), Kind::Compare(Comparison { relation: Relation::Less, turned: false }))
            if expects("`=`") =>
        {
            "an equation is a name, `=` and an expression".into()
        }
        (_, Some(Kind::Sign('+' | '-' | '*' | '/')), Kind::Sign('=')) if adjoins(0) => {
            "an equation gives a layer its whole value: `h = h[t-1] + x`".into()
        }
        // Reads in other frames.
        (_, Some(Kind::Name(name)), Kind::Sign('{')) if name.ends_with('_') && adjoins(0) => {
            let of = name.trim_end_matches('_');
            format!("a read of the frame before is written `{of}[t-1]`, of the next one `{of}[t+1]`")
        }
        (Some(Kind::Name(name)), Some(Kind::Sign('[')), _) if expects("`t`") => {
            let inside = tokens[index..].iter().map(|t| t.kind).take_while(|&k| k != Kind::Sign(']'));
            let slices = inside.clone().any(|k| k == Kind::Sign(':'));
            match inside.take(8).any(|k| k == Kind::Sign(',')) || slices {
                true => format!("some units of a vector are `slice({name}; from, to)`"),
                false => format!(
                    "a read of the frame before is written `{name}[t-1]`, of the next one `{name}[t+1]`; one unit is \
                     `slice({name}; 0, 1)`"
                ),
            }
        }
        (_, Some(Kind::Name(name)), Kind::Sign('[')) if expects("`=`") => format!(
            "an equation holds in every frame, so its name stands alone: `{name} = ...`; what it is before a sequence begins is \
             `start {name} = 0`"
        ),
        (_, _, Kind::Sign('[')) if expects("an expression") => {
            "several vectors are read by `dense(a, b; n)`, and joined by `concat(a, b)`; there are no lists"
                .into()
        }
        // Words of the language where a name belongs.
        (_, Some(Kind::Name(word)), Kind::Sign('=' | ',' | ':'))
            if RESERVED.contains(&word) && (expects("a name") || expects("an expression")) =>
        {
            format!("`{word}` is a word of the language; choose another name")
        }
        (_, Some(Kind::Name("network")), _) if expects("a name") => {
            "a network has a name: `network n { ... }`".into()
        }
        (_, Some(Kind::Name("cell")), _) if expects("a name") => {
            "a cell has a name: `cell f(x; n) { ... }`".into()
        }
        // Calls that are not.
        (Some(Kind::Name("reversed")), Some(Kind::Name(_)), _) if expects("`(`") => {
            "the call of a cell is reversed, as in `reversed lstm(x; 4)`".into()
        }
        (_, Some(Kind::Name("reversed")), _) if expects("the name of a cell") => {
            "the call of a cell is reversed, as in `reversed lstm(x; 4)`".into()
        }
        // Inputs and blocks.
        (_, Some(Kind::Name(kind @ ("vector" | "symbol"))), _) if expects("`(`") => format!(
            "a size stands in brackets: `{kind}({})`",
            match found {
                Kind::Number(number) => number,
                _ => 3.0,
            }
        ),
        (_, _, Kind::Sign(',')) if expects("`)`") && !expects("`,`") => of_comma_in_brackets(tokens, index)?,
        (Some(Kind::Name("input")), Some(Kind::Name(name)), _) if expects("`:`") => {
            format!(
                "an input has a size: `input {name} : vector(3)`, or `input {name} : symbol(256)` for one of 256 symbols"
            )
        }
        (_, Some(Kind::Sign(':')), _) if expects("`vector`") => {
            "an input is `vector(3)`, 3 numbers in each frame, or `symbol(256)`, one of 256 symbols".into()
        }
        (_, _, Kind::Sign(':')) if expects("`{`") => "a block stands in braces: `network n { ... }`".into(),
        (Some(Kind::Name("network")), Some(Kind::Name(name)), Kind::Sign('(')) if expects("`{`") => format!(
            "a network says in its block what it is given: `network {name} {{ input x : vector(3) ... }}`; only cells have \
             inputs in brackets"
        ),
        // Equations.
        (_, Some(Kind::Name(name)), Kind::Sign(sign @ ('+' | '-' | '*' | '/')))
            if expects("`=`") && tokens.get(index + 1).is_some_and(|t| t.kind == Kind::Sign('=')) =>
        {
            let name = crate::diagnostics::shortened(name);
            format!("an equation gives a layer its whole value, once: `{name} = {name}[t-1] {sign} ...`")
        }
        (Some(Kind::Name("start")), Some(Kind::Name(_)), _) if expects("`=`") && found != Kind::Sign('[') => {
            "a start is written with `=`, as in `start h = 0`".into()
        }
        (_, Some(Kind::Name(_)), Kind::Sign('.')) if expects("`=`") => {
            "an equation stands in the block of its cell, and has a name without a dot".into()
        }
        (Some(Kind::Name(_)), Some(Kind::Sign(':')), _) | (_, Some(Kind::Name(_)), Kind::Sign(':'))
            if expects("`=`") =>
        {
            "an equation and a start are written with `=`, as in `h = tanh(x)` and `start h = 0`".into()
        }
        (
            _,
            Some(Kind::Name(word @ ("let" | "var" | "const" | "def" | "float" | "double" | "auto"))),
            Kind::Name(name),
        ) if expects("`=`") => {
            format!("leave out `{word}`: `{name} = ...`")
        }
        (_, _, Kind::Name(_) | Kind::Number(_)) if expects("`=`") => {
            "an equation is a name, `=` and an expression, as in `h = tanh(x)`".into()
        }
        (_, Some(Kind::Name(name)), Kind::Sign('=')) if expects("`)`") => {
            format!("options stand after a `;`, as in `lstm(x; n = 4)`: write `;` before `{name}`")
        }
        (_, _, Kind::Name(name)) if expects("`)`") && begins_a_statement(name, tokens.get(index + 1)) => {
            "is a `)` missing?".into()
        }
        (_, _, Kind::Name(_) | Kind::Number(_)) if expects("`,`") && expects("`)`") => {
            format!("is a `,` missing before {found}?")
        }
        (_, _, Kind::Sign(sign @ (';' | ','))) if expects("an equation") => {
            format!("nothing stands at the end of an equation: leave out `{sign}`")
        }
        (_, _, Kind::Sign(sign @ (')' | ']'))) if expects("an equation") => {
            format!("is this `{sign}` one too many, or the one that opens missing?")
        }
        (Some(Kind::Sign('.')), Some(Kind::Name(name)), Kind::Sign('(')) => {
            format!("functions belong to nothing: write `{name}(...)`")
        }
        (_, Some(Kind::Sign(')')), Kind::Sign('(')) => {
            "a call has its inputs and options in one pair of brackets, as in `dense(x; 64)`".into()
        }
        (
            Some(Kind::Name("output") | Kind::Sign(',')),
            Some(Kind::Name(name)),
            Kind::Sign('(' | '=' | '+' | '-' | '*' | '/') | Kind::Compare(_),
        ) if expects("an equation") => {
            format!(
                "an output is a name: give the expression an equation, as in `y = ...`, and write `output {}`",
                match found {
                    Kind::Sign('=') => name,
                    _ => "y",
                }
            )
        }
        _ => return None,
    })
}
