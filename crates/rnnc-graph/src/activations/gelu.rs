//! gelu: x times the probability of a standard normal value below x: the exact one (Hendrycks & Gimpel 2016).

use super::number::Number;
use super::rule::{DerivativeReads, Rule};

/// x times the probability of a standard normal value below x: the exact one (Hendrycks & Gimpel 2016).
pub struct Gelu;

impl Rule for Gelu {
    const NAME: &str = "gelu";
    const READS: DerivativeReads = DerivativeReads::Argument;

    #[inline(always)]
    fn value<N: Number>(x: N) -> N {
        x.gelu()
    }

    #[inline(always)]
    fn derivative<N: Number>(v: N) -> N {
        v.gelu_derivative()
    }
}
