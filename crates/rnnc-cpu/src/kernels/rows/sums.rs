//! Sums and other folds over a row, always in the same order.

/// Partial sums side by side: enough to keep the adders busy, and each of them short.
pub(in crate::kernels) const LANES: usize = 32;
/// Numbers whose sum is formed in single precision; the blocks are added in double.
pub(in crate::kernels) const BLOCK: usize = 1024;

/// Partial results of one fold over a row.
pub(in crate::kernels) type Lanes = [f32; LANES];

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
pub(in crate::kernels) fn join(mut lanes: Lanes, of: impl Fn(f32, f32) -> f32) -> f32 {
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
pub(super) fn sums<const K: usize>(
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
pub(super) fn exact_sums<const K: usize>(
    a: &[f32],
    b: &[f32],
    of: impl Fn(f64, f64) -> [f64; K],
) -> [f64; K] {
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
pub(super) fn sum(x: &[f32]) -> f32 {
    let [sum] = sums(x, x, (0.0, 0.0), |[sum], x, _| [sum + x]);
    sum
}

/// The largest of the numbers that are no NaN.
#[inline(always)]
pub(super) fn largest(x: &[f32]) -> f32 {
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    let none = f32::NEG_INFINITY;
    let [lanes] = fold([[none; LANES]], x, x, (none, none), |[most], x, _| [larger(most, x)]);
    join(lanes, larger)
}
