//! Exponentials, logarithms and their kin for one f32, free of branches, so that a loop over them becomes
//! vector code.
//!
//! Each says how far it may be from the true value, in units in the last place (ULP) of the result, as its
//! test measures; NaN gives NaN, and infinities and denormals give what they should. With `FMA` a product and
//! a sum are rounded once. An element's result does not depend on its place in the vector.
//!
//! The reduction x = n ln 2 + r and the polynomials are those of Cephes (Moshier 1989, single precision).

#![allow(clippy::excessive_precision)] // coefficients as published

use super::isa::mul_add;
use std::f32::consts::{FRAC_1_SQRT_2, FRAC_PI_2, FRAC_PI_4, LN_2, LOG2_E, SQRT_2};

/// Added and taken away again, rounds to an integer, which then also stands in the lowest bits of the sum.
const ROUNDER: f32 = 12_582_912.0; // 1.5 * 2^23
/// ln 2 in two parts; an integer below 2^15 times the first is exact.
const LN2_HIGH: f32 = 0.693_359_375;
const LN2_LOW: f32 = -2.121_944_40e-4;

/// x = n ln 2 + r with |r| <= ln 2 / 2; for |x| below 2^15. NaN gives r = NaN.
#[inline(always)]
fn reduce<const FMA: bool>(x: f32) -> (i32, f32) {
    let rounded = mul_add::<FMA>(x, LOG2_E, ROUNDER);
    let n = rounded - ROUNDER;
    let r = mul_add::<FMA>(n, -LN2_LOW, mul_add::<FMA>(n, -LN2_HIGH, x));
    ((rounded.to_bits() as i32).wrapping_sub(ROUNDER.to_bits() as i32), r)
}

/// 2^n, for n in -126..=127.
#[inline(always)]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(127) as u32) << 23)
}

/// (e^r - 1 - r) for |r| <= ln 2 / 2.
#[inline(always)]
fn exp_tail<const FMA: bool>(r: f32) -> f32 {
    let mut p = 1.987_569_150_0e-4;
    p = mul_add::<FMA>(p, r, 1.398_199_950_7e-3);
    p = mul_add::<FMA>(p, r, 8.333_451_907_3e-3);
    p = mul_add::<FMA>(p, r, 4.166_579_589_4e-2);
    p = mul_add::<FMA>(p, r, 1.666_666_545_9e-1);
    p = mul_add::<FMA>(p, r, 0.5);
    p * (r * r)
}

/// The smaller of x and `bound`; NaN if x is.
#[inline(always)]
fn at_most(x: f32, bound: f32) -> f32 {
    if x > bound { bound } else { x }
}

/// The larger of x and `bound`; NaN if x is.
#[inline(always)]
fn at_least(x: f32, bound: f32) -> f32 {
    if x < bound { bound } else { x }
}

/// e^x as three factors, of which the last two are powers of two: what a denormal e^x would round is multiplied in
/// between.
#[inline(always)]
fn exp_factors<const FMA: bool>(x: f32) -> (f32, f32, f32) {
    // Past these the result is 0, also times 120, or infinite, and 2^n still splits into two normal factors.
    let (n, r) = reduce::<FMA>(at_most(at_least(x, -120.0), 89.0));
    let half = n >> 1;
    (1.0 + (r + exp_tail::<FMA>(r)), power_of_two(half), power_of_two(n.wrapping_sub(half)))
}

/// e^x, within 1 ULP, denormal results included.
#[inline(always)]
pub(super) fn exp<const FMA: bool>(x: f32) -> f32 {
    let (p, a, b) = exp_factors::<FMA>(x);
    p * a * b
}

/// e^x - 1, within 2 ULP.
#[inline(always)]
pub(super) fn expm1<const FMA: bool>(x: f32) -> f32 {
    let (n, r) = reduce::<FMA>(at_most(at_least(x, -18.0), 89.0));
    let p = r + exp_tail::<FMA>(r);
    // Half of 2^n, which may be just past the largest number.
    let s = power_of_two(n.wrapping_sub(1));
    let y = 2.0 * mul_add::<FMA>(s, p, s - 0.5);
    // The doubling loses the last bit of a denormal and the sign of a zero; there e^x - 1 rounds to x.
    if x.abs() < 1e-8 { x } else { y }
}

/// tanh x, within 3 ULP.
#[inline(always)]
pub(super) fn tanh<const FMA: bool>(x: f32) -> f32 {
    // (e^2|x| - 1) / (e^2|x| + 1); past 9.02 it rounds to 1.
    let (n, r) = reduce::<FMA>(2.0 * at_most(x.abs(), 9.02));
    let s = power_of_two(n);
    let e = mul_add::<FMA>(s, r + exp_tail::<FMA>(r), s - 1.0);
    (e / (e + 2.0)).copysign(x)
}

/// 1 / (1 + e^-x), within 3 ULP, denormal results included.
#[inline(always)]
pub(super) fn sigmoid<const FMA: bool>(x: f32) -> f32 {
    let e = exp::<FMA>(-x.abs());
    let numerator = if x < 0.0 { e } else { 1.0 };
    numerator / (1.0 + e)
}

/// x / (1 + e^-x), within 4 ULP, denormal results included.
#[inline(always)]
pub(super) fn silu<const FMA: bool>(x: f32) -> f32 {
    let (p, a, b) = exp_factors::<FMA>(-x.abs());
    let e = p * a * b;
    let below = at_least(x, -120.0) * p * a * b;
    (if x < 0.0 { below } else { x }) / (1.0 + e)
}

/// The derivative of [`silu`], g (1 + x (1 - g)) with g = 1 / (1 + e^-x), within 1e-6 of itself.
#[inline(always)]
pub(super) fn silu_derivative<const FMA: bool>(x: f32) -> f32 {
    let (p, a, b) = exp_factors::<FMA>(-x.abs());
    let e = p * a * b;
    let over = 1.0 / (1.0 + e);
    let rest = if x < 0.0 { over } else { e * over };
    let inner = mul_add::<FMA>(at_most(at_least(x, -120.0), 120.0), rest, 1.0);
    let below = inner * p * a * b;
    let y = (if x < 0.0 { below } else { inner }) * over;
    // About its root, where the sum cancels, by its Taylor series.
    let t = (x + 1.278_464_555_7) - 1.297_928_265e-8;
    let mut q = -4.090_534_24e-5;
    q = mul_add::<FMA>(q, t, 1.857_072_44e-4);
    q = mul_add::<FMA>(q, t, 7.985_218_82e-4);
    q = mul_add::<FMA>(q, t, 1.266_274_10e-4);
    q = mul_add::<FMA>(q, t, -6.606_589_14e-3);
    q = mul_add::<FMA>(q, t, -1.522_265_52e-2);
    q = mul_add::<FMA>(q, t, 1.887_481_42e-2);
    q = mul_add::<FMA>(q, t, 1.466_487_97e-1);
    q = mul_add::<FMA>(q, t, 2.178_117_06e-1);
    if t.abs() < 0.375 { q * t } else { y }
}

/// log(1 + f) for f in [1/sqrt 2 - 1, sqrt 2 - 1], to which `low` and then `high` are added.
#[inline(always)]
fn log_near_one<const FMA: bool>(f: f32, low: f32, high: f32) -> f32 {
    let mut p = 7.037_683_629_2e-2;
    p = mul_add::<FMA>(p, f, -1.151_461_031_0e-1);
    p = mul_add::<FMA>(p, f, 1.167_699_874_0e-1);
    p = mul_add::<FMA>(p, f, -1.242_014_084_6e-1);
    p = mul_add::<FMA>(p, f, 1.424_932_278_7e-1);
    p = mul_add::<FMA>(p, f, -1.666_805_766_5e-1);
    p = mul_add::<FMA>(p, f, 2.000_071_476_5e-1);
    p = mul_add::<FMA>(p, f, -2.499_999_399_3e-1);
    p = mul_add::<FMA>(p, f, 3.333_333_117_4e-1);
    let square = f * f;
    let y = mul_add::<FMA>(p, square * f, low);
    high + (f + mul_add::<FMA>(-0.5, square, y))
}

/// ln x, within 1 ULP; of 0, and of what counts as 0 beside the normal numbers, -infinity, of less NaN.
#[inline(always)]
pub(super) fn log<const FMA: bool>(x: f32) -> f32 {
    let bits = x.to_bits();
    // x = 2^n m with m in [1/sqrt 2, sqrt 2): the exponent of x / (1/sqrt 2).
    let offset = bits.wrapping_sub(FRAC_1_SQRT_2.to_bits()) & 0xff80_0000;
    let m = f32::from_bits(bits.wrapping_sub(offset));
    let n = ((offset as i32) >> 23) as f32;
    let y = log_near_one::<FMA>(m - 1.0, n * LN2_LOW, n * LN2_HIGH);
    let y = if x == f32::INFINITY { f32::INFINITY } else { y };
    let y = if x < f32::MIN_POSITIVE { f32::NEG_INFINITY } else { y };
    if x >= 0.0 { y } else { f32::NAN }
}

/// ln(1 + x), within 2 ULP.
#[inline(always)]
pub(super) fn log1p<const FMA: bool>(x: f32) -> f32 {
    // Near 0, 1 + x is never rounded; elsewhere what its rounding takes away is put back, by the derivative.
    let sum = 1.0 + x;
    let lost = (x - (sum - 1.0)) / sum;
    let lost = if sum > 0.0 && sum < f32::MAX { lost } else { 0.0 };
    let far = log::<FMA>(sum) + lost;
    let is_near = x > FRAC_1_SQRT_2 - 1.0 && x < SQRT_2 - 1.0;
    let near = log_near_one::<FMA>(if is_near { x } else { 0.0 }, 0.0, 0.0);
    if is_near { near } else { far }
}

/// The angle whose tangent is x, within 3 ULP.
#[inline(always)]
pub(super) fn atan<const FMA: bool>(x: f32) -> f32 {
    // From a tangent beyond 1 / 8 of the circle's, that of the rest; to at most tan(pi / 8).
    let y = x.abs();
    let (far, middle) = (y > 2.414_213_562_373_095, y > 0.414_213_562_373_095);
    let above = if far { -1.0 } else { y - 1.0 };
    let below = if far { y } else { y + 1.0 };
    let tangent = if middle { above / below } else { y };
    let angle = if far { FRAC_PI_2 } else { FRAC_PI_4 };
    let square = tangent * tangent;
    let mut p = 8.053_744_496_62e-2;
    p = mul_add::<FMA>(p, square, -1.387_768_560_32e-1);
    p = mul_add::<FMA>(p, square, 1.997_771_064_78e-1);
    p = mul_add::<FMA>(p, square, -3.333_294_915_39e-1);
    let rest = mul_add::<FMA>(p * square, tangent, tangent);
    (if middle { angle + rest } else { rest }).copysign(x)
}

/// ln(1 + e^x), within 2 ULP.
#[inline(always)]
pub(super) fn softplus<const FMA: bool>(x: f32) -> f32 {
    let e = exp::<FMA>(-x.abs());
    // ln(1 + e), with 1 + e never rounded: 1 + e = 2 (1 + (e - 1) / 2).
    let large = e > SQRT_2 - 1.0;
    let f = if large { (e - 1.0) * 0.5 } else { e };
    let log = log_near_one::<FMA>(f, 0.0, if large { LN_2 } else { 0.0 });
    at_least(x, 0.0) + log
}

/// Of the standard normal distribution at t = |x|, but at most 15: t, the probability of a value above t over
/// e^(-t^2 / 2), and that as three factors, as those of [`exp_factors`].
#[inline(always)]
fn normal<const FMA: bool>(x: f32) -> (f32, f32, (f32, f32, f32)) {
    // Past 15 both tails are 0.
    let t = at_most(x.abs(), 15.0);
    // t^2 in two parts, the first exact: rounded, it would spoil the exponential of a large one.
    let high = f32::from_bits(t.to_bits() & 0xffff_f000);
    let low = (t - high) * (t + high);
    let (n, r) = reduce::<FMA>(-0.5 * (high * high));
    let r = mul_add::<FMA>(-0.5, low, r);
    let half = n >> 1;
    let e = (1.0 + (r + exp_tail::<FMA>(r)), power_of_two(half), power_of_two(n.wrapping_sub(half)));
    // The tail over e^(-t^2 / 2), half the scaled complementary error function of t / sqrt 2: a polynomial in
    // u, made by minimax fit for t in [0, 15], relative error 1e-8.
    let u = 1.0 / (1.0 + 0.25 * t);
    let mut p = 0.017_177_271_9;
    p = mul_add::<FMA>(p, u, -0.066_119_658_3);
    p = mul_add::<FMA>(p, u, 0.059_694_123_0);
    p = mul_add::<FMA>(p, u, 0.017_383_470_4);
    p = mul_add::<FMA>(p, u, 0.022_214_067_1);
    p = mul_add::<FMA>(p, u, 0.081_366_983_8);
    p = mul_add::<FMA>(p, u, 0.073_902_840_0);
    p = mul_add::<FMA>(p, u, 0.095_089_568_0);
    p = mul_add::<FMA>(p, u, 0.099_546_348_8);
    p = mul_add::<FMA>(p, u, 0.099_744_989_8);
    (t, p * u, e)
}

/// The error function, within 3 ULP.
#[inline(always)]
pub(super) fn erf<const FMA: bool>(x: f32) -> f32 {
    let square = x * x;
    // By a polynomial, fitted for x^2 in [0, 1], relative error 1.4e-9; beyond, 1 less both tails.
    let mut p = 7.882_497_116_6e-5;
    p = mul_add::<FMA>(p, square, -8.018_854_994_2e-4);
    p = mul_add::<FMA>(p, square, 5.189_311_942_8e-3);
    p = mul_add::<FMA>(p, square, -2.685_432_879_6e-2);
    p = mul_add::<FMA>(p, square, 1.128_359_746_3e-1);
    p = mul_add::<FMA>(p, square, -3.761_262_690_4e-1);
    p = mul_add::<FMA>(p, square, 1.128_379_165_9);
    let (_, tail, (q, a, b)) = normal::<FMA>(x * SQRT_2);
    let far = (1.0 - 2.0 * tail * q * a * b).copysign(x);
    if x.abs() < 1.0 { x * p } else { far }
}

/// e^(-x^2), within 3 ULP while it is no denormal.
#[inline(always)]
pub(super) fn exp_minus_square<const FMA: bool>(x: f32) -> f32 {
    let y = at_most(x.abs(), 11.0);
    // As in `normal`.
    let high = f32::from_bits(y.to_bits() & 0xffff_f000);
    let low = (y - high) * (y + high);
    let (n, r) = reduce::<FMA>(-(high * high));
    let r = r - low;
    let half = n >> 1;
    (1.0 + (r + exp_tail::<FMA>(r))) * power_of_two(half) * power_of_two(n.wrapping_sub(half))
}

/// x times the probability of a standard normal value below x, within 8 ULP while the result is no denormal.
#[inline(always)]
pub(super) fn gelu<const FMA: bool>(x: f32) -> f32 {
    let (t, tail, (p, a, b)) = normal::<FMA>(x);
    let below = -t * tail * p * a * b;
    let above = x * (1.0 - tail * p * a * b);
    if x > 0.0 { above } else { below }
}

/// The derivative of [`gelu`], within 1e-6 of itself.
#[inline(always)]
pub(super) fn gelu_derivative<const FMA: bool>(x: f32) -> f32 {
    let (t, tail, (p, a, b)) = normal::<FMA>(x);
    // Of -t, that of t being 1 less it.
    let y = mul_add::<FMA>(-0.398_942_28, t, tail) * p * a * b;
    let y = if x > 0.0 { 1.0 - y } else { y };
    // About its root, where the sum cancels, by its Taylor series.
    let r = (x + 0.751_791_536_8) - 1.211_444_946e-8;
    let mut q = -2.239_538_07e-3;
    q = mul_add::<FMA>(q, r, 4.539_228_38e-3);
    q = mul_add::<FMA>(q, r, 1.942_167_98e-2);
    q = mul_add::<FMA>(q, r, -1.477_152_21e-2);
    q = mul_add::<FMA>(q, r, -1.140_082_33e-1);
    q = mul_add::<FMA>(q, r, -1.819_967_64e-2);
    q = mul_add::<FMA>(q, r, 3.882_849_83e-1);
    q = mul_add::<FMA>(q, r, 4.314_939_92e-1);
    if r.abs() < 0.25 { q * r } else { y }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rnnc_graph::{Activation, Number};

    /// Subnormal numbers count as 0.
    fn log_of_normal_numbers(x: f64) -> f64 {
        if (0.0..f64::from(f32::MIN_POSITIVE)).contains(&x) { f64::NEG_INFINITY } else { x.ln() }
    }

    /// The distance in units in the last place of the true value, for every `STRIDE`th number there is.
    fn worst_error(f: impl Fn(f32) -> f32, truth: impl Fn(f64) -> f64) -> (f64, f32) {
        const STRIDE: usize = 997;
        let mut worst = (0.0, 0.0);
        for bits in (0..=u32::MAX).step_by(STRIDE) {
            let x = f32::from_bits(bits);
            let (got, want) = (f(x), truth(f64::from(x)));
            let error = ulps(got, want);
            assert!(!error.is_nan(), "f({x:e}) = {got:e}, not {want:e}");
            if error > worst.0 {
                worst = (error, x);
            }
        }
        worst
    }

    /// How far `got` lies from `want`, in units in the last place; NaN if one is NaN or infinite and the
    /// other not so.
    fn ulps(got: f32, want: f64) -> f64 {
        let rounded = want as f32;
        if got.to_bits() == rounded.to_bits() || (got.is_nan() && want.is_nan()) {
            return 0.0;
        }
        // The largest number counts as an infinite one's neighbour.
        let place =
            |x: f32| if x.is_infinite() { f64::from(x.signum()) * 2f64.powi(128) } else { f64::from(x) };
        let exponent = want.abs().log2().floor().clamp(-126.0, 127.0);
        let want = if rounded.is_infinite() { place(rounded) } else { want };
        (place(got) - want).abs() / 2f64.powf(exponent - 23.0)
    }

    macro_rules! bounded {
        ($($name:ident: $f:ident, $truth:expr, $bound:expr;)*) => {$(
            #[test]
            fn $name() {
                for (fma, (error, x)) in
                    [(true, worst_error($f::<true>, $truth)), (false, worst_error($f::<false>, $truth))]
                {
                    println!("{}: {error:.2} ULP at {x:e}, FMA {fma}", stringify!($f));
                    assert!(error <= $bound, "{error:.2} ULP at {x:e}, FMA {fma}");
                }
            }
        )*};
    }

    bounded! {
        exp_stays_within_its_bound: exp, f64::exp, 1.0;
        expm1_stays_within_its_bound: expm1, f64::exp_m1, 2.0;
        tanh_stays_within_its_bound: tanh, f64::tanh, 3.0;
        sigmoid_stays_within_its_bound: sigmoid, |x| Activation::Sigmoid.apply(x), 3.0;
        log_stays_within_its_bound: log, log_of_normal_numbers, 1.0;
        log1p_stays_within_its_bound: log1p, f64::ln_1p, 2.0;
        atan_stays_within_its_bound: atan, f64::atan, 3.0;
        erf_stays_within_its_bound: erf, |x| Activation::Erf.apply(x), 3.0;
        exp_minus_square_stays_within_its_bound: exp_minus_square, |x| x.exp_minus_square(), 3.0;
        softplus_stays_within_its_bound: softplus, |x| Activation::Softplus.apply(x), 2.0;
    }

    #[test]
    fn gelu_and_its_derivative_stay_within_their_bounds() {
        fn check<const FMA: bool>() {
            let (mut worst, mut worst_derivative) = ((0.0, 0.0), (0.0, 0.0));
            for bits in (0..=u32::MAX).step_by(997) {
                let x = f32::from_bits(bits);
                let (got, want) = (gelu::<FMA>(x), Activation::Gelu.apply(f64::from(x)));
                let error =
                    if want.abs() < 1e-37 { (f64::from(got) - want).abs() / 1e-38 } else { ulps(got, want) };
                assert!(!error.is_nan(), "gelu({x:e}) = {got:e}, not {want:e}");
                if error > worst.0 {
                    worst = (error, x);
                }
                let (got, want) = (gelu_derivative::<FMA>(x), Activation::Gelu.derivative(f64::from(x)));
                let error = match want.is_nan() && got.is_nan() {
                    true => 0.0,
                    false => (f64::from(got) - want).abs() / want.abs().max(1e-38),
                };
                assert!(!error.is_nan(), "derivative of gelu at {x:e} = {got:e}, not {want:e}");
                if error > worst_derivative.0 {
                    worst_derivative = (error, x);
                }
            }
            println!("gelu: {worst:?} ULP, derivative: {worst_derivative:?}, FMA {FMA}");
            assert!(worst.0 <= 8.0, "{worst:?}, FMA {FMA}");
            assert!(worst_derivative.0 <= 1e-6, "{worst_derivative:?}, FMA {FMA}");
        }
        check::<true>();
        check::<false>();
    }

    #[test]
    fn special_numbers_give_what_they_should() {
        fn check<const FMA: bool>() {
            let infinity = f32::INFINITY;
            for (got, want) in [
                (exp::<FMA>(infinity), infinity),
                (exp::<FMA>(-infinity), 0.0),
                (exp::<FMA>(0.0), 1.0),
                (exp::<FMA>(88.722_83), f64::from(88.722_83f32).exp() as f32),
                (exp::<FMA>(88.73), infinity),
                (expm1::<FMA>(infinity), infinity),
                (expm1::<FMA>(-infinity), -1.0),
                (expm1::<FMA>(-0.0), -0.0),
                (tanh::<FMA>(infinity), 1.0),
                (tanh::<FMA>(-infinity), -1.0),
                (tanh::<FMA>(-0.0), -0.0),
                (tanh::<FMA>(1e-45), 1e-45),
                (sigmoid::<FMA>(infinity), 1.0),
                (sigmoid::<FMA>(-infinity), 0.0),
                (sigmoid::<FMA>(0.0), 0.5),
                (log::<FMA>(0.0), -infinity),
                (log::<FMA>(-0.0), -infinity),
                (log::<FMA>(infinity), infinity),
                (log::<FMA>(1.0), 0.0),
                (softplus::<FMA>(infinity), infinity),
                (softplus::<FMA>(-infinity), 0.0),
            ] {
                assert_eq!(got.to_bits(), want.to_bits(), "{got:e} is not {want:e}, FMA {FMA}");
            }
            assert!(log::<FMA>(-1.0).is_nan() && log::<FMA>(-infinity).is_nan());
            for f in [exp::<FMA>, expm1::<FMA>, tanh::<FMA>, sigmoid::<FMA>, log::<FMA>, softplus::<FMA>] {
                assert!(f(f32::NAN).is_nan() && f(-f32::NAN).is_nan());
            }
        }
        check::<true>();
        check::<false>();
    }
}
