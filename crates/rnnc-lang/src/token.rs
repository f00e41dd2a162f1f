//! What a text is made of: names, numbers, signs; and the words that are not names.

use crate::diagnostics::shortened;
use crate::syntax::{Comparison, Span};
use std::fmt;

/// Words that are not names.
pub(crate) const RESERVED: [&str; 7] = ["cell", "network", "input", "output", "return", "start", "reversed"];

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Kind<'t> {
    Name(&'t str),
    Number(f64),
    Sign(char),
    Compare(Comparison),
    End,
}

impl fmt::Display for Kind<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kind::Name(name) => write!(out, "`{}`", shortened(name)),
            Kind::Number(number) => write!(out, "the number {number}"),
            Kind::Sign(sign) => write!(out, "`{sign}`"),
            Kind::Compare(comparison) => write!(out, "`{}`", comparison.sign()),
            Kind::End => out.write_str("the end of the text"),
        }
    }
}

/// A token where it is written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Token<'t> {
    pub kind: Kind<'t>,
    pub span: Span,
}
