//! atan: the angle whose tangent is x.

use super::number::Number;
use super::rule::{DerivativeReads, Rule};

/// The angle whose tangent is x.
pub struct Atan;

impl Rule for Atan {
    const NAME: &str = "atan";
    const READS: DerivativeReads = DerivativeReads::Argument;

    #[inline(always)]
    fn value<N: Number>(x: N) -> N {
        x.atan()
    }

    #[inline(always)]
    fn derivative<N: Number>(v: N) -> N {
        N::constant(1.0) / v.mul_add(v, N::constant(1.0))
    }
}
