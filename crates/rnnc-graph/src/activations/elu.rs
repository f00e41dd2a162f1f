//! elu: x where it is positive, else e^x - 1 (Clevert, Unterthiner & Hochreiter 2016).

use super::number::Number;
use super::rule::{DerivativeReads, Rule};

/// x where it is positive, else e^x - 1 (Clevert, Unterthiner & Hochreiter 2016).
pub struct Elu;

impl Rule for Elu {
    const NAME: &str = "elu";
    // Of a value that was rounded to -1 too little could be told.
    const READS: DerivativeReads = DerivativeReads::Argument;

    #[inline(always)]
    fn value<N: Number>(x: N) -> N {
        N::choose(N::constant(0.0).less(x), x, x.exp_m1())
    }

    #[inline(always)]
    fn derivative<N: Number>(v: N) -> N {
        N::choose(N::constant(0.0).less(v), N::constant(1.0), v.exp())
    }
}
