//! The executor suite on a real GPU. Ignored, since most machines have none:
//! `cargo test --release -p rnnc-cuda --test device -- --ignored`. `RNNC_ONLY=TEXT,TEXT` runs those cases alone whose names
//! begin with one of the texts; `RNNC_PART=K/N` of every N cases the one at K, from 0 on, so that processes can share them.

use proptest::prelude::*;
use proptest::test_runner::contextualize_config;
use rnnc_cuda::CudaExecutor;
use rnnc_plan::{ExecutionConfig, Executor, ExecutorError, Plan};
use rnnc_suite::{
    Case, Smooth, cases, check, check_norms, check_refusals, check_state_gradients, check_updates,
    is_well_conditioned, random_case,
};

/// Relative to the largest number of an array; single precision against double.
const TOLERANCE: f64 = 2e-4;

fn make(plan: Plan, config: ExecutionConfig) -> Result<Box<dyn Executor>, ExecutorError> {
    Ok(Box::new(CudaExecutor::new(plan, config)?))
}

fn all_agree(cases: &[Case]) {
    let wrong: Vec<String> = cases.iter().filter_map(|case| check(case, &make, TOLERANCE).err()).collect();
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

/// The suite's cases, or those that are asked for.
fn wanted() -> Vec<Case> {
    let mut cases = cases();
    if let Ok(only) = std::env::var("RNNC_ONLY") {
        cases.retain(|case| only.split(',').any(|begin| case.name.starts_with(begin)));
        assert!(!cases.is_empty(), "no case begins with `{only}`");
    }
    if let Ok(part) = std::env::var("RNNC_PART") {
        let (part, parts) = part.split_once('/').expect("RNNC_PART is K/N");
        let [part, parts] = [part, parts].map(|number| number.parse::<usize>().expect("RNNC_PART is K/N"));
        assert!(part < parts, "there is no part {part} of {parts}");
        cases = cases.into_iter().skip(part).step_by(parts).collect();
    }
    cases
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn every_case_agrees_with_the_reference() {
    let cases = wanted();
    all_agree(&cases);
    println!("{} cases agree", cases.len());
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn gradients_of_the_state_agree_with_the_reference() {
    let wrong: Vec<String> =
        wanted().iter().filter_map(|case| check_state_gradients(case, &make, TOLERANCE).err()).collect();
    assert!(wrong.is_empty(), "{} cases:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn executors_of_several_threads_do_not_disturb_each_other() {
    let few: Vec<Case> = wanted().into_iter().step_by(4).collect();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| all_agree(&few));
        }
    });
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn what_an_executor_must_refuse_is_refused() {
    check_refusals(&make).unwrap();
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn gradients_of_any_size_move_weights_and_what_is_no_number_changes_nothing() {
    check_updates(&make).unwrap();
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn norms_of_numbers_of_any_size_are_right() {
    check_norms(&make).unwrap_or_else(|wrong| panic!("{wrong}"));
}

proptest! {
    #![proptest_config(contextualize_config(ProptestConfig { cases: 20, ..ProptestConfig::default() }))]

    #[test]
    #[ignore = "needs an NVIDIA GPU"]
    fn random_networks_agree_with_the_reference(case in random_case(Smooth::Yes)) {
        prop_assume!(is_well_conditioned(&case, TOLERANCE));
        check(&case, &make, TOLERANCE).map_err(TestCaseError::fail)?;
    }
}
