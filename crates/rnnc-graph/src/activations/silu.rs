//! silu: x / (1 + e^-x), also called swish.

use super::number::Number;
use super::rule::{DerivativeReads, Rule};

/// x / (1 + e^-x), also called swish.
pub struct Silu;

impl Rule for Silu {
    const NAME: &str = "silu";
    const READS: DerivativeReads = DerivativeReads::Argument;

    #[inline(always)]
    fn value<N: Number>(x: N) -> N {
        x.silu()
    }

    #[inline(always)]
    fn derivative<N: Number>(v: N) -> N {
        v.silu_derivative()
    }
}
