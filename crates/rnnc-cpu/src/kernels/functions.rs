//! The functions of layers over tiles: slices of equal length that stay in the first-level cache.
//!
//! They are those of [`rnnc_graph::Function`], in single precision, compiled for each instruction set. An element's result
//! does not depend on its place in the slice. All panic if their slices differ in length, which is a mistake of the caller.

#![allow(unsafe_code)] // to call code for instructions that an Isa has shown to be there

use super::elementwise::same_length;
use super::isa::multiversion;
use super::lane::Lane;
use rnnc_graph::{Formula, Function, Visitor};

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
}

/// A loop over numbers, compiled for a formula.
trait Loop {
    fn run<F: Formula, const FMA: bool>(self);
}

/// A loop that is compiled for each formula.
struct Each<L, const FMA: bool>(L);

impl<L: Loop, const FMA: bool> Visitor for Each<L, FMA> {
    type Output = ();

    #[inline(always)]
    fn visit<F: Formula>(self) {
        self.0.run::<F, FMA>();
    }
}

#[inline(always)]
fn run<const FMA: bool>(function: Function, over: impl Loop) {
    function.visit(Each::<_, FMA>(over));
}

#[inline(always)]
fn at<F: Formula, const FMA: bool>(v: f32) -> f32 {
    F::at(Lane::<FMA>(v)).0
}

struct Unary<'a>(&'a [f32], &'a mut [f32]);

impl Loop for Unary<'_> {
    #[inline(always)]
    fn run<F: Formula, const FMA: bool>(self) {
        for (out, &x) in self.1.iter_mut().zip(self.0) {
            *out = at::<F, FMA>(x);
        }
    }
}

#[inline(always)]
fn unary_body<const FMA: bool>(function: Function, x: &[f32], out: &mut [f32]) {
    same_length(x.len(), out.len());
    run::<FMA>(function, Unary(x, out));
}

struct InPlace<'a>(&'a mut [f32]);

impl Loop for InPlace<'_> {
    #[inline(always)]
    fn run<F: Formula, const FMA: bool>(self) {
        for x in self.0 {
            *x = at::<F, FMA>(*x);
        }
    }
}

#[inline(always)]
fn unary_in_place_body<const FMA: bool>(function: Function, x: &mut [f32]) {
    run::<FMA>(function, InPlace(x));
}

struct OfSum<'a>(&'a [f32], &'a [f32], &'a mut [f32]);

impl Loop for OfSum<'_> {
    #[inline(always)]
    fn run<F: Formula, const FMA: bool>(self) {
        for ((out, &a), &b) in self.2.iter_mut().zip(self.0).zip(self.1) {
            *out = at::<F, FMA>(a + b);
        }
    }
}

#[inline(always)]
fn unary_of_sum_body<const FMA: bool>(function: Function, a: &[f32], b: &[f32], out: &mut [f32]) {
    same_length(a.len(), out.len());
    same_length(b.len(), out.len());
    run::<FMA>(function, OfSum(a, b, out));
}

struct OfSumInPlace<'a>(&'a mut [f32], &'a [f32]);

impl Loop for OfSumInPlace<'_> {
    #[inline(always)]
    fn run<F: Formula, const FMA: bool>(self) {
        for (a, &b) in self.0.iter_mut().zip(self.1) {
            *a = at::<F, FMA>(*a + b);
        }
    }
}

#[inline(always)]
fn unary_of_sum_in_place_body<const FMA: bool>(function: Function, a: &mut [f32], b: &[f32]) {
    same_length(a.len(), b.len());
    run::<FMA>(function, OfSumInPlace(a, b));
}

struct Times<'a>(&'a [f32], &'a [f32], &'a mut [f32]);

impl Loop for Times<'_> {
    #[inline(always)]
    fn run<F: Formula, const FMA: bool>(self) {
        for ((out, &x), &a) in self.2.iter_mut().zip(self.0).zip(self.1) {
            *out = a * at::<F, FMA>(x);
        }
    }
}

#[inline(always)]
fn unary_times_body<const FMA: bool>(function: Function, x: &[f32], a: &[f32], out: &mut [f32]) {
    same_length(x.len(), out.len());
    same_length(a.len(), out.len());
    run::<FMA>(function, Times(x, a, out));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::elementwise::binary;
    use crate::kernels::elementwise::tests::arguments;
    use crate::kernels::isa::Isa;
    use rnnc_graph::Activation;
    use rnnc_graph::ops::Binary;

    fn functions() -> impl Iterator<Item = Function> {
        Activation::ALL.into_iter().flat_map(|f| [Function::Apply(f), Function::Derivative(f)])
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
                    let want = match function {
                        // Subnormal numbers count as 0.
                        Function::Apply(Activation::Log) if x.is_subnormal() && x > 0.0 => f64::NEG_INFINITY,
                        _ => function.apply(f64::from(x)),
                    };
                    // From values near 1, which are rounded.
                    let slack = match function {
                        Function::Derivative(Activation::Tanh | Activation::Sigmoid) => 2e-7,
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
}
