//! sin: The sine.

use super::number::Number;
use super::rule::{DerivativeReads, Rule};

/// The sine.
pub struct Sin;

impl Rule for Sin {
    const NAME: &str = "sin";
    const READS: DerivativeReads = DerivativeReads::Argument;

    #[inline(always)]
    fn value<N: Number>(x: N) -> N {
        x.sin()
    }

    #[inline(always)]
    fn derivative<N: Number>(v: N) -> N {
        v.cos()
    }
}
