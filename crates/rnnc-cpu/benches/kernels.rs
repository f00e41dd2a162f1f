//! How fast the kernels are on one core: products for few rows at the shapes of LSTM layers, gradients of
//! weights, and elementwise functions; and whether a frame of a session takes longer for some inputs than for others.
//!
//! `cargo bench -p rnnc-cpu`; criterion prints elements a second, an element of a product being one
//! multiply-add (two floating-point operations).

#![allow(unsafe_code)] // the kernels take raw rows

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use rnnc_cpu::Session;
use rnnc_cpu::kernels::isa::Isa;
use rnnc_cpu::kernels::{direct, elementwise, functions, outer, pack, skinny};
use rnnc_graph::{Activation, Function, WeightId};
use rnnc_plan::Values;
use rnnc_suite::{Case, networks};
use std::hint::black_box;
use std::time::Duration;

/// Numbers in [-1, 1].
fn numbers(count: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * 7919) % 2003) as f32 / 1001.0 - 1.0).collect()
}

/// The recurrent product of an LSTM layer: H inputs, 4 H outputs, B streams.
fn products_for_few_rows(criterion: &mut Criterion) {
    for isa in Isa::available() {
        let mut group = criterion.benchmark_group(format!("skinny/{isa}"));
        for h in [64, 128, 256, 512, 1024] {
            let (n, kk) = (4 * h, h);
            let w = numbers(n * kk);
            let mut packed = vec![0.0; pack::packed_len::<f32>(n, kk) + 16];
            // On a cache line, as the executor has it.
            let start = packed.as_ptr().align_offset(64);
            let packed = &mut packed[start..start + pack::packed_len::<f32>(n, kk)];
            pack::pack(isa, &w, kk, 1, n, kk, packed);
            for streams in [1, 2, 4, 8, 16] {
                let x = numbers(streams * kk);
                let mut out = vec![0.0; streams * n];
                let rows: Vec<*const f32> = x.chunks(kk).map(|row| row.as_ptr()).collect();
                let outs: Vec<*mut f32> = out.chunks_mut(n).map(|row| row.as_mut_ptr()).collect();
                group.throughput(Throughput::Elements((n * kk * streams) as u64));
                group.bench_function(BenchmarkId::new(format!("H{h}"), format!("B{streams}")), |bencher| {
                    // SAFETY: the weights are packed for n and kk; the rows have kk and n numbers.
                    bencher.iter(|| unsafe {
                        skinny::skinny(isa, packed.as_ptr(), n, kk, black_box(&rows), &outs, true);
                    });
                });
            }
        }
        group.finish();
    }
}

/// The same product for one stream with the weights as they lie, and that of the way back, with their
/// transpose.
fn products_without_packing(criterion: &mut Criterion) {
    let isa = Isa::detect();
    let mut group = criterion.benchmark_group(format!("as they lie/{isa}"));
    for h in [64, 256, 1024] {
        let (n, kk) = (4 * h, h);
        let w = numbers(n * kk);
        let (x, y) = (numbers(kk), numbers(n));
        let (mut forward, mut back) = (vec![0.0; n], vec![0.0; kk]);
        group.throughput(Throughput::Elements((n * kk) as u64));
        group.bench_function(BenchmarkId::new("dot_rows", h), |bencher| {
            // SAFETY: n rows of kk weights; the rows have kk and n numbers.
            bencher.iter(|| unsafe {
                let (rows, outs) = ([black_box(x.as_ptr())], [forward.as_mut_ptr()]);
                direct::dot_rows(isa, w.as_ptr(), kk, n, kk, &rows, &outs, true);
            });
        });
        group.bench_function(BenchmarkId::new("axpy_rows", h), |bencher| {
            // SAFETY: n rows of kk weights, read as the transpose; the rows have n and kk numbers.
            bencher.iter(|| unsafe {
                let (rows, outs) = ([black_box(y.as_ptr())], [back.as_mut_ptr()]);
                direct::axpy_rows(isa, w.as_ptr(), kk, kk, n, &rows, &outs, true);
            });
        });
        let mut packed = vec![0.0; pack::packed_len::<f32>(n, kk)];
        group.bench_function(BenchmarkId::new("pack", h), |bencher| {
            bencher.iter(|| pack::pack(isa, black_box(&w), kk, 1, n, kk, &mut packed));
        });
        let mut packed = vec![0.0; pack::packed_len::<f32>(kk, n)];
        group.bench_function(BenchmarkId::new("pack transposed", h), |bencher| {
            bencher.iter(|| pack::pack(isa, black_box(&w), 1, kk, kk, n, &mut packed));
        });
    }
    group.finish();
}

/// The gradient of an LSTM layer's weights over 256 frames.
fn gradients_of_weights(criterion: &mut Criterion) {
    for isa in Isa::available() {
        let mut group = criterion.benchmark_group(format!("outer/{isa}"));
        for h in [64, 256, 512] {
            let (frames, n) = (outer::ROWS, 4 * h);
            let (x, e) = (numbers(frames * h), numbers(frames * n));
            let (mut gradient, mut room) = (vec![0.0; n * h], vec![0.0; outer::ROOM]);
            let mut packed = vec![0.0; outer::packed_len(n)];
            let errors: Vec<*const f32> = e.chunks(n).map(|row| row.as_ptr()).collect();
            let sources: Vec<*const f32> = x.chunks(h).map(|row| row.as_ptr()).collect();
            group.throughput(Throughput::Elements((frames * n * h) as u64));
            group.bench_function(BenchmarkId::from_parameter(format!("H{h}")), |bencher| {
                let out = outer::Out { at: gradient.as_mut_ptr(), row_stride: h, column_stride: 1 };
                // SAFETY: errors have n numbers, sources h, and the gradient is n by h.
                bencher.iter(|| unsafe {
                    outer::pack_errors(isa, black_box(&errors), 0..n, &mut packed);
                    outer::outer(isa, &packed, 0..n, &sources, 0..h, out, true, &mut room);
                });
            });
        }
        group.finish();
    }
}

/// Functions over a tile of 256 numbers.
fn elementwise_functions(criterion: &mut Criterion) {
    for isa in Isa::available() {
        let mut group = criterion.benchmark_group(format!("elementwise/{isa}"));
        let x: Vec<f32> = numbers(256).iter().map(|x| 0.01 + 3.0 * x.abs()).collect();
        let mut out = vec![0.0; x.len()];
        group.throughput(Throughput::Elements(x.len() as u64));
        for f in Activation::ALL {
            group.bench_function(f.name(), |bencher| {
                bencher.iter(|| functions::unary(isa, Function::Apply(f), black_box(&x), &mut out));
            });
        }
        group.bench_function("mul_add", |bencher| {
            bencher.iter(|| elementwise::mul_add_into(isa, black_box(&x), &x, &mut out));
        });
        group.bench_function("dot", |bencher| {
            bencher.iter(|| black_box(elementwise::dot(isa, black_box(&x), &x)));
        });
        group.finish();
    }
}

/// A frame of an LSTM whose inputs are about 1, about 1e-36, whose products with weights are subnormal, and 0. The times should be
/// the same: see `flush.rs`.
fn frames_of_loud_and_quiet_inputs(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("session");
    let lstm = networks().into_iter().find(|network| network.name == "lstm_peephole");
    let graph = (lstm.expect("the suite has it").build)(1, 64);
    let case = Case::new("lstm", graph, 1, &[1], 0.0);
    let trial = case.trial().expect("it is small");
    for (name, scale) in [("loud", 1.0), ("quiet", 1e-36), ("silent", 0.0)] {
        let mut session = Session::new(&case.graph, 1, 1).expect("it is a network");
        for (id, values) in trial.weights.iter().enumerate() {
            // Without biases, states stay as quiet as inputs.
            let scale = if case.graph.weights()[id].shape.len() > 1 { 1.0 } else { 0.0 };
            let values: Vec<f32> = values.iter().map(|value| scale * value).collect();
            session.write(WeightId::from_index(id), Values::F32(&values)).expect("it is of its length");
        }
        let x: Vec<f32> = numbers(1009).iter().map(|x| scale * x).collect();
        let mut frames = x.iter().cycle();
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let x = [*frames.next().expect("they go round")];
                session.step(&[Values::F32(black_box(&x))], None).expect("an input of one number");
            });
        });
    }
    group.finish();
}

fn quick() -> Criterion {
    Criterion::default().warm_up_time(Duration::from_millis(100)).measurement_time(Duration::from_millis(300))
}

criterion_group! {
    name = kernels;
    config = quick();
    targets = products_for_few_rows, products_without_packing, gradients_of_weights, elementwise_functions,
        frames_of_loud_and_quiet_inputs
}
criterion_main!(kernels);
