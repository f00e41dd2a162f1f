//! The optimizer's step: one pass over the flat gradients for their norm, one over all flat buffers for the rule.

use crate::builder::Builder;
use crate::driver::Geometry;
use crate::program::{Command, Work};
use crate::source::formula;
use rnnc_plan::Update;
use rnnc_plan::optimizers::MOST_NUMBERS;

/// How many numbers an update has in the `run` region, from `RUN_LIMIT` on.
pub(crate) const UPDATE_NUMBERS: usize = 1 + MOST_NUMBERS;

/// An update as kernels read it: `RUN_LIMIT`, a double's bits, and from `RUN_NUMBERS` on those of the rule, floats' in the low
/// halves.
pub(crate) fn update_numbers(update: &Update) -> [u64; UPDATE_NUMBERS] {
    let mut numbers = [update.clip_norm.unwrap_or(f64::INFINITY).to_bits(); UPDATE_NUMBERS];
    numbers[1..].iter_mut().zip(update.in_single()).for_each(|(to, number)| *to = number.to_bits().into());
    numbers
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
    let optimizer = builder.places.config.optimizer;
    builder.define(&formula::step(optimizer));
    let each = |count: usize, text: &dyn Fn(usize) -> String| (0..count).map(text).collect::<String>();
    let (slots, numbers) = (optimizer.slots().len(), optimizer.numbers().len());
    // As `Update::clip_factors` has it. If the norm is not finite, nothing changes.
    let step = format!(
        "{{
double* parts = (double*)shared_memory();
const double sum = thread() < {parts}u ? ((const double*)a.scratch)[1 + thread()] : 0.0;
{sum}
const double norm = sqrt(parts[0]), limit = as_double(a.run[RUN_LIMIT]);
if (global_thread() == 0) *(double*)a.scratch = norm;
const double factor = norm > limit ? limit / norm : 1.0, small = 1.0 / (double)(1ull << 60);
const float scale = (float)(factor < small ? small : factor), rest = factor < small ? (float)(factor / small) : 1.f;
{}const bool finite = norm - norm == 0.0;
for (u64 i = global_thread() * 4; finite && i < {len}ull; i += global_threads() * 4) {{
float w[4], g[4];
get4(w, a.weights + i);
get4(g, a.gradients + i);
{}UNROLL for (u32 j = 0; j < 4; ++j) {{
step_{}(w[j], g[j] * scale * rest{}{});
}}
set4(a.weights + i, w);
{}}}
}}",
        each(numbers, &|n| format!("const float n{n} = as_float((u32)a.run[RUN_NUMBERS + {n}]);\n")),
        each(slots, &|s| format!("float s{s}[4];\nget4(s{s}, a.slots + {}ull + i);\n", s * len)),
        optimizer.name(),
        each(slots, &|s| format!(", s{s}[j]")),
        each(numbers, &|n| format!(", n{n}")),
        each(slots, &|s| format!("set4(a.slots + {}ull + i, s{s});\n", s * len)),
    );
    let exact = Geometry { blocks: parts, threads: THREADS, shared_bytes, cluster: 1, cooperative: false };
    let any =
        Work::Items { per_row: 0, fixed: len.div_ceil(THREADS * 4).max(1), threads: THREADS, shared_bytes };
    vec![
        builder.kernel("update_squares", &squares, "the gradients' norm".into(), Work::Grid(exact)),
        builder.kernel("update_step", &step, format!("the step of {}", optimizer.name()), any),
    ]
}

#[cfg(test)]
mod tests {
    use super::update_numbers;
    use rnnc_plan::{OptimizerSettings, Update};

    #[test]
    fn an_update_without_a_limit_has_an_infinite_one() {
        let optimizer = OptimizerSettings::default().with("betas", &[0.5, 0.75]).unwrap();
        let optimizer = optimizer.with("epsilon", &[0.25]).unwrap();
        let mut update = Update { learning_rate: 0.5, step: 1, clip_norm: None, optimizer };
        let numbers = update_numbers(&update);
        let floats = numbers[1..7].iter().map(|&bits| f32::from_bits(bits as u32)).collect::<Vec<_>>();
        assert_eq!(floats, [0.5, 0.5, 0.5, 0.75, 0.25, 0.125]);
        assert_eq!(f64::from_bits(numbers[0]), f64::INFINITY);
        update.clip_norm = Some(3.0);
        assert_eq!(f64::from_bits(update_numbers(&update)[0]), 3.0);
    }
}
