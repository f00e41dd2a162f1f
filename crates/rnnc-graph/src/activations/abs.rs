//! abs: |x|; at 0 its derivative is 0.

use super::number::Number;
use super::rule::{DerivativeReads, Rule};

/// |x|; at 0 its derivative is 0.
pub struct Abs;

impl Rule for Abs {
    const NAME: &str = "abs";
    const READS: DerivativeReads = DerivativeReads::Argument;
    const FLOPS: u64 = 2;

    #[inline(always)]
    fn value<N: Number>(x: N) -> N {
        x.abs()
    }

    #[inline(always)]
    fn derivative<N: Number>(v: N) -> N {
        let zero = N::constant(0.0);
        let below = N::choose(v.less(zero), N::constant(-1.0), v.or_nan(zero));
        N::choose(zero.less(v), N::constant(1.0), below)
    }
}
