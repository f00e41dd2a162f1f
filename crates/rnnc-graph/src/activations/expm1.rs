//! expm1: e^x - 1, accurate near 0.

use super::number::Number;
use super::rule::{DerivativeReads, Rule};

/// E^x - 1, accurate near 0.
pub struct Expm1;

impl Rule for Expm1 {
    const NAME: &str = "expm1";
    const READS: DerivativeReads = DerivativeReads::Argument;

    #[inline(always)]
    fn value<N: Number>(x: N) -> N {
        x.exp_m1()
    }

    #[inline(always)]
    fn derivative<N: Number>(v: N) -> N {
        v.exp()
    }
}
