//! Text to tokens: names, numbers, signs. White space and comments go.

use crate::diagnostics::Diagnostic;
use crate::habits;
use crate::syntax::{Comparison, Span};
use crate::token::{Kind, Token};
use winnow::Parser;
use winnow::ascii::{digit1, multispace1, till_line_ending};
use winnow::combinator::{alt, opt, repeat};
use winnow::error::EmptyError;
use winnow::token::{one_of, take_while};

/// How deep brackets may nest. It bounds every recursion over the syntax tree.
pub(crate) const MAX_NESTING: usize = 200;

/// The tokens of a text, the last an end mark. Passes over characters that are not part of the language, with an
/// error for each kind of run of them; stops, with an error, at brackets nested too deep.
pub(crate) fn tokens<'t>(text_number: u32, text: &'t str) -> (Vec<Token<'t>>, Vec<Diagnostic>) {
    let place = |start: usize, end: usize| Span { text: text_number, start: start as u32, end: end as u32 };
    let (mut tokens, mut errors) = (Vec::new(), Vec::new());
    let mut strange_before: Vec<&str> = Vec::new();
    let mut depth = 0usize;
    let mut rest = text.strip_prefix('\u{feff}').unwrap_or(text);
    loop {
        rest = after_blank(rest);
        let start = text.len() - rest.len();
        let Ok(kind) = token(&mut rest) else {
            let Some(strange) = strange_run(rest) else {
                tokens.push(Token { kind: Kind::End, span: place(start, start) });
                return (tokens, errors);
            };
            // Once: a text from a word processor has many of a kind.
            if !strange_before.contains(&strange) {
                strange_before.push(strange);
                let shown: String = strange.chars().take(8).flat_map(shown).collect();
                let help = habits::of_character(rest).unwrap_or_else(|| {
                    "names are made of the letters a-z and A-Z, digits and `_`; a comment begins with `#`"
                        .into()
                });
                let place = place(start, start + strange.len());
                let error = Diagnostic::new(place, format!("`{shown}` is not part of the language"));
                errors.push(error.label("here").help(help));
            }
            rest = &rest[strange.len()..];
            continue;
        };
        let span = place(start, text.len() - rest.len());
        match kind {
            Kind::Sign('(' | '[' | '{') => depth += 1,
            Kind::Sign(')' | ']' | '}') => depth = depth.saturating_sub(1),
            Kind::Number(value) if !value.is_finite() => errors.push(
                Diagnostic::new(span, "a number too large to hold")
                    .label("larger than 1.8e308")
                    .help("write a smaller number"),
            ),
            _ => {}
        }
        if depth > MAX_NESTING {
            errors.push(
                Diagnostic::new(span, format!("brackets are nested more than {MAX_NESTING} deep"))
                    .label("this one is too deep")
                    .help("give an inner expression an equation of its own"),
            );
            tokens.push(Token { kind: Kind::End, span });
            return (tokens, errors);
        }
        tokens.push(Token { kind, span });
    }
}

/// A character that is seen as it is, or by its code.
fn shown(c: char) -> impl Iterator<Item = char> {
    let plain = matches!(c, '"' | '\'' | '\\').then_some(c);
    let escaped = plain.is_none().then(|| c.escape_debug());
    plain.into_iter().chain(escaped.into_iter().flatten())
}

// The parsers below only say yes or no; what a no means is said above.

fn after_blank(mut rest: &str) -> &str {
    let comment = ('#', till_line_ending).void();
    let blank: Result<(), EmptyError> = repeat(0.., alt((multispace1.void(), comment))).parse_next(&mut rest);
    // Nothing blank leaves the rest as it is.
    let _ = blank;
    rest
}

fn token<'t>(rest: &mut &'t str) -> Result<Kind<'t>, EmptyError> {
    alt((name, number, comparison, one_of(|c: char| "(){}[],;:=+-*/.".contains(c)).map(Kind::Sign)))
        .parse_next(rest)
}

fn comparison<'t>(rest: &mut &'t str) -> Result<Kind<'t>, EmptyError> {
    let Some(found) = Comparison::ALL.into_iter().find(|c| rest.starts_with(c.sign())) else {
        return Err(EmptyError);
    };
    *rest = &rest[found.sign().len()..];
    Ok(Kind::Compare(found))
}

fn name<'t>(rest: &mut &'t str) -> Result<Kind<'t>, EmptyError> {
    let letter = |c: char| c.is_ascii_alphabetic() || c == '_';
    (one_of(letter), take_while(0.., move |c: char| letter(c) || c.is_ascii_digit()))
        .take()
        .map(Kind::Name)
        .parse_next(rest)
}

fn number<'t>(rest: &mut &'t str) -> Result<Kind<'t>, EmptyError> {
    let exponent = (one_of(['e', 'E']), opt(one_of(['+', '-'])), digit1);
    // What is written like this, Rust's own reader takes; an exponent too large makes it infinite.
    (digit1, opt(('.', digit1)), opt(exponent)).take().try_map(str::parse).map(Kind::Number).parse_next(rest)
}

/// What begins no token: a run of characters from outside the language.
fn strange_run(rest: &str) -> Option<&str> {
    let first = rest.chars().next()?;
    let strange = |c: char| !c.is_ascii_graphic() && !c.is_ascii_whitespace();
    let end =
        if strange(first) { rest.find(|c| !strange(c)).unwrap_or(rest.len()) } else { first.len_utf8() };
    Some(&rest[..end])
}
