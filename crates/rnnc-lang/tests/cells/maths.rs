//! The few functions that the transcriptions need, on vectors.

pub type Vector = Vec<f64>;

pub fn map(a: &[f64], f: impl Fn(f64) -> f64) -> Vector {
    a.iter().map(|&x| f(x)).collect()
}

fn zip(a: &[f64], b: &[f64], f: impl Fn(f64, f64) -> f64) -> Vector {
    assert_eq!(a.len(), b.len(), "the transcription combines vectors of different sizes");
    a.iter().zip(b).map(|(&x, &y)| f(x, y)).collect()
}

pub fn add(a: &[f64], b: &[f64]) -> Vector {
    zip(a, b, |x, y| x + y)
}

pub fn sum(terms: &[Vector]) -> Vector {
    terms[1..].iter().fold(terms[0].clone(), |total, term| add(&total, term))
}

pub fn times(a: &[f64], b: &[f64]) -> Vector {
    zip(a, b, |x, y| x * y)
}

pub fn over(a: &[f64], b: &[f64]) -> Vector {
    zip(a, b, |x, y| x / y)
}

pub fn scaled(k: f64, a: &[f64]) -> Vector {
    map(a, |x| k * x)
}

/// 1 - a
pub fn rest(a: &[f64]) -> Vector {
    map(a, |x| 1.0 - x)
}

pub fn logistic(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

pub fn sigmoid(a: &[f64]) -> Vector {
    map(a, logistic)
}

pub fn tanh(a: &[f64]) -> Vector {
    map(a, f64::tanh)
}

pub fn zeros(n: usize) -> Vector {
    vec![0.0; n]
}

/// Zero mean and unit variance, with the language's epsilon.
pub fn normalized(a: &[f64]) -> Vector {
    let n = a.len() as f64;
    let mean = a.iter().sum::<f64>() / n;
    let variance = a.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / n;
    map(a, |x| (x - mean) / (variance + 1e-5).sqrt())
}
