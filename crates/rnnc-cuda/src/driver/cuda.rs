//! A GPU, by NVIDIA's driver: one context, one stream of our own, everything in its order; in recordings, lanes beside,
//! and a stream for copies that are asked for ahead.

#![allow(unsafe_code)] // calls into the driver

use super::api::{self, call};
use super::beside::Beside;
use super::borders::Border;
use super::cache::{Cache, Key};
use super::clock::Events;
use super::context::{Entered, OfThread};
use super::cublas::{Products, WORKSPACE};
use super::facts::describe;
use super::gate::Gate;
use super::lanes::Lanes;
use super::nvrtc::{Nvrtc, Output};
use super::staging::Staging;
use super::turn::Turn;
use super::{
    Address, Args, Capture, Driver, DriverError, Flag, Geometry, GraphId, KernelId, Mark, Point, Product,
    Source, StreamHandle, Timestamp,
};
use crate::device::Device;
use cudarc::driver::sys::{self, CUfunction_attribute_enum as Property};
use rnnc_plan::Precision;
use std::ffi::{CString, c_int, c_void};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::{mem, ptr};

/// A GPU. It loads NVIDIA's driver, NVRTC and cublasLt when it is made; a missing one is [`DriverError::Missing`].
pub struct Cuda {
    device: Device,
    handle: sys::CUdevice,
    context: sys::CUcontext,
    /// A stream of our own, in which recordings are made.
    stream: sys::CUstream,
    /// The stream that commands go to: the same, or a caller's.
    queue: sys::CUstream,
    /// What it is when no other is selected.
    main: sys::CUstream,
    /// How this thread's captures were before.
    outer_mode: Option<sys::CUstreamCaptureMode>,
    /// Whether the queue is selected for a while only, with memory of its own for products.
    borrowed: Option<Address>,
    lanes: Lanes,
    nvrtc: Nvrtc,
    cache: Cache,
    products: Option<Products>,
    /// Of the main stream's products.
    workspace: Address,
    staging: Option<Staging>,
    /// Made when something is first written beside.
    beside: Option<Beside>,
    events: Events,
    allocations: Vec<Address>,
    modules: Vec<sys::CUmodule>,
    kernels: Vec<Kernel>,
    /// `None`: forgotten.
    graphs: Vec<Option<sys::CUgraphExec>>,
    marks: Vec<sys::CUevent>,
    /// Page-locked.
    flags: Vec<*mut u32>,
    /// There from the start to the end.
    gate: Option<Arc<Gate>>,
    /// The turn of what is being told that must run alone.
    alone: Option<Turn>,
    /// The turn that a recording has, while there is one.
    recording: Option<Turn>,
}

struct Kernel {
    function: sys::CUfunction,
    name: String,
    /// The geometries in which it was found to fit.
    fits: Vec<Geometry>,
}

// SAFETY: the driver's handles may be used by any thread for which their context is current; every command makes it so.
unsafe impl Send for Cuda {}

/// Says which GPU is used where no other is asked for.
const DEVICE_VARIABLE: &str = "RNNC_CUDA_DEVICE";

/// The number that the variable says.
fn ordinal(variable: Option<&str>) -> Result<usize, DriverError> {
    let Some(text) = variable.map(str::trim).filter(|text| !text.is_empty()) else { return Ok(0) };
    text.parse().map_err(|_| {
        let what = format!("`{DEVICE_VARIABLE}` is `{text}`; it is to be a GPU's number, counted from 0");
        DriverError::Missing(what)
    })
}

impl Cuda {
    /// The GPU that `RNNC_CUDA_DEVICE` says, by its number among those that the process sees; else the first.
    pub fn chosen(precision: Precision) -> Result<Cuda, DriverError> {
        Cuda::new(ordinal(std::env::var(DEVICE_VARIABLE).ok().as_deref())?, precision)
    }

    /// The GPU of that number, from 0, with products of that precision. Commands go to a stream of its own.
    pub fn new(ordinal: usize, precision: Precision) -> Result<Cuda, DriverError> {
        Cuda::on(ordinal, precision, None)
    }

    /// The same; commands go to a stream of the caller's, of that GPU's primary context.
    pub fn on(
        ordinal: usize,
        precision: Precision,
        stream: Option<StreamHandle>,
    ) -> Result<Cuda, DriverError> {
        api::begin()?;
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
            queue: ptr::null_mut(),
            main: ptr::null_mut(),
            outer_mode: None,
            borrowed: None,
            lanes: Lanes::default(),
            nvrtc,
            cache: Cache::of_user(),
            products: None,
            workspace: 0,
            staging: None,
            beside: None,
            events: Events::default(),
            allocations: Vec::new(),
            modules: Vec::new(),
            kernels: Vec::new(),
            graphs: Vec::new(),
            marks: Vec::new(),
            flags: Vec::new(),
            gate: None,
            alone: None,
            recording: None,
        };
        let _entered = cuda.enter()?;
        call!(cuStreamCreate(&mut cuda.stream, sys::CUstream_flags_enum::CU_STREAM_NON_BLOCKING as u32))?;
        cuda.gate = Some(Gate::of(handle)?);
        cuda.queue = stream.map_or(cuda.stream, StreamHandle::raw);
        cuda.workspace = cuda.allocate(WORKSPACE)?;
        let _turn = cuda.turn();
        cuda.staging = Some(Staging::new()?);
        cuda.products = Some(Products::new(precision, major)?);
        Ok(cuda)
    }

    /// Makes the context current for this thread, until what it returns is dropped.
    fn enter(&self) -> Result<Entered, DriverError> {
        Entered::new(OfThread, self.context)
    }

    /// A turn, unless a recording has it.
    fn turn(&self) -> Option<Turn> {
        self.recording.is_none().then(Turn::take)
    }

    /// The context made current, for commands that cannot be recorded.
    fn enter_unrecorded(&self, call: &'static str) -> Result<Entered, DriverError> {
        if self.recording.is_some() {
            return Err(DriverError::Call { call, what: "commands are being recorded".into() });
        }
        self.enter()
    }

    /// The stream that is lane 0.
    fn main_lane(&self) -> sys::CUstream {
        if self.recording.is_some() { self.stream } else { self.queue }
    }

    /// As many lanes, with memory for their products.
    fn make_lanes(&mut self, lanes: usize) -> Result<(), DriverError> {
        while self.lanes.count() < lanes {
            let workspace = self.allocate(WORKSPACE)?;
            self.lanes.add(workspace)?;
        }
        Ok(())
    }

    /// The stream of the selected lane, and device memory for its products.
    fn selected(&self) -> (sys::CUstream, Address) {
        let main = match self.recording {
            Some(_) => (self.stream, self.workspace),
            None => (self.queue, self.borrowed.unwrap_or(self.workspace)),
        };
        self.lanes.selected().unwrap_or(main)
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
            hStream: self.selected().0,
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

    /// Starts a kernel that takes what `given` points to.
    fn launch_with(
        &mut self,
        kernel: KernelId,
        geometry: &Geometry,
        given: *const c_void,
    ) -> Result<(), DriverError> {
        let _entered = self.enter()?;
        let mut first = None;
        // Blocks that do not wait for each other fit in any number.
        let waits = geometry.cooperative || geometry.cluster > 1;
        let kind = Geometry { blocks: if waits { geometry.blocks } else { 0 }, ..*geometry };
        if !self.kernel(kernel)?.fits.contains(&kind) {
            self.admit(kernel, geometry)?;
            self.kernels[kernel.0].fits.push(kind);
            // The driver may load it when it is first launched.
            first = self.turn();
        }
        let mut attributes = Vec::new();
        let config = self.config(geometry, &mut attributes)?;
        // The arguments are copied before the call returns.
        let mut arguments = [given.cast_mut()];
        let function = self.kernels[kernel.0].function;
        let launched = call!(cuLaunchKernelEx(&config, function, arguments.as_mut_ptr(), ptr::null_mut()));
        drop(first);
        launched
    }

    /// Ends a recording and forgets it.
    fn abandon_recording(&mut self) {
        if let Some(_turn) = self.recording.take() {
            self.lanes.forget();
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
        let _entered = self.enter_unrecorded("cuMemAlloc_v2")?;
        let _turn = self.turn();
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
        // What is written beside must not come before the zeros.
        if let Some(beside) = &self.beside {
            beside.release(self.queue)?;
        }
        Ok(address)
    }

    fn free(&mut self, address: Address) {
        let Some(place) = self.allocations.iter().position(|&a| a == address) else { return };
        self.allocations.swap_remove(place);
        let _turn = self.turn();
        // It waits for what still uses the memory. Nothing can be done about failures.
        let _ = self.enter().and_then(|_entered| call!(cuMemFree_v2(address)));
    }

    fn write(&mut self, to: Address, data: &[u8]) -> Result<(), DriverError> {
        let _entered = self.enter_unrecorded("cuMemcpyHtoDAsync_v2")?;
        match &mut self.staging {
            Some(staging) => staging.write(to, data, self.queue),
            // There from the start to the end.
            None => Ok(()),
        }
    }

    fn write_beside(&mut self, to: Address, data: &[u8]) -> Result<(), DriverError> {
        let _entered = self.enter_unrecorded("cuMemcpyHtoDAsync_v2")?;
        let beside = match &mut self.beside {
            Some(beside) => beside,
            none => {
                let _turn = Turn::take();
                none.insert(Beside::new(self.queue)?)
            }
        };
        beside.write(to, data)
    }

    fn take(&mut self, from: Address, to: Address, bytes: usize) -> Result<(), DriverError> {
        let _entered = self.enter_unrecorded("cuMemcpyDtoDAsync_v2")?;
        let Some(beside) = &self.beside else {
            let what = "nothing was written beside".into();
            return Err(DriverError::Call { call: "cuMemcpyDtoDAsync_v2", what });
        };
        if bytes == 0 {
            return Ok(());
        }
        beside.await_written(self.queue)?;
        let copied = call!(cuMemcpyDtoDAsync_v2(to, from, bytes, self.queue));
        copied.and(beside.release(self.queue))
    }

    fn read(&self, from: Address, into: &mut [u8]) -> Result<(), DriverError> {
        let _entered = self.enter_unrecorded("cuMemcpyDtoHAsync_v2")?;
        if into.is_empty() {
            return Ok(());
        }
        call!(cuMemcpyDtoHAsync_v2(into.as_mut_ptr().cast(), from, into.len(), self.queue))?;
        call!(cuStreamSynchronize(self.queue))
    }

    fn copy(&mut self, from: Address, to: Address, bytes: usize) -> Result<(), DriverError> {
        let _entered = self.enter()?;
        if bytes == 0 {
            return Ok(());
        }
        call!(cuMemcpyDtoDAsync_v2(to, from, bytes, self.selected().0))
    }

    fn clear(&mut self, at: Address, bytes: usize) -> Result<(), DriverError> {
        let _entered = self.enter()?;
        if bytes == 0 {
            return Ok(());
        }
        call!(cuMemsetD8Async(at, 0, bytes, self.selected().0))
    }

    fn load(&mut self, source: &Source) -> Result<Vec<KernelId>, DriverError> {
        let _entered = self.enter_unrecorded("cuModuleLoadData")?;
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
        let _turn = self.turn();
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
        let _entered = self.enter()?;
        let _turn = self.turn();
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
        self.launch_with(kernel, geometry, ptr::from_ref(args).cast())
    }

    fn launch_border(
        &mut self,
        kernel: KernelId,
        geometry: &Geometry,
        border: &Border,
    ) -> Result<(), DriverError> {
        self.launch_with(kernel, geometry, border.params())
    }

    fn product(&mut self, product: &Product) -> Result<(), DriverError> {
        let _entered = self.enter()?;
        let (stream, workspace) = self.selected();
        // The library loads its kernel when a shape is first asked for.
        let is_new = self.products.as_ref().is_some_and(|products| !products.knows(product));
        let _turn = is_new.then(|| self.turn());
        match &mut self.products {
            Some(products) => products.start(product, workspace, stream.cast()),
            // There from the start to the end.
            None => Ok(()),
        }
    }

    fn timestamp(&mut self) -> Result<Timestamp, DriverError> {
        let _entered = self.enter()?;
        self.events.add()
    }

    fn stamp(&mut self, at: Timestamp) -> Result<(), DriverError> {
        let _entered = self.enter()?;
        self.events.stamp(at, self.selected().0, self.recording.is_some())
    }

    fn elapsed_us(&self, from: Timestamp, to: Timestamp) -> Result<f64, DriverError> {
        let _entered = self.enter_unrecorded("cuEventElapsedTime_v2")?;
        self.events.elapsed_us(from, to)
    }

    fn begin_recording(&mut self, lanes: usize) -> Result<(), DriverError> {
        let _entered = self.enter()?;
        // Of a recording that stopped at an error.
        self.abandon_recording();
        self.make_lanes(lanes)?;
        // Relaxed: loading a product's kernel, when it is first asked for, may allocate memory.
        let relaxed = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED;
        let turn = Turn::take();
        call!(cuStreamBeginCapture_v2(self.stream, relaxed))?;
        self.recording = Some(turn);
        let begun = self.lanes.begin(self.stream);
        if begun.is_err() {
            self.abandon_recording();
        }
        begun
    }

    fn select_lane(&mut self, lane: usize, after: &[Point]) -> Result<(), DriverError> {
        let _entered = self.enter()?;
        self.lanes.select(lane, after, self.main_lane())
    }

    fn point(&mut self) -> Result<Point, DriverError> {
        let _entered = self.enter()?;
        self.lanes.point(self.main_lane())
    }

    fn end_recording(&mut self) -> Result<GraphId, DriverError> {
        let _entered = self.enter()?;
        let joined = self.lanes.join(self.stream);
        let mut graph = ptr::null_mut();
        let _turn = self.recording.take();
        let ended = call!(cuStreamEndCapture(self.stream, &mut graph));
        joined.and(ended)?;
        let mut ready = ptr::null_mut();
        let made = call!(cuGraphInstantiateWithFlags(&mut ready, graph, 0));
        call!(cuGraphDestroy(graph))?;
        made?;
        // In the place of one that was forgotten.
        let place = self.graphs.iter().position(Option::is_none).unwrap_or(self.graphs.len());
        self.graphs.resize(self.graphs.len().max(place + 1), None);
        self.graphs[place] = Some(ready);
        Ok(GraphId(place))
    }

    fn replay(&mut self, graph: GraphId) -> Result<(), DriverError> {
        let _entered = self.enter_unrecorded("cuGraphLaunch")?;
        let graph = self.graphs.get(graph.0).copied().flatten().ok_or_else(|| DriverError::Call {
            call: "cuGraphLaunch",
            what: format!("nothing was recorded as {}", graph.0),
        })?;
        call!(cuGraphLaunch(graph, self.queue))
    }

    fn forget(&mut self, graph: GraphId) -> Result<(), DriverError> {
        let _entered = self.enter_unrecorded("cuGraphExecDestroy")?;
        let Some(known) = self.graphs.get_mut(graph.0).and_then(Option::take) else { return Ok(()) };
        // It may still run.
        call!(cuStreamSynchronize(self.queue))?;
        let _turn = self.turn();
        call!(cuGraphExecDestroy(known))
    }

    fn product_bytes(&self) -> usize {
        WORKSPACE
    }

    fn select_stream(&mut self, stream: Option<(StreamHandle, Address)>) -> Result<(), DriverError> {
        match (stream, self.borrowed) {
            (Some((stream, products)), None) => {
                self.main = self.queue;
                (self.queue, self.borrowed) = (stream.raw(), Some(products));
            }
            (None, Some(_)) => (self.queue, self.borrowed) = (self.main, None),
            (None, None) => {}
            (Some(_), Some(_)) => {
                let what = "a stream is selected already".into();
                return Err(DriverError::Call { call: "select_stream", what });
            }
        }
        Ok(())
    }

    fn capture(&self, stream: StreamHandle) -> Result<Option<Capture>, DriverError> {
        let _entered = self.enter()?;
        let none = sys::CUstreamCaptureStatus_enum::CU_STREAM_CAPTURE_STATUS_NONE;
        let (mut status, mut id) = (none, 0);
        call!(cuStreamIsCapturing(stream.raw(), &mut status))?;
        if status == none {
            return Ok(None);
        }
        if !api::can_tell_captures() {
            // Then each call counts as one of its own.
            static NEXT: AtomicU64 = AtomicU64::new(0);
            return Ok(Some(Capture(NEXT.fetch_add(1, Ordering::Relaxed))));
        }
        let (graph, nodes, edges, count) =
            (ptr::null_mut(), ptr::null_mut(), ptr::null_mut(), ptr::null_mut());
        call!(cuStreamGetCaptureInfo_v3(stream.raw(), &mut status, &mut id, graph, nodes, edges, count))?;
        Ok(Some(Capture(id)))
    }

    fn begin_alone(&mut self) -> Result<(), DriverError> {
        let _entered = self.enter_unrecorded("begin_alone")?;
        if let (Some(gate), None) = (&self.gate, &self.alone) {
            self.alone = Some(gate.enter(self.queue)?);
        }
        Ok(())
    }

    fn end_alone(&mut self) -> Result<(), DriverError> {
        let _entered = self.enter_unrecorded("end_alone")?;
        match (&self.gate, self.alone.take()) {
            (Some(gate), Some(turn)) => gate.leave(self.queue, turn),
            _ => Ok(()),
        }
    }

    fn begin_lanes(&mut self, lanes: usize) -> Result<(), DriverError> {
        let _entered = self.enter_unrecorded("begin_lanes")?;
        self.make_lanes(lanes)?;
        self.lanes.begin(self.queue)
    }

    fn end_lanes(&mut self) -> Result<(), DriverError> {
        let _entered = self.enter_unrecorded("end_lanes")?;
        let joined = self.lanes.join(self.queue);
        // Whatever happened: commands go to the queue again.
        self.lanes.forget();
        joined
    }

    fn flag(&mut self) -> Result<Flag, DriverError> {
        let _entered = self.enter_unrecorded("cuMemHostAlloc")?;
        let mut memory = ptr::null_mut();
        call!(cuMemHostAlloc(&mut memory, 4, 0))?;
        self.flags.push(memory.cast());
        let flag = Flag(self.flags.len() - 1);
        self.lower(flag);
        Ok(flag)
    }

    fn fetch(&mut self, from: Address, flag: Flag) -> Result<(), DriverError> {
        let _entered = self.enter()?;
        call!(cuMemcpyDtoHAsync_v2(self.flags[flag.0].cast(), from, 4, self.selected().0))
    }

    fn look(&self, flag: Flag) -> u32 {
        // SAFETY: the word lives as long as the driver; the device may write it at any time, as a whole.
        unsafe { self.flags[flag.0].read_volatile() }
    }

    fn lower(&mut self, flag: Flag) {
        // SAFETY: as above.
        unsafe { self.flags[flag.0].write_volatile(0) }
    }

    fn permit_capture(&mut self, relaxed: bool) -> Result<(), DriverError> {
        if relaxed == self.outer_mode.is_some() {
            return Ok(());
        }
        let ours = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED;
        let mut mode = self.outer_mode.take().unwrap_or(ours);
        call!(cuThreadExchangeStreamCaptureMode(&mut mode))?;
        self.outer_mode = relaxed.then_some(mode);
        Ok(())
    }

    fn mark(&mut self) -> Result<Mark, DriverError> {
        let _entered = self.enter()?;
        let mut event = ptr::null_mut();
        call!(cuEventCreate(&mut event, sys::CUevent_flags_enum::CU_EVENT_DISABLE_TIMING as u32))?;
        self.marks.push(event);
        Ok(Mark(self.marks.len() - 1))
    }

    fn set_mark(&mut self, mark: Mark) -> Result<(), DriverError> {
        let _entered = self.enter_unrecorded("cuEventRecord")?;
        call!(cuEventRecord(self.marks[mark.0], self.queue))
    }

    fn await_mark(&mut self, mark: Mark) -> Result<(), DriverError> {
        let _entered = self.enter_unrecorded("cuStreamWaitEvent")?;
        call!(cuStreamWaitEvent(self.queue, self.marks[mark.0], 0))
    }

    fn synchronize(&self) -> Result<(), DriverError> {
        let _entered = self.enter_unrecorded("cuStreamSynchronize")?;
        let copied = self.beside.as_ref().map_or(Ok(()), Beside::synchronize);
        call!(cuStreamSynchronize(self.queue)).and(copied)
    }
}

impl Drop for Cuda {
    fn drop(&mut self) {
        // Nothing can be done about failures.
        let _entered = self.enter();
        self.abandon_recording();
        if !self.stream.is_null() {
            let _ = call!(cuStreamSynchronize(self.stream));
            let _ = call!(cuStreamSynchronize(self.queue));
        }
        self.alone = None;
        if let Some(gate) = &self.gate {
            gate.forget(self.stream);
            gate.forget(self.queue);
        }
        let _turn = self.turn();
        self.products = None;
        self.beside = None;
        self.staging = None;
        self.events = Events::default();
        self.lanes = Lanes::default();
        for flag in mem::take(&mut self.flags) {
            let _ = call!(cuMemFreeHost(flag.cast()));
        }
        for mark in mem::take(&mut self.marks) {
            let _ = call!(cuEventDestroy_v2(mark));
        }
        for graph in mem::take(&mut self.graphs).into_iter().flatten() {
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

#[cfg(test)]
mod tests {
    use super::ordinal;

    #[test]
    fn a_gpu_is_chosen_by_its_number_and_is_the_first_where_none_is() {
        assert_eq!([None, Some(""), Some("0"), Some(" 3 ")].map(|text| ordinal(text).unwrap()), [0, 0, 0, 3]);
        for wrong in ["-1", "gpu1", "0,1"] {
            let error = ordinal(Some(wrong)).unwrap_err().to_string();
            assert!(error.contains(wrong) && error.contains("RNNC_CUDA_DEVICE"), "{error}");
        }
    }
}
