//! step_triangle: 1 where x is positive, else 0, with the derivative of a ramp with round ends: 1 - |x| where that is positive (Esser et al. 2016; Bellec et al. 2018).

use super::number::Number;
use super::rule::{DerivativeReads, Rule};

/// 1 where x is positive, else 0, with the derivative of a ramp with round ends: 1 - |x| where that is positive (Esser et al. 2016; Bellec et al. 2018).
pub struct StepTriangle;

impl Rule for StepTriangle {
    const NAME: &str = "step_triangle";
    const READS: DerivativeReads = DerivativeReads::Argument;
    const FLOPS: u64 = 2;
    const DERIVATIVE_FLOPS: u64 = 10;
    const SURROGATE: bool = true;

    #[inline(always)]
    fn value<N: Number>(x: N) -> N {
        x.heaviside()
    }

    #[inline(always)]
    fn derivative<N: Number>(v: N) -> N {
        (N::constant(1.0) - v.abs()).at_least(N::constant(0.0))
    }
}
