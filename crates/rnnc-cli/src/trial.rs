//! Random data for a network: weights, inputs, resets, and gradients with respect to outputs, for checks and timing.
//! A check may be given ranges to draw from, or weights and inputs of its user.
//!
//! All numbers are ones of single precision, so that every executor starts from the same.

use crate::failure::BadInput;
use crate::numbers::Numbers;
use crate::sequence::Sequence;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rnnc_graph::{Graph, LayerKind, initial_values, nearest};
use rnnc_io::Weights;
use rnnc_plan::{ExecutionConfig, ExecutorError, check_available};
use std::str::FromStr;

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
    /// Whether dropout is on.
    pub dropout: bool,
    /// What the numbers were drawn by, and dropout masks are.
    pub seed: u64,
}

/// From where to draw: the numbers of an input or a weight, or of all vector inputs.
#[derive(Clone, Debug, PartialEq)]
pub struct DrawRange {
    name: Option<String>,
    low: f32,
    high: f32,
}

impl FromStr for DrawRange {
    type Err = String;

    /// `LOW:HIGH` or `NAME=LOW:HIGH`. Names of weights may have any of these signs but the last `=`.
    fn from_str(text: &str) -> Result<DrawRange, String> {
        let (name, range) = match text.rsplit_once('=') {
            Some((name, range)) => (Some(name.to_owned()), range),
            None => (None, text),
        };
        let wrong = || {
            "a range is two numbers, `LOW:HIGH`, as in `x=0.1:2`, or `0:1` for all vector inputs".to_string()
        };
        let (low, high) = range.split_once(':').ok_or_else(wrong)?;
        let number = |text: &str| text.trim().parse::<f32>().ok().filter(|x| x.is_finite()).ok_or_else(wrong);
        let (low, high) = (number(low)?, number(high)?);
        // As far apart as single precision can hold.
        if low >= high || !(high - low).is_finite() {
            return Err(format!("{low}:{high} has no room: LOW must be less than HIGH, by less than 3.4e38"));
        }
        Ok(DrawRange { name, low, high })
    }
}

impl DrawRange {
    /// Whether it says anything of inputs: one that has no name, or that of one.
    pub fn is_of_inputs(&self, graph: &Graph) -> bool {
        let is_named = |name: &String| graph.inputs().iter().any(|&id| graph.layer_at(id).name == *name);
        self.name.as_ref().is_none_or(is_named)
    }

    fn draw(&self, random: &mut ChaCha8Rng, count: usize) -> Vec<f64> {
        (0..count).map(|_| f64::from(random.random_range(self.low..self.high))).collect()
    }
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
        // In double precision, and of some commands in single precision too.
        check_available("random data", numbers.saturating_add(weights).saturating_mul(12))?;

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
        Ok(Trial { frames, streams, weights, inputs, sizes, resets, output_gradients, dropout: false, seed })
    }

    /// Draws inputs and weights anew, from these ranges; where several fit, from the last.
    ///
    /// # Errors
    /// Names of neither.
    pub fn draw_from(&mut self, ranges: &[DrawRange], graph: &Graph) -> Result<(), BadInput> {
        let inputs: Vec<_> = graph.inputs().iter().map(|&id| graph.layer_at(id)).collect();
        let is_vector = |place: &usize| inputs[*place].kind != LayerKind::Symbol;
        for (number, range) in ranges.iter().enumerate() {
            let mut random = ChaCha8Rng::seed_from_u64(self.seed);
            random.set_stream(1 + number as u64);
            let Some(name) = &range.name else {
                let vectors: Vec<usize> = (0..inputs.len()).filter(is_vector).collect();
                for place in vectors {
                    self.draw_input(place, range, &mut random);
                }
                continue;
            };
            let is_named = |(_, known): &(usize, &str)| known == name;
            if let Some((place, _)) = inputs.iter().map(|i| &*i.name).enumerate().find(is_named) {
                if !is_vector(&place) {
                    return Err(BadInput(format!(
                        "`--range {name}=..`: `{name}` is a symbol input, and all of its symbols are drawn"
                    )));
                }
                self.draw_input(place, range, &mut random);
                continue;
            }
            let weights = graph.weights().iter().map(|w| &*w.name);
            if let Some((place, _)) = weights.clone().enumerate().find(is_named) {
                self.weights[place] = range.draw(&mut random, self.weights[place].len());
                continue;
            }
            let known: Vec<&str> = inputs.iter().map(|i| &*i.name).chain(weights).collect();
            let meant = match nearest(name, known.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("there are `{}`", known.join("`, `")),
            };
            return Err(BadInput(format!(
                "`--range {name}=..`: network `{}` has no input and no weight `{name}`; {meant}",
                graph.name()
            )));
        }
        Ok(())
    }

    fn draw_input(&mut self, place: usize, range: &DrawRange, random: &mut ChaCha8Rng) {
        self.inputs[place] =
            Numbers::Double(range.draw(random, self.frames * self.streams * self.sizes[place]));
    }

    /// Takes these weights instead, in single precision.
    pub fn take_weights(&mut self, weights: Weights) {
        let single = |values: Vec<f64>| values.into_iter().map(|x| f64::from(x as f32)).collect();
        self.weights = weights.0.into_iter().map(single).collect();
    }

    /// Takes these inputs and resets instead, and gradients of outputs if they come with any. They must be as many
    /// frames and streams.
    pub fn take_sequence(&mut self, sequence: Sequence) {
        self.resets = sequence.all_resets();
        let (inputs, output_gradients) = sequence.into_numbers();
        self.inputs = inputs.into_iter().map(Numbers::widened).collect();
        let given = output_gradients.into_iter().map(Numbers::widened);
        for (into, given) in self.output_gradients.iter_mut().zip(given) {
            if let Numbers::Double(values) = given {
                *into = values;
            }
        }
    }

    /// How an executor of one window of all frames is set up.
    pub fn config(&self) -> ExecutionConfig {
        ExecutionConfig {
            training: self.dropout,
            seed: self.seed,
            ..ExecutionConfig::new(self.streams, self.frames)
        }
    }
}

fn uniform(random: &mut ChaCha8Rng, count: usize, a: f32) -> Vec<f64> {
    (0..count).map(|_| f64::from(random.random_range(-a..a))).collect()
}
