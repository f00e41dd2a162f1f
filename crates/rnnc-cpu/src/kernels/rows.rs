//! Functions of whole rows: sums over groups of numbers, and what is made of each number and the sums of its group.
//!
//! A row is some groups of equal length, one after the other. A worker writes [`Parts`] of a result, but sums whole
//! groups, always in the same order: how a row is shared out changes no bit of it. Instruction sets may differ in the
//! last bits. A row lies in the first-level cache, so it is read again rather than kept. All panic if their rows differ in
//! length, which is a mistake of the caller.

#![allow(unsafe_code)] // parts of rows that other workers write parts of

use super::isa::{mul_add, multiversion};
use super::vecmath::exp;
use std::marker::PhantomData;
use std::ops::Range;

/// The parts of a row that are written.
#[derive(Debug)]
pub struct Parts<'a> {
    row: *mut f32,
    units: &'a [Range<usize>],
    written: PhantomData<&'a mut f32>,
}

impl<'a> Parts<'a> {
    /// The `units` of the row that begins at `row`.
    ///
    /// # Safety
    ///
    /// The row has these units, they do not overlap, and nobody else reads or writes them while the parts are there.
    pub unsafe fn new(row: *mut f32, units: &'a [Range<usize>]) -> Parts<'a> {
        Parts { row, units, written: PhantomData }
    }

    /// Writes the number everywhere.
    pub fn fill(&mut self, number: f32) {
        self.of(0..usize::MAX).for_each(|(_, out)| out.fill(number));
    }

    /// Whether any of some units are written.
    #[inline(always)]
    fn touch(&self, units: &Range<usize>) -> bool {
        self.units.iter().any(|own| own.start.max(units.start) < own.end.min(units.end))
    }

    /// What is written of some units: which, counted from the first of them, and where.
    #[inline(always)]
    fn of(&mut self, units: Range<usize>) -> impl Iterator<Item = (Range<usize>, &mut [f32])> {
        let row = self.row;
        self.units.iter().filter_map(move |own| {
            let own = own.start.max(units.start)..own.end.min(units.end);
            if own.is_empty() {
                return None;
            }
            // SAFETY: of these units, which nobody else touches; no two slices overlap, since the ranges do not.
            let out = unsafe { std::slice::from_raw_parts_mut(row.add(own.start), own.len()) };
            Some((own.start - units.start..own.end - units.start, out))
        })
    }
}

multiversion! {
    /// out = e^x / (sum of e^x), with room for the exponentials of a group.
    pub fn softmax(x: &[f32], groups: usize, room: &mut [f32], out: Parts<'_>) = softmax_body;

    /// out = x - ln (sum of e^x), with room for the exponentials of a group.
    pub fn log_softmax(x: &[f32], groups: usize, room: &mut [f32], out: Parts<'_>) = log_softmax_body;

    /// out = (x - mean) / sqrt(variance + epsilon), with a mean of 0 unless `center`.
    pub fn normalize(x: &[f32], groups: usize, center: bool, epsilon: f32, out: Parts<'_>) = normalize_body;

    /// out = the sum of each group, a unit each.
    pub fn group_sum(x: &[f32], groups: usize, out: Parts<'_>) = group_sum_body;

    /// -ln of the symbol's softmax, with room for the exponentials.
    pub fn cross_entropy(logits: &[f32], symbol: usize, room: &mut [f32]) -> f32 = cross_entropy_body;

    /// What [`softmax`] with the result y makes of errors e: y (e - sum of e y).
    pub fn softmax_gradient(e: &[f32], y: &[f32], groups: usize, out: Parts<'_>) = softmax_gradient_body;

    /// What [`log_softmax`] with the result y makes of errors e: e - e^y (sum of e).
    pub fn log_softmax_gradient(e: &[f32], y: &[f32], groups: usize, out: Parts<'_>) = log_softmax_gradient_body;

    /// What [`normalize`] of x makes of errors e: with n units, h the normalized ones and r = 1 / deviation,
    /// r (e - mean(e) - h mean(e h)), the first mean only if centered (Ba, Kiros & Hinton 2016, supplement).
    #[allow(clippy::too_many_arguments)]
    pub fn normalize_gradient(
        e: &[f32],
        x: &[f32],
        groups: usize,
        center: bool,
        epsilon: f32,
        out: Parts<'_>,
    ) = normalize_gradient_body;

    /// What [`cross_entropy`] makes of an error: error (softmax - 1 at the symbol), with room for the exponentials.
    pub fn cross_entropy_gradient(
        error: f32,
        logits: &[f32],
        symbol: usize,
        room: &mut [f32],
        out: Parts<'_>,
    ) = cross_entropy_gradient_body;
}

/// Partial sums side by side: enough to keep the adders busy, and each of them short.
const LANES: usize = 32;
/// Numbers whose sum is formed in single precision; the blocks are added in double.
const BLOCK: usize = 1024;

/// Partial results of one fold over a row.
type Lanes = [f32; LANES];

/// One step of K folds over two rows, in every lane.
#[inline(always)]
fn fold_chunk<const K: usize>(
    lanes: &mut [Lanes; K],
    a: &Lanes,
    b: &Lanes,
    add: &impl Fn([f32; K], f32, f32) -> [f32; K],
) {
    for l in 0..LANES {
        let mut lane = [0.0; K];
        for k in 0..K {
            lane[k] = lanes[k][l];
        }
        lane = add(lane, a[l], b[l]);
        for k in 0..K {
            lanes[k][l] = lane[k];
        }
    }
}

/// K folds over two rows, a lane each for every LANES-th pair of numbers. Lanes without a last one of their own are given
/// `fill`, which must change nothing.
#[inline(always)]
fn fold<const K: usize>(
    mut lanes: [Lanes; K],
    a: &[f32],
    b: &[f32],
    fill: (f32, f32),
    add: impl Fn([f32; K], f32, f32) -> [f32; K],
) -> [Lanes; K] {
    let (a_chunks, a_rest) = a.as_chunks::<LANES>();
    let (b_chunks, b_rest) = b.as_chunks::<LANES>();
    for (a, b) in a_chunks.iter().zip(b_chunks) {
        fold_chunk(&mut lanes, a, b, &add);
    }
    if !a_rest.is_empty() {
        // In lanes of their own: an index into `lanes` would keep these in memory.
        let (mut a, mut b) = ([fill.0; LANES], [fill.1; LANES]);
        a[..a_rest.len()].copy_from_slice(a_rest);
        b[..b_rest.len()].copy_from_slice(b_rest);
        fold_chunk(&mut lanes, &a, &b, &add);
    }
    lanes
}

/// One result of all lanes, in halves.
#[inline(always)]
fn join(mut lanes: Lanes, of: impl Fn(f32, f32) -> f32) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] = of(lanes[lane], lanes[lane + width]);
        }
        width /= 2;
    }
    lanes[0]
}

/// K sums over two rows, of what `add` adds to them for a pair of numbers: nothing for `zero`. Their errors grow with the
/// square root of the length at most, times less than 64 roundings.
#[inline(always)]
fn sums<const K: usize>(
    a: &[f32],
    b: &[f32],
    zero: (f32, f32),
    add: impl Fn([f32; K], f32, f32) -> [f32; K],
) -> [f32; K] {
    assert!(a.len() == b.len(), "rows of {} and of {} numbers", a.len(), b.len());
    let mut totals = [0.0; K];
    for (a, b) in a.chunks(BLOCK).zip(b.chunks(BLOCK)) {
        let lanes = fold([[0.0; LANES]; K], a, b, zero, &add);
        for k in 0..K {
            totals[k] += f64::from(join(lanes[k], |a, b| a + b));
        }
    }
    totals.map(|total| total as f32)
}

#[inline(always)]
fn sum(x: &[f32]) -> f32 {
    let [sum] = sums(x, x, (0.0, 0.0), |[sum], x, _| [sum + x]);
    sum
}

/// The largest of the numbers that are no NaN.
#[inline(always)]
fn largest(x: &[f32]) -> f32 {
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    let none = f32::NEG_INFINITY;
    let [lanes] = fold([[none; LANES]], x, x, (none, none), |[most], x, _| [larger(most, x)]);
    join(lanes, larger)
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

/// The units of a group.
#[inline(always)]
fn group(index: usize, size: usize) -> Range<usize> {
    index * size..(index + 1) * size
}

#[inline(always)]
fn softmax_body<const FMA: bool>(x: &[f32], groups: usize, room: &mut [f32], mut out: Parts<'_>) {
    let size = x.len() / groups;
    let room = &mut room[..size];
    for g in (0..groups).map(|g| group(g, size)) {
        if out.touch(&g) {
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
fn log_softmax_body<const FMA: bool>(x: &[f32], groups: usize, room: &mut [f32], mut out: Parts<'_>) {
    let size = x.len() / groups;
    let room = &mut room[..size];
    for g in (0..groups).map(|g| group(g, size)) {
        if out.touch(&g) {
            let x = &x[g.clone()];
            let (max, sum) = exponentials::<FMA>(x, room);
            let log = sum.ln();
            for (own, out) in out.of(g) {
                for (out, x) in out.iter_mut().zip(&x[own]) {
                    *out = (x - max) - log;
                }
            }
        }
    }
}

#[inline(always)]
fn normalize_body<const FMA: bool>(x: &[f32], groups: usize, center: bool, epsilon: f32, mut out: Parts<'_>) {
    let size = x.len() / groups;
    let n = size as f32;
    for g in (0..groups).map(|g| group(g, size)) {
        if out.touch(&g) {
            let x = &x[g.clone()];
            let mean = if center { sum(x) / n } else { 0.0 };
            let [squares] = sums(x, x, (mean, mean), |[squares], x, _| {
                let c = x - mean;
                [mul_add::<FMA>(c, c, squares)]
            });
            let inverse = 1.0 / (squares / n + epsilon).sqrt();
            for (own, out) in out.of(g) {
                for (out, x) in out.iter_mut().zip(&x[own]) {
                    *out = (x - mean) * inverse;
                }
            }
        }
    }
}

#[inline(always)]
fn group_sum_body<const FMA: bool>(x: &[f32], groups: usize, mut out: Parts<'_>) {
    let size = x.len() / groups;
    for (own, out) in out.of(0..groups) {
        for (out, g) in out.iter_mut().zip(own) {
            *out = sum(&x[group(g, size)]);
        }
    }
}

#[inline(always)]
fn cross_entropy_body<const FMA: bool>(logits: &[f32], symbol: usize, room: &mut [f32]) -> f32 {
    let (max, sum) = exponentials::<FMA>(logits, &mut room[..logits.len()]);
    sum.ln() - (logits[symbol] - max)
}

#[inline(always)]
fn softmax_gradient_body<const FMA: bool>(e: &[f32], y: &[f32], groups: usize, mut out: Parts<'_>) {
    let size = y.len() / groups;
    for g in (0..groups).map(|g| group(g, size)) {
        if out.touch(&g) {
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
fn log_softmax_gradient_body<const FMA: bool>(e: &[f32], y: &[f32], groups: usize, mut out: Parts<'_>) {
    let size = y.len() / groups;
    for g in (0..groups).map(|g| group(g, size)) {
        if out.touch(&g) {
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
    e: &[f32],
    x: &[f32],
    groups: usize,
    center: bool,
    epsilon: f32,
    mut out: Parts<'_>,
) {
    let size = x.len() / groups;
    let n = size as f32;
    for g in (0..groups).map(|g| group(g, size)) {
        if out.touch(&g) {
            let (e, x) = (&e[g.clone()], &x[g.clone()]);
            let (mean, mean_error) = if center {
                let [x, e] = sums(x, e, (0.0, 0.0), |[x_sum, e_sum], x, e| [x_sum + x, e_sum + e]);
                (x / n, e / n)
            } else {
                (0.0, 0.0)
            };
            let [squares, along] = sums(x, e, (mean, 0.0), |[squares, along], x, e| {
                let c = x - mean;
                [mul_add::<FMA>(c, c, squares), mul_add::<FMA>(c, e, along)]
            });
            let inverse = 1.0 / (squares / n + epsilon).sqrt();
            let along = along * inverse * inverse / n;
            for (own, out) in out.of(g) {
                for ((out, e), x) in out.iter_mut().zip(&e[own.clone()]).zip(&x[own]) {
                    *out = inverse * (e - mean_error - (x - mean) * along);
                }
            }
        }
    }
}

#[inline(always)]
fn cross_entropy_gradient_body<const FMA: bool>(
    error: f32,
    logits: &[f32],
    symbol: usize,
    room: &mut [f32],
    mut out: Parts<'_>,
) {
    let room = &mut room[..logits.len()];
    let (_, sum) = exponentials::<FMA>(logits, room);
    let scale = error / sum;
    for (own, out) in out.of(0..logits.len()) {
        for (out, e) in out.iter_mut().zip(&room[own.clone()]) {
            *out = scale * e;
        }
        if own.contains(&symbol) {
            out[symbol - own.start] -= error;
        }
    }
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init)] // a list of one range is meant
mod tests {
    use super::super::check::numbers;
    use super::super::isa::Isa;
    use super::*;

    /// A function that writes parts of a row.
    type Write<'a> = &'a dyn Fn(Parts<'_>);

    /// Lengths about every edge of the lanes, and of the blocks.
    fn lengths() -> impl Iterator<Item = usize> {
        (1..70).chain([127, 128, 129, 1000, 1023, 1024, 1025, 2100, 4096])
    }

    /// Rows of some groups, by the groups' length and number.
    fn shapes() -> impl Iterator<Item = (usize, usize)> {
        lengths().flat_map(|size| [(size, 1), (size, 3)])
    }

    fn double(x: &[f32]) -> Vec<f64> {
        x.iter().map(|&x| f64::from(x)).collect()
    }

    fn dot(a: &[f64], b: &[f64]) -> f64 {
        a.iter().zip(b).map(|(a, b)| a * b).sum()
    }

    /// Writes a row of so many units in parts.
    fn written(len: usize, parts: &[Range<usize>], write: Write<'_>) -> Vec<f32> {
        let mut out = vec![f32::NAN; len];
        // SAFETY: the row has these units, which do not overlap, and nobody else sees it.
        write(unsafe { Parts::new(out.as_mut_ptr(), parts) });
        out
    }

    /// Checks a function that writes a row: what it makes of it, within some distance of `want`, and that its parts are the
    /// same however they are dealt, and nothing else is written.
    fn check(what: &str, want: &[f64], within: f64, write: Write<'_>) {
        let n = want.len();
        let all = written(n, &[0..n], write);
        for (i, (&got, want)) in all.iter().zip(want).enumerate() {
            assert!(
                (f64::from(got) - want).abs() <= within,
                "{what}, unit {i} of {n}: {got:e}, not {want:e}"
            );
        }
        let (a, b) = (n / 3, n - n / 4);
        for parts in [&[0..a][..], &[a..b], &[b..n], &[0..a, b..n], &[a..a, a..b, b..n]] {
            for (i, (got, all)) in written(n, parts, write).iter().zip(&all).enumerate() {
                if parts.iter().any(|part| part.contains(&i)) {
                    assert_eq!(got.to_bits(), all.to_bits(), "{what}, unit {i} of {n} in {parts:?}");
                } else {
                    assert!(got.is_nan(), "{what} wrote unit {i} of {n}, not in {parts:?}");
                }
            }
        }
    }

    /// Each group's results by a function in double precision.
    fn by_group(x: &[f32], size: usize, of: impl Fn(&[f64]) -> Vec<f64>) -> Vec<f64> {
        x.chunks(size).flat_map(|x| of(&double(x))).collect()
    }

    /// The same of two rows.
    fn by_groups(e: &[f32], x: &[f32], size: usize, of: impl Fn(&[f64], &[f64]) -> Vec<f64>) -> Vec<f64> {
        e.chunks(size).zip(x.chunks(size)).flat_map(|(e, x)| of(&double(e), &double(x))).collect()
    }

    fn exact_softmax(x: &[f64]) -> Vec<f64> {
        let max = x.iter().copied().fold(f64::MIN, f64::max);
        let sum: f64 = x.iter().map(|x| (x - max).exp()).sum();
        x.iter().map(|x| (x - max).exp() / sum).collect()
    }

    /// (x - mean, 1 / deviation)
    fn exact_statistics(x: &[f64], center: bool, epsilon: f64) -> (Vec<f64>, f64) {
        let n = x.len() as f64;
        let mean = if center { x.iter().sum::<f64>() / n } else { 0.0 };
        let centered: Vec<f64> = x.iter().map(|x| x - mean).collect();
        let inverse = 1.0 / (dot(&centered, &centered) / n + epsilon).sqrt();
        (centered, inverse)
    }

    #[test]
    fn softmax_and_its_gradient_agree_with_double_precision() {
        for (size, groups) in shapes() {
            let x: Vec<f32> = numbers(groups * size, 1).iter().map(|x| 1000.0 + 8.0 * x).collect();
            let e = numbers(x.len(), 5);
            let want = by_group(&x, size, exact_softmax);
            let y: Vec<f32> = want.iter().map(|&y| y as f32).collect();
            let gradient = by_groups(&e, &y, size, |e, y| {
                let dot = dot(e, y);
                e.iter().zip(y).map(|(e, y)| y * (e - dot)).collect()
            });
            for isa in Isa::available() {
                let softmax = |out: Parts<'_>| softmax(isa, &x, groups, &mut vec![0.0; size], out);
                check(&format!("softmax ({isa})"), &want, 5e-7, &softmax);
                let back = |out: Parts<'_>| softmax_gradient(isa, &e, &y, groups, out);
                check(&format!("softmax_gradient ({isa})"), &gradient, 5e-7, &back);
            }
        }
    }

    #[test]
    fn log_softmax_and_its_gradient_agree_with_double_precision() {
        for (size, groups) in shapes() {
            let x: Vec<f32> = numbers(groups * size, 1).iter().map(|x| 8.0 * x).collect();
            let e = numbers(x.len(), 5);
            let want = by_group(&x, size, |x| exact_softmax(x).into_iter().map(f64::ln).collect());
            let y: Vec<f32> = want.iter().map(|&y| y as f32).collect();
            let gradient = by_groups(&e, &y, size, |e, y| {
                let sum: f64 = e.iter().sum();
                e.iter().zip(y).map(|(e, y)| e - y.exp() * sum).collect()
            });
            for isa in Isa::available() {
                let log_softmax = |out: Parts<'_>| log_softmax(isa, &x, groups, &mut vec![0.0; size], out);
                check(&format!("log_softmax ({isa})"), &want, 5e-6, &log_softmax);
                let back = |out: Parts<'_>| log_softmax_gradient(isa, &e, &y, groups, out);
                check(&format!("log_softmax_gradient ({isa})"), &gradient, 5e-6, &back);
            }
        }
    }

    #[test]
    fn normalize_and_its_gradient_agree_with_double_precision_far_from_zero_too() {
        for (size, groups) in shapes() {
            for (offset, center, within) in [(0.0, true, 2e-6), (0.5, false, 2e-6), (1e3, true, 1e-3)] {
                let x: Vec<f32> = numbers(groups * size, 2).iter().map(|x| offset + x).collect();
                let e = numbers(x.len(), 5);
                let epsilon = 0.01;
                let want = by_group(&x, size, |x| {
                    let (centered, inverse) = exact_statistics(x, center, 0.01);
                    centered.iter().map(|c| c * inverse).collect()
                });
                let gradient = by_groups(&e, &x, size, |e, x| {
                    let (centered, inverse) = exact_statistics(x, center, 0.01);
                    let n = e.len() as f64;
                    let mean = if center { e.iter().sum::<f64>() / n } else { 0.0 };
                    let along = dot(e, &centered) * inverse * inverse / n;
                    e.iter().zip(&centered).map(|(e, c)| inverse * (e - mean - c * along)).collect()
                });
                for isa in Isa::available() {
                    let normalize = |out: Parts<'_>| normalize(isa, &x, groups, center, epsilon, out);
                    check(&format!("normalize, {offset} ({isa})"), &want, within, &normalize);
                    let back = |out: Parts<'_>| normalize_gradient(isa, &e, &x, groups, center, epsilon, out);
                    check(&format!("normalize_gradient, {offset} ({isa})"), &gradient, 10.0 * within, &back);
                }
            }
        }
    }

    #[test]
    fn sums_of_groups_agree_with_double_precision() {
        for (size, groups) in lengths().flat_map(|size| [(size, 1), (size, 8)]).chain([(1_000_003, 1)]) {
            let x = numbers(groups * size, 3);
            let want = by_group(&x, size, |x| vec![x.iter().sum()]);
            for isa in Isa::available() {
                let group_sum = |out: Parts<'_>| group_sum(isa, &x, groups, out);
                check(&format!("group_sum, {size} ({isa})"), &want, 5e-7 * size as f64, &group_sum);
            }
        }
    }

    #[test]
    fn cross_entropy_and_its_gradient_agree_with_double_precision() {
        for size in lengths() {
            let x: Vec<f32> = numbers(size, 1).iter().map(|x| 1000.0 + 8.0 * x).collect();
            let softmax = exact_softmax(&double(&x));
            for (isa, symbol) in Isa::available().flat_map(|isa| [(isa, 0), (isa, size / 2), (isa, size - 1)])
            {
                let got = f64::from(cross_entropy(isa, &x, symbol, &mut vec![0.0; size]));
                let want = -softmax[symbol].ln();
                assert!((got - want).abs() <= 5e-6, "{size}, symbol {symbol} ({isa}): {got:e}, not {want:e}");
                let mut gradient: Vec<f64> = softmax.iter().map(|y| 0.7 * y).collect();
                gradient[symbol] -= 0.7;
                let back = |out: Parts<'_>| {
                    cross_entropy_gradient(isa, 0.7, &x, symbol, &mut vec![0.0; size], out);
                };
                check(&format!("cross_entropy_gradient ({isa})"), &gradient, 5e-7, &back);
            }
        }
    }

    #[test]
    fn a_nan_spoils_its_group_and_no_other() {
        let size = 37;
        for isa in Isa::available() {
            for at in 0..size {
                let mut x = numbers(3 * size, 4);
                let e = numbers(3 * size, 5);
                x[size + at] = f32::NAN;
                let room = || vec![0.0; size];
                let functions: [(&str, Write<'_>); 6] = [
                    ("softmax", &|out| softmax(isa, &x, 3, &mut room(), out)),
                    ("log_softmax", &|out| log_softmax(isa, &x, 3, &mut room(), out)),
                    ("normalize", &|out| normalize(isa, &x, 3, true, 1e-5, out)),
                    ("softmax_gradient", &|out| softmax_gradient(isa, &e, &x, 3, out)),
                    ("log_softmax_gradient", &|out| log_softmax_gradient(isa, &x, &e, 3, out)),
                    ("normalize_gradient", &|out| normalize_gradient(isa, &e, &x, 3, true, 1e-5, out)),
                ];
                for (name, write) in functions {
                    for (i, y) in written(3 * size, &[0..3 * size], write).iter().enumerate() {
                        assert_eq!(y.is_nan(), i / size == 1, "{name}, unit {i}, NaN in unit {at} ({isa})");
                    }
                }
                assert!(cross_entropy(isa, &x[size..2 * size], 0, &mut room()).is_nan());
            }
            let nothing = [f32::NAN; 40];
            let out = written(40, &[0..40], &|out| softmax(isa, &nothing, 1, &mut [0.0; 40], out));
            assert!(out.iter().all(|y| y.is_nan()), "all NaN ({isa})");
        }
    }

    #[test]
    fn the_largest_number_may_be_far_from_the_others() {
        for isa in Isa::available() {
            let mut x = vec![-3e38; 45];
            x[40] = 3e38;
            let out = written(45, &[0..45], &|out| softmax(isa, &x, 1, &mut [0.0; 45], out));
            assert!(out.iter().enumerate().all(|(i, &y)| y == f32::from(i == 40)), "{out:?} ({isa})");
        }
    }

    #[test]
    fn filling_writes_the_parts_only() {
        let out = written(9, &[1..3, 5..6], &|mut out| out.fill(2.0));
        let filled: Vec<usize> = (0..9).filter(|&i| out[i] == 2.0).collect();
        assert_eq!(filled, [1, 2, 5]);
    }
}
