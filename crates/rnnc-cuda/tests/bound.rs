//! The bound on a real GPU. Ignored, since most machines have none:
//! `cargo test --release -p rnnc-cuda --test bound -- --ignored`.

use rnnc_cuda::{CudaExecutor, Speeds, Times, Timing};
use rnnc_plan::{ExecutionConfig, Executor, Plan, PlanOptions, Precision, Values};

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn no_pass_is_faster_than_its_bound() {
    const FRAMES: usize = 1024;
    for precision in [Precision::F32, Precision::Tf32, Precision::Bf16] {
        let speeds = Speeds::measure(precision).unwrap_or_else(|error| panic!("{error}"));
        println!("{speeds:?}");
        assert!(speeds.product > 1e12 && speeds.tf32_product > 1e12 && speeds.copying(1e9) > 1e10);
        for cell in ["lstm", "gru", "lstm_layer_norm", "mingru"] {
            for (size, streams) in [(16, 1), (256, 1), (256, 64), (1024, 1), (1024, 64)] {
                let text = format!(
                    "network n {{ input x : vector({size})  g = {cell}(x; {size})  h = {cell}(g; {size})  output h }}"
                );
                let graph =
                    rnnc_lang::compile("n.rnn", &text, None).unwrap_or_else(|errors| panic!("{errors}"));
                let plan = Plan::new(&graph, PlanOptions::training(streams, FRAMES)).unwrap();
                let config = ExecutionConfig { precision, ..ExecutionConfig::new(streams, FRAMES) };
                let mut executor = CudaExecutor::new(plan, config).unwrap();
                executor.set_timing(Timing::Passes);
                let (x, errors) = (vec![0.5; FRAMES * streams * size], vec![0.1; FRAMES * streams * size]);
                let mut fastest = [f64::INFINITY; 2];
                for _ in 0..5 {
                    executor.forward(FRAMES, &[Values::F32(&x)], None).unwrap();
                    executor.backward(FRAMES, &[Some(Values::F32(&errors))]).unwrap();
                    let times = executor.times().unwrap();
                    let found = [&times.forward, &times.backward].map(|timed| Times::total_us(timed));
                    fastest = [0, 1].map(|pass| fastest[pass].min(found[pass]));
                }
                let least = executor.least(&speeds).map(|least| least.us);
                let fractions = [0, 1].map(|pass| least[pass] / fastest[pass]);
                println!(
                    "{cell} of {size} units, {streams} streams, {precision:?}: {fractions:.2?} of {fastest:.0?} us"
                );
                assert!(
                    fractions.iter().all(|fraction| (0.0..1.0).contains(fraction)),
                    "{cell} {size} {streams}"
                );
            }
        }
    }
}
