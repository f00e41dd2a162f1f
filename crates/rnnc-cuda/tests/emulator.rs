//! The emulation itself: what kernels compute there, and which of their mistakes it sees.

mod emulation;

use emulation::{Emulated, devices};
use rnnc_cuda::driver::{Args, Driver, DriverError, Geometry, Operand, Product, Source};

const ONE_BLOCK: Geometry =
    Geometry { blocks: 1, threads: 64, shared_bytes: 0, cluster: 1, cooperative: false };
const GRID: Geometry = Geometry { blocks: 4, threads: 64, shared_bytes: 1024, cluster: 1, cooperative: true };
const CLUSTER: Geometry =
    Geometry { blocks: 2, threads: 64, shared_bytes: 1024, cluster: 2, cooperative: false };
/// Numbers of the values that kernels here work on; as many counters.
const LEN: usize = 1024;

/// Runs a kernel's body once for each seed; all must agree on the values it leaves.
fn run_with(body: &str, geometry: Geometry, seeds: u64, portable: bool) -> Result<Vec<f32>, DriverError> {
    let source = Source {
        name: "a kernel".into(),
        text: rnnc_cuda::source::prelude() + "\nKERNEL(kernel) {\n" + body + "\n}\n",
        kernels: vec!["kernel".into()],
    };
    let device = devices()[usize::from(geometry.cluster > 1)].clone();
    let mut first: Option<Vec<f32>> = None;
    for seed in 0..seeds {
        let make = if portable { Emulated::portable } else { Emulated::new };
        let mut driver = make(device.clone(), seed)?;
        let values = driver.allocate(LEN * 4)?;
        let weights = driver.allocate(LEN * 4)?;
        let counters = driver.allocate(LEN * 4)?;
        let numbers: Vec<u8> = (0..LEN).flat_map(|k| (k as f32).to_ne_bytes()).collect();
        driver.write(weights, &numbers)?;
        let kernel = driver.load(&source)?[0];
        let args = Args { values, weights, counters, end: 8, ..Args::default() };
        driver.launch(kernel, &geometry, &args)?;
        driver.synchronize()?;
        let mut bytes = vec![0; LEN * 4];
        driver.read(values, &mut bytes)?;
        let found: Vec<f32> =
            bytes.chunks(4).map(|b| f32::from_ne_bytes(b.try_into().expect("4 bytes"))).collect();
        let same = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits());
        match &first {
            None => first = Some(found),
            Some(first) if same(first, &found) => {}
            Some(_) => {
                return Err(DriverError::Call {
                    call: "launch",
                    what: format!("seed {seed} gives other numbers"),
                });
            }
        }
    }
    Ok(first.expect("there are seeds"))
}

fn run(body: &str, geometry: Geometry) -> Vec<f32> {
    run_with(body, geometry, 8, false).unwrap_or_else(|error| panic!("{error}"))
}

/// What the emulation says of a wrong kernel.
fn error_of(body: &str, geometry: Geometry) -> String {
    match run_with(body, geometry, 16, false) {
        Err(error @ DriverError::Call { call: "launch", .. }) => error.to_string(),
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("nothing is wrong with it"),
    }
}

const REDUCTION: &str = "
    float* s = shared_memory();
    float v = a.weights[global_thread()];
    for (u32 step = 16; step; step /= 2) v += shuffle_xor(v, step);
    if (thread() % 32 == 0) s[thread() / 32] = v;
    block_sync();
    float sum = 0.f;
    for (u32 w = 0; w < threads() / 32; w++) sum += s[w];
    a.values[global_thread()] = sum;";

/// Frame after frame, each block puts the sum of what all put before, plus its number.
const EXCHANGE: &str = "
    float* s = shared_memory();
    for (int t = 0; t < a.end; t++) {
        float* now = a.values + t * 32;
        const float* before = now - 32;
        if (t && thread() == 0) while (peek(a.counters) < (u32)t * blocks()) {}
        block_sync();
        if (thread() < blocks()) s[thread()] = t ? fresh(before + thread()) : 1.f;
        block_sync();
        float sum = 0.f;
        for (u32 b = 0; b < blocks(); b++) sum += s[b];
        if (thread() == 5) put(now + block(), sum + block());
        block_sync();
        if (thread() == 0) signal(a.counters);
    }";

/// The same, where numbers say themselves that they are there.
const POSTS: &str = "
    float* s = shared_memory();
    if (thread() == 0) {
        for (int t = 0; t < a.end; t++) put(a.values + t * 32 + block(), as_float(~0u));
        signal(a.counters);
        while (peek(a.counters) < blocks()) {}
    }
    block_sync();
    for (int t = 0; t < a.end; t++) {
        float* now = a.values + t * 32;
        float v = 1.f;
        if (t && thread() < blocks()) do v = look(now - 32 + thread()); while (as_u32(v) == ~0u);
        if (thread() < blocks()) s[thread()] = v;
        block_sync();
        float sum = 0.f;
        for (u32 b = 0; b < blocks(); b++) sum += s[b];
        block_sync();
        if (thread() == 5) post(now + block(), sum + block());
    }";

fn exchanged() -> Vec<f32> {
    let mut state = vec![1f32; 4];
    let mut all = vec![0.0; LEN];
    for t in 0..8 {
        let sum: f32 = state.iter().sum();
        state = (0..4).map(|b| sum + b as f32).collect();
        all[t * 32..t * 32 + 4].copy_from_slice(&state);
    }
    all
}

const PASS_ON: &str = "
    float* s = shared_memory();
    s[thread()] = 0.f;
    cluster_arrive();
    cluster_wait();
    if (thread() < 8) put_shared(s + thread(), cluster_rank() ^ 1, block() * 100.f + thread());
    cluster_arrive();
    cluster_wait();
    a.values[global_thread()] = s[thread()];";

#[test]
fn threads_know_their_places() {
    let body =
        "a.values[global_thread()] = thread() + 100.f * block() + 10000.f * blocks() + global_threads();";
    let found = run(body, Geometry { blocks: 8, ..ONE_BLOCK });
    for (k, &value) in found[..512].iter().enumerate() {
        assert_eq!(value, (k % 64 + 100 * (k / 64) + 80_000 + 512) as f32);
    }
}

#[test]
fn the_elementwise_functions_are_close_to_the_library() {
    let body = "float x = (a.weights[thread()] - 32.f) / 8.f;
        a.values[thread()] = f_sigmoid(x); a.values[64 + thread()] = f_tanh(x); a.values[128 + thread()] = f_gelu(x);";
    let found = run(body, ONE_BLOCK);
    for k in 0..64 {
        let x = (k as f64 - 32.0) / 8.0;
        assert!((f64::from(found[k]) - 1.0 / (1.0 + (-x).exp())).abs() < 1e-6);
        assert!((f64::from(found[64 + k]) - x.tanh()).abs() < 1e-6);
    }
    assert_eq!(found[128 + 32], 0.0);
}

#[test]
fn a_block_sums_with_shuffles_and_shared_memory() {
    let found = run(REDUCTION, GRID);
    for block in 0..4 {
        let sum: usize = (block * 64..block * 64 + 64).sum();
        assert!(found[block * 64..block * 64 + 64].iter().all(|&value| value == sum as f32));
    }
}

#[test]
fn a_missing_block_sync_gives_other_numbers() {
    let error = error_of(&REDUCTION.replace("block_sync();", ""), GRID);
    assert!(error.contains("other numbers"), "{error}");
}

#[test]
fn shuffles_and_ballots_cross_the_lanes_of_a_warp() {
    let body = "a.values[thread()] = shuffle((float)thread(), thread() / 2) + 1000.f * count_ones(ballot(thread() % 3 == 0));";
    let found = run(body, ONE_BLOCK);
    assert_eq!(found[1], 11_000.0);
    assert_eq!(found[33], 11_000.0 + 48.0);
}

#[test]
fn blocks_exchange_by_counters() {
    assert_eq!(run(EXCHANGE, GRID), exchanged());
}

#[test]
fn fibers_change_the_way_of_other_processors_too() {
    let found = run_with(EXCHANGE, GRID, 2, true);
    assert_eq!(found.unwrap_or_else(|error| panic!("{error}")), exchanged());
}

#[test]
fn each_fault_in_an_exchange_shows() {
    let faults = [
        ("block_sync();\n        if (thread() == 0) signal", "if (thread() == 0) signal"),
        ("block_sync();\n        if (thread() < blocks())", "if (thread() < blocks())"),
        ("block_sync();\n        float sum", "float sum"),
        ("signal(a.counters)", "ticket(a.counters)"),
        ("fresh(", "own("),
        ("(u32)t * blocks()", "(u32)t * blocks() - 1"),
    ];
    for (right, wrong) in &faults {
        assert!(EXCHANGE.contains(right), "{right}");
        let found = run_with(&EXCHANGE.replace(right, wrong), GRID, 16, false);
        assert!(
            found.is_err() || found.is_ok_and(|found| found != exchanged()),
            "{right} -> {wrong} was not seen"
        );
    }
}

#[test]
fn blocks_find_what_others_post() {
    assert_eq!(run(POSTS, GRID), exchanged());
}

#[test]
fn each_fault_in_an_exchange_by_posts_shows() {
    let faults = [
        ("put(a.values + t * 32 + block(), as_float(~0u))", "put(a.values, 0.f)"),
        ("while (as_u32(v) == ~0u)", "while (false)"),
        ("while (peek(a.counters) < blocks()) {}", ""),
        ("post(now", "put(now"),
        ("block_sync();\n        float sum", "float sum"),
    ];
    for (right, wrong) in &faults {
        assert!(POSTS.contains(right), "{right}");
        let found = run_with(&POSTS.replace(right, wrong), GRID, 16, false);
        assert!(
            found.is_err() || found.is_ok_and(|found| found != exchanged()),
            "{right} -> {wrong} was not seen"
        );
    }
}

#[test]
fn an_endless_poll_is_an_error_that_names_kernel_and_line() {
    let error = error_of(&EXCHANGE.replace("(u32)t * blocks()", "(u32)t * blocks() + 1"), GRID);
    assert!(error.contains("kernel `kernel`: nothing goes on"), "{error}");
    assert!(error.contains("polls in line"), "{error}");
    assert!(error.contains("while (peek(a.counters)"), "{error}");
}

#[test]
fn a_cluster_exchanges_through_shared_memory() {
    let found = run(PASS_ON, CLUSTER);
    for k in 0..8 {
        assert_eq!((found[k], found[64 + k]), (100.0 + k as f32, k as f32));
    }
}

#[test]
fn each_fault_in_a_cluster_shows() {
    let right = run(PASS_ON, CLUSTER);
    let barrier = "cluster_arrive();\n    cluster_wait();\n";
    let first = PASS_ON.replacen(barrier, "", 1);
    let last = barrier.to_owned() + "    a.values";
    let second = PASS_ON.replace(&last, "block_sync();\n    a.values");
    for wrong in [first, second] {
        assert_ne!(wrong, PASS_ON);
        let found = run_with(&wrong, CLUSTER, 16, false);
        assert!(found.is_err() || found.is_ok_and(|found| found != right), "{wrong}");
    }
    let early = error_of("put_shared(shared_memory(), cluster_rank() ^ 1, 0.f);", CLUSTER);
    assert!(early.contains("need not have begun"), "{early}");
    let unpaired = error_of("cluster_arrive(); cluster_arrive(); cluster_wait();", CLUSTER);
    assert!(unpaired.contains("without having waited"), "{unpaired}");
    let outside = error_of("put_shared(shared_memory() + 256, 1, 0.f);", CLUSTER);
    assert!(outside.contains("outside the shared memory"), "{outside}");
}

#[test]
fn threads_that_miss_a_barrier_are_an_error() {
    let ended = error_of("if (thread() < 40) block_sync();", ONE_BLOCK);
    assert!(ended.contains("ended"), "{ended}");
    let elsewhere = error_of("if (thread() < 40) block_sync();\nelse block_sync();", ONE_BLOCK);
    assert!(elsewhere.contains("other threads of it wait in line"), "{elsewhere}");
    let lane = error_of("if (thread() != 3) a.values[0] = shuffle_xor(1.f, 1);", ONE_BLOCK);
    assert!(lane.contains("ended"), "{lane}");
    let stuck = error_of("if (thread() / 32) block_sync(); else while (peek(a.counters) == 0) {}", ONE_BLOCK);
    assert!(stuck.contains("waits for its block in line") && stuck.contains("polls in line"), "{stuck}");
}

#[test]
fn what_another_warp_puts_is_seen_behind_a_block_sync_alone() {
    let body = |sync: &str| {
        format!("put(a.values + thread(), thread()); {sync}\n float v = own(a.values + (thread() ^ 32)); block_sync();
            put(a.values + 64 + thread(), v);")
    };
    let behind = run(&body("block_sync();"), ONE_BLOCK);
    assert_eq!(behind[64], 32.0);
    let before = run(&body("warp_sync();"), ONE_BLOCK);
    assert_eq!(before[64], 0.0);
}

#[test]
fn addresses_outside_of_all_allocations_are_errors() {
    let read = error_of("a.values[0] = constant(a.weights + 1024);", ONE_BLOCK);
    assert!(read.contains("4 bytes lie at number 1024 of an allocation of 1024 numbers"), "{read}");
    assert!(read.contains("constant(a.weights + 1024)"), "{read}");
    let put = error_of("put(a.values - 1, 0.f);", ONE_BLOCK);
    assert!(put.contains("4 bytes"), "{put}");
    let plain = error_of("a.values[1024] = 0.f;", ONE_BLOCK);
    assert!(plain.contains("written after an allocation"), "{plain}");
    let apart = error_of("a.values[0] = constant4(a.weights + 2).x;", ONE_BLOCK);
    assert!(apart.contains("not aligned"), "{apart}");
}

#[test]
fn a_constant_that_the_kernel_puts_is_an_error() {
    let error = error_of("put(a.values, 1.f); a.values[1 + thread()] = constant(a.values);", ONE_BLOCK);
    assert!(error.contains("reads as a constant"), "{error}");
}

#[test]
fn shared_memory_begins_poisoned() {
    let found =
        run("a.values[thread()] = shared_memory()[thread()];", Geometry { shared_bytes: 256, ..ONE_BLOCK });
    assert!(found[..64].iter().all(|value| value.is_nan()));
}

#[test]
fn frames_too_large_for_a_stack_do_not_compile() {
    let large = "volatile float room[9000]; room[thread()] = 0.f; block_sync();";
    let Err(error) = run_with(large, ONE_BLOCK, 1, false) else { panic!("the frame is too large") };
    assert!(error.to_string().contains("frame size"), "{error}");
}

#[test]
fn more_blocks_than_are_resident_run_one_after_the_other() {
    let found = run(
        "block_sync(); a.values[block()] = 1.f + ticket(a.counters) * 0.f;",
        Geometry { blocks: 1000, ..ONE_BLOCK },
    );
    assert_eq!(found.iter().sum::<f32>(), 1000.0);
    let Err(error) = run_with(EXCHANGE, Geometry { blocks: 1000, ..GRID }, 1, false) else {
        panic!("1000 blocks cannot wait for each other")
    };
    assert!(matches!(error, DriverError::Resident { .. }), "{error}");
}

#[test]
fn what_does_not_compile_is_an_error_that_names_the_source() {
    let Err(error) = run_with("no such thing", ONE_BLOCK, 1, false) else { panic!("it does not compile") };
    assert!(error.to_string().contains("`a kernel` does not compile"), "{error}");
}

#[test]
fn recorded_commands_run_when_they_are_replayed() -> Result<(), DriverError> {
    let mut driver = Emulated::new(devices()[0].clone(), 1)?;
    let at = driver.allocate(6 * 4)?;
    let [a, b, c] = [0u64, 4, 8].map(|k| at + k * 2);
    let matrix = |address, row, transposed| Operand { address, row, transposed };
    let numbers: Vec<u8> = [3f32, 4.0, 5.0, 6.0, 1.0, 1.0].iter().flat_map(|v| v.to_ne_bytes()).collect();
    driver.write(at, &numbers)?;
    driver.begin_recording(1)?;
    // [3 4] as a column, times [5 6] as a column that lies transposed: one number.
    let product = Product {
        m: 1,
        n: 1,
        k: 2,
        a: matrix(a, 2, false),
        b: matrix(b, 2, true),
        c: matrix(c, 1, false),
        halves: false,
        accumulate: true,
    };
    driver.product(&product)?;
    driver.copy(c, a, 4)?;
    driver.clear(b, 4)?;
    assert!(driver.read(at, &mut [0; 4]).is_err(), "reads cannot be recorded");
    let graph = driver.end_recording()?;
    let read = |driver: &Emulated| -> Result<Vec<f32>, DriverError> {
        let mut bytes = [0; 24];
        driver.read(at, &mut bytes)?;
        Ok(bytes.chunks(4).map(|b| f32::from_ne_bytes(b.try_into().expect("4 bytes"))).collect())
    };
    assert_eq!(read(&driver)?, [3.0, 4.0, 5.0, 6.0, 1.0, 1.0]);
    driver.replay(graph)?;
    assert_eq!(read(&driver)?, [40.0, 4.0, 0.0, 6.0, 40.0, 1.0]);
    driver.replay(graph)?;
    assert_eq!(read(&driver)?, [64.0, 4.0, 0.0, 6.0, 64.0, 1.0]);
    assert!(driver.copy(at, at + 4, 8).is_err(), "they overlap");
    assert!(driver.clear(at + 8, 24).is_err(), "it is not all there");
    driver.free(at);
    assert!(driver.replay(graph).is_err(), "the memory is gone");
    Ok(())
}

#[test]
fn lanes_of_a_recording_run_in_any_order_but_wait_for_points() -> Result<(), DriverError> {
    let results = |wait: bool| -> Result<Vec<u8>, DriverError> {
        let mut driver = Emulated::new(devices()[0].clone(), 1)?;
        let at = driver.allocate(12)?;
        let mut seen = Vec::new();
        driver.begin_recording(2)?;
        driver.clear(at, 4)?;
        driver.copy(at + 8, at + 4, 4)?;
        let point = driver.point()?;
        driver.select_lane(1, if wait { std::slice::from_ref(&point) } else { &[] })?;
        driver.copy(at + 4, at, 4)?;
        assert!(
            driver.select_lane(2, &[]).is_err()
                && driver.select_lane(0, &[rnnc_cuda::driver::Point(1)]).is_err()
        );
        let graph = driver.end_recording()?;
        for _ in 0..20 {
            driver.write(at, &[1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0])?;
            driver.replay(graph)?;
            let mut first = [0];
            driver.read(at, &mut first)?;
            seen.extend(first);
        }
        seen.sort_unstable();
        seen.dedup();
        Ok(seen)
    };
    assert_eq!(results(true)?, [3]);
    assert_eq!(results(false)?, [0, 2, 3]);
    Ok(())
}
