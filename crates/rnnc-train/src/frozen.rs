//! Weights that are not learned, by the patterns of their names.

use crate::error::TrainError;
use glob::Pattern;
use rnnc_graph::{Graph, WeightId};
use rnnc_io::{Weights, list};
use rnnc_plan::{Executor, ParameterArray, Values};

/// Weights that stay as they are.
#[derive(Default)]
pub(crate) struct Frozen {
    weights: Vec<FrozenWeight>,
}

struct FrozenWeight {
    weight: WeightId,
    place: usize,
    values: Vec<f64>,
    zeros: Vec<f64>,
}

impl Frozen {
    /// The weights whose names match.
    ///
    /// # Errors
    /// A pattern that is none or that no weight matches, and patterns that leave nothing to learn.
    pub(crate) fn of(graph: &Graph, patterns: &[String]) -> Result<Frozen, TrainError> {
        let names: Vec<&str> = graph.weights().iter().map(|weight| weight.name.as_str()).collect();
        let problem = |problem: String| Err(TrainError::Setting(format!("`training.frozen`: {problem}")));
        let mut is_frozen = vec![false; names.len()];
        for text in patterns {
            let pattern = match Pattern::new(text) {
                Ok(pattern) => pattern,
                Err(error) => return problem(format!("`{text}` is no pattern: {error}")),
            };
            // A name may have the signs of a pattern: `h.W.h[t-1]`.
            let matches = |name: &str| name == text || pattern.matches(name);
            if !names.iter().any(|name| matches(name)) {
                return problem(format!("no weight matches `{text}`; they are {}", list(&names)));
            }
            is_frozen.iter_mut().zip(&names).for_each(|(frozen, name)| *frozen |= matches(name));
        }
        if !is_frozen.is_empty() && is_frozen.iter().all(|&frozen| frozen) {
            return problem("it leaves no weight to learn".into());
        }
        let frozen = graph.weights().iter().enumerate().zip(is_frozen).filter(|(_, frozen)| *frozen);
        let weights = frozen.map(|((place, weight), _)| FrozenWeight {
            weight: WeightId::from_index(place),
            place,
            values: vec![0.0; weight.len()],
            zeros: vec![0.0; weight.len()],
        });
        Ok(Frozen { weights: weights.collect() })
    }

    /// Keeps them as they are now.
    pub(crate) fn keep(&mut self, weights: &Weights) {
        for frozen in &mut self.weights {
            frozen.values.clone_from(&weights.0[frozen.place]);
        }
    }

    /// So that they neither move nor count to the gradients' norm.
    pub(crate) fn clear_gradients(&self, executor: &mut dyn Executor) -> Result<(), TrainError> {
        for FrozenWeight { weight, zeros, .. } in &self.weights {
            executor.write(ParameterArray::Gradient, *weight, Values::F64(zeros))?;
        }
        Ok(())
    }

    /// Undoes their decay.
    pub(crate) fn put_back(&self, executor: &mut dyn Executor) -> Result<(), TrainError> {
        for FrozenWeight { weight, values, .. } in &self.weights {
            executor.write(ParameterArray::Weight, *weight, Values::F64(values))?;
        }
        Ok(())
    }
}
