//! The native module of the Python package `rnnc`: networks, what becomes of them, and sessions. Thin: what is convenient is
//! written in Python (`python/rnnc`), and arrays come in as addresses, shapes and strides, so that nothing here depends on
//! NumPy or PyTorch.
//!
//! - `network.rs`: a network of a text: what it takes and gives, its initial weights, its plan in words and as a picture;
//! - `compiled.rs`: a network as a function of arrays, and its gradients;
//! - `tensors.rs`: tensors of PyTorch as such arrays;
//! - `session.rs`: a network that runs as frames arrive.

mod compiled;
mod network;
mod session;
mod tensors;

use pyo3::create_exception;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

create_exception!(
    rnnc,
    Error,
    PyValueError,
    "What is wrong with a text, a file, an array or a setting, in words."
);

create_exception!(rnnc, OutOfMemory, Error, "More memory than is free; in words.");

/// An error of an executor, in its own words.
pub(crate) fn executor_error(error: rnnc::plan::ExecutorError) -> PyErr {
    match error {
        error @ rnnc::plan::ExecutorError::Memory { .. } => OutOfMemory::new_err(error.to_string()),
        error => self::error(error),
    }
}

/// An error of the engine, in its own words.
pub(crate) fn error(error: impl std::fmt::Display) -> PyErr {
    Error::new_err(error.to_string())
}

/// A cell of the library: name, summary, citation, text, inputs, what it returns.
type LibraryCell =
    (&'static str, &'static str, &'static str, &'static str, Vec<&'static str>, Vec<&'static str>);

/// The library's cells.
#[pyfunction]
fn cells() -> Vec<LibraryCell> {
    let all = rnnc::lang::cells().iter();
    all.map(|c| (c.name, c.summary, c.citation, c.text, c.inputs.clone(), c.returns.clone())).collect()
}

/// How coarsely products may round their operands, by its name.
pub(crate) fn precision(name: &str) -> PyResult<rnnc::plan::Precision> {
    match name {
        "f32" => Ok(rnnc::plan::Precision::F32),
        "tf32" => Ok(rnnc::plan::Precision::Tf32),
        "bf16" => Ok(rnnc::plan::Precision::Bf16),
        _ => Err(error(format!("there is no precision `{name}`; there are `f32`, `tf32` and `bf16`"))),
    }
}

/// Where else NVIDIA's libraries are sought: see `rnnc::cuda::driver::search_cuda_libraries_in`.
#[pyfunction]
fn search_cuda_libraries_in(directories: Vec<std::path::PathBuf>) {
    rnnc::cuda::driver::search_cuda_libraries_in(directories);
}

#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("Error", module.py().get_type::<Error>())?;
    module.add("OutOfMemory", module.py().get_type::<OutOfMemory>())?;
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_class::<network::Network>()?;
    module.add_class::<compiled::Compiled>()?;
    module.add_class::<session::Session>()?;
    module.add_class::<session::SessionState>()?;
    module.add_function(wrap_pyfunction!(tensors::take_tensors, module)?)?;
    module.add_function(wrap_pyfunction!(tensors::are_plain, module)?)?;
    module.add_function(wrap_pyfunction!(search_cuda_libraries_in, module)?)?;
    module.add_function(wrap_pyfunction!(cells, module)?)
}
