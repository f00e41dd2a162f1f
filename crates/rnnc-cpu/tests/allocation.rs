//! Once the first window has run, no call allocates. (`session.rs` says it of sessions.)

mod counting;

use counting::{COUNT, least, network};
use rnnc_cpu::CpuExecutor;
use rnnc_plan::{ExecutionConfig, Executor, OptimizerSettings, Plan, PlanOptions, Update, Values, ValuesMut};
use std::sync::atomic::Ordering;

/// The allocations of each of some windows.
fn allocations(frames: usize, threads: usize) -> Vec<usize> {
    let plan = Plan::new(&network(), PlanOptions::training(1, frames)).unwrap();
    let mut executor =
        CpuExecutor::new(plan, ExecutionConfig { threads, ..ExecutionConfig::new(1, frames) }).unwrap();
    let (x, s) = (vec![0.1; 5 * frames], vec![3; frames]);
    let (mut y, errors) = (vec![0.0; 40 * frames], vec![0.5; 40 * frames]);
    let optimizer = OptimizerSettings::default();
    let update = Update { learning_rate: 1e-3, step: 1, clip_norm: Some(1.0), optimizer };
    let mut window = || {
        let before = COUNT.load(Ordering::Relaxed);
        executor.forward(frames, &[Values::F32(&x), Values::Symbols(&s)], None).unwrap();
        executor.output(0, ValuesMut::F32(&mut y)).unwrap();
        executor.backward(frames, &[Some(Values::F32(&errors))]).unwrap();
        executor.update(&update).unwrap();
        COUNT.load(Ordering::Relaxed) - before
    };
    (0..5).map(|_| window()).collect()
}

// One test, since the count is of the whole process.
#[test]
fn no_window_after_the_first_allocates() {
    for (frames, threads) in [(2, 1), (2, 2), (64, 1), (64, 2)] {
        assert_eq!(least(|| allocations(frames, threads))[1..], [0; 4], "{frames} frames, {threads} threads");
    }
}
