//! Functions of whole rows: sums over groups of numbers, and what is made of each number and the sums of its group.
//!
//! A row is some groups of equal length, one after the other. A worker writes [`Parts`] of a result, but sums whole
//! groups, always in the same order: how a row is shared out changes no bit of it. Instruction sets may differ in the
//! last bits. A row lies in the first-level cache, so it is read again rather than kept. Rows come many at once, since a
//! short one takes no longer than a call. All panic if the rows of an operation differ in length, which is a mistake of
//! the caller.

#![allow(unsafe_code)] // parts of rows that other workers write parts of

use super::isa::{mul_add, multiversion};
use super::vecmath::exp;
use rnnc_plan::NO_SYMBOL;
use std::marker::PhantomData;
use std::ops::Range;

/// Rows that are read.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a, T = f32> {
    first: *const T,
    stride: usize,
    len: usize,
    count: usize,
    read: PhantomData<&'a T>,
}

impl<'a, T> Rows<'a, T> {
    /// So many rows of `len` numbers, the first at `first`, and from each to the next `stride`.
    ///
    /// # Safety
    ///
    /// They are there, and nobody writes them while this is.
    pub unsafe fn new(first: *const T, stride: usize, len: usize, count: usize) -> Rows<'a, T> {
        Rows { first, stride, len, count, read: PhantomData }
    }

    #[inline(always)]
    fn each(self) -> impl Iterator<Item = &'a [T]> {
        // SAFETY: these are the rows that are there.
        (0..self.count)
            .map(move |r| unsafe { std::slice::from_raw_parts(self.first.add(r * self.stride), self.len) })
    }
}

/// The parts of rows that are written, the same of each.
#[derive(Debug)]
pub struct Parts<'a> {
    first: *mut f32,
    stride: usize,
    count: usize,
    units: &'a [Range<usize>],
    written: PhantomData<&'a mut f32>,
}

impl<'a> Parts<'a> {
    /// The `units` of so many rows, the first at `first`, and from each to the next `stride`.
    ///
    /// # Safety
    ///
    /// The rows have these units, none of them overlap, and nobody else reads or writes them while this is there.
    pub unsafe fn new(first: *mut f32, stride: usize, count: usize, units: &'a [Range<usize>]) -> Parts<'a> {
        Parts { first, stride, count, units, written: PhantomData }
    }

    #[inline(always)]
    fn each(self) -> impl Iterator<Item = RowParts<'a>> {
        (0..self.count).map(move |r| RowParts {
            row: self.first.wrapping_add(r * self.stride),
            units: self.units,
            written: PhantomData,
        })
    }
}

/// Those of one row.
struct RowParts<'a> {
    row: *mut f32,
    units: &'a [Range<usize>],
    written: PhantomData<&'a mut f32>,
}

impl<'a> RowParts<'a> {
    /// Of a row of `len` numbers in so many groups, the units of each group of which some are written.
    #[inline(always)]
    fn groups(&self, len: usize, groups: usize) -> impl Iterator<Item = Range<usize>> + use<'a> {
        let (units, size) = (self.units, len / groups);
        let written =
            move |g: &Range<usize>| units.iter().any(|own| own.start.max(g.start) < own.end.min(g.end));
        (0..groups).map(move |g| g * size..(g + 1) * size).filter(written)
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
    pub fn softmax(x: Rows<'_>, groups: usize, room: &mut [f32], out: Parts<'_>) = softmax_body;

    /// out = x - ln (sum of e^x), with room for the exponentials of a group.
    pub fn log_softmax(x: Rows<'_>, groups: usize, room: &mut [f32], out: Parts<'_>) = log_softmax_body;

    /// out = (x - mean) / sqrt(variance + epsilon), with a mean of 0 unless `center`. In double precision: the mean of equal
    /// numbers is that number then, to the last bit, and no square is too large.
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

/// Partial sums side by side: enough to keep the adders busy, and each of them short.
pub(super) const LANES: usize = 32;
/// Numbers whose sum is formed in single precision; the blocks are added in double.
pub(super) const BLOCK: usize = 1024;

/// Partial results of one fold over a row.
pub(super) type Lanes = [f32; LANES];

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
pub(super) fn join(mut lanes: Lanes, of: impl Fn(f32, f32) -> f32) -> f32 {
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

/// Partial sums in double precision.
const DOUBLES: usize = 16;

/// K sums over two rows in double precision, of what `of` makes of a pair of numbers.
#[inline(always)]
fn exact_sums<const K: usize>(a: &[f32], b: &[f32], of: impl Fn(f64, f64) -> [f64; K]) -> [f64; K] {
    assert!(a.len() == b.len(), "rows of {} and of {} numbers", a.len(), b.len());
    let mut lanes = [[0.0; DOUBLES]; K];
    let (a_chunks, a_rest) = a.as_chunks::<DOUBLES>();
    let (b_chunks, b_rest) = b.as_chunks::<DOUBLES>();
    for (a, b) in a_chunks.iter().zip(b_chunks) {
        for l in 0..DOUBLES {
            let terms = of(f64::from(a[l]), f64::from(b[l]));
            for k in 0..K {
                lanes[k][l] += terms[k];
            }
        }
    }
    let mut totals = lanes.map(|lanes| lanes.iter().sum::<f64>());
    for (&a, &b) in a_rest.iter().zip(b_rest) {
        let terms = of(f64::from(a), f64::from(b));
        for k in 0..K {
            totals[k] += terms[k];
        }
    }
    totals
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

#[inline(always)]
fn normalize_body<const FMA: bool>(x: Rows<'_>, groups: usize, center: bool, epsilon: f32, out: Parts<'_>) {
    let n = (x.len / groups) as f64;
    for (x, mut out) in x.each().zip(out.each()) {
        for g in out.groups(x.len(), groups) {
            let x = &x[g.clone()];
            let mean = if center { exact_sums(x, x, |x, _| [x])[0] / n } else { 0.0 };
            let [squares] = exact_sums(x, x, |x, _| [(x - mean) * (x - mean)]);
            let inverse = 1.0 / (squares / n + f64::from(epsilon)).sqrt();
            for (own, out) in out.of(g) {
                for (out, &x) in out.iter_mut().zip(&x[own]) {
                    *out = ((f64::from(x) - mean) * inverse) as f32;
                }
            }
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
        let loss = match symbol[0] {
            NO_SYMBOL => 0.0,
            symbol => {
                let (max, sum) = exponentials::<FMA>(x, &mut room[..x.len()]);
                sum.ln() - (x[symbol as usize] - max)
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
    let n = (x.len / groups) as f64;
    for ((e, x), mut out) in e.each().zip(x.each()).zip(out.each()) {
        for g in out.groups(x.len(), groups) {
            let (e, x) = (&e[g.clone()], &x[g.clone()]);
            let (mean, mean_error) = if center {
                let [x, e] = exact_sums(x, e, |x, e| [x, e]);
                (x / n, e / n)
            } else {
                (0.0, 0.0)
            };
            let [squares, along] = exact_sums(x, e, |x, e| [(x - mean) * (x - mean), (x - mean) * e]);
            let inverse = 1.0 / (squares / n + f64::from(epsilon)).sqrt();
            let along = along * inverse * inverse / n;
            for (own, out) in out.of(g) {
                for ((out, &e), &x) in out.iter_mut().zip(&e[own.clone()]).zip(&x[own]) {
                    *out = (inverse * (f64::from(e) - mean_error - (f64::from(x) - mean) * along)) as f32;
                }
            }
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
        if symbol == NO_SYMBOL {
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

    /// A row by itself.
    fn row<T>(x: &[T]) -> Rows<'_, T> {
        // SAFETY: it is there, and borrowed.
        unsafe { Rows::new(x.as_ptr(), x.len(), x.len(), 1) }
    }

    /// Writes a row of so many units in parts.
    fn written(len: usize, parts: &[Range<usize>], write: Write<'_>) -> Vec<f32> {
        let mut out = vec![f32::NAN; len];
        // SAFETY: the row has these units, which do not overlap, and nobody else sees it.
        write(unsafe { Parts::new(out.as_mut_ptr(), len, 1, parts) });
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
                let softmax = |out: Parts<'_>| softmax(isa, row(&x), groups, &mut vec![0.0; size], out);
                check(&format!("softmax ({isa})"), &want, 5e-7, &softmax);
                let back = |out: Parts<'_>| softmax_gradient(isa, row(&e), row(&y), groups, out);
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
                let log_softmax =
                    |out: Parts<'_>| log_softmax(isa, row(&x), groups, &mut vec![0.0; size], out);
                check(&format!("log_softmax ({isa})"), &want, 5e-6, &log_softmax);
                let back = |out: Parts<'_>| log_softmax_gradient(isa, row(&e), row(&y), groups, out);
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
                    let normalize = |out: Parts<'_>| normalize(isa, row(&x), groups, center, epsilon, out);
                    check(&format!("normalize, {offset} ({isa})"), &want, within, &normalize);
                    let back = |out: Parts<'_>| {
                        normalize_gradient(isa, row(&e), row(&x), groups, center, epsilon, out)
                    };
                    check(&format!("normalize_gradient, {offset} ({isa})"), &gradient, 10.0 * within, &back);
                }
            }
        }
    }

    #[test]
    fn equal_numbers_normalize_to_zero_and_huge_ones_as_others_do() {
        for (size, isa) in lengths().flat_map(|size| Isa::available().map(move |isa| (size, isa))) {
            for value in [1000.7, 123_456.7, -1e30, 3e38] {
                let x = vec![value; size];
                let normalize = |out: Parts<'_>| normalize(isa, row(&x), 1, true, 1e-5, out);
                check(
                    &format!("normalize {size} times {value:e} ({isa})"),
                    &vec![0.0; size],
                    0.0,
                    &normalize,
                );
            }
            let (small, e) = (numbers(size, 2), numbers(size, 5));
            let huge: Vec<f32> = small.iter().map(|x| x * 2f32.powi(100)).collect();
            for center in [true, false] {
                let want = double(&written(size, &[0..size], &|out| {
                    normalize(isa, row(&small), 1, center, 0.0, out)
                }));
                let normalize = |out: Parts<'_>| normalize(isa, row(&huge), 1, center, 1e-5, out);
                // A number alone is its mean, and there is no deviation to divide by.
                if size > 1 {
                    check(&format!("normalize huge numbers ({isa})"), &want, 1e-6, &normalize);
                    let want = written(size, &[0..size], &|out| {
                        normalize_gradient(isa, row(&e), row(&small), 1, center, 0.0, out);
                    });
                    let largest = want.iter().fold(0f32, |most, x| most.max(x.abs()));
                    let got = written(size, &[0..size], &|out| {
                        normalize_gradient(isa, row(&e), row(&huge), 1, center, 1e-5, out);
                    });
                    for (got, want) in got.iter().zip(&want) {
                        assert!(
                            (got * 2f32.powi(100) - want).abs() <= 1e-6 * largest,
                            "{got:e} {want:e} ({isa})"
                        );
                    }
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
                let group_sum = |out: Parts<'_>| group_sum(isa, row(&x), groups, out);
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
                let symbols = [symbol as u32];
                let loss = |out: Parts<'_>| {
                    cross_entropy(isa, row(&x), row(&symbols), &mut vec![0.0; size], out);
                };
                check(&format!("cross_entropy ({isa})"), &[-softmax[symbol].ln()], 5e-6, &loss);
                let mut gradient: Vec<f64> = softmax.iter().map(|y| 0.7 * y).collect();
                gradient[symbol] -= 0.7;
                let back = |out: Parts<'_>| {
                    let (errors, room) = ([0.7], &mut vec![0.0; size]);
                    cross_entropy_gradient(isa, row(&errors), row(&x), row(&symbols), room, out);
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
                    ("softmax", &|out| softmax(isa, row(&x), 3, &mut room(), out)),
                    ("log_softmax", &|out| log_softmax(isa, row(&x), 3, &mut room(), out)),
                    ("normalize", &|out| normalize(isa, row(&x), 3, true, 1e-5, out)),
                    ("softmax_gradient", &|out| softmax_gradient(isa, row(&e), row(&x), 3, out)),
                    ("log_softmax_gradient", &|out| log_softmax_gradient(isa, row(&x), row(&e), 3, out)),
                    ("normalize_gradient", &|out| {
                        normalize_gradient(isa, row(&e), row(&x), 3, true, 1e-5, out)
                    }),
                ];
                for (name, write) in functions {
                    for (i, y) in written(3 * size, &[0..3 * size], write).iter().enumerate() {
                        assert_eq!(y.is_nan(), i / size == 1, "{name}, unit {i}, NaN in unit {at} ({isa})");
                    }
                }
            }
            let (x, room) = ([0.0, f32::NAN, 1.0], &mut [0.0; 3]);
            let mut loss = 0.0;
            // SAFETY: one number, borrowed here alone.
            let out = unsafe { Parts::new(&raw mut loss, 1, 1, &[0..1]) };
            cross_entropy(isa, row(&x), row(&[0]), room, out);
            assert!(loss.is_nan(), "cross_entropy ({isa})");
            let nothing = [f32::NAN; 40];
            let out = written(40, &[0..40], &|out| softmax(isa, row(&nothing), 1, &mut [0.0; 40], out));
            assert!(out.iter().all(|y| y.is_nan()), "all NaN ({isa})");
        }
    }

    #[test]
    fn the_largest_number_may_be_far_from_the_others() {
        for isa in Isa::available() {
            let mut x = vec![-3e38; 45];
            x[40] = 3e38;
            let out = written(45, &[0..45], &|out| softmax(isa, row(&x), 1, &mut [0.0; 45], out));
            assert!(out.iter().enumerate().all(|(i, &y)| y == f32::from(i == 40)), "{out:?} ({isa})");
        }
    }

    #[test]
    fn rows_are_independent_and_may_lie_apart() {
        let (count, size, stride) = (5, 43, 50);
        let x = numbers(count * stride, 6);
        let units = [3..7, 20..43];
        for isa in Isa::available() {
            let mut out = vec![f32::NAN; count * stride];
            // SAFETY: the rows lie in the vectors, and their units do not overlap.
            let (rows, parts) = unsafe {
                let rows = Rows::new(x.as_ptr(), stride, size, count);
                (rows, Parts::new(out.as_mut_ptr(), stride, count, &units))
            };
            normalize(isa, rows, 1, true, 1e-5, parts);
            for (x, out) in x.chunks(stride).zip(out.chunks(stride)) {
                let alone = |out: Parts<'_>| normalize(isa, row(&x[..size]), 1, true, 1e-5, out);
                let want = written(stride, &units, &alone);
                assert!(out.iter().zip(&want).all(|(a, b)| a.to_bits() == b.to_bits()), "{out:?} ({isa})");
            }
        }
    }

    #[test]
    fn without_a_symbol_there_is_no_loss_and_no_error() {
        let (x, symbols) = (numbers(20, 1), [NO_SYMBOL]);
        for isa in Isa::available() {
            let room = || vec![0.0; 20];
            let loss = |out: Parts<'_>| cross_entropy(isa, row(&x), row(&symbols), &mut room(), out);
            check("cross_entropy", &[0.0], 0.0, &loss);
            let back = |out: Parts<'_>| {
                cross_entropy_gradient(isa, row(&[1.0]), row(&x), row(&symbols), &mut room(), out);
            };
            check("cross_entropy_gradient", &[0.0; 20], 0.0, &back);
        }
    }
}
