//! Calls into NVIDIA's driver: that it is there, and what it answers.
//!
//! The bindings are cudarc's, which panics where the driver or one of its functions is missing; so both are looked for
//! before the first call.

#![allow(unsafe_code)] // calls into the driver

use super::DriverError;
use cudarc::driver::sys;
use libloading::Library;
use std::ffi::CStr;
use std::ptr;
use std::sync::LazyLock;

/// Calls a function of the driver and checks its result. An unsafe block in disguise, for the files of this folder:
/// handles must be alive, and pointers must lead to what the function reads and to room for what it writes.
macro_rules! call {
    ($function:ident($($argument:expr),* $(,)?)) => {
        $crate::driver::api::check(
            stringify!($function),
            // SAFETY: `is_present` found the function, which has the header's type; for handles and pointers
            // see above.
            unsafe { cudarc::driver::sys::$function($($argument),*) },
        )
    };
}
pub(super) use call;

/// What is called.
const FUNCTIONS: &[&str] = &[
    "cuCtxGetCurrent",
    "cuCtxSetCurrent",
    "cuDeviceGet",
    "cuDeviceGetAttribute",
    "cuDeviceGetCount",
    "cuDeviceGetName",
    "cuDevicePrimaryCtxRelease_v2",
    "cuDevicePrimaryCtxRetain",
    "cuDeviceTotalMem_v2",
    "cuDriverGetVersion",
    "cuEventCreate",
    "cuEventDestroy_v2",
    "cuEventRecord",
    "cuEventRecordWithFlags",
    "cuEventSynchronize",
    "cuFuncGetAttribute",
    "cuFuncSetAttribute",
    "cuGetErrorName",
    "cuGetErrorString",
    "cuGraphDestroy",
    "cuGraphExecDestroy",
    "cuGraphInstantiateWithFlags",
    "cuGraphLaunch",
    "cuInit",
    "cuLaunchKernelEx",
    "cuMemAlloc_v2",
    "cuMemFreeHost",
    "cuMemFree_v2",
    "cuMemGetInfo_v2",
    "cuMemHostAlloc",
    "cuMemcpyDtoDAsync_v2",
    "cuMemcpyDtoHAsync_v2",
    "cuMemcpyHtoDAsync_v2",
    "cuMemsetD8Async",
    "cuModuleGetFunction",
    "cuModuleLoadData",
    "cuModuleUnload",
    "cuOccupancyMaxActiveBlocksPerMultiprocessor",
    "cuOccupancyMaxActiveClusters",
    "cuStreamBeginCapture_v2",
    "cuStreamCreate",
    "cuStreamDestroy_v2",
    "cuStreamEndCapture",
    "cuStreamIsCapturing",
    "cuStreamSynchronize",
    "cuStreamWaitEvent",
    "cuThreadExchangeStreamCaptureMode",
];

/// What is called to time commands.
const TIMING_FUNCTIONS: &[&str] = &["cuEventElapsedTime_v2"];

/// What is called to tell a caller's captures apart.
const CAPTURE_FUNCTIONS: &[&str] = &["cuStreamGetCaptureInfo_v3"];

/// Looks for the driver and starts it.
pub(super) fn begin() -> Result<(), DriverError> {
    is_present(&names(), FUNCTIONS, "12.0")?;
    start()
}

/// Whether the driver has what timing needs.
pub(super) fn can_time() -> Result<(), DriverError> {
    is_present(&names(), TIMING_FUNCTIONS, "12.8")
}

/// Whether the driver has what tells captures apart.
pub(super) fn can_tell_captures() -> bool {
    static FOUND: LazyLock<bool> = LazyLock::new(|| is_present(&names(), CAPTURE_FUNCTIONS, "12.3").is_ok());
    *FOUND
}

/// The names by which cudarc looks for the driver, in its order.
fn names() -> Vec<String> {
    ["cuda", "nvcuda"].into_iter().flat_map(cudarc::get_lib_name_candidates).collect()
}

/// Looks for the driver and functions that are in it from a version of CUDA on.
fn is_present(names: &[String], functions: &[&str], version: &str) -> Result<(), DriverError> {
    for name in names {
        // SAFETY: the driver's start-up code is made to be run at any time, by any thread.
        let Ok(library) = (unsafe { Library::new(name) }) else { continue };
        for function in functions {
            // SAFETY: the symbol is not used, only looked for.
            if unsafe { library.get::<unsafe extern "C" fn()>(function.as_bytes()) }.is_err() {
                return Err(DriverError::Missing(format!(
                    "the NVIDIA driver ({name}) has no {function}: a driver for CUDA {version} or newer is needed"
                )));
            }
        }
        return Ok(());
    }
    Err(DriverError::Missing("no NVIDIA driver was found (libcuda.so.1)".into()))
}

/// Starts the driver.
fn start() -> Result<(), DriverError> {
    // SAFETY: the function was found.
    let result = unsafe { sys::cuInit(0) };
    let missing = |text: &str| Err(DriverError::Missing(text.into()));
    match result {
        sys::CUresult::CUDA_ERROR_NO_DEVICE => missing("the NVIDIA driver found no GPU"),
        sys::CUresult::CUDA_ERROR_STUB_LIBRARY => {
            missing("no NVIDIA driver was found: the libcuda.so at hand is a CUDA toolkit's stub")
        }
        result => check("cuInit", result)
            .map_err(|error| DriverError::Missing(format!("the NVIDIA driver does not start: {error}"))),
    }
}

/// A result of the driver's, as ours.
pub(super) fn check(call: &'static str, result: sys::CUresult) -> Result<(), DriverError> {
    if result == sys::CUresult::CUDA_SUCCESS {
        return Ok(());
    }
    let word = |get: unsafe fn(sys::CUresult, *mut *const std::ffi::c_char) -> sys::CUresult| {
        let mut text = ptr::null();
        // SAFETY: it writes the address of a string that stays, or null.
        unsafe {
            let _ = get(result, &mut text);
            (!text.is_null()).then(|| CStr::from_ptr(text).to_string_lossy().into_owned())
        }
    };
    let number = || (result as u32).to_string();
    let name = word(sys::cuGetErrorName).unwrap_or_else(number);
    let what = match word(sys::cuGetErrorString) {
        Some(text) => format!("{text} ({name})"),
        None => name,
    };
    Err(DriverError::Call { call, what })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_driver_is_an_error_of_ours() {
        let error = is_present(&["librnnc-no-driver.so".into()], FUNCTIONS, "12.0").unwrap_err();
        assert_eq!(error.to_string(), "no NVIDIA driver was found (libcuda.so.1)");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_driver_without_a_function_is_an_error_that_names_it() {
        // Any library that is no driver.
        let error = is_present(&["libc.so.6".into()], FUNCTIONS, "12.0").unwrap_err();
        assert!(error.to_string().contains("(libc.so.6) has no cuCtxGetCurrent"), "{error}");
    }

    #[test]
    fn the_functions_that_are_called_are_those_that_are_looked_for() {
        let text = [
            include_str!("api.rs"),
            include_str!("beside.rs"),
            include_str!("clock.rs"),
            include_str!("context.rs"),
            include_str!("gate.rs"),
            include_str!("lanes.rs"),
            include_str!("cuda.rs"),
            include_str!("facts.rs"),
            include_str!("staging.rs"),
        ]
        .concat();
        let mut called: Vec<&str> = ["call!(", "sys::"]
            .iter()
            .flat_map(|before| text.split(before).skip(1))
            .filter_map(|rest| rest.split(|c: char| !c.is_alphanumeric() && c != '_').next())
            .filter(|name| name.starts_with("cu") && name[2..].starts_with(char::is_uppercase))
            .collect();
        called.sort_unstable();
        called.dedup();
        let mut looked_for = [FUNCTIONS, TIMING_FUNCTIONS, CAPTURE_FUNCTIONS].concat();
        looked_for.sort_unstable();
        assert_eq!(called, looked_for);
    }
}
