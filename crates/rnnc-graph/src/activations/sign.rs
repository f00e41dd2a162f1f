//! sign: 1 where x is positive, -1 where it is negative, 0 where it is 0; no error flows back.

use super::number::Number;
use super::rule::{DerivativeReads, Rule};

/// 1 where x is positive, -1 where it is negative, 0 where it is 0; no error flows back.
pub struct Sign;

impl Rule for Sign {
    const NAME: &str = "sign";
    const READS: DerivativeReads = DerivativeReads::Argument;
    const FLOPS: u64 = 2;
    const FLAT: bool = true;

    #[inline(always)]
    fn value<N: Number>(x: N) -> N {
        let zero = N::constant(0.0);
        let below = N::choose(x.less(zero), N::constant(-1.0), x.or_nan(zero));
        N::choose(zero.less(x), N::constant(1.0), below)
    }

    #[inline(always)]
    fn derivative<N: Number>(_v: N) -> N {
        N::constant(0.0)
    }
}
