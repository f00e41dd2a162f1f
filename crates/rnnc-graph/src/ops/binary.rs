//! Functions of two numbers, unit by unit, for which programs have an instruction.

use crate::activations::Number;

/// A function of two numbers, a and b.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Binary {
    /// a + b
    Add,
    /// a b
    Mul,
    /// a / b
    Div,
    /// The larger; NaN if either is.
    Max,
    /// The smaller; NaN if either is.
    Min,
    /// a where b is a number, and 0 where b is NaN.
    Known,
    /// 1 where a > b, 1/2 where a = b, 0 where a < b; NaN if either is.
    Step,
}

impl Binary {
    /// All of them.
    pub const ALL: [Binary; 7] =
        [Binary::Add, Binary::Mul, Binary::Div, Binary::Max, Binary::Min, Binary::Known, Binary::Step];

    /// Its value.
    #[inline(always)]
    pub fn apply<N: Number>(self, a: N, b: N) -> N {
        match self {
            Binary::Add => a + b,
            Binary::Mul => a * b,
            Binary::Div => a / b,
            // The inner choice is b where b is NaN, the outer a where a is.
            Binary::Max => N::choose(a.is_number(), N::choose(b.less(a), a, b), a),
            Binary::Min => N::choose(a.is_number(), N::choose(a.less(b), a, b), a),
            Binary::Known => N::choose(b.is_number(), a, N::constant(0.0)),
            Binary::Step => {
                let equal = N::choose(a.is_number(), N::choose(b.is_number(), N::constant(0.5), b), a);
                let below = N::choose(a.less(b), N::constant(0.0), equal);
                N::choose(b.less(a), N::constant(1.0), below)
            }
        }
    }
}
