//! Inputs that are handed in ahead: what the executor asks of a driver, in which order, and where they wait. No kernel runs
//! here; the recorder hands out what was written beside only when it is taken.

use rnnc_cuda::CudaExecutor;
use rnnc_cuda::device::Device;
use rnnc_cuda::driver::{Address, Call, Recorder};
use rnnc_plan::{ExecutionConfig, Executor, ExecutorError, Plan, PlanOptions, Values};
use rnnc_train::{Column, Loss, Sequences, Trainer, TrainingConfig};
use std::sync::{Arc, Mutex};

fn device() -> Device {
    Device::named("h200").unwrap()
}

/// An executor, and the calls of its driver.
fn recorded(text: &str, config: ExecutionConfig) -> (CudaExecutor, Arc<Mutex<Vec<Call>>>) {
    let graph = rnnc_lang::compile("one.rnn", text, Some("one")).unwrap_or_else(|errors| panic!("{errors}"));
    let plan = Plan::new(&graph, PlanOptions::training(config.streams, config.window)).unwrap();
    let (recorder, calls) = Recorder::new(device());
    (CudaExecutor::with_driver(plan, config, Box::new(recorder)).unwrap(), calls)
}

/// The calls since the last look.
fn taken(calls: &Mutex<Vec<Call>>) -> Vec<Call> {
    std::mem::take(&mut calls.lock().unwrap())
}

/// Where inputs wait that were written beside, and their bytes, in the order of the calls.
fn beside(calls: &[Call]) -> Vec<(Address, usize)> {
    let of = |call: &Call| {
        if let Call::WriteBeside { to, bytes } = call { Some((*to, *bytes)) } else { None }
    };
    calls.iter().filter_map(of).collect()
}

/// The same of those that were taken.
fn takes(calls: &[Call]) -> Vec<(Address, usize)> {
    let of = |call: &Call| {
        if let Call::Take { from, bytes, .. } = call { Some((*from, *bytes)) } else { None }
    };
    calls.iter().filter_map(of).collect()
}

#[test]
fn training_writes_the_next_inputs_beside_before_it_waits_and_takes_them_then() {
    let text = "network one { input x: symbol(256) h = lstm(x; 8) y = dense(h; 256) output y }";
    let graph = rnnc_lang::compile("one.rnn", text, Some("one")).unwrap_or_else(|errors| panic!("{errors}"));
    let data = Sequences {
        columns: vec![Column::Bytes((0..100).collect()), Column::NextByte { of: 0 }],
        starts: vec![0],
        loss_mask: None,
        frames: 100,
    };
    let config = TrainingConfig::new(2, 4, Loss::CrossEntropy);
    let (recorder, calls) = Recorder::new(device());
    let recorder = Mutex::new(Some(recorder));
    let make = |plan, config| -> Result<Box<dyn Executor>, ExecutorError> {
        let recorder = recorder.lock().unwrap().take().unwrap();
        Ok(Box::new(CudaExecutor::with_driver(plan, config, Box::new(recorder))?))
    };
    let network = config.loss.of(&graph, None).unwrap();
    let mut trainer = Trainer::new(network, text, data, &config, 1, &make).unwrap();
    taken(&calls);
    trainer.step().unwrap();
    let first = taken(&calls);
    // Symbols and targets, 4 frames of 2 streams of 4 bytes each.
    let waiting = beside(&first);
    assert!(matches!(waiting[..], [(x, 32), (target, 32)] if target >= x + 32), "{waiting:?}");
    assert_eq!(takes(&first), [], "nothing was handed in ahead");

    for _ in 0..2 {
        trainer.step().unwrap();
        let calls = taken(&calls);
        assert_eq!(takes(&calls), waiting, "what the step before handed in");
        assert_eq!(beside(&calls), waiting, "for the next step");
        let all = |is: fn(&Call) -> bool| -> Vec<usize> {
            (0..calls.len()).filter(|&place| is(&calls[place])).collect()
        };
        let replays = all(|call| matches!(call, Call::Replay(_)));
        let [.., forward, backward, update] = replays[..] else { panic!("{calls:?}") };
        let takes = all(|call| matches!(call, Call::Take { .. }));
        let written = all(|call| matches!(call, Call::WriteBeside { .. }));
        let reads = all(|call| matches!(call, Call::Read { .. }));
        assert!(takes.iter().all(|&take| take < forward), "{calls:?}");
        assert!(written.iter().all(|&write| backward < write && write < reads[0]), "{calls:?}");
        assert!(reads[0] < update, "the losses are looked at before the weights change: {calls:?}");
        assert!(!calls.iter().any(|call| matches!(call, Call::Allocate { .. })), "{calls:?}");
        // Before the forward pass, the clock alone is written in the order of all commands.
        let tracker = 16 * 8 + 2 * 4 * (4 * 2);
        let writes = all(|call| matches!(call, Call::Write { .. }));
        let bytes = |&place: &usize| if let Call::Write { bytes, .. } = calls[place] { bytes } else { 0 };
        assert!(bytes(&writes[0]) == tracker && takes[0] > writes[0] && writes[1] > forward, "{calls:?}");
    }

    // The memory where inputs wait lives as long as the executor.
    let Some(&Call::Allocate { address, bytes }) =
        first.iter().find(|call| matches!(call, Call::Allocate { .. }))
    else {
        panic!("{first:?}")
    };
    assert!(waiting[0].0 == address && waiting[1].0 + 32 <= address + bytes as u64);
    drop(trainer);
    let frees = taken(&calls).into_iter().filter(|call| *call == Call::Free { address }).count();
    assert_eq!(frees, 1);
}

#[test]
fn what_was_handed_in_ahead_last_is_taken_if_it_is_asked_for_and_dropped_if_not() {
    let text = "network one { input x: vector(2) input s: symbol(5) y = dense(x[t-3], s[t-3]; 3) output y }";
    let config = ExecutionConfig::new(3, 4);
    let (mut executor, calls) = recorded(text, config);
    let numbers =
        |first: usize, rows: usize| -> Vec<f32> { (first..first + 2 * rows).map(|i| i as f32).collect() };
    let symbols = |first: u32, rows: u32| -> Vec<u32> { (first..first + rows).map(|i| i % 5).collect() };
    let (x, s) = (numbers(0, 12), symbols(0, 12));
    let (other_x, short_x, short_s) = (numbers(7, 12), numbers(0, 6), symbols(0, 6));
    let [f32s, other, short] = [&x, &other_x, &short_x].map(|numbers| Values::F32(numbers));
    let doubles: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
    let (f64s, s, short_s) = (Values::F64(&doubles), Values::Symbols(&s), Values::Symbols(&short_s));
    // What is handed in ahead, whether the last of it is asked for, what runs, and how many bytes are taken.
    type Window<'a> = (usize, [Values<'a>; 2]);
    let rounds: [(&[Window<'_>], bool, Window<'_>, &[usize]); 8] = [
        (&[], false, (4, [f32s, s]), &[]),
        (&[(4, [f32s, s])], true, (4, [f32s, s]), &[96, 48]),
        (&[], false, (4, [f32s, s]), &[]),
        (&[(4, [other, s])], false, (4, [f32s, s]), &[]),
        (&[(4, [other, s]), (4, [f32s, s])], true, (4, [f32s, s]), &[96, 48]),
        (&[(4, [f32s, s]), (2, [short, short_s])], true, (2, [short, short_s]), &[48, 24]),
        (&[(4, [f32s, s])], false, (2, [short, short_s]), &[]),
        (&[(4, [other, s])], true, (4, [other, s]), &[96, 48]),
    ];
    let mut plain = recorded(text, config).0;
    for (round, (ahead, asked_for, (frames, inputs), expected)) in rounds.into_iter().enumerate() {
        for (frames, inputs) in ahead {
            assert!(executor.prefetch(*frames, inputs).unwrap());
        }
        taken(&calls);
        match asked_for {
            true => executor.forward_prefetched(None).unwrap(),
            false => executor.forward(frames, &inputs, None).unwrap(),
        }
        plain.forward(frames, &inputs, None).unwrap();
        let calls = taken(&calls);
        let bytes: Vec<usize> = takes(&calls).into_iter().map(|(_, bytes)| bytes).collect();
        assert_eq!(bytes, expected, "round {round}");
        // The last 3 frames of both inputs are part of the state.
        assert_eq!(executor.state().unwrap(), plain.state().unwrap(), "round {round}");
        let again = executor.forward_prefetched(None);
        assert!(matches!(again, Err(ExecutorError::Order(_))), "round {round}: nothing waits any more");
    }
    // Double precision has to be converted: a forward call does that.
    assert!(executor.prefetch(4, &[f32s, s]).unwrap());
    assert!(!executor.prefetch(4, &[f64s, s]).unwrap());
    assert!(executor.forward_prefetched(None).is_err(), "what waited was dropped");
    // What is refused changes nothing.
    assert!(executor.prefetch(4, &[f32s, s]).unwrap());
    assert!(executor.prefetch(4, &[f32s, short_s]).is_err());
    assert!(executor.forward(4, &[short, s], None).is_err());
    assert!(executor.forward_prefetched(Some(&[false; 5])).is_err());
    taken(&calls);
    executor.forward_prefetched(Some(&[false; 12])).unwrap();
    assert_eq!(takes(&taken(&calls)).len(), 2);
}

#[test]
fn inputs_that_lie_between_other_columns_are_left_to_the_forward_call() {
    // Two inputs of one product lie side by side.
    let text = "network one { input x: vector(2) input y: vector(3) z = dense(x, y; 4) output z }";
    let (mut executor, calls) = recorded(text, ExecutionConfig::new(2, 4));
    let (x, y) = ([0.0; 16], [0.0; 24]);
    let brings = executor.prefetch(4, &[Values::F32(&x), Values::F32(&y)]).unwrap();
    let calls = taken(&calls);
    assert_eq!(brings, !beside(&calls).is_empty(), "all of them or none: {calls:?}");
    assert_eq!(executor.forward_prefetched(None).is_ok(), brings);
}

#[test]
fn inputs_wait_in_memory_that_is_taken_with_the_first_and_is_as_large_as_they_are() {
    let text = "network one { input x: vector(3) h = lstm(x; 8) output h }";
    let (mut executor, calls) = recorded(text, ExecutionConfig::new(2, 4));
    let allocated = || -> Vec<usize> {
        let of = |call| if let Call::Allocate { bytes, .. } = call { Some(bytes) } else { None };
        taken(&calls).into_iter().filter_map(of).collect()
    };
    allocated();
    executor.forward(4, &[Values::F32(&[0.0; 24])], None).unwrap();
    assert_eq!(allocated(), [] as [usize; 0]);
    for frames in [1, 4] {
        executor.prefetch(frames, &[Values::F32(&vec![0.0; frames * 6])]).unwrap();
        executor.forward(4, &[Values::F32(&[0.0; 24])], None).unwrap();
    }
    let sizes = allocated();
    assert!(matches!(sizes[..], [bytes] if (4 * 24..4 * 24 + 256).contains(&bytes)), "{sizes:?}");
}
