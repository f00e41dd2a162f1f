//! The numbers of a case: weights, inputs, resets and output gradients. All are in single precision, so that every
//! executor starts from the same ones.

use crate::case::Case;
use rnnc_graph::{Graph, LayerKind};
use rnnc_plan::{NO_SYMBOL, Values};

/// A generator of random numbers: SplitMix64 (Steele, Lea & Flood 2014).
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in 0 .. 1.
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Numbers uniform in -a .. a.
    pub fn numbers(&mut self, count: usize, a: f64) -> Vec<f32> {
        (0..count).map(|_| (a * (2.0 * self.unit() - 1.0)) as f32).collect()
    }
}

/// An input.
#[derive(Clone, Debug)]
pub enum Array {
    /// Of a vector input, `[frames, B, N]`.
    Numbers(Vec<f32>),
    /// Of a symbol input, `[frames, B]`.
    Symbols(Vec<u32>),
}

impl Array {
    /// As an executor takes it.
    pub fn values(&self) -> Values<'_> {
        match self {
            Array::Numbers(numbers) => Values::F32(numbers),
            Array::Symbols(symbols) => Values::Symbols(symbols),
        }
    }
}

/// The numbers of one forward and one backward call.
#[derive(Clone, Debug)]
pub struct WindowData {
    /// New frames.
    pub frames: usize,
    /// One for each input of the network.
    pub inputs: Vec<Array>,
    /// `[frames, B]`
    pub resets: Option<Vec<bool>>,
    /// The gradients with respect to the outputs; some are left out.
    pub errors: Vec<Option<Vec<f32>>>,
}

/// The numbers of a case.
#[derive(Clone, Debug)]
pub struct Data {
    /// The weights, row-major.
    pub weights: Vec<Vec<f32>>,
    /// One for each window.
    pub windows: Vec<WindowData>,
}

impl Data {
    /// Draws the numbers of a case.
    pub fn draw(case: &Case) -> Data {
        let mut random = Random(case.seed);
        let weights = case.graph.weights().iter().map(|weight| {
            let columns = if weight.shape.len() > 1 { weight.shape.last().copied().unwrap_or(1) } else { 2 };
            random.numbers(weight.len(), 1.2 / (columns as f64).sqrt())
        });
        let weights = weights.collect();
        let windows = case.windows.iter().enumerate();
        let windows = windows.map(|(place, &frames)| window(case, place, frames, &mut random)).collect();
        Data { weights, windows }
    }

    /// All windows as one.
    pub fn joined(&self, graph: &Graph) -> WindowData {
        let inputs = (0..graph.inputs().len()).map(|input| {
            let parts = self.windows.iter().map(|w| &w.inputs[input]);
            let mut numbers = Vec::new();
            let mut symbols = Vec::new();
            for part in parts {
                match part {
                    Array::Numbers(part) => numbers.extend(part),
                    Array::Symbols(part) => symbols.extend(part),
                }
            }
            if symbols.is_empty() { Array::Numbers(numbers) } else { Array::Symbols(symbols) }
        });
        let frames = self.windows.iter().map(|w| w.frames).sum();
        let errors = (0..graph.outputs().len()).map(|output| {
            let size = graph.layer_at(graph.outputs()[output].layer).size;
            let streams = |w: &WindowData| w.resets.as_ref().map_or(0, |r| r.len() / w.frames);
            let part = |w: &WindowData| match &w.errors[output] {
                Some(errors) => errors.clone(),
                None => vec![0.0; w.frames * streams(w) * size],
            };
            Some(self.windows.iter().flat_map(part).collect())
        });
        WindowData {
            frames,
            inputs: inputs.collect(),
            errors: errors.collect(),
            resets: Some(self.windows.iter().flat_map(|w| w.resets.clone().unwrap_or_default()).collect()),
        }
    }
}

fn window(case: &Case, place: usize, frames: usize, random: &mut Random) -> WindowData {
    let rows = frames * case.streams;
    let graph = &case.graph;
    let inputs = graph.inputs().iter().map(|&input| {
        let layer = graph.layer_at(input);
        if layer.kind != LayerKind::Symbol {
            return Array::Numbers(random.numbers(rows * layer.size, 1.5));
        }
        let symbol = |_| match random.unit() {
            u if u < 0.1 => NO_SYMBOL,
            _ => (random.bits() % layer.size as u64) as u32,
        };
        Array::Symbols((0..rows).map(symbol).collect())
    });
    let inputs = inputs.collect();
    let resets = (0..rows).map(|_| random.unit() < case.resets).collect();
    let errors = graph.outputs().iter().enumerate().map(|(output, o)| {
        // The last output always has an error; others are left out now and then.
        let given = output + 1 == graph.outputs().len() || !(place + output).is_multiple_of(3);
        given.then(|| random.numbers(rows * graph.layer_at(o.layer).size, 1.0))
    });
    let errors = errors.collect();
    WindowData { frames, inputs, resets: Some(resets), errors }
}
