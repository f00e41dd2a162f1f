//! softplus: ln(1 + e^x).

use super::number::Number;
use super::rule::{DerivativeReads, Rule};

/// ln(1 + e^x).
pub struct Softplus;

impl Rule for Softplus {
    const NAME: &str = "softplus";
    const READS: DerivativeReads = DerivativeReads::Value;

    #[inline(always)]
    fn value<N: Number>(x: N) -> N {
        x.softplus()
    }

    #[inline(always)]
    fn derivative<N: Number>(v: N) -> N {
        -(-v).exp_m1()
    }
}
