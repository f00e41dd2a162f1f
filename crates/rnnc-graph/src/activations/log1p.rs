//! log1p: the natural logarithm of 1 + x, accurate near 0.

use super::number::Number;
use super::rule::{DerivativeReads, Rule};

/// The natural logarithm of 1 + x, accurate near 0.
pub struct Log1p;

impl Rule for Log1p {
    const NAME: &str = "log1p";
    const READS: DerivativeReads = DerivativeReads::Argument;
    const DOMAIN: (f64, f64) = (-0.95, 10.0);

    #[inline(always)]
    fn value<N: Number>(x: N) -> N {
        x.ln_1p()
    }

    #[inline(always)]
    fn derivative<N: Number>(v: N) -> N {
        N::constant(1.0) / (N::constant(1.0) + v)
    }
}
