//! exp: e^x.

use super::number::Number;
use super::rule::{DerivativeReads, Rule};

/// e^x.
pub struct Exp;

impl Rule for Exp {
    const NAME: &str = "exp";
    const READS: DerivativeReads = DerivativeReads::Value;

    #[inline(always)]
    fn value<N: Number>(x: N) -> N {
        x.exp()
    }

    #[inline(always)]
    fn derivative<N: Number>(v: N) -> N {
        v
    }
}
