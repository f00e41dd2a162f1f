//! hard_sigmoid: (x + 3) / 6 between 0 and 1; at the kinks its derivative is 0.

use super::number::Number;
use super::rule::{DerivativeReads, Rule};

/// (x + 3) / 6 between 0 and 1; at the kinks its derivative is 0.
pub struct HardSigmoid;

impl Rule for HardSigmoid {
    const NAME: &str = "hard_sigmoid";
    // Of a value that was rounded to 0 or 1 too little could be told.
    const READS: DerivativeReads = DerivativeReads::Argument;
    const FLOPS: u64 = 2;

    #[inline(always)]
    fn value<N: Number>(x: N) -> N {
        ((x + N::constant(3.0)) / N::constant(6.0)).at_least(N::constant(0.0)).at_most(N::constant(1.0))
    }

    #[inline(always)]
    fn derivative<N: Number>(v: N) -> N {
        let outside = v.or_nan(N::constant(0.0));
        let inside = N::choose(v.less(N::constant(3.0)), N::constant(1.0 / 6.0), outside);
        N::choose(N::constant(-3.0).less(v), inside, outside)
    }
}
