//! The optimizer's step: one pass over the flat gradients for their norm, one over all flat buffers for Adam.

use crate::builder::Builder;
use crate::driver::Geometry;
use crate::program::{Command, Work};
use rnnc_plan::{AdamSettings, Update};

/// How many numbers an update has in the `run` region, from `RUN_UPDATE` on.
pub(crate) const UPDATE_NUMBERS: usize = 7;

/// An update as kernels read it: what `types.cuh` calls `RUN_RATE` and so on. The last is a double's bits, the others
/// are floats' in the low halves.
pub(crate) fn update_numbers(update: &Update) -> [u64; UPDATE_NUMBERS] {
    let AdamSettings { rate, beta1, rest1, beta2, rest2, epsilon } = update.in_single();
    let float = |number: f32| u64::from(number.to_bits());
    [
        float(rate),
        float(beta1),
        float(beta2),
        float(rest1),
        float(rest2),
        float(epsilon),
        update.clip_norm.unwrap_or(f64::INFINITY).to_bits(),
    ]
}

/// Threads of a block.
const THREADS: usize = 256;

/// The commands of a step. They leave the gradients' norm, a double, in the first two numbers of the scratch region.
pub(crate) fn commands(builder: &mut Builder<'_>) -> Vec<Command> {
    builder.begin_source("the optimizer's step".into());
    let len = builder.places.plan.weights.len();
    // One partial sum a block, no more than a block's threads.
    let parts = len.div_ceil(THREADS * 16).clamp(1, THREADS);
    builder.scratch(2 + 2 * parts);
    let shared_bytes = THREADS * 8;

    // In double precision; thread by thread, then halves of the block: always in the same order.
    let sum = format!(
        "parts[thread()] = sum;
for (u32 half = {}u; half > 0; half /= 2) {{
block_sync();
if (thread() < half) parts[thread()] += parts[thread() + half];
}}
block_sync();",
        THREADS / 2
    );
    let squares = format!(
        "{{
double* parts = (double*)shared_memory();
double sum = 0.0;
for (u64 i = global_thread() * 4; i < {len}ull; i += global_threads() * 4) {{
float g[4];
get4(g, a.gradients + i);
UNROLL for (u32 j = 0; j < 4; ++j) sum += (double)g[j] * (double)g[j];
}}
{sum}
if (thread() == 0) ((double*)a.scratch)[1 + block()] = parts[0];
}}"
    );
    // As `Update::clip_factors` has it; `adam` is printed by `formula.rs`. If the norm is not finite, nothing changes.
    let adam = format!(
        "{{
double* parts = (double*)shared_memory();
const double sum = thread() < {parts}u ? ((const double*)a.scratch)[1 + thread()] : 0.0;
{sum}
const double norm = sqrt(parts[0]), limit = as_double(a.run[RUN_LIMIT]);
if (global_thread() == 0) *(double*)a.scratch = norm;
const double factor = norm > limit ? limit / norm : 1.0, small = 1.0 / (double)(1ull << 60);
const float scale = (float)(factor < small ? small : factor), rest = factor < small ? (float)(factor / small) : 1.f;
const float rate = as_float((u32)a.run[RUN_RATE]), epsilon = as_float((u32)a.run[RUN_EPSILON]);
const float beta1 = as_float((u32)a.run[RUN_BETA1]), rest1 = as_float((u32)a.run[RUN_REST1]);
const float beta2 = as_float((u32)a.run[RUN_BETA2]), rest2 = as_float((u32)a.run[RUN_REST2]);
const bool finite = norm - norm == 0.0;
for (u64 i = global_thread() * 4; finite && i < {len}ull; i += global_threads() * 4) {{
float w[4], g[4], m[4], r[4];
get4(w, a.weights + i);
get4(g, a.gradients + i);
get4(m, a.moments1 + i);
get4(r, a.moments2 + i);
UNROLL for (u32 j = 0; j < 4; ++j) {{
adam(w[j], g[j] * scale * rest, m[j], r[j], rate, beta1, rest1, beta2, rest2, epsilon);
}}
set4(a.weights + i, w);
set4(a.moments1 + i, m);
set4(a.moments2 + i, r);
}}
}}"
    );
    let exact = Geometry { blocks: parts, threads: THREADS, shared_bytes, cluster: 1, cooperative: false };
    let any =
        Work::Items { per_row: 0, fixed: len.div_ceil(THREADS * 4).max(1), threads: THREADS, shared_bytes };
    vec![
        builder.kernel("update_squares", &squares, "the gradients' norm".into(), Work::Grid(exact)),
        builder.kernel("update_adam", &adam, "Adam".into(), any),
    ]
}

#[cfg(test)]
mod tests {
    use super::update_numbers;
    use rnnc_plan::Update;

    #[test]
    fn an_update_without_a_limit_has_an_infinite_one() {
        let mut update =
            Update { learning_rate: 0.5, beta1: 0.5, beta2: 0.75, epsilon: 0.25, step: 1, clip_norm: None };
        let float = |bits: u64| f32::from_bits(bits as u32);
        let numbers = update_numbers(&update);
        let floats = numbers[..6].iter().map(|&bits| float(bits)).collect::<Vec<_>>();
        assert_eq!(floats, [0.5, 0.5, 0.75, 0.5, 0.25, 0.125]);
        assert_eq!(f64::from_bits(numbers[6]), f64::INFINITY);
        update.clip_norm = Some(3.0);
        assert_eq!(f64::from_bits(update_numbers(&update)[6]), 3.0);
    }
}
