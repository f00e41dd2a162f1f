//! Calls on device memory: the suite's cases on the emulated GPU, and what calls ask of a driver.

mod calls;
mod emulation;

use calls::{Arena, DeviceMemory};
use emulation::{Emulated, assert_each, devices, seed};
use rnnc_cuda::CudaFunctional;
use rnnc_cuda::device::Device;
use rnnc_cuda::driver::borders::Border;
use rnnc_cuda::driver::{Call, Capture, Driver, Recorder, Source, StreamHandle};
use rnnc_plan::{
    Array, ArrayMut, Backward, Element, ExecutionConfig, Forward, Functional, Plan, PlanOptions, PortKind,
};
use rnnc_suite::{Case, cases};
use std::sync::{Arc, Mutex};

/// Relative to the largest number of an array; single precision against double.
const TOLERANCE: f64 = 2e-4;

/// Bytes of a case's arrays.
const ROOM: usize = 16 << 20;

/// The emulated device's memory is this process's.
struct Host;

#[allow(unsafe_code)] // the emulation's memory, by address
impl DeviceMemory for Host {
    fn put(&mut self, at: u64, data: &[u8]) {
        // SAFETY: the arena has the range, and no kernel runs between calls.
        unsafe { std::ptr::copy_nonoverlapping(data.as_ptr(), at as *mut u8, data.len()) }
    }

    fn get(&self, at: u64, into: &mut [u8]) {
        // SAFETY: as above.
        unsafe { std::ptr::copy_nonoverlapping(at as *const u8, into.as_mut_ptr(), into.len()) }
    }
}

fn check(case: &Case, device: &Device) -> Result<(), String> {
    check_altered(case, device, Arc::new(|_| None))
}

fn check_altered(case: &Case, device: &Device, alter: emulation::Alter) -> Result<(), String> {
    let driver = Emulated::new(device.clone(), seed()).map_err(|error| error.to_string())?;
    let mut driver = driver.altering(alter);
    let base = driver.allocate(ROOM).unwrap();
    let functional = CudaFunctional::with_driver(calls::plan(case), calls::config(case), Box::new(driver))
        .map_err(|error| format!("{}: {error}", case.name))?;
    let mut memory = Host;
    let mut arena = Arena::new(&mut memory, base, ROOM, case.seed);
    calls::check(case, &functional, StreamHandle::DEFAULT, &mut arena, TOLERANCE)
}

fn all_agree(device: &Device, place: usize) {
    assert_each(device, cases().into_iter().skip(place).step_by(2), |case| check(case, device));
}

#[test]
fn calls_of_even_cases_agree_with_the_reference() {
    all_agree(&devices()[0], 1);
}

#[test]
fn calls_of_odd_cases_agree_with_the_reference() {
    all_agree(&devices()[1], 0);
}

#[test]
fn faults_in_the_kernels_between_programs_and_arrays_are_seen() {
    let faults = [
        ("+ 1u < depth - j", "< depth - j"),
        ("case FROM_F64: v = (float)", "case FROM_F64: v = 2.f * (float)"),
        (
            "case TO_I64: ((long long*)move.to)[to] = (long long)(int)",
            "case TO_I64: ((long long*)move.to)[to] = (long long)",
        ),
        ("put(single, own(single) + v)", "put(single, v)"),
        ("((double*)move.to)[to] += (double)v", "((double*)move.to)[to] = (double)v"),
        ("v = move.start ? constant(move.start + column) :", "v ="),
        ("put(a.to + unit, own(a.to + unit) + sum)", ";"),
        ("a.first_frame - a.first", "0ull - a.first"),
        ("a.run[RUN_SEED] = a.seed", ";"),
        (": next + lane", ": lane"),
        (": (u32)(32 + after - (int)lane)", ": (u32)(33 + after - (int)lane)"),
        ("== a.depth - frame) return true;", "== a.depth - frame) return false;"),
        (
            "+ (frame - a.depth)) * a.streams + stream) == 0u;",
            "+ (frame - a.depth)) * a.streams + stream) == 1u;",
        ),
    ];
    let only = |case: &Case| {
        let names = ["delay", "dropout", "start", "concat", "symbol", "embed", "ahead", "bidirectional"];
        case.streams < 17 && names.iter().any(|name| case.name.contains(name))
    };
    let cases: Vec<Case> = cases().into_iter().filter(only).collect();
    let device = &devices()[0];
    let seen = |(right, wrong): (&'static str, &'static str)| {
        let alter: emulation::Alter = Arc::new(move |source: &Source| {
            let changed = source.text.contains("rnnc_moves").then(|| source.text.replace(right, wrong))?;
            assert_ne!(changed, source.text, "`{right}` is not there");
            Some(changed)
        });
        cases.iter().any(|case| check_altered(case, device, alter.clone()).is_err())
    };
    let unseen: Vec<_> = faults.into_iter().filter(|&fault| !seen(fault)).collect();
    assert!(unseen.is_empty(), "{unseen:?}");
}

/// A function of a text, the calls of its driver, and memory for arrays.
struct Recorded {
    functional: CudaFunctional,
    calls: Arc<Mutex<Vec<Call>>>,
    base: u64,
}

const LSTM: &str = "network one { input x: vector(3) h = lstm(x; 8) y = dense(h; 5) output y }";

fn recorded(text: &str, streams: usize, window: usize) -> Recorded {
    recorded_keeping(ExecutionConfig::new(streams, window), text)
}

/// A stream that is captured.
const CAPTURED: usize = 77;

fn recorded_keeping(config: ExecutionConfig, text: &str) -> Recorded {
    let ExecutionConfig { streams, window, .. } = config;
    let mut graph = rnnc_lang::compile("one.rnn", text, Some("one")).unwrap_or_else(|e| panic!("{e}"));
    graph.hold_state(None).unwrap();
    let options = PlanOptions::training(streams, window).with_input_gradients().with_state_gradients();
    let plan = Plan::new(&graph, options).unwrap();
    let (recorder, calls) = Recorder::new(Device::named("h200").unwrap());
    let mut recorder =
        recorder.capturing(stream(CAPTURED), Capture(1)).capturing(stream(CAPTURED + 1), Capture(1));
    let base = recorder.allocate(ROOM).unwrap();
    let functional = CudaFunctional::with_driver(plan, config, Box::new(recorder)).unwrap();
    Recorded { functional, calls, base }
}

/// An array somewhere; nothing is read or written.
fn array(base: u64, at: usize, shape: &[usize]) -> Array<'static> {
    let strides: Vec<isize> =
        (0..shape.len()).map(|k| shape[k + 1..].iter().product::<usize>() as isize).collect();
    #[allow(unsafe_code)] // as said above
    // SAFETY: the recorder runs no kernel.
    unsafe { Array::from_raw_parts(base as usize + at, Element::F32, shape, &strides) }.unwrap()
}

fn array_mut(base: u64, at: usize, shape: &[usize]) -> ArrayMut<'static> {
    let strides: Vec<isize> =
        (0..shape.len()).map(|k| shape[k + 1..].iter().product::<usize>() as isize).collect();
    #[allow(unsafe_code)] // as above
    // SAFETY: as above.
    unsafe { ArrayMut::from_raw_parts(base as usize + at, Element::F32, shape, &strides) }.unwrap()
}

impl Recorded {
    fn weights(&self) -> Vec<Array<'static>> {
        self.functional.ports().weights.iter().map(|port| array(self.base, 0, &port.shape)).collect()
    }

    fn taken(&self) -> Vec<Call> {
        std::mem::take(&mut self.calls.lock().unwrap())
    }

    /// A forward and a backward call of so many frames on a stream.
    fn call(&self, stream: StreamHandle, frames: usize, version: Option<u64>) {
        let weights = self.weights();
        let streams = self.functional.config().streams;
        let x = [array(self.base, 0, &[frames, streams, 3])];
        let tape = self.functional.tape_len();
        let call = Forward {
            outputs: &mut [Some(array_mut(self.base, 4096, &[frames, streams, 5]))],
            tape: Some(array_mut(self.base, 1 << 20, &[tape])),
            weights_version: version,
            ..Forward::new(frames, &weights, &x)
        };
        self.functional.forward_on(stream, call).unwrap();
        let mut gradients: Vec<_> = self.functional.ports().weights.iter().map(|_| None).collect();
        gradients[0] = Some(array_mut(self.base, 8192, &self.functional.ports().weights[0].shape));
        let call = Backward {
            d_outputs: &[Some(array(self.base, 4096, &[frames, streams, 5]))],
            d_weights: &mut gradients,
            weights_version: version,
            ..Backward::new(frames, &weights, array(self.base, 1 << 20, &[tape]))
        };
        self.functional.backward_on(stream, call).unwrap();
    }
}

#[allow(unsafe_code)] // no stream is used
fn stream(handle: usize) -> StreamHandle {
    // SAFETY: the recorder has no streams.
    unsafe { StreamHandle::from_raw(handle) }
}

#[test]
fn from_the_second_call_on_nothing_is_taken_loaded_copied_from_the_host_or_waited_for() {
    let of = recorded(LSTM, 2, 40);
    of.call(stream(1), 40, None);
    let count = |calls: &[Call], such: fn(&Call) -> bool| calls.iter().filter(|call| such(call)).count();
    assert!(count(&of.taken(), |call| matches!(call, Call::Allocate { .. })) > 0);
    for frames in [40, 3] {
        of.call(stream(1), frames, None);
        let calls = of.taken();
        let waits = |call: &Call| {
            matches!(
                call,
                Call::Allocate { .. }
                    | Call::Free { .. }
                    | Call::Load { .. }
                    | Call::Read { .. }
                    | Call::Write { .. }
                    | Call::Synchronize
                    | Call::BeginRecording { .. }
                    | Call::AwaitMark(_)
            )
        };
        assert_eq!(count(&calls, waits), 0, "{calls:?}");
        // Both calls are in the caller's stream, which is given back.
        let selected = calls.iter().filter_map(|call| match call {
            Call::SelectStream(stream) => Some(*stream),
            _ => None,
        });
        let one = Some(stream(1));
        assert_eq!(selected.collect::<Vec<_>>(), [one, None, one, None]);
    }
}

#[test]
fn weights_of_a_known_version_are_not_read_again() {
    let of = recorded(LSTM, 2, 4);
    let moves = |version: Option<u64>| {
        of.taken();
        of.call(stream(1), 4, version);
        let moved = |call: &Call| match call {
            Call::Border(Border::Moves(moves)) => moves.count as usize,
            _ => 0,
        };
        of.taken().iter().map(moved).sum::<usize>()
    };
    let weights = of.functional.ports().weights.len();
    let read = moves(None);
    assert_eq!(moves(Some(3)), read - weights, "the backward call has those of the forward call");
    assert_eq!(moves(Some(3)), read - 2 * weights);
    assert_eq!(moves(Some(4)), read - weights);
    assert_eq!(moves(None), read);
}

/// How often calls on these streams wait for another stream's, and how often memory is taken for them.
fn waits(of: &Recorded, handles: &[usize]) -> (Vec<usize>, usize) {
    let mut taken = 0;
    let waits = handles.iter().map(|&handle| {
        of.taken();
        of.call(stream(handle), 4, None);
        let calls = of.taken();
        let allocates = calls.iter().any(|call| matches!(call, Call::Allocate { .. }));
        taken += usize::from(allocates);
        assert!(allocates || !calls.iter().any(|call| matches!(call, Call::Synchronize)));
        calls.iter().filter(|call| matches!(call, Call::AwaitMark(_))).count()
    });
    (waits.collect(), taken)
}

#[test]
fn streams_have_memory_of_their_own_within_the_budget_and_then_wait_for_each_other_on_the_device() {
    let keeping =
        |kept_bytes| recorded_keeping(ExecutionConfig { kept_bytes, ..ExecutionConfig::new(1, 4) }, LSTM);
    let usual: Vec<usize> = (1..=20).collect();
    let (waited, taken) = waits(&recorded(LSTM, 1, 4), &usual);
    assert_eq!((waited.iter().sum::<usize>(), taken), (4, 16));
    // However little, one.
    assert_eq!(waits(&keeping(0), &[1, 1, 2, 2, 1]), (vec![0, 0, 1, 0, 1], 1));
    // What one takes, from what the first call allocates.
    let first = recorded(LSTM, 1, 4);
    first.taken();
    first.call(stream(1), 4, None);
    let bytes = first.taken().into_iter().map(|call| match call {
        Call::Allocate { bytes, .. } => bytes as u64,
        _ => 0,
    });
    let one: u64 = bytes.sum();
    // The third takes that of the second, which then takes that of the first.
    let three_halves = keeping(2 * one + one / 2);
    assert_eq!(waits(&three_halves, &[1, 2, 1, 3, 3, 2]), (vec![0, 0, 0, 1, 0, 1], 2));
}

#[test]
fn the_captured_calls_of_a_stream_have_memory_of_their_own_together() {
    let of = recorded(LSTM, 1, 4);
    let (waited, taken) = waits(&of, &[1, CAPTURED, CAPTURED, CAPTURED + 1, 1, CAPTURED]);
    assert_eq!((waited, taken), (vec![0; 6], 3));
}

#[test]
fn what_does_not_fit_is_refused_by_the_name_of_its_port_before_anything_is_told() {
    let of = recorded(LSTM, 2, 4);
    of.taken();
    let weights = of.weights();
    let x = |shape: &[usize]| [array(of.base, 0, shape)];
    let forward = |call: Forward<'_, '_>| of.functional.forward_on(stream(1), call).unwrap_err().to_string();
    let expect = |error: String, words: &[&str]| {
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
    };
    let good = x(&[4, 2, 3]);
    expect(forward(Forward::new(4, &weights, &x(&[4, 2, 4]))), &["input `x`", "[4, 2, 4]", "[4, 2, 3]"]);
    expect(forward(Forward::new(5, &weights, &x(&[5, 2, 3]))), &["frames", "1", "4", "5"]);
    expect(forward(Forward::new(0, &weights, &good)), &["frames"]);
    expect(forward(Forward::new(4, &weights[1..], &good)), &["weights"]);
    let mut wrong = weights.clone();
    wrong[0] = array(of.base, 0, &[1]);
    expect(forward(Forward::new(4, &wrong, &good)), &["weight `h", "[1]"]);
    let resets = Some(array(of.base, 0, &[4, 2]));
    expect(forward(Forward { resets, ..Forward::new(4, &weights, &good) }), &["resets", "bool", "f32"]);
    let tape = Some(array_mut(of.base, 0, &[3]));
    expect(forward(Forward { tape, ..Forward::new(4, &weights, &good) }), &["the tape", "3 numbers"]);
    let tape = Some(array_mut(of.base, 4, &[of.functional.tape_len()]));
    expect(forward(Forward { tape, ..Forward::new(4, &weights, &good) }), &["the tape", "multiple of 64"]);
    let state: Vec<Array<'_>> =
        of.functional.ports().state.iter().map(|_| array(of.base, 0, &[2, 9])).collect();
    let state_in = Some(&state[..]);
    expect(
        forward(Forward { state_in, ..Forward::new(4, &weights, &good) }),
        &["state_in `", "[2, 9]", "[2, 8]"],
    );
    let tape = array(of.base, 0, &[of.functional.tape_len()]);
    let d_outputs = [Some(array(of.base, 0, &[4, 2, 6]))];
    let call = Backward { d_outputs: &d_outputs, ..Backward::new(4, &weights, tape) };
    expect(of.functional.backward_on(stream(1), call).unwrap_err().to_string(), &["output `y`", "[4, 2, 6]"]);
    let d_inputs = &mut [Some(array_mut(of.base, 0, &[1, 2, 3]))];
    let call = Backward { d_inputs, ..Backward::new(4, &weights, tape) };
    expect(of.functional.backward_on(stream(1), call).unwrap_err().to_string(), &["input `x`", "[1, 2, 3]"]);
    assert!(of.taken().is_empty(), "nothing was told");
}

#[test]
fn a_symbol_beyond_the_last_is_none_and_an_error_of_the_next_call() {
    let text = "network one { input x: symbol(5) y = dense(x; 3) output y }";
    let mut graph = rnnc_lang::compile("one.rnn", text, Some("one")).unwrap_or_else(|e| panic!("{e}"));
    graph.hold_state(None).unwrap();
    let plan = Plan::new(&graph, PlanOptions::inference(1, 4)).unwrap();
    let mut driver = Emulated::new(devices()[0].clone(), seed()).unwrap();
    let base = driver.allocate(ROOM).unwrap();
    let of = CudaFunctional::with_driver(plan, ExecutionConfig::new(1, 4), Box::new(driver)).unwrap();
    let mut memory = Host;
    let mut arena = Arena::new(&mut memory, base, ROOM, 1);
    let weights: Vec<_> = of
        .ports()
        .weights
        .iter()
        .map(|port| {
            let numbers: Vec<f64> = (0..port.shape.iter().product()).map(|k: usize| 1.0 + k as f64).collect();
            arena.put(&numbers, &port.shape, calls::NUMBERS)
        })
        .collect();
    let weights: Vec<_> = weights.iter().map(calls::Place::array).collect();
    let mut forward = |symbols: [f64; 4]| {
        let x = [arena.put(&symbols, &[4, 1], calls::SYMBOLS).array()];
        let y = arena.out(&[4, 1, 3], calls::NUMBERS);
        let outputs = &mut [Some(y.array_mut())];
        let called =
            of.forward_on(StreamHandle::DEFAULT, Forward { outputs, ..Forward::new(4, &weights, &x) });
        called.map(|()| arena.get(&y))
    };
    let none = forward([0.0, -1.0, 4.0, -1.0]).unwrap();
    let wrong = forward([0.0, 5.0, 4.0, 123_456_789.0]).unwrap();
    assert_eq!(none, wrong);
    let error = forward([0.0; 4]).unwrap_err().to_string();
    assert!(error.contains("`x` had a symbol beyond the last") && error.contains("there are 5"), "{error}");
    assert_eq!(forward([0.0, -1.0, 4.0, -1.0]).unwrap(), none);
    of.finish().unwrap();
}

#[test]
fn a_tape_of_other_frames_or_of_another_program_is_an_error_of_the_next_call() {
    let compile = |driver: Box<dyn Driver>| {
        let mut graph = rnnc_lang::compile("one.rnn", LSTM, Some("one")).unwrap_or_else(|e| panic!("{e}"));
        graph.hold_state(None).unwrap();
        let plan = Plan::new(&graph, PlanOptions::training(1, 4)).unwrap();
        CudaFunctional::with_driver(plan, ExecutionConfig::new(1, 4), driver).unwrap()
    };
    let mut driver = Emulated::new(devices()[0].clone(), seed()).unwrap();
    let base = driver.allocate(ROOM).unwrap();
    let of = compile(Box::new(driver));
    let mut memory = Host;
    let mut arena = Arena::new(&mut memory, base, ROOM, 1);
    let zeros = |shape: &[usize]| vec![0.5; shape.iter().product()];
    let ports = of.ports().clone();
    let weights: Vec<_> = ports
        .weights
        .iter()
        .map(|port| arena.put(&zeros(&port.shape), &port.shape, calls::NUMBERS).array())
        .collect();
    let x = [arena.put(&zeros(&[4, 1, 3]), &[4, 1, 3], calls::NUMBERS).array()];
    let tape = arena.plain(of.tape_len());
    let call = Forward { tape: Some(tape.array_mut()), ..Forward::new(4, &weights, &x) };
    of.forward_on(StreamHandle::DEFAULT, call).unwrap();
    let backward = |frames: usize, tape: &calls::Place| {
        of.backward_on(StreamHandle::DEFAULT, Backward::new(frames, &weights, tape.array())).unwrap();
        of.finish()
    };
    backward(4, &tape).unwrap();
    let nothing = arena.plain(of.tape_len());
    for (frames, tape) in [(3, &tape), (4, &nothing)] {
        let error = backward(frames, tape).unwrap_err().to_string();
        assert!(error.contains("the tape of an earlier backward call"), "{error}");
    }
    backward(4, &tape).unwrap();
}

#[test]
fn a_symbol_on_a_tape_beyond_the_last_is_an_error_of_the_next_call_and_is_not_followed() {
    let cases = cases().into_iter().filter(|case| {
        case.graph.inputs().iter().any(|&id| case.graph.layer_at(id).kind == rnnc_graph::LayerKind::Symbol)
    });
    let (mut seen, mut count) = (0, 0);
    for case in cases {
        let mut driver = Emulated::new(devices()[0].clone(), seed()).unwrap();
        let base = driver.allocate(ROOM).unwrap();
        let config = calls::config(&case);
        let of = CudaFunctional::with_driver(calls::plan(&case), config, Box::new(driver)).unwrap();
        let mut memory = Host;
        let mut arena = Arena::new(&mut memory, base, ROOM, case.seed);
        let frames = config.window;
        let port = |place: usize| of.ports().inputs[place].clone();
        let ones = |shape: &[usize]| vec![1.0; shape.iter().product()];
        let shapes = of.ports().weights.iter().map(|port| port.shape.clone());
        let weights: Vec<_> =
            shapes.map(|shape| arena.put(&ones(&shape), &shape, calls::NUMBERS).array()).collect();
        let mut inputs = Vec::new();
        for place in 0..of.ports().inputs.len() {
            let port = port(place);
            let symbols = port.kind == PortKind::Symbols;
            let shape = [frames, config.streams, port.size];
            let (shape, kinds) =
                if symbols { (&shape[..2], calls::SYMBOLS) } else { (&shape[..], calls::NUMBERS) };
            // Of symbols, the last.
            let value = if symbols { port.size as f64 - 1.0 } else { 0.5 };
            inputs.push(arena.put(&vec![value; shape.iter().product()], shape, kinds).array());
        }
        let tape = arena.plain(of.tape_len());
        let call = Forward { tape: Some(tape.array_mut()), ..Forward::new(frames, &weights, &inputs) };
        of.forward_on(StreamHandle::DEFAULT, call).unwrap();
        let backward =
            || of.backward_on(StreamHandle::DEFAULT, Backward::new(frames, &weights, tape.array()));
        backward().unwrap();
        of.finish().unwrap();
        // Each number behind the clock that is the bits of such a symbol becomes one far beyond the last.
        let last =
            |x: f64| of.ports().inputs.iter().any(|port| (x as f32).to_bits() as usize + 1 == port.size);
        let mut numbers = arena.get(&tape);
        let behind = 32 + 2 * frames * config.streams;
        let symbols = numbers[behind..].iter_mut().filter(|x| **x != 0.0 && last(**x));
        symbols.for_each(|x| *x = f64::from(f32::from_bits(0x0fff_ffff)));
        arena.fill(&tape, &numbers);
        backward().unwrap();
        seen += usize::from(of.finish().is_err_and(|e| e.to_string().contains("the tape of an earlier")));
        count += 1;
    }
    assert!(count > 1 && seen > 0, "{seen} of {count}");
}

#[test]
fn a_loop_that_stood_still_is_an_error_of_the_next_call_and_the_call_after_works() {
    let network = rnnc_suite::networks().into_iter().find(|network| network.name == "lstm_peephole").unwrap();
    let case = Case::new("lstm_peephole", (network.build)(5, 17), 2, &[6, 5], 0.1);
    let [_, mut device] = devices();
    device.rates.frame_us = [1e3, 1e3, 0.01];
    // The first loop that runs says that it gave up, as a wait does that does not end.
    let alter: emulation::Alter = Arc::new(|source: &Source| {
        let at = source.text.find("\nLOOP_KERNEL(")?;
        let body = at + source.text[at..].find('{')? + 1;
        let mut text = source.text.clone();
        text.insert_str(
            body,
            " static int runs = 0; if (global_thread() == 0 && runs++ == 0) raise(a.counters, 1u);",
        );
        source.name.contains("forward").then_some(text)
    });
    let mut driver = Emulated::new(device, 1).unwrap().altering(alter);
    let base = driver.allocate(ROOM).unwrap();
    let of = CudaFunctional::with_driver(calls::plan(&case), calls::config(&case), Box::new(driver)).unwrap();
    let mut memory = Host;
    let mut arena = Arena::new(&mut memory, base, ROOM, case.seed);
    let mut check = || calls::check(&case, &of, StreamHandle::DEFAULT, &mut arena, TOLERANCE);
    let error = check().unwrap_err();
    assert!(error.contains("stood still"), "{error}");
    check().unwrap();
}
