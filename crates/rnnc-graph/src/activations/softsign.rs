//! softsign: x / (1 + |x|).

use super::number::Number;
use super::rule::{DerivativeReads, Rule};

/// x / (1 + |x|).
pub struct Softsign;

impl Rule for Softsign {
    const NAME: &str = "softsign";
    const READS: DerivativeReads = DerivativeReads::Argument;

    #[inline(always)]
    fn value<N: Number>(x: N) -> N {
        // Bounded where infinity over infinity, or times 0, would be no limit.
        let x = x.at_least(-N::largest()).at_most(N::largest());
        x / (N::constant(1.0) + x.abs())
    }

    #[inline(always)]
    fn derivative<N: Number>(v: N) -> N {
        let d = N::constant(1.0) + v.abs();
        N::constant(1.0) / (d * d)
    }
}
