//! Initial values of weights, keyed by the weight's name: adding a layer changes no other layer's numbers.

use crate::hash::name_key;
use rand::Rng;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// How a weight begins.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// Uniform in `-a .. a`.
    Uniform(f64),
    /// Normal with this standard deviation.
    Normal(f64),
    /// Uniform in `-a .. a`, a = sqrt(6 / (fan-in + fan-out)) (Glorot & Bengio 2010).
    Glorot,
    /// Orthonormal rows or columns, whichever are fewer (Saxe, McClelland & Ganguli 2014).
    Orthogonal,
    /// 0
    Zeros,
    /// This number.
    Constant(f64),
}

impl Init {
    /// The initial values of a weight of that name, row-major in its canonical shape.
    pub(crate) fn values(self, name: &str, shape: &[usize], seed: u64) -> Vec<f64> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed ^ name_key(name));
        let count = shape.iter().product();
        // Heads are matrices of their own; a vector is a column.
        let (blocks, rows, columns) = match *shape {
            [heads, rows, columns] => (heads, rows, columns),
            [rows, columns] => (1, rows, columns),
            _ => (1, count, 1),
        };
        match self {
            Init::Zeros => vec![0.0; count],
            Init::Constant(c) => vec![c; count],
            Init::Uniform(a) => (0..count).map(|_| uniform(&mut rng, a)).collect(),
            Init::Normal(s) => (0..count).map(|_| s * normal(&mut rng)).collect(),
            Init::Glorot => {
                let a = (6.0 / (rows + columns) as f64).sqrt();
                (0..count).map(|_| uniform(&mut rng, a)).collect()
            }
            Init::Orthogonal => (0..blocks).flat_map(|_| orthogonal(&mut rng, rows, columns)).collect(),
        }
    }
}

fn unit(rng: &mut ChaCha8Rng) -> f64 {
    (rng.random::<u64>() >> 11) as f64 / (1u64 << 53) as f64
}

fn uniform(rng: &mut ChaCha8Rng, a: f64) -> f64 {
    a * (2.0 * unit(rng) - 1.0)
}

fn normal(rng: &mut ChaCha8Rng) -> f64 {
    // Box & Muller (1958); libm, so that every machine draws the same.
    let radius = libm::sqrt(-2.0 * libm::log(1.0 - unit(rng)));
    radius * libm::cos(2.0 * std::f64::consts::PI * unit(rng))
}

/// Gram-Schmidt, twice, on the shorter side of a normal matrix.
fn orthogonal(rng: &mut ChaCha8Rng, rows: usize, columns: usize) -> Vec<f64> {
    let (few, many) = (rows.min(columns), rows.max(columns));
    let mut basis: Vec<Vec<f64>> = Vec::with_capacity(few);
    while basis.len() < few {
        let mut v: Vec<f64> = (0..many).map(|_| normal(rng)).collect();
        for _ in 0..2 {
            for b in &basis {
                let dot: f64 = v.iter().zip(b).map(|(x, y)| x * y).sum();
                v.iter_mut().zip(b).for_each(|(x, y)| *x -= dot * y);
            }
        }
        let norm = v.iter().map(|x| x * x).sum::<f64>().sqrt();
        // A draw that all but lies in the span of the others is drawn again; its chance is nil.
        if norm > 1e-8 {
            v.iter_mut().for_each(|x| *x /= norm);
            basis.push(v);
        }
    }
    let mut out = vec![0.0; rows * columns];
    for (i, v) in basis.iter().enumerate() {
        for (j, &x) in v.iter().enumerate() {
            let (row, column) = if rows <= columns { (i, j) } else { (j, i) };
            out[row * columns + column] = x;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(shape: &[usize], init: Init, seed: u64) -> Vec<f64> {
        init.values("h.W.x", shape, seed)
    }

    #[test]
    fn orthogonal_matrices_have_orthonormal_short_sides() {
        for (rows, columns) in [(3, 7), (7, 3), (5, 5)] {
            let w = values(&[rows, columns], Init::Orthogonal, 1);
            let (few, step, along, many) =
                if rows <= columns { (rows, columns, 1, columns) } else { (columns, 1, columns, rows) };
            for i in 0..few {
                for j in 0..few {
                    let dot: f64 = (0..many).map(|k| w[i * step + k * along] * w[j * step + k * along]).sum();
                    assert!((dot - f64::from(i == j)).abs() < 1e-12);
                }
            }
        }
    }

    #[test]
    fn normal_draws_have_the_asked_spread() {
        let w = values(&[100, 100], Init::Normal(0.5), 3);
        let variance = w.iter().map(|x| x * x).sum::<f64>() / w.len() as f64;
        assert!((variance.sqrt() - 0.5).abs() < 0.01);
    }

    #[test]
    fn draws_depend_on_seed_and_name_and_nothing_else() {
        let a = values(&[4, 4], Init::Uniform(0.1), 7);
        assert_eq!(a, values(&[4, 4], Init::Uniform(0.1), 7));
        assert_ne!(a, values(&[4, 4], Init::Uniform(0.1), 8));
        assert_ne!(a, Init::Uniform(0.1).values("h.W.y", &[4, 4], 7));
        assert!(a.iter().all(|x| x.abs() <= 0.1));
    }
}
