//! The operations with operands in a fixed order, on vectors.

use rnnc_graph::Operation;

/// Applies an operation other than a dropout mask and those that read symbols.
pub(crate) fn apply(operation: Operation, operands: &[Vec<f64>]) -> Vec<f64> {
    let a = || &operands[0][..];
    let pairs =
        |f: fn(f64, f64) -> f64| operands[0].iter().zip(&operands[1]).map(|(&a, &b)| f(a, b)).collect();
    match operation {
        Operation::Divide => pairs(|a, b| a / b),
        Operation::Max => pairs(|a, b| if a > b || a.is_nan() { a } else { b }),
        Operation::Min => pairs(|a, b| if a < b || a.is_nan() { a } else { b }),
        Operation::Known => pairs(|a, b| if b.is_nan() { 0.0 } else { a }),
        Operation::Step => pairs(|a, b| match a.partial_cmp(&b) {
            Some(std::cmp::Ordering::Greater) => 1.0,
            Some(std::cmp::Ordering::Equal) => 0.5,
            Some(std::cmp::Ordering::Less) => 0.0,
            None => f64::NAN,
        }),
        Operation::Softmax { groups } => by_group(groups, a(), softmax),
        Operation::LogSoftmax { groups } => by_group(groups, a(), log_softmax),
        Operation::Normalize { groups, center, epsilon } => {
            by_group(groups, a(), |a| normalize(a, center, epsilon).0)
        }
        Operation::GroupSum { groups } => by_group(groups, a(), |a| vec![a.iter().sum()]),
        Operation::SoftmaxGradient { groups } => by_group2(groups, operands, |e, y| {
            let dot = dot(e, y);
            e.iter().zip(y).map(|(e, y)| y * (e - dot)).collect()
        }),
        Operation::LogSoftmaxGradient { groups } => by_group2(groups, operands, |e, y| {
            let sum: f64 = e.iter().sum();
            e.iter().zip(y).map(|(e, y)| e - y.exp() * sum).collect()
        }),
        Operation::NormalizeGradient { groups, center, epsilon } => by_group2(groups, operands, |e, x| {
            let (y, deviation) = normalize(x, center, epsilon);
            let mean = if center { e.iter().sum::<f64>() / e.len() as f64 } else { 0.0 };
            let along = dot(e, &y) / e.len() as f64;
            e.iter().zip(&y).map(|(e, y)| (e - mean - along * y) / deviation).collect()
        }),
        Operation::CrossEntropy | Operation::CrossEntropyGradient | Operation::DropoutMask { .. } => {
            Vec::new()
        }
    }
}

/// -log softmax(logits)[symbol], and 0 without a symbol.
pub(crate) fn cross_entropy(logits: &[f64], symbol: Option<usize>) -> f64 {
    symbol.map_or(0.0, |symbol| -log_softmax(logits)[symbol])
}

/// error (softmax(logits) - one-hot(symbol)), and 0 without a symbol.
pub(crate) fn cross_entropy_gradient(error: f64, logits: &[f64], symbol: Option<usize>) -> Vec<f64> {
    let Some(symbol) = symbol else { return vec![0.0; logits.len()] };
    let mut gradient = softmax(logits);
    gradient[symbol] -= 1.0;
    gradient.iter_mut().for_each(|g| *g *= error);
    gradient
}

fn by_group(groups: usize, a: &[f64], f: impl Fn(&[f64]) -> Vec<f64>) -> Vec<f64> {
    a.chunks(a.len() / groups).flat_map(f).collect()
}

fn by_group2(groups: usize, operands: &[Vec<f64>], f: impl Fn(&[f64], &[f64]) -> Vec<f64>) -> Vec<f64> {
    let len = operands[0].len() / groups;
    operands[0].chunks(len).zip(operands[1].chunks(len)).flat_map(|(a, b)| f(a, b)).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// The largest is taken out of exponentials so that nothing overflows. It drops NaN; the sums keep it.
fn largest(a: &[f64]) -> f64 {
    a.iter().copied().fold(f64::NEG_INFINITY, f64::max)
}

fn log_softmax(a: &[f64]) -> Vec<f64> {
    let largest = largest(a);
    let log_sum = a.iter().map(|a| (a - largest).exp()).sum::<f64>().ln();
    a.iter().map(|a| (a - largest) - log_sum).collect()
}

fn softmax(a: &[f64]) -> Vec<f64> {
    let largest = largest(a);
    let exponentials: Vec<f64> = a.iter().map(|a| (a - largest).exp()).collect();
    let sum: f64 = exponentials.iter().sum();
    exponentials.iter().map(|x| x / sum).collect()
}

/// The normalized vector, and what it was divided by.
fn normalize(a: &[f64], center: bool, epsilon: f64) -> (Vec<f64>, f64) {
    let n = a.len() as f64;
    // From the first of them: equal numbers deviate by nothing, not by how their mean is rounded.
    let origin = if center { a.first().copied().unwrap_or(0.0) } else { 0.0 };
    let mean = if center { a.iter().map(|a| a - origin).sum::<f64>() / n } else { 0.0 };
    let centered: Vec<f64> = a.iter().map(|a| (a - origin) - mean).collect();
    let deviation = (dot(&centered, &centered) / n + epsilon).sqrt();
    (centered.iter().map(|c| c / deviation).collect(), deviation)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn max_min_and_step_treat_nan_and_ties_as_documented() {
        let operands = [vec![1.0, 2.0, 2.0, f64::NAN, 1.0], vec![2.0, 1.0, 2.0, 1.0, f64::NAN]];
        let max = apply(Operation::Max, &operands);
        let min = apply(Operation::Min, &operands);
        assert_eq!(max[..3], [2.0, 2.0, 2.0]);
        assert_eq!(min[..3], [1.0, 1.0, 2.0]);
        assert!(max[3..].iter().chain(&min[3..]).all(|v| v.is_nan()));
        let step = apply(Operation::Step, &operands);
        assert_eq!(step[..3], [0.0, 1.0, 0.5]);
        assert!(step[3..].iter().all(|v| v.is_nan()));
    }

    #[test]
    fn what_is_not_known_is_0_whatever_it_is() {
        let a = vec![1.0, f64::NAN, f64::INFINITY, f64::NAN, f64::INFINITY];
        let b = vec![f64::NAN, f64::NAN, f64::NAN, f64::INFINITY, 0.0];
        let y = apply(Operation::Known, &[a, b]);
        assert_eq!(y[..3], [0.0; 3]);
        assert!(y[3].is_nan() && y[4] == f64::INFINITY);
    }

    #[test]
    fn equal_numbers_deviate_by_nothing() {
        for value in [0.1, 1000.7, 1e30, -1e300] {
            let y = apply(Operation::Normalize { groups: 1, center: true, epsilon: 1e-5 }, &[vec![value; 7]]);
            assert_eq!(y, [0.0; 7], "{value:e}");
        }
    }

    #[test]
    fn large_logits_do_not_overflow() {
        let y = apply(Operation::Softmax { groups: 2 }, &[vec![1000.0, 1000.0, -1000.0, 0.0]]);
        assert_eq!(y, [0.5, 0.5, 0.0, 1.0]);
        assert_eq!(cross_entropy(&[1000.0, 1000.0], Some(0)), 2f64.ln());
        assert_eq!(cross_entropy(&[1000.0, 0.0], None), 0.0);
    }

    #[test]
    fn a_layer_norm_has_mean_0_and_variance_1_in_each_group() {
        let a = vec![1.0, 2.0, 6.0, -3.0, 0.0, 1.0];
        let y = apply(Operation::Normalize { groups: 2, center: true, epsilon: 0.0 }, &[a]);
        for group in y.chunks(3) {
            assert!(group.iter().sum::<f64>().abs() < 1e-12);
            assert!((dot(group, group) - 3.0).abs() < 1e-12);
        }
    }
}
