//! sqrt: The square root; of less than 0 NaN.

use super::number::Number;
use super::rule::{DerivativeReads, Rule};

/// The square root; of less than 0 NaN.
pub struct Sqrt;

impl Rule for Sqrt {
    const NAME: &str = "sqrt";
    const READS: DerivativeReads = DerivativeReads::Value;
    const DOMAIN: (f64, f64) = (0.05, 10.0);

    #[inline(always)]
    fn value<N: Number>(x: N) -> N {
        x.sqrt()
    }

    #[inline(always)]
    fn derivative<N: Number>(v: N) -> N {
        N::constant(0.5) / v
    }
}
