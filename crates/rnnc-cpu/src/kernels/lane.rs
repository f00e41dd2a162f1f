//! A lane of a CPU's vectors as a [`Number`]: what formulas are compiled for.

use super::isa;
use super::vecmath;
use rnnc_graph::Number;
use std::ops::{Add, Div, Mul, Neg, Sub};

/// One number of single precision. With `FMA` a product and a sum are rounded once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lane<const FMA: bool>(pub f32);

/// Writes the operators of two numbers.
macro_rules! operators {
    ($($operator:ident, $name:ident, $sign:tt;)*) => {$(
        impl<const FMA: bool> $operator for Lane<FMA> {
            type Output = Self;

            #[inline(always)]
            fn $name(self, other: Self) -> Self {
                Lane(self.0 $sign other.0)
            }
        }
    )*};
}

operators! {
    Add, add, +;
    Sub, sub, -;
    Mul, mul, *;
    Div, div, /;
}

impl<const FMA: bool> Neg for Lane<FMA> {
    type Output = Self;

    #[inline(always)]
    fn neg(self) -> Self {
        Lane(-self.0)
    }
}

/// Writes functions of one number.
macro_rules! functions {
    ($($name:ident = $function:expr;)*) => {$(
        #[inline(always)]
        fn $name(self) -> Self {
            Lane($function(self.0))
        }
    )*};
}

impl<const FMA: bool> Number for Lane<FMA> {
    type Truth = bool;

    #[inline(always)]
    fn constant(value: f64) -> Self {
        Lane(value as f32)
    }

    #[inline(always)]
    fn largest() -> Self {
        Lane(f32::MAX)
    }

    #[inline(always)]
    fn less(self, than: Self) -> bool {
        self.0 < than.0
    }

    #[inline(always)]
    fn is_number(self) -> bool {
        !self.0.is_nan()
    }

    #[inline(always)]
    fn choose(truth: bool, yes: Self, no: Self) -> Self {
        if truth { yes } else { no }
    }

    #[inline(always)]
    fn mul_add(self, times: Self, plus: Self) -> Self {
        Lane(isa::mul_add::<FMA>(self.0, times.0, plus.0))
    }

    functions! {
        abs = f32::abs;
        sqrt = f32::sqrt;
        exp = vecmath::exp::<FMA>;
        exp_m1 = vecmath::expm1::<FMA>;
        ln = vecmath::log::<FMA>;
        // The standard library's are accurate for large arguments too, one at a time.
        sin = f32::sin;
        cos = f32::cos;
        tanh = vecmath::tanh::<FMA>;
        sigmoid = vecmath::sigmoid::<FMA>;
        softplus = vecmath::softplus::<FMA>;
        silu = vecmath::silu::<FMA>;
        silu_derivative = vecmath::silu_derivative::<FMA>;
        gelu = vecmath::gelu::<FMA>;
        gelu_derivative = vecmath::gelu_derivative::<FMA>;
    }
}
