//! PyTorch's tensors as arrays: by the C functions that PyTorch has for it since 2.10 (DLPack's exchange interface), which take a
//! twentieth of the time of asking a tensor in Python for its address, kind, shape and strides. PyTorch hands them over when it is
//! imported; nothing of it is linked.

#![allow(unsafe_code)] // calls into PyTorch

use crate::compiled::{Memory, Raw};
use crate::error;
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyCapsule, PyCapsuleMethods, PyList, PyType};
use rnnc::plan::Element;
use std::ffi::{c_int, c_void};
use std::ptr;

// Of DLPack's header, version 1.

#[repr(C)]
struct Device {
    kind: i32,
    number: i32,
}

#[repr(C)]
struct Kind {
    code: u8,
    bits: u8,
    lanes: u16,
}

#[repr(C)]
struct Tensor {
    data: *mut c_void,
    device: Device,
    dimensions: i32,
    kind: Kind,
    shape: *const i64,
    strides: *const i64,
    offset: u64,
}

/// `DLPackExchangeAPI`
#[repr(C)]
struct Exchange {
    major: u32,
    minor: u32,
    older: *const c_void,
    allocate: *const c_void,
    export: *const c_void,
    import: *const c_void,
    look: Option<unsafe extern "C" fn(*mut ffi::PyObject, *mut Tensor) -> c_int>,
    current_stream: *const c_void,
}

/// What PyTorch handed over.
struct PyTorch {
    look: unsafe extern "C" fn(*mut ffi::PyObject, *mut Tensor) -> c_int,
    /// `torch.Tensor` and `torch.nn.Parameter`.
    types: [Py<PyType>; 2],
}

static PYTORCH: PyOnceLock<Option<PyTorch>> = PyOnceLock::new();

/// Takes `torch.Tensor.__dlpack_c_exchange_api__`, and the two types whose tensors are just numbers. Whether tensors can be handed in from
/// here on.
#[pyfunction]
pub fn take_tensors(
    py: Python<'_>,
    exchange: &Bound<'_, PyCapsule>,
    tensor: Py<PyType>,
    parameter: Py<PyType>,
) -> PyResult<bool> {
    let address = exchange.pointer_checked(Some(c"dlpack_exchange_api"))?;
    // SAFETY: a capsule of that name leads to such a struct, which is never freed; its beginning is the same in all versions.
    let exchange = unsafe { &*address.as_ptr().cast::<Exchange>() };
    let look = exchange.look.filter(|_| exchange.major == 1);
    let pytorch = look.map(|look| PyTorch { look, types: [tensor, parameter] });
    Ok(PYTORCH.get_or_init(py, || pytorch).is_some())
}

/// Whether memory has what the tensors say: they are of the two types (no subclass means something else), on the CPU or a GPU, with no
/// sign that is still to be taken, and no zeros that are nowhere. `None` is.
#[pyfunction]
pub fn are_plain(tensors: &Bound<'_, PyList>) -> PyResult<bool> {
    let py = tensors.py();
    let Some(pytorch) = PYTORCH.get(py).and_then(Option::as_ref) else { return Ok(false) };
    for tensor in tensors {
        if tensor.is_none() {
            continue;
        }
        let own = tensor.get_type();
        if !pytorch.types.iter().any(|known| own.is(known)) {
            return Ok(false);
        }
        let Ok(raw) = pytorch.look(&tensor) else { return Ok(false) };
        if raw.is_nowhere() || tensor.call_method0(intern!(py, "is_neg"))?.is_truthy()? {
            return Ok(false);
        }
    }
    Ok(true)
}

impl PyTorch {
    fn look(&self, tensor: &Bound<'_, PyAny>) -> PyResult<Raw> {
        let mut found = Tensor {
            data: ptr::null_mut(),
            device: Device { kind: 0, number: 0 },
            dimensions: 0,
            kind: Kind { code: 0, bits: 0, lanes: 0 },
            shape: ptr::null(),
            strides: ptr::null(),
            offset: 0,
        };
        // SAFETY: PyTorch fills it of a tensor; else it sets Python's error.
        if unsafe { (self.look)(tensor.as_ptr(), &mut found) } != 0 {
            return Err(PyErr::take(tensor.py()).unwrap_or_else(|| error("no tensor")));
        }
        let element = match (found.kind.code, found.kind.bits, found.kind.lanes) {
            (2, 32, 1) => Element::F32,
            (2, 64, 1) => Element::F64,
            (0, 32, 1) => Element::I32,
            (0, 64, 1) => Element::I64,
            (1, 8, 1) => Element::U8,
            (6, 8, 1) => Element::Bool,
            _ => return Err(error("an array of numbers of a kind that is not taken")),
        };
        let memory = match found.device {
            Device { kind: 1, .. } => Memory::Host,
            Device { kind: 2, number } => Memory::Gpu(number as usize),
            _ => return Err(error("an array on a device that nothing runs on")),
        };
        let dimensions = found.dimensions.max(0) as usize;
        let (shape, strides) = match dimensions {
            // Both may be null.
            0 => (&[][..], &[][..]),
            // SAFETY: both have so many entries, which live as long as the tensor, and are copied.
            _ => unsafe {
                (
                    std::slice::from_raw_parts(found.shape, dimensions),
                    std::slice::from_raw_parts(found.strides, dimensions),
                )
            },
        };
        let (shape, strides) = (shape.iter().map(|&len| len as usize), strides.iter().map(|&s| s as isize));
        Raw::new(found.data.expose_provenance() + found.offset as usize, element, memory, shape, strides)
    }
}

/// An array of a tensor, if tensors can be handed in.
pub(crate) fn of_tensor(tensor: &Bound<'_, PyAny>) -> Option<PyResult<Raw>> {
    Some(PYTORCH.get(tensor.py())?.as_ref()?.look(tensor))
}
