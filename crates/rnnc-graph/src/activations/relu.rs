//! relu: x where it is positive, else 0; at 0 its derivative is 0.

use super::number::Number;
use super::rule::{DerivativeReads, Rule};

/// x where it is positive, else 0; at 0 its derivative is 0.
pub struct Relu;

impl Rule for Relu {
    const NAME: &str = "relu";
    const READS: DerivativeReads = DerivativeReads::Value;
    const FLOPS: u64 = 2;
    const MASKS: bool = true;

    #[inline(always)]
    fn value<N: Number>(x: N) -> N {
        let zero = N::constant(0.0);
        N::choose(x.less(zero), zero, x)
    }

    #[inline(always)]
    fn derivative<N: Number>(v: N) -> N {
        let zero = N::constant(0.0);
        let one = N::constant(1.0);
        N::choose(zero.less(v), one, N::choose(v.is_number(), zero, one))
    }
}
