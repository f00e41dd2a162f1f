//! floor: the largest whole number that is not larger than x; no error flows back.

use super::number::Number;
use super::rule::{DerivativeReads, Rule};

/// The largest whole number that is not larger than x; no error flows back.
pub struct Floor;

impl Rule for Floor {
    const NAME: &str = "floor";
    const READS: DerivativeReads = DerivativeReads::Argument;
    const FLOPS: u64 = 2;
    const FLAT: bool = true;

    #[inline(always)]
    fn value<N: Number>(x: N) -> N {
        x.floor()
    }

    #[inline(always)]
    fn derivative<N: Number>(_v: N) -> N {
        N::constant(0.0)
    }
}
