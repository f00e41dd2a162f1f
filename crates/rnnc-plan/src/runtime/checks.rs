//! What every executor refuses, in the same words: setups, arrays and numbers that do not fit the plan.
//!
//! Each check comes before anything changes.

use super::config::ExecutionConfig;
use super::errors::ExecutorError;
use super::update::Update;
use super::values::{NO_SYMBOL, ParameterArray, Values, ValuesMut};
use crate::ir::Plan;
use crate::optimizers::SettingError;
use rnnc_graph::{Graph, Layer, LayerId, LayerKind, Output, StateAdjoint, StateVector, WeightId};

impl Plan {
    /// Checks streams, window and step. `executor` is whose config it is.
    ///
    /// # Errors
    /// A number out of bounds; a step shorter than the window for a network that looks ahead.
    pub fn check_config(&self, executor: &'static str, config: ExecutionConfig) -> Result<(), ExecutorError> {
        check_range("the number of streams", config.streams, 1, usize::MAX)?;
        check_range("the window", config.window, 1, usize::MAX)?;
        check_range("the step", config.step, 1, config.window)?;
        // Older frames would change as new ones come.
        let ahead = self.forward.connections().iter().find(|c| c.delay < 0);
        match ahead.filter(|_| config.step < config.window) {
            None => Ok(()),
            Some(ahead) => {
                let layer = &self.forward.layer_at(ahead.target).name;
                let what = format!("`{layer}`, which looks ahead, with a step shorter than the window");
                Err(ExecutorError::Unsupported { executor, what })
            }
        }
    }

    /// Checks what [`forward`](crate::Executor::forward) is given.
    ///
    /// # Errors
    /// A wrong number of frames or inputs; an input of the wrong length or type; a symbol past the last; a number that
    /// single precision cannot hold; resets of the wrong length.
    pub fn check_inputs(
        &self,
        config: ExecutionConfig,
        frames: usize,
        inputs: &[Values<'_>],
        resets: Option<&[bool]>,
    ) -> Result<(), ExecutorError> {
        check_range("the number of frames", frames, 1, config.step)?;
        let layers = self.forward.inputs();
        check_count("inputs", layers.iter().map(|&i| &*self.forward.layer_at(i).name), inputs.len())?;
        check_resets(config, frames, resets)?;
        let mut pairs = layers.iter().zip(inputs);
        pairs.try_for_each(|(&id, &values)| {
            check_input(self.forward.layer_at(id), frames, config.streams, values)
        })
    }

    /// The output at a place of the graph's list.
    ///
    /// # Errors
    /// There is none.
    pub fn check_output(&self, output: usize) -> Result<&Output, ExecutorError> {
        let outputs = self.forward.outputs();
        outputs.get(output).ok_or_else(|| no_such("the output's number", output, outputs.len()))
    }

    /// Checks that there is an array for each output, of so many frames.
    ///
    /// # Errors
    /// A wrong number of arrays; one of the wrong length.
    pub fn check_outputs(
        &self,
        config: ExecutionConfig,
        frames: usize,
        into: &[ValuesMut<'_>],
    ) -> Result<(), ExecutorError> {
        let outputs = self.forward.outputs();
        check_count("outputs", outputs.iter().map(|output| &*output.name), into.len())?;
        outputs.iter().zip(into).try_for_each(|(output, into)| {
            let size = self.forward.layer_at(output.layer).size;
            check_len(&output.name, &[frames, config.streams, size], into.len())
        })
    }

    /// Checks what [`backward`](crate::Executor::backward) is given, after a forward call of `new` frames, where errors
    /// can go back through `most`.
    ///
    /// # Errors
    /// A plan without gradients; no forward call; a wrong number of frames or arrays; an array of the wrong length or
    /// type.
    pub fn check_output_gradients(
        &self,
        config: ExecutionConfig,
        new: usize,
        most: usize,
        frames: usize,
        gradients: &[Option<Values<'_>>],
    ) -> Result<(), ExecutorError> {
        let adjoint = self.check_trained()?;
        if new == 0 {
            return Err(ExecutorError::Order("there is no forward call for the errors to go back through"));
        }
        check_range("the number of frames to go back through", frames, new, most)?;
        let outputs = self.forward.outputs();
        check_count("output gradients", outputs.iter().map(|o| &*o.name), gradients.len())?;
        for (&id, values) in adjoint.inputs().iter().zip(gradients) {
            if let Some(values) = *values {
                check_input(adjoint.layer_at(id), new, config.streams, values)?;
            }
        }
        Ok(())
    }

    /// The layer of the adjoint that holds an input's gradient, after a backward call over `frames` frames (0: there was
    /// none).
    ///
    /// # Errors
    /// No such input, or none with a gradient; no backward call.
    pub fn check_input_gradient(&self, input: usize, frames: usize) -> Result<LayerId, ExecutorError> {
        let inputs = self.forward.inputs();
        let &id = inputs.get(input).ok_or_else(|| no_such("the input's number", input, inputs.len()))?;
        let layer = self.forward.layer_at(id);
        if layer.kind == LayerKind::Symbol {
            return Err(ExecutorError::Order("a symbol input has no gradient"));
        }
        let Some(adjoint) = self.adjoint.as_ref().filter(|_| self.options.input_gradients) else {
            return Err(ExecutorError::Order("the plan was made without input gradients"));
        };
        if frames == 0 {
            return Err(ExecutorError::Order("there was no backward call since the last forward call"));
        }
        // The adjoint's first outputs, one of each vector input.
        let is_vector = |input: &&LayerId| self.forward.layer_at(**input).kind != LayerKind::Symbol;
        let place = inputs[..input].iter().filter(is_vector).count();
        Ok(adjoint.outputs()[place].layer)
    }

    /// Checks the gradients of the state that a window leaves: none, or one array or none for each of the network's
    /// [`state_vectors`](rnnc_graph::state_vectors).
    ///
    /// # Errors
    /// A plan without state gradients; a wrong number of arrays; an array of the wrong length or type.
    pub fn check_state_gradients(
        &self,
        config: ExecutionConfig,
        gradients: &[Option<Values<'_>>],
    ) -> Result<(), ExecutorError> {
        if gradients.is_empty() {
            return Ok(());
        }
        let vectors = &self.check_state_trained()?.vectors;
        let names = vectors.iter().map(|vector| &*self.forward.layer_at(vector.layer).name);
        check_count("state gradients", names, gradients.len())?;
        for (vector, values) in vectors.iter().zip(gradients) {
            if let Some(values) = *values {
                check_numbers(self.forward.layer_at(vector.layer), vector.depth, config.streams, values)?;
            }
        }
        Ok(())
    }

    /// The layer and the depth of a vector of the state, after a backward call over `frames` frames (0: there was none).
    ///
    /// # Errors
    /// No such vector; a plan without state gradients; no backward call.
    pub fn check_state_gradient(
        &self,
        vector: usize,
        frames: usize,
    ) -> Result<(LayerId, usize), ExecutorError> {
        let vectors = &self.check_state_trained()?.vectors;
        let no_such = || no_such("the state vector's number", vector, vectors.len());
        let StateVector { layer, depth, .. } = *vectors.get(vector).ok_or_else(no_such)?;
        match frames {
            0 => Err(ExecutorError::Order("there was no backward call since the last forward call")),
            _ => Ok((layer, depth)),
        }
    }

    fn check_state_trained(&self) -> Result<&StateAdjoint, ExecutorError> {
        self.state_adjoint.as_ref().ok_or(ExecutorError::Order("the plan was made without state gradients"))
    }

    /// Checks which array of which weight is read or written, and the number of its values.
    ///
    /// # Errors
    /// No such weight or slot; the wrong number of values; gradients or slots of a plan without gradients.
    pub fn check_weight(
        &self,
        config: ExecutionConfig,
        part: ParameterArray,
        weight: WeightId,
        found: usize,
    ) -> Result<(), ExecutorError> {
        let count = self.forward.weights().len();
        if weight.index() >= count {
            return Err(no_such("the weight's number", weight.index(), count));
        }
        let weight = self.forward.weight_at(weight);
        check_len(&weight.name, &weight.shape, found)?;
        if part != ParameterArray::Weight {
            self.check_trained()?;
        }
        let slots = config.optimizer.slots().len();
        match part {
            ParameterArray::Slot(slot) if slot >= slots => Err(no_such("the slot's number", slot, slots)),
            _ => Ok(()),
        }
    }

    /// Checks what [`write`](crate::Executor::write) is given.
    ///
    /// # Errors
    /// Those of [`Plan::check_weight`]; symbols; a number that single precision cannot hold.
    pub fn check_written(
        &self,
        config: ExecutionConfig,
        part: ParameterArray,
        weight: WeightId,
        values: Values<'_>,
    ) -> Result<(), ExecutorError> {
        self.check_weight(config, part, weight, values.len())?;
        match values {
            Values::F32(_) => Ok(()),
            Values::F64(numbers) => check_single(&self.forward.weight_at(weight).name, numbers),
            Values::Symbols(_) => {
                let name = self.forward.weight_at(weight).name.clone();
                Err(ExecutorError::Type { name, expected: "numbers", found: "symbols" })
            }
        }
    }

    /// Checks what [`update`](crate::Executor::update) is given.
    ///
    /// # Errors
    /// A plan without gradients; another optimizer than the config's; settings that [`Update::check`] refuses.
    pub fn check_update(&self, config: ExecutionConfig, update: &Update) -> Result<(), ExecutorError> {
        self.check_trained()?;
        let (expected, found) = (config.optimizer, update.optimizer.optimizer());
        if expected != found {
            let (expected, found) = (expected.name(), found.name());
            return Err(SettingError::Optimizer { expected, found }.into());
        }
        update.check()
    }

    fn check_trained(&self) -> Result<&Graph, ExecutorError> {
        self.adjoint.as_ref().ok_or(ExecutorError::Order("the plan was made without gradients"))
    }
}

/// An error unless the number lies within bounds.
///
/// # Errors
/// [`ExecutorError::OutOfRange`].
pub fn check_range(what: &'static str, found: usize, least: usize, most: usize) -> Result<(), ExecutorError> {
    if (least..=most).contains(&found) {
        return Ok(());
    }
    let expected = match (least, most) {
        (_, usize::MAX) => format!("at least {least}"),
        _ if least == most => format!("{least}"),
        _ => format!("{least} to {most}"),
    };
    Err(ExecutorError::OutOfRange { what, expected, found })
}

/// Refuses resets that are not those of so many frames.
///
/// # Errors
/// [`ExecutorError::Length`].
pub fn check_resets(
    config: ExecutionConfig,
    frames: usize,
    resets: Option<&[bool]>,
) -> Result<(), ExecutorError> {
    resets.map_or(Ok(()), |resets| check_len("reset", &[frames, config.streams], resets.len()))
}

/// An error unless an array of that shape has so many values.
///
/// # Errors
/// [`ExecutorError::Length`].
pub fn check_len(name: &str, shape: &[usize], found: usize) -> Result<(), ExecutorError> {
    let expected = shape.iter().fold(1, |all: usize, &n| all.saturating_mul(n));
    if found == expected {
        return Ok(());
    }
    Err(ExecutorError::Length { name: name.into(), shape: format!("{shape:?}"), expected, found })
}

/// An error if a finite number would be infinite in single precision: what comes in means the same to every executor.
///
/// # Errors
/// [`ExecutorError::TooLarge`].
pub fn check_single(name: &str, numbers: &[f64]) -> Result<(), ExecutorError> {
    let too_large = |&x: &f64| x.is_finite() && (x as f32).is_infinite();
    match numbers.iter().position(too_large) {
        None => Ok(()),
        Some(place) => Err(ExecutorError::TooLarge { name: name.into(), place, found: numbers[place] }),
    }
}

/// An error unless one array was given for each of the names.
fn check_count<'a>(
    what: &'static str,
    names: impl ExactSizeIterator<Item = &'a str>,
    found: usize,
) -> Result<(), ExecutorError> {
    let expected = names.len();
    if expected == found {
        return Ok(());
    }
    let names: Vec<String> = names.map(|n| format!("`{n}`")).collect();
    Err(ExecutorError::Count { what, expected, names: names.join(", "), found })
}

/// Whether values are those of a vector layer in so many frames.
fn check_numbers(
    layer: &Layer,
    frames: usize,
    streams: usize,
    values: Values<'_>,
) -> Result<(), ExecutorError> {
    if let Values::Symbols(_) = values {
        return Err(ExecutorError::Type { name: layer.name.clone(), expected: "numbers", found: "symbols" });
    }
    check_len(&layer.name, &[frames, streams, layer.size], values.len())?;
    match values {
        Values::F64(numbers) => check_single(&layer.name, numbers),
        _ => Ok(()),
    }
}

fn check_input(
    layer: &Layer,
    frames: usize,
    streams: usize,
    values: Values<'_>,
) -> Result<(), ExecutorError> {
    let wrong = |expected, found| Err(ExecutorError::Type { name: layer.name.clone(), expected, found });
    match (layer.kind == LayerKind::Symbol, values) {
        (false, values) => check_numbers(layer, frames, streams, values),
        (true, Values::F32(_) | Values::F64(_)) => wrong("symbols", "numbers"),
        (true, Values::Symbols(symbols)) => {
            check_len(&layer.name, &[frames, streams], symbols.len())?;
            let past = |&s: &u32| s != NO_SYMBOL && s as usize >= layer.size;
            match symbols.iter().position(past) {
                None => Ok(()),
                Some(at) => Err(ExecutorError::Symbol {
                    name: layer.name.clone(),
                    symbols: layer.size,
                    found: i64::from(symbols[at]),
                    frame: at / streams,
                    stream: at % streams,
                }),
            }
        }
    }
}

fn no_such(what: &'static str, found: usize, count: usize) -> ExecutorError {
    ExecutorError::OutOfRange { what, expected: format!("less than {count}"), found }
}
