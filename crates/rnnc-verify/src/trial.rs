//! What is run: a network, its weights, and windows of inputs, resets and gradients of outputs. All numbers are in single
//! precision, so that every executor starts from the same ones.

use rnnc_graph::Graph;
use rnnc_plan::{ExecutionConfig, Executor, ExecutorError, Plan, PlanError, PlanOptions, Values};

/// A network with all that is run on it.
#[derive(Clone, Debug)]
pub struct Trial<'a> {
    /// The network.
    pub graph: &'a Graph,
    /// Streams; how far errors go back, h, and the most frames of a call, h'; the seed of dropout masks, and whether they
    /// are drawn.
    pub config: ExecutionConfig,
    /// One for each weight, row-major.
    pub weights: Vec<Vec<f32>>,
    /// One after the other.
    pub windows: Vec<Window>,
}

/// The numbers of one forward and one backward call.
#[derive(Clone, Debug)]
pub struct Window {
    /// New frames, T.
    pub frames: usize,
    /// One for each input of the network.
    pub inputs: Vec<Array>,
    /// `[T, B]`; none for no reset.
    pub resets: Option<Vec<bool>>,
    /// The gradient of a scalar with respect to each output, `[T, B, N]`; none for zeros.
    pub output_gradients: Vec<Option<Vec<f32>>>,
}

/// What an input is given.
#[derive(Clone, Debug, PartialEq)]
pub enum Array {
    /// A vector input, `[T, B, N]`.
    Numbers(Vec<f32>),
    /// A symbol input, `[T, B]`.
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

impl Window {
    /// The inputs, as an executor takes them.
    pub fn inputs(&self) -> Vec<Values<'_>> {
        self.inputs.iter().map(Array::values).collect()
    }

    /// A forward call.
    ///
    /// # Errors
    /// Those of the executor.
    pub fn forward(&self, executor: &mut dyn Executor) -> Result<(), ExecutorError> {
        executor.forward(self.frames, &self.inputs(), self.resets.as_deref())
    }

    /// A backward call through so many frames, the last of which are the window's.
    ///
    /// # Errors
    /// Those of the executor.
    pub fn backward(&self, executor: &mut dyn Executor, frames: usize) -> Result<(), ExecutorError> {
        executor.backward(frames, &optional(&self.output_gradients))
    }

    /// The same, with gradients of the state that the window leaves.
    ///
    /// # Errors
    /// Those of the executor.
    pub fn backward_from(
        &self,
        executor: &mut dyn Executor,
        frames: usize,
        left: &[Option<Vec<f32>>],
    ) -> Result<(), ExecutorError> {
        executor.backward_from(frames, &optional(&self.output_gradients), &optional(left))
    }

    /// Frames `first..first + frames` of it.
    fn part(&self, first: usize, frames: usize) -> Window {
        let rows = |len: usize| first * (len / self.frames)..(first + frames) * (len / self.frames);
        let inputs = self.inputs.iter().map(|input| match input {
            Array::Numbers(x) => Array::Numbers(x[rows(x.len())].to_vec()),
            Array::Symbols(x) => Array::Symbols(x[rows(x.len())].to_vec()),
        });
        let gradients = self.output_gradients.iter().map(|g| g.as_ref().map(|g| g[rows(g.len())].to_vec()));
        Window {
            frames,
            inputs: inputs.collect(),
            resets: self.resets.as_ref().map(|r| r[rows(r.len())].to_vec()),
            output_gradients: gradients.collect(),
        }
    }
}

/// Arrays that may be left out, as an executor takes them.
fn optional(arrays: &[Option<Vec<f32>>]) -> Vec<Option<Values<'_>>> {
    arrays.iter().map(|array| array.as_deref().map(Values::F32)).collect()
}

impl<'a> Trial<'a> {
    /// The plan, with all gradients.
    ///
    /// # Errors
    /// An invalid network.
    pub fn plan(&self) -> Result<Plan, PlanError> {
        let options = PlanOptions::training(self.config.streams, self.config.window);
        Plan::new(self.graph, options.with_input_gradients())
    }

    /// How many frames errors go back through after a window of so many frames, if `run` frames have been run with it in all.
    pub fn back(&self, window: usize, run: usize) -> usize {
        match self.config.step == self.config.window {
            true => window,
            false => run.min(self.config.window),
        }
    }

    /// All windows as one.
    pub fn joined(&self) -> Trial<'a> {
        let frames = self.windows.iter().map(|w| w.frames).sum();
        let rows = |window: &Window| window.frames * self.config.streams;
        let inputs = (0..self.graph.inputs().len()).map(|input| {
            let (mut numbers, mut symbols) = (Vec::new(), Vec::new());
            for window in &self.windows {
                match &window.inputs[input] {
                    Array::Numbers(part) => numbers.extend(part),
                    Array::Symbols(part) => symbols.extend(part),
                }
            }
            if symbols.is_empty() { Array::Numbers(numbers) } else { Array::Symbols(symbols) }
        });
        let gradients = self.graph.outputs().iter().enumerate().map(|(output, o)| {
            let size = self.graph.layer_at(o.layer).size;
            let part = |w: &Window| w.output_gradients[output].clone().unwrap_or(vec![0.0; rows(w) * size]);
            Some(self.windows.iter().flat_map(part).collect())
        });
        let resets = self.windows.iter().flat_map(|w| w.resets.clone().unwrap_or(vec![false; rows(w)]));
        let window = Window {
            frames,
            inputs: inputs.collect(),
            resets: Some(resets.collect()),
            output_gradients: gradients.collect(),
        };
        let config = ExecutionConfig { window: frames, step: frames, ..self.config };
        Trial { config, weights: self.weights.clone(), windows: vec![window], graph: self.graph }
    }

    /// The same frames in two windows, errors going back through both; one window stays where nothing can be cut: of one
    /// frame, or where the network looks ahead.
    pub fn halved(&self) -> Trial<'a> {
        let whole = self.joined();
        let frames = whole.config.window;
        let half = if self.graph.looks_ahead() { 0 } else { frames / 2 };
        if half == 0 {
            return whole;
        }
        let window = &whole.windows[0];
        let windows = vec![window.part(0, half), window.part(half, frames - half)];
        let config = ExecutionConfig { step: frames - half, ..whole.config };
        Trial { config, windows, ..whole }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draw::Spread;
    use rnnc_graph::{Activation, Connect};

    /// y = x + x[t-delay], beside symbols.
    fn network(delay: i64) -> Graph {
        let mut graph = Graph::new("n");
        let x = graph.input("x", 2);
        graph.symbol("s", 3);
        let y = graph.sum("y", 2, Activation::Identity);
        graph.connect(x, y, Connect::identity());
        graph.connect(x, y, Connect::identity().delay(delay));
        graph.output("y", y);
        graph
    }

    #[test]
    fn windows_cut_in_two_hold_the_frames_of_all_and_errors_go_back_through_both() {
        let graph = network(1);
        let config = ExecutionConfig { step: 4, ..ExecutionConfig::new(3, 5) };
        let trial = Trial::draw(&graph, config, &[4, 1, 2], 0.3, Spread::AWKWARD).unwrap();
        let halved = trial.halved();
        let frames: Vec<usize> = halved.windows.iter().map(|w| w.frames).collect();
        assert_eq!((frames, halved.config.window, halved.config.step), (vec![3, 4], 7, 4));
        assert_eq!((halved.back(3, 3), halved.back(4, 7)), (3, 7));
        let (whole, again) = (trial.joined(), halved.joined());
        let [whole, again] = [&whole.windows[0], &again.windows[0]];
        assert_eq!((&whole.inputs, &whole.resets), (&again.inputs, &again.resets));
        assert_eq!(whole.output_gradients, again.output_gradients);
        let rows = |array: &Array| match array {
            Array::Numbers(numbers) => numbers.len() / 2,
            Array::Symbols(symbols) => symbols.len(),
        };
        assert!(whole.inputs.iter().all(|input| rows(input) == 7 * 3));
    }

    #[test]
    fn a_network_that_looks_ahead_and_a_single_frame_are_not_cut() {
        for (delay, frames) in [(-1, 6), (1, 1)] {
            let graph = network(delay);
            let config = ExecutionConfig::new(1, frames);
            let trial = Trial::draw(&graph, config, &[frames], 0.0, Spread::PLAIN).unwrap().halved();
            assert_eq!((trial.windows.len(), trial.windows[0].frames), (1, frames));
            assert_eq!(trial.back(frames, frames), frames);
        }
    }
}
