//! identity: x itself.

use super::number::Number;
use super::rule::{DerivativeReads, Rule};

/// x itself.
pub struct Identity;

impl Rule for Identity {
    const NAME: &str = "identity";
    const READS: DerivativeReads = DerivativeReads::Value;
    const FLOPS: u64 = 2;

    #[inline(always)]
    fn value<N: Number>(x: N) -> N {
        x
    }

    #[inline(always)]
    fn derivative<N: Number>(_v: N) -> N {
        N::constant(1.0)
    }
}
