//! Elementwise operations over tiles: slices of equal length that stay in the first-level cache.
//!
//! An element's result does not depend on its place in the slice, so a cut into tiles changes nothing; only [`dot`] depends
//! on the length. Instruction sets may differ in the last bits. All panic if their slices differ in length,
//! which is a mistake of the caller.

#![allow(unsafe_code)] // to call code for instructions that an Isa has shown to be there

use super::isa::{mul_add, multiversion};
use super::lane::Lane;
use super::rows::sums::{BLOCK, LANES, join};
use rnnc_graph::ops::{Binary, PairFormula, PairVisitor};

multiversion! {
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

#[inline(always)]
fn of<F: PairFormula, const FMA: bool>(a: f32, b: f32) -> f32 {
    F::at(Lane::<FMA>(a), Lane(b)).0
}

/// Loops over pairs, each compiled for every formula.
struct Apart<'a, const FMA: bool>(&'a [f32], &'a [f32], &'a mut [f32]);

impl<const FMA: bool> PairVisitor for Apart<'_, FMA> {
    type Output = ();

    #[inline(always)]
    fn visit<F: PairFormula>(self) {
        for ((out, &a), &b) in self.2.iter_mut().zip(self.0).zip(self.1) {
            *out = of::<F, FMA>(a, b);
        }
    }
}

#[inline(always)]
fn binary_body<const FMA: bool>(op: Binary, a: &[f32], b: &[f32], out: &mut [f32]) {
    same_length(a.len(), out.len());
    same_length(b.len(), out.len());
    op.visit(Apart::<FMA>(a, b, out));
}

struct InPlace<'a, const FMA: bool>(&'a mut [f32], &'a [f32]);

impl<const FMA: bool> PairVisitor for InPlace<'_, FMA> {
    type Output = ();

    #[inline(always)]
    fn visit<F: PairFormula>(self) {
        for (a, &b) in self.0.iter_mut().zip(self.1) {
            *a = of::<F, FMA>(*a, b);
        }
    }
}

#[inline(always)]
fn binary_in_place_body<const FMA: bool>(op: Binary, a: &mut [f32], b: &[f32]) {
    same_length(a.len(), b.len());
    op.visit(InPlace::<FMA>(a, b));
}

struct InPlaceRight<'a, const FMA: bool>(&'a [f32], &'a mut [f32]);

impl<const FMA: bool> PairVisitor for InPlaceRight<'_, FMA> {
    type Output = ();

    #[inline(always)]
    fn visit<F: PairFormula>(self) {
        for (b, &a) in self.1.iter_mut().zip(self.0) {
            *b = of::<F, FMA>(a, *b);
        }
    }
}

#[inline(always)]
fn binary_in_place_right_body<const FMA: bool>(op: Binary, a: &[f32], b: &mut [f32]) {
    same_length(a.len(), b.len());
    op.visit(InPlaceRight::<FMA>(a, b));
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
pub(super) fn same_length(a: usize, b: usize) {
    assert!(a == b, "slices of {a} and of {b} elements");
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::kernels::isa::Isa;

    /// Arguments of every size and sign, kinks and special numbers among them.
    pub(in crate::kernels) fn arguments() -> Vec<f32> {
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
        // Each sign and exponent, and about the roots of the derivatives of gelu and silu.
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

    #[test]
    fn every_operation_agrees_with_double_precision_in_place_or_not() {
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
                    let want = op.apply(f64::from(a), f64::from(b)) as f32;
                    // These are made of several roundings.
                    let off = match op {
                        Binary::Floored | Binary::Mod => 2.4e-7 * want.abs(),
                        _ => 0.0,
                    };
                    for got in [out[i], left[i], right[i]] {
                        assert!(
                            got == want || (got - want).abs() <= off || (got.is_nan() && want.is_nan()),
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
