//! Whether an executor's normalizations, and their gradients, are right for numbers of which squares overflow or vanish, and of
//! which differences from a mean are all that matters.

use crate::net::Net;
use rnnc_graph::{Activation, Graph, Operation, WeightId};
use rnnc_plan::{ExecutionConfig, Executor, ParameterArray, Plan, PlanOptions, Values, ValuesMut};
use rnnc_reference::ReferenceExecutor;
use rnnc_verify::{Make, Random};

/// Checks normalizations of one group and of some, of few units and of many, in and out of a loop. Outside of loops they
/// are right for the numbers that they are given; in a loop, for numbers of which the last bits are others.
///
/// # Errors
/// Says which numbers are wrong, for what.
pub fn check_norms(make: Make<'_>) -> Result<(), String> {
    let mut wrong = Vec::new();
    for (n, groups, looped, epsilon) in [
        (40, 1, false, 1e-5),
        (40, 1, false, 0.0),
        (40, 5, false, 1e-5),
        (1100, 1, false, 1e-5),
        (40, 1, true, 1e-5),
        (40, 2, true, 1e-5),
    ] {
        for (center, streams) in [(true, 1), (true, 12), (false, 1), (false, 12)] {
            let operation = Operation::Normalize { groups, center, epsilon };
            let what = format!("{operation:?} of {n} units, {streams} streams, in a loop: {looped}");
            let norm = Norm { n, operation, looped, streams };
            wrong.extend(norm.check(make).err().map(|error| format!("{what}: {error}")));
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
}

/// A network that normalizes its input.
struct Norm {
    n: usize,
    operation: Operation,
    /// Whether there is a loop round it, through a matrix that is 0.
    looped: bool,
    streams: usize,
}

impl Norm {
    fn graph(&self) -> Graph {
        let mut net = Net::new("norm");
        let x = net.graph.input("x", self.n);
        let a = if self.looped { net.map("a", Activation::Identity, x) } else { x };
        let normal = net.operation("normal", self.n, self.operation, &[(a, 0)]);
        if self.looped {
            net.full(normal, a, 1);
        }
        net.out(normal)
    }

    fn check(&self, make: Make<'_>) -> Result<(), String> {
        let text = |error: rnnc_plan::ExecutorError| error.to_string();
        let numbers = rows(self.n, 1);
        let errors: Vec<(String, Vec<f32>)> =
            rows(self.n, 2).into_iter().filter(|(what, _)| !what.contains("e38")).collect();
        let pairs: Vec<(usize, usize)> =
            (0..errors.len()).flat_map(|e| (0..numbers.len()).map(move |x| (x, e))).collect();
        // Neighbours in a frame are of all kinds.
        let frames = pairs.len().div_ceil(self.streams);
        let pairs: Vec<_> = pairs.into_iter().cycle().take(frames * self.streams).collect();
        let x: Vec<f32> = pairs.iter().flat_map(|&(x, _)| numbers[x].1.iter().copied()).collect();
        let e: Vec<f32> = pairs.iter().flat_map(|&(_, e)| errors[e].1.iter().copied()).collect();
        let run = |executor: &mut dyn Executor| -> Result<[Vec<f64>; 2], String> {
            if self.looped {
                let zeros = vec![0.0f32; self.n * self.n];
                executor
                    .write(ParameterArray::Weight, WeightId::from_index(0), Values::F32(&zeros))
                    .map_err(text)?;
            }
            executor.forward(frames, &[Values::F32(&x)], None).map_err(text)?;
            executor.backward(frames, &[Some(Values::F32(&e))]).map_err(text)?;
            let [mut y, mut d] = [vec![0.0; x.len()], vec![0.0; x.len()]];
            executor.output(0, ValuesMut::F64(&mut y)).map_err(text)?;
            executor.input_gradient(0, ValuesMut::F64(&mut d)).map_err(text)?;
            Ok([y, d])
        };
        let options = PlanOptions::training(self.streams, frames).with_input_gradients();
        let plan = || Plan::new(&self.graph(), options).map_err(|e| e.to_string());
        let config = ExecutionConfig::new(self.streams, frames);
        let want = run(&mut ReferenceExecutor::new(plan()?, config).map_err(text)?)?;
        let got = run(make(plan()?, config).map_err(text)?.as_mut())?;
        let size = self.n / self.operation.groups();
        for (row, &(of_x, of_e)) in pairs.iter().enumerate() {
            for first in (0..self.n).step_by(size).map(|group| row * self.n + group) {
                let group = first..first + size;
                let slack = self.slack(&x[group.clone()], &e[group.clone()]);
                for (k, what) in ["value", "gradient"].into_iter().enumerate() {
                    if let Err(error) = compare(&want[k][group.clone()], &got[k][group.clone()], slack[k]) {
                        let (x, e) = (&numbers[of_x].0, &errors[of_e].0);
                        return Err(format!("the {what} of numbers {x}, errors {e}: {error}"));
                    }
                }
            }
        }
        Ok(())
    }

    /// How far values and gradients of a group may be off.
    fn slack(&self, x: &[f32], e: &[f32]) -> [f64; 2] {
        let Operation::Normalize { center, epsilon, .. } = self.operation else { return [0.0; 2] };
        let largest = |x: &[f64]| x.iter().fold(0f64, |most, x| most.max(x.abs()));
        let double = |x: &[f32]| x.iter().map(|&x| f64::from(x)).collect::<Vec<_>>();
        let about_mean = |x: &[f64]| {
            let mean = if center { x.iter().sum::<f64>() / x.len() as f64 } else { 0.0 };
            x.iter().map(|x| x - mean).collect::<Vec<_>>()
        };
        let (x, e) = (double(x), double(e));
        let (differences, errors) = (about_mean(&x), about_mean(&e));
        let squares: f64 = differences.iter().map(|x| x * x).sum();
        let inverse = 1.0 / (squares / x.len() as f64 + epsilon).sqrt();
        let most = largest(&differences) * inverse;
        // The last bits of numbers, and of means that parts hand on.
        let bits = if self.looped { 2f64.powi(-23) } else { 0.0 };
        let off = bits * largest(&x) * inverse;
        let value = 1e-5 * most + off;
        // Equal errors make 0 but for the reference's own last bits.
        let of_errors = (bits + 1e-14) * largest(&e);
        let gradient = ((1e-5 + 4.0 * off) * largest(&errors) + of_errors) * most.max(1.0);
        [value, gradient * inverse]
    }
}

/// Rows at the edges of single precision, by what they are.
fn rows(n: usize, seed: u64) -> Vec<(String, Vec<f32>)> {
    let numbers = Random(seed).numbers(n, 1.0);
    let mut rows = vec![("all 1000.7".to_string(), vec![1000.7; n])];
    for scale in [1.0, 1e20, 1e-15, 1e30, 1e-30] {
        rows.push((format!("about {scale:e}"), numbers.iter().map(|x| x * scale).collect()));
    }
    for offset in [1e4, -1e6] {
        rows.push((format!("close to {offset:e}"), numbers.iter().map(|x| offset + x).collect()));
    }
    let signs = |i: usize| if i.is_multiple_of(3) { 3e38 } else { -3e38 };
    rows.push(("of 3e38, and of minus as much".into(), (0..n).map(signs).collect()));
    for (large, at) in [(1e6, 0), (1e20, n - 1), (3e38, 0)] {
        let mut x = numbers.clone();
        x[at] = large;
        rows.push((format!("of which one is {large:e}"), x));
    }
    rows
}

fn compare(want: &[f64], got: &[f64], slack: f64) -> Result<(), String> {
    for (i, (&want, &got)) in want.iter().zip(got).enumerate() {
        // Equal numbers have no deviation to be divided by, if nothing is added to it. Below the smallest normal numbers,
        // all may be 0.
        let neither = want.is_nan() && got.is_nan();
        let past = want.abs() + slack > f64::from(f32::MAX);
        if !(neither || past || (got - want).abs() <= slack + 1e-37) {
            return Err(format!("number {i} is {got:e}, not {want:e} within {slack:e}"));
        }
    }
    Ok(())
}
