//! A driver that runs generated kernels on the host: the same text, compiled by the host's C++ compiler (`CXX`, else
//! `c++`), every thread of a launch a fiber.
//!
//! | file | what |
//! | --- | --- |
//! | `emulated.hpp` | the prelude's names, as the host's compiler needs them; `lane.rs` is its other side |
//! | `compiler.rs` | from text to a library |
//! | `scheduler.rs` | runs the threads of a launch: barriers, warps, clusters, polls |
//! | `stores.rs` | what was put and is not yet seen by others |
//! | `recording.rs` | recorded commands, in lanes |
//! | `memory.rs`, `stacks.rs`, `context.cpp` | device memory; the fibers' stacks; going from one to another |
//!
//! What it shows: the numbers; a missing barrier, since threads run in an order that is drawn anew all the time; a
//! missing release or acquire, since what is put comes late and `own` does not see what other blocks put; deadlocks
//! and endless polls; threads that do not meet where they should; addresses outside of all allocations, wrongly
//! aligned ones, and shared memory that nobody wrote.
//!
//! What it cannot show: fibers are sequentially consistent but for `put`. Plain stores to memory and to shared memory
//! are seen at once, so a race is seen only where the order of threads changes a value. Plain reads and writes through
//! pointers are checked by poisoned borders alone. Loads are never early. Kernels of different lanes of a recording run
//! one after the other, though in any order. Nothing is said about registers, spills or speed. compute-sanitizer's
//! racecheck looks again on a device.
#![allow(unsafe_code, reason = "a driver: foreign code, stacks and memory")]
#![allow(dead_code, reason = "each test takes what it needs")]

mod compiler;
mod lane;
mod memory;
mod recording;
mod scheduler;
mod stacks;
mod stores;

use libloading::Library;
use memory::Memory;
use recording::Recording;
use rnnc_cuda::device::{Device, Rates};
use rnnc_cuda::driver::borders::Border;
use rnnc_cuda::driver::{
    Address, Apart, Args, Capture, Driver, DriverError, Flag, Geometry, GraphId, HostClock, KernelId, Mark,
    Operand, Point, Product, Source, StreamHandle, Timestamp,
};
use rnnc_suite::Case;
use scheduler::{Context, Given, Kernel, Machine, Random, Switch};
use stacks::Stacks;

/// The driver.
pub struct Emulated {
    device: Device,
    random: Random,
    memory: Memory,
    apart: Apart,
    stacks: Stacks,
    switch: Switch,
    context: Context,
    /// Sources that are compiled, together, when one of their kernels is launched first.
    pending: Vec<Source>,
    kernels: Vec<Loaded>,
    graphs: Vec<Recording>,
    recording: Option<Recording>,
    clock: HostClock,
    flags: Vec<u32>,
    /// A mistake in a call that returns nothing.
    mistake: Option<String>,
    alter: Option<Alter>,
    /// Waits between lanes that come before the one that is forgotten.
    forget: Option<usize>,
    /// Whether takes do not wait.
    hasty: bool,
    /// Held for the kernels in them.
    libraries: Vec<Library>,
}

/// Changes a source's text before it is compiled; `None` leaves it as it is.
pub type Alter = std::sync::Arc<dyn Fn(&Source) -> Option<String> + Send + Sync>;

struct Loaded {
    name: String,
    /// The source's text, for messages.
    text: std::sync::Arc<str>,
    kernel: Option<Kernel>,
}

#[derive(Clone)]
enum Recorded {
    Copy { from: Address, to: Address, bytes: usize },
    Clear { at: Address, bytes: usize },
    Launch { kernel: KernelId, geometry: Geometry, given: Given },
    Product(Product),
    Stamp(Timestamp),
}

/// Small, slow devices: networks of a few units need several blocks, and every way to hold weights. The first has no
/// clusters, the second clusters of 2; on that, loops run in one block, a cluster or the whole grid, by their sizes.
pub fn devices() -> [Device; 2] {
    let rates = Rates {
        clock_ghz: 0.01,
        f32_tflops: 1.0,
        tf32_tflops: 1.0,
        memory_tbs: 1.0,
        // Nothing is too short to run beside something else.
        launch_us: 0.0,
        frame_us: [0.1, 0.2, 0.2],
        tiles: 1.0,
    };
    let small = Device {
        name: "emulation".into(),
        architecture: (8, 0),
        multiprocessors: 4,
        registers: 4096,
        shared_bytes: 16 << 10,
        cluster: 1,
        memory_bytes: 1 << 30,
        loop_threads: 64,
        // All streams in one: tests of groups say how many they have.
        group_streams: (usize::MAX, usize::MAX),
        rates,
    };
    let clustered = Device {
        name: "emulation with clusters".into(),
        architecture: (9, 0),
        multiprocessors: 5,
        cluster: 2,
        // So that the cases' small loops run on tensor cores.
        rates: Rates { frame_us: [0.1, 0.2, 0.4], tiles: 0.0, ..rates },
        ..small.clone()
    };
    [small, clustered]
}

/// Checks cases on a device, and names all that are wrong. `RNNC_ONLY=lstm,gru` leaves those alone whose names have one of these.
pub fn assert_each(
    device: &Device,
    cases: impl Iterator<Item = Case>,
    check: impl Fn(&Case) -> Result<(), String>,
) {
    let only = std::env::var("RNNC_ONLY").unwrap_or_default();
    let cases = cases.filter(|case| only.split(',').any(|part| case.name.contains(part)));
    let results: Vec<Result<(), String>> = cases.map(|case| check(&case)).collect();
    let wrong: Vec<&str> = results.iter().filter_map(|result| result.as_ref().err().map(|s| &**s)).collect();
    assert!(
        wrong.is_empty(),
        "{} of {} cases on `{}`, seed {}:\n{}",
        wrong.len(),
        results.len(),
        device.name,
        seed(),
        wrong.join("\n")
    );
}

/// The seed of the orders in which threads run: `RNNC_EMULATION_SEED`, else 1.
pub fn seed() -> u64 {
    std::env::var("RNNC_EMULATION_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1)
}

impl Emulated {
    /// A device whose threads run in orders drawn from a seed.
    pub fn new(device: Device, seed: u64) -> Result<Emulated, DriverError> {
        Emulated::through(device, seed, false)
    }

    /// The same; fibers change the way of other processors.
    pub fn portable(device: Device, seed: u64) -> Result<Emulated, DriverError> {
        Emulated::through(device, seed, true)
    }

    fn through(device: Device, seed: u64, portable: bool) -> Result<Emulated, DriverError> {
        let library = compiler::context(portable)?;
        // SAFETY: context.cpp defines them so.
        let (switch, context) = unsafe {
            (symbol::<Switch>(&library, "rnnc_switch")?, symbol::<Context>(&library, "rnnc_context")?)
        };
        Ok(Emulated {
            device,
            random: Random(seed),
            memory: Memory::default(),
            apart: Apart::default(),
            stacks: Stacks::default(),
            switch,
            context,
            pending: Vec::new(),
            kernels: Vec::new(),
            graphs: Vec::new(),
            recording: None,
            clock: HostClock::default(),
            flags: Vec::new(),
            mistake: None,
            alter: None,
            forget: None,
            hasty: false,
            libraries: vec![library],
        })
    }

    /// The same; sources are changed before they are compiled, to show what follows.
    pub fn altering(mut self, alter: Alter) -> Emulated {
        self.alter = Some(alter);
        self
    }

    /// The same; one wait of a lane for a point, counted through all recordings, is forgotten.
    pub fn forgetting(mut self, wait: usize) -> Emulated {
        self.forget = Some(wait);
        self
    }

    /// The same; what is taken is what stood there before it was written beside.
    pub fn hasty(mut self) -> Emulated {
        self.hasty = true;
        self
    }

    fn not_recording(&self, call: &'static str) -> Result<(), DriverError> {
        match self.recording {
            None => Ok(()),
            Some(_) => Err(failed(call, "cannot be recorded".into())),
        }
    }

    fn recording(&mut self, call: &'static str) -> Result<&mut Recording, DriverError> {
        self.recording.as_mut().ok_or_else(|| failed(call, "nothing is recorded".into()))
    }

    fn do_or_record(&mut self, command: Recorded) -> Result<(), DriverError> {
        match &mut self.recording {
            Some(recording) => recording.push(command),
            None => self.run(command)?,
        }
        Ok(())
    }

    fn run(&mut self, command: Recorded) -> Result<(), DriverError> {
        match command {
            Recorded::Copy { from, to, bytes } => {
                if from.abs_diff(to) < bytes as u64 {
                    return Err(failed("copy", "source and target overlap".into()));
                }
                let source = self.memory.bytes(from, bytes).map_err(|what| failed("copy", what))?.to_vec();
                let target = self.memory.bytes_mut(to, bytes).map_err(|what| failed("copy", what))?;
                target.copy_from_slice(&source);
                Ok(())
            }
            Recorded::Clear { at, bytes } => {
                self.memory.bytes_mut(at, bytes).map_err(|what| failed("clear", what))?.fill(0);
                Ok(())
            }
            Recorded::Stamp(at) => self.clock.stamp(at),
            Recorded::Launch { kernel, geometry, given } => self.run_kernel(kernel, geometry, given),
            Recorded::Product(product) => {
                self.run_product(&product).map_err(|what| failed("product", format!("{product:?}: {what}")))
            }
        }
    }

    fn compile_pending(&mut self) -> Result<(), DriverError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let sources = std::mem::take(&mut self.pending);
        let library = compiler::load(&sources)?;
        for loaded in self.kernels.iter_mut().filter(|loaded| loaded.kernel.is_none()) {
            // SAFETY: the text defines it so.
            loaded.kernel = Some(unsafe { symbol::<Kernel>(&library, &loaded.name)? });
        }
        self.libraries.push(library);
        Ok(())
    }

    fn run_kernel(&mut self, id: KernelId, geometry: Geometry, given: Given) -> Result<(), DriverError> {
        self.compile_pending()?;
        let resident = self.fitting(id, &geometry)?;
        let loaded = &self.kernels[id.0];
        if geometry.cooperative && geometry.blocks > resident {
            return Err(DriverError::Resident {
                what: "blocks",
                name: loaded.name.clone(),
                wanted: geometry.blocks,
                fit: resident,
            });
        }
        let kernel = loaded.kernel.ok_or_else(|| failed("launch", "no such kernel".into()))?;
        let machine = Machine {
            switch: self.switch,
            context: self.context,
            memory: &self.memory,
            stacks: &mut self.stacks,
            resident,
            seed: self.random.next(),
        };
        let outcome = scheduler::run(kernel, given, geometry, machine);
        let outcome = outcome.and_then(|()| self.memory.damage().map_or(Ok(()), Err));
        outcome.map_err(|what| {
            let lines = lines_of(&what, &loaded.text);
            failed("launch", format!("kernel `{}`: {what}{lines}", loaded.name))
        })
    }

    /// Checks a geometry; how many of its blocks are resident at once.
    fn fitting(&self, id: KernelId, geometry: &Geometry) -> Result<usize, DriverError> {
        let loaded =
            self.kernels.get(id.0).ok_or_else(|| failed("launch", format!("there is no kernel {}", id.0)))?;
        let Geometry { blocks, threads, shared_bytes, cluster, .. } = *geometry;
        let wrong = match () {
            () if blocks == 0 => "no blocks",
            () if threads == 0 || threads > 1024 => "1 to 1024 threads are a block",
            () if threads % 32 != 0 => "warps are 32 threads",
            () if shared_bytes > self.device.shared_bytes => "more shared memory than there is",
            () if cluster == 0 || cluster > self.device.cluster => "no such clusters on this device",
            () if blocks % cluster != 0 => "the blocks are not whole clusters",
            () => "",
        };
        if !wrong.is_empty() {
            return Err(failed("launch", format!("kernel `{}`: {geometry:?}: {wrong}", loaded.name)));
        }
        let by_memory = self.device.shared_bytes.checked_div(shared_bytes).unwrap_or(usize::MAX);
        let each = (1024 / threads).min(by_memory).min(4);
        Ok(self.device.multiprocessors * each / cluster * cluster)
    }

    fn run_product(&mut self, product: &Product) -> Result<(), String> {
        let Product { m, n, k, a, b, c, halves, accumulate } = *product;
        if c.transposed {
            return Err("results do not lie transposed".into());
        }
        let read = |operand: Operand,
                    rows: usize,
                    columns: usize,
                    halves: bool|
         -> Result<Vec<f32>, String> {
            let (down, across) = if operand.transposed { (1, operand.row) } else { (operand.row, 1) };
            if operand.row < if operand.transposed { rows } else { columns } {
                return Err("rows overlap".into());
            }
            let numbers =
                if rows == 0 || columns == 0 { 0 } else { (rows - 1) * down + (columns - 1) * across + 1 };
            let size = if halves { 2 } else { 4 };
            let bytes = self.memory.bytes(operand.address, numbers * size)?;
            let bits = |i: usize| bytes[i * size..(i + 1) * size].iter().rev();
            // A number in bf16 is the upper half of one in single precision.
            let at = |i: usize| {
                let bits = bits(i).fold(0u32, |bits, &byte| bits << 8 | u32::from(byte));
                f32::from_bits(if halves { bits << 16 } else { bits })
            };
            Ok((0..rows * columns).map(|i| at(i / columns * down + i % columns * across)).collect())
        };
        let (left, right, mut result) =
            (read(a, m, k, halves)?, read(b, k, n, halves)?, read(c, m, n, false)?);
        for (row, result) in result.chunks_mut(n).enumerate() {
            if !accumulate {
                result.fill(0.0);
            }
            for (inner, right) in right.chunks(n).enumerate() {
                let left = left[row * k + inner];
                result.iter_mut().zip(right).for_each(|(sum, right)| *sum += left * right);
            }
        }
        for (row, result) in result.chunks(n).enumerate() {
            let address = c.address + (row * c.row * 4) as u64;
            let bytes = self.memory.bytes_mut(address, n * 4)?;
            bytes.chunks_mut(4).zip(result).for_each(|(to, from)| to.copy_from_slice(&from.to_ne_bytes()));
        }
        Ok(())
    }
}

impl Driver for Emulated {
    fn device(&self) -> &Device {
        &self.device
    }

    fn allocate(&mut self, bytes: usize) -> Result<Address, DriverError> {
        self.not_recording("allocate")?;
        Ok(self.memory.allocate(bytes))
    }

    fn free(&mut self, address: Address) {
        let bytes = self.memory.find(address, 0).map_or(0, |(_, bytes)| bytes);
        self.apart.forget(address, bytes);
        if !self.memory.free(address) {
            self.mistake = Some(format!("{address:#x} was given back, but is no allocation"));
        }
    }

    fn write(&mut self, to: Address, data: &[u8]) -> Result<(), DriverError> {
        self.not_recording("write")?;
        let target = self.memory.bytes_mut(to, data.len()).map_err(|what| failed("write", what))?;
        target.copy_from_slice(data);
        Ok(())
    }

    fn write_beside(&mut self, to: Address, data: &[u8]) -> Result<(), DriverError> {
        self.not_recording("write_beside")?;
        self.memory.bytes(to, data.len()).map_err(|what| failed("write_beside", what))?;
        self.apart.write(to, data);
        Ok(())
    }

    fn take(&mut self, from: Address, to: Address, bytes: usize) -> Result<(), DriverError> {
        self.not_recording("take")?;
        if self.hasty {
            return self.run(Recorded::Copy { from, to, bytes });
        }
        let data = self.apart.read(from, bytes)?;
        let target = self.memory.bytes_mut(to, bytes).map_err(|what| failed("take", what))?;
        target.copy_from_slice(data);
        Ok(())
    }

    fn read(&self, from: Address, into: &mut [u8]) -> Result<(), DriverError> {
        self.not_recording("read")?;
        into.copy_from_slice(self.memory.bytes(from, into.len()).map_err(|what| failed("read", what))?);
        Ok(())
    }

    fn copy(&mut self, from: Address, to: Address, bytes: usize) -> Result<(), DriverError> {
        self.do_or_record(Recorded::Copy { from, to, bytes })
    }

    fn clear(&mut self, at: Address, bytes: usize) -> Result<(), DriverError> {
        self.do_or_record(Recorded::Clear { at, bytes })
    }

    fn load(&mut self, source: &Source) -> Result<Vec<KernelId>, DriverError> {
        self.not_recording("load")?;
        let mut source = source.clone();
        if let Some(text) = self.alter.as_ref().and_then(|alter| alter(&source)) {
            source.text = text;
        }
        let text: std::sync::Arc<str> = source.text.as_str().into();
        // Those of another program may have the same names: they are compiled apart.
        if self.kernels.iter().any(|known| known.kernel.is_none() && source.kernels.contains(&known.name)) {
            self.compile_pending()?;
        }
        let first = self.kernels.len();
        for name in &source.kernels {
            self.kernels.push(Loaded { name: name.clone(), text: text.clone(), kernel: None });
        }
        self.pending.push(source);
        Ok((first..self.kernels.len()).map(KernelId).collect())
    }

    fn occupancy(&self, kernel: KernelId, geometry: &Geometry) -> Result<usize, DriverError> {
        self.fitting(kernel, geometry)
    }

    fn launch(&mut self, kernel: KernelId, geometry: &Geometry, args: &Args) -> Result<(), DriverError> {
        self.do_or_record(Recorded::Launch { kernel, geometry: *geometry, given: Given::Args(*args) })
    }

    fn launch_border(
        &mut self,
        kernel: KernelId,
        geometry: &Geometry,
        border: &Border,
    ) -> Result<(), DriverError> {
        for (at, bytes) in border.ranges() {
            self.memory.bytes(at, bytes as usize).map_err(|what| failed("launch", what))?;
        }
        let given = Given::Border(border.clone());
        self.do_or_record(Recorded::Launch { kernel, geometry: *geometry, given })
    }

    fn product(&mut self, product: &Product) -> Result<(), DriverError> {
        self.do_or_record(Recorded::Product(*product))
    }

    fn timestamp(&mut self) -> Result<Timestamp, DriverError> {
        Ok(self.clock.add())
    }

    fn stamp(&mut self, at: Timestamp) -> Result<(), DriverError> {
        self.do_or_record(Recorded::Stamp(at))
    }

    fn elapsed_us(&self, from: Timestamp, to: Timestamp) -> Result<f64, DriverError> {
        self.clock.elapsed_us(from, to)
    }

    fn begin_recording(&mut self, lanes: usize) -> Result<(), DriverError> {
        self.not_recording("begin_recording")?;
        self.recording = Some(Recording::new(lanes));
        Ok(())
    }

    fn select_lane(&mut self, lane: usize, after: &[Point]) -> Result<(), DriverError> {
        let forgotten = self.forget.filter(|&wait| wait < after.len());
        self.forget = self.forget.and_then(|wait| wait.checked_sub(after.len()));
        let kept = after.iter().enumerate().filter(|&(wait, _)| Some(wait) != forgotten);
        let kept: Vec<Point> = kept.map(|(_, point)| *point).collect();
        self.recording("select_lane")?.select(lane, &kept)
    }

    fn point(&mut self) -> Result<Point, DriverError> {
        Ok(self.recording("point")?.point())
    }

    fn end_recording(&mut self) -> Result<GraphId, DriverError> {
        let recording = std::mem::take(self.recording("end_recording")?);
        self.recording = None;
        self.graphs.push(recording);
        Ok(GraphId(self.graphs.len() - 1))
    }

    fn replay(&mut self, graph: GraphId) -> Result<(), DriverError> {
        self.not_recording("replay")?;
        let recording = self.graphs.get(graph.0).ok_or_else(|| failed("replay", "no such graph".into()))?;
        for command in recording.order(&mut self.random) {
            self.run(command)?;
        }
        Ok(())
    }

    fn forget(&mut self, graph: GraphId) -> Result<(), DriverError> {
        self.not_recording("forget")?;
        self.graphs[graph.0] = Recording::default();
        Ok(())
    }

    fn product_bytes(&self) -> usize {
        256
    }

    fn select_stream(&mut self, stream: Option<(StreamHandle, Address)>) -> Result<(), DriverError> {
        self.not_recording("select_stream")?;
        if let Some((_, products)) = stream {
            self.memory.bytes(products, 256).map_err(|what| failed("select_stream", what))?;
        }
        Ok(())
    }

    fn capture(&self, _: StreamHandle) -> Result<Option<Capture>, DriverError> {
        Ok(None)
    }

    // Each command has run before the next is told.
    fn begin_alone(&mut self) -> Result<(), DriverError> {
        self.not_recording("begin_alone")
    }

    fn end_alone(&mut self) -> Result<(), DriverError> {
        self.not_recording("end_alone")
    }

    // Commands of lanes run when all are told, in an order that lanes allow.
    fn begin_lanes(&mut self, lanes: usize) -> Result<(), DriverError> {
        self.begin_recording(lanes)
    }

    fn end_lanes(&mut self) -> Result<(), DriverError> {
        let graph = self.end_recording()?;
        self.replay(graph)?;
        self.graphs.pop();
        Ok(())
    }

    fn flag(&mut self) -> Result<Flag, DriverError> {
        self.flags.push(0);
        Ok(Flag(self.flags.len() - 1))
    }

    fn fetch(&mut self, from: Address, flag: Flag) -> Result<(), DriverError> {
        let mut word = [0; 4];
        self.read(from, &mut word)?;
        self.flags[flag.0] = u32::from_ne_bytes(word);
        Ok(())
    }

    fn look(&self, flag: Flag) -> u32 {
        self.flags[flag.0]
    }

    fn lower(&mut self, flag: Flag) {
        self.flags[flag.0] = 0;
    }

    fn permit_capture(&mut self, _: bool) -> Result<(), DriverError> {
        Ok(())
    }

    // Each command has run before the next is told.
    fn mark(&mut self) -> Result<Mark, DriverError> {
        Ok(Mark(0))
    }

    fn set_mark(&mut self, _: Mark) -> Result<(), DriverError> {
        self.not_recording("set_mark")
    }

    fn await_mark(&mut self, _: Mark) -> Result<(), DriverError> {
        self.not_recording("await_mark")
    }

    fn synchronize(&self) -> Result<(), DriverError> {
        self.not_recording("synchronize")?;
        self.mistake.clone().map_or(Ok(()), |what| Err(failed("free", what)))
    }
}

fn failed(call: &'static str, what: String) -> DriverError {
    DriverError::Call { call, what }
}

/// # Safety
/// T is the type of what the library has under that name.
unsafe fn symbol<T: Copy>(library: &Library, name: &str) -> Result<T, DriverError> {
    // SAFETY: as the caller says.
    let symbol = unsafe { library.get::<T>(name.as_bytes()) };
    symbol.map(|symbol| *symbol).map_err(|error| failed("dlsym", error.to_string()))
}

/// The lines of a text that a message speaks of.
fn lines_of(message: &str, text: &str) -> String {
    let mut numbers: Vec<usize> = message
        .split("line ")
        .skip(1)
        .filter_map(|rest| rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok())
        .collect();
    numbers.sort_unstable();
    numbers.dedup();
    let line =
        |number: usize| Some(format!("\n  {number}: {}", text.lines().nth(number.checked_sub(1)?)?.trim()));
    numbers.into_iter().filter_map(line).collect()
}
