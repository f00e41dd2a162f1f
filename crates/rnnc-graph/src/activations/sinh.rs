//! sinh: (e^x - e^-x) / 2, accurate near 0.

use super::number::Number;
use super::rule::{DerivativeReads, Rule};

/// (e^x - e^-x) / 2, accurate near 0.
pub struct Sinh;

impl Rule for Sinh {
    const NAME: &str = "sinh";
    const READS: DerivativeReads = DerivativeReads::Argument;

    #[inline(always)]
    fn value<N: Number>(x: N) -> N {
        x.sinh()
    }

    #[inline(always)]
    fn derivative<N: Number>(v: N) -> N {
        v.cosh()
    }
}
