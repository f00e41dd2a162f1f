//! What runs side by side: independent loops, and loops that follow each other in chunks of frames. The emulation replays
//! recordings in a random order among those that lanes allow.

mod emulation;

use emulation::{Emulated, devices, seed};
use rnnc_cuda::CudaExecutor;
use rnnc_cuda::compile::compile;
use rnnc_cuda::device::Device;
use rnnc_cuda::program::{Command, Frames, Job, Program, Work};
use rnnc_graph::Graph;
use rnnc_plan::{ExecutionConfig, Executor, Plan, PlanOptions};
use rnnc_suite::{Case, cases, check};

/// Relative to the largest number of an array; single precision against double.
const TOLERANCE: f64 = 2e-4;

fn graph(text: &str) -> Graph {
    rnnc_lang::compile("n.rnn", text, None).unwrap_or_else(|errors| panic!("{errors}"))
}

fn program(text: &str, config: ExecutionConfig, device: &Device) -> Program {
    let plan = Plan::new(&graph(text), PlanOptions::training(config.streams, config.window)).unwrap();
    compile(&plan, config, device).unwrap()
}

fn h200() -> Device {
    Device::named("h200").unwrap()
}

/// Of each job, which come before it in any case.
fn before(jobs: &[Job]) -> Vec<Vec<bool>> {
    let mut all: Vec<Vec<bool>> = Vec::new();
    for (number, job) in jobs.iter().enumerate() {
        let own_lane = jobs[..number].iter().rposition(|other| other.lane == job.lane);
        let mut own = vec![false; number];
        for &other in job.after.iter().chain(&own_lane) {
            assert!(other < number, "a job waits for a later one");
            own[other] = true;
            (0..other).for_each(|first| own[first] |= all[other][first]);
        }
        all.push(own);
    }
    all
}

/// Blocks of a job that wait for each other in device memory.
fn waiting(job: &Job) -> usize {
    let blocks = job.commands.iter().map(|command| match command {
        Command::Kernel(launch) => match launch.work {
            Work::Grid(geometry) if geometry.cooperative => geometry.blocks,
            _ => 0,
        },
        _ => 0,
    });
    blocks.sum()
}

fn is_loop(job: &Job) -> bool {
    let named = |command: &Command| matches!(command, Command::Kernel(l) if l.what.contains(" loop of "));
    job.commands.iter().any(named)
}

fn in_chunks(jobs: &[Job]) -> bool {
    jobs.iter().any(|job| job.frames != Frames::All)
}

/// The loops that may run while another does.
fn loops_side_by_side(jobs: &[Job]) -> usize {
    let before = before(jobs);
    let loops: Vec<usize> = (0..jobs.len()).filter(|&job| is_loop(&jobs[job])).collect();
    let beside = |&a: &usize| loops.iter().any(|&b| a != b && !before[a.max(b)][a.min(b)]);
    loops.iter().filter(|job| beside(job)).count()
}

const TWO_WAYS: &str = "network n {
    input x : vector(16)
    h = concat(lstm(x; 512), reversed lstm(x; 512))
    output h
}";

const STACK: &str = "network n {
    input x : vector(16)
    a = lstm(x; 512)
    b = lstm(a; 512)
    output b
}";

#[test]
fn both_directions_of_a_layer_run_side_by_side() {
    let program = program(TWO_WAYS, ExecutionConfig::new(1, 256), &h200());
    assert_eq!(loops_side_by_side(&program.forward), 2);
    assert_eq!(loops_side_by_side(&program.backward), 2);
    assert_eq!(program.lanes.len(), 2);
}

#[test]
fn layers_of_a_stack_run_side_by_side_in_chunks() {
    let config = ExecutionConfig::new(1, 1024);
    let program = program(STACK, config, &h200());
    for jobs in [&program.forward, &program.backward] {
        assert!(in_chunks(jobs));
        assert!(loops_side_by_side(jobs) >= 8);
        // All chunks of a loop together are all frames.
        let loops = jobs.iter().filter(|job| is_loop(job));
        let frames: usize = loops.map(|job| job.frames.of_pass(0, config.window).len()).sum();
        assert_eq!(frames, 2 * config.window);
    }
}

#[test]
fn a_single_loop_has_the_device_and_one_lane() {
    let text = "network n { input x : vector(16)  h = lstm(x; 1024)  output h }";
    let program = program(text, ExecutionConfig::new(1, 256), &h200());
    for jobs in [&program.forward, &program.backward] {
        assert!(!in_chunks(jobs));
        assert!(jobs.iter().any(|job| waiting(job) == 128));
    }
}

#[test]
fn blocks_that_wait_for_each_other_are_never_more_than_fit() {
    let devices = [h200(), Device::named("a100").unwrap()].into_iter().chain(devices());
    for device in devices {
        for case in cases() {
            let program = compile(&case.plan().unwrap(), case.config(), &device).unwrap();
            for jobs in [&program.forward, &program.backward] {
                let before = before(jobs);
                let loops: Vec<usize> = (0..jobs.len()).filter(|&job| waiting(&jobs[job]) > 0).collect();
                // Sets of loops none of which comes before another; few are in any case.
                let mut sets: Vec<Vec<usize>> = vec![Vec::new()];
                for &job in &loops {
                    let fits = |set: &&Vec<usize>| set.iter().all(|&other| !before[job][other]);
                    let with = |set: &Vec<usize>| [&set[..], &[job]].concat();
                    let more: Vec<Vec<usize>> = sets.iter().filter(fits).map(with).collect();
                    sets.extend(more);
                }
                for set in sets {
                    let blocks: usize = set.iter().map(|&job| waiting(&jobs[job])).sum();
                    assert!(blocks <= device.multiprocessors, "{} on {}: {set:?}", case.name, device.name);
                }
            }
        }
    }
}

#[test]
fn chunks_of_short_passes_are_those_that_it_has() {
    use rnnc_graph::Direction::{Backward, Forward};
    let chunks = |direction, first| {
        let chunk = |number| Frames::Chunk { number, of: 4, direction }.of_pass(first, 10);
        [chunk(0), chunk(1), chunk(2), chunk(3)]
    };
    assert_eq!(chunks(Forward, 0), [0..3, 3..6, 6..9, 9..10]);
    assert_eq!(chunks(Backward, 0), [7..10, 4..7, 1..4, 0..1]);
    assert_eq!(chunks(Forward, 6), [6..9, 9..10, 10..10, 10..10]);
    assert_eq!(chunks(Backward, 6), [7..10, 6..7, 6..6, 6..6]);
}

/// Networks whose loops follow each other, or stand side by side, in ways that matter to chunks.
fn networks() -> Vec<(&'static str, String)> {
    let network = |body: &str| format!("network n {{ input x : vector(3) {body} }}");
    vec![
        ("stack", network("a = lstm(x; 6)  b = lstm(a; 5)  c = gru(b; 4)  y = dense(c; 3)  output y")),
        (
            "delays",
            network(
                "a = lstm_peephole(x; 5)  b = lstm(a[t-3]; 4)  y = dense(b[t-2], a; 3)  output y  output a",
            ),
        ),
        (
            "starts",
            network("a = tanh(dense(x, a[t-2]; 6))  start a = learned  b = lstm(a[t-1]; 4)  output b"),
        ),
        (
            "residual",
            network(
                "a = lstm(x; 6)  b = lstm(a; 6)  c = a + b  d = lstm(c; 5)  y = c[t-1] * b  output d  output y",
            ),
        ),
        (
            "both ways",
            network(
                "h = concat(lstm(x; 4), reversed lstm(x; 5))  k = concat(gru(h; 4), reversed gru(h; 3))  output k",
            ),
        ),
        ("ahead", network("a = lstm(x; 5)  b = lstm(a[t+1]; 4)  output b")),
        ("backward in time", network("a = reversed lstm(x; 5)  b = reversed lstm(a; 6)  output b")),
        (
            "towers",
            network(
                "a = lstm(x; 5)  b = gru(x; 4)  c = lstm(a; 4)  d = lstm(b; 5)  y = dense(c, d; 3)  output y",
            ),
        ),
        (
            "norms",
            network(
                "a = lstm(x; 6)  b = layer_norm(a; groups = 2)  c = lstm(b; 4)  s = softmax(c)  output s",
            ),
        ),
    ]
}

/// Whether they run in chunks on a small device.
fn with_chunks(name: &str, device: &Device) -> bool {
    match name {
        "both ways" | "ahead" => false,
        // Each loop needs a multiprocessor.
        "towers" => device.multiprocessors >= 4,
        _ => true,
    }
}

fn agree(case: &Case, device: &Device) -> Result<(), String> {
    let make = |plan, config| {
        let driver = Emulated::new(device.clone(), seed())?;
        Ok(Box::new(CudaExecutor::with_driver(plan, config, Box::new(driver))?) as Box<dyn Executor>)
    };
    check(case, &make, TOLERANCE)
}

#[test]
fn loops_in_chunks_agree_with_the_reference() {
    let mut wrong = Vec::new();
    for device in devices() {
        for (name, text) in networks() {
            for (streams, windows, resets) in [(1, &[9, 9, 4, 9][..], 0.0), (3, &[7, 1, 7], 0.2)] {
                let case = Case::new(name, graph(&text), streams, windows, resets);
                let program = compile(&case.plan().unwrap(), case.config(), &device).unwrap();
                let chunks = in_chunks(&program.forward) && in_chunks(&program.backward);
                assert_eq!(chunks, with_chunks(name, &device), "{name} on {}", device.name);
                wrong.extend(agree(&case, &device).err());
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn loops_in_chunks_agree_with_the_reference_where_windows_overlap() {
    let (name, text) = networks().remove(0);
    let case = Case::new(name, graph(&text), 2, &[3, 3, 2, 3, 3], 0.1).with_window(8);
    agree(&case, &devices()[0]).unwrap();
}

#[test]
fn each_forgotten_wait_between_lanes_shows() {
    // No loop waits for another only because both would not fit: that is no matter of values.
    let device = Device { multiprocessors: 64, ..devices()[0].clone() };
    let text = "network n { input x : vector(3)  a = lstm(x; 5)  b = lstm(a; 4)  output b }";
    let case = Case::new("stack", graph(text), 1, &[4, 4], 0.0);
    let program = compile(&case.plan().unwrap(), case.config(), &device).unwrap();
    let waits: usize = program.forward.iter().chain(&program.backward).map(|job| job.after.len()).sum();
    assert!(waits > 4, "{waits}");
    let unseen: Vec<usize> = (0..waits)
        .filter(|&forgotten| {
            (1..=8).all(|seed| {
                let make = |plan, config| {
                    let driver = Emulated::new(device.clone(), seed)?.forgetting(forgotten);
                    Ok(Box::new(CudaExecutor::with_driver(plan, config, Box::new(driver))?)
                        as Box<dyn Executor>)
                };
                check(&case, &make, TOLERANCE).is_ok()
            })
        })
        .collect();
    assert!(unseen.is_empty(), "of {waits} waits these are not needed: {unseen:?}");
}
