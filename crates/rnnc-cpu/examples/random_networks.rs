//! Random networks on the CPU executor against the reference, as many as are asked for:
//!
//! `cargo run --release -p rnnc-cpu --example random_networks -- COUNT [SEED]`
//!
//! They come in batches, each drawn from a seed of its own, SEED and those behind it, and all cores take batches in turn. One
//! that fails is shrunk and printed, with its batch's seed; then the program ends with an error.

#[path = "../tests/speeds/mod.rs"]
mod speeds;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};
use rnnc_cpu::CpuExecutor;
use rnnc_plan::{ExecutionConfig, Executor, ExecutorError, Plan};
use rnnc_suite::{Smooth, check, is_well_conditioned, random_case};
use std::error::Error;
use std::io::Write;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Networks of a batch.
const BATCH: u32 = 250;
/// As in the suite.
const TOLERANCE: f64 = 2e-4;

/// Runs a batch; returns how many of its networks say nothing, since rounding errors grow in them.
fn run(seed: u64) -> Result<u32, String> {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config = Config { cases: BATCH, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let drawn = (random_case(Smooth::Yes), 1usize..6, prop::sample::select(speeds::ALL.to_vec()));
    let left_out = AtomicU32::new(0);
    let result = runner.run(&drawn, |(case, threads, speeds)| {
        let make = |plan: Plan, config: ExecutionConfig| -> Result<Box<dyn Executor>, ExecutorError> {
            Ok(Box::new(CpuExecutor::for_cores(plan, ExecutionConfig { threads, ..config }, speeds)?))
        };
        match check(&case, &make, TOLERANCE) {
            // Of sums that cancel to nothing, single precision leaves a little.
            Err(error)
                if is_well_conditioned(&case, TOLERANCE) && check(&case, &make, 5.0 * TOLERANCE).is_err() =>
            {
                Err(TestCaseError::fail(error))
            }
            Err(_) => {
                left_out.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    });
    match result {
        Ok(()) => Ok(left_out.into_inner()),
        Err(TestError::Fail(reason, drawn)) => Err(format!("{reason}\n{drawn:#?}")),
        Err(other) => Err(other.to_string()),
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let numbers: Vec<u64> = std::env::args().skip(1).map(|a| a.parse()).collect::<Result<_, _>>()?;
    let (count, seed) = match numbers[..] {
        [count] => (count, 0),
        [count, seed] => (count, seed),
        _ => return Err("expected: COUNT [SEED]".into()),
    };
    let (next, end) = (AtomicU64::new(seed), seed + count.div_ceil(u64::from(BATCH)));
    let (done, left_out, failed) = (AtomicU32::new(0), AtomicU32::new(0), AtomicU32::new(0));
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= end {
                return;
            }
            match run(seed) {
                Ok(few) => left_out.fetch_add(few, Ordering::Relaxed),
                Err(error) => {
                    println!("seed {seed}: {error}");
                    failed.fetch_add(1, Ordering::Relaxed)
                }
            };
            let done = done.fetch_add(BATCH, Ordering::Relaxed) + BATCH;
            println!("{done} networks, the last from seed {seed}");
            let _ = std::io::stdout().flush();
        }
    };
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    std::thread::scope(|scope| (0..cores).for_each(|_| drop(scope.spawn(work))));
    let (done, left_out, failed) = (done.into_inner(), left_out.into_inner(), failed.into_inner());
    println!("{done} networks, of which {left_out} grow rounding errors and say nothing");
    if failed > 0 { Err(format!("{failed} batches fail").into()) } else { Ok(()) }
}
