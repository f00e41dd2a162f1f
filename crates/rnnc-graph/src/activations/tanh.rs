//! tanh: The hyperbolic tangent.

use super::number::Number;
use super::rule::{DerivativeReads, Rule};

/// The hyperbolic tangent.
pub struct Tanh;

impl Rule for Tanh {
    const NAME: &str = "tanh";
    const READS: DerivativeReads = DerivativeReads::Value;
    const DERIVATIVE_FLOPS: u64 = 2;

    #[inline(always)]
    fn value<N: Number>(x: N) -> N {
        x.tanh()
    }

    #[inline(always)]
    fn derivative<N: Number>(v: N) -> N {
        (-v).mul_add(v, N::constant(1.0))
    }
}
