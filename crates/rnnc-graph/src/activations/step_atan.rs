//! step_atan: 1 where x is positive, else 0, with the derivative of atan(x) / pi (Fang et al. 2021).

use super::number::Number;
use super::rule::{DerivativeReads, Rule};

/// 1 where x is positive, else 0, with the derivative of atan(x) / pi (Fang et al. 2021).
pub struct StepAtan;

impl Rule for StepAtan {
    const NAME: &str = "step_atan";
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
        N::constant(std::f64::consts::FRAC_1_PI) / v.mul_add(v, N::constant(1.0))
    }
}
