//! Against double precision, for groups of all lengths, on every instruction set.

use super::*;
use crate::kernels::check::numbers;
use crate::kernels::isa::Isa;
use std::ops::Range;

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
/// same however they are partitioned, and nothing else is written.
fn check(what: &str, want: &[f64], within: f64, write: Write<'_>) {
    let n = want.len();
    let all = written(n, &[0..n], write);
    for (i, (&got, want)) in all.iter().zip(want).enumerate() {
        assert!((f64::from(got) - want).abs() <= within, "{what}, unit {i} of {n}: {got:e}, not {want:e}");
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
            let log_softmax = |out: Parts<'_>| log_softmax(isa, row(&x), groups, &mut vec![0.0; size], out);
            check(&format!("log_softmax ({isa})"), &want, 5e-6, &log_softmax);
            let back = |out: Parts<'_>| log_softmax_gradient(isa, row(&e), row(&y), groups, out);
            check(&format!("log_softmax_gradient ({isa})"), &gradient, 5e-6, &back);
        }
    }
}

#[test]
fn normalize_and_its_gradient_agree_with_double_precision_far_from_zero_too() {
    for (size, groups) in shapes() {
        for (offset, center, within) in
            [(0.0, true, 2e-6), (0.5, false, 2e-6), (1e3, true, 2e-6), (1e6, true, 2e-6)]
        {
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
                let back =
                    |out: Parts<'_>| normalize_gradient(isa, row(&e), row(&x), groups, center, epsilon, out);
                check(&format!("normalize_gradient, {offset} ({isa})"), &gradient, 10.0 * within, &back);
            }
        }
    }
}

#[test]
fn equal_numbers_normalize_to_zero() {
    for (size, isa) in lengths().flat_map(|size| Isa::available().map(move |isa| (size, isa))) {
        for value in [1000.7, 123_456.7, -1e30, 3e38] {
            let x = vec![value; size];
            let normalize = |out: Parts<'_>| normalize(isa, row(&x), 1, true, 1e-5, out);
            check(&format!("normalize {size} times {value:e} ({isa})"), &vec![0.0; size], 0.0, &normalize);
        }
    }
}

/// Rows in which single precision is at its edges, by what they are.
fn edges(size: usize, seed: usize) -> Vec<(String, Vec<f32>)> {
    let numbers = numbers(size, seed);
    let scaled = |scale: f32| numbers.iter().map(|x| x * scale).collect::<Vec<_>>();
    let mut rows = vec![
        ("equal".into(), vec![1000.7; size]),
        ("largest".into(), (0..size).map(|i| [f32::MAX, f32::MIN][i % 3 % 2]).collect()),
    ];
    for scale in [1.0, 1e20, 1e30, 1e-15, 1e-30, 1e-37] {
        rows.push((format!("about {scale:e}"), scaled(scale)));
    }
    for offset in [-1e6, 1e20] {
        // Far apart by their last bits only.
        let x = numbers.iter().map(|x| offset + offset * 1e-6 * x).collect();
        rows.push((format!("close to {offset:e}"), x));
    }
    for (large, at) in [1e6, 1e20, 3e38].into_iter().flat_map(|large| [(large, 0), (large, size - 1)]) {
        let mut x = numbers.clone();
        x[at] = large;
        rows.push((format!("one of {large:e} in place {at}"), x));
    }
    rows
}

#[test]
fn normalize_and_its_gradient_agree_with_double_precision_at_the_edges_of_single() {
    for size in [1, 2, 3, 8, 31, 64, 100, 1025, 4096] {
        for (what, x) in edges(size, 2) {
            for (center, epsilon) in
                [(true, 1e-5f32), (true, 0.0), (false, 1e-5), (false, 0.0), (true, 1e-30)]
            {
                let (centered, inverse) = exact_statistics(&double(&x), center, epsilon.into());
                let want: Vec<f64> = centered.iter().map(|c| c * inverse).collect();
                let agrees = |what: String, got: &[f32], want: &[f64], scale: f64| {
                    for (i, (&got, &want)) in got.iter().zip(want).enumerate() {
                        let within = 4e-6 * scale + f64::from(f32::MIN_POSITIVE);
                        let near = (f64::from(got) - want).abs() <= within;
                        let past = got.is_infinite() && want.abs() + within > f64::from(f32::MAX);
                        // Where all numbers are equal and epsilon is 0, there is no result.
                        assert!(
                            near || past || want.is_nan() && got.is_nan(),
                            "{what}, unit {i} of {size}: {got:e}, not {want:e} of {scale:e}"
                        );
                    }
                };
                let largest = |x: &[f64]| x.iter().fold(0f64, |most, x| most.max(x.abs()));
                for isa in Isa::available() {
                    let what = format!("{what}, {center}, {epsilon:e} ({isa})");
                    let got =
                        written(size, &[0..size], &|out| normalize(isa, row(&x), 1, center, epsilon, out));
                    agrees(what, &got, &want, largest(&want));
                }
                for (errors, e) in edges(size, 5) {
                    let errors = format!("{what}, {center}, {epsilon:e}, errors {errors}");
                    let e64 = double(&e);
                    let n = size as f64;
                    let mean =
                        if center { e64[0] + e64.iter().map(|e| e - e64[0]).sum::<f64>() / n } else { 0.0 };
                    let e64: Vec<f64> = e64.iter().map(|e| e - mean).collect();
                    let along = dot(&e64, &want) / n;
                    let gradient: Vec<f64> =
                        e64.iter().zip(&want).map(|(e, y)| inverse * (e - y * along)).collect();
                    // Where the error is along the numbers themselves, nothing is left of it.
                    let scale = inverse * largest(&e64).max(largest(&want) * along.abs());
                    for isa in Isa::available() {
                        let got = written(size, &[0..size], &|out| {
                            normalize_gradient(isa, row(&e), row(&x), 1, center, epsilon, out);
                        });
                        agrees(format!("{errors} ({isa})"), &got, &gradient, scale);
                    }
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
        for (isa, symbol) in Isa::available().flat_map(|isa| [(isa, 0), (isa, size / 2), (isa, size - 1)]) {
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
                ("normalize_gradient", &|out| normalize_gradient(isa, row(&e), row(&x), 3, true, 1e-5, out)),
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
    let (x, symbols) = (numbers(20, 1), [rnnc_plan::NO_SYMBOL]);
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
