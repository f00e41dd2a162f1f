//! A network as a function of arrays, for so many streams and frames, and the gradients of that.

#![allow(unsafe_code)] // addresses from Python

use crate::{error, executor_error, tensors};
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use rnnc::cuda::CudaFunctional;
use rnnc::cuda::driver::StreamHandle;
use rnnc::plan::{
    Array, ArrayError, ArrayMut, Backward, Element, ExecutorError, Forward, Functional, MOST_DIMENSIONS,
};
use std::sync::{Arc, Mutex, PoisonError};

/// A network ready to run: see `Network.compile`. It never changes: any number of threads may call it at a time.
///
/// Arrays are tensors of PyTorch, once it has been taken (`take_tensors`), or `(address, kind, shape, strides, GPU)`: kind is one of f32, f64,
/// i32, i64, u8, bool; strides are in elements; the GPU is its number, or -1 for the memory of this process. Whoever calls keeps them, and
/// keeps others from changing them, as long as the call runs; what is written overlaps nothing else. On a GPU, a call runs as its stream
/// comes to it.
#[pyclass(frozen, weakref, module = "rnnc._native")]
pub struct Compiled {
    runs: Where,
    memory: Memory,
    /// Whether its numbers are in double precision.
    double: bool,
}

/// What runs it.
pub(crate) enum Where {
    /// This process.
    Host(Arc<dyn Functional>),
    /// The GPU of that number, on a stream of the caller's.
    Gpu(Arc<CudaFunctional>, usize),
}

impl Where {
    fn functional(&self) -> &dyn Functional {
        match self {
            Where::Host(functional) => &**functional,
            Where::Gpu(functional, _) => &**functional,
        }
    }

    fn forward(
        &self,
        stream: usize,
        seed_at: Option<usize>,
        call: Forward<'_, '_>,
    ) -> Result<(), ExecutorError> {
        match self {
            Where::Host(functional) => functional.forward(call),
            Where::Gpu(functional, _) => {
                let called = functional.forward_seeded_on(handle(stream), seed_at.unwrap_or(0) as u64, call);
                keep_captured(functional);
                called
            }
        }
    }

    fn backward(&self, stream: usize, call: Backward<'_, '_>) -> Result<(), ExecutorError> {
        match self {
            Where::Host(functional) => functional.backward(call),
            Where::Gpu(functional, _) => {
                let called = functional.backward_on(handle(stream), call);
                keep_captured(functional);
                called
            }
        }
    }
}

/// What is part of a graph of the caller's lives on: nobody says when that graph goes.
fn keep_captured(functional: &Arc<CudaFunctional>) {
    static KEPT: Mutex<Vec<Arc<CudaFunctional>>> = Mutex::new(Vec::new());
    if functional.is_captured() {
        let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
        if !kept.iter().any(|one| Arc::ptr_eq(one, functional)) {
            kept.push(functional.clone());
        }
    }
}

/// A stream of the caller's; 0 is the default one.
fn handle(stream: usize) -> StreamHandle {
    // SAFETY: PyTorch never destroys its streams, and whoever has one of their own keeps it as long as what runs on it.
    unsafe { StreamHandle::from_raw(stream) }
}

/// Where an array lies.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Memory {
    /// In that of this process.
    Host,
    /// In that of a GPU.
    Gpu(usize),
}

/// An array as Python hands it in: a tensor (`tensors.rs`), or what a tensor is (`Compiled`).
pub(crate) struct Raw {
    address: usize,
    element: Element,
    memory: Memory,
    dimensions: usize,
    shape: [usize; MOST_DIMENSIONS],
    strides: [isize; MOST_DIMENSIONS],
}

impl Raw {
    pub fn new(
        address: usize,
        element: Element,
        memory: Memory,
        of_shape: impl ExactSizeIterator<Item = usize>,
        of_strides: impl ExactSizeIterator<Item = isize>,
    ) -> PyResult<Raw> {
        let dimensions = of_shape.len();
        if dimensions > MOST_DIMENSIONS || of_strides.len() != dimensions {
            let what = match dimensions {
                0..=MOST_DIMENSIONS => ArrayError::Strides { shape: dimensions, strides: of_strides.len() },
                more => ArrayError::Dimensions(more),
            };
            return Err(error(format!("an array {what}")));
        }
        let (mut shape, mut strides) = ([0; MOST_DIMENSIONS], [0; MOST_DIMENSIONS]);
        shape.iter_mut().zip(of_shape).for_each(|(len, of)| *len = of);
        strides.iter_mut().zip(of_strides).for_each(|(stride, of)| *stride = of);
        Ok(Raw { address, element, memory, dimensions, shape, strides })
    }

    /// Whether there are elements that lie nowhere.
    pub fn is_nowhere(&self) -> bool {
        self.address == 0 && !self.shape[..self.dimensions].contains(&0)
    }

    fn array(&self) -> PyResult<Array<'_>> {
        let Raw { address, element, dimensions, shape, strides, .. } = self;
        let (shape, strides) = (&shape[..*dimensions], &strides[..*dimensions]);
        // SAFETY: the caller keeps it as long as the call runs, and nobody writes it.
        let array = unsafe { Array::from_raw_parts(*address, *element, shape, strides) };
        array.map_err(|what: ArrayError| error(format!("an array {what}")))
    }

    fn array_mut(&self) -> PyResult<ArrayMut<'_>> {
        let Raw { address, element, dimensions, shape, strides, .. } = self;
        let (shape, strides) = (&shape[..*dimensions], &strides[..*dimensions]);
        // SAFETY: the caller keeps it as long as the call runs, and it is nobody else's.
        let array = unsafe { ArrayMut::from_raw_parts(*address, *element, shape, strides) };
        array.map_err(|what: ArrayError| error(format!("an array that is written {what}")))
    }
}

impl<'a, 'py> FromPyObject<'a, 'py> for Raw {
    type Error = PyErr;

    fn extract(given: Borrowed<'a, 'py, PyAny>) -> PyResult<Raw> {
        if !given.is_instance_of::<PyTuple>()
            && let Some(raw) = tensors::of_tensor(&given)
        {
            return raw;
        }
        let (address, kind, shape, strides, gpu): (usize, String, Vec<usize>, Vec<isize>, isize) =
            given.extract()?;
        let element = match &*kind {
            "f32" => Element::F32,
            "f64" => Element::F64,
            "i32" => Element::I32,
            "i64" => Element::I64,
            "u8" => Element::U8,
            "bool" => Element::Bool,
            other => return Err(error(format!("arrays of {other} are not taken"))),
        };
        let memory = usize::try_from(gpu).map_or(Memory::Host, Memory::Gpu);
        Raw::new(address, element, memory, shape.into_iter(), strides.into_iter())
    }
}

impl Compiled {
    pub(crate) fn new(runs: Where, double: bool) -> Compiled {
        let memory = match &runs {
            Where::Host(_) => Memory::Host,
            Where::Gpu(_, gpu) => Memory::Gpu(*gpu),
        };
        Compiled { runs, memory, double }
    }

    /// Refuses what lies elsewhere than where the network runs, and numbers in another precision than its own.
    fn check(&self, raw: &Raw) -> PyResult<()> {
        self.check_memory(raw)?;
        match raw.element {
            Element::F32 if self.double => Err(error("an array is in single precision; the network is not")),
            Element::F64 if !self.double => Err(error("an array is in double precision; the network is not")),
            _ => Ok(()),
        }
    }

    fn array<'r>(&self, raw: &'r Raw) -> PyResult<Array<'r>> {
        self.check(raw)?;
        raw.array()
    }

    fn arrays<'r>(&self, of: &'r [Raw]) -> PyResult<Vec<Array<'r>>> {
        of.iter().map(|raw| self.array(raw)).collect()
    }

    fn optional<'r>(&self, of: &'r [Option<Raw>]) -> PyResult<Vec<Option<Array<'r>>>> {
        of.iter().map(|raw| raw.as_ref().map(|raw| self.array(raw)).transpose()).collect()
    }

    fn written<'r>(&self, of: &'r [Option<Raw>]) -> PyResult<Vec<Option<ArrayMut<'r>>>> {
        let written = |raw: &'r Raw| self.check(raw).and_then(|()| raw.array_mut());
        of.iter().map(|raw| raw.as_ref().map(written).transpose()).collect()
    }

    fn check_memory(&self, raw: &Raw) -> PyResult<()> {
        match raw.memory == self.memory {
            true => Ok(()),
            false => Err(error("an array lies on another device than the network runs on")),
        }
    }

    /// A tape is in single precision, always.
    fn tape<'r>(&self, raw: &'r Raw) -> PyResult<&'r Raw> {
        self.check_memory(raw).map(|()| raw)
    }
}

#[pymethods]
impl Compiled {
    /// How many numbers in single precision a forward call keeps for its backward call.
    #[getter]
    fn tape_len(&self) -> usize {
        self.runs.functional().tape_len()
    }

    /// Runs frames: `[T, B, N]` in and out, symbols and resets `[T, B]`, state `[B, N]` or `[depth, B, N]`. `seed_at` is where on a GPU the
    /// seed is, if it is not `seed`; `stream` is the address of a GPU's (`cudaStream_t`).
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
        seed_at: Option<usize>,
        stream: usize,
    ) -> PyResult<()> {
        let (weights, inputs) = (self.arrays(&weights)?, self.arrays(&inputs)?);
        let state_in = state_in.as_deref().map(|state| self.arrays(state)).transpose()?;
        let (mut outputs, mut state_out) = (self.written(&outputs)?, self.written(&state_out)?);
        let call = Forward {
            resets: resets.as_ref().map(|resets| self.array(resets)).transpose()?,
            state_in: state_in.as_deref(),
            seed,
            outputs: &mut outputs,
            state_out: &mut state_out,
            tape: tape.as_ref().map(|tape| self.tape(tape)?.array_mut()).transpose()?,
            ..Forward::new(frames, &weights, &inputs)
        };
        py.detach(|| self.runs.forward(stream, seed_at, call)).map_err(executor_error)
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
        let weights = self.arrays(&weights)?;
        let (d_outputs, d_state_out) = (self.optional(&d_outputs)?, self.optional(&d_state_out)?);
        let (mut d_weights, mut d_inputs) = (self.written(&d_weights)?, self.written(&d_inputs)?);
        let mut d_state_in = self.written(&d_state_in)?;
        let call = Backward {
            resets: resets.as_ref().map(|resets| self.array(resets)).transpose()?,
            d_outputs: &d_outputs,
            d_state_out: &d_state_out,
            d_weights: &mut d_weights,
            d_inputs: &mut d_inputs,
            d_state_in: &mut d_state_in,
            ..Backward::new(frames, &weights, self.tape(&tape)?.array()?)
        };
        py.detach(|| self.runs.backward(stream, call)).map_err(executor_error)
    }
}
