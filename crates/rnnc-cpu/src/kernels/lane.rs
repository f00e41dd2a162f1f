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
    fn equal(self, to: Self) -> bool {
        self.0 == to.0
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

    #[inline(always)]
    fn root_mean_square(keep: Self, a: Self, rest: Self, b: Self) -> Self {
        let (first, second) = (a.0.abs(), b.0.abs());
        let largest = if first > second { first } else { second };
        // Before numbers are squared, a power of 2 takes half of the larger one's exponent away. Its bits are the exponent's,
        // halved and moved back to where 0 is 127; all without a branch, to vectorize.
        let down = ((largest.to_bits() >> 1) + (64 << 23)) & (0xff << 23);
        let up = f32::from_bits((254 << 23) - down);
        let (a, b) = (a.0 * up, b.0 * up);
        Lane((keep.0 * (a * a) + rest.0 * (b * b)).sqrt() * f32::from_bits(down))
    }

    #[inline(always)]
    fn remainder(self, by: Self) -> Self {
        Lane(self.0 % by.0)
    }

    functions! {
        abs = f32::abs;
        sqrt = f32::sqrt;
        exp = vecmath::exp::<FMA>;
        exp_m1 = vecmath::expm1::<FMA>;
        ln = vecmath::log::<FMA>;
        ln_1p = vecmath::log1p::<FMA>;
        floor = f32::floor;
        round = f32::round_ties_even;
        atan = vecmath::atan::<FMA>;
        erf = vecmath::erf::<FMA>;
        exp_minus_square = vecmath::exp_minus_square::<FMA>;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_of_a_mean_of_squares_is_right_for_numbers_of_any_size() {
        let root = |a: f32, b: f32| {
            let [keep, a, rest, b] = [0.999, a, 0.001, b].map(Lane::<true>);
            Lane::root_mean_square(keep, a, rest, b).0
        };
        for exponent in -32..=37 {
            for (a, b) in [(0.0, 1.0), (1.0, 0.0), (1.0, 1.0), (3.0, -0.1), (1e-3, 2.0)] {
                let scale = 10f64.powi(exponent);
                let (a, b) = ((a * scale) as f32, (b * scale) as f32);
                let square = |x: f32| f64::from(x) * f64::from(x);
                let expected = (0.999 * square(a) + 0.001 * square(b)).sqrt();
                let found = f64::from(root(a, b));
                let subnormal = f64::from(f32::MIN_POSITIVE);
                assert!(
                    (found - expected).abs() <= 1e-6 * expected + subnormal,
                    "{a} {b}: {found} {expected}"
                );
            }
        }
        assert!(root(f32::MAX, f32::MAX).is_finite());
    }
}
