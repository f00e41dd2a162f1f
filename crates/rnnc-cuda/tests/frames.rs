//! Frames stages at sizes that the suite does not reach: many rows, many symbols, long vectors, each of which takes
//! other ways through the kernels. Run on the host, as the suite is.

mod emulation;

use emulation::{Emulated, devices, seed};
use rnnc_cuda::CudaExecutor;
use rnnc_graph::Activation::{Identity, Tanh};
use rnnc_graph::{Graph, Operation};
use rnnc_plan::{ExecutionConfig, Executor, ExecutorError, Plan};
use rnnc_suite::{Case, Net, check};

fn agrees(case: &Case) {
    let make = |plan: Plan, config: ExecutionConfig| -> Result<Box<dyn Executor>, ExecutorError> {
        let driver = Emulated::new(devices()[0].clone(), seed())?;
        Ok(Box::new(CudaExecutor::with_driver(plan, config, Box::new(driver))?))
    };
    check(case, &make, 2e-4).unwrap();
}

/// A look-up, a dense layer and a diagonal, each also read late.
fn table(symbols: usize, units: usize) -> Graph {
    let mut net = Net::new("table");
    let x = net.graph.symbol("x", symbols);
    let e = net.dense("e", units, Tanh, &[(x, 0), (x, 2)]);
    net.learned_start(e);
    let y = net.dense("y", 3, Identity, &[(e, 1)]);
    let late = net.sum("late", units, Tanh);
    net.diagonal(e, late, 1);
    net.output(late);
    net.out(y)
}

/// Every vector function over so many units, in groups of their size or all together.
fn vectors(units: usize, groups: usize) -> Graph {
    let mut net = Net::new("vectors");
    let x = net.graph.input("x", 3);
    let target = net.graph.symbol("target", units);
    let a = net.dense("a", units, Identity, &[(x, 0)]);
    let (center, epsilon) = (true, 1e-5);
    let functions = [
        ("softmax", units, Operation::Softmax { groups }),
        ("log_softmax", units, Operation::LogSoftmax { groups }),
        ("layer_norm", units, Operation::Normalize { groups, center, epsilon }),
        ("rms_norm", units, Operation::Normalize { groups, center: false, epsilon }),
        ("sums", groups, Operation::GroupSum { groups }),
    ];
    for (name, size, function) in functions {
        let layer = net.operation(name, size, function, &[(a, 1)]);
        net.output(layer);
    }
    let loss = net.operation("loss", 1, Operation::CrossEntropy, &[(a, 0), (target, 1)]);
    net.out(loss)
}

#[test]
fn rows_of_several_chunks_and_parts_are_summed() {
    agrees(&Case::new("few symbols", table(3, 4), 9, &[500], 0.05));
}

#[test]
fn blocks_sum_several_symbols_and_tiles_of_units() {
    agrees(&Case::new("many symbols", table(200, 300), 4, &[20, 7], 0.1));
}

#[test]
fn odd_sizes_are_taken_unit_by_unit() {
    agrees(&Case::new("odd sizes", table(17, 37), 3, &[50, 30], 0.1));
}

#[test]
fn groups_of_a_thread_a_warp_and_a_block_agree_with_the_reference() {
    for (units, groups) in [(24, 4), (70, 2), (64, 1), (1100, 1), (2200, 2)] {
        agrees(&Case::new("vectors", vectors(units, groups), 2, &[3, 2], 0.2));
    }
}

#[test]
fn groups_too_long_for_registers_are_read_again() {
    agrees(&Case::new("long vectors", vectors(9000, 1), 1, &[2], 0.0));
}
