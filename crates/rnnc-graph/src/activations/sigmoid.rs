//! sigmoid: 1 / (1 + e^-x).

use super::number::Number;
use super::rule::{DerivativeReads, Rule};

/// 1 / (1 + e^-x).
pub struct Sigmoid;

impl Rule for Sigmoid {
    const NAME: &str = "sigmoid";
    const READS: DerivativeReads = DerivativeReads::Value;
    const DERIVATIVE_FLOPS: u64 = 2;

    #[inline(always)]
    fn value<N: Number>(x: N) -> N {
        x.sigmoid()
    }

    #[inline(always)]
    fn derivative<N: Number>(v: N) -> N {
        v * (N::constant(1.0) - v)
    }
}
