//! The least time that a pass could take on a device: what its jobs cannot do without, at speeds that were measured.
//!
//! A job takes as long as its products, or as moving its values, or as the barriers of its blocks, whichever is longest,
//! since a device does these at the same time. Jobs that wait for each other, and those of a lane, follow each other; a
//! pass is no shorter than any such row of jobs, nor than the products, or the moving, of all jobs together, which share one
//! device.

use crate::program::Job;
use crate::speeds::Speeds;

/// What a pass cannot do without, over a whole window.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Least {
    /// Bytes of values and weights, each once a job.
    pub bytes: f64,
    /// Microseconds.
    pub us: f64,
}

impl Least {
    /// Of the jobs of a pass.
    pub fn of(jobs: &[Job], speeds: &Speeds) -> Least {
        let (mut products, mut moving, mut bytes) = (0.0, 0.0, 0.0);
        let mut ends: Vec<f64> = Vec::with_capacity(jobs.len());
        let mut lanes: Vec<f64> = Vec::new();
        for job in jobs {
            let needs = job.needs;
            let multiplying = (needs.flops / speeds.product + needs.tensor_flops / speeds.tf32_product) * 1e6;
            let own_moving = needs.bytes / speeds.copying(needs.bytes) * 1e6;
            let waiting = (needs.steps - 1.0).max(0.0) * needs.barriers_us;
            products += multiplying;
            moving += own_moving;
            bytes += needs.bytes;
            lanes.resize(lanes.len().max(job.lane + 1), 0.0);
            let before = job.after.iter().filter_map(|&earlier| ends.get(earlier).copied());
            let end = before.fold(lanes[job.lane], f64::max) + multiplying.max(own_moving).max(waiting);
            lanes[job.lane] = end;
            ends.push(end);
        }
        Least { bytes, us: ends.into_iter().fold(products.max(moving), f64::max) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::compile;
    use crate::device::Device;
    use crate::program::Needs;
    use crate::speeds::Copying;
    use rnnc_plan::{ExecutionConfig, Plan, PlanOptions, Precision};

    fn speeds() -> Speeds {
        Speeds {
            device: "made up".into(),
            precision: Precision::F32,
            product: 1e9,
            tf32_product: 4e9,
            copy: vec![Copying { bytes: 1, bytes_per_second: 2e9 }],
        }
    }

    fn job(lane: usize, after: &[usize], needs: Needs) -> Job {
        Job { lane, after: after.to_vec(), needs, ..Job::default() }
    }

    fn us(jobs: &[Job]) -> f64 {
        Least::of(jobs, &speeds()).us
    }

    #[test]
    fn a_job_takes_as_long_as_what_takes_longest_of_it() {
        let needs =
            Needs { flops: 1000.0, tensor_flops: 8000.0, bytes: 4000.0, steps: 11.0, barriers_us: 0.5 };
        assert_eq!(us(&[job(0, &[], needs)]), 5.0, "ten barriers of half a microsecond");
        assert_eq!(us(&[job(0, &[], Needs { steps: 1.0, ..needs })]), 3.0, "the products: 1 and 2");
        assert_eq!(us(&[job(0, &[], Needs { bytes: 1e5, ..needs })]), 50.0, "the values");
        assert_eq!(us(&[]), 0.0);
    }

    #[test]
    fn jobs_side_by_side_take_no_longer_than_the_longest_row_or_what_the_device_does_for_all() {
        let waits = Needs { steps: 11.0, barriers_us: 1.0, ..Needs::default() };
        let products = |us: f64| Needs { flops: us * 1000.0, ..Needs::default() };
        assert_eq!(us(&[job(0, &[], waits), job(0, &[], waits)]), 20.0, "one lane");
        assert_eq!(us(&[job(0, &[], waits), job(1, &[], waits)]), 10.0, "two lanes");
        assert_eq!(us(&[job(0, &[], waits), job(1, &[0], waits)]), 20.0, "the second waits for the first");
        assert_eq!(us(&[job(0, &[], waits), job(1, &[], products(3.0))]), 10.0);
        assert_eq!(
            us(&[job(0, &[], products(7.0)), job(1, &[], products(8.0))]),
            15.0,
            "products share the device"
        );
    }

    #[test]
    fn chunks_together_need_what_the_whole_does_but_for_the_first_step_of_each() {
        let whole = Needs { flops: 900.0, tensor_flops: 300.0, bytes: 600.0, steps: 12.0, barriers_us: 1.0 };
        let chunk = whole.of_chunk(3);
        assert_eq!((chunk.flops, chunk.tensor_flops, chunk.bytes, chunk.steps), (300.0, 100.0, 200.0, 4.0));
        let chunks = [0, 1, 2].map(|_| job(0, &[], chunk));
        assert_eq!((us(&[job(0, &[], whole)]), us(&chunks)), (11.0, 9.0));
    }

    /// The forward pass's jobs of a program for an H200.
    fn forward(text: &str, streams: usize, frames: usize, precision: Precision) -> Vec<Job> {
        let graph = rnnc_lang::compile("n.rnn", text, None).unwrap_or_else(|errors| panic!("{errors}"));
        let plan = Plan::new(&graph, PlanOptions::inference(streams, frames)).unwrap();
        let config = ExecutionConfig { precision, ..ExecutionConfig::new(streams, frames) };
        compile(&plan, config, &Device::named("h200").unwrap()).unwrap().forward
    }

    const LSTM: &str = "network n { input x : vector(32)  h = lstm(x; 1024)  output h }";

    #[test]
    fn a_loop_needs_its_products_its_weights_once_and_a_barrier_a_frame() {
        let jobs = forward(LSTM, 1, 512, Precision::F32);
        let lstm = jobs.iter().map(|job| job.needs).find(|needs| needs.steps > 0.0).unwrap();
        assert_eq!((lstm.steps, lstm.flops), (512.0, 512.0 * 2.0 * 4.0 * 1024.0 * 1024.0));
        assert_eq!(lstm.tensor_flops, 0.0);
        let weights = 4.0 * 4.0 * 1024.0 * 1024.0;
        assert!(lstm.bytes > weights && lstm.bytes < 2.0 * weights, "{lstm:?}");
        // Nobody signals: less than an empty frame of the grid.
        assert!(lstm.barriers_us > 0.1 && lstm.barriers_us < 0.97, "{lstm:?}");
        let one = forward(LSTM, 1, 1, Precision::F32);
        assert!(one.iter().all(|job| job.needs.steps <= 1.0), "a single frame waits for nobody");
    }

    #[test]
    fn tensor_cores_take_longer_the_more_precise_products_are() {
        let tensor = |precision| {
            let jobs = forward(LSTM, 16, 8, precision);
            jobs.iter().map(|job| job.needs.tensor_flops).sum::<f64>()
        };
        let flops = 16.0 * 8.0 * 2.0 * 4.0 * 1024.0 * 1024.0;
        let found = [Precision::F32, Precision::Tf32, Precision::Bf16].map(tensor);
        assert_eq!(found, [3.0 * flops, flops, flops / 2.0]);
    }

    #[test]
    fn no_prediction_is_below_the_bound_at_the_rates_that_it_is_made_of() {
        let device = Device::named("h200").unwrap();
        let rates = device.rates;
        let speeds = Speeds {
            product: rates.f32_tflops * 1e12,
            tf32_product: rates.tf32_tflops * 1e12,
            copy: vec![Copying { bytes: 1, bytes_per_second: rates.memory_tbs * 1e12 }],
            ..speeds()
        };
        for cell in ["lstm", "gru", "mingru", "lstm_layer_norm", "elman"] {
            for (size, streams) in [(16, 1), (256, 1), (256, 16), (1024, 1), (1024, 64)] {
                for layers in [1, 3] {
                    let text: String =
                        (1..layers).map(|n| format!("h{} = {cell}(h{}; {size}) ", n + 1, n)).collect();
                    let text = format!(
                        "network n {{ input x : vector({size})  h1 = {cell}(x; {size})  {text} output h{layers} }}"
                    );
                    let graph =
                        rnnc_lang::compile("n.rnn", &text, None).unwrap_or_else(|errors| panic!("{errors}"));
                    let plan = Plan::new(&graph, PlanOptions::training(streams, 256)).unwrap();
                    let config = ExecutionConfig::new(streams, 256);
                    let program = compile(&plan, config, &device).unwrap();
                    let predicted = crate::explain::explain(&plan, config, &device).unwrap();
                    for (jobs, pass) in
                        [&program.forward, &program.backward].into_iter().zip(&predicted.passes)
                    {
                        let bound = Least::of(jobs, &speeds).us / 256.0;
                        assert!(
                            bound > 0.0 && bound <= pass.predicted_us,
                            "{text} {streams}: {bound} {}",
                            pass.predicted_us
                        );
                    }
                }
            }
        }
    }
}
