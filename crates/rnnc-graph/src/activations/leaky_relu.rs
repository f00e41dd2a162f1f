//! leaky_relu: x where it is positive, else 0.01 x; at 0 its derivative is 0.01.

use super::number::Number;
use super::rule::{DerivativeReads, Rule};

/// x where it is positive, else 0.01 x; at 0 its derivative is 0.01.
pub struct LeakyRelu;

impl Rule for LeakyRelu {
    const NAME: &str = "leaky_relu";
    const READS: DerivativeReads = DerivativeReads::Value;
    const FLOPS: u64 = 2;

    #[inline(always)]
    fn value<N: Number>(x: N) -> N {
        N::choose(x.less(N::constant(0.0)), N::constant(0.01) * x, x)
    }

    #[inline(always)]
    fn derivative<N: Number>(v: N) -> N {
        N::choose(N::constant(0.0).less(v), N::constant(1.0), v.or_nan(N::constant(0.01)))
    }
}
