//! One plan made ready, many runs: several forward calls before their backward calls, from several threads, and in a fork.

#[cfg(unix)]
mod forked;

#[cfg(unix)]
use forked::forked;
use rnnc_cpu::team::TeamHandle;
use rnnc_cpu::{Compiled, CpuExecutor, Run};
use rnnc_graph::{Activation, Connect, Graph, WeightId};
use rnnc_plan::{ExecutionConfig, Executor, Plan, PlanOptions, Values, ValuesMut};
use rnnc_suite::{Case, networks};
use rnnc_verify::{Trial, Window, write_weights};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A network whose loops are shared out, and what it is to run.
fn case() -> Case {
    let network = *networks().iter().find(|network| network.usual).unwrap();
    let graph: Graph = (network.build)(17, 64);
    Case::new("runs", graph, 4, &[20; 6], 0.05)
}

fn compiled(case: &Case, threads: usize) -> Arc<Compiled> {
    let options =
        PlanOptions::training(case.streams, case.window).with_input_gradients().with_state_gradients();
    let plan = Plan::new(&case.graph, options).unwrap();
    Compiled::new(plan, ExecutionConfig { threads, ..case.config() }).unwrap()
}

fn begin(compiled: &Arc<Compiled>, trial: &Trial<'_>) -> Run {
    let mut run = Run::new(compiled);
    for (id, values) in trial.weights.iter().enumerate() {
        run.write(WeightId::from_index(id), Values::F32(values)).unwrap();
    }
    run
}

fn forward(run: &mut Run, window: &Window) {
    run.forward(window.frames, &window.inputs(), window.resets.as_deref()).unwrap();
}

/// The bits of the outputs, and of the gradients of all weights.
fn backward(run: &mut Run, window: &Window) -> Vec<u32> {
    let errors: Vec<_> = window.output_gradients.iter().map(|g| g.as_deref().map(Values::F32)).collect();
    run.backward(window.frames, &errors, &[]).unwrap();
    let mut bits = Vec::new();
    let (plan, streams) = (run.compiled().plan(), run.compiled().config().streams);
    for (place, output) in plan.forward.outputs().iter().enumerate() {
        let mut values = vec![0.0f32; window.frames * streams * plan.forward.layer_at(output.layer).size];
        run.output(place, ValuesMut::F32(&mut values)).unwrap();
        bits.extend(values.into_iter().map(f32::to_bits));
    }
    for (id, weight) in plan.forward.weights().iter().enumerate() {
        let mut values = vec![0.0f32; weight.len()];
        run.gradient(WeightId::from_index(id), ValuesMut::F32(&mut values)).unwrap();
        bits.extend(values.into_iter().map(f32::to_bits));
    }
    bits
}

fn one_by_one(compiled: &Arc<Compiled>, trial: &Trial<'_>) -> Vec<Vec<u32>> {
    let all = |window: &Window| {
        let mut run = begin(compiled, trial);
        forward(&mut run, window);
        backward(&mut run, window)
    };
    trial.windows.iter().map(all).collect()
}

#[test]
fn forward_calls_wait_for_their_backward_calls_each_with_its_own_run() {
    let case = case();
    let trial = case.trial().unwrap();
    for threads in [1, 2] {
        let compiled = compiled(&case, threads);
        let expected = one_by_one(&compiled, &trial);
        let mut runs: Vec<Run> = trial.windows.iter().map(|_| begin(&compiled, &trial)).collect();
        runs.iter_mut().zip(&trial.windows).for_each(|(run, window)| forward(run, window));
        let mut found: Vec<Vec<u32>> =
            runs.iter_mut().zip(&trial.windows).rev().map(|(run, window)| backward(run, window)).collect();
        found.reverse();
        assert!(found == expected, "{threads} threads");
    }
}

#[test]
fn threads_run_one_plan_at_a_time_with_several_runs_to_the_same_bits() {
    let case = case();
    let trial = case.trial().unwrap();
    let compiled = compiled(&case, 2);
    let expected = one_by_one(&compiled, &trial);
    std::thread::scope(|scope| {
        for (window, expected) in trial.windows.iter().zip(&expected) {
            let (compiled, trial) = (&compiled, &trial);
            scope.spawn(move || {
                let mut run = begin(compiled, trial);
                for _ in 0..20 {
                    run.clear();
                    forward(&mut run, window);
                    assert!(backward(&mut run, window) == *expected);
                }
            });
        }
    });
}

#[test]
fn a_run_is_what_an_executor_runs() {
    let case = case();
    let trial = case.trial().unwrap();
    let (compiled, window) = (compiled(&case, 2), &trial.windows[0]);
    let mut run = begin(&compiled, &trial);
    forward(&mut run, window);
    let found = backward(&mut run, window);
    let mut executor =
        CpuExecutor::new(case.plan().unwrap(), ExecutionConfig { threads: 2, ..case.config() }).unwrap();
    write_weights(&mut executor, &trial.weights).unwrap();
    window.forward(&mut executor).unwrap();
    let size = case.graph.layer_at(case.graph.outputs()[0].layer).size;
    let mut output = vec![0.0f32; window.frames * case.streams * size];
    executor.output(0, ValuesMut::F32(&mut output)).unwrap();
    let output: Vec<u32> = output.into_iter().map(f32::to_bits).collect();
    assert!(found[..output.len()] == output);
}

#[cfg(unix)]
#[test]
fn a_forked_process_goes_on_without_the_teams_threads() {
    let case = case();
    let trial = case.trial().unwrap();
    let compiled = compiled(&case, 2);
    let mut run = begin(&compiled, &trial);
    forward(&mut run, &trial.windows[0]);
    let expected = backward(&mut run, &trial.windows[0]);
    let child = forked(|| {
        run.clear();
        forward(&mut run, &trial.windows[0]);
        let same = backward(&mut run, &trial.windows[0]) == expected;
        drop(run);
        drop(compiled);
        same
    });
    assert_eq!(child, (true, 0));
}

#[cfg(unix)]
#[test]
#[allow(unsafe_code)] // an alarm
fn a_process_forked_while_another_thread_makes_teams_makes_its_own() {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                TeamHandle::of(2).unwrap();
            }
        });
        for _ in 0..60 {
            let child = forked(|| {
                // SAFETY: if the child waited for ever, the alarm would end it.
                unsafe { libc::alarm(20) };
                TeamHandle::of(2).is_ok_and(|team| team.size() == 2)
            });
            if child != (true, 0) {
                done.store(true, Ordering::Relaxed);
                panic!("the forked process ended with {}", child.1);
            }
        }
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn gradients_of_the_state_need_no_weights_and_are_0_where_only_reads_without_a_gradient_go() {
    let mut graph = Graph::new("stopped");
    let x = graph.input("x", 1);
    let h = graph.sum("h", 1, Activation::Identity);
    let y = graph.sum("y", 1, Activation::Identity);
    graph.connect(x, h, Connect::identity());
    graph.connect(h, h, Connect::scaled(0.5).delay(1));
    graph.connect(h, y, Connect::identity());
    graph.connect(h, y, Connect::identity().delay(3).stop_gradient());
    graph.output("y", y);
    let plan = Plan::new(&graph, PlanOptions::training(1, 4).with_state_gradients()).unwrap();
    let mut run = Run::new(&Compiled::new(plan, ExecutionConfig::new(1, 4)).unwrap());
    for frames in [4, 2] {
        run.forward(frames, &[Values::F32(&vec![1.0; frames])], None).unwrap();
    }
    run.backward(2, &[Some(Values::F32(&[1.0; 2]))], &[Some(Values::F32(&[8.0, 0.0, 1.0]))]).unwrap();
    let mut gradient = [1.0f32; 3];
    run.state_gradient(0, ValuesMut::F32(&mut gradient)).unwrap();
    // What the window leaves of the frames before it is the newest of them, from 0 on.
    assert_eq!(gradient, [0.0, 0.0, 8.0 + 0.5 + 0.25 + 0.25]);
}

#[test]
fn gradients_of_the_state_are_of_the_weights_as_they_are_now() {
    let case = case();
    let trial = case.trial().unwrap();
    let compiled = compiled(&case, 1);
    let halved = Trial {
        weights: trial.weights.iter().map(|values| values.iter().map(|x| 0.5 * x).collect()).collect(),
        ..trial.clone()
    };
    let all = |run: &mut Run| {
        run.clear();
        trial.windows[..2].iter().for_each(|window| forward(run, window));
        backward(run, &trial.windows[1]);
        let (layer, depth) = rnnc_graph::state_vectors(&compiled.plan().forward).next().unwrap();
        let size = compiled.plan().forward.layer_at(layer).size;
        let mut gradient = vec![0.0f32; depth * case.streams * size];
        run.state_gradient(0, ValuesMut::F32(&mut gradient)).unwrap();
        gradient
    };
    let mut changed = begin(&compiled, &trial);
    let before = all(&mut changed);
    for (id, values) in halved.weights.iter().enumerate() {
        changed.write(WeightId::from_index(id), Values::F32(values)).unwrap();
    }
    let after = all(&mut changed);
    assert!(
        after == all(&mut begin(&compiled, &halved)) && after != before && after.iter().any(|x| *x != 0.0)
    );
}
