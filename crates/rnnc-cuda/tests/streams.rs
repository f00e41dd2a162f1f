//! Calls on device memory on a real GPU: the suite, several programs on several threads and streams, a caller's graph. Ignored,
//! since most machines have no GPU: `cargo test --release -p rnnc-cuda --test streams -- --ignored --test-threads=1`.
//! `RNNC_ONLY=TEXT,TEXT` runs those of the suite's cases whose names begin so; `RNNC_LAUNCHES=N` changes how many launches the
//! races have.
#![allow(unsafe_code, reason = "streams and graphs of NVIDIA's driver")]

mod calls;

use calls::{Arena, DeviceMemory, NUMBERS, Place};
use cudarc::driver::sys;
use rnnc_cuda::driver::{Args, Cuda, Driver, Geometry, Source, StreamHandle};
use rnnc_cuda::{CudaExecutor, CudaFunctional};
use rnnc_plan::{
    Backward, ExecutionConfig, Executor, Forward, Functional, Plan, PlanOptions, Precision, Values, ValuesMut,
};
use rnnc_suite::{Case, cases};
use rnnc_verify::Random;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Relative to the largest number of an array; single precision against double.
const TOLERANCE: f64 = 2e-4;

/// Memory of a driver of the test's own, in the same primary context.
struct Own(Cuda, u64);

impl Own {
    fn new(bytes: usize) -> Own {
        let mut cuda = Cuda::new(0, Precision::F32).unwrap();
        let base = cuda.allocate(bytes).unwrap();
        cuda.synchronize().unwrap();
        Own(cuda, base)
    }
}

impl DeviceMemory for Own {
    fn put(&mut self, at: u64, data: &[u8]) {
        self.0.write(at, data).unwrap();
        // Other streams read it.
        self.0.synchronize().unwrap();
    }

    fn get(&self, at: u64, into: &mut [u8]) {
        self.0.read(at, into).unwrap();
    }
}

fn succeeds(result: sys::CUresult) {
    assert_eq!(result, sys::CUresult::CUDA_SUCCESS);
}

/// A stream of the primary context.
struct Stream(sys::CUstream);

// SAFETY: streams may be used by any thread.
unsafe impl Send for Stream {}

impl Stream {
    /// The lower the number, the sooner its blocks are started.
    fn new(priority: i32) -> Stream {
        let mut stream = std::ptr::null_mut();
        let non_blocking = sys::CUstream_flags_enum::CU_STREAM_NON_BLOCKING as u32;
        enter();
        // SAFETY: the primary context is current, and lives as long as the test's drivers.
        succeeds(unsafe { sys::cuStreamCreateWithPriority(&mut stream, non_blocking, priority) });
        Stream(stream)
    }

    fn handle(&self) -> StreamHandle {
        // SAFETY: it is never destroyed.
        unsafe { StreamHandle::from_raw(self.0.expose_provenance()) }
    }

    fn synchronize(&self) {
        // SAFETY: it lives.
        succeeds(unsafe { sys::cuStreamSynchronize(self.0) });
    }
}

/// Makes the first GPU's primary context current on this thread, as PyTorch has it. A driver was made before.
fn enter() {
    let (mut device, mut context) = (0, std::ptr::null_mut());
    // SAFETY: NVIDIA's driver is there and started; the context stays retained.
    unsafe {
        succeeds(sys::cuDeviceGet(&mut device, 0));
        succeeds(sys::cuDevicePrimaryCtxRetain(&mut context, device));
        succeeds(sys::cuCtxSetCurrent(context));
    }
}

fn launches(usual: usize) -> usize {
    std::env::var("RNNC_LAUNCHES").ok().and_then(|count| count.parse().ok()).unwrap_or(usual)
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn calls_agree_with_the_reference() {
    const ROOM: usize = 64 << 20;
    let only = std::env::var("RNNC_ONLY").unwrap_or_default();
    let mut own = Own::new(ROOM);
    let stream = Stream::new(0);
    let cases: Vec<Case> = cases()
        .into_iter()
        .filter(|case| only.split(',').any(|begin| case.name.starts_with(begin)))
        .collect();
    let base = own.1;
    let wrong: Vec<String> = (cases.iter().enumerate())
        .filter_map(|(place, case)| {
            let functional = CudaFunctional::new(calls::plan(case), calls::config(case)).unwrap();
            let mut arena = Arena::new(&mut own, base, ROOM, case.seed);
            let stream = if place % 2 == 0 { stream.handle() } else { StreamHandle::DEFAULT };
            calls::check(case, &functional, stream, &mut arena, TOLERANCE).err()
        })
        .collect();
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    println!("{} cases agree", cases.len());
}

/// An LSTM as a function, with arrays for it.
struct Lstm {
    functional: CudaFunctional,
    weights: Vec<Place>,
    x: Place,
    y: Place,
    d_y: Place,
    d_weights: Vec<Place>,
    tape: Place,
    frames: usize,
}

fn lstm_plan(units: usize, streams: usize, frames: usize) -> Plan {
    let text = format!("network one {{ input x: vector(32) h = lstm(x; {units}) output h }}");
    let mut graph = rnnc_lang::compile("one.rnn", &text, None).unwrap_or_else(|errors| panic!("{errors}"));
    graph.hold_state(None).unwrap();
    Plan::new(&graph, PlanOptions::training(streams, frames).with_state_gradients()).unwrap()
}

impl Lstm {
    fn new(arena: &mut Arena<'_>, units: usize, streams: usize, frames: usize, seed: u64) -> Lstm {
        let config = ExecutionConfig::new(streams, frames);
        let functional = CudaFunctional::new(lstm_plan(units, streams, frames), config).unwrap();
        let mut random = Random(seed);
        let scale = 0.5 / (units as f64).sqrt();
        let mut numbers = |shape: &[usize], scale: f64| -> Vec<f64> {
            random.numbers(shape.iter().product(), scale).into_iter().map(f64::from).collect()
        };
        let ports = functional.ports().clone();
        let weights =
            ports.weights.iter().map(|port| arena.put(&numbers(&port.shape, scale), &port.shape, NUMBERS));
        let weights = weights.collect();
        let (input, output) = ([frames, streams, 32], [frames, streams, units]);
        Lstm {
            weights,
            x: arena.put(&numbers(&input, 1.0), &input, NUMBERS),
            y: arena.out(&output, NUMBERS),
            d_y: arena.put(&numbers(&output, 1.0), &output, NUMBERS),
            d_weights: ports.weights.iter().map(|port| arena.out(&port.shape, NUMBERS)).collect(),
            tape: arena.plain(functional.tape_len()),
            functional,
            frames,
        }
    }

    /// A forward and a backward call.
    fn call(&self, stream: StreamHandle) {
        let weights: Vec<_> = self.weights.iter().map(Place::array).collect();
        let x = [self.x.array()];
        let call = Forward {
            outputs: &mut [Some(self.y.array_mut())],
            tape: Some(self.tape.array_mut()),
            ..Forward::new(self.frames, &weights, &x)
        };
        self.functional.forward_on(stream, call).unwrap();
        let mut gradients: Vec<_> = self.d_weights.iter().map(|place| Some(place.array_mut())).collect();
        let call = Backward {
            d_outputs: &[Some(self.d_y.array())],
            d_weights: &mut gradients,
            ..Backward::new(self.frames, &weights, self.tape.array())
        };
        self.functional.backward_on(stream, call).unwrap();
    }

    /// All that calls write.
    fn found(&self, arena: &Arena<'_>) -> Vec<Vec<f64>> {
        [&self.y].into_iter().chain(&self.d_weights).map(|place| arena.get(place)).collect()
    }
}

/// Fails, instead of standing still, if something takes so long.
fn within<T>(limit: Duration, what: &str, run: impl FnOnce() -> T) -> T {
    let (done, waits) = std::sync::mpsc::channel::<()>();
    let what = what.to_owned();
    let watch = std::thread::spawn(move || {
        if waits.recv_timeout(limit) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            eprintln!("{what}: still running after {limit:?}");
            std::process::abort();
        }
    });
    let result = run();
    let _ = done.send(());
    watch.join().unwrap();
    result
}

/// Programs of so many units and streams, each on a thread and a stream of its own with that priority, all at the same time.
fn race(programs: &[(usize, usize, i32)], launches: usize) {
    const ROOM: usize = 512 << 20;
    let started = Instant::now();
    std::thread::scope(|scope| {
        for (number, &(units, streams, priority)) in programs.iter().enumerate() {
            scope.spawn(move || {
                let mut own = Own::new(ROOM);
                let (stream, base) = (Stream::new(priority), own.1);
                let mut arena = Arena::new(&mut own, base, ROOM, number as u64);
                let lstm = Lstm::new(&mut arena, units, streams, 16, number as u64);
                lstm.call(stream.handle());
                lstm.functional.finish().unwrap();
                let expected = lstm.found(&arena);
                for launch in 0..launches {
                    lstm.call(stream.handle());
                    // Not more than the driver's queue holds, and now and then nothing to do.
                    if launch % 64 == 63 {
                        stream.synchronize();
                    }
                }
                lstm.functional.finish().unwrap();
                assert_eq!(lstm.found(&arena), expected, "the same bits, whatever runs beside");
            });
        }
    });
    println!(
        "{programs:?}: {launches} forward and backward calls each in {:.1} s",
        started.elapsed().as_secs_f64()
    );
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn loops_on_the_whole_grid_of_two_threads_never_stand_still() {
    within(Duration::from_secs(180), "the race", || race(&[(1024, 1, 0), (1024, 1, 0)], launches(5000)));
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn loops_of_four_threads_with_mixed_priorities_and_sizes_never_stand_still() {
    let programs = [(1024, 1, 0), (1024, 16, -5), (512, 8, 0), (64, 1, -5)];
    within(Duration::from_secs(240), "the race", || race(&programs, launches(1500)));
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn an_executor_and_calls_on_other_streams_never_stand_still() {
    within(Duration::from_secs(180), "the race", || {
        std::thread::scope(|scope| {
            scope.spawn(|| race(&[(1024, 1, 0)], launches(1500)));
            scope.spawn(|| {
                let config = ExecutionConfig::new(1, 16);
                let mut executor = CudaExecutor::new(lstm_plan(1024, 1, 16), config).unwrap();
                let x = vec![0.25; 16 * 32];
                let mut expected = Vec::new();
                for launch in 0..launches(1500) {
                    executor.clear_state();
                    executor.forward(16, &[Values::F32(&x)], None).unwrap();
                    executor.backward(16, &[None]).unwrap();
                    if launch % 64 == 0 {
                        let mut y = vec![0.0; 16 * 1024];
                        executor.output(0, ValuesMut::F32(&mut y)).unwrap();
                        if launch == 0 {
                            expected.clone_from(&y);
                        }
                        assert_eq!(y, expected);
                    }
                }
                executor.finish().unwrap();
            });
        });
    });
}

/// Runs tests of this file in processes of their own, all at the same time.
fn in_processes(tests: &[&str]) {
    let started = tests.iter().map(|test| {
        let own = std::env::current_exe().unwrap();
        let arguments = ["--ignored", "--exact", "--nocapture", test];
        std::process::Command::new(own).args(arguments).spawn().unwrap()
    });
    let started: Vec<_> = started.collect();
    let ended: Vec<_> = started.into_iter().map(|mut process| process.wait().unwrap()).collect();
    assert!(ended.iter().all(|status| status.success()), "{ended:?}");
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn loops_on_the_whole_grid_of_two_processes_never_stand_still() {
    in_processes(&["a_loop_on_the_whole_grid_never_stands_still"; 2]);
}

/// Which gate orders them, only the processes that run it know.
#[test]
#[ignore = "needs an NVIDIA GPU"]
fn a_loop_on_the_whole_grid_never_stands_still() {
    within(Duration::from_secs(180), "the race", || race(&[(1024, 1, 0)], launches(3000)));
}

/// What other programs do on a device: blocks that stay for a while, and take what is left of a multiprocessor.
const FOREIGN: &str = "
extern \"C\" __global__ void busy() {
    extern __shared__ float taken[];
    const long long started = clock64();
    taken[threadIdx.x] = 0.f;
    while (clock64() - started < 400000) {}
}
";

/// Kernels of another's, that know no gate, on a stream of the same context, until it is told to stop: of a few blocks for long, as
/// those that exchange gradients between GPUs, and of many more than fit, as products.
fn foreign(stop: &AtomicBool, blocks: usize) -> usize {
    let mut cuda = Cuda::new(0, Precision::F32).unwrap();
    let source = Source { name: "another's".into(), text: FOREIGN.into(), kernels: vec!["busy".into()] };
    let kernel = cuda.load(&source).unwrap()[0];
    let geometry = Geometry { blocks, threads: 512, shared_bytes: 96 << 10, cluster: 1, cooperative: false };
    let mut launches = 0;
    while !stop.load(Ordering::Relaxed) {
        for _ in 0..16 {
            cuda.launch(kernel, &geometry, &Args::default()).unwrap();
        }
        cuda.synchronize().unwrap();
        launches += 16;
    }
    launches
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn loops_on_the_whole_grid_beside_kernels_of_others_never_stand_still() {
    for blocks in [24, 2000] {
        within(Duration::from_secs(120), "the race", || {
            let stop = AtomicBool::new(false);
            std::thread::scope(|scope| {
                let other = scope.spawn(|| foreign(&stop, blocks));
                let run = std::panic::catch_unwind(|| race(&[(1024, 1, 0)], launches(500)));
                stop.store(true, Ordering::Relaxed);
                println!("beside {} launches of {blocks} blocks", other.join().unwrap());
                run.unwrap();
            });
        });
    }
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn what_taking_turns_costs_is_printed() {
    const ROOM: usize = 512 << 20;
    let mut own = Own::new(ROOM);
    let base = own.1;
    let streams = [Stream::new(0), Stream::new(0)];
    // In one block nothing takes turns.
    for (units, frames) in [(1024, 16), (64, 16), (1024, 1), (64, 1)] {
        let mut arena = Arena::new(&mut own, base, ROOM, 1);
        let lstms = [1, 2].map(|seed| Lstm::new(&mut arena, units, 1, frames, seed));
        let us = |alternate: bool| {
            let mut times = [f64::MAX; 2];
            for _ in 0..5 {
                let started = Instant::now();
                for call in 0..200 {
                    let place = if alternate { call % 2 } else { 0 };
                    lstms[place].call(streams[place].handle());
                }
                let told = started.elapsed();
                streams.iter().for_each(Stream::synchronize);
                let all = [told, started.elapsed()];
                times = std::array::from_fn(|k| times[k].min(all[k].as_secs_f64() * 1e6 / 200.0));
            }
            times
        };
        us(true);
        let (one, two) = (us(false), us(true));
        println!(
            "{units} units, {frames} frames, us a forward and a backward call: one stream told in {:.1}, done in {:.1}; two in turns \
             {:.1}, {:.1}",
            one[0], one[1], two[0], two[1]
        );
    }
    let (stream, mut event) = (&streams[0], std::ptr::null_mut());
    // SAFETY: the stream lives, and so does the event, which is never destroyed.
    unsafe {
        succeeds(sys::cuEventCreate(&mut event, sys::CUevent_flags_enum::CU_EVENT_DISABLE_TIMING as u32));
        for what in ["recorded", "recorded and awaited by the other stream"] {
            let started = Instant::now();
            for _ in 0..2000 {
                succeeds(sys::cuEventRecord(event, stream.0));
                if what.len() > 8 {
                    succeeds(sys::cuStreamWaitEvent(streams[1].0, event, 0));
                }
            }
            let told = started.elapsed().as_secs_f64() * 1e6 / 2000.0;
            streams.iter().for_each(Stream::synchronize);
            let done = started.elapsed().as_secs_f64() * 1e6 / 2000.0;
            println!("an event {what}: told in {told:.2} us, done in {done:.2} us");
        }
    }
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn a_call_returns_before_its_work_is_done() {
    const ROOM: usize = 1 << 30;
    let mut own = Own::new(ROOM);
    let (stream, base) = (Stream::new(0), own.1);
    let mut arena = Arena::new(&mut own, base, ROOM, 1);
    let lstm = Lstm::new(&mut arena, 1024, 1, 2048, 1);
    lstm.call(stream.handle());
    stream.synchronize();
    let started = Instant::now();
    lstm.call(stream.handle());
    let told = started.elapsed();
    stream.synchronize();
    let done = started.elapsed();
    println!("told in {told:?}, done in {done:?}");
    assert!(told * 4 < done, "told in {told:?}, done in {done:?}");
    lstm.functional.finish().unwrap();
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn calls_are_captured_into_a_callers_graph_and_replayed_with_other_numbers() {
    const ROOM: usize = 256 << 20;
    for mode in [
        sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_GLOBAL,
        sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL,
        sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED,
    ] {
        for (units, streams) in [(1024, 1), (64, 4), (512, 64)] {
            let mut own = Own::new(ROOM);
            let (stream, base) = (Stream::new(0), own.1);
            let mut arena = Arena::new(&mut own, base, ROOM, 1);
            let lstm = Lstm::new(&mut arena, units, streams, 16, 1);
            // Everything is loaded.
            lstm.call(stream.handle());
            stream.synchronize();
            let (mut graph, mut ready) = (std::ptr::null_mut(), std::ptr::null_mut());
            enter();
            // SAFETY: the stream lives; nothing else uses it.
            unsafe {
                succeeds(sys::cuStreamBeginCapture_v2(stream.0, mode));
                lstm.call(stream.handle());
                succeeds(sys::cuStreamEndCapture(stream.0, &mut graph));
                succeeds(sys::cuGraphInstantiateWithFlags(&mut ready, graph, 0));
            }
            for round in 0..3 {
                let numbers: Vec<f64> =
                    Random(round).numbers(16 * streams * 32, 1.0).into_iter().map(f64::from).collect();
                arena.fill(&lstm.x, &numbers);
                lstm.call(stream.handle());
                stream.synchronize();
                let expected = lstm.found(&arena);
                [&lstm.y].into_iter().chain(&lstm.d_weights).for_each(|place| arena.wipe(place));
                // SAFETY: the graph lives, and what it was captured with.
                succeeds(unsafe { sys::cuGraphLaunch(ready, stream.0) });
                stream.synchronize();
                assert_eq!(lstm.found(&arena), expected, "{units} units, round {round}");
            }
            lstm.functional.finish().unwrap();
            // SAFETY: neither runs.
            unsafe {
                succeeds(sys::cuGraphExecDestroy(ready));
                succeeds(sys::cuGraphDestroy(graph));
            }
        }
    }
}
