//! square: x^2.

use super::number::Number;
use super::rule::{DerivativeReads, Rule};

/// x^2.
pub struct Square;

impl Rule for Square {
    const NAME: &str = "square";
    const READS: DerivativeReads = DerivativeReads::Argument;
    const FLOPS: u64 = 2;

    #[inline(always)]
    fn value<N: Number>(x: N) -> N {
        x * x
    }

    #[inline(always)]
    fn derivative<N: Number>(v: N) -> N {
        N::constant(2.0) * v
    }
}
