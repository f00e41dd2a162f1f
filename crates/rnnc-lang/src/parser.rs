//! Tokens to syntax trees. One token of look-ahead decides everywhere, so that time is linear in the text; an
//! error inside a cell or network is reported, and parsing goes on at the next one.

use crate::diagnostics::Diagnostic;
use crate::habits;
use crate::lexer::tokens;
use crate::syntax::{
    Call, Cell, Expr, ExprKind, File, GivenOption, Name, Network, OptionDeclaration, Span, Statement, join,
};
use crate::token::{Kind, RESERVED, Token};
use winnow::Parser;
use winnow::combinator::{alt, cut_err, fail, opt, preceded, repeat};
use winnow::error::{AddContext, ErrMode, ModalResult, ParserError};
use winnow::stream::{Stream, TokenSlice};
use winnow::token::any;

/// The version of the language that this crate reads.
pub const LANGUAGE_VERSION: u32 = 1;

type Tokens<'s, 't> = TokenSlice<'s, Token<'t>>;

/// A token that does not fit, and what would have.
#[derive(Clone, Debug)]
struct Unexpected {
    /// Tokens left, the wrong one included.
    left: usize,
    expected: Vec<&'static str>,
}

impl<'s, 't> ParserError<Tokens<'s, 't>> for Unexpected {
    type Inner = Self;

    fn from_input(input: &Tokens<'s, 't>) -> Self {
        Unexpected { left: input.len(), expected: Vec::new() }
    }

    fn or(mut self, mut other: Self) -> Self {
        match self.left.cmp(&other.left) {
            std::cmp::Ordering::Less => self,
            std::cmp::Ordering::Greater => other,
            std::cmp::Ordering::Equal => {
                self.expected.append(&mut other.expected);
                self
            }
        }
    }

    fn into_inner(self) -> Result<Self, Self> {
        Ok(self)
    }
}

impl<'s, 't> AddContext<Tokens<'s, 't>> for Unexpected {
    fn add_context(
        mut self,
        input: &Tokens<'s, 't>,
        start: &<Tokens<'s, 't> as Stream>::Checkpoint,
        what: &'static str,
    ) -> Self {
        let mut at_start = *input;
        at_start.reset(start);
        if at_start.len() == self.left {
            self.expected = vec![what];
        }
        self
    }
}

type Parsed<T> = ModalResult<T, Unexpected>;

/// Reads a text. What can be read is returned beside the errors.
pub(crate) fn parse<'t>(text_number: u32, text: &'t str) -> (File<'t>, Vec<Diagnostic>) {
    let (tokens, mut errors) = tokens(text_number, text);
    let mut file = File::default();
    if !errors.is_empty() {
        // What else would be said is mostly their echo.
        return (file, errors);
    }
    let mut input = TokenSlice::new(tokens.as_slice());
    if let Some(error) = version(&mut input) {
        // A newer language may mean anything by the rest.
        return (file, vec![error]);
    }
    while input.first().is_some_and(|token| token.kind != Kind::End) {
        let before = input.len();
        let Err(error) = item(&mut input, &mut file) else { continue };
        let Ok(error) = error.into_inner() else { break };
        errors.push(describe(&tokens, &error));
        // On from the next cell or network: past the wrong token, and past the head just tried.
        let resume = (tokens.len() - error.left).max(tokens.len() - before + 1);
        let next = tokens.iter().skip(resume).position(|t| matches!(t.kind, Kind::Name("cell" | "network")));
        let Some(next) = next else { break };
        input = TokenSlice::new(&tokens[resume + next..]);
    }
    (file, errors)
}

/// Passes over `rnn 1`, if the text begins so. An error if it is a newer one.
fn version(input: &mut Tokens<'_, '_>) -> Option<Diagnostic> {
    let (first, second) = (input.first()?, input.get(1)?);
    if first.kind != Kind::Name("rnn") {
        return None;
    }
    let current = f64::from(LANGUAGE_VERSION);
    match second.kind {
        Kind::Number(number) if number == current => {
            input.next_token();
            input.next_token();
            None
        }
        Kind::Number(number) if number > current => Some(
            Diagnostic::new(second.span, format!("this text is in version {number} of the language"))
                .label(format!("this rnnc reads version {LANGUAGE_VERSION}"))
                .help("use a newer rnnc"),
        ),
        _ => Some(
            Diagnostic::new(second.span, format!("`rnn` is followed by {}", second.kind))
                .label("the version of the language belongs here")
                .help(format!("write `rnn {LANGUAGE_VERSION}`, or leave the line out")),
        ),
    }
}

fn describe(tokens: &[Token<'_>], error: &Unexpected) -> Diagnostic {
    // The end mark is always there to be the wrong token.
    let index = tokens.len().saturating_sub(error.left).min(tokens.len() - 1);
    let found = tokens[index];
    let mut expected: Vec<&str> = Vec::new();
    for what in &error.expected {
        if !expected.contains(what) {
            expected.push(what);
        }
    }
    let wanted = match expected.split_last() {
        None => "something else".to_owned(),
        Some((last, [])) => (*last).to_owned(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
    };
    let error = Diagnostic::new(found.span, format!("expected {wanted}, found {}", found.kind))
        .label(format!("expected {wanted}"));
    if let Some(help) = habits::of_token(tokens, index, &expected) {
        return error.help(help);
    }
    let help = match found.kind {
        Kind::Name(word) if RESERVED.contains(&word) && expected.iter().any(|e| e.contains("name") || *e == "an expression") => {
            format!("`{word}` is a word of the language; choose another name")
        }
        Kind::Sign('[') => {
            "only a name can be read in another frame, as in `h[t-1]`; give the expression an equation of its own".into()
        }
        Kind::End => "the text ends too early; is a `}` or `)` missing?".into(),
        Kind::Name(_) if expected.contains(&"`t`") => "a read in another frame is written `h[t-1]` or `h[t+1]`".into(),
        _ if expected.contains(&"`cell`") => {
            "a text is a list of `cell NAME(inputs; options) { ... }` and `network NAME { ... }`".into()
        }
        _ if expected.contains(&"an equation") || expected.contains(&"`=`") => {
            "an equation is a name, `=` and an expression, as in `h = tanh(dense(x, h[t-1]; 64))`".into()
        }
        _ => habits::how_to_write(&expected).into(),
    };
    error.help(help)
}

fn kind<'s, 't: 's>(wanted: Kind<'static>) -> impl FnMut(&mut Tokens<'s, 't>) -> Parsed<Span> {
    move |input| any.verify_map(|t: &Token<'t>| (t.kind == wanted).then_some(t.span)).parse_next(input)
}

/// A sign, named in errors.
fn sign<'s, 't: 's>(
    sign: char,
    named: &'static str,
) -> impl Parser<Tokens<'s, 't>, Span, ErrMode<Unexpected>> {
    kind(Kind::Sign(sign)).context(named)
}

fn word<'s, 't: 's>(
    word: &'static str,
    named: &'static str,
) -> impl Parser<Tokens<'s, 't>, Span, ErrMode<Unexpected>> {
    kind(Kind::Name(word)).context(named)
}

fn any_name<'t>(input: &mut Tokens<'_, 't>) -> Parsed<Name<'t>> {
    any.verify_map(|t: &Token<'t>| match t.kind {
        Kind::Name(text) if !RESERVED.contains(&text) => Some(Name { text, span: t.span }),
        _ => None,
    })
    .parse_next(input)
}

fn identifier<'t>(input: &mut Tokens<'_, 't>) -> Parsed<Name<'t>> {
    any_name.context("a name").parse_next(input)
}

fn item<'t>(input: &mut Tokens<'_, 't>, file: &mut File<'t>) -> Parsed<()> {
    if opt(word("cell", "`cell`")).parse_next(input)?.is_some() {
        file.cells.push(cut_err(cell).parse_next(input)?);
    } else {
        alt((word("cell", "`cell`"), word("network", "`network`"))).parse_next(input)?;
        let (name, block) = cut_err((identifier, block)).parse_next(input)?;
        file.networks.push(Network { name, block });
    }
    Ok(())
}

fn cell<'t>(input: &mut Tokens<'_, 't>) -> Parsed<Cell<'t>> {
    let before = input.len();
    let name = identifier(input)?;
    sign('(', "`(`").parse_next(input)?;
    let inputs = if ends_list(input) { vec![] } else { list(identifier).parse_next(input)? };
    let mut options = Vec::new();
    if opt(kind(Kind::Sign(';'))).parse_next(input)?.is_some() && !ends_list(input) {
        options = list(option_declaration).parse_next(input)?;
    }
    alt((sign(',', "`,`"), sign(')', "`)`"))).parse_next(input)?;
    let block = block(input)?;
    Ok(Cell { name, inputs, options, block, tokens: before - input.len() })
}

/// Whether a list in a head or call is over before it began.
fn ends_list(input: &Tokens<'_, '_>) -> bool {
    input.first().is_some_and(|t| matches!(t.kind, Kind::Sign(')' | ';')))
}

fn option_declaration<'t>(input: &mut Tokens<'_, 't>) -> Parsed<OptionDeclaration<'t>> {
    let name = identifier(input)?;
    let default = opt(preceded(sign('=', "`=`"), cut_err(expression))).parse_next(input)?;
    Ok(OptionDeclaration { name, default })
}

fn block<'t>(input: &mut Tokens<'_, 't>) -> Parsed<Vec<Statement<'t>>> {
    sign('{', "`{`").parse_next(input)?;
    let mut statements = Vec::new();
    while opt(kind(Kind::Sign('}'))).parse_next(input)?.is_none() {
        statements.push(cut_err(statement).parse_next(input)?);
    }
    Ok(statements)
}

fn statement<'t>(input: &mut Tokens<'_, 't>) -> Parsed<Statement<'t>> {
    let Some(&Token { kind: Kind::Name(word), span: first }) = input.first() else {
        return fail.context("an equation").parse_next(input);
    };
    match word {
        "input" => preceded(any, input_statement).parse_next(input),
        "start" => preceded(any, start).parse_next(input),
        "output" => preceded(any, list(read)).map(|values| Statement::Output { values }).parse_next(input),
        "return" => {
            let values: Vec<Expr<'t>> = preceded(any, list(expression)).parse_next(input)?;
            Ok(Statement::Return { span: join(first, values.last().map_or(first, |v| v.span)), values })
        }
        _ => equation(input),
    }
}

fn input_statement<'t>(input: &mut Tokens<'_, 't>) -> Parsed<Statement<'t>> {
    let name = identifier(input)?;
    sign(':', "`:`").parse_next(input)?;
    let symbol = alt((word("vector", "`vector`").value(false), word("symbol", "`symbol`").value(true)));
    let symbol = { symbol }.parse_next(input)?;
    sign('(', "`(`").parse_next(input)?;
    let size = expression(input)?;
    sign(')', "`)`").parse_next(input)?;
    Ok(Statement::Input { name, symbol, size })
}

fn start<'t>(input: &mut Tokens<'_, 't>) -> Parsed<Statement<'t>> {
    let name = identifier(input)?;
    sign('=', "`=`").parse_next(input)?;
    Ok(Statement::Start { name, value: expression(input)? })
}

fn equation<'t>(input: &mut Tokens<'_, 't>) -> Parsed<Statement<'t>> {
    let names: Vec<Name<'t>> = list(identifier).parse_next(input)?;
    sign('=', "`=`").parse_next(input)?;
    let value = expression(input)?;
    // A list has at least one part.
    let span = names.first().map_or(value.span, |first| join(first.span, value.span));
    Ok(Statement::Equation { names, value, span })
}

/// One or more, with commas between.
fn list<'s, 't: 's, T>(
    mut part: impl FnMut(&mut Tokens<'s, 't>) -> Parsed<T>,
) -> impl FnMut(&mut Tokens<'s, 't>) -> Parsed<Vec<T>> {
    move |input| {
        let mut parts = vec![cut_err(&mut part).parse_next(input)?];
        while opt(kind(Kind::Sign(','))).parse_next(input)?.is_some() {
            parts.push(cut_err(&mut part).parse_next(input)?);
        }
        Ok(parts)
    }
}

/// A sum or a comparison of two, a product, or a part of one.
fn expression<'t>(input: &mut Tokens<'_, 't>) -> Parsed<Expr<'t>> {
    let left = sum(input)?;
    let comparison = any.verify_map(|t: &Token<'t>| match t.kind {
        Kind::Compare(comparison) => Some(comparison),
        _ => None,
    });
    let Some(comparison) = opt(comparison).parse_next(input)? else { return Ok(left) };
    let right = cut_err(sum).parse_next(input)?;
    let span = join(left.span, right.span);
    if let Some(Token { kind: Kind::Compare(_), .. }) = input.first() {
        return cut_err(fail.context("the end of the comparison")).parse_next(input);
    }
    Ok(Expr { kind: ExprKind::Compare(comparison, Box::new([left, right])), span })
}

fn sum<'t>(input: &mut Tokens<'_, 't>) -> Parsed<Expr<'t>> {
    let first = product(input)?;
    let plus = kind(Kind::Sign('+')).value(false);
    let minus = kind(Kind::Sign('-')).value(true);
    let rest: Vec<_> = repeat(0.., (alt((plus, minus)), cut_err(product))).parse_next(input)?;
    Ok(flat(first, rest, ExprKind::Sum))
}

fn product<'t>(input: &mut Tokens<'_, 't>) -> Parsed<Expr<'t>> {
    let first = signed(input)?;
    let times = kind(Kind::Sign('*')).value(false);
    let over = kind(Kind::Sign('/')).value(true);
    let rest: Vec<_> = repeat(0.., (alt((times, over)), cut_err(signed))).parse_next(input)?;
    Ok(flat(first, rest, ExprKind::Product))
}

fn flat<'t>(
    first: Expr<'t>,
    rest: Vec<(bool, Expr<'t>)>,
    make: fn(Vec<(bool, Expr<'t>)>) -> ExprKind<'t>,
) -> Expr<'t> {
    let Some((_, last)) = rest.last() else { return first };
    let span = join(first.span, last.span);
    let mut parts = vec![(false, first)];
    parts.extend(rest);
    Expr { kind: make(parts), span }
}

/// Any number of minus signs, and what they stand before.
fn signed<'t>(input: &mut Tokens<'_, 't>) -> Parsed<Expr<'t>> {
    let signs: Vec<Span> = repeat(0.., kind(Kind::Sign('-'))).parse_next(input)?;
    let Some(&first) = signs.first() else { return primary(input) };
    let operand = cut_err(primary).parse_next(input)?;
    let span = join(first, operand.span);
    Ok(Expr { kind: ExprKind::Sum(vec![(signs.len() % 2 == 1, operand)]), span })
}

fn primary<'t>(input: &mut Tokens<'_, 't>) -> Parsed<Expr<'t>> {
    let found = input.first().map(|t| (t.kind, t.span, input.get(1).map(|t| t.kind)));
    match found {
        Some((Kind::Number(number), span, _)) => {
            input.next_token();
            Ok(Expr { kind: ExprKind::Number(number), span })
        }
        Some((Kind::Sign('('), ..)) => {
            input.next_token();
            let inner = cut_err(expression).parse_next(input)?;
            closing(input)?;
            Ok(inner)
        }
        Some((Kind::Name("reversed"), span, _)) => {
            input.next_token();
            let name = cut_err(any_name.context("the name of a cell")).parse_next(input)?;
            cut_err(|input: &mut Tokens<'_, 't>| call(input, true, span, name)).parse_next(input)
        }
        Some((Kind::Name(_), _, Some(Kind::Sign('(')))) => {
            let name = any_name.context("an expression").parse_next(input)?;
            cut_err(|input: &mut Tokens<'_, 't>| call(input, false, name.span, name)).parse_next(input)
        }
        _ => read.context("an expression").parse_next(input),
    }
}

fn closing<'t>(input: &mut Tokens<'_, 't>) -> Parsed<Span> {
    cut_err(sign(')', "`)`")).parse_next(input)
}

fn call<'t>(input: &mut Tokens<'_, 't>, reversed: bool, first: Span, name: Name<'t>) -> Parsed<Expr<'t>> {
    sign('(', "`(`").parse_next(input)?;
    let arguments = if ends_list(input) { vec![] } else { list(expression).parse_next(input)? };
    let mut options = Vec::new();
    if opt(kind(Kind::Sign(';'))).parse_next(input)?.is_some() && !ends_list(input) {
        options = list(given_option).parse_next(input)?;
    }
    // The comma was tried before; it is here to be named.
    let last = cut_err(alt((sign(',', "`,`"), sign(')', "`)`")))).parse_next(input)?;
    let call = Call { reversed, name, arguments, options };
    Ok(Expr { kind: ExprKind::Call(Box::new(call)), span: join(first, last) })
}

fn given_option<'t>(input: &mut Tokens<'_, 't>) -> Parsed<GivenOption<'t>> {
    let named = input.get(1).is_some_and(|t| t.kind == Kind::Sign('='));
    let name = if named {
        let name = identifier(input)?;
        input.next_token();
        Some(name)
    } else {
        None
    };
    Ok(GivenOption { name, value: expression(input)? })
}

/// `h`, `h1.c`, `h[t-1]`
fn read<'t>(input: &mut Tokens<'_, 't>) -> Parsed<Expr<'t>> {
    let first = identifier(input)?;
    let mut path = vec![first];
    while opt(kind(Kind::Sign('.'))).parse_next(input)?.is_some() {
        path.push(cut_err(identifier).parse_next(input)?);
    }
    let mut span = join(first.span, path[path.len() - 1].span);
    let mut offset = None;
    if let Some(open) = opt(kind(Kind::Sign('['))).parse_next(input)? {
        cut_err(word("t", "`t`")).parse_next(input)?;
        let plus = kind(Kind::Sign('+')).value(false);
        let minus = kind(Kind::Sign('-')).value(true);
        let terms: Vec<_> = repeat(0.., (alt((plus, minus)), cut_err(product))).parse_next(input)?;
        let close = cut_err(alt((sign('+', "`+`"), sign('-', "`-`"), sign(']', "`]`")))).parse_next(input)?;
        span = join(span, close);
        offset = Some(Box::new(Expr { kind: ExprKind::Sum(terms), span: join(open, close) }));
    }
    Ok(Expr { kind: ExprKind::Read { path, offset }, span })
}
