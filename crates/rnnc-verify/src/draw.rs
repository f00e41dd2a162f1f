//! Random numbers for a network: weights, inputs, resets, and gradients of outputs.

use crate::random::Random;
use crate::trial::{Array, Trial, Window};
use rnnc_graph::{Graph, LayerKind, initial_values};
use rnnc_plan::{ExecutionConfig, ExecutorError, NO_SYMBOL, check_available};

/// From where numbers are drawn.
#[derive(Clone, Copy, Debug)]
pub struct Spread {
    /// The largest input.
    inputs: f64,
    /// How far weights lie from their initial values; none for ones that have nothing to do with these.
    near: Option<f64>,
    /// The chance that a symbol input has no symbol.
    no_symbol: f64,
    /// Whether some outputs are given no gradient, and some windows without a reset are told so frame by frame.
    gaps: bool,
}

impl Spread {
    /// As in use: weights near their initial values, though not at them, for zeros to meet no kink.
    pub const PLAIN: Spread = Spread { inputs: 1.0, near: Some(0.1), no_symbol: 0.0, gaps: false };

    /// To find faults by: weights that make use of every function's curvature, frames without symbols, outputs without
    /// gradients.
    pub const AWKWARD: Spread = Spread { inputs: 1.5, near: None, no_symbol: 0.1, gaps: true };
}

impl<'a> Trial<'a> {
    /// Draws the numbers of windows of so many frames, by the config's seed. `resets` is the chance of a reset in a frame of a
    /// stream.
    ///
    /// # Errors
    /// More numbers than memory holds.
    pub fn draw(
        graph: &'a Graph,
        config: ExecutionConfig,
        windows: &[usize],
        resets: f64,
        spread: Spread,
    ) -> Result<Trial<'a>, ExecutorError> {
        let layers = graph.inputs().iter().copied().chain(graph.outputs().iter().map(|o| o.layer));
        let width: u128 = 1 + layers.map(|id| graph.layer_at(id).size as u128).sum::<u128>();
        let rows: u128 = windows.iter().map(|&n| (n as u128).saturating_mul(config.streams as u128)).sum();
        let weights: u128 = graph.weights().iter().map(|w| w.len() as u128).sum();
        // In single precision, and of some checks in double precision too.
        check_available(
            "random data",
            rows.saturating_mul(width).saturating_add(weights).saturating_mul(12),
        )?;

        let mut random = Random(config.seed);
        let weights = graph.weights().iter().map(|weight| match spread.near {
            Some(near) => {
                let moves = random.numbers(weight.len(), near);
                let initial = initial_values(weight, config.seed);
                initial.iter().zip(moves).map(|(w, m)| (w + f64::from(m)) as f32).collect()
            }
            None => {
                let fan_in =
                    if weight.shape.len() > 1 { weight.shape.last().copied().unwrap_or(1) } else { 2 };
                random.numbers(weight.len(), 1.2 / (fan_in as f64).sqrt())
            }
        });
        let weights = weights.collect();
        let windows = windows.iter().enumerate().map(|(place, &frames)| {
            let rows = frames * config.streams;
            let inputs = graph.inputs().iter().map(|&id| {
                let layer = graph.layer_at(id);
                if layer.kind != LayerKind::Symbol {
                    return Array::Numbers(random.numbers(rows * layer.size, spread.inputs));
                }
                let symbol = |_| match random.unit() < spread.no_symbol {
                    true => NO_SYMBOL,
                    false => (random.bits() % layer.size as u64) as u32,
                };
                Array::Symbols((0..rows).map(symbol).collect())
            });
            let inputs = inputs.collect();
            let all: Vec<bool> = (0..rows).map(|_| random.unit() < resets).collect();
            let outputs = graph.outputs();
            let output_gradients = outputs.iter().enumerate().map(|(output, o)| {
                // The last output always has one.
                let given =
                    !spread.gaps || output + 1 == outputs.len() || !(place + output).is_multiple_of(3);
                given.then(|| random.numbers(rows * graph.layer_at(o.layer).size, 1.0))
            });
            let output_gradients = output_gradients.collect();
            let told = spread.gaps && frames.is_multiple_of(2);
            let resets = Some(all).filter(|all| told || all.contains(&true));
            Window { frames, inputs, resets, output_gradients }
        });
        Ok(Trial { graph, config, weights, windows: windows.collect() })
    }
}
