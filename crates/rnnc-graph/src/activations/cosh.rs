//! cosh: (e^x + e^-x) / 2.

use super::number::Number;
use super::rule::{DerivativeReads, Rule};

/// (e^x + e^-x) / 2.
pub struct Cosh;

impl Rule for Cosh {
    const NAME: &str = "cosh";
    const READS: DerivativeReads = DerivativeReads::Argument;

    #[inline(always)]
    fn value<N: Number>(x: N) -> N {
        x.cosh()
    }

    #[inline(always)]
    fn derivative<N: Number>(v: N) -> N {
        v.sinh()
    }
}
