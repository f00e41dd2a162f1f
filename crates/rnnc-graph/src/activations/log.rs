//! log: The natural logarithm; of 0 -infinity, of less NaN.

use super::number::Number;
use super::rule::{DerivativeReads, Rule};

/// The natural logarithm; of 0 -infinity, of less NaN.
pub struct Log;

impl Rule for Log {
    const NAME: &str = "log";
    const READS: DerivativeReads = DerivativeReads::Argument;
    const DOMAIN: (f64, f64) = (0.05, 10.0);

    #[inline(always)]
    fn value<N: Number>(x: N) -> N {
        x.ln()
    }

    #[inline(always)]
    fn derivative<N: Number>(v: N) -> N {
        N::constant(1.0) / v
    }
}
