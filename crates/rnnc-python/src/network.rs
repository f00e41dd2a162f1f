//! A network of a text.

use crate::compiled::{Compiled, Where};
use crate::{error, executor_error, precision};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use rnnc::cpu::{Foreseen, team};
use rnnc::cuda::{CudaFunctional, driver::Cuda};
use rnnc::graph::{Graph, LayerKind, normalize};
use rnnc::io::{Precision, Weights};
use rnnc::plan::{ExecutionConfig, Plan, PlanOptions, Replayed};
use rnnc::reference::ReferenceExecutor;
use std::path::PathBuf;
use std::sync::Arc;

/// The precision of the reference executor, which runs frame by frame.
const DOUBLE: &str = "f64";

/// A network of a text, with its state: `Network(text, network=None, file_name="network", state=None)`. `state` names the layers whose
/// last values are state; by default it is all that is read with a delay. A network that looks ahead has none.
#[pyclass(frozen, module = "rnnc._native")]
pub struct Network {
    pub(crate) graph: Arc<Graph>,
}

#[pymethods]
impl Network {
    #[new]
    #[pyo3(signature = (text, network=None, file_name="network", state=None))]
    fn new(
        text: &str,
        network: Option<&str>,
        file_name: &str,
        state: Option<Vec<String>>,
    ) -> PyResult<Network> {
        let mut graph = rnnc::lang::compile(file_name, text, network).map_err(error)?;
        let names = state.as_ref().map(|names| names.iter().map(String::as_str).collect::<Vec<_>>());
        if !graph.looks_ahead() {
            graph.hold_state(names.as_deref()).map_err(error)?;
        } else if names.is_some_and(|names| !names.is_empty()) {
            let name = graph.name();
            return Err(error(format!(
                "network `{name}` looks ahead: it takes whole sequences, and has no state"
            )));
        }
        Ok(Network { graph: Arc::new(graph) })
    }

    /// Its name in the text.
    #[getter]
    fn name(&self) -> &str {
        self.graph.name()
    }

    /// Inputs: name, size (units, or how many symbols there are), whether it takes symbols.
    #[getter]
    fn inputs(&self) -> Vec<(String, usize, bool)> {
        let layer = |&id| {
            let layer = self.graph.layer_at(id);
            (layer.name.to_string(), layer.size, layer.kind == LayerKind::Symbol)
        };
        self.graph.inputs().iter().map(layer).collect()
    }

    /// Outputs: name, units.
    #[getter]
    fn outputs(&self) -> Vec<(String, usize)> {
        let output = |o: &rnnc::graph::Output| (o.name.to_string(), self.graph.layer_at(o.layer).size);
        self.graph.outputs().iter().map(output).collect()
    }

    /// Weights: name, canonical shape.
    #[getter]
    fn weights(&self) -> Vec<(String, Vec<usize>)> {
        self.graph.weights().iter().map(|w| (w.name.to_string(), w.shape.to_vec())).collect()
    }

    /// State: name, depth in frames, size, whether it is of symbols. One of depth 1 is `[B, N]`, others are `[depth, B, N]`.
    #[getter]
    fn state(&self) -> Vec<(String, usize, usize, bool)> {
        // As it is run: what nothing depends on reads nothing.
        let graph = normalize(&self.graph);
        let depths = graph.history_depths();
        let held = graph.held().iter();
        held.map(|&id| {
            let layer = graph.layer_at(id);
            (layer.name.to_string(), depths[id.index()].max(1), layer.size, layer.kind == LayerKind::Symbol)
        })
        .collect()
    }

    /// Compiles it for so many streams, and windows of up to so many frames; for the GPU of that number, or for the cores of the CPU.
    #[pyo3(signature = (streams, frames, gradients=true, dropout=false, precision="f32", threads=0, gpu=None))]
    #[allow(clippy::too_many_arguments)] // by name, in Python
    fn compile(
        &self,
        py: Python<'_>,
        streams: usize,
        frames: usize,
        gradients: bool,
        dropout: bool,
        precision: &str,
        threads: usize,
        gpu: Option<usize>,
    ) -> PyResult<Compiled> {
        let double = precision == DOUBLE;
        let precision = if double { Default::default() } else { self::precision(precision)? };
        py.detach(|| {
            let plan = self.lower(streams, frames, gradients)?;
            let config = ExecutionConfig {
                precision,
                threads,
                training: dropout,
                ..ExecutionConfig::new(streams, frames)
            };
            let runs = match gpu {
                Some(_) if double => {
                    return Err(error(
                        "precision `f64` runs on the CPU only: it is the reference, for checking",
                    ));
                }
                Some(gpu) => {
                    let driver = Cuda::new(gpu, precision).map_err(|error| executor_error(error.into()))?;
                    let functional = CudaFunctional::with_driver(plan, config, Box::new(driver));
                    Where::Gpu(Arc::new(functional.map_err(executor_error)?), gpu)
                }
                None if double => {
                    let executor = ReferenceExecutor::new(plan, config).map_err(error)?;
                    Where::Host(Arc::new(Replayed::new(executor)))
                }
                None => Where::Host(rnnc::cpu::Compiled::new(plan, config).map_err(error)?),
            };
            Ok(Compiled::new(runs, double))
        })
    }

    /// Whether a frame reads later ones.
    #[getter]
    fn looks_ahead(&self) -> bool {
        self.graph.looks_ahead()
    }

    /// Whether it has dropout.
    #[getter]
    fn has_dropout(&self) -> bool {
        self.graph.has_dropout()
    }

    /// The weights with which training begins, in single precision: the bytes of one array per weight.
    fn initial<'py>(&self, py: Python<'py>, seed: u64) -> Vec<Bound<'py, PyBytes>> {
        bytes(py, &py.detach(|| Weights::initial(&self.graph, seed)))
    }

    /// The weights of a weights file or a checkpoint.
    fn load_weights<'py>(&self, py: Python<'py>, path: PathBuf) -> PyResult<Vec<Bound<'py, PyBytes>>> {
        let weights = py.detach(|| Weights::load(&path, &self.graph)).map_err(error)?;
        Ok(bytes(py, &weights))
    }

    /// Writes a weights file, in single precision.
    fn save_weights(&self, py: Python<'_>, path: PathBuf, weights: Vec<Vec<u8>>) -> PyResult<()> {
        let weights = self.of_bytes(&weights)?;
        py.detach(|| weights.save(&path, &self.graph, Precision::Single)).map_err(error)
    }

    /// What becomes of it, in a dozen lines, or with `verbose` in full.
    #[pyo3(signature = (streams=1, frames=256, gradients=true, threads=0, precision="f32", verbose=false))]
    #[allow(clippy::too_many_arguments)] // by name, in Python
    fn plan(
        &self,
        py: Python<'_>,
        streams: usize,
        frames: usize,
        gradients: bool,
        threads: usize,
        precision: &str,
        verbose: bool,
    ) -> PyResult<String> {
        let precision = self::precision(precision)?;
        py.detach(|| {
            let plan = self.lower(streams, frames, gradients)?;
            let config = ExecutionConfig { precision, ..ExecutionConfig::new(streams, frames) };
            let foreseen = Foreseen::new(plan, config, team::workers(threads));
            Ok(match verbose {
                true => rnnc::report::text(&foreseen.plan, Some(&foreseen.notes())),
                false => rnnc::report::summary(&foreseen.plan, Some(&foreseen.brief())),
            })
        })
    }

    /// A picture of its layers and cycles.
    #[pyo3(signature = (streams=1, frames=256))]
    fn svg(&self, py: Python<'_>, streams: usize, frames: usize) -> PyResult<String> {
        py.detach(|| rnnc::report::svg(&self.lower(streams, frames, true)?).map_err(error))
    }
}

impl Network {
    fn lower(&self, streams: usize, frames: usize, gradients: bool) -> PyResult<Plan> {
        if streams == 0 || frames == 0 {
            return Err(error("a plan needs at least 1 stream and 1 frame"));
        }
        let options = match gradients {
            true if self.graph.held().is_empty() => {
                PlanOptions::training(streams, frames).with_input_gradients()
            }
            true => PlanOptions::training(streams, frames).with_input_gradients().with_state_gradients(),
            false => PlanOptions::inference(streams, frames),
        };
        Plan::new(&self.graph, options).map_err(error)
    }

    /// Weights of the bytes of their arrays in single precision.
    pub(crate) fn of_bytes(&self, weights: &[Vec<u8>]) -> PyResult<Weights> {
        let expected = self.graph.weights();
        if weights.len() != expected.len() {
            let (all, found) = (expected.len(), weights.len());
            return Err(error(format!("network `{}` has {all} weights, not {found}", self.graph.name())));
        }
        let mut all = Vec::with_capacity(weights.len());
        for (weight, bytes) in expected.iter().zip(weights) {
            if bytes.len() != 4 * weight.len() {
                let (name, expected) = (&weight.name, 4 * weight.len());
                return Err(error(format!("weight `{name}` takes {expected} bytes, not {}", bytes.len())));
            }
            let number = |four: &[u8; 4]| f64::from(f32::from_ne_bytes(*four));
            all.push(bytes.as_chunks().0.iter().map(number).collect());
        }
        Ok(Weights(all))
    }
}

fn bytes<'py>(py: Python<'py>, weights: &Weights) -> Vec<Bound<'py, PyBytes>> {
    let single = |values: &Vec<f64>| {
        let bytes: Vec<u8> = values.iter().flat_map(|&value| (value as f32).to_ne_bytes()).collect();
        PyBytes::new(py, &bytes)
    };
    weights.0.iter().map(single).collect()
}
