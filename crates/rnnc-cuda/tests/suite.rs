//! The executor suite on generated kernels: every network against the reference, each thread of each kernel run on the
//! host (see `emulation/mod.rs`), on two small devices. `RNNC_ONLY=lstm,gru` runs the cases alone whose names have one of
//! these in them; `RNNC_EMULATION_SEED` draws other orders of threads.

mod emulation;

use emulation::{Emulated, assert_each, devices, seed};
use proptest::prelude::*;
use proptest::test_runner::contextualize_config;
use rnnc_cuda::CudaExecutor;
use rnnc_cuda::compile::compile;
use rnnc_cuda::device::{Device, Rates};
use rnnc_cuda::driver::Geometry;
use rnnc_cuda::explain::explain;
use rnnc_cuda::program::{Command, Launch, Work, commands};
use rnnc_plan::{ExecutionConfig, Executor, ExecutorError, Plan, PlanOptions, Precision, Values, ValuesMut};
use rnnc_suite::{
    Case, Smooth, cases, check, check_cells, check_functions, check_norms, check_refusals,
    check_state_gradients, check_updates, is_well_conditioned, networks, random_case,
};

/// Relative to the largest number of an array; single precision against double.
const TOLERANCE: f64 = 2e-4;

fn on(device: &Device) -> impl Fn(Plan, ExecutionConfig) -> Result<Box<dyn Executor>, ExecutorError> {
    move |plan, config| {
        let driver = Emulated::new(device.clone(), seed())?;
        Ok(Box::new(CudaExecutor::with_driver(plan, config, Box::new(driver))?))
    }
}

/// Of every `parts` cases those from `part` on, so that parts run side by side.
fn all_agree(device: &Device, part: usize, parts: usize) {
    let cases = cases().into_iter().skip(part).step_by(parts);
    assert_each(device, cases, |case| check(case, &on(device), TOLERANCE));
}

#[test]
fn even_cases_agree_with_the_reference_without_clusters() {
    all_agree(&devices()[0], 0, 2);
}

#[test]
fn odd_cases_agree_with_the_reference_without_clusters() {
    all_agree(&devices()[0], 1, 2);
}

#[test]
fn even_cases_agree_with_the_reference_with_clusters() {
    all_agree(&devices()[1], 0, 2);
}

#[test]
fn odd_cases_agree_with_the_reference_with_clusters() {
    all_agree(&devices()[1], 1, 2);
}

/// Of every two cases the one at that place, as a functional of the state that each window leaves too.
fn gradients_of_the_state_agree(device: &Device, place: usize) {
    let cases = cases().into_iter().skip(place).step_by(2);
    assert_each(device, cases, |case| check_state_gradients(case, &on(device), TOLERANCE));
}

#[test]
fn gradients_of_the_state_of_even_cases_agree_with_the_reference() {
    gradients_of_the_state_agree(&devices()[0], 0);
}

#[test]
fn gradients_of_the_state_of_odd_cases_agree_with_the_reference() {
    gradients_of_the_state_agree(&devices()[1], 1);
}

#[test]
fn gradients_of_the_state_come_through_windows_shorter_than_delays_and_steps_shorter_than_windows() {
    let delays = networks().into_iter().filter(|network| network.name.contains("delay"));
    let mut count = 0;
    for network in delays {
        for (windows, window, resets) in
            [(&[5, 1, 2, 1][..], 5, 0.0), (&[1, 2, 1, 5][..], 5, 0.2), (&[2, 1, 2, 2][..], 6, 0.1)]
        {
            let graph = (network.build)(3, 5);
            // A network that looks ahead has no steps shorter than its window.
            if graph.looks_ahead() && window == 6 {
                continue;
            }
            let case = Case { window, ..Case::new(network.name, graph, 2, windows, resets) };
            check_state_gradients(&case, &on(&devices()[1]), TOLERANCE).unwrap();
            count += 1;
        }
    }
    assert!(count > 5, "{count} cases");
}

/// Whether a case has a kernel of such a geometry on a device.
fn has(case: &Case, device: &Device, such: fn(&Geometry) -> bool) -> bool {
    let program = compile(&case.plan().unwrap(), case.config(), device).unwrap();
    commands(&program.forward).chain(commands(&program.backward)).any(|command| match command {
        Command::Kernel(Launch { work: Work::Grid(geometry), what, .. }) => {
            what.contains(" loop of ") && such(geometry)
        }
        _ => false,
    })
}

#[test]
fn the_cases_have_loops_in_one_block_in_clusters_and_on_the_whole_grid() {
    let [plain, clustered] = devices();
    let cases = cases();
    let count = |device, such| cases.iter().filter(|case| has(case, device, such)).count();
    for device in [&plain, &clustered] {
        assert!(count(device, |g| g.blocks == 1) > 20, "`{}` has few loops in one block", device.name);
        assert!(count(device, |g| g.cooperative) > 20, "`{}` has few loops on the grid", device.name);
    }
    assert!(count(&clustered, |g| g.cluster == 2) > 20, "there are few loops in clusters");
    let tiles = |device: &Device, case: &&Case| {
        let program = compile(&case.plan().unwrap(), case.config(), device).unwrap();
        program.sources.iter().any(|source| source.text.contains(" multiply_f32(sum["))
    };
    let count = cases.iter().filter(|case| tiles(&clustered, case)).count();
    assert!(count > 20, "there are {count} loops on tensor cores");
}

#[test]
fn the_cases_have_loops_that_run_as_several_of_some_heads_each() {
    let parts = |case: &Case, device: &Device| {
        let explained = explain(&case.plan().unwrap(), case.config(), device).unwrap();
        let stages = explained.passes.into_iter().flat_map(|pass| pass.stages);
        stages.flat_map(|stage| stage.loops).filter(|l| l.part.1 > 1).count()
    };
    for device in devices() {
        let count = cases().iter().filter(|case| parts(case, &device) > 0).count();
        assert!(count > 10, "`{}` has {count} such cases", device.name);
    }
}

#[test]
fn loops_whose_blocks_share_rows_in_teams_agree_with_the_reference() {
    let text = "network n { input x : vector(8)  h = lstm(x; 32)  output h }";
    let graph = rnnc_lang::compile("n.rnn", text, None).map_err(|errors| errors.to_string()).unwrap();
    // Where the whole grid is the best tier; the backward loop has 8 rows a block, and tiles have 16.
    let [_, mut device] = devices();
    device.rates = Rates { frame_us: [1e3, 1e3, 0.1], tiles: 0.5, ..device.rates };
    let device = &device;
    for (streams, group) in [(8, 8), (11, 11), (19, 8)] {
        let device = &in_groups(device, group, group);
        let case = Case::new("lstm", graph.clone(), streams, &[3, 2], 0.2);
        assert!(has(&case, device, |g| g.cluster == 2 && g.cooperative), "no loop is shared out in teams");
        check(&case, &on(device), TOLERANCE).unwrap();
    }
}

/// A device on which a group has as many streams as these, from the fewest to the most.
fn in_groups(device: &Device, fewest: usize, most: usize) -> Device {
    Device { group_streams: (fewest, most), ..device.clone() }
}

#[test]
fn cases_agree_with_the_reference_where_a_group_of_blocks_has_few_streams_or_as_many_as_are_best() {
    for (device, (fewest, most)) in devices().iter().zip([(1, usize::MAX), (2, 2)]) {
        let device = in_groups(device, fewest, most);
        let all = cases().into_iter().filter(|case| case.streams > fewest);
        // The others are as those of one group: some will do.
        let cases = all.skip(fewest - 1).step_by(4);
        assert_each(&device, cases, |case| check(case, &on(&device), TOLERANCE));
    }
}

#[test]
fn groups_of_any_size_in_blocks_in_clusters_and_on_the_grid_agree_with_the_reference() {
    let cells = [
        ("lstm", "input x : vector(5)  h = lstm(x; 24)", "h"),
        ("norms", "input x : vector(5)  h = lstm_layer_norm(x; 24)", "h"),
        (
            "own",
            "input x : symbol(5)  a = tanh(dense(x; 24) + dense(dropout(b[t-1]; 0.25); 24) + diag(c[t-2]))
             b = layer_norm(a * c[t-1]; groups = 2)  c = 0.5 * c[t-1] + 0.5 * a  start c = learned",
            "b",
        ),
    ];
    let [_, device] = devices();
    // Which tier is the best: a block, a cluster, the grid, and there with the lanes' products or by tensor cores.
    let rates =
        [([0.01, 1e3, 1e3], 0.0), ([1e3, 0.01, 1e3], 0.0), ([1e3, 1e3, 0.01], 1e3), ([1e3, 1e3, 0.01], 0.5)];
    let mut found = [0; 4];
    for (name, text, output) in cells {
        let text = format!("network n {{ {text}  output {output} }}");
        let graph = rnnc_lang::compile("n.rnn", &text, None).unwrap_or_else(|errors| panic!("{errors}"));
        for (streams, group) in [(3, 2), (11, 4), (48, 20), (200, 24)] {
            // Of many streams, one cell is enough.
            if streams > 11 && name != "own" {
                continue;
            }
            let frames: &[usize] = if streams > 11 { &[2] } else { &[3, 2] };
            let case = Case::new(name, graph.clone(), streams, frames, 0.2);
            for (frame_us, tiles) in rates {
                let device = Device {
                    rates: Rates { frame_us, tiles, ..device.rates },
                    ..in_groups(&device, group, group)
                };
                check(&case, &on(&device), TOLERANCE).unwrap_or_else(|wrong| panic!("{wrong}"));
                let explained = explain(&case.plan().unwrap(), case.config(), &device).unwrap();
                for found_loop in explained.passes.iter().flat_map(|p| &p.stages).flat_map(|s| &s.loops) {
                    assert!(found_loop.groups.streams == group && found_loop.groups.count() > 1);
                    found[found_loop.tier as usize] += 1;
                    found[3] += usize::from(found_loop.groups.turns() > 1);
                }
            }
        }
    }
    assert!(found.iter().all(|&count| count > 5), "in blocks, in clusters, on the grid, by turns: {found:?}");
}

#[test]
fn a_nan_of_the_bits_that_say_absent_goes_through_a_loop_as_any_other() {
    let text = "network n { input x : vector(24)  h = max(x, dense(h[t-1]; 24))  output h }";
    let graph = rnnc_lang::compile("n.rnn", text, None).map_err(|errors| errors.to_string()).unwrap();
    let [_, mut device] = devices();
    device.rates = Rates { frame_us: [1e3, 1e3, 0.01], ..device.rates };
    let plan = Plan::new(&graph, PlanOptions::training(1, 4)).unwrap();
    let program = compile(&plan, ExecutionConfig::new(1, 4), &device).unwrap();
    assert!(program.sources.iter().any(|source| source.text.contains("posted_0(")), "nothing is posted");
    let mut executor = on(&device)(plan, ExecutionConfig::new(1, 4)).unwrap();
    let mut x = vec![0.5; 4 * 24];
    x[24 + 3] = f32::from_bits(u32::MAX);
    executor.forward(4, &[Values::F32(&x)], None).unwrap();
    let mut h = vec![0.0; 4 * 24];
    executor.output(0, ValuesMut::F32(&mut h)).unwrap();
    let nan: Vec<usize> = (0..h.len()).filter(|&k| h[k].is_nan()).collect();
    // Behind the frame of that unit, all units are sums with it.
    assert_eq!(nan, [24 + 3].into_iter().chain(48..96).collect::<Vec<_>>());
}

#[test]
fn coarser_products_agree_with_the_reference_as_far_as_they_round() {
    let cases = cases();
    let cases = || cases.iter().filter(|case| case.name.starts_with("lstm") && case.streams >= 4);
    assert!(cases().count() > 2);
    // Half of a last bit of TF32 and of bf16, some times over.
    for (precision, tolerance) in [(Precision::Tf32, 5e-3), (Precision::Bf16, 4e-2)] {
        for device in devices() {
            let make =
                |plan, config: ExecutionConfig| on(&device)(plan, ExecutionConfig { precision, ..config });
            for case in cases() {
                check(case, &make, tolerance).unwrap();
            }
        }
    }
}

#[test]
fn operands_copied_in_bf16_agree_with_the_reference_as_far_as_they_round() {
    let precision = Precision::Bf16;
    for mut device in devices() {
        // Copying takes no time.
        device.rates.memory_tbs = 1e9;
        device.rates.launch_us = 0.0;
        let sizes = |name: &str| {
            let network = networks().into_iter().find(|network| network.name == name);
            let network = network.unwrap_or_else(|| panic!("there is no network {name}"));
            Case::new(name, (network.build)(8, 16), 4, &[6, 5], 0.1)
        };
        let cases = ["lstm_peephole", "gru"].map(sizes);
        for case in &cases {
            let config = ExecutionConfig { precision, ..case.config() };
            let program = compile(&case.plan().unwrap(), config, &device).unwrap();
            for jobs in [&program.forward, &program.backward] {
                let mut commands = commands(jobs);
                let is_copied = |command| matches!(command, &Command::Product(product) if product.halves);
                assert!(commands.any(is_copied), "{}", case.name);
            }
        }
        let make = |plan, config: ExecutionConfig| on(&device)(plan, ExecutionConfig { precision, ..config });
        for case in &cases {
            check(case, &make, 4e-2).unwrap();
        }
    }
}

#[test]
fn what_an_executor_must_refuse_is_refused() {
    check_refusals(&on(&devices()[0])).unwrap();
}

#[test]
fn gradients_of_any_size_move_weights_and_what_is_no_number_changes_nothing() {
    check_updates(&on(&devices()[0])).unwrap();
}

proptest! {
    #![proptest_config(contextualize_config(ProptestConfig { cases: 20, ..ProptestConfig::default() }))]

    #[test]
    fn random_networks_agree_with_the_reference(case in random_case(Smooth::Yes), which in 0usize..2) {
        prop_assume!(is_well_conditioned(&case, TOLERANCE));
        check(&case, &on(&devices()[which]), TOLERANCE).map_err(TestCaseError::fail)?;
    }
}

#[test]
fn functions_and_their_derivatives_are_accurate_over_all_numbers() {
    check_functions(&on(&devices()[0])).unwrap_or_else(|wrong| panic!("{wrong}"));
}

#[test]
fn norms_are_right_for_numbers_of_any_size_on_one_block_and_on_several() {
    let [one, mut several] = devices();
    several.rates = Rates { frame_us: [1e3, 1e3, 0.01], ..several.rates };
    for device in [one, several] {
        check_norms(&on(&device)).unwrap_or_else(|wrong| panic!("{wrong}"));
    }
}

#[test]
fn cells_stay_finite_and_right_for_inputs_and_biases_of_any_size() {
    check_cells(&on(&devices()[1])).unwrap_or_else(|wrong| panic!("{wrong}"));
}
