//! Random data for a network: weights, inputs, resets, and gradients with respect to outputs, for checks and timing.
//!
//! All numbers are ones of single precision, so that every executor starts from the same.

use crate::numbers::Numbers;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rnnc_graph::{Graph, LayerKind, initial_values};
use rnnc_plan::{ExecutorError, check_available};

/// T frames of B streams, and weights.
#[derive(Clone, Debug)]
pub struct Trial {
    /// T
    pub frames: usize,
    /// B
    pub streams: usize,
    /// One for each weight.
    pub weights: Vec<Vec<f64>>,
    /// One for each input: `[T, B, N]`, or symbols `[T, B]`.
    pub inputs: Vec<Numbers>,
    /// Units of each input; 1 for symbols.
    pub sizes: Vec<usize>,
    /// `[T, B]`
    pub resets: Vec<bool>,
    /// The gradient of a scalar with respect to each output: `[T, B, N]`.
    pub output_gradients: Vec<Vec<f64>>,
}

impl Trial {
    /// Draws the numbers. One frame in `resets_every` is a reset; none for 0.
    ///
    /// # Errors
    /// More numbers than memory holds.
    pub fn draw(
        graph: &Graph,
        streams: usize,
        frames: usize,
        resets_every: u32,
        seed: u64,
    ) -> Result<Trial, ExecutorError> {
        let layers = graph.inputs().iter().copied().chain(graph.outputs().iter().map(|o| o.layer));
        let width: u128 = 1 + layers.map(|id| graph.layer_at(id).size as u128).sum::<u128>();
        let numbers = (frames as u128).saturating_mul(streams as u128).saturating_mul(width);
        let weights: u128 = graph.weights().iter().map(|w| w.len() as u128).sum();
        check_available("random data", numbers.saturating_add(weights).saturating_mul(8))?;

        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let rows = frames * streams;
        let mut sizes = Vec::new();
        let mut inputs = Vec::new();
        for &id in graph.inputs() {
            let layer = graph.layer_at(id);
            if layer.kind == LayerKind::Symbol {
                let last = u32::try_from(layer.size.saturating_sub(1)).unwrap_or(u32::MAX - 1);
                sizes.push(1);
                inputs.push(Numbers::Symbols((0..rows).map(|_| random.random_range(0..=last)).collect()));
            } else {
                sizes.push(layer.size);
                inputs.push(Numbers::Double(uniform(&mut random, rows * layer.size, 1.0)));
            }
        }
        let weights = graph.weights().iter().map(|weight| {
            // Away from the initial values, for zeros to meet no kink.
            let moves = uniform(&mut random, weight.len(), 0.1);
            initial_values(weight, seed).iter().zip(moves).map(|(w, m)| f64::from((w + m) as f32)).collect()
        });
        let weights = weights.collect();
        let resets =
            (0..rows).map(|_| resets_every > 0 && random.random_range(0..resets_every) == 0).collect();
        let outputs = graph.outputs().iter();
        let output_gradients =
            outputs.map(|o| uniform(&mut random, rows * graph.layer_at(o.layer).size, 1.0)).collect();
        Ok(Trial { frames, streams, weights, inputs, sizes, resets, output_gradients })
    }
}

fn uniform(random: &mut ChaCha8Rng, count: usize, a: f32) -> Vec<f64> {
    (0..count).map(|_| f64::from(random.random_range(-a..a))).collect()
}
