//! A network as a function of arrays, for so many streams and frames, and the gradients of that.

#![allow(unsafe_code)] // addresses from Python

use crate::{error, executor_error};
use pyo3::prelude::*;
use rnnc::cuda::CudaFunctional;
use rnnc::cuda::driver::StreamHandle;
use rnnc::plan::{Array, ArrayError, ArrayMut, Backward, Element, ExecutorError, Forward, Functional};
use std::sync::Arc;

/// A network ready to run: see `Network.compile`. It never changes: any number of threads may call it at a time.
///
/// Arrays are `(address, kind, shape, strides)`: kind is one of f32, f64, i32, i64, u8, bool; strides are in elements. Whoever calls keeps
/// them, and keeps others from changing them, as long as the call runs; what is written overlaps nothing else. On a GPU they are of its
/// memory, and a call runs as its stream comes to it.
#[pyclass(frozen, weakref, module = "rnnc._native")]
pub struct Compiled(Where);

/// What runs it.
pub(crate) enum Where {
    /// This process.
    Host(Arc<dyn Functional>),
    /// A GPU, on a stream of the caller's.
    Gpu(CudaFunctional),
}

impl Where {
    fn functional(&self) -> &dyn Functional {
        match self {
            Where::Host(functional) => &**functional,
            Where::Gpu(functional) => functional,
        }
    }

    fn forward(&self, stream: usize, call: Forward<'_, '_>) -> Result<(), ExecutorError> {
        match self {
            Where::Host(functional) => functional.forward(call),
            Where::Gpu(functional) => functional.forward_on(handle(stream), call),
        }
    }

    fn backward(&self, stream: usize, call: Backward<'_, '_>) -> Result<(), ExecutorError> {
        match self {
            Where::Host(functional) => functional.backward(call),
            Where::Gpu(functional) => functional.backward_on(handle(stream), call),
        }
    }
}

/// A stream of the caller's; 0 is the default one.
fn handle(stream: usize) -> StreamHandle {
    // SAFETY: PyTorch never destroys its streams, and whoever has one of their own keeps it as long as what runs on it.
    unsafe { StreamHandle::from_raw(stream) }
}

/// An array as Python hands it in.
#[derive(FromPyObject)]
struct Raw(usize, String, Vec<usize>, Vec<isize>);

impl Raw {
    fn element(&self) -> PyResult<Element> {
        match &*self.1 {
            "f32" => Ok(Element::F32),
            "f64" => Ok(Element::F64),
            "i32" => Ok(Element::I32),
            "i64" => Ok(Element::I64),
            "u8" => Ok(Element::U8),
            "bool" => Ok(Element::Bool),
            other => Err(error(format!("arrays of {other} are not taken"))),
        }
    }

    fn array(&self) -> PyResult<Array<'_>> {
        let Raw(address, _, shape, strides) = self;
        // SAFETY: the caller keeps it as long as the call runs, and nobody writes it.
        let array = unsafe { Array::from_raw_parts(*address, self.element()?, shape, strides) };
        array.map_err(|what: ArrayError| error(format!("an array {what}")))
    }

    fn array_mut(&self) -> PyResult<ArrayMut<'_>> {
        let Raw(address, _, shape, strides) = self;
        // SAFETY: the caller keeps it as long as the call runs, and it is nobody else's.
        let array = unsafe { ArrayMut::from_raw_parts(*address, self.element()?, shape, strides) };
        array.map_err(|what: ArrayError| error(format!("an array that is written {what}")))
    }
}

fn arrays(of: &[Raw]) -> PyResult<Vec<Array<'_>>> {
    of.iter().map(Raw::array).collect()
}

fn optional(of: &[Option<Raw>]) -> PyResult<Vec<Option<Array<'_>>>> {
    of.iter().map(|raw| raw.as_ref().map(Raw::array).transpose()).collect()
}

fn written(of: &[Option<Raw>]) -> PyResult<Vec<Option<ArrayMut<'_>>>> {
    of.iter().map(|raw| raw.as_ref().map(Raw::array_mut).transpose()).collect()
}

impl Compiled {
    pub(crate) fn new(runs: Where) -> Compiled {
        Compiled(runs)
    }
}

#[pymethods]
impl Compiled {
    /// How many numbers in single precision a forward call keeps for its backward call.
    #[getter]
    fn tape_len(&self) -> usize {
        self.0.functional().tape_len()
    }

    /// Runs frames: `[T, B, N]` in and out, symbols and resets `[T, B]`, state `[B, N]` or `[depth, B, N]`. `stream` is the address of a
    /// GPU's (`cudaStream_t`).
    #[allow(clippy::too_many_arguments)] // all that a call takes
    fn forward(
        &self,
        py: Python<'_>,
        frames: usize,
        weights: Vec<Raw>,
        inputs: Vec<Raw>,
        resets: Option<Raw>,
        state_in: Option<Vec<Raw>>,
        seed: u64,
        outputs: Vec<Option<Raw>>,
        state_out: Vec<Option<Raw>>,
        tape: Option<Raw>,
        stream: usize,
    ) -> PyResult<()> {
        let (weights, inputs) = (arrays(&weights)?, arrays(&inputs)?);
        let state_in = state_in.as_deref().map(arrays).transpose()?;
        let (mut outputs, mut state_out) = (written(&outputs)?, written(&state_out)?);
        let call = Forward {
            resets: resets.as_ref().map(Raw::array).transpose()?,
            state_in: state_in.as_deref(),
            seed,
            outputs: &mut outputs,
            state_out: &mut state_out,
            tape: tape.as_ref().map(Raw::array_mut).transpose()?,
            ..Forward::new(frames, &weights, &inputs)
        };
        py.detach(|| self.0.forward(stream, call)).map_err(executor_error)
    }

    /// Computes gradients of a forward call, from those of its outputs and of the state behind it.
    #[allow(clippy::too_many_arguments)] // all that a call takes
    fn backward(
        &self,
        py: Python<'_>,
        frames: usize,
        weights: Vec<Raw>,
        resets: Option<Raw>,
        tape: Raw,
        d_outputs: Vec<Option<Raw>>,
        d_state_out: Vec<Option<Raw>>,
        d_weights: Vec<Option<Raw>>,
        d_inputs: Vec<Option<Raw>>,
        d_state_in: Vec<Option<Raw>>,
        stream: usize,
    ) -> PyResult<()> {
        let weights = arrays(&weights)?;
        let (d_outputs, d_state_out) = (optional(&d_outputs)?, optional(&d_state_out)?);
        let (mut d_weights, mut d_inputs) = (written(&d_weights)?, written(&d_inputs)?);
        let mut d_state_in = written(&d_state_in)?;
        let call = Backward {
            resets: resets.as_ref().map(Raw::array).transpose()?,
            d_outputs: &d_outputs,
            d_state_out: &d_state_out,
            d_weights: &mut d_weights,
            d_inputs: &mut d_inputs,
            d_state_in: &mut d_state_in,
            ..Backward::new(frames, &weights, tape.array()?)
        };
        py.detach(|| self.0.backward(stream, call)).map_err(executor_error)
    }
}
