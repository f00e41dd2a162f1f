//! A GPU, by NVIDIA's driver: one context, one stream of our own, everything in its order.
//!
//! The bindings are cudarc's, which panics where the driver or one of its functions is missing; so both are looked for
//! before the first call.

#![allow(unsafe_code)] // calls into the driver

use super::cache::{Cache, Key};
use super::cublas::{Precision, Products, WORKSPACE};
use super::nvrtc::{Nvrtc, Output};
use super::staging::Staging;
use super::{Address, Args, Driver, DriverError, Geometry, GraphId, KernelId, Product, Source};
use crate::device::{Device, Rates};
use cudarc::driver::sys::{
    self, CUdevice_attribute_enum as Attribute, CUfunction_attribute_enum as Property,
};
use libloading::Library;
use std::ffi::{CStr, CString, c_int};
use std::{mem, ptr};

/// Calls a function of the driver and checks its result. An unsafe block in disguise, for this file and `staging.rs`:
/// handles must be alive, and pointers must lead to what the function reads and to room for what it writes.
macro_rules! call {
    ($function:ident($($argument:expr),* $(,)?)) => {
        $crate::driver::cuda::check(
            stringify!($function),
            // SAFETY: `driver_is_present` found the function, which has the header's type; for handles and pointers
            // see above.
            unsafe { cudarc::driver::sys::$function($($argument),*) },
        )
    };
}
pub(super) use call;

/// What is called.
const FUNCTIONS: &[&str] = &[
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
    "cuStreamSynchronize",
];

/// A GPU. It loads NVIDIA's driver, NVRTC and cublasLt when it is made; a missing one is [`DriverError::Missing`].
pub struct Cuda {
    device: Device,
    handle: sys::CUdevice,
    context: sys::CUcontext,
    stream: sys::CUstream,
    nvrtc: Nvrtc,
    cache: Cache,
    products: Option<Products>,
    staging: Option<Staging>,
    allocations: Vec<Address>,
    modules: Vec<sys::CUmodule>,
    kernels: Vec<Kernel>,
    graphs: Vec<sys::CUgraphExec>,
    recording: bool,
}

struct Kernel {
    function: sys::CUfunction,
    name: String,
    /// The geometries in which it was found to fit.
    fits: Vec<Geometry>,
}

// SAFETY: the driver's handles may be used by any thread for which their context is current; every call makes it so.
unsafe impl Send for Cuda {}

impl Cuda {
    /// The GPU of that number, from 0; products in single precision.
    pub fn new(ordinal: usize) -> Result<Cuda, DriverError> {
        Cuda::with_precision(ordinal, Precision::default())
    }

    /// The same with another precision of products over all frames.
    pub fn with_precision(ordinal: usize, precision: Precision) -> Result<Cuda, DriverError> {
        driver_is_present(&driver_names())?;
        start()?;
        let (mut version, mut count, mut handle) = (0, 0, 0);
        call!(cuDriverGetVersion(&mut version))?;
        call!(cuDeviceGetCount(&mut count))?;
        let ordinal = c_int::try_from(ordinal).unwrap_or(c_int::MAX);
        if ordinal >= count {
            return Err(DriverError::Missing(format!(
                "there is no GPU {ordinal}: this machine has {count} (counted from 0)"
            )));
        }
        call!(cuDeviceGet(&mut handle, ordinal))?;
        let device = describe(handle)?;
        // A version is 1000 * major + 10 * minor.
        let major = version as u32 / 1000;
        let nvrtc = Nvrtc::find(Some(major))?;
        let mut context = ptr::null_mut();
        call!(cuDevicePrimaryCtxRetain(&mut context, handle))?;
        // From here on, `drop` gives back what was taken, even after an error.
        let mut cuda = Cuda {
            device,
            handle,
            context,
            stream: ptr::null_mut(),
            nvrtc,
            cache: Cache::of_user(),
            products: None,
            staging: None,
            allocations: Vec::new(),
            modules: Vec::new(),
            kernels: Vec::new(),
            graphs: Vec::new(),
            recording: false,
        };
        cuda.enter()?;
        call!(cuStreamCreate(&mut cuda.stream, sys::CUstream_flags_enum::CU_STREAM_NON_BLOCKING as u32))?;
        cuda.staging = Some(Staging::new()?);
        let workspace = cuda.allocate(WORKSPACE)?;
        cuda.products = Some(Products::new(precision, major, workspace)?);
        Ok(cuda)
    }

    /// Makes the context current for this thread.
    fn enter(&self) -> Result<(), DriverError> {
        call!(cuCtxSetCurrent(self.context))
    }

    /// The context made current, for commands that cannot be recorded.
    fn enter_unrecorded(&self, call: &'static str) -> Result<(), DriverError> {
        if self.recording {
            return Err(DriverError::Call { call, what: "commands are being recorded".into() });
        }
        self.enter()
    }

    fn kernel(&self, kernel: KernelId) -> Result<&Kernel, DriverError> {
        self.kernels.get(kernel.0).ok_or_else(|| DriverError::Call {
            call: "cuLaunchKernelEx",
            what: format!("no kernel {} was loaded", kernel.0),
        })
    }

    /// How the driver is told of a launch. The configuration points to the attributes.
    fn config(
        &self,
        geometry: &Geometry,
        attributes: &mut Vec<sys::CUlaunchAttribute>,
    ) -> Result<sys::CUlaunchConfig, DriverError> {
        let number = |count: usize| {
            u32::try_from(count).map_err(|_| DriverError::Call {
                call: "cuLaunchKernelEx",
                what: format!("{count} are more blocks, threads or bytes than a launch can have"),
            })
        };
        attributes.clear();
        let mut attribute = |id, value| attributes.push(sys::CUlaunchAttribute { id, pad: [0; 4], value });
        if geometry.cluster > 1 {
            let mut value = sys::CUlaunchAttributeValue { pad: [0; 64] };
            let x = number(geometry.cluster)?;
            value.clusterDim = sys::CUlaunchAttributeValue_union__bindgen_ty_1 { x, y: 1, z: 1 };
            attribute(sys::CUlaunchAttributeID::CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION, value);
        }
        if geometry.cooperative {
            let mut value = sys::CUlaunchAttributeValue { pad: [0; 64] };
            value.cooperative = 1;
            attribute(sys::CUlaunchAttributeID::CU_LAUNCH_ATTRIBUTE_COOPERATIVE, value);
        }
        Ok(sys::CUlaunchConfig {
            gridDimX: number(geometry.blocks)?,
            gridDimY: 1,
            gridDimZ: 1,
            blockDimX: number(geometry.threads)?,
            blockDimY: 1,
            blockDimZ: 1,
            sharedMemBytes: number(geometry.shared_bytes)?,
            hStream: self.stream,
            attrs: attributes.as_mut_ptr(),
            numAttrs: attributes.len() as u32,
        })
    }

    /// Allows a kernel the shared memory and the clusters of a geometry.
    fn permit(&self, kernel: &Kernel, geometry: &Geometry) -> Result<(), DriverError> {
        let function = kernel.function;
        let shared = Property::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
        let mut permitted = 0;
        call!(cuFuncGetAttribute(&mut permitted, shared, function))?;
        let wanted = c_int::try_from(geometry.shared_bytes).unwrap_or(c_int::MAX);
        if wanted > permitted {
            call!(cuFuncSetAttribute(function, shared, wanted))?;
        }
        if geometry.cluster > 8 {
            let large = Property::CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED;
            call!(cuFuncSetAttribute(function, large, 1))?;
        }
        Ok(())
    }

    /// Permits, and asks whether blocks that wait for each other can all be resident: if not, they would wait forever.
    fn admit(&self, id: KernelId, geometry: &Geometry) -> Result<(), DriverError> {
        self.permit(self.kernel(id)?, geometry)?;
        if !geometry.cooperative && geometry.cluster <= 1 {
            return Ok(());
        }
        let wanted = if geometry.cooperative { geometry.blocks } else { geometry.cluster };
        let fit = self.occupancy(id, geometry)?;
        if fit < wanted {
            let name = self.kernel(id)?.name.clone();
            return Err(DriverError::Resident { what: "blocks", name, wanted, fit });
        }
        Ok(())
    }

    /// Ends a recording and forgets it.
    fn abandon_recording(&mut self) {
        if self.recording {
            self.recording = false;
            let mut graph = ptr::null_mut();
            // Nothing can be done about failures.
            let _ = call!(cuStreamEndCapture(self.stream, &mut graph));
            if !graph.is_null() {
                let _ = call!(cuGraphDestroy(graph));
            }
        }
    }

    /// Loads an image. Where it is PTX, the driver finishes it.
    fn load_image(&self, source: &Source, mut image: Vec<u8>) -> Result<sys::CUmodule, DriverError> {
        // PTX must end with a zero; machine code knows its length.
        image.push(0);
        let mut module = ptr::null_mut();
        call!(cuModuleLoadData(&mut module, image.as_ptr().cast())).map_err(|error| {
            let (major, minor) = self.nvrtc.version();
            let how = match self.nvrtc.output(&self.device.target()) {
                Some(Output::Ptx(older)) => format!(
                    "NVRTC {major}.{minor} is older than this GPU; what it made for architecture {older} is \
                     refused by the driver"
                ),
                _ => format!("what NVRTC {major}.{minor} made is refused by the driver"),
            };
            DriverError::Compile {
                name: source.name.clone(),
                target: self.device.target(),
                log: format!("{how}: {error}"),
            }
        })?;
        Ok(module)
    }
}

impl Driver for Cuda {
    fn device(&self) -> &Device {
        &self.device
    }

    fn allocate(&mut self, bytes: usize) -> Result<Address, DriverError> {
        self.enter_unrecorded("cuMemAlloc_v2")?;
        let mut address = 0;
        // The driver has no empty allocations.
        call!(cuMemAlloc_v2(&mut address, bytes.max(1))).map_err(|error| {
            let (mut free, mut total) = (0, 0);
            match call!(cuMemGetInfo_v2(&mut free, &mut total)) {
                // Of what is free, parts may be too small.
                Ok(()) if free < bytes => DriverError::Memory { wanted: bytes, free },
                _ => error,
            }
        })?;
        self.allocations.push(address);
        self.clear(address, bytes)?;
        Ok(address)
    }

    fn free(&mut self, address: Address) {
        let Some(place) = self.allocations.iter().position(|&a| a == address) else { return };
        self.allocations.swap_remove(place);
        // It waits for what still uses the memory. Nothing can be done about failures.
        let _ = self.enter().and_then(|()| call!(cuMemFree_v2(address)));
    }

    fn write(&mut self, to: Address, data: &[u8]) -> Result<(), DriverError> {
        self.enter_unrecorded("cuMemcpyHtoDAsync_v2")?;
        match &mut self.staging {
            Some(staging) => staging.write(to, data, self.stream),
            // There from the start to the end.
            None => Ok(()),
        }
    }

    fn read(&self, from: Address, into: &mut [u8]) -> Result<(), DriverError> {
        self.enter_unrecorded("cuMemcpyDtoHAsync_v2")?;
        if into.is_empty() {
            return Ok(());
        }
        call!(cuMemcpyDtoHAsync_v2(into.as_mut_ptr().cast(), from, into.len(), self.stream))?;
        call!(cuStreamSynchronize(self.stream))
    }

    fn copy(&mut self, from: Address, to: Address, bytes: usize) -> Result<(), DriverError> {
        self.enter()?;
        if bytes == 0 {
            return Ok(());
        }
        call!(cuMemcpyDtoDAsync_v2(to, from, bytes, self.stream))
    }

    fn clear(&mut self, at: Address, bytes: usize) -> Result<(), DriverError> {
        self.enter()?;
        if bytes == 0 {
            return Ok(());
        }
        call!(cuMemsetD8Async(at, 0, bytes, self.stream))
    }

    fn load(&mut self, source: &Source) -> Result<Vec<KernelId>, DriverError> {
        self.enter_unrecorded("cuModuleLoadData")?;
        let target = self.device.target();
        let (major, minor) = self.nvrtc.version();
        let options = self.nvrtc.options(&target).join(" ");
        let key = Key::of(&[&source.text, &options, &target, &format!("NVRTC {major}.{minor}")]);
        let image = match self.cache.get(&key) {
            Some(compiled) => compiled.image,
            None => {
                let compiled = self.nvrtc.compile(source, &target)?;
                self.cache.put(&key, &compiled);
                compiled.image
            }
        };
        let module = self.load_image(source, image)?;
        self.modules.push(module);
        let mut ids = Vec::with_capacity(source.kernels.len());
        for name in &source.kernels {
            let symbol = CString::new(name.as_str()).map_err(|_| DriverError::Call {
                call: "cuModuleGetFunction",
                what: format!("{name:?} is no name"),
            })?;
            let mut function = ptr::null_mut();
            call!(cuModuleGetFunction(&mut function, module, symbol.as_ptr()))?;
            ids.push(KernelId(self.kernels.len()));
            self.kernels.push(Kernel { function, name: name.clone(), fits: Vec::new() });
        }
        Ok(ids)
    }

    fn occupancy(&self, kernel: KernelId, geometry: &Geometry) -> Result<usize, DriverError> {
        self.enter()?;
        let kernel = self.kernel(kernel)?;
        self.permit(kernel, geometry)?;
        let mut attributes = Vec::new();
        let config = self.config(geometry, &mut attributes)?;
        let mut count = 0;
        if geometry.cluster > 1 {
            call!(cuOccupancyMaxActiveClusters(&mut count, kernel.function, &config))?;
            return Ok(usize::try_from(count).unwrap_or(0) * geometry.cluster);
        }
        // Both were checked to fit their types.
        let (threads, shared) = (geometry.threads as c_int, geometry.shared_bytes);
        call!(cuOccupancyMaxActiveBlocksPerMultiprocessor(&mut count, kernel.function, threads, shared))?;
        Ok(usize::try_from(count).unwrap_or(0) * self.device.multiprocessors)
    }

    fn launch(&mut self, kernel: KernelId, geometry: &Geometry, args: &Args) -> Result<(), DriverError> {
        self.enter()?;
        if !self.kernel(kernel)?.fits.contains(geometry) {
            self.admit(kernel, geometry)?;
            self.kernels[kernel.0].fits.push(*geometry);
        }
        let mut attributes = Vec::new();
        let config = self.config(geometry, &mut attributes)?;
        // The arguments are copied before the call returns.
        let mut arguments = [ptr::from_ref(args).cast_mut().cast()];
        let function = self.kernels[kernel.0].function;
        call!(cuLaunchKernelEx(&config, function, arguments.as_mut_ptr(), ptr::null_mut()))
    }

    fn product(&mut self, product: &Product) -> Result<(), DriverError> {
        self.enter()?;
        match &mut self.products {
            Some(products) => products.start(product, self.stream.cast()),
            // There from the start to the end.
            None => Ok(()),
        }
    }

    fn begin_recording(&mut self) -> Result<(), DriverError> {
        self.enter()?;
        // Of a recording that stopped at an error.
        self.abandon_recording();
        // Relaxed: loading a product's kernel, when it is first asked for, may allocate memory.
        let relaxed = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED;
        call!(cuStreamBeginCapture_v2(self.stream, relaxed))?;
        self.recording = true;
        Ok(())
    }

    fn end_recording(&mut self) -> Result<GraphId, DriverError> {
        self.enter()?;
        let mut graph = ptr::null_mut();
        self.recording = false;
        call!(cuStreamEndCapture(self.stream, &mut graph))?;
        let mut ready = ptr::null_mut();
        let made = call!(cuGraphInstantiateWithFlags(&mut ready, graph, 0));
        call!(cuGraphDestroy(graph))?;
        made?;
        self.graphs.push(ready);
        Ok(GraphId(self.graphs.len() - 1))
    }

    fn replay(&mut self, graph: GraphId) -> Result<(), DriverError> {
        self.enter_unrecorded("cuGraphLaunch")?;
        let graph = *self.graphs.get(graph.0).ok_or_else(|| DriverError::Call {
            call: "cuGraphLaunch",
            what: format!("nothing was recorded as {}", graph.0),
        })?;
        call!(cuGraphLaunch(graph, self.stream))
    }

    fn synchronize(&self) -> Result<(), DriverError> {
        self.enter_unrecorded("cuStreamSynchronize")?;
        call!(cuStreamSynchronize(self.stream))
    }
}

impl Drop for Cuda {
    fn drop(&mut self) {
        // Nothing can be done about failures.
        let _ = self.enter();
        self.abandon_recording();
        if !self.stream.is_null() {
            let _ = call!(cuStreamSynchronize(self.stream));
        }
        self.products = None;
        self.staging = None;
        for graph in mem::take(&mut self.graphs) {
            let _ = call!(cuGraphExecDestroy(graph));
        }
        for module in mem::take(&mut self.modules) {
            let _ = call!(cuModuleUnload(module));
        }
        for address in mem::take(&mut self.allocations) {
            let _ = call!(cuMemFree_v2(address));
        }
        if !self.stream.is_null() {
            let _ = call!(cuStreamDestroy_v2(self.stream));
        }
        let _ = call!(cuDevicePrimaryCtxRelease_v2(self.handle));
    }
}

/// The names by which cudarc looks for the driver, in its order.
fn driver_names() -> Vec<String> {
    ["cuda", "nvcuda"].into_iter().flat_map(cudarc::get_lib_name_candidates).collect()
}

/// Looks for the driver and its functions.
fn driver_is_present(names: &[String]) -> Result<(), DriverError> {
    for name in names {
        // SAFETY: the driver's start-up code is made to be run at any time, by any thread.
        let Ok(library) = (unsafe { Library::new(name) }) else { continue };
        for function in FUNCTIONS {
            // SAFETY: the symbol is not used, only looked for.
            if unsafe { library.get::<unsafe extern "C" fn()>(function.as_bytes()) }.is_err() {
                return Err(DriverError::Missing(format!(
                    "the NVIDIA driver ({name}) has no {function}: a driver for CUDA 12.0 or newer is needed"
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

/// The facts of a device.
fn describe(handle: sys::CUdevice) -> Result<Device, DriverError> {
    let attribute = |attribute| {
        let mut value = 0;
        call!(cuDeviceGetAttribute(&mut value, attribute, handle))?;
        Ok(usize::try_from(value).unwrap_or(0))
    };
    let mut name = [0; 256];
    call!(cuDeviceGetName(name.as_mut_ptr(), name.len() as c_int - 1, handle))?;
    // SAFETY: the last byte is zero in any case.
    let name = unsafe { CStr::from_ptr(name.as_ptr()) }.to_string_lossy().into_owned();
    let mut memory_bytes = 0usize;
    call!(cuDeviceTotalMem_v2(&mut memory_bytes, handle))?;
    let architecture = (
        attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)? as u32,
        attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)? as u32,
    );
    let clusters = attribute(Attribute::CU_DEVICE_ATTRIBUTE_CLUSTER_LAUNCH)? != 0;
    let multiprocessors = attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?;
    let clocks = Clocks {
        multiprocessors_khz: attribute(Attribute::CU_DEVICE_ATTRIBUTE_CLOCK_RATE)?,
        memory_khz: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE)?,
        memory_bits: attribute(Attribute::CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH)?,
    };
    Ok(Device {
        architecture,
        multiprocessors,
        registers: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_MULTIPROCESSOR)?,
        shared_bytes: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)?,
        cluster: largest_cluster(architecture, clusters),
        memory_bytes: memory_bytes as u128,
        loop_threads: 256,
        rates: rates(&name, architecture, multiprocessors, &clocks),
        name,
    })
}

/// The most blocks of a cluster. 8 are promised; the large chips of 9.x and 10.x allow 16 on request.
fn largest_cluster(architecture: (u32, u32), clusters: bool) -> usize {
    match architecture {
        _ if !clusters => 1,
        (9 | 10, _) => 16,
        _ => 8,
    }
}

/// What the driver says about speed.
struct Clocks {
    multiprocessors_khz: usize,
    memory_khz: usize,
    memory_bits: usize,
}

/// Rates for predictions: the table's where the device is in it, else from its clocks.
fn rates(name: &str, architecture: (u32, u32), multiprocessors: usize, clocks: &Clocks) -> Rates {
    let words = name.to_lowercase();
    let known = Device::known().into_iter().find(|device| {
        device.architecture == architecture
            && device.multiprocessors == multiprocessors
            && words.split([' ', '-']).any(|word| word == device.name)
    });
    if let Some(known) = known {
        return known.rates;
    }
    let lanes = if matches!(architecture, (7, _) | (8, 0)) { 64 } else { 128 };
    let clock_ghz = clocks.multiprocessors_khz as f64 / 1e6;
    let empty_frames = Device::known().first().map_or([0.1, 0.5, 2.0], |device| device.rates.frame_us);
    Rates {
        clock_ghz,
        f32_tflops: (2 * lanes * multiprocessors) as f64 * clock_ghz / 1e3,
        // Two transfers a clock.
        memory_tbs: 2.0 * clocks.memory_khz as f64 * (clocks.memory_bits / 8) as f64 / 1e9,
        frame_us: empty_frames,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_driver_is_an_error_of_ours() {
        let error = driver_is_present(&["librnnc-no-driver.so".into()]).unwrap_err();
        assert_eq!(error.to_string(), "no NVIDIA driver was found (libcuda.so.1)");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_driver_without_a_function_is_an_error_that_names_it() {
        // Any library that is no driver.
        let error = driver_is_present(&["libc.so.6".into()]).unwrap_err();
        assert!(error.to_string().contains("(libc.so.6) has no cuCtxSetCurrent"), "{error}");
    }

    #[test]
    fn the_functions_that_are_called_are_those_that_are_looked_for() {
        let text = [include_str!("cuda.rs"), include_str!("staging.rs")].concat();
        let mut called: Vec<&str> = ["call!(", "sys::"]
            .iter()
            .flat_map(|before| text.split(before).skip(1))
            .filter_map(|rest| rest.split(|c: char| !c.is_alphanumeric() && c != '_').next())
            .filter(|name| name.starts_with("cu") && name[2..].starts_with(char::is_uppercase))
            .collect();
        called.sort_unstable();
        called.dedup();
        assert_eq!(called, FUNCTIONS);
    }

    #[test]
    fn rates_of_a_device_in_the_table_are_the_tables() {
        let clocks = Clocks { multiprocessors_khz: 1_000_000, memory_khz: 1_000_000, memory_bits: 1024 };
        let h200 = Device::named("h200").unwrap();
        assert_eq!(rates("NVIDIA H200", (9, 0), 132, &clocks), h200.rates);
        let other = rates("NVIDIA H200 of another kind", (9, 0), 100, &clocks);
        assert_eq!((other.clock_ghz, other.f32_tflops, other.memory_tbs), (1.0, 25.6, 0.256));
    }

    #[test]
    fn clusters_are_as_large_as_the_architecture_has_them() {
        assert_eq!(largest_cluster((8, 0), false), 1);
        assert_eq!(largest_cluster((9, 0), true), 16);
        assert_eq!(largest_cluster((12, 0), true), 8);
    }
}
