//! The weights of a network: how they begin, where they lie in a file, and whether a file's are this network's.

use crate::error::FileError;
use crate::tensors::{Precision, Tensor, TensorFile, TensorView, write_tensors};
use rnnc_graph::{Graph, WeightId, initial_values, nearest};
use rnnc_plan::{Executor, ExecutorError, Optimizer, ParameterArray, Values, ValuesMut};
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

/// What a file holds beside weights: the prefixes of names. A weight that the language names has no slash.
pub mod section {
    /// The key of what a file says of itself.
    pub const ABOUT: &str = "rnnc";
    /// A checkpoint's state.
    pub const STATE: &str = "state/";
    /// The older frames of windows that overlap.
    pub const KEPT: &str = "kept/";

    /// A slot of a checkpoint's optimizer, by its name.
    pub fn of_slot(slot: &str) -> String {
        format!("{slot}/")
    }
}

use section::{ABOUT, KEPT, STATE};

fn is_weight(name: &str) -> bool {
    let mut slots = Optimizer::ALL.into_iter().flat_map(Optimizer::slots);
    let is_slot = slots.any(|slot| name.split_once('/').is_some_and(|(prefix, _)| prefix == slot.name));
    !is_slot && ![STATE, KEPT].iter().any(|prefix| name.starts_with(prefix))
}

/// One array per weight of a network, in the order of [`Graph::weights`], row-major in the canonical shapes.
///
/// ```
/// use rnnc_graph::{Graph, Init};
/// use rnnc_io::{Precision, Weights};
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("w.safetensors");
/// let mut network = Graph::new("net");
/// network.weight("h.bias", &[8], Init::Uniform(0.1));
/// let weights = Weights::initial(&network, 1);
/// weights.save(&path, &network, Precision::Double)?;
/// assert_eq!(Weights::load(&path, &network)?, weights);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Weights(pub Vec<Vec<f64>>);

impl Weights {
    /// The values with which training begins.
    pub fn initial(graph: &Graph, seed: u64) -> Weights {
        Weights(graph.weights().iter().map(|w| initial_values(w, seed)).collect())
    }

    /// Reads a weights file or the weights of a checkpoint.
    ///
    /// # Errors
    /// Names of the file and the network that differ, shapes that differ, and numbers that are not finite.
    pub fn load(path: &Path, graph: &Graph) -> Result<Weights, FileError> {
        let mut file = TensorFile::read_some(path, is_weight)?;
        file.check_finite(path)?;
        Weights::take(&mut file.tensors, "", graph)
            .map_err(|differences| FileError::contents(path, differences.to_string()))
    }

    /// Writes a weights file, whole or not at all.
    pub fn save(&self, path: &Path, graph: &Graph, precision: Precision) -> Result<(), FileError> {
        let about = BTreeMap::from([(ABOUT.into(), r#"{"format":"weights","version":1}"#.into())]);
        write_tensors(path, self.views("", graph).collect(), &about, precision)
    }

    /// Copies a part of all weights out of an executor.
    pub fn of(
        executor: &dyn Executor,
        graph: &Graph,
        part: ParameterArray,
    ) -> Result<Weights, ExecutorError> {
        let mut all = Vec::with_capacity(graph.weights().len());
        for (i, weight) in graph.weights().iter().enumerate() {
            let mut values = vec![0.0; weight.len()];
            executor.read(part, WeightId::from_index(i), ValuesMut::F64(&mut values))?;
            all.push(values);
        }
        Ok(Weights(all))
    }

    /// Copies a part of all weights into an executor of the same network.
    pub fn put_into(&self, executor: &mut dyn Executor, part: ParameterArray) -> Result<(), ExecutorError> {
        for (i, values) in self.0.iter().enumerate() {
            executor.write(part, WeightId::from_index(i), Values::F64(values))?;
        }
        Ok(())
    }

    /// Takes the tensors `PREFIX NAME` out, if they are exactly the network's.
    pub fn take(
        tensors: &mut BTreeMap<String, Tensor>,
        prefix: &str,
        graph: &Graph,
    ) -> Result<Weights, Differences> {
        let mut differences = Differences { network: graph.name().into(), ..Differences::default() };
        let mut all = Vec::with_capacity(graph.weights().len());
        for weight in graph.weights() {
            match tensors.remove(&format!("{prefix}{}", weight.name)) {
                None => differences.missing.push((weight.name.clone(), None)),
                Some(tensor) if tensor.shape != weight.shape => differences.shapes.push(format!(
                    "`{}` is {:?} in the file and {:?} in the network{}",
                    weight.name,
                    tensor.shape,
                    weight.shape,
                    if tensor.shape.iter().rev().eq(&weight.shape) { " (transposed?)" } else { "" }
                )),
                Some(tensor) => all.push(tensor.values),
            }
        }
        let others =
            |name: &&String| if prefix.is_empty() { is_weight(name) } else { name.starts_with(prefix) };
        differences.unexpected = tensors.keys().filter(others).cloned().collect();
        let shapes: BTreeMap<&str, &[usize]> =
            graph.weights().iter().map(|w| (&*w.name, &*w.shape)).collect();
        let twin = |name: &str| {
            let shape = *shapes.get(name)?;
            let others =
                differences.unexpected.iter().map(|other| other.strip_prefix(prefix).unwrap_or(other));
            let fitting: Vec<&str> =
                others.filter(|other| tensors[&format!("{prefix}{other}")].shape == shape).collect();
            let near = nearest(name, fitting.iter().copied())?;
            // Of several that may be meant, none is.
            let is_alone = nearest(name, fitting.into_iter().filter(|&other| other != near)).is_none();
            is_alone.then(|| near.to_owned())
        };
        let twins: Vec<Option<String>> =
            differences.missing.iter().take(NAMED).map(|(name, _)| twin(name)).collect();
        for ((_, into), twin) in differences.missing.iter_mut().zip(twins) {
            *into = twin;
        }
        differences.has_none =
            !graph.weights().is_empty() && differences.missing.len() == graph.weights().len();
        if differences.is_empty() { Ok(Weights(all)) } else { Err(differences) }
    }

    /// As tensors `PREFIX NAME`.
    pub fn views<'a>(&'a self, prefix: &str, graph: &Graph) -> impl Iterator<Item = TensorView<'a>> {
        graph.weights().iter().zip(&self.0).map(move |(weight, values)| TensorView {
            name: format!("{prefix}{}", weight.name),
            shape: weight.shape.clone(),
            values,
        })
    }
}

/// More weights than these are counted, not named.
const NAMED: usize = 10;

/// How the weights of a file differ from a network's.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Differences {
    network: String,
    /// Each with the unexpected one that may be meant by it.
    missing: Vec<(String, Option<String>)>,
    unexpected: Vec<String>,
    shapes: Vec<String>,
    /// Whether the file has not one of the network's weights.
    has_none: bool,
}

impl Differences {
    fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.unexpected.is_empty() && self.shapes.is_empty()
    }
}

impl fmt::Display for Differences {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quoted = |names: &[String]| names.iter().map(|n| format!("`{n}`")).collect::<Vec<_>>();
        write!(out, "these are not the weights of network `{}`", self.network)?;
        let missing = self.missing.iter().map(|(name, twin)| match twin {
            Some(twin) => format!("`{name}` (is it the file's `{twin}`?)"),
            None => format!("`{name}`"),
        });
        let parts = [
            ("missing: ", missing.collect()),
            ("not in the network: ", quoted(&self.unexpected)),
            ("of another shape: ", self.shapes.clone()),
        ];
        for (what, names) in parts {
            if !names.is_empty() {
                write!(out, "; {what}{}", names[..names.len().min(NAMED)].join(", "))?;
            }
            if names.len() > NAMED {
                write!(out, " and {} more", names.len() - NAMED)?;
            }
        }
        if self.has_none {
            out.write_str(
                "; none of the network's weights is in the file: they are named after their equations, as `rnnc init` writes them",
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rnnc_graph::Init;

    fn network(weights: &[(&str, &[usize])]) -> Graph {
        let mut graph = Graph::new("net");
        for (name, shape) in weights {
            graph.weight(*name, shape, Init::Uniform(0.5));
        }
        graph
    }

    #[test]
    fn weights_read_back_as_saved() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("w.safetensors");
        let graph = network(&[("h.W.x", &[2, 3]), ("h.bias", &[2])]);
        let weights = Weights::initial(&graph, 3);
        weights.save(&path, &graph, Precision::Double).unwrap();
        assert_eq!(Weights::load(&path, &graph).unwrap(), weights);
        weights.save(&path, &graph, Precision::Single).unwrap();
        let single = Weights::load(&path, &graph).unwrap();
        assert_eq!(single.0[0][0], f64::from(weights.0[0][0] as f32));
    }

    #[test]
    fn weights_of_another_network_are_refused_difference_by_difference() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("w.safetensors");
        let old = network(&[("h.W.x", &[2, 3]), ("h.bias", &[2])]);
        Weights::initial(&old, 3).save(&path, &old, Precision::Single).unwrap();
        let new = network(&[("h.W.x", &[4, 3]), ("y.bias", &[2])]);
        assert_eq!(
            Weights::load(&path, &new).unwrap_err().to_string(),
            format!(
                "{}: these are not the weights of network `net`; missing: `y.bias` (is it the file's `h.bias`?); not in the network: `h.bias`; \
                 of another shape: `h.W.x` is [2, 3] in the file and [4, 3] in the network",
                path.display()
            )
        );
    }

    #[test]
    fn a_missing_weight_is_shown_beside_the_one_that_may_be_meant() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("w.safetensors");
        let error = |old: &[(&str, &[usize])], new: &[(&str, &[usize])]| {
            let old = network(old);
            Weights::initial(&old, 3).save(&path, &old, Precision::Single).unwrap();
            let message = Weights::load(&path, &network(new)).unwrap_err().to_string();
            message.split_once("`net`; ").unwrap().1.to_string()
        };
        assert_eq!(
            error(
                &[("h.W.x", &[3, 2]), ("h1.bias", &[2]), ("h2.bias", &[4])],
                &[("h.W.x", &[2, 3]), ("h.bias", &[4])]
            ),
            "missing: `h.bias` (is it the file's `h2.bias`?); not in the network: `h1.bias`, `h2.bias`; of another shape: \
             `h.W.x` is [3, 2] in the file and [2, 3] in the network (transposed?)"
        );
        let foreign = error(&[("weight_ih_l0", &[2, 3])], &[("h.W.x", &[2, 3])]);
        assert!(foreign.contains("none of the network's weights is in the file"), "{foreign}");
    }

    #[test]
    fn a_weight_that_is_not_a_number_is_refused_with_its_place() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("w.safetensors");
        let graph = network(&[("h.W.x", &[2, 3])]);
        Weights(vec![vec![0.0, 0.0, 0.0, 0.0, f64::NAN, 0.0]])
            .save(&path, &graph, Precision::Single)
            .unwrap();
        assert_eq!(
            Weights::load(&path, &graph).unwrap_err().to_string(),
            format!("{}: array `h.W.x`: expected finite numbers, found NaN at [1, 1]", path.display())
        );
    }
}
