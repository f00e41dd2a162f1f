//! The executor suite on the CPU executor: every network against the reference, on one worker and on several.

mod speeds;

use proptest::prelude::*;
use proptest::test_runner::contextualize_config;
use rnnc_cpu::team::Policy;
use rnnc_cpu::{CpuExecutor, Speeds};
use rnnc_graph::{Activation, Connect, Graph, Range, WeightId};
use rnnc_plan::{
    ExecutionConfig, Executor, ExecutorError, OptimizerSettings, ParameterArray, Partition, Plan,
    PlanOptions, Precision, StageKind, Task, Update, Values, ValuesMut,
};
use rnnc_suite::{
    Case, Smooth, cases, check, check_cells, check_functions, check_norms, check_refusals,
    check_state_gradients, check_updates, is_well_conditioned, networks, random_case,
};
use speeds::{FORGETFUL, NIMBLE, TARDY};

/// Relative to the largest number of an array; single precision against double.
const TOLERANCE: f64 = 2e-4;

/// With weights of products rounded to bf16: half of its last bit, some times over.
const COARSE: f64 = 4e-2;

/// The same with products as coarse as can be.
fn coarse(threads: usize) -> impl Fn(Plan, ExecutionConfig) -> Result<Box<dyn Executor>, ExecutorError> {
    move |plan, config| on(threads)(plan, ExecutionConfig { precision: Precision::Bf16, ..config })
}

fn on(threads: usize) -> impl Fn(Plan, ExecutionConfig) -> Result<Box<dyn Executor>, ExecutorError> {
    at(Speeds::CORE, threads)
}

fn at(
    speeds: Speeds,
    threads: usize,
) -> impl Fn(Plan, ExecutionConfig) -> Result<Box<dyn Executor>, ExecutorError> {
    move |plan, config| {
        Ok(Box::new(CpuExecutor::for_cores(plan, ExecutionConfig { threads, ..config }, speeds)?))
    }
}

fn all_agree(cases: &[Case], threads: usize) {
    all_agree_at(Speeds::CORE, cases, threads);
}

fn all_agree_at(speeds: Speeds, cases: &[Case], threads: usize) {
    let wrong: Vec<String> =
        cases.iter().filter_map(|case| check(case, &at(speeds, threads), TOLERANCE).err()).collect();
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

/// How many pipelines in chunks, and how many of independent loops, the passes of all cases have.
fn pipelines(speeds: Speeds, cases: &[Case], threads: usize) -> [usize; 2] {
    let mut count = [0, 0];
    for case in cases {
        let config = ExecutionConfig { threads, ..case.config() };
        let executor = CpuExecutor::for_cores(case.plan().unwrap(), config, speeds).unwrap();
        for pipeline in executor.schedule().passes().flat_map(|pass| &pass.pipelines) {
            count[usize::from(pipeline.chunks == 1)] += 1;
        }
    }
    count
}

#[test]
fn every_case_agrees_where_stages_run_in_time_blocks() {
    for threads in [1, 2, 3] {
        let [mut time_blocks, mut rings, mut short] = [0; 3];
        for case in cases() {
            let config = ExecutionConfig { threads, ..case.config() };
            let executor = CpuExecutor::for_cores(case.plan().unwrap(), config, FORGETFUL).unwrap();
            for time_block in executor.schedule().passes().flat_map(|pass| &pass.time_blocks) {
                time_blocks += 1;
                rings += time_block.rings.len();
                short += time_block.rings.iter().filter(|(_, frames)| *frames < config.window).count();
            }
        }
        assert!(
            time_blocks > 50 && rings > 100 && short > 50,
            "{threads} workers: {time_blocks}, {rings}, {short}"
        );
        all_agree_at(FORGETFUL, &cases(), threads);
    }
}

#[test]
fn every_case_agrees_where_everything_is_shared_out() {
    for threads in [2, 3] {
        all_agree_at(NIMBLE, &cases(), threads);
    }
}

#[test]
fn every_case_agrees_where_loops_run_at_the_same_time() {
    for threads in [2, 3, 5] {
        let [in_chunks, independent] = pipelines(TARDY, &cases(), threads);
        assert!(
            in_chunks > 5 && independent > 5,
            "{threads} workers: {in_chunks} and {independent} pipelines"
        );
        all_agree_at(TARDY, &cases(), threads);
    }
}

/// How many scans are partitioned by chunks of frames.
fn chunked(speeds: Speeds, case: &Case, threads: usize) -> usize {
    let config = ExecutionConfig { threads, ..case.config() };
    let executor = CpuExecutor::for_cores(case.plan().unwrap(), config, speeds).unwrap();
    executor.schedule().partitions().filter(|&partition| partition == Partition::Time).count()
}

#[test]
fn every_case_agrees_where_scans_run_in_chunks() {
    for threads in [3, 4, 5] {
        let mut cases = cases();
        cases.retain(|case| chunked(NIMBLE, case, threads) > 0);
        assert!(cases.len() > 10, "{threads} workers: {} cases", cases.len());
        all_agree_at(NIMBLE, &cases, threads);
    }
}

#[test]
fn scans_agree_wherever_chunks_and_sequences_begin() {
    // One number a unit and more, delays of one frame and more, learned starts, both directions in each.
    let names = [
        "gated_scan",
        "oscillator",
        "long_memory",
        "scan_through_a_diagonal",
        "starts",
        "dropout",
        "bidirectional",
    ];
    let mut scans = 0;
    for network in networks().iter().filter(|network| names.contains(&network.name)) {
        // From windows of fewer frames than workers to such in which chunks are longer than a tile.
        for (n, frames) in [1usize, 2, 3, 5, 6, 7, 11, 12, 13, 23, 24, 25, 150].into_iter().enumerate() {
            let resets = [0.0, 0.1, 0.3, 0.6][n % 4];
            let graph = (network.build)(3, [7, 16, 1][n % 3]);
            let windows = [frames, 1, frames.div_ceil(2), frames];
            let case = Case::new(network.name, graph, 1 + n % 2, &windows, resets);
            for threads in [3, 4, 7] {
                scans += chunked(NIMBLE, &case, threads);
                all_agree_at(NIMBLE, std::slice::from_ref(&case), threads);
            }
        }
    }
    assert!(scans > 300, "{scans} scans in chunks");
}

/// How many loops are partitioned by whole heads, by so many barriers a step or fewer.
fn partitioned_by_heads(speeds: Speeds, case: &Case, threads: usize, most: usize) -> usize {
    let config = ExecutionConfig { threads, ..case.config() };
    let executor = CpuExecutor::for_cores(case.plan().unwrap(), config, speeds).unwrap();
    let stages = executor.plan().stages().zip(executor.schedule().partitions());
    stages
        .filter(|(_, partition)| *partition == Partition::Heads)
        .flat_map(|(stage, _)| &stage.tasks)
        .filter(|task| task.barriers_per_step(Partition::Heads) <= most)
        .count()
}

#[test]
fn every_case_agrees_where_whole_heads_are_shared_out() {
    for threads in [2, 3, 5] {
        let mut cases = cases();
        cases.retain(|case| partitioned_by_heads(NIMBLE, case, threads, 9) > 0);
        let without = cases.iter().map(|case| partitioned_by_heads(NIMBLE, case, threads, 0)).sum::<usize>();
        let all = cases.iter().map(|case| partitioned_by_heads(NIMBLE, case, threads, 9)).sum::<usize>();
        assert!(without > 20 && all > without + 5, "{threads} workers: {without} of {all} without barriers");
        all_agree_at(NIMBLE, &cases, threads);
        // One share after the other: what one reads of another's before a barrier is not there.
        let alone = |plan, config: ExecutionConfig| -> Result<Box<dyn Executor>, ExecutorError> {
            let mut executor = CpuExecutor::for_cores(plan, ExecutionConfig { threads, ..config }, NIMBLE)?;
            executor.set_policy(Policy::Alone);
            Ok(Box::new(executor))
        };
        let wrong: Vec<String> =
            cases.iter().filter_map(|case| check(case, &alone, TOLERANCE).err()).collect();
        assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    }
}

/// Makes a loop for each head of every loop whose heads are independent, and returns how many.
fn part_heads(plan: &mut Plan) -> usize {
    let mut parts = 0;
    for pass in std::iter::once(&mut plan.forward_pass).chain(&mut plan.backward_pass) {
        for stage in pass.stages.iter_mut().filter(|stage| stage.kind == StageKind::Loop) {
            let parted = |task: &Task| task.parted(task.heads).unwrap_or_else(|| vec![task.clone()]);
            let before = stage.tasks.len();
            stage.tasks = stage.tasks.iter().flat_map(parted).collect();
            parts += stage.tasks.len() - before;
        }
    }
    assert_eq!(plan.verify(), Ok(()));
    parts
}

#[test]
fn loops_of_one_head_each_agree_with_the_reference() {
    let mut cases = cases();
    cases.retain(|case| part_heads(&mut case.plan().unwrap()) > 0);
    assert!(cases.len() > 20, "{} cases", cases.len());
    for threads in [1, 3] {
        let in_parts = |mut plan: Plan, config| {
            part_heads(&mut plan);
            at(TARDY, threads)(plan, config)
        };
        let wrong: Vec<String> =
            cases.iter().filter_map(|case| check(case, &in_parts, TOLERANCE).err()).collect();
        assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    }
}

/// The bits of all outputs, gradients and weights in some updates, whoever does the workers' shares.
fn bits(case: &Case, speeds: Speeds, threads: usize, policy: Policy) -> Vec<u32> {
    let trial = case.trial().unwrap();
    let config = ExecutionConfig { threads, ..case.config() };
    let mut executor = CpuExecutor::for_cores(case.plan().unwrap(), config, speeds).unwrap();
    executor.set_policy(policy);
    for (id, values) in trial.weights.iter().enumerate() {
        executor.write(ParameterArray::Weight, WeightId::from_index(id), Values::F32(values)).unwrap();
    }
    let mut bits = Vec::new();
    for (step, window) in (1..).zip(&trial.windows) {
        window.forward(&mut executor).unwrap();
        window.backward(&mut executor, window.frames).unwrap();
        let optimizer = OptimizerSettings::default();
        let update = Update { learning_rate: 1e-3, step, clip_norm: Some(1.0), optimizer };
        bits.push((executor.update(&update).unwrap() as f32).to_bits());
        for (output, o) in case.graph.outputs().iter().enumerate() {
            let size = case.graph.layer_at(o.layer).size;
            let mut values = vec![0.0; window.frames * case.streams * size];
            executor.output(output, ValuesMut::F32(&mut values)).unwrap();
            bits.extend(values.into_iter().map(f32::to_bits));
        }
        for (id, weight) in case.graph.weights().iter().enumerate() {
            for part in [ParameterArray::Gradient, ParameterArray::Weight] {
                let mut values = vec![0.0; weight.len()];
                executor.read(part, WeightId::from_index(id), ValuesMut::F32(&mut values)).unwrap();
                bits.extend(values.into_iter().map(f32::to_bits));
            }
        }
    }
    bits
}

/// How many loops are shared out by rows and by units, scans by chunks of frames, and how many time blocks and pipelines there are.
fn ways(case: &Case, speeds: Speeds, threads: usize) -> [usize; 5] {
    let config = ExecutionConfig { threads, ..case.config() };
    let executor = CpuExecutor::for_cores(case.plan().unwrap(), config, speeds).unwrap();
    let (plan, schedule) = (executor.plan(), executor.schedule());
    let partitioned = |kind, partition| {
        let stages = plan.stages().map(|stage| stage.kind).zip(schedule.partitions());
        stages.filter(|&stage| stage == (kind, partition)).count()
    };
    let passes = || schedule.passes();
    [
        partitioned(StageKind::Loop, Partition::Batch),
        partitioned(StageKind::Loop, Partition::Units),
        partitioned(StageKind::Scan, Partition::Time),
        passes().map(|pass| pass.time_blocks.len()).sum(),
        passes().map(|pass| pass.pipelines.len()).sum(),
    ]
}

#[test]
fn results_are_the_same_to_the_bit_whoever_does_the_workers_shares() {
    let mut all = [0; 5];
    for (n, (threads, speeds)) in [(3, NIMBLE), (4, TARDY), (2, FORGETFUL)].into_iter().enumerate() {
        // Each of some: it takes long where the machine is busy.
        for case in cases().into_iter().skip(n).step_by(5) {
            let found = ways(&case, speeds, threads);
            all.iter_mut().zip(found).for_each(|(all, found)| *all += found);
            let shared = bits(&case, speeds, threads, Policy::Shared);
            for policy in [Policy::Alone, Policy::SharedUntil(0), Policy::SharedUntil(3)] {
                let found = bits(&case, speeds, threads, policy);
                assert!(found == shared, "{}, {threads} workers, {policy:?}", case.name);
            }
        }
    }
    assert!(all.iter().all(|&ways| ways > 5), "{all:?}");
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
fn gradients_of_the_state_agree_with_the_reference() {
    for threads in [1, 2] {
        let check = |case: &Case| check_state_gradients(case, &on(threads), TOLERANCE).err();
        let wrong: Vec<String> = cases().iter().filter_map(check).collect();
        assert!(wrong.is_empty(), "{} cases:\n{}", wrong.len(), wrong.join("\n"));
    }
}

#[test]
fn coarser_products_agree_with_the_reference_as_far_as_they_round() {
    let cases = cases();
    let lstm = cases.iter().find(|case| case.name.starts_with("lstm")).unwrap();
    // Windows in which weights are packed. With more than two streams a worker nothing is rounded.
    for (streams, rounds) in [(1, true), (6, false)] {
        let case = Case::new("lstm", lstm.graph.clone(), streams, &[64, 64], 0.05);
        for threads in [1, 2] {
            check(&case, &coarse(threads), COARSE).unwrap();
            assert_eq!(check(&case, &coarse(threads), TOLERANCE).is_err(), rounds, "{streams} streams");
        }
        let fine = |plan, config: ExecutionConfig| {
            on(1)(plan, ExecutionConfig { precision: Precision::Tf32, ..config })
        };
        check(&case, &fine, TOLERANCE).unwrap();
    }
}

#[test]
fn what_an_executor_must_refuse_is_refused() {
    check_refusals(&on(1)).unwrap();
}

#[test]
fn gradients_of_any_size_move_weights_and_what_is_no_number_changes_nothing() {
    for threads in [1, 3] {
        check_updates(&on(threads)).unwrap();
    }
}

/// y = concat(c, broadcast(a; n)), where c is 0, 1, 2, ... and a is -1, -2, ...
fn repeated_behind(c: usize, a: usize, n: usize, threads: usize) -> Vec<f32> {
    let mut graph = Graph::new("n");
    let (x, few) = (graph.input("c", c), graph.input("a", a));
    let y = graph.sum("y", c + n, Activation::Identity);
    graph.connect(x, y, Connect::identity().to(Range::new(0, c)));
    graph.connect(few, y, Connect::broadcast().to(Range::new(c, n)));
    graph.output("y", y);
    let plan = Plan::new(&graph, PlanOptions::inference(1, 1)).unwrap();
    let mut executor = at(NIMBLE, threads)(plan, ExecutionConfig::new(1, 1)).unwrap();
    let numbers: Vec<f32> = (0..c).map(|k| k as f32).collect();
    let repeated: Vec<f32> = (0..a).map(|k| -1.0 - k as f32).collect();
    executor.forward(1, &[Values::F32(&numbers), Values::F32(&repeated)], None).unwrap();
    let mut y = vec![0.0; c + n];
    executor.output(0, ValuesMut::F32(&mut y)).unwrap();
    assert_eq!(y[..c], numbers);
    y.split_off(c)
}

#[test]
fn repeated_values_behind_any_number_of_units_are_those_that_were_given() {
    assert_eq!(repeated_behind(4, 2, 4, 1), [-1.0, -1.0, -2.0, -2.0]);
    assert_eq!(repeated_behind(4_000_000, 1, 2, 2), [-1.0, -1.0]);
    // Through borders of tiles and of workers.
    for threads in [1, 3] {
        for (c, a, times) in [(300, 3, 300), (5, 700, 3), (255, 1, 600), (1, 40, 17)] {
            let expected: Vec<f32> = (0..a * times).map(|u| -1.0 - (u / times) as f32).collect();
            assert_eq!(repeated_behind(c, a, a * times, threads), expected, "{a} units {times} times");
        }
    }
}

proptest! {
    #![proptest_config(contextualize_config(ProptestConfig { cases: 150, ..ProptestConfig::default() }))]

    #[test]
    fn random_networks_agree_with_the_reference(
        case in random_case(Smooth::Yes),
        threads in 1usize..6,
        speeds in prop::sample::select(speeds::ALL.to_vec()),
    ) {
        prop_assume!(is_well_conditioned(&case, TOLERANCE));
        check(&case, &at(speeds, threads), TOLERANCE).map_err(TestCaseError::fail)?;
    }
}

#[test]
fn functions_and_their_derivatives_are_accurate_over_all_numbers() {
    check_functions(&on(1)).unwrap_or_else(|wrong| panic!("{wrong}"));
}

#[test]
fn norms_are_right_for_numbers_of_any_size() {
    for threads in [1, 3] {
        check_norms(&on(threads)).unwrap_or_else(|wrong| panic!("{wrong}"));
    }
}

#[test]
fn cells_stay_finite_and_right_for_inputs_and_biases_of_any_size() {
    check_cells(&on(1)).unwrap_or_else(|wrong| panic!("{wrong}"));
}
