//! Once the first window has run, no call of an executor allocates, and none that is a function. (`session.rs` says it of sessions.)

#![allow(unsafe_code)] // arrays that are used again

mod counting;

use counting::{COUNT, least, network};
use rnnc_cpu::{Compiled, CpuExecutor};
use rnnc_plan::{
    Array, ArrayMut, Backward, Element, ExecutionConfig, Executor, Forward, OptimizerSettings, Plan,
    PlanOptions, StatePort, Update, Values, ValuesMut,
};
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

/// The allocations of each of some functional calls, forward and backward.
fn allocations_of_calls(frames: usize, threads: usize) -> Vec<usize> {
    let mut graph = network();
    graph.hold_state(None).unwrap();
    let options = PlanOptions::training(1, frames).with_input_gradients().with_state_gradients();
    // What one call works in is kept all the same.
    let config = ExecutionConfig { threads, kept_bytes: 0, ..ExecutionConfig::new(1, frames) };
    let compiled = Compiled::new(Plan::new(&graph, options).unwrap(), config).unwrap();
    let ports = compiled.ports();
    let numbers = |shape: &[usize]| vec![0.1f32; shape.iter().product()];
    let state_shape = |port: &StatePort| match port.depth {
        1 => vec![1, port.size],
        depth => vec![depth, 1, port.size],
    };
    let (x, s, mut y) = (vec![0.1f32; 5 * frames], vec![3i64; frames], vec![0.0f32; 40 * frames]);
    let weights: Vec<Vec<f32>> = ports.weights.iter().map(|port| numbers(&port.shape)).collect();
    let state: Vec<Vec<f32>> = ports.state.iter().map(|port| numbers(&state_shape(port))).collect();
    let resets = vec![true; frames];
    let (mut state_out, mut d_weights, mut d_state) = (state.clone(), weights.clone(), state.clone());
    let mut d_x = x.clone();
    let len = compiled.tape_len();
    let mut tape = vec![0.0f32; len + 16];
    let first = tape.as_ptr().addr().wrapping_neg() % 64 / 4;
    let tape = &mut tape[first..first + len];
    let weights: Vec<Array<'_>> = (ports.weights.iter().zip(&weights))
        .map(|(port, values)| Array::from_slice(values, &port.shape).unwrap())
        .collect();
    let state: Vec<Array<'_>> = (ports.state.iter().zip(&state))
        .map(|(port, values)| Array::from_slice(values, &state_shape(port)).unwrap())
        .collect();
    let inputs =
        [Array::from_slice(&x, &[frames, 1, 5]).unwrap(), Array::from_slice(&s, &[frames, 1]).unwrap()];
    let errors = vec![0.5f64; 40 * frames];
    let errors = [Some(Array::from_slice(&errors, &[frames, 1, 40]).unwrap())];
    let left: Vec<Option<Array<'_>>> = state.iter().copied().map(Some).collect();
    let resets = Some(Array::from_slice(&resets, &[frames, 1]).unwrap());
    let to = |values: &mut [f32], shape: &[usize]| -> Option<ArrayMut<'static>> {
        let strides: Vec<isize> =
            (0..shape.len()).map(|n| shape[n + 1..].iter().product::<usize>() as isize).collect();
        let address = values.as_mut_ptr().expose_provenance();
        // SAFETY: nobody else touches the values before the last call has ended.
        Some(unsafe { ArrayMut::from_raw_parts(address, Element::F32, shape, &strides) }.unwrap())
    };
    let mut outputs = [to(&mut y, &[frames, 1, 40])];
    let all = |values: &mut [Vec<f32>]| -> Vec<Option<ArrayMut<'static>>> {
        let ports = ports.state.iter().zip(values);
        ports.map(|(port, values)| to(values, &state_shape(port))).collect()
    };
    let (mut state_out, mut d_state) = (all(&mut state_out), all(&mut d_state));
    let mut d_weights: Vec<_> =
        ports.weights.iter().zip(&mut d_weights).map(|(port, values)| to(values, &port.shape)).collect();
    let mut d_inputs = [to(&mut d_x, &[frames, 1, 5]), None];
    let mut call = || {
        let before = COUNT.load(Ordering::Relaxed);
        let forward = Forward {
            resets,
            state_in: Some(&state),
            outputs: &mut outputs,
            state_out: &mut state_out,
            tape: Some(ArrayMut::from_slice(tape, &[len]).unwrap()),
            ..Forward::new(frames, &weights, &inputs)
        };
        compiled.forward(forward).unwrap();
        let backward = Backward {
            resets,
            d_outputs: &errors,
            d_state_out: &left,
            d_weights: &mut d_weights,
            d_inputs: &mut d_inputs,
            d_state_in: &mut d_state,
            ..Backward::new(frames, &weights, Array::from_slice(tape, &[len]).unwrap())
        };
        compiled.backward(backward).unwrap();
        COUNT.load(Ordering::Relaxed) - before
    };
    (0..5).map(|_| call()).collect()
}

// One test, since the count is of the whole process.
#[test]
fn no_window_and_no_call_after_the_first_allocates() {
    for (frames, threads) in [(2, 1), (2, 2), (64, 1), (64, 2)] {
        let calls = least(|| allocations_of_calls(frames, threads));
        assert_eq!(calls[1..], [0; 4], "calls of {frames} frames, {threads} threads");
    }
    for (frames, threads) in [(2, 1), (2, 2), (64, 1), (64, 2)] {
        assert_eq!(least(|| allocations(frames, threads))[1..], [0; 4], "{frames} frames, {threads} threads");
    }
}
