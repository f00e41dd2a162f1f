//! What a formula computes with: numbers of double precision, lanes of a CPU, or the text of a kernel.
//!
//! A formula that is generic over [`Number`] is written once. In `f64` it is the truth; the CPU executor compiles it for its
//! lanes, and the CUDA executor prints it.

use std::ops::{Add, Div, Mul, Neg, Sub};

/// A number, or something that stands for one. NaN goes through all of it: a comparison with NaN is false.
pub trait Number:
    Copy + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> + Div<Output = Self> + Neg<Output = Self>
{
    /// The answer of a comparison.
    type Truth: Copy;

    /// A constant of the formula.
    fn constant(value: f64) -> Self;
    /// The largest finite number.
    fn largest() -> Self;
    /// Whether it is less than another.
    fn less(self, than: Self) -> Self::Truth;
    /// Whether it equals another.
    fn equal(self, to: Self) -> Self::Truth;
    /// Whether it is not NaN.
    fn is_number(self) -> Self::Truth;
    /// One of two. Both are computed.
    fn choose(truth: Self::Truth, yes: Self, no: Self) -> Self;

    /// a b + c, rounded once where the target can.
    fn mul_add(self, times: Self, plus: Self) -> Self;
    /// |x|
    fn abs(self) -> Self;
    /// The square root.
    fn sqrt(self) -> Self;
    /// e^x
    fn exp(self) -> Self;
    /// e^x - 1, accurate near 0.
    fn exp_m1(self) -> Self;
    /// The natural logarithm.
    fn ln(self) -> Self;
    /// The natural logarithm of 1 + x, accurate near 0.
    fn ln_1p(self) -> Self;
    /// The largest whole number that is not larger.
    fn floor(self) -> Self;
    /// The nearest whole number, of two the even one.
    fn round(self) -> Self;
    /// What a division by another leaves, exact, with the sign of the first.
    fn remainder(self, by: Self) -> Self;
    /// The angle whose tangent is x.
    fn atan(self) -> Self;
    /// The error function.
    fn erf(self) -> Self;
    /// e^(-x^2)
    fn exp_minus_square(self) -> Self;
    /// sin x
    fn sin(self) -> Self;
    /// cos x
    fn cos(self) -> Self;
    /// tanh x
    fn tanh(self) -> Self;
    /// 1 / (1 + e^-x)
    fn sigmoid(self) -> Self;
    /// ln(1 + e^x)
    fn softplus(self) -> Self;
    /// x / (1 + e^-x)
    fn silu(self) -> Self;
    /// Its derivative.
    fn silu_derivative(self) -> Self;
    /// x times the probability of a standard normal value below x.
    fn gelu(self) -> Self;
    /// Its derivative.
    fn gelu_derivative(self) -> Self;

    /// sqrt(keep a^2 + rest b^2), where squares may be too large or too small for a number.
    fn root_mean_square(keep: Self, a: Self, rest: Self, b: Self) -> Self;

    /// The smaller of it and a bound; NaN if it is.
    #[inline(always)]
    fn at_most(self, bound: Self) -> Self {
        Self::choose(bound.less(self), bound, self)
    }

    /// The larger of it and a bound; NaN if it is.
    #[inline(always)]
    fn at_least(self, bound: Self) -> Self {
        Self::choose(self.less(bound), bound, self)
    }

    /// (e^x - e^-x) / 2
    #[inline(always)]
    fn sinh(self) -> Self {
        let (x, one) = (self.abs(), Self::constant(1.0));
        let m = x.exp_m1();
        let near = Self::constant(0.5) * (m + m / (m + one));
        // Half of e^x is a number where e^x is none.
        let root = (Self::constant(0.5) * x).exp();
        let y = Self::choose(x.less(Self::constant(80.0)), near, Self::constant(0.5) * root * root);
        Self::choose(Self::constant(0.0).less(self), y, -y)
    }

    /// (e^x + e^-x) / 2
    #[inline(always)]
    fn cosh(self) -> Self {
        let x = self.abs();
        let root = (Self::constant(0.5) * x).exp();
        let e = x.exp();
        let near = Self::constant(0.5) * (e + Self::constant(1.0) / e);
        Self::choose(x.less(Self::constant(80.0)), near, Self::constant(0.5) * root * root)
    }

    /// 1 where it is positive, else 0.
    #[inline(always)]
    fn heaviside(self) -> Self {
        let zero = Self::constant(0.0);
        Self::choose(zero.less(self), Self::constant(1.0), self.or_nan(zero))
    }

    /// `value`, but NaN if it is.
    #[inline(always)]
    fn or_nan(self, value: Self) -> Self {
        Self::choose(self.is_number(), value, self)
    }
}

/// Past this, e^-x is 0, and infinity may be taken for it.
const FAR: f64 = 1e4;

impl Number for f64 {
    type Truth = bool;

    fn constant(value: f64) -> f64 {
        value
    }

    fn largest() -> f64 {
        f64::MAX
    }

    fn less(self, than: f64) -> bool {
        self < than
    }

    fn equal(self, to: f64) -> bool {
        self == to
    }

    fn is_number(self) -> bool {
        !self.is_nan()
    }

    fn choose(truth: bool, yes: f64, no: f64) -> f64 {
        if truth { yes } else { no }
    }

    fn mul_add(self, times: f64, plus: f64) -> f64 {
        self * times + plus
    }

    fn abs(self) -> f64 {
        f64::abs(self)
    }

    fn sqrt(self) -> f64 {
        f64::sqrt(self)
    }

    fn exp(self) -> f64 {
        f64::exp(self)
    }

    fn exp_m1(self) -> f64 {
        f64::exp_m1(self)
    }

    fn ln(self) -> f64 {
        f64::ln(self)
    }

    fn ln_1p(self) -> f64 {
        f64::ln_1p(self)
    }

    fn floor(self) -> f64 {
        f64::floor(self)
    }

    fn round(self) -> f64 {
        f64::round_ties_even(self)
    }

    fn remainder(self, by: f64) -> f64 {
        self % by
    }

    fn atan(self) -> f64 {
        f64::atan(self)
    }

    fn erf(self) -> f64 {
        libm::erf(self)
    }

    fn exp_minus_square(self) -> f64 {
        f64::exp(-self * self)
    }

    fn sinh(self) -> f64 {
        f64::sinh(self)
    }

    fn cosh(self) -> f64 {
        f64::cosh(self)
    }

    fn sin(self) -> f64 {
        f64::sin(self)
    }

    fn cos(self) -> f64 {
        f64::cos(self)
    }

    fn tanh(self) -> f64 {
        f64::tanh(self)
    }

    fn sigmoid(self) -> f64 {
        // The half that does not overflow; NaN takes the second.
        if self >= 0.0 {
            1.0 / (1.0 + f64::exp(-self))
        } else {
            let e = f64::exp(self);
            e / (1.0 + e)
        }
    }

    fn softplus(self) -> f64 {
        if self > 0.0 { self + f64::exp(-self).ln_1p() } else { f64::exp(self).ln_1p() }
    }

    fn silu(self) -> f64 {
        let x = self.clamp(-FAR, f64::INFINITY);
        x * x.sigmoid()
    }

    fn silu_derivative(self) -> f64 {
        let x = self.clamp(-FAR, FAR);
        x.sigmoid() * (1.0 + x * (-x).sigmoid())
    }

    fn gelu(self) -> f64 {
        let x = self.clamp(-FAR, f64::INFINITY);
        0.5 * x * libm::erfc(-x * std::f64::consts::FRAC_1_SQRT_2)
    }

    fn root_mean_square(keep: f64, a: f64, rest: f64, b: f64) -> f64 {
        f64::hypot(f64::sqrt(keep) * a, f64::sqrt(rest) * b)
    }

    fn gelu_derivative(self) -> f64 {
        let x = self.clamp(-FAR, FAR);
        let density = f64::exp(-0.5 * x * x) / f64::sqrt(2.0 * std::f64::consts::PI);
        0.5 * libm::erfc(-x * std::f64::consts::FRAC_1_SQRT_2) + x * density
    }
}
