//! round: the nearest whole number, of two the even one; no error flows back.

use super::number::Number;
use super::rule::{DerivativeReads, Rule};

/// The nearest whole number, of two the even one; no error flows back.
pub struct Round;

impl Rule for Round {
    const NAME: &str = "round";
    const READS: DerivativeReads = DerivativeReads::Argument;
    const FLOPS: u64 = 2;
    const FLAT: bool = true;

    #[inline(always)]
    fn value<N: Number>(x: N) -> N {
        x.round()
    }

    #[inline(always)]
    fn derivative<N: Number>(_v: N) -> N {
        N::constant(0.0)
    }
}
