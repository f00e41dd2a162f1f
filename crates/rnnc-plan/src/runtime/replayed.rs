//! Any executor as a pure function, for checks: slow and plain.
//!
//! An executor holds the values of its last forward call alone. So the tape has what that call was given, and the backward call runs
//! it again.

use super::array::Array;
use super::config::ExecutionConfig;
use super::errors::ExecutorError;
use super::executor::Executor;
use super::ports::{Backward, Forward, Functional, PortKind, Ports, StatePort};
use super::state::{History, State};
use super::tape::TapeHeader;
use super::values::{NO_SYMBOL, ParameterArray, Values, ValuesMut};
use rnnc_graph::{Start, WeightId};
use std::sync::{Mutex, PoisonError};

/// An executor as a pure function, in double precision if the executor is. Calls wait for each other.
///
/// The executor's config has the seed of dropout: while dropout is on, calls with another one are refused.
pub struct Replayed<E> {
    executor: Mutex<E>,
    ports: Ports,
    config: ExecutionConfig,
    program: u64,
    /// Numbers of the inputs and the state of a call over the whole window.
    given: usize,
}

/// What a forward call was given, as the executor takes it.
struct Given {
    frames: usize,
    inputs: Vec<Input>,
    resets: Vec<bool>,
    state: Vec<Vec<f64>>,
    has_state: bool,
    first_frame: u64,
}

enum Input {
    Numbers(Vec<f64>),
    Symbols(Vec<u32>),
}

impl<E: Executor> Replayed<E> {
    /// Of an executor that has nothing else to do.
    pub fn new(executor: E) -> Replayed<E> {
        let (ports, config) = (Ports::of(executor.plan()), executor.config());
        let width = |kind: PortKind, size: usize| if kind == PortKind::Symbols { 1 } else { size };
        let inputs: usize = ports.inputs.iter().map(|port| width(port.kind, port.size)).sum();
        let state: usize = ports.state.iter().map(|port| port.depth * width(port.kind, port.size)).sum();
        let given = config.streams * (config.window * inputs + state);
        let program = TapeHeader::new_program();
        Replayed { executor: Mutex::new(executor), ports, config, program, given }
    }

    /// The numbers of a call's inputs and state one after the other; symbols as numbers, -1 for none.
    fn numbers(&self, call: &Forward<'_, '_>) -> Result<Vec<f64>, ExecutorError> {
        let mut all = Vec::new();
        for (port, array) in self.ports.inputs.iter().zip(call.inputs) {
            let numbers = array.to_numbers();
            check_symbols(&port.name, port.kind, port.size, self.config.streams, &numbers)?;
            all.extend(numbers);
        }
        for (place, port) in self.ports.state.iter().enumerate() {
            match call.state_in {
                Some(state) => {
                    let numbers = state[place].to_numbers();
                    check_symbols(&port.name, port.kind, port.size, self.config.streams, &numbers)?;
                    all.extend(numbers);
                }
                None => all.resize(all.len() + self.state_len(port), 0.0),
            }
        }
        Ok(all)
    }

    fn state_len(&self, port: &StatePort) -> usize {
        let width = if port.kind == PortKind::Symbols { 1 } else { port.size };
        port.depth * self.config.streams * width
    }

    /// What a call was given, of its numbers.
    fn given(&self, numbers: &[f64], resets: Vec<bool>, header: &TapeHeader) -> Given {
        let mut rest = numbers;
        let mut take = |len: usize| {
            let (now, later) = rest.split_at(len);
            rest = later;
            now.to_vec()
        };
        let rows = header.frames * self.config.streams;
        let symbol = |x: &f64| if *x < 0.0 { NO_SYMBOL } else { *x as u32 };
        let inputs = self.ports.inputs.iter().map(|port| match port.kind {
            PortKind::Symbols => Input::Symbols(take(rows).iter().map(symbol).collect()),
            PortKind::Numbers => Input::Numbers(take(rows * port.size)),
        });
        let inputs = inputs.collect();
        let state = self.ports.state.iter().map(|port| take(self.state_len(port))).collect();
        let TapeHeader { frames, has_state, first_frame, .. } = *header;
        Given { frames, inputs, resets, state, has_state, first_frame }
    }

    /// Runs a forward call on the executor.
    fn run(&self, executor: &mut E, weights: &[Array<'_>], given: &Given) -> Result<(), ExecutorError> {
        for (place, array) in weights.iter().enumerate() {
            let (id, numbers) = (WeightId::from_index(place), array.to_numbers());
            executor.write(ParameterArray::Weight, id, Values::F64(&numbers))?;
        }
        let graph = &executor.plan().forward;
        let mut histories: Vec<(usize, History)> = (self.ports.state.iter().zip(&given.state))
            .map(|(port, values)| {
                let symbols = port.kind == PortKind::Symbols;
                let size = if symbols { 1 } else { port.size };
                let layer = graph.layer_at(port.layer).name.clone();
                let values = match given.has_state || !symbols {
                    true => values.clone(),
                    false => vec![-1.0; values.len()],
                };
                (port.layer.index(), History { layer, depth: port.depth, size, symbols, values })
            })
            .collect();
        histories.sort_by_key(|(layer, _)| *layer);
        let since_reset = if given.has_state { u64::MAX / 2 } else { 0 };
        executor.set_state(&State {
            histories: histories.into_iter().map(|(_, history)| history).collect(),
            since_reset: vec![since_reset; self.config.streams],
            frames: given.first_frame,
            kept: None,
        })?;
        let inputs: Vec<Values<'_>> = (given.inputs.iter())
            .map(|input| match input {
                Input::Numbers(numbers) => Values::F64(numbers),
                Input::Symbols(symbols) => Values::Symbols(symbols),
            })
            .collect();
        executor.forward(given.frames, &inputs, Some(&given.resets))
    }

    /// How many frames of a stream's state, the oldest ones, have the layer's start.
    fn started(&self, depth: usize, since_next: u64) -> usize {
        // So many frames have been run since the reset, the last one included.
        depth.saturating_sub(usize::try_from(since_next).unwrap_or(usize::MAX))
    }

    fn check_seed(&self, seed: u64) -> Result<(), ExecutorError> {
        if self.config.training && seed != self.config.seed {
            let what = format!("dropout with another seed than it was made with, {}", self.config.seed);
            return Err(ExecutorError::Unsupported { executor: "replayed", what });
        }
        Ok(())
    }
}

impl<E: Executor> Functional for Replayed<E> {
    fn ports(&self) -> &Ports {
        &self.ports
    }

    fn config(&self) -> ExecutionConfig {
        self.config
    }

    fn tape_len(&self) -> usize {
        // A number takes two.
        if self.ports.gradients { TapeHeader::LEN + 2 * self.given } else { 0 }
    }

    fn forward(&self, call: Forward<'_, '_>) -> Result<(), ExecutorError> {
        self.ports.check_forward(self.config, self.tape_len(), &call)?;
        self.check_seed(call.seed)?;
        let streams = self.config.streams;
        let numbers = self.numbers(&call)?;
        let resets = to_resets(call.resets.as_ref(), call.frames * streams);
        let header = TapeHeader {
            program: self.program,
            frames: call.frames,
            has_state: call.state_in.is_some(),
            seed: call.seed,
            first_frame: call.first_frame,
            resets: TapeHeader::hash(&resets),
            weights_version: call.weights_version,
        };
        let given = self.given(&numbers, resets, &header);
        let mut executor = self.executor.lock().unwrap_or_else(PoisonError::into_inner);
        self.run(&mut executor, call.weights, &given)?;
        for (place, array) in call.outputs.iter_mut().enumerate() {
            let Some(array) = array else { continue };
            let mut values = vec![0.0; array.len()];
            executor.output(place, ValuesMut::F64(&mut values))?;
            array.set_numbers(&values);
        }
        let state = executor.forward_state()?;
        let graph = &executor.plan().forward;
        for (port, array) in self.ports.state.iter().zip(call.state_out.iter_mut()) {
            let Some(array) = array else { continue };
            let mut values = (state.histories.iter())
                .find(|history| history.layer == port.name)
                .map_or_else(Vec::new, |history| history.values.clone());
            let width = self.state_len(port) / (port.depth * streams);
            let start: Vec<f64> = match graph.layer_at(port.layer).start {
                _ if port.kind == PortKind::Symbols => vec![-1.0],
                Start::Zero => vec![0.0; width],
                Start::Constant(value) => vec![value; width],
                Start::Learned(weight) => call.weights[weight.index()].to_numbers(),
            };
            for (stream, &since) in state.since_reset.iter().enumerate() {
                for frame in 0..self.started(port.depth, since) {
                    values[(frame * streams + stream) * width..][..width].copy_from_slice(&start);
                }
            }
            array.set_numbers(&values);
        }
        if let Some(mut tape) = call.tape {
            let halves =
                numbers.iter().map(|x| x.to_bits()).flat_map(|bits| [bits as u32, (bits >> 32) as u32]);
            tape.set_bits(&header.words().into_iter().chain(halves).collect::<Vec<u32>>());
        }
        Ok(())
    }

    fn backward(&self, call: Backward<'_, '_>) -> Result<(), ExecutorError> {
        self.ports.check_backward(self.config, self.tape_len(), &call)?;
        let streams = self.config.streams;
        let words = call.tape.bits(TapeHeader::LEN);
        let words = std::array::from_fn(|place| words[place]);
        let header = TapeHeader::read(words, self.program, &call)?;
        let resets = to_resets(call.resets.as_ref(), call.frames * streams);
        header.check_resets(&resets)?;
        let halves = call.tape.bits(self.tape_len());
        let numbers = halves[TapeHeader::LEN..].chunks_exact(2);
        let numbers: Vec<f64> =
            numbers.map(|x| f64::from_bits(u64::from(x[0]) | u64::from(x[1]) << 32)).collect();
        let given = self.given(&numbers, resets, &header);
        let mut executor = self.executor.lock().unwrap_or_else(PoisonError::into_inner);
        self.run(&mut executor, call.weights, &given)?;
        let since = executor.forward_state()?.since_reset;
        // Of frames that have a layer's start, the gradient is the start's.
        let mut starts: Vec<(WeightId, Vec<f64>)> = Vec::new();
        let vectors = self.ports.state.iter().filter(|port| port.vector.is_some()).count();
        let mut left: Vec<Option<Vec<f64>>> =
            vec![None; if self.ports.state_gradients { vectors } else { 0 }];
        for (port, array) in self.ports.state.iter().zip(call.d_state_out) {
            let (Some(array), Some(vector)) = (array, port.vector) else { continue };
            let mut values = array.to_numbers();
            let mut sum = vec![0.0; port.size];
            for (stream, &since) in since.iter().enumerate() {
                for frame in 0..self.started(port.depth, since) {
                    let row = &mut values[(frame * streams + stream) * port.size..][..port.size];
                    sum.iter_mut().zip(&*row).for_each(|(sum, x)| *sum += x);
                    row.fill(0.0);
                }
            }
            if let Start::Learned(weight) = executor.plan().forward.layer_at(port.layer).start {
                starts.push((weight, sum));
            }
            left[vector] = Some(values);
        }
        let errors: Vec<Option<Vec<f64>>> = (0..self.ports.outputs.len())
            .map(|place| Some(call.d_outputs.get(place)?.as_ref()?.to_numbers()))
            .collect();
        fn optional(arrays: &[Option<Vec<f64>>]) -> Vec<Option<Values<'_>>> {
            arrays.iter().map(|array| array.as_deref().map(Values::F64)).collect()
        }
        executor.backward_from(call.frames, &optional(&errors), &optional(&left))?;
        for (place, array) in call.d_weights.iter_mut().enumerate() {
            let Some(array) = array else { continue };
            let (id, mut values) = (WeightId::from_index(place), vec![0.0; array.len()]);
            executor.read(ParameterArray::Gradient, id, ValuesMut::F64(&mut values))?;
            for (_, sum) in starts.iter().filter(|(weight, _)| *weight == id) {
                values.iter_mut().zip(sum).for_each(|(value, x)| *value += x);
            }
            array.set_numbers(&values);
        }
        for (place, array) in call.d_inputs.iter_mut().enumerate() {
            let Some(array) = array else { continue };
            let mut values = vec![0.0; array.len()];
            executor.input_gradient(place, ValuesMut::F64(&mut values))?;
            array.set_numbers(&values);
        }
        for (port, array) in self.ports.state.iter().zip(call.d_state_in.iter_mut()) {
            let (Some(array), Some(vector)) = (array, port.vector) else { continue };
            let mut values = vec![0.0; array.len()];
            executor.state_gradient(vector, ValuesMut::F64(&mut values))?;
            array.set_numbers(&values);
        }
        Ok(())
    }
}

fn to_resets(resets: Option<&Array<'_>>, rows: usize) -> Vec<bool> {
    resets.map_or_else(|| vec![false; rows], |array| array.to_numbers().iter().map(|x| *x != 0.0).collect())
}

/// Refuses a symbol past the last.
fn check_symbols(
    name: &str,
    kind: PortKind,
    symbols: usize,
    streams: usize,
    numbers: &[f64],
) -> Result<(), ExecutorError> {
    let past = |x: &f64| !(*x == -1.0 || (*x >= 0.0 && *x < symbols as f64));
    match numbers.iter().position(past).filter(|_| kind == PortKind::Symbols) {
        None => Ok(()),
        Some(at) => Err(ExecutorError::Symbol {
            name: name.into(),
            symbols,
            found: numbers[at] as i64,
            frame: at / streams,
            stream: at % streams,
        }),
    }
}
