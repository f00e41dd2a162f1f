//! Functions of whole rows: sums over groups of numbers, and what is made of each number and the sums of its group.
//!
//! A row is some groups of equal length, one after the other. A worker writes [`Parts`] of a result, but sums whole
//! groups, always in the same order: how a row is shared out changes no bit of it. Instruction sets may differ in the
//! last bits. A row lies in the first-level cache, so it is read again rather than kept. Rows come many at once, since a
//! short one takes no longer than a call. All panic if the rows of an operation differ in length, which is a mistake of
//! the caller.

#![allow(unsafe_code)] // to call code for instructions that an Isa has shown to be there

mod parts;
pub(super) mod sums;
#[cfg(test)]
#[allow(clippy::single_range_in_vec_init)] // a list of one range is meant
mod tests;

pub use parts::{Parts, Rows};

use super::isa::{mul_add, multiversion};
use super::vecmath::exp;
use std::ops::{Range, RangeInclusive};
use sums::{exact_sums, largest, sum, sums};

multiversion! {
    /// out = e^x / (sum of e^x), with room for the exponentials of a group.
    pub fn softmax(x: Rows<'_>, groups: usize, room: &mut [f32], out: Parts<'_>) = softmax_body;

    /// out = x - ln (sum of e^x), with room for the exponentials of a group.
    pub fn log_softmax(x: Rows<'_>, groups: usize, room: &mut [f32], out: Parts<'_>) = log_softmax_body;

    /// out = (x - mean) / sqrt(variance + epsilon), with a mean of 0 unless `center`. The mean of equal numbers is
    /// that number, to the last bit, and no square is too large: in single precision, and where that is not enough for a
    /// group, in double.
    pub fn normalize(x: Rows<'_>, groups: usize, center: bool, epsilon: f32, out: Parts<'_>) = normalize_body;

    /// out = the sum of each group, a unit each.
    pub fn group_sum(x: Rows<'_>, groups: usize, out: Parts<'_>) = group_sum_body;

    /// out = -ln of the symbol's softmax, or 0 if there is no symbol, with room for the exponentials.
    pub fn cross_entropy(
        logits: Rows<'_>,
        symbols: Rows<'_, u32>,
        room: &mut [f32],
        out: Parts<'_>,
    ) = cross_entropy_body;

    /// What [`softmax`] with the result y makes of errors e: y (e - sum of e y).
    pub fn softmax_gradient(e: Rows<'_>, y: Rows<'_>, groups: usize, out: Parts<'_>) = softmax_gradient_body;

    /// What [`log_softmax`] with the result y makes of errors e: e - e^y (sum of e).
    pub fn log_softmax_gradient(
        e: Rows<'_>,
        y: Rows<'_>,
        groups: usize,
        out: Parts<'_>,
    ) = log_softmax_gradient_body;

    /// What [`normalize`] of x makes of errors e: with n units, h the normalized ones and r = 1 / deviation,
    /// r (e - mean(e) - h mean(e h)), the first mean only if centered (Ba, Kiros & Hinton 2016, supplement).
    #[allow(clippy::too_many_arguments)]
    pub fn normalize_gradient(
        e: Rows<'_>,
        x: Rows<'_>,
        groups: usize,
        center: bool,
        epsilon: f32,
        out: Parts<'_>,
    ) = normalize_gradient_body;

    /// What [`cross_entropy`] makes of an error: error (softmax - 1 at the symbol), with room for the exponentials.
    pub fn cross_entropy_gradient(
        errors: Rows<'_>,
        logits: Rows<'_>,
        symbols: Rows<'_, u32>,
        room: &mut [f32],
        out: Parts<'_>,
    ) = cross_entropy_gradient_body;
}

/// e^(x - the largest) into `out`; returns (the largest, the sum). If an x is NaN, the sum is.
#[inline(always)]
fn exponentials<const FMA: bool>(x: &[f32], out: &mut [f32]) -> (f32, f32) {
    let max = largest(x);
    for (out, x) in out.iter_mut().zip(x) {
        *out = exp::<FMA>(x - max);
    }
    (max, sum(out))
}

#[inline(always)]
fn softmax_body<const FMA: bool>(x: Rows<'_>, groups: usize, room: &mut [f32], out: Parts<'_>) {
    for (x, mut out) in x.each().zip(out.each()) {
        for g in out.groups(x.len(), groups) {
            let room = &mut room[..g.len()];
            let (_, sum) = exponentials::<FMA>(&x[g.clone()], room);
            let inverse = 1.0 / sum;
            for (own, out) in out.of(g) {
                for (out, e) in out.iter_mut().zip(&room[own]) {
                    *out = e * inverse;
                }
            }
        }
    }
}

#[inline(always)]
fn log_softmax_body<const FMA: bool>(x: Rows<'_>, groups: usize, room: &mut [f32], out: Parts<'_>) {
    for (x, mut out) in x.each().zip(out.each()) {
        for g in out.groups(x.len(), groups) {
            let x = &x[g.clone()];
            let (max, sum) = exponentials::<FMA>(x, &mut room[..g.len()]);
            let log = sum.ln();
            for (own, out) in out.of(g) {
                for (out, x) in out.iter_mut().zip(&x[own]) {
                    *out = (x - max) - log;
                }
            }
        }
    }
}

/// Variances, epsilon counted in, that single precision is sure of: no square that counts was lost below the smallest numbers, and
/// none was too large.
const SAFE: RangeInclusive<f32> = 1e-19..=f32::MAX;

/// Means of errors times normalized numbers that it is sure of: what is made of them is finite.
const SAFE_MEAN: f32 = 1e19;

/// The mean of numbers: what is nearest to it, and the rest. `sum` is of their differences from the first: they are 0 where
/// numbers are equal, and exact where they are close.
#[inline(always)]
fn mean(first: f32, sum: f32, share: f32) -> (f32, f32) {
    let from_first = sum * share;
    let mean = first + from_first;
    (mean, from_first - (mean - first))
}

#[inline(always)]
fn normalize_body<const FMA: bool>(x: Rows<'_>, groups: usize, center: bool, epsilon: f32, out: Parts<'_>) {
    let share = 1.0 / (x.len / groups) as f32;
    for (x, mut out) in x.each().zip(out.each()) {
        for g in out.groups(x.len(), groups) {
            let x = &x[g.clone()];
            let (near, rest) = if center {
                let first = x[0];
                let [sum] = sums(x, x, (first, first), |[sum], x, _| [sum + (x - first)]);
                mean(first, sum, share)
            } else {
                (0.0, 0.0)
            };
            let [squares] = sums(x, x, (near, near), |[sum], x, _| {
                let x = x - near;
                [mul_add::<FMA>(x, x, sum)]
            });
            let variance = squares * share - rest * rest + epsilon;
            if !SAFE.contains(&variance) {
                normalize_exactly(x, center, epsilon, out.of(g));
                continue;
            }
            let inverse = 1.0 / variance.sqrt();
            let rest = rest * inverse;
            for (own, out) in out.of(g) {
                for (out, x) in out.iter_mut().zip(&x[own]) {
                    *out = mul_add::<FMA>(x - near, inverse, -rest);
                }
            }
        }
    }
}

/// [`normalize`] for a group of any numbers, in double precision.
#[cold]
#[inline(never)]
fn normalize_exactly<'a>(
    x: &[f32],
    center: bool,
    epsilon: f32,
    out: impl Iterator<Item = (Range<usize>, &'a mut [f32])>,
) {
    let n = x.len() as f64;
    let mean = if center { exact_sums(x, x, |x, _| [x])[0] / n } else { 0.0 };
    let [squares] = exact_sums(x, x, |x, _| [(x - mean) * (x - mean)]);
    let inverse = 1.0 / (squares / n + f64::from(epsilon)).sqrt();
    for (own, out) in out {
        for (out, &x) in out.iter_mut().zip(&x[own]) {
            *out = ((f64::from(x) - mean) * inverse) as f32;
        }
    }
}

#[inline(always)]
fn group_sum_body<const FMA: bool>(x: Rows<'_>, groups: usize, out: Parts<'_>) {
    let size = x.len / groups;
    for (x, mut out) in x.each().zip(out.each()) {
        for (own, out) in out.of(0..groups) {
            for (out, x) in out.iter_mut().zip(x[own.start * size..own.end * size].chunks_exact(size)) {
                *out = sum(x);
            }
        }
    }
}

#[inline(always)]
fn cross_entropy_body<const FMA: bool>(
    logits: Rows<'_>,
    symbols: Rows<'_, u32>,
    room: &mut [f32],
    out: Parts<'_>,
) {
    for ((x, symbol), mut out) in logits.each().zip(symbols.each()).zip(out.each()) {
        let loss = match x.get(symbol[0] as usize) {
            // No symbol.
            None => 0.0,
            Some(logit) => {
                let (max, sum) = exponentials::<FMA>(x, &mut room[..x.len()]);
                sum.ln() - (logit - max)
            }
        };
        for (_, out) in out.of(0..1) {
            out.fill(loss);
        }
    }
}

#[inline(always)]
fn softmax_gradient_body<const FMA: bool>(e: Rows<'_>, y: Rows<'_>, groups: usize, out: Parts<'_>) {
    for ((e, y), mut out) in e.each().zip(y.each()).zip(out.each()) {
        for g in out.groups(y.len(), groups) {
            let (e, y) = (&e[g.clone()], &y[g.clone()]);
            let [dot] = sums(e, y, (0.0, 0.0), |[dot], e, y| [mul_add::<FMA>(e, y, dot)]);
            for (own, out) in out.of(g) {
                for ((out, e), y) in out.iter_mut().zip(&e[own.clone()]).zip(&y[own]) {
                    *out = y * (e - dot);
                }
            }
        }
    }
}

#[inline(always)]
fn log_softmax_gradient_body<const FMA: bool>(e: Rows<'_>, y: Rows<'_>, groups: usize, out: Parts<'_>) {
    for ((e, y), mut out) in e.each().zip(y.each()).zip(out.each()) {
        for g in out.groups(y.len(), groups) {
            let (e, y) = (&e[g.clone()], &y[g.clone()]);
            let sum = sum(e);
            for (own, out) in out.of(g) {
                for ((out, e), &y) in out.iter_mut().zip(&e[own.clone()]).zip(&y[own]) {
                    *out = e - exp::<FMA>(y) * sum;
                }
            }
        }
    }
}

#[inline(always)]
fn normalize_gradient_body<const FMA: bool>(
    e: Rows<'_>,
    x: Rows<'_>,
    groups: usize,
    center: bool,
    epsilon: f32,
    out: Parts<'_>,
) {
    let share = 1.0 / (x.len / groups) as f32;
    for ((e, x), mut out) in e.each().zip(x.each()).zip(out.each()) {
        for g in out.groups(x.len(), groups) {
            let (e, x) = (&e[g.clone()], &x[g.clone()]);
            let ((near, rest), (near_error, rest_of_error)) = if center {
                let first = (x[0], e[0]);
                let [sum, errors] =
                    sums(x, e, first, |[sum, errors], x, e| [sum + (x - first.0), errors + (e - first.1)]);
                (mean(first.0, sum, share), mean(first.1, errors, share))
            } else {
                ((0.0, 0.0), (0.0, 0.0))
            };
            // Of errors about their mean, which changes nothing but that no large ones cancel.
            let [squares, dot] = sums(x, e, (near, near_error), |[squares, dot], x, e| {
                let x = x - near;
                [mul_add::<FMA>(x, x, squares), mul_add::<FMA>(x, e - near_error, dot)]
            });
            let variance = squares * share - rest * rest + epsilon;
            let inverse = 1.0 / variance.sqrt();
            let along = (dot * share - rest * rest_of_error) * inverse;
            if !(SAFE.contains(&variance) && along.abs() <= SAFE_MEAN) {
                normalize_gradient_exactly(e, x, center, epsilon, out.of(g));
                continue;
            }
            let along = along * inverse;
            let rest = rest_of_error - rest * along;
            for (own, out) in out.of(g) {
                for ((out, &e), &x) in out.iter_mut().zip(&e[own.clone()]).zip(&x[own]) {
                    *out = inverse * (mul_add::<FMA>(near - x, along, e - near_error) - rest);
                }
            }
        }
    }
}

/// [`normalize_gradient`] for a group of any numbers, in double precision.
#[cold]
#[inline(never)]
fn normalize_gradient_exactly<'a>(
    e: &[f32],
    x: &[f32],
    center: bool,
    epsilon: f32,
    out: impl Iterator<Item = (Range<usize>, &'a mut [f32])>,
) {
    let n = x.len() as f64;
    let (mean, mean_error) = if center {
        let [x, e] = exact_sums(x, e, |x, e| [x, e]);
        (x / n, e / n)
    } else {
        (0.0, 0.0)
    };
    let [squares, dot] = exact_sums(x, e, |x, e| [(x - mean) * (x - mean), (x - mean) * (e - mean_error)]);
    let inverse = 1.0 / (squares / n + f64::from(epsilon)).sqrt();
    let along = dot * inverse * inverse / n;
    for (own, out) in out {
        for ((out, &e), &x) in out.iter_mut().zip(&e[own.clone()]).zip(&x[own]) {
            *out = (inverse * (f64::from(e) - mean_error - (f64::from(x) - mean) * along)) as f32;
        }
    }
}

#[inline(always)]
fn cross_entropy_gradient_body<const FMA: bool>(
    errors: Rows<'_>,
    logits: Rows<'_>,
    symbols: Rows<'_, u32>,
    room: &mut [f32],
    out: Parts<'_>,
) {
    let rows = errors.each().zip(logits.each()).zip(symbols.each()).zip(out.each());
    for (((error, x), symbol), mut out) in rows {
        let (error, symbol) = (error[0], symbol[0]);
        if symbol as usize >= x.len() {
            for (_, out) in out.of(0..x.len()) {
                out.fill(0.0);
            }
            continue;
        }
        let room = &mut room[..x.len()];
        let (_, sum) = exponentials::<FMA>(x, room);
        let scale = error / sum;
        for (own, out) in out.of(0..x.len()) {
            for (out, e) in out.iter_mut().zip(&room[own.clone()]) {
                *out = scale * e;
            }
            if own.contains(&(symbol as usize)) {
                out[symbol as usize - own.start] -= error;
            }
        }
    }
}
