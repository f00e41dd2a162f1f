//! hard_tanh: x between -1 and 1; at the kinks its derivative is 0.

use super::number::Number;
use super::rule::{DerivativeReads, Rule};

/// x between -1 and 1; at the kinks its derivative is 0.
pub struct HardTanh;

impl Rule for HardTanh {
    const NAME: &str = "hard_tanh";
    const READS: DerivativeReads = DerivativeReads::Value;
    const FLOPS: u64 = 2;
    const MASKS: bool = true;

    #[inline(always)]
    fn value<N: Number>(x: N) -> N {
        x.at_least(N::constant(-1.0)).at_most(N::constant(1.0))
    }

    #[inline(always)]
    fn derivative<N: Number>(v: N) -> N {
        let outside = N::choose(v.is_number(), N::constant(0.0), N::constant(1.0));
        let inside = N::choose(v.less(N::constant(1.0)), N::constant(1.0), outside);
        N::choose(N::constant(-1.0).less(v), inside, outside)
    }
}
