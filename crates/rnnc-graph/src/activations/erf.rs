//! erf: the error function, 2 / sqrt(pi) times the integral of e^(-t^2) from 0 to x.

use super::number::Number;
use super::rule::{DerivativeReads, Rule};

/// The error function, 2 / sqrt(pi) times the integral of e^(-t^2) from 0 to x.
pub struct Erf;

impl Rule for Erf {
    const NAME: &str = "erf";
    const READS: DerivativeReads = DerivativeReads::Argument;

    #[inline(always)]
    fn value<N: Number>(x: N) -> N {
        x.erf()
    }

    #[inline(always)]
    fn derivative<N: Number>(v: N) -> N {
        N::constant(std::f64::consts::FRAC_2_SQRT_PI) * v.exp_minus_square()
    }
}
