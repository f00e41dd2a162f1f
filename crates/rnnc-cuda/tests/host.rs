//! What the executor asks of a driver: the order of calls, their sizes, and how long memory lives. No kernel runs here;
//! the recorder checks every range that is used against what is allocated.

use rnnc_cuda::compile::compile;
use rnnc_cuda::device::Device;
use rnnc_cuda::driver::{Address, Args, Call, Product, Recorder};
use rnnc_cuda::program::{Command, Job, Program, Work, commands};
use rnnc_cuda::{CudaExecutor, Timed, Times, Timing};
use rnnc_graph::{LayerKind, WeightId};
use rnnc_plan::{
    ExecutionConfig, Executor, ExecutorError, Optimizer, OptimizerSettings, ParameterArray, Plan,
    PlanOptions, Update, Values, ValuesMut,
};
use rnnc_suite::cases;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// One of Adam's.
fn update() -> Update {
    Update { learning_rate: 0.1, step: 1, clip_norm: None, optimizer: OptimizerSettings::default() }
}

fn device() -> Device {
    Device::named("h200").unwrap()
}

fn plan(text: &str, config: ExecutionConfig) -> Plan {
    let graph = rnnc_lang::compile("one.rnn", text, Some("one")).unwrap_or_else(|errors| panic!("{errors}"));
    Plan::new(&graph, PlanOptions::training(config.streams, config.window).with_input_gradients()).unwrap()
}

/// An executor, the program it runs, and the calls of its driver.
fn recorded(text: &str, config: ExecutionConfig) -> (CudaExecutor, Program, Arc<Mutex<Vec<Call>>>) {
    let plan = plan(text, config);
    let program = compile(&plan, config, &device()).unwrap();
    let (recorder, calls) = Recorder::new(device());
    (CudaExecutor::with_driver(plan, config, Box::new(recorder)).unwrap(), program, calls)
}

/// The calls since the last look.
fn taken(calls: &Mutex<Vec<Call>>) -> Vec<Call> {
    std::mem::take(&mut calls.lock().unwrap())
}

const LSTM: &str = "network one { input x: vector(3) h = lstm(x; 8) y = dense(h; 5) output y }";

fn lstm() -> (CudaExecutor, Program, Arc<Mutex<Vec<Call>>>) {
    recorded(LSTM, ExecutionConfig::new(2, 4))
}

/// What a recording holds of what a program says for it, in words that both have.
#[derive(Debug, PartialEq)]
enum Step {
    Kernel(String),
    Product([usize; 3]),
    Clear(usize),
}

fn expected(program: &Program, jobs: &[Job], rows: usize) -> Vec<Step> {
    let step = |command: &Command| match command {
        Command::Kernel(launch) => {
            Some(Step::Kernel(program.sources[launch.source].kernels[launch.kernel].clone()))
        }
        Command::Product(p) => Some(Step::Product([p.m.unwrap_or(rows), p.n, p.k.unwrap_or(rows)])),
        Command::Clear { len, .. } => (*len > 0).then_some(Step::Clear(4 * len)),
    };
    commands(jobs).filter_map(step).collect()
}

fn found(calls: &[Call]) -> Vec<Step> {
    let step = |call: &Call| match call {
        Call::Launch { kernel, .. } => Some(Step::Kernel(kernel.clone())),
        Call::Product(Product { m, n, k, .. }) => Some(Step::Product([*m, *n, *k])),
        Call::Clear { bytes, .. } => Some(Step::Clear(*bytes)),
        _ => None,
    };
    calls.iter().filter_map(step).collect()
}

/// The recordings among some calls, each without its beginning and end.
fn recordings(calls: &[Call]) -> Vec<&[Call]> {
    let begins = calls.iter().enumerate().filter(|(_, call)| matches!(call, Call::BeginRecording { .. }));
    let ends = calls.iter().enumerate().filter(|(_, call)| matches!(call, Call::EndRecording(_)));
    begins.zip(ends).map(|((begin, _), (end, _))| &calls[begin + 1..end]).collect()
}

fn launches(calls: &[Call]) -> impl Iterator<Item = &Args> {
    calls.iter().filter_map(|call| if let Call::Launch { args, .. } = call { Some(args) } else { None })
}

/// Sizes of what was allocated.
fn allocated(calls: &[Call]) -> HashMap<Address, usize> {
    let of = |call: &Call| {
        if let Call::Allocate { address, bytes } = call { Some((*address, *bytes)) } else { None }
    };
    calls.iter().filter_map(of).collect()
}

#[test]
fn memory_is_as_large_as_the_program_says_and_all_of_it_is_reachable() {
    let (mut executor, program, calls) = lstm();
    let sizes = allocated(&taken(&calls));
    executor.forward(4, &[Values::F32(&[0.0; 24])], None).unwrap();
    let calls = taken(&calls);
    let args = launches(&calls).next().unwrap();
    let regions = program.regions;
    let bytes = |address: Address| sizes[&address];
    assert_eq!(bytes(args.values), 4 * regions.values);
    assert_eq!(
        [args.weights, args.gradients, args.slots].map(bytes),
        [1, 1, 2].map(|n| 4 * n * regions.weights)
    );
    assert!(bytes(args.scratch) >= 4 * regions.scratch.max(2));
    assert_eq!(bytes(args.counters), 4 * regions.counters);
    // The run's 16 numbers of 8 bytes, then steps since reset and frames ahead, [window, streams] each.
    assert_eq!(bytes(args.run), 16 * 8 + 2 * 4 * (4 * 2));
    assert_eq!((args.since_reset, args.ahead), (args.run + 16 * 8, args.run + 16 * 8 + 4 * (4 * 2)));
    assert_eq!(sizes.len(), 7, "nothing else is allocated");
}

#[test]
fn weights_that_others_give_have_gradients_and_no_slots() {
    const TEXT: &str = "network one { input x: vector(32) p = param(32) y = x * exp(-exp(p)) output y }";
    let (mut executor, _, calls) = recorded(TEXT, ExecutionConfig::new(2, 4));
    let sizes = allocated(&taken(&calls));
    executor.forward(4, &[Values::F32(&[0.0; 256])], None).unwrap();
    let calls = taken(&calls);
    let args = launches(&calls).next().unwrap();
    let weights = &executor.plan().weights;
    assert!(weights.len() < weights.total());
    assert_eq!(sizes[&args.slots], 2 * 4 * weights.len());
    assert_eq!(sizes[&args.gradients], 4 * weights.total());
}

#[test]
fn gradients_of_the_state_stay_on_the_device_until_they_are_asked_for() {
    let config = ExecutionConfig::new(2, 4);
    let graph = rnnc_lang::compile("one.rnn", LSTM, None).unwrap_or_else(|errors| panic!("{errors}"));
    let plan = Plan::new(&graph, PlanOptions::training(2, 4).with_state_gradients()).unwrap();
    let (recorder, calls) = Recorder::new(device());
    let mut executor = CudaExecutor::with_driver(plan, config, Box::new(recorder)).unwrap();
    let left = [0.5; 2 * 8];
    let errors = [None];
    for repeat in 0..2 {
        executor.forward(4, &[Values::F32(&[0.0; 24])], None).unwrap();
        taken(&calls);
        executor.backward_from(4, &errors, &[Some(Values::F32(&left)), None]).unwrap();
        let calls = taken(&calls);
        assert!(!calls.iter().any(|call| matches!(call, Call::Read { .. } | Call::Synchronize)), "{calls:?}");
        let recorded = calls.iter().any(|call| matches!(call, Call::BeginRecording { .. }));
        assert_eq!(recorded, repeat == 0, "what was recorded is replayed");
    }
    let mut gradient = [0.0; 2 * 8];
    executor.state_gradient(0, ValuesMut::F32(&mut gradient)).unwrap();
    assert!(executor.state_gradient(2, ValuesMut::F32(&mut gradient)).is_err());
}

#[test]
fn recordings_of_many_lengths_are_forgotten_those_first_that_were_used_least_lately() {
    let (mut executor, _, calls) = recorded(LSTM, ExecutionConfig::new(1, 200));
    let mut forward = |frames: usize| {
        executor.forward(frames, &[Values::F32(&vec![0.0; 3 * frames])], None).unwrap();
        let calls = taken(&calls);
        let count = |such: fn(&Call) -> bool| calls.iter().filter(|call| such(call)).count() as i64;
        let made = count(|call| matches!(call, Call::BeginRecording { .. }));
        (made, count(|call| matches!(call, Call::Forget(_))))
    };
    let mut alive = 0;
    for frames in 1..=200 {
        let (made, forgotten) = forward(frames);
        alive += made - forgotten;
        assert!(alive <= 64, "{alive} recordings");
        // One that is used again and again stays.
        assert_eq!(forward(1), (0, 0));
    }
    assert_eq!(forward(200), (0, 0));
    assert!(forward(2).0 > 0, "it was forgotten");
}

#[test]
fn a_forward_call_writes_the_clock_and_inputs_before_it_runs() {
    let (mut executor, _, calls) = lstm();
    taken(&calls);
    // So that everything is recorded.
    executor.forward(3, &[Values::F32(&[0.0; 18])], None).unwrap();
    taken(&calls);
    executor.forward(3, &[Values::F32(&[0.0; 18])], None).unwrap();
    let calls = taken(&calls);
    let [
        Call::Replay(moved),
        Call::Write { bytes: tracker, .. },
        Call::Write { bytes: inputs, .. },
        Call::Replay(run),
    ] = calls[..]
    else {
        panic!("{calls:?}")
    };
    assert_ne!(moved, run);
    // 3 frames of 2 streams of 3 numbers.
    assert_eq!((tracker, inputs), (16 * 8 + 2 * 4 * (4 * 2), 3 * 2 * 3 * 4));
}

#[test]
fn recordings_hold_the_commands_of_the_program_in_its_order() {
    let (mut executor, program, calls) = lstm();
    taken(&calls);
    for frames in [4, 3] {
        let rows = 2 * frames;
        executor.forward(frames, &[Values::F32(&vec![0.0; rows * 3])], None).unwrap();
        let forward = taken(&calls);
        let run = *recordings(&forward).last().unwrap();
        assert_eq!(found(run), expected(&program, &program.forward, rows));
        assert!(launches(run).all(|args| (args.first, args.end) == (4 - frames as i32, 4)));

        executor.backward(frames, &[Some(Values::F32(&vec![0.0; rows * 5]))]).unwrap();
        let backward = taken(&calls);
        let run = recordings(&backward)[0];
        assert_eq!(found(run), expected(&program, &program.backward, rows));
        assert!(launches(run).all(|args| (args.first, args.end) == (4 - frames as i32, 4)));
    }
    executor.update(&update()).unwrap();
    let update = taken(&calls);
    assert_eq!(found(recordings(&update)[0]), expected(&program, &program.update, 0));
    // The norm is read after the update ran.
    let ran = update.iter().position(|call| matches!(call, Call::Replay(_))).unwrap();
    assert!(update[ran..].iter().any(|call| matches!(call, Call::Read { bytes: 8, .. })), "{update:?}");
}

#[test]
fn launches_have_the_geometry_that_the_program_asks_for() {
    let (mut executor, program, calls) = lstm();
    taken(&calls);
    executor.forward(4, &[Values::F32(&[0.0; 24])], None).unwrap();
    let calls = taken(&calls);
    let mut grids = 0;
    for command in commands(&program.forward) {
        let Command::Kernel(launch) = command else { continue };
        let name = &program.sources[launch.source].kernels[launch.kernel];
        let geometry = calls
            .iter()
            .find_map(|call| match call {
                Call::Launch { kernel, geometry, .. } if kernel == name => Some(*geometry),
                _ => None,
            })
            .unwrap();
        match launch.work {
            Work::Grid(wanted) => {
                grids += 1;
                assert_eq!(geometry, wanted, "{name}");
            }
            Work::Elements { per_row, fixed } => {
                assert!(geometry.blocks * geometry.threads >= per_row * 8 + fixed, "{name}: {geometry:?}");
            }
            Work::Items { threads, shared_bytes, .. } => {
                assert_eq!((geometry.threads, geometry.shared_bytes), (threads, shared_bytes), "{name}");
            }
        }
    }
    assert_eq!(grids, 1, "the loop of the LSTM");
}

#[test]
fn after_the_first_window_nothing_is_allocated_compiled_or_recorded() {
    let (mut executor, _, calls) = lstm();
    let window = |executor: &mut CudaExecutor| {
        if executor.forward_prefetched(None).is_err() {
            executor.forward(4, &[Values::F32(&[0.0; 24])], None).unwrap();
        }
        executor.output(0, ValuesMut::F32(&mut [0.0; 40])).unwrap();
        executor.backward(4, &[Some(Values::F32(&[0.0; 40]))]).unwrap();
        executor.prefetch(4, &[Values::F32(&[0.0; 24])]).unwrap();
        executor.input_gradient(0, ValuesMut::F32(&mut [0.0; 24])).unwrap();
        executor.update(&update()).unwrap();
        taken(&calls)
    };
    let first = window(&mut executor);
    for call in ["Allocate", "Load", "BeginRecording"] {
        assert!(first.iter().any(|c| format!("{c:?}").starts_with(call)), "{call} is not seen at all");
    }
    let second = window(&mut executor);
    assert_eq!(second, window(&mut executor));
    let known = |call: &Call| {
        matches!(
            call,
            Call::Write { .. }
                | Call::WriteBeside { .. }
                | Call::Take { .. }
                | Call::Read { .. }
                | Call::Clear { .. }
                | Call::Replay(_)
        )
    };
    assert!(second.iter().all(known), "{second:?}");
}

#[test]
fn what_was_allocated_is_freed_once_when_all_work_is_done() {
    let (mut executor, _, calls) = lstm();
    executor.forward(4, &[Values::F32(&[0.0; 24])], None).unwrap();
    executor.prefetch(4, &[Values::F32(&[0.0; 24])]).unwrap();
    let mut live = allocated(&taken(&calls));
    drop(executor);
    let last = taken(&calls);
    assert_eq!(last[0], Call::Synchronize);
    for call in &last[1..] {
        let Call::Free { address } = call else { panic!("{call:?} between frees") };
        assert!(live.remove(address).is_some(), "{address:#x} is freed twice, or was never allocated");
    }
    assert!(live.is_empty(), "never freed: {live:?}");
}

#[test]
fn histories_move_on_by_whatever_comes_and_hold_the_newest_frames() {
    let text = "network one { input x: vector(2) y = dense(x[t-5]; 3) output y }";
    let (mut executor, _, calls) = recorded(text, ExecutionConfig::new(3, 4));
    taken(&calls);
    let mut all: Vec<f32> = Vec::new();
    // More frames than are kept, fewer, and one at a time: what is moved overlaps, or not.
    for frames in [4, 1, 1, 3, 2, 1, 4, 4, 1] {
        let new: Vec<f32> = (0..frames * 6).map(|i| (all.len() + i) as f32).collect();
        all.extend(&new);
        executor.forward(frames, &[Values::F32(&new)], None).unwrap();
        let state = executor.state().unwrap();
        let history = &state.histories[0];
        assert_eq!((history.depth, history.size), (5, 2));
        let newest: Vec<f64> = all.iter().rev().take(5 * 6).rev().map(|&v| f64::from(v)).collect();
        // Before the first frames stands what memory began with.
        let missing = 5 * 6 - newest.len();
        assert_eq!(history.values[missing..], newest[..], "after {frames} more frames");
        assert!(history.values[..missing].iter().all(|&v| v == 0.0));
    }
}

#[test]
fn a_state_handed_to_another_executor_lies_where_the_first_had_it() {
    let text = "network one { input x: vector(2) y = dense(x[t-5]; 3) output y }";
    let config = ExecutionConfig::new(3, 4);
    let (mut one, _, _) = recorded(text, config);
    let (mut other, _, _) = recorded(text, config);
    for part in 0..3 {
        let new: Vec<f32> = (0..4 * 6).map(|i| (part * 100 + i) as f32).collect();
        one.forward(4, &[Values::F32(&new)], None).unwrap();
    }
    let state = one.state().unwrap();
    other.set_state(&state).unwrap();
    assert_eq!(other.state().unwrap(), state);
    for executor in [&mut one, &mut other] {
        executor.forward(1, &[Values::F32(&[7.0; 6])], None).unwrap();
    }
    assert_eq!(one.state().unwrap(), other.state().unwrap());
}

#[test]
fn weights_are_read_back_as_they_were_written_whatever_their_layout() {
    let (mut executor, _, _) = lstm();
    let count = executor.plan().forward.weights().len();
    let weights: Vec<_> = (0..count).map(WeightId::from_index).collect();
    let numbers =
        |of: usize, len: usize| -> Vec<f32> { (0..len).map(|i| (of * 10_000 + i) as f32).collect() };
    let lens: Vec<usize> =
        weights.iter().map(|&w| executor.plan().weights.view(w).places().count()).collect();
    for part in ParameterArray::trained(Optimizer::Adam).chain([ParameterArray::Gradient]) {
        for (of, (&weight, &len)) in weights.iter().zip(&lens).enumerate() {
            executor.write(part, weight, Values::F32(&numbers(of, len))).unwrap();
        }
        for (of, (&weight, &len)) in weights.iter().zip(&lens).enumerate() {
            let mut back = vec![0.0; len];
            executor.read(part, weight, ValuesMut::F32(&mut back)).unwrap();
            assert_eq!(back, numbers(of, len));
        }
    }
}

#[test]
fn what_does_not_fit_is_refused_before_anything_is_taken() {
    let config = ExecutionConfig::new(2, 4);
    let (recorder, calls) = Recorder::new(Device { memory_bytes: 1000, ..device() });
    let refused = CudaExecutor::with_driver(plan(LSTM, config), config, Box::new(recorder)).err();
    assert!(matches!(refused, Some(ExecutorError::Memory { available: 1000, .. })), "{refused:?}");
    assert_eq!(taken(&calls), []);
}

#[test]
fn no_case_of_the_suite_uses_memory_outside_of_what_is_allocated() {
    for case in cases() {
        let wrong = |error: ExecutorError| -> () { panic!("{}: {error}", case.name) };
        let (recorder, _) = Recorder::new(device());
        let plan = case.plan().unwrap();
        let graph = plan.forward.clone();
        let mut executor = match CudaExecutor::with_driver(plan, case.config(), Box::new(recorder)) {
            Ok(executor) => executor,
            Err(error) => panic!("{}: {error}", case.name),
        };
        for &frames in &case.windows {
            let rows = frames * case.streams;
            let (numbers, symbols) = (vec![0.5f32; rows * 1000], vec![0u32; rows]);
            let inputs: Vec<Values<'_>> = graph
                .inputs()
                .iter()
                .map(|&id| match graph.layer_at(id) {
                    layer if layer.kind == LayerKind::Symbol => Values::Symbols(&symbols),
                    layer => Values::F32(&numbers[..rows * layer.size]),
                })
                .collect();
            executor.forward(frames, &inputs, None).unwrap_or_else(wrong);
            let outputs: Vec<Option<Values<'_>>> = graph
                .outputs()
                .iter()
                .map(|output| Some(Values::F32(&numbers[..rows * graph.layer_at(output.layer).size])))
                .collect();
            executor.backward(frames, &outputs).unwrap_or_else(wrong);
            executor.update(&update()).map(drop).unwrap_or_else(wrong);
        }
        executor.state().map(drop).unwrap_or_else(wrong);
    }
}

#[test]
fn a_repeated_forward_call_runs_with_nothing_between_and_leaves_no_state() {
    let (mut executor, _, calls) = lstm();
    assert!(executor.repeat_forward(3).is_err(), "nothing to repeat");
    executor.forward(2, &[Values::F32(&[0.0; 12])], None).unwrap();
    executor.finish().unwrap();
    taken(&calls);
    assert!(executor.repeat_forward(3).unwrap() >= 0.0);
    let calls = taken(&calls);
    let stamps: Vec<_> = (0..calls.len()).filter(|&i| matches!(calls[i], Call::Stamp(_))).collect();
    let [from, to] = stamps[..] else { panic!("{calls:?}") };
    assert!(calls[from + 1..to].iter().all(|call| matches!(call, Call::Replay(_))));
    assert_eq!(to - from - 1, 3 * 2, "older frames moved on, and the pass");
    assert!(executor.output(0, ValuesMut::F32(&mut [0.0; 20])).is_err());
}

#[test]
fn passes_are_timed_between_timestamps_on_both_sides_and_commands_between_those_in_the_recording() {
    let (mut executor, program, calls) = lstm();
    let run = |executor: &mut CudaExecutor| {
        executor.forward(4, &[Values::F32(&[0.0; 24])], None).unwrap();
        executor.backward(4, &[Some(Values::F32(&[0.0; 40]))]).unwrap();
        executor.times().unwrap()
    };
    assert_eq!(run(&mut executor), Times::default(), "nothing is timed unless it is asked for");
    assert!(!taken(&calls).iter().any(|call| matches!(call, Call::Stamp(_))));

    executor.set_timing(Timing::Passes);
    let names = |timed: &[Timed]| timed.iter().map(|t| t.what.clone()).collect::<Vec<_>>();
    for _ in 0..2 {
        taken(&calls);
        let times = run(&mut executor);
        assert_eq!(names(&times.forward), ["older frames, moved on", "the forward pass"]);
        assert_eq!(names(&times.backward), ["the backward pass"]);
        assert!(times.update.is_empty());
        let calls = taken(&calls);
        for (place, _) in calls.iter().enumerate().filter(|(_, call)| matches!(call, Call::Replay(_))) {
            let around = &calls[place - 1..=place + 1];
            assert!(matches!(around, [Call::Stamp(from), _, Call::Stamp(to)] if from != to), "{around:?}");
        }
        assert!(recordings(&calls).iter().all(|r| !r.iter().any(|call| matches!(call, Call::Stamp(_)))));
    }

    executor.set_timing(Timing::Commands);
    taken(&calls);
    let times = run(&mut executor);
    let timed_commands =
        |timed: &[Timed]| timed.iter().filter(|t| t.what != "older frames, moved on").count();
    assert_eq!(timed_commands(&times.forward), commands(&program.forward).count());
    assert_eq!(timed_commands(&times.backward), commands(&program.backward).count());
    assert!(times.forward.iter().chain(&times.backward).all(|t| t.us >= 0.0));
    for recording in recordings(&taken(&calls)) {
        let stamps = recording.iter().filter(|call| matches!(call, Call::Stamp(_))).count();
        assert!(matches!(recording, [Call::Stamp(_), .., Call::Stamp(_)]) && stamps > 1);
    }
    let words = names(&times.forward);
    assert!(
        words.iter().any(|what| what.starts_with("stage 1: product of 8 x 3 and 3 x 32 numbers")),
        "{words:?}"
    );
}
