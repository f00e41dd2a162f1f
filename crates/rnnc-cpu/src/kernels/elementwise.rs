//! Elementwise operations over tiles: slices of equal length that stay in the first-level cache.
//!
//! The functions are those of [`rnnc_graph::Function`], in single precision. An element's result does not
//! depend on its place in the slice, so a cut into tiles changes nothing; only [`dot`] depends on
//! the length. Instruction sets may differ in the last bits. All panic if their slices differ in length,
//! which is a mistake of the caller.

#![allow(unsafe_code)] // to call code for instructions that an Isa has shown to be there

use super::isa::{mul_add, multiversion};
use super::rows::{BLOCK, LANES, join};
use super::vecmath;
use rnnc_graph::{Activation, Function};

/// An operation of two numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Binary {
    /// a + b
    Add,
    /// a - b
    Sub,
    /// a b
    Mul,
    /// a / b
    Div,
    /// The larger; NaN if either is.
    Max,
    /// The smaller; NaN if either is.
    Min,
    /// 1 where a > b, 1/2 where a = b, 0 where a < b; NaN if either is.
    Step,
}

impl Binary {
    /// All of them.
    pub const ALL: [Binary; 7] =
        [Binary::Add, Binary::Sub, Binary::Mul, Binary::Div, Binary::Max, Binary::Min, Binary::Step];
}

multiversion! {
    /// out = function(x)
    pub fn unary(function: Function, x: &[f32], out: &mut [f32]) = unary_body;

    /// x = function(x)
    pub fn unary_in_place(function: Function, x: &mut [f32]) = unary_in_place_body;

    /// out = function(a + b)
    pub fn unary_of_sum(function: Function, a: &[f32], b: &[f32], out: &mut [f32]) = unary_of_sum_body;

    /// a = function(a + b)
    pub fn unary_of_sum_in_place(function: Function, a: &mut [f32], b: &[f32]) = unary_of_sum_in_place_body;

    /// out = a function(x)
    pub fn unary_times(function: Function, x: &[f32], a: &[f32], out: &mut [f32]) = unary_times_body;

    /// out = a op b
    pub fn binary(op: Binary, a: &[f32], b: &[f32], out: &mut [f32]) = binary_body;

    /// a = a op b
    pub fn binary_in_place(op: Binary, a: &mut [f32], b: &[f32]) = binary_in_place_body;

    /// b = a op b
    pub fn binary_in_place_right(op: Binary, a: &[f32], b: &mut [f32]) = binary_in_place_right_body;

    /// acc += a b
    pub fn mul_add_into(a: &[f32], b: &[f32], acc: &mut [f32]) = mul_add_body;

    /// out = a b + c
    pub fn mul_add_to(a: &[f32], b: &[f32], c: &[f32], out: &mut [f32]) = mul_add_to_body;

    /// out = c x
    pub fn scale(c: f32, x: &[f32], out: &mut [f32]) = scale_body;

    /// x = c x
    pub fn scale_in_place(c: f32, x: &mut [f32]) = scale_in_place_body;

    /// acc += c x
    pub fn add_scaled(c: f32, x: &[f32], acc: &mut [f32]) = add_scaled_body;

    /// The sum of a b. Its error grows with the square root of the length at most, times less than 64
    /// roundings.
    pub fn dot(a: &[f32], b: &[f32]) -> f32 = dot_body;
}

/// out = c
#[inline]
pub fn fill(c: f32, out: &mut [f32]) {
    out.fill(c);
}

/// Every function, written once: `$each!(v => value)` is to store the value for every element v.
macro_rules! by_function {
    ($function:expr, $each:ident) => {{
        use Activation::*;
        use Function::{Apply, Slope};
        match $function {
            Apply(Identity) => $each!(v => v),
            Apply(Sigmoid) => $each!(v => vecmath::sigmoid::<FMA>(v)),
            Apply(Tanh) => $each!(v => vecmath::tanh::<FMA>(v)),
            Apply(Relu) => $each!(v => if v < 0.0 { 0.0 } else { v }),
            Apply(LeakyRelu) => $each!(v => if v < 0.0 { 0.01 * v } else { v }),
            Apply(Elu) => $each!(v => { let e = vecmath::expm1::<FMA>(v); if v > 0.0 { v } else { e } }),
            Apply(Softplus) => $each!(v => vecmath::softplus::<FMA>(v)),
            Apply(Softsign) => $each!(v => { let v = v.clamp(f32::MIN, f32::MAX); v / (1.0 + v.abs()) }),
            Apply(Gelu) => $each!(v => vecmath::gelu::<FMA>(v)),
            Apply(Silu) => $each!(v => vecmath::silu::<FMA>(v)),
            Apply(Exp) => $each!(v => vecmath::exp::<FMA>(v)),
            Apply(Log) => $each!(v => vecmath::log::<FMA>(v)),
            Apply(Sqrt) => $each!(v => v.sqrt()),
            Apply(Abs) => $each!(v => v.abs()),
            Apply(Square) => $each!(v => v * v),
            // The standard library's are accurate for large arguments too, one at a time.
            Apply(Sin) => $each!(v => v.sin()),
            Apply(Cos) => $each!(v => v.cos()),
            Apply(HardSigmoid) => $each!(v => ((v + 3.0) / 6.0).clamp(0.0, 1.0)),
            Apply(HardTanh) => $each!(v => v.clamp(-1.0, 1.0)),

            Slope(Identity) => $each!(_v => 1.0),
            Slope(Sigmoid) => $each!(v => v * (1.0 - v)),
            Slope(Tanh) => $each!(v => mul_add::<FMA>(-v, v, 1.0)),
            Slope(Relu) => $each!(v => { let below = if v <= 0.0 { 0.0 } else { v }; if v > 0.0 { 1.0 } else { below } }),
            Slope(LeakyRelu) => $each!(v => { let below = if v <= 0.0 { 0.01 } else { v }; if v > 0.0 { 1.0 } else { below } }),
            Slope(Elu) => $each!(v => { let e = vecmath::exp::<FMA>(v); if v > 0.0 { 1.0 } else { e } }),
            Slope(Softplus) => $each!(v => -vecmath::expm1::<FMA>(-v)),
            Slope(Softsign) => $each!(v => { let d = 1.0 + v.abs(); 1.0 / (d * d) }),
            Slope(Gelu) => $each!(v => vecmath::gelu_slope::<FMA>(v)),
            Slope(Silu) => $each!(v => vecmath::silu_slope::<FMA>(v)),
            Slope(Exp) => $each!(v => v),
            Slope(Log) => $each!(v => 1.0 / v),
            Slope(Sqrt) => $each!(v => 0.5 / v),
            Slope(Abs) => $each!(v => {
                let kink = if v == 0.0 { 0.0 } else { v };
                let below = if v < 0.0 { -1.0 } else { kink };
                if v > 0.0 { 1.0 } else { below }
            }),
            Slope(Square) => $each!(v => 2.0 * v),
            Slope(Sin) => $each!(v => v.cos()),
            Slope(Cos) => $each!(v => -v.sin()),
            Slope(HardSigmoid) => $each!(v => {
                let outside = if v.is_nan() { v } else { 0.0 };
                if v > -3.0 && v < 3.0 { 1.0 / 6.0 } else { outside }
            }),
            Slope(HardTanh) => $each!(v => {
                let outside = if v.is_nan() { v } else { 0.0 };
                if v > -1.0 && v < 1.0 { 1.0 } else { outside }
            }),
        }
    }};
}

/// Every binary operation, written once: `$each!((a, b) => value)` is to store the value for every pair.
macro_rules! by_operation {
    ($op:expr, $each:ident) => {
        match $op {
            Binary::Add => $each!((a, b) => a + b),
            Binary::Sub => $each!((a, b) => a - b),
            Binary::Mul => $each!((a, b) => a * b),
            Binary::Div => $each!((a, b) => a / b),
            // The inner choice is b where b is NaN, the outer a where a is.
            Binary::Max => $each!((a, b) => {
                let larger = if a > b { a } else { b };
                if a.is_nan() { a } else { larger }
            }),
            Binary::Min => $each!((a, b) => {
                let smaller = if a < b { a } else { b };
                if a.is_nan() { a } else { smaller }
            }),
            Binary::Step => $each!((a, b) => {
                let equal = if a == b { 0.5 } else { f32::NAN };
                let below = if a < b { 0.0 } else { equal };
                if a > b { 1.0 } else { below }
            }),
        }
    };
}

#[inline(always)]
fn unary_body<const FMA: bool>(function: Function, x: &[f32], out: &mut [f32]) {
    same_length(x.len(), out.len());
    macro_rules! each {
        ($v:ident => $value:expr) => {
            for (out, &$v) in out.iter_mut().zip(x) {
                *out = $value;
            }
        };
    }
    by_function!(function, each)
}

#[inline(always)]
fn unary_in_place_body<const FMA: bool>(function: Function, x: &mut [f32]) {
    macro_rules! each {
        ($v:ident => $value:expr) => {
            for x in x.iter_mut() {
                *x = {
                    let $v = *x;
                    $value
                };
            }
        };
    }
    by_function!(function, each)
}

#[inline(always)]
fn unary_of_sum_body<const FMA: bool>(function: Function, a: &[f32], b: &[f32], out: &mut [f32]) {
    same_length(a.len(), out.len());
    same_length(b.len(), out.len());
    macro_rules! each {
        ($v:ident => $value:expr) => {
            for ((out, &a), &b) in out.iter_mut().zip(a).zip(b) {
                let $v = a + b;
                *out = $value;
            }
        };
    }
    by_function!(function, each)
}

#[inline(always)]
fn unary_of_sum_in_place_body<const FMA: bool>(function: Function, a: &mut [f32], b: &[f32]) {
    same_length(a.len(), b.len());
    macro_rules! each {
        ($v:ident => $value:expr) => {
            for (a, &b) in a.iter_mut().zip(b) {
                let $v = *a + b;
                *a = $value;
            }
        };
    }
    by_function!(function, each)
}

#[inline(always)]
fn unary_times_body<const FMA: bool>(function: Function, x: &[f32], a: &[f32], out: &mut [f32]) {
    same_length(x.len(), out.len());
    same_length(a.len(), out.len());
    macro_rules! each {
        ($v:ident => $value:expr) => {
            for ((out, &x), &a) in out.iter_mut().zip(x).zip(a) {
                let $v = x;
                *out = a * $value;
            }
        };
    }
    by_function!(function, each)
}

#[inline(always)]
fn binary_body<const FMA: bool>(op: Binary, a: &[f32], b: &[f32], out: &mut [f32]) {
    same_length(a.len(), out.len());
    same_length(b.len(), out.len());
    macro_rules! each {
        (($a:ident, $b:ident) => $value:expr) => {
            for ((out, &$a), &$b) in out.iter_mut().zip(a).zip(b) {
                *out = $value;
            }
        };
    }
    by_operation!(op, each)
}

#[inline(always)]
fn binary_in_place_body<const FMA: bool>(op: Binary, a: &mut [f32], b: &[f32]) {
    same_length(a.len(), b.len());
    macro_rules! each {
        (($a:ident, $b:ident) => $value:expr) => {
            for (a, &$b) in a.iter_mut().zip(b) {
                let $a = *a;
                *a = $value;
            }
        };
    }
    by_operation!(op, each)
}

#[inline(always)]
fn binary_in_place_right_body<const FMA: bool>(op: Binary, a: &[f32], b: &mut [f32]) {
    same_length(a.len(), b.len());
    macro_rules! each {
        (($a:ident, $b:ident) => $value:expr) => {
            for (b, &$a) in b.iter_mut().zip(a) {
                let $b = *b;
                *b = $value;
            }
        };
    }
    by_operation!(op, each)
}

#[inline(always)]
fn mul_add_body<const FMA: bool>(a: &[f32], b: &[f32], acc: &mut [f32]) {
    same_length(a.len(), acc.len());
    same_length(b.len(), acc.len());
    for ((acc, &a), &b) in acc.iter_mut().zip(a).zip(b) {
        *acc = mul_add::<FMA>(a, b, *acc);
    }
}

#[inline(always)]
fn mul_add_to_body<const FMA: bool>(a: &[f32], b: &[f32], c: &[f32], out: &mut [f32]) {
    same_length(a.len(), out.len());
    same_length(b.len(), out.len());
    same_length(c.len(), out.len());
    for (((out, &a), &b), &c) in out.iter_mut().zip(a).zip(b).zip(c) {
        *out = mul_add::<FMA>(a, b, c);
    }
}

#[inline(always)]
fn scale_body<const FMA: bool>(c: f32, x: &[f32], out: &mut [f32]) {
    same_length(x.len(), out.len());
    for (out, &x) in out.iter_mut().zip(x) {
        *out = c * x;
    }
}

#[inline(always)]
fn scale_in_place_body<const FMA: bool>(c: f32, x: &mut [f32]) {
    for x in x {
        *x *= c;
    }
}

#[inline(always)]
fn add_scaled_body<const FMA: bool>(c: f32, x: &[f32], acc: &mut [f32]) {
    same_length(x.len(), acc.len());
    for (acc, &x) in acc.iter_mut().zip(x) {
        *acc = mul_add::<FMA>(c, x, *acc);
    }
}

#[inline(always)]
fn dot_body<const FMA: bool>(a: &[f32], b: &[f32]) -> f32 {
    same_length(a.len(), b.len());
    let mut total = 0.0;
    for (a, b) in a.chunks(BLOCK).zip(b.chunks(BLOCK)) {
        let mut lanes = [0.0; LANES];
        let (a_chunks, a_rest) = a.as_chunks::<LANES>();
        let (b_chunks, b_rest) = b.as_chunks::<LANES>();
        for (a, b) in a_chunks.iter().zip(b_chunks) {
            for ((lane, &a), &b) in lanes.iter_mut().zip(a).zip(b) {
                *lane = mul_add::<FMA>(a, b, *lane);
            }
        }
        for ((lane, &a), &b) in lanes.iter_mut().zip(a_rest).zip(b_rest) {
            *lane = mul_add::<FMA>(a, b, *lane);
        }
        total += f64::from(join(lanes, |a, b| a + b));
    }
    total as f32
}

#[inline(always)]
fn same_length(a: usize, b: usize) {
    assert!(a == b, "slices of {a} and of {b} elements");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::isa::Isa;

    fn functions() -> impl Iterator<Item = Function> {
        Activation::ALL.into_iter().flat_map(|f| [Function::Apply(f), Function::Slope(f)])
    }

    /// Arguments of every size and sign, kinks and special numbers among them.
    fn arguments() -> Vec<f32> {
        let mut x = vec![
            0.0,
            -0.0,
            1.0,
            -1.0,
            3.0,
            -3.0,
            0.5,
            1e-30,
            -1e-30,
            1e-42,
            -1e-42,
            1e30,
            -1e30,
            100.0,
            -100.0,
            f32::MAX,
            f32::MIN,
            f32::INFINITY,
            f32::NEG_INFINITY,
            f32::NAN,
        ];
        x.extend((0..1000).map(|i| (i as f32 - 500.0) * 0.0237));
        // Each sign and exponent, and about the roots of the slopes of gelu and silu.
        for exponent in 0..0x1ff_u32 {
            for mantissa in [0, 1, 0x20_0001, 0x40_0000, 0x5a_82f3, 0x7f_fffe, 0x7f_ffff] {
                x.push(f32::from_bits(exponent << 23 | mantissa));
            }
        }
        for root in [-0.751_791_54_f32, -1.278_464_6] {
            x.extend((-20..20).map(|i| f32::from_bits(root.to_bits().wrapping_add_signed(i))));
        }
        x
    }

    /// Whether `got` is `want` but for roundings of a few places at the size of the number.
    fn near(got: f32, want: f64) -> bool {
        if want.is_nan() || got.is_nan() {
            return want.is_nan() && got.is_nan();
        }
        if (want as f32).is_infinite() {
            // Written in f32, a product may overflow a little early.
            return got.is_infinite() && got.is_sign_positive() == want.is_sign_positive();
        }
        // What is smaller than the smallest normal number may be 0.
        (f64::from(got) - want).abs() <= 1e-6 * want.abs() + 1.5e-45
            || (got == 0.0 && want.abs() < f64::from(f32::MIN_POSITIVE))
    }

    #[test]
    fn every_function_agrees_with_its_definition() {
        let x = arguments();
        for isa in Isa::available() {
            for function in functions() {
                let mut out = vec![f32::NAN; x.len()];
                unary(isa, function, &x, &mut out);
                for (&x, &got) in x.iter().zip(&out) {
                    let want = function.apply(f64::from(x));
                    // From values near 1, which are rounded.
                    let slack = match function {
                        Function::Slope(Activation::Tanh | Activation::Sigmoid) => 2e-7,
                        _ => 0.0,
                    };
                    let near = near(got, want) || (f64::from(got) - want).abs() <= slack;
                    assert!(near, "{function} of {x:e}: {got:e}, not {want:e} ({isa})");
                }
            }
        }
    }

    #[test]
    fn an_element_s_result_does_not_depend_on_its_place() {
        let x = arguments();
        for isa in Isa::available() {
            for function in functions() {
                let mut out = vec![0.0; x.len()];
                unary(isa, function, &x, &mut out);
                for length in 0..40 {
                    for start in [0, 3, x.len() - length] {
                        let mut part = x[start..start + length].to_vec();
                        unary_in_place(isa, function, &mut part);
                        for (got, want) in part.iter().zip(&out[start..]) {
                            let same = got.to_bits() == want.to_bits() || (got.is_nan() && want.is_nan());
                            assert!(same, "{function}: {got:e} and {want:e} ({isa})");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn functions_of_sums_and_products_with_functions_agree_with_their_parts() {
        let x = arguments();
        let a: Vec<f32> = x.iter().rev().copied().collect();
        let same = |got: &[f32], want: &[f32]| {
            got.iter().zip(want).all(|(g, w)| g.to_bits() == w.to_bits() || (g.is_nan() && w.is_nan()))
        };
        for isa in Isa::available() {
            for function in functions() {
                let (mut want, mut sum, mut got) =
                    (vec![0.0; x.len()], vec![0.0; x.len()], vec![0.0; x.len()]);
                binary(isa, Binary::Add, &x, &a, &mut sum);
                unary(isa, function, &sum, &mut want);
                unary_of_sum(isa, function, &x, &a, &mut got);
                assert!(same(&got, &want), "{function} of a sum ({isa})");
                got.copy_from_slice(&x);
                unary_of_sum_in_place(isa, function, &mut got, &a);
                assert!(same(&got, &want), "{function} of a sum in place ({isa})");
                unary(isa, function, &x, &mut sum);
                binary(isa, Binary::Mul, &a, &sum, &mut want);
                unary_times(isa, function, &x, &a, &mut got);
                assert!(same(&got, &want), "a product with {function} ({isa})");
            }
        }
    }

    fn scalar(op: Binary, a: f32, b: f32) -> f32 {
        match op {
            Binary::Add => a + b,
            Binary::Sub => a - b,
            Binary::Mul => a * b,
            Binary::Div => a / b,
            Binary::Max | Binary::Min if a.is_nan() || b.is_nan() => f32::NAN,
            Binary::Max => a.max(b),
            Binary::Min => a.min(b),
            Binary::Step if a > b => 1.0,
            Binary::Step if a == b => 0.5,
            Binary::Step if a < b => 0.0,
            Binary::Step => f32::NAN,
        }
    }

    #[test]
    fn every_operation_agrees_with_its_definition_in_place_or_not() {
        let x = arguments();
        let pairs: Vec<(f32, f32)> =
            x.iter().step_by(3).flat_map(|&a| x[..40].iter().map(move |&b| (a, b))).collect();
        let (a, b): (Vec<f32>, Vec<f32>) = pairs.iter().copied().unzip();
        for isa in Isa::available() {
            for op in Binary::ALL {
                let (mut out, mut left, mut right) = (vec![0.0; a.len()], a.clone(), b.clone());
                binary(isa, op, &a, &b, &mut out);
                binary_in_place(isa, op, &mut left, &b);
                binary_in_place_right(isa, op, &a, &mut right);
                for (i, &(a, b)) in pairs.iter().enumerate() {
                    let want = scalar(op, a, b);
                    for got in [out[i], left[i], right[i]] {
                        assert!(
                            got == want || (got.is_nan() && want.is_nan()),
                            "{op:?} of {a:e}, {b:e}: {got:e} ({isa})"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn scaled_sums_and_products_agree_with_double_precision() {
        let (a, b) = ramp(777);
        for isa in Isa::available() {
            let (mut product, mut scaled, mut added) = (b.clone(), vec![0.0; a.len()], b.clone());
            mul_add_into(isa, &a, &b, &mut product);
            scale(isa, 1.7, &a, &mut scaled);
            add_scaled(isa, 1.7, &a, &mut added);
            let mut in_place = a.clone();
            scale_in_place(isa, 1.7, &mut in_place);
            assert_eq!(scaled, in_place);
            for i in 0..a.len() {
                let (x, y) = (f64::from(a[i]), f64::from(b[i]));
                let c = f64::from(1.7f32);
                assert!((f64::from(product[i]) - (y + x * y)).abs() <= 2e-7 * (y.abs() + (x * y).abs()));
                assert!((f64::from(scaled[i]) - c * x).abs() <= 1e-7 * (c * x).abs());
                assert!((f64::from(added[i]) - (y + c * x)).abs() <= 2e-7 * (y.abs() + (c * x).abs()));
            }
        }
    }

    /// Two uneven series of numbers.
    fn ramp(length: usize) -> (Vec<f32>, Vec<f32>) {
        let a = (0..length).map(|i| ((i * 7919) % 1013) as f32 / 500.0 - 1.0).collect();
        let b = (0..length).map(|i| ((i * 104_729) % 997) as f32 / 300.0 - 1.5).collect();
        (a, b)
    }

    #[test]
    fn dot_products_are_accurate_at_every_length() {
        for isa in Isa::available() {
            for length in (0..100).chain([1023, 1024, 1025, 5000, 1_000_003]) {
                let (a, b) = ramp(length);
                let exact: f64 = a.iter().zip(&b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
                let size: f64 = a.iter().zip(&b).map(|(&a, &b)| (f64::from(a) * f64::from(b)).abs()).sum();
                assert!((f64::from(dot(isa, &a, &b)) - exact).abs() <= 1e-6 * size, "{length} ({isa})");
            }
        }
    }
}
