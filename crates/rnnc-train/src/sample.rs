//! Text out of a network: symbol by symbol, each drawn from what the network expects next.

use crate::error::TrainError;
use crate::task::losses::{find_output, softmax_behind};
use crate::trainer::MakeExecutor;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rnnc_graph::{Graph, LayerKind, count};
use rnnc_io::Weights;
use rnnc_plan::{ExecutionConfig, Executor, ParameterArray, Plan, PlanOptions, Values, ValuesMut};

/// A network that writes.
pub struct Sampler {
    executor: Box<dyn Executor>,
    output: usize,
    /// Bytes that are symbols of both the input and the output.
    bytes: usize,
    logits: Vec<f64>,
    random: ChaCha8Rng,
}

impl Sampler {
    /// Prepares a network with one symbol input and logits as output (named, if there are several outputs).
    ///
    /// # Errors
    /// Networks with other inputs, with look-ahead, or with probabilities as output.
    pub fn new(
        network: &Graph,
        weights: &Weights,
        output: Option<&str>,
        threads: usize,
        seed: u64,
        make: MakeExecutor<'_>,
    ) -> Result<Sampler, TrainError> {
        let problem = |problem: String| TrainError::Network { network: network.name().into(), problem };
        let symbols = symbol_input(network)?;
        if network.looks_ahead() {
            return Err(problem("it looks ahead, at symbols that are yet to be written".into()));
        }
        let output = find_output(network, output)?;
        let layer = network.outputs()[output].layer;
        if let Some(softmax) = softmax_behind(network, layer) {
            return Err(problem(format!("its output is a {softmax}; to write text it must give logits")));
        }
        let size = network.layer_at(layer).size;
        let plan = Plan::new(network, PlanOptions::inference(1, 1))?;
        let mut executor = make(plan, ExecutionConfig { threads, ..ExecutionConfig::new(1, 1) })?;
        weights.put_into(&mut *executor, ParameterArray::Weight)?;
        Ok(Sampler {
            executor,
            output,
            bytes: size.min(symbols).min(256),
            logits: vec![0.0; size],
            random: ChaCha8Rng::seed_from_u64(seed),
        })
    }

    /// Goes on with other weights.
    pub fn set_weights(&mut self, weights: &Weights) -> Result<(), TrainError> {
        Ok(weights.put_into(&mut *self.executor, ParameterArray::Weight)?)
    }

    /// Refuses a prompt and a temperature that [`write`](Sampler::write) cannot begin with.
    ///
    /// # Errors
    /// An empty prompt, a byte that is no symbol, a temperature below 0.
    pub fn check(&self, prompt: &[u8], temperature: f64) -> Result<(), TrainError> {
        if !(temperature.is_finite() && temperature >= 0.0) {
            return Err(TrainError::Setting(format!(
                "the temperature must be at least 0, not {temperature}"
            )));
        }
        if prompt.is_empty() {
            return Err(TrainError::Setting("the prompt must have at least one byte".into()));
        }
        match prompt.iter().find(|&&b| usize::from(b) >= self.bytes) {
            None => Ok(()),
            Some(byte) => Err(TrainError::Setting(format!(
                "byte {byte} of the prompt is not a symbol of the network, which has {} (from 0)",
                self.bytes
            ))),
        }
    }

    /// Begins anew, reads the prompt, and writes `length` bytes, each handed to `emit` as soon as it is known;
    /// `emit` returns whether to go on. At temperature T, symbols are drawn from softmax(logits / T); at 0 the
    /// likeliest is taken.
    ///
    /// # Errors
    /// What [`check`](Sampler::check) refuses, and logits that are not finite.
    pub fn write(
        &mut self,
        prompt: &[u8],
        length: usize,
        temperature: f64,
        emit: &mut dyn FnMut(u8) -> bool,
    ) -> Result<(), TrainError> {
        self.check(prompt, temperature)?;
        let Some((&last, before)) = prompt.split_last() else { return Ok(()) };
        self.executor.clear_state();
        for &byte in before {
            self.read(byte)?;
        }
        let mut byte = last;
        for _ in 0..length {
            self.read(byte)?;
            self.executor.output(self.output, ValuesMut::F64(&mut self.logits))?;
            let logits = &self.logits[..self.bytes];
            if logits.iter().any(|x| !x.is_finite()) {
                return Err(TrainError::Setting(
                    "the network's output is not finite: nothing can be drawn".into(),
                ));
            }
            // At most 256 of them: see `bytes`.
            byte = draw(logits, temperature, self.random.random()) as u8;
            if !emit(byte) {
                break;
            }
        }
        Ok(())
    }

    fn read(&mut self, byte: u8) -> Result<(), TrainError> {
        Ok(self.executor.forward(1, &[Values::Symbols(&[u32::from(byte)])], None)?)
    }
}

/// How many symbols the only input of a network of text has.
pub(crate) fn symbol_input(network: &Graph) -> Result<usize, TrainError> {
    let inputs: Vec<_> = network.inputs().iter().map(|&id| network.layer_at(id)).collect();
    match inputs.as_slice() {
        [input] if input.kind == LayerKind::Symbol => Ok(input.size),
        _ => {
            let list: Vec<String> = inputs
                .iter()
                .map(|i| {
                    let what = if i.kind == LayerKind::Symbol { "symbol" } else { "number" };
                    format!("`{}` of {}", i.name, count(i.size, what))
                })
                .collect();
            Err(TrainError::Network {
                network: network.name().into(),
                problem: format!(
                    "text needs a network with one symbol input, and this one has {}",
                    if list.is_empty() { "no input".into() } else { list.join(" and ") }
                ),
            })
        }
    }
}

/// Draws from softmax(logits / temperature), given a uniform number in 0..1.
fn draw(logits: &[f64], temperature: f64, uniform: f64) -> usize {
    let (likeliest, &top) =
        logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1).then(b.0.cmp(&a.0))).unwrap_or((0, &0.0));
    if temperature == 0.0 {
        return likeliest;
    }
    // libm, so that every machine draws the same.
    let weights: Vec<f64> = logits.iter().map(|x| libm::exp((x - top) / temperature)).collect();
    let mut left = uniform * weights.iter().sum::<f64>();
    for (symbol, weight) in weights.iter().enumerate() {
        if left < *weight {
            return symbol;
        }
        left -= weight;
    }
    likeliest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_follow_the_softmax_at_its_temperature() {
        let logits = [0.0, (3.0f64).ln(), f64::MIN];
        let share = |temperature: f64| {
            let hits = (0..1000).filter(|i| draw(&logits, temperature, *i as f64 / 1000.0) == 1).count();
            hits as f64 / 1000.0
        };
        assert!((share(1.0) - 0.75).abs() < 0.002);
        assert!((share(0.5) - 0.9).abs() < 0.002);
        assert_eq!(share(0.0), 1.0);
        assert_eq!(share(1e-300), 1.0);
    }

    #[test]
    fn of_equal_logits_the_first_is_the_likeliest() {
        assert_eq!(draw(&[1.0, 2.0, 2.0], 0.0, 0.9), 1);
    }
}
