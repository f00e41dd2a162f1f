//! Scans over windows long enough for many chunks of frames, on generated kernels run on the host, against the reference:
//! on devices whose blocks wait for each other for nothing, for little and as long as they do, so that chunks are of few
//! frames and of many.

mod emulation;

use emulation::{Alter, Emulated, devices, seed};
use rnnc_cuda::CudaExecutor;
use rnnc_cuda::device::Device;
use rnnc_cuda::driver::Driver;
use rnnc_graph::{Activation::Identity, Activation::Sigmoid, Activation::Tanh, Connect, Graph, Range, Start};
use rnnc_plan::{ExecutionConfig, Executor, Plan, PlanOptions, StageKind, Values, ValuesMut};
use rnnc_suite::{Case, Net, cell_networks, check, networks};
use std::sync::Arc;

/// Relative to the largest number of an array; single precision against double.
const TOLERANCE: f64 = 2e-4;

/// A device that synchronizes its blocks in so many microseconds.
fn device(wait_us: f64) -> Device {
    let [mut device, _] = devices();
    device.rates.frame_us[2] = wait_us;
    device
}

/// A cycle with delays of both signs: no recurrence of single frames.
fn two_signs(m: usize, n: usize) -> Graph {
    let mut net = Net::new("two_signs");
    let x = net.graph.input("x", m);
    let z = net.dense("z", n, Tanh, &[(x, 0)]);
    let (a, b) = (net.sum("a", n, Identity), net.sum("b", n, Identity));
    net.add(b, a, 0.6, 3);
    net.add(a, b, 0.9, -1);
    net.add(z, a, 1.0, 0);
    net.add(z, b, 1.0, 1);
    net.learned_start(b);
    net.out(a)
}

/// Units of which some go through more than others.
fn parts(m: usize, n: usize) -> Graph {
    let mut net = Net::new("parts");
    let x = net.graph.input("x", m);
    let z = net.dense("z", n, Tanh, &[(x, 0)]);
    let c = net.sum("c", n, Identity);
    let half = net.sum("half", n / 2, Identity);
    let first = Range::new(0, n / 2);
    net.add(c, c, 0.8, 1);
    net.add(z, c, 1.0, 0);
    net.graph.connect(c, half, Connect::scaled(-0.7).from(first));
    net.graph.connect(half, c, Connect::scaled(0.5).to(first).delay(2));
    net.graph.connect(z, c, Connect::scaled(0.5).from(Range::new(n - 1, 1)).to(Range::new(1, 1)).delay(1));
    net.graph.set_start(half, Start::Constant(0.3));
    net.output(half);
    net.out(c)
}

/// A state of four numbers a unit, with coefficients of every frame.
fn four_numbers(m: usize, n: usize) -> Graph {
    let mut net = Net::new("four_numbers");
    let x = net.graph.input("x", m);
    let f = net.dense("f", n, Sigmoid, &[(x, 0)]);
    let z = net.dense("z", n, Tanh, &[(x, 1)]);
    let (a, b) = (net.sum("a", n, Identity), net.sum("b", n, Identity));
    let kept = net.product("kept", &[(f, 0), (a, 2)]);
    net.add(kept, a, 1.0, 0);
    net.add(b, a, 0.4, 1);
    net.add(z, a, 1.0, 2);
    net.diagonal(b, b, 2);
    net.add(a, b, -0.5, 1);
    net.add(f, b, 0.3, 0);
    net.learned_start(a);
    net.graph.set_start(b, Start::Constant(0.2));
    net.out(b)
}

/// Two scans that run at once, in the two directions.
fn side_by_side(m: usize, n: usize) -> Graph {
    let mut net = Net::new("side_by_side");
    let x = net.graph.input("x", m);
    let z = net.dense("z", n, Tanh, &[(x, 0)]);
    let (past, future) = (net.sum("past", n, Identity), net.sum("future", n, Identity));
    net.add(past, past, 0.9, 1);
    net.add(z, past, 1.0, 0);
    net.diagonal(future, future, -1);
    net.add(z, future, 1.0, -2);
    net.learned_start(future);
    let y = net.dense("y", n, Identity, &[(past, 0), (future, 0)]);
    net.out(y)
}

/// All networks with a scan in them, in some streams and windows.
fn scans(streams: usize, windows: &[usize], units: usize) -> Vec<Case> {
    let of_suite = networks().into_iter().map(|n| (n.name.to_string(), (n.build)(3, units)));
    let own = [two_signs, parts, four_numbers, side_by_side].map(|build| build(3, units));
    let own = own.into_iter().map(|graph| (graph.name().to_string(), graph));
    let graphs = of_suite.chain(cell_networks(3, units)).chain(own);
    let scans = graphs.filter(|(_, graph)| {
        let plan = Plan::new(graph, PlanOptions::inference(streams, 1));
        plan.is_ok_and(|plan| plan.stages().any(|stage| stage.kind == StageKind::Scan))
    });
    scans.map(|(name, graph)| Case::new(&name, graph, streams, windows, 0.06)).collect()
}

fn agree(cases: &[Case], wait_us: f64) {
    let only = std::env::var("RNNC_ONLY").unwrap_or_default();
    let device = device(wait_us);
    let make = |plan, config| -> Result<Box<dyn Executor>, _> {
        let driver = Emulated::new(device.clone(), seed())?;
        Ok(Box::new(CudaExecutor::with_driver(plan, config, Box::new(driver))?))
    };
    let chosen = cases.iter().filter(|case| case.name.contains(&only));
    let wrong: Vec<String> = chosen.filter_map(|case| check(case, &make, TOLERANCE).err()).collect();
    assert!(wrong.is_empty(), "seed {}:\n{}", seed(), wrong.join("\n"));
}

#[test]
fn chunks_of_few_frames_agree_with_the_reference() {
    agree(&scans(2, &[21, 1, 30], 4), 0.0);
}

#[test]
fn chunks_of_some_blocks_rows_agree_with_the_reference() {
    agree(&scans(1, &[150, 70], 4), 0.04);
}

#[test]
fn chunks_of_many_frames_agree_with_the_reference() {
    agree(&scans(3, &[64, 17], 20), 1.0);
}

/// Runs a network of one input and one output forward, of one unit and one stream.
fn outputs(graph: &Graph, numbers: &[f32], resets: &[bool], driver: impl Driver + 'static) -> Vec<f32> {
    let frames = numbers.len();
    let plan = Plan::new(graph, PlanOptions::inference(1, frames)).unwrap();
    let mut executor =
        CudaExecutor::with_driver(plan, ExecutionConfig::new(1, frames), Box::new(driver)).unwrap();
    executor.forward(frames, &[Values::F32(numbers)], Some(resets)).unwrap();
    let mut values = vec![0.0; frames];
    executor.output(0, ValuesMut::F32(&mut values)).unwrap();
    values
}

/// c = a c[t-1] + b c[t-2] + x
fn integrator(a: f64, b: f64) -> Graph {
    let mut net = Net::new("integrator");
    let x = net.graph.input("x", 1);
    let c = net.sum("c", 1, Identity);
    net.add(c, c, a, 1);
    net.add(c, c, b, 2);
    net.add(x, c, 1.0, 0);
    net.out(c)
}

#[test]
fn numbers_that_are_none_stay_within_their_sequence() {
    let frames = 40;
    let mut numbers = vec![1.0f32; frames];
    numbers[3] = f32::NAN;
    let mut resets = vec![false; frames];
    resets[11] = true;
    let driver = Emulated::new(device(0.0), seed()).unwrap();
    let values = outputs(&integrator(0.5, 0.25), &numbers, &resets, driver);
    let none: Vec<usize> = (0..frames).filter(|&t| values[t].is_nan()).collect();
    assert_eq!(none, (3..11).collect::<Vec<_>>());
}

#[test]
fn a_state_of_zero_stays_so_though_coefficients_grow_beyond_all_bounds() {
    let frames = 300;
    let mut numbers = vec![0.0f32; frames];
    numbers[frames - 3] = 1.0;
    for wait_us in [0.0, 0.04, 1.0] {
        let driver = Emulated::new(device(wait_us), seed()).unwrap();
        let values = outputs(&integrator(8.0, 0.0), &numbers, &vec![false; frames], driver);
        assert!(values[..frames - 3].iter().all(|&v| v == 0.0), "{values:?}");
        assert_eq!(values[frames - 3..], [1.0, 8.0, 64.0]);
    }
}

/// Puts a fault into generated kernels.
fn fault(from: &'static str, to: &'static str) -> Alter {
    Arc::new(move |source| {
        let text = source.text.replace(from, to);
        let missing = text == source.text && text.contains("LOOP_KERNEL(forward");
        assert!(!missing || from.is_empty(), "`{from}` is not there");
        Some(text)
    })
}

#[test]
fn each_missing_barrier_fence_or_wait_shows() {
    let faults = [
        ("", ""),
        ("block_sync();\nconst u32 turn", "const u32 turn"),
        ("block_sync();\nconst bool joins", "const bool joins"),
        ("block_sync();\nif (joins)", "if (joins)"),
        ("block_sync();\nif (thread() == 0) signal", "if (thread() == 0) signal"),
        ("if (thread() == 0) signal", "if (false) signal"),
        ("wait_until(a, counter, chunk,", "if (false) wait_until(a, counter, chunk,"),
        ("= fresh(from", "= own(from"),
    ];
    // What is counted twice must not fade before it is seen.
    let mut net = Net::new("slow");
    let x = net.graph.input("x", 2);
    let z = net.dense("z", 6, Tanh, &[(x, 0)]);
    let c = net.sum("c", 6, Identity);
    net.add(c, c, 0.999, 1);
    net.add(z, c, 1.0, 0);
    let case = Case::new("slow", net.out(c), 1, &[300], 0.0);
    let device = device(0.04);
    for (from, to) in faults {
        let found = (1..=4).any(|seed| {
            let make = |plan, config| -> Result<Box<dyn Executor>, _> {
                let driver = Emulated::new(device.clone(), seed)?.altering(fault(from, to));
                Ok(Box::new(CudaExecutor::with_driver(plan, config, Box::new(driver))?))
            };
            check(&case, &make, TOLERANCE).is_err()
        });
        assert_eq!(found, !from.is_empty(), "{from:?}");
    }
}
