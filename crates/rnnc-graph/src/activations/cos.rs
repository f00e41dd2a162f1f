//! cos: The cosine.

use super::number::Number;
use super::rule::{DerivativeReads, Rule};

/// The cosine.
pub struct Cos;

impl Rule for Cos {
    const NAME: &str = "cos";
    const READS: DerivativeReads = DerivativeReads::Argument;

    #[inline(always)]
    fn value<N: Number>(x: N) -> N {
        x.cos()
    }

    #[inline(always)]
    fn derivative<N: Number>(v: N) -> N {
        -v.sin()
    }
}
