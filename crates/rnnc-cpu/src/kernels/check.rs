//! For tests of products: buffers with poisoned borders, the shapes to try, and the product in double
//! precision.

/// Uneven numbers in [-1, 1].
pub(super) fn numbers(count: usize, seed: usize) -> Vec<f32> {
    (0..count).map(|i| (((i + 31 * seed) * 7919) % 2003) as f32 / 1001.0 - 1.0).collect()
}

/// Rows of numbers in one buffer, with NaN between them, before and after: whoever reads past a row's end is
/// found out, and so is whoever writes there.
pub(super) struct BorderedRows {
    pub(super) buffer: Vec<f32>,
    length: usize,
    count: usize,
}

pub(super) const BORDER: usize = 17;

impl BorderedRows {
    pub(super) fn new(count: usize, length: usize, value: impl Fn(usize, usize) -> f32) -> BorderedRows {
        let mut buffer = vec![f32::NAN; BORDER + count * (length + BORDER)];
        for r in 0..count {
            for i in 0..length {
                buffer[BORDER + r * (length + BORDER) + i] = value(r, i);
            }
        }
        BorderedRows { buffer, length, count }
    }

    pub(super) fn get(&self, row: usize, i: usize) -> f32 {
        self.buffer[BORDER + row * (self.length + BORDER) + i]
    }

    pub(super) fn pointers(&mut self) -> Vec<*mut f32> {
        let stride = self.length + BORDER;
        let start = self.buffer.as_mut_ptr();
        // Wrapping, since there may be no rows.
        (0..self.count).map(|r| start.wrapping_add(BORDER + r * stride)).collect()
    }

    fn borders_are_untouched(&self) -> bool {
        let stride = self.length + BORDER;
        self.buffer.iter().enumerate().all(|(i, x)| {
            let inside = i >= BORDER && (i - BORDER) % stride < self.length;
            inside || x.is_nan()
        })
    }
}

/// Checks one way to multiply, with weights W[o, k] = w[o * out_stride + k * in_stride].
pub(super) fn check(
    what: &str,
    (w, out_stride, in_stride): (&[f32], usize, usize),
    (n, kk, count): (usize, usize, usize),
    product: impl Fn(&[*const f32], &[*mut f32], bool),
) {
    let x = numbers(count * kk, 3);
    let mut rows = BorderedRows::new(count, kk, |r, k| x[r * kk + k]);
    for accumulate in [false, true] {
        let before = |r, o| if accumulate { (r * 5 + o) as f32 } else { f32::NAN };
        let mut outs = BorderedRows::new(count, n, before);
        let inputs: Vec<*const f32> = rows.pointers().into_iter().map(|p| p.cast_const()).collect();
        product(&inputs, &outs.pointers(), accumulate);
        assert!(outs.borders_are_untouched(), "{what} wrote past a row: n {n}, kk {kk}, rows {count}");
        for r in 0..count {
            for o in 0..n {
                let (mut want, mut size) = (0.0, 0.0);
                if accumulate {
                    want = f64::from(before(r, o));
                    size = want;
                }
                for k in 0..kk {
                    let term = f64::from(w[o * out_stride + k * in_stride]) * f64::from(rows.get(r, k));
                    want += term;
                    size += term.abs();
                }
                let got = f64::from(outs.get(r, o));
                assert!(
                    (got - want).abs() <= 1e-7 * (4.0 + (kk as f64).sqrt()) * size,
                    "{what}: {got}, not {want}, at row {r}, output {o}; n {n}, kk {kk}, rows {count}"
                );
            }
        }
    }
}

/// Shapes about every edge of the panels and blocks: all small ones with a few rows, some with all numbers of
/// rows.
pub(super) fn shapes() -> impl Iterator<Item = (usize, usize, usize)> {
    let small = (0..40).flat_map(|n| (0..40).map(move |kk| (n, kk, 1 + (n * 7 + kk * 3) % 20)));
    let tall = [(1, 1), (15, 33), (17, 8), (40, 5), (83, 20), (129, 16), (161, 3)];
    let tall = tall.into_iter().flat_map(|(n, kk)| (0..=26).map(move |rows| (n, kk, rows)));
    let large = [(257, 131, 1), (257, 131, 2), (301, 517, 3), (190, 1031, 7), (515, 77, 13), (300, 520, 37)];
    small.chain(tall).chain(large)
}
