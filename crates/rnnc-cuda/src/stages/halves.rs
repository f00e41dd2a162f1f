//! Operands of products over all frames in bf16. Tensor cores multiply numbers that lie in bf16 twice as fast as those that lie in
//! single precision and are rounded on the way, so a large product's operands are copied first: where that is predicted
//! to gain more than copying takes.

use super::rows;
use crate::builder::Builder;
use crate::program::{Command, MatrixPlace, Region, Work};
use rnnc_plan::{Precision, Read};

/// An operand as it lies in single precision.
pub(crate) enum Source<'a> {
    /// What all rows of the pass read. It does not lie transposed.
    Rows(&'a Read),
    /// A matrix of the weights, of so many rows and columns as it lies.
    Weights(MatrixPlace, [usize; 2]),
}

/// Numbers of a row in bf16 that begin as tensor cores like it: at multiples of 16 bytes.
const ALIGNED: usize = 8;

/// Both operands of a product (`m` x `k` and `k` x `n`, where nothing is the rows of the pass): what copies them, where they are
/// then, and whether they are in bf16.
pub(crate) fn operands(
    builder: &mut Builder<'_>,
    name: &str,
    what: &str,
    sizes: [Option<usize>; 3],
    operands: [Source<'_>; 2],
) -> (Vec<Command>, [MatrixPlace; 2], bool) {
    if let Some((commands, places)) = copies(builder, name, what, sizes, &operands) {
        return (commands.into(), places, true);
    }
    let mut commands = Vec::new();
    let places = operands.map(|source| match source {
        Source::Rows(read) => {
            let (copy, place) = rows::matrix(builder, name, what, read);
            commands.extend(copy);
            place
        }
        Source::Weights(place, _) => place,
    });
    (commands, places, false)
}

/// Copies of both in bf16, if they pay.
fn copies(
    builder: &mut Builder<'_>,
    name: &str,
    what: &str,
    sizes: [Option<usize>; 3],
    operands: &[Source<'_>; 2],
) -> Option<([Command; 2], [MatrixPlace; 2])> {
    let all = rows::rows(builder.places);
    let numbers = operands.each_ref().map(|source| source.numbers(all));
    let fit = operands.iter().all(|source| source.fits(builder));
    if builder.places.config.precision != Precision::Bf16 || !fit || !pay(builder, sizes, numbers) {
        return None;
    }
    builder.scratch(numbers[0] / 2 + numbers[1] / 2);
    let [a, b] = operands;
    let (first, a) = a.copy(builder, &format!("{name}_a"), what, 0);
    let (second, b) = b.copy(builder, &format!("{name}_b"), what, numbers[0] / 2);
    Some(([first, second], [a, b]))
}

/// Whether a product is faster with so many numbers of its operands copied.
fn pay(builder: &Builder<'_>, sizes: [Option<usize>; 3], numbers: [usize; 2]) -> bool {
    let (rates, all) = (builder.device.rates, rows::rows(builder.places));
    let flops: f64 = 2.0 * sizes.iter().map(|size| size.unwrap_or(all) as f64).product::<f64>();
    let bytes: f64 = numbers.iter().map(|&n| 6.0 * n as f64).sum();
    // TFLOP/s and TB/s are millions in a microsecond.
    let gained = flops / (rates.tf32_tflops * 1e6) / 2.0;
    gained > bytes / (rates.memory_tbs * 1e6) + 2.0 * rates.launch_us
}

impl Source<'_> {
    /// Numbers, of so many rows of a pass.
    fn numbers(&self, rows: usize) -> usize {
        match self {
            Source::Rows(read) => rows.saturating_mul(read.view.len),
            Source::Weights(_, [rows, columns]) => rows.saturating_mul(*columns),
        }
    }

    /// Whether it can be copied four numbers at a time, to where rows are aligned.
    fn fits(&self, builder: &Builder<'_>) -> bool {
        match self {
            Source::Rows(read) => {
                rows::is_wide(builder.places.spot(read.view)) && read.view.len.is_multiple_of(ALIGNED)
            }
            Source::Weights(place, [_, columns]) => {
                [place.offset, place.row].iter().all(|n| n.is_multiple_of(4))
                    && columns.is_multiple_of(ALIGNED)
            }
        }
    }

    /// The command that copies it to number `at` of the scratch region, and where it is then.
    fn copy(&self, builder: &mut Builder<'_>, name: &str, what: &str, at: usize) -> (Command, MatrixPlace) {
        let (row, transposed, body, work) = match *self {
            Source::Rows(read) => {
                let places = builder.places;
                let inner = format!(
                    "{}set4_bf16(a.scratch + ({at}ull + (u64)e * 2u), v);\n",
                    rows::load_four(places, read, "v")
                );
                let (body, work) = rows::over_rows(places, read.view.len, true, &inner);
                (read.view.len, false, body, work)
            }
            Source::Weights(MatrixPlace { offset, row, transposed, .. }, [rows, columns]) => {
                let (fours, all) = (columns / 4, rows * columns / 4);
                let body = format!(
                    "{{
for (u64 e = global_thread(); e < {all}ull; e += global_threads()) {{
float v[4]; get4(v, a.weights + ({offset}ull + e / {fours}u * {row}u + e % {fours}u * 4u));
set4_bf16(a.scratch + ({at}ull + e * 2u), v);
}}
}}"
                );
                (columns, transposed, body, Work::Elements { per_row: 0, fixed: all })
            }
        };
        let command = builder.kernel(name, &body, format!("copy in bf16 for {what}"), work);
        (command, MatrixPlace { region: Region::Scratch, offset: at, per_frame: 0, row, transposed })
    }
}
