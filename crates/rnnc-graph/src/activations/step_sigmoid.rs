//! step_sigmoid: 1 where x is positive, else 0, with the derivative of the logistic function (Zenke & Ganguli 2018).

use super::number::Number;
use super::rule::{DerivativeReads, Rule};

/// 1 where x is positive, else 0, with the derivative of the logistic function (Zenke & Ganguli 2018).
pub struct StepSigmoid;

impl Rule for StepSigmoid {
    const NAME: &str = "step_sigmoid";
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
        let e = (-v.abs()).exp();
        let below = N::constant(1.0) + e;
        e / (below * below)
    }
}
