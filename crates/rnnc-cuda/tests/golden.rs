//! The text of all kernels of a small network without cycles: what changes in it changes on purpose.

use rnnc_cuda::compile::compile;
use rnnc_cuda::device::Device;
use rnnc_cuda::program::{Command, Program, commands};
use rnnc_plan::{ExecutionConfig, Plan, PlanOptions};
use std::fmt::Write;

const NETWORK: &str = "network small {
    input x : symbol(5)
    input v : vector(8)
    e = dense(x; 8)
    a = tanh(e + dense(v[t-1]; 8) + diag(e[t+1]))
    start a = learned
    n = layer_norm(a[t-2]; groups = 2)
    s = softmax(dropout(n; 0.25))
    y = dense(s; 3)
    output y
}";

fn program(streams: usize, frames: usize) -> Program {
    let graph = rnnc_lang::compile("small.rnn", NETWORK, None).unwrap();
    let plan = Plan::new(&graph, PlanOptions::training(streams, frames)).unwrap();
    let config = ExecutionConfig { training: true, ..ExecutionConfig::new(streams, frames) };
    compile(&plan, config, &Device::named("h200").unwrap()).unwrap()
}

/// Commands, and kernels without what stands before all of them.
fn listing(program: &Program) -> String {
    let mut out = String::new();
    let passes =
        [("forward", &program.forward), ("backward", &program.backward), ("update", &program.update)];
    for (name, jobs) in passes {
        let _ = writeln!(out, "{name}");
        for command in commands(jobs) {
            let _ = match command {
                Command::Kernel(launch) => {
                    let kernel = &program.sources[launch.source].kernels[launch.kernel];
                    writeln!(out, "  {kernel}: {}; {:?}", launch.what, launch.work)
                }
                other => writeln!(out, "  {other:?}"),
            };
        }
    }
    for source in &program.sources {
        let _ = writeln!(out, "\n// {}", source.name);
        if let Some(kernels) = source.text.find("\nKERNEL(") {
            out.push_str(&source.text[kernels..]);
        }
    }
    out
}

#[test]
fn the_kernels_of_a_small_network_are_as_they_were() {
    insta::assert_snapshot!(listing(&program(2, 6)));
}

#[test]
fn programs_of_many_rows_count_them_in_64_bits() {
    let text = |program: &Program| program.sources.iter().map(|s| s.text.clone()).collect::<String>();
    assert!(!text(&program(2, 6)).contains("const u64 row"));
    assert!(text(&program(1 << 15, 1 << 14)).contains("const u64 row"));
}

#[test]
fn no_two_kernels_of_a_source_have_one_name() {
    for source in program(2, 6).sources {
        let mut names = source.kernels.clone();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), source.kernels.len(), "{}", source.name);
    }
}
