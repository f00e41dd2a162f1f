//! The executor suite on the CPU executor: every network against the reference, on one worker and on several.

use proptest::prelude::*;
use proptest::test_runner::contextualize_config;
use rnnc_cpu::CpuExecutor;
use rnnc_plan::{Executor, ExecutorError, Plan, Setup};
use rnnc_suite::{Case, Smooth, cases, check, check_refusals, is_well_conditioned, random_case};

/// Relative to the largest number of an array; single precision against double.
const TOLERANCE: f64 = 2e-4;

fn on(threads: usize) -> impl Fn(Plan, Setup) -> Result<Box<dyn Executor>, ExecutorError> {
    move |plan, setup| Ok(Box::new(CpuExecutor::new(plan, Setup { threads, ..setup })?))
}

fn all_agree(cases: &[Case], threads: usize) {
    let wrong: Vec<String> =
        cases.iter().filter_map(|case| check(case, &on(threads), TOLERANCE).err()).collect();
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

#[test]
fn every_case_agrees_with_the_reference_on_one_worker() {
    all_agree(&cases(), 1);
}

#[test]
fn every_case_agrees_with_the_reference_on_two_workers() {
    all_agree(&cases(), 2);
}

#[test]
fn every_case_agrees_with_the_reference_on_three_workers() {
    all_agree(&cases(), 3);
}

#[test]
fn what_an_executor_must_refuse_is_refused() {
    check_refusals(&on(1)).unwrap();
}

proptest! {
    #![proptest_config(contextualize_config(ProptestConfig { cases: 150, ..ProptestConfig::default() }))]

    #[test]
    fn random_networks_agree_with_the_reference(case in random_case(Smooth::Yes), threads in 1usize..4) {
        prop_assume!(is_well_conditioned(&case, TOLERANCE));
        check(&case, &on(threads), TOLERANCE).map_err(TestCaseError::fail)?;
    }
}
