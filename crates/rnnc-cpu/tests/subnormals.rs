//! Subnormal numbers are zero within calls of the executor, and only there.

#![cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]

use rnnc_cpu::{CpuExecutor, Session, Speeds};
use rnnc_graph::{Activation, Connect, Graph};
use rnnc_plan::{ExecutionConfig, Executor, OptimizerSettings, Plan, PlanOptions, Update, Values, ValuesMut};
use std::hint::black_box;

/// y = 1e20 x + y[t-1] / 2: what x decays to, made visible.
fn network(units: usize) -> Graph {
    let mut graph = Graph::new("decay");
    let x = graph.input("x", units);
    let h = graph.sum("h", units, Activation::Identity);
    graph.connect(x, h, Connect::identity());
    graph.connect(h, h, Connect::scaled(0.5).delay(1));
    let y = graph.sum("y", units, Activation::Identity);
    graph.connect(h, y, Connect::scaled(1e20));
    graph.output("y", y);
    graph
}

/// Whether subnormal numbers are numbers, on this thread.
fn are_numbers() -> bool {
    black_box(f32::MIN_POSITIVE) / black_box(4.0) > 0.0
}

/// All is shared out among workers.
const NIMBLE: Speeds = Speeds { product: 1.0, other: 1.0, near: 1.0, run: 0.0, step: 0.0, ..Speeds::CORE };

#[test]
fn a_subnormal_input_is_zero_and_so_is_what_decays_to_one() {
    for (threads, units) in [(1, 3), (2, 64), (3, 64)] {
        let plan = Plan::new(&network(units), PlanOptions::training(1, 200)).unwrap();
        let config = ExecutionConfig { threads, ..ExecutionConfig::new(1, 200) };
        let mut executor = CpuExecutor::for_cores(plan, config, NIMBLE).unwrap();
        let mut x = vec![0.0; 200 * units];
        let mut last = |x: &[f32]| {
            executor.clear_state();
            executor.forward(200, &[Values::F32(x)], None).unwrap();
            assert!(are_numbers(), "behind a forward pass");
            let mut y = vec![1.0; 200 * units];
            executor.output(0, ValuesMut::F32(&mut y)).unwrap();
            y[199 * units..].to_vec()
        };
        x[199 * units..].fill(f32::from_bits(1 << 20));
        assert_eq!(last(&x), vec![0.0; units], "{threads} threads: a subnormal input");
        // Halved 126 times, 1 is the least number that is not subnormal.
        x.fill(0.0);
        x[60 * units..61 * units].fill(1.0);
        assert!(last(&x).iter().all(|&y| y == 0.0), "{threads} threads: 1 halved 139 times");
        x.fill(0.0);
        x[90 * units..91 * units].fill(1.0);
        assert!(last(&x).iter().all(|&y| y > 0.0), "{threads} threads: 1 halved 109 times");
    }
}

#[test]
fn after_every_call_the_callers_thread_is_as_it_was() {
    let graph = network(64);
    for threads in [1, 2] {
        let plan = Plan::new(&graph, PlanOptions::training(1, 4)).unwrap();
        let config = ExecutionConfig { threads, ..ExecutionConfig::new(1, 4) };
        let mut executor = CpuExecutor::for_cores(plan, config, NIMBLE).unwrap();
        let (x, mut y) = (vec![1.0; 4 * 64], vec![0.0; 4 * 64]);
        let optimizer = OptimizerSettings::default();
        let update = Update { learning_rate: 1e-3, step: 1, clip_norm: None, optimizer };
        assert!(executor.forward(4, &[], None).is_err());
        assert!(are_numbers(), "a refusal");
        executor.forward(4, &[Values::F32(&x)], None).unwrap();
        assert!(are_numbers(), "forward");
        executor.output(0, ValuesMut::F32(&mut y)).unwrap();
        assert!(executor.output(0, ValuesMut::F32(&mut y[1..])).is_err());
        assert!(are_numbers(), "output");
        executor.backward(4, &[Some(Values::F32(&x))]).unwrap();
        assert!(are_numbers(), "backward");
        executor.update(&update).unwrap();
        assert!(are_numbers(), "update");
        let mut session = Session::new(&graph, 1, threads).unwrap();
        session.step(&[Values::F32(&x[..64])], None).unwrap();
        session.output(0, ValuesMut::F32(&mut y[..64])).unwrap();
        assert!(are_numbers(), "a session");
    }
}
