//! Faults put into generated kernels on purpose: barriers taken out, signals that release nothing, reads that may be
//! stale, waits that end too early; and into the driver. The suite on the emulation must see each of them, else it proves nothing.

mod emulation;

use emulation::{Alter, Emulated, devices};
use rnnc_cuda::CudaExecutor;
use rnnc_cuda::compile::compile;
use rnnc_cuda::device::Device;
use rnnc_cuda::driver::{Geometry, Source};
use rnnc_cuda::program::{Command, Job, Launch, Work, commands};
use rnnc_cuda::source::prelude;
use rnnc_plan::Executor;
use rnnc_suite::{Case, check, networks};
use std::sync::Arc;

const TOLERANCE: f64 = 2e-4;
/// Orders of threads that are tried: a fault may hide from all but the last.
const SEEDS: u64 = 6;

/// What stands in a text, and what a fault makes of it; of several pairs, of all of them at the same count.
#[derive(Clone, Copy)]
struct Fault(&'static [(&'static str, &'static str)]);

const NO_BLOCK_SYNC: Fault = Fault(&[("block_sync();", ";")]);
const NO_RELEASE: Fault = Fault(&[("signal(", "ticket(")]);
const STALE: Fault = Fault(&[("fresh(", "own(")]);
const STALE_4: Fault =
    Fault(&[("fresh4(from)", "float4{own(from), own(from + 1), own(from + 2), own(from + 3)}")]);
const ONE_BLOCK_LESS: Fault = Fault(&[("(u32)steps * members", "((u32)steps * members - (members > 0))")]);
const ONE_STEP_LESS: Fault = Fault(&[("(u32)steps * members", "(u32)(steps - 1) * members")]);
const ONE_CHUNK_LESS: Fault = Fault(&[("peek(counter) < number", "peek(counter) < number - 1u")]);
const NEVER_ABSENT: Fault = Fault(&[("    make_absent(", "    if (false) make_absent(")]);
const ONE_LOOK: Fault = Fault(&[("if (!looks_again(", "if (true || !looks_again(")]);
const PUT_ONLY: Fault = Fault(&[("post(", "put(")]);
const NO_FIRST_BARRIER: Fault = Fault(&[("if (warp == 0) wait_for(", "if (false) wait_for(")]);
const NO_CLUSTER_BARRIER: Fault = Fault(&[("cluster_arrive();", ";"), ("cluster_wait();", "block_sync();")]);

/// The kernels that faults are put into.
type Kernels = fn(&Launch, &Geometry) -> bool;

fn grid_loops(launch: &Launch, geometry: &Geometry) -> bool {
    launch.what.contains(" loop of ") && geometry.cooperative
}

fn forward_grid_loops(launch: &Launch, geometry: &Geometry) -> bool {
    grid_loops(launch, geometry) && launch.what.contains("forward")
}

fn cluster_loops(launch: &Launch, geometry: &Geometry) -> bool {
    launch.what.contains(" loop of ") && geometry.cluster > 1
}

fn block_loops(launch: &Launch, geometry: &Geometry) -> bool {
    launch.what.contains(" loop of ") && geometry.blocks == 1
}

fn scans(launch: &Launch, _: &Geometry) -> bool {
    launch.what.contains(" scan of ")
}

/// A network of the suite, at a size, in windows.
fn case(name: &str, units: usize, streams: usize, windows: &[usize], resets: f64) -> Case {
    let network = networks().into_iter().find(|network| network.name == name);
    let network = network.unwrap_or_else(|| panic!("there is no network {name}"));
    Case::new(name, (network.build)(5, units), streams, windows, resets)
}

/// A device on which an empty frame of a loop, in one block, a cluster or the grid, takes so long.
fn device(frame_us: [f64; 3]) -> Device {
    let [_, mut device] = devices();
    device.rates.frame_us = frame_us;
    device
}

/// Whether the suite finds something wrong with altered kernels, in one of a few orders of threads.
fn is_seen(case: &Case, device: &Device, alter: &Alter) -> bool {
    (1..=SEEDS).any(|seed| {
        let make = |plan, config| {
            let driver = Emulated::new(device.clone(), seed)?.altering(alter.clone());
            Ok(Box::new(CudaExecutor::with_driver(plan, config, Box::new(driver))?) as Box<dyn Executor>)
        };
        check(case, &make, TOLERANCE).is_err()
    })
}

fn nothing_is_wrong(case: &Case, device: &Device) {
    let unaltered: Alter = Arc::new(|_| None);
    assert!(!is_seen(case, device, &unaltered), "{} is wrong as it stands", case.name);
}

/// How often a fault can be put into a text, behind the prelude.
fn places(source: &Source, Fault(changes): Fault) -> usize {
    changes.iter().map(|(right, _)| source.text[prelude().len()..].matches(right).count()).min().unwrap_or(0)
}

/// The text with a fault in one of its places, and the line of that.
fn with_fault(source: &Source, Fault(changes): Fault, place: usize) -> Option<(String, usize)> {
    let (mut text, mut line) = (source.text.clone(), 0);
    for (right, wrong) in changes {
        let first = prelude().len();
        let at = first + text[first..].match_indices(right).nth(place)?.0;
        line = text[..at].matches('\n').count() + 1;
        text.replace_range(at..at + right.len(), wrong);
    }
    Some((text, line))
}

/// Puts each fault into each of its places, one at a time, and asks the suite. The kernels are the first of those in
/// the forward pass and in the backward pass.
fn all_are_seen(case: &Case, device: &Device, kernels: Kernels, faults: &[Fault]) {
    nothing_is_wrong(case, device);
    let program = compile(&case.plan().unwrap(), case.config(), device).unwrap();
    let first = |jobs: &[Job]| {
        commands(jobs).find_map(|command| match command {
            Command::Kernel(launch @ Launch { work: Work::Grid(geometry), .. })
                if kernels(launch, geometry) =>
            {
                Some(&program.sources[launch.source])
            }
            _ => None,
        })
    };
    let sources = [first(&program.forward), first(&program.backward)];
    let mut unseen = Vec::new();
    for &fault in faults {
        let mut tried = 0;
        for source in sources.into_iter().flatten() {
            for place in 0..places(source, fault) {
                tried += 1;
                let name = source.name.clone();
                let alter: Alter = Arc::new(move |source: &Source| {
                    (source.name == name).then(|| Some(with_fault(source, fault, place)?.0))?
                });
                if !is_seen(case, device, &alter) {
                    let line = with_fault(source, fault, place).map_or(0, |(_, line)| line);
                    unseen.push(format!("{}, line {line}: {:?}", source.name, fault.0));
                }
            }
        }
        assert!(tried > 0, "no such kernel of {} has `{}`", case.name, fault.0[0].0);
    }
    assert!(unseen.is_empty(), "not seen in {}:\n{}", case.name, unseen.join("\n"));
}

#[test]
fn faults_between_blocks_that_count_are_seen() {
    let case = case("delays_2_and_3", 16, 2, &[6, 5], 0.1);
    let faults = [NO_BLOCK_SYNC, NO_RELEASE, STALE_4, ONE_BLOCK_LESS, ONE_STEP_LESS];
    all_are_seen(&case, &device([1e3, 1e3, 0.0]), grid_loops, &faults);
}

#[test]
fn faults_between_blocks_that_look_for_sources_are_seen() {
    // So many sources that two warps look for them.
    let (case, device) = (case("lstm_peephole", 45, 3, &[6, 5], 0.1), device([1e3, 1e3, 0.01]));
    all_are_seen(&case, &device, grid_loops, &[NEVER_ABSENT, ONE_LOOK, PUT_ONLY]);
    // Backward, all have met before anything is looked for: a window's last frame reads nothing of one behind it.
    all_are_seen(&case, &device, forward_grid_loops, &[NO_FIRST_BARRIER, NO_BLOCK_SYNC]);
}

#[test]
fn faults_between_blocks_that_look_for_sums_are_seen() {
    let (case, device) = (case("layer_norm_in_a_loop", 18, 1, &[6, 5], 0.1), device([1e3, 1e3, 0.01]));
    all_are_seen(&case, &device, grid_loops, &[NEVER_ABSENT, ONE_LOOK, PUT_ONLY]);
    all_are_seen(&case, &device, forward_grid_loops, &[NO_FIRST_BARRIER]);
}

#[test]
fn faults_in_clusters_are_seen() {
    let case = case("gru", 9, 1, &[6, 5], 0.1);
    let faults = [NO_BLOCK_SYNC, NO_CLUSTER_BARRIER];
    all_are_seen(&case, &device([1e3, 0.0, 1e3]), cluster_loops, &faults);
}

#[test]
fn faults_in_a_block_are_seen() {
    let device = device([0.0, 1e3, 1e3]);
    let lstm = case("lstm_peephole", 17, 1, &[6, 5], 0.1);
    all_are_seen(&lstm, &device, block_loops, &[NO_BLOCK_SYNC]);
    // Rows whose parts go from one warp to the other.
    let normal = case("layer_norm_in_a_loop", 50, 3, &[6, 5], 0.1);
    all_are_seen(&normal, &device, block_loops, &[NO_BLOCK_SYNC]);
}

#[test]
fn faults_in_loops_of_some_heads_each_are_seen() {
    let device = device([0.0, 1e3, 1e3]);
    let case = case("lstm_of_two_heads", 17, 1, &[6, 5], 0.1);
    let program = compile(&case.plan().unwrap(), case.config(), &device).unwrap();
    for jobs in [&program.forward, &program.backward] {
        let loops = commands(jobs).filter(|command| match command {
            Command::Kernel(launch @ Launch { work: Work::Grid(geometry), .. }) => {
                block_loops(launch, geometry)
            }
            _ => false,
        });
        assert_eq!(loops.count(), 2, "one for each head");
    }
    all_are_seen(&case, &device, block_loops, &[NO_BLOCK_SYNC]);
    // Both compute the first head.
    let first = |source: &&Source| source.kernels.iter().any(|kernel| kernel.ends_with("_loop_0"));
    let first = program.sources.iter().find(first).map(|source| source.text.clone()).unwrap();
    let alter: Alter = Arc::new(move |source: &Source| {
        let is_other = source.name.contains("the forward loop") && source.kernels[0].ends_with("_loop_1");
        is_other.then(|| first.replace("_loop_0", "_loop_1"))
    });
    assert!(is_seen(&case, &device, &alter));
}

#[test]
fn a_missing_warp_sync_is_seen() {
    // In the forward pass, lanes hand the products of four layers to each other.
    let case = case("lstm_peephole", 17, 1, &[6, 5], 0.1);
    let device = device([0.0, 1e3, 1e3]);
    nothing_is_wrong(&case, &device);
    let alter: Alter = Arc::new(|source: &Source| {
        let (prelude, text) = source.text.split_at(prelude().len());
        source
            .name
            .contains("the forward loop")
            .then(|| prelude.to_owned() + &text.replace("warp_sync();", ";"))
    });
    assert!(is_seen(&case, &device, &alter));
}

#[test]
fn faults_in_scans_are_seen() {
    // Blocks wait for each other for little: several chunks.
    let case = case("gated_scan", 5, 3, &[400, 300], 0.01);
    let faults = [NO_BLOCK_SYNC, NO_RELEASE, STALE, ONE_CHUNK_LESS];
    all_are_seen(&case, &device([1e3, 1e3, 0.05]), scans, &faults);
}

#[test]
fn inputs_that_are_taken_before_they_are_there_are_seen() {
    let (case, device) = (case("gru", 9, 2, &[4, 4, 4], 0.1), device([0.0, 1e3, 1e3]));
    nothing_is_wrong(&case, &device);
    let make = |plan, config| {
        let driver = Emulated::new(device.clone(), 1)?.hasty();
        Ok(Box::new(CudaExecutor::with_driver(plan, config, Box::new(driver))?) as Box<dyn Executor>)
    };
    let error = check(&case, &make, TOLERANCE).unwrap_err();
    assert!(error.contains("window by window: window 1: output"), "{error}");
}

#[test]
fn a_loop_that_stood_still_is_reported_until_a_forward_call_begins_and_that_one_works() {
    let (case, device) = (case("lstm_peephole", 17, 2, &[6, 5], 0.1), device([1e3, 1e3, 0.01]));
    // The first loop that runs says that it gave up, as a wait does that does not end.
    let alter: Alter = Arc::new(|source: &Source| {
        let at = source.text.find("\nLOOP_KERNEL(")?;
        let body = at + source.text[at..].find('{')? + 1;
        let mut text = source.text.clone();
        text.insert_str(
            body,
            " static int runs = 0; if (global_thread() == 0 && runs++ == 0) { raise(a.counters, 1u); reset(a.counters + 32); }",
        );
        source.name.contains("forward").then_some(text)
    });
    let executor = |alter: Option<Alter>| {
        let mut driver = Emulated::new(device.clone(), 1).unwrap();
        if let Some(alter) = alter {
            driver = driver.altering(alter);
        }
        CudaExecutor::with_driver(case.plan().unwrap(), case.config(), Box::new(driver)).unwrap()
    };
    let trial = case.trial().unwrap();
    let window = &trial.windows[0];
    let outputs = |executor: &mut CudaExecutor| {
        rnnc_verify::write_weights(executor, &trial.weights).unwrap();
        window.forward(executor).unwrap();
        let graph = &executor.plan().forward;
        let size = graph.layer_at(graph.outputs()[0].layer).size;
        let mut y = vec![0.0; window.frames * case.streams * size];
        executor.output(0, rnnc_plan::ValuesMut::F64(&mut y)).map(|()| y)
    };
    let right = outputs(&mut executor(None)).unwrap();
    assert!(!right.is_empty());
    let mut faulty = executor(Some(alter));
    let stood_still = |error: rnnc_plan::ExecutorError| {
        assert!(error.to_string().contains("stood still"), "{error}");
    };
    stood_still(outputs(&mut faulty).unwrap_err());
    // Nothing was run since.
    stood_still(faulty.finish().unwrap_err());
    stood_still(faulty.backward(window.frames, &vec![None; window.output_gradients.len()]).unwrap_err());
    faulty.clear_state();
    assert_eq!(outputs(&mut faulty).unwrap(), right);
    faulty.finish().unwrap();
}
