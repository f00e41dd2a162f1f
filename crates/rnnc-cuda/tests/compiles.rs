//! Generated sources compile, and loops keep all their numbers in registers: by NVRTC, which needs no GPU.
//!
//! Where NVRTC is not found, nothing is checked, and the tests say so; with `RNNC_REQUIRE_NVRTC` set they fail instead.

use rnnc_cuda::compile::compile;
use rnnc_cuda::device::Device;
use rnnc_cuda::driver::{Nvrtc, Source, Usage};
use rnnc_graph::Graph;
use rnnc_plan::{ExecutionConfig, Plan, PlanOptions};
use rnnc_suite::cell_networks;
use std::collections::HashSet;
use std::io::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// A source, and where it is from.
struct Task {
    /// The network and how it runs.
    what: String,
    target: String,
    source: Source,
    /// Bytes of local memory that its kernels may use.
    local: usize,
}

/// The sources of a network, trained, that no task has yet.
fn add(tasks: &mut Vec<Task>, device: &Device, name: &str, graph: &Graph, streams: usize, local: usize) {
    let frames = 16;
    let options = PlanOptions::training(streams, frames).with_input_gradients();
    let plan = Plan::new(graph, options).unwrap_or_else(|error| panic!("{name}: {error}"));
    let config = ExecutionConfig { training: true, ..ExecutionConfig::new(streams, frames) };
    let program = compile(&plan, config, device).unwrap_or_else(|error| panic!("{name}: {error}"));
    let target = device.target();
    for source in program.sources.into_iter().filter(|source| !source.kernels.is_empty()) {
        if !tasks.iter().any(|task| task.target == target && task.source.text == source.text) {
            let what = format!("{name}, {streams} streams, {target}, {}", source.name);
            tasks.push(Task { what, target: target.clone(), source, local });
        }
    }
}

/// Compiles everything, in two threads; says what is wrong with each task.
fn wrong(nvrtc: &Nvrtc, tasks: &[Task]) -> Vec<String> {
    let (next, found) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let started = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(task) = tasks.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let (complaints, took) = check(nvrtc, task);
                    if took > Duration::from_secs(10) {
                        println!("{}: {:.1} s", task.what, took.as_secs_f64());
                    }
                    found.lock().unwrap().extend(complaints);
                }
            });
        }
    });
    println!("{} sources compiled in {:.1} s", tasks.len(), started.elapsed().as_secs_f64());
    let mut found = found.into_inner().unwrap();
    found.sort();
    found
}

fn check(nvrtc: &Nvrtc, task: &Task) -> (Vec<String>, Duration) {
    let started = Instant::now();
    let compiled = nvrtc.compile(&task.source, &task.target);
    let took = started.elapsed();
    let compiled = match compiled {
        Err(error) => return (vec![format!("{}: {error}", task.what)], took),
        Ok(compiled) => compiled,
    };
    let usage = compiled.usage();
    let reported: HashSet<&str> = usage.iter().map(|(name, _)| name.as_str()).collect();
    let unreported = task.source.kernels.iter().filter(|kernel| !reported.contains(kernel.as_str()));
    let mut complaints: Vec<String> =
        unreported.map(|kernel| format!("{}: nothing is reported of {kernel}", task.what)).collect();
    for (kernel, usage) in &usage {
        let Usage { stack, spill_stores, spill_loads, .. } = *usage;
        if [stack, spill_stores, spill_loads].into_iter().any(|bytes| bytes > task.local) {
            complaints.push(format!("{}: {kernel}: {usage:?}", task.what));
        }
    }
    (complaints, took)
}

/// Runs a check with NVRTC, if it is there.
fn with_nvrtc(check: impl FnOnce(&Nvrtc)) {
    match Nvrtc::find(None) {
        Ok(nvrtc) => check(&nvrtc),
        Err(error) if std::env::var_os("RNNC_REQUIRE_NVRTC").is_some() => panic!("{error}"),
        Err(error) => {
            // Not by a macro, whose output is hidden where tests pass.
            let text = format!(
                "skipped: libnvrtc was not found, so no generated source was compiled. {error}
"
            );
            std::io::stderr().write_all(text.as_bytes()).unwrap();
        }
    }
}

fn all_compile(tasks: &[Task]) {
    with_nvrtc(|nvrtc| {
        let wrong = wrong(nvrtc, tasks);
        assert!(wrong.is_empty(), "{} of {} sources:\n{}", wrong.len(), tasks.len(), wrong.join("\n"));
    });
}

fn h200() -> Device {
    Device::named("h200").unwrap()
}

/// The H200 with a Blackwell's architecture.
fn blackwell() -> Device {
    Device { name: "blackwell".into(), architecture: (10, 0), multiprocessors: 148, ..h200() }
}

fn cell(name: &str, inputs: usize, units: usize) -> Graph {
    let text = format!("network one {{ input x: vector({inputs}) h = {name}(x; {units}) output h }}");
    rnnc_lang::compile("one.rnn", &text, Some("one")).unwrap_or_else(|errors| panic!("{errors}"))
}

#[test]
fn every_cell_of_the_library_compiles_for_hopper() {
    let mut tasks = Vec::new();
    for (name, graph) in cell_networks(5, 24) {
        add(&mut tasks, &h200(), &name, &graph, 3, usize::MAX);
    }
    all_compile(&tasks);
}

#[test]
fn the_kernels_between_programs_and_other_arrays_compile_for_all_architectures() {
    let task = |device: Device| Task {
        what: "borders".into(),
        target: device.target(),
        source: rnnc_cuda::driver::borders::source(),
        local: 0,
    };
    all_compile(&[Device::named("a100").unwrap(), h200(), blackwell()].map(task));
}

#[test]
fn some_cells_compile_for_ampere_and_blackwell() {
    let mut tasks = Vec::new();
    let few = ["cell_lstm_peephole", "cell_gru", "cell_sru"];
    let networks: Vec<_> =
        cell_networks(5, 24).into_iter().filter(|(n, _)| few.contains(&n.as_str())).collect();
    assert_eq!(networks.len(), few.len());
    for device in [Device::named("a100").unwrap(), blackwell()] {
        for (name, graph) in &networks {
            add(&mut tasks, &device, name, graph, 3, usize::MAX);
        }
    }
    all_compile(&tasks);
}

#[test]
fn the_usual_cells_at_the_usual_sizes_need_no_local_memory_and_with_16_streams_hardly_any() {
    let mut tasks = Vec::new();
    for name in ["lstm", "gru", "lstm_peephole"] {
        for units in [64, 256, 1024] {
            for (streams, local) in [(1, 0), (16, 96)] {
                let (graph, before) = (cell(name, units, units), tasks.len());
                add(&mut tasks, &h200(), &format!("{name}({units})"), &graph, streams, local);
                let loops = tasks[before..].iter().filter(|task| task.source.text.contains("\nLOOP_KERNEL("));
                assert_eq!(loops.count(), 2, "{name}({units}) has a loop in each direction");
            }
        }
    }
    all_compile(&tasks);
}

#[test]
fn loops_of_many_streams_in_groups_need_no_local_memory() {
    let mut tasks = Vec::new();
    for (name, units, streams) in
        [("lstm", 64, 1000), ("gru", 64, 1024), ("lstm", 128, 256), ("lstm", 256, 256)]
    {
        let (graph, before) = (cell(name, units, units), tasks.len());
        add(&mut tasks, &h200(), &format!("{name}({units})"), &graph, streams, 0);
        let loops = tasks[before..].iter().filter(|task| task.source.text.contains(" = group_args(args, "));
        assert_eq!(loops.count(), 2, "{name}({units}) has groups in each direction");
    }
    all_compile(&tasks);
}

/// `cargo test -p rnnc-cuda --test compiles -- --ignored --nocapture`
#[test]
#[ignore = "thousands of sources"]
fn every_cell_compiles_for_every_architecture_at_every_size() {
    let mut tasks = Vec::new();
    for device in [Device::named("a100").unwrap(), h200(), blackwell()] {
        for units in [24, 256, 1024] {
            for (name, graph) in cell_networks(units, units) {
                for streams in [1, 16] {
                    add(&mut tasks, &device, &format!("{name}({units})"), &graph, streams, usize::MAX);
                }
            }
        }
    }
    all_compile(&tasks);
}
