//! How much rounding a network amplifies: the reference again, with other last bits.
//!
//! What no executor of a precision could do better than shows in runs with weights moved by its last bits, and with a rounding
//! at random of every number that is computed (Monte Carlo arithmetic: Parker 1997).

use crate::error::VerifyError;
use crate::run::{Named, run, write_double};
use crate::trial::Trial;
use rnnc_plan::Precision;
use rnnc_reference::ReferenceExecutor;

/// How an executor rounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rounding {
    /// Half of a last bit.
    pub unit: f64,
    /// How much results may differ, of an array's largest magnitude and a hundredth.
    pub tolerance: f64,
}

/// What last bits of weights in single precision may be off by, and somewhat more.
pub const LAST_BITS: f64 = 3e-7;

impl Rounding {
    /// That of an executor whose products round their operands so.
    pub fn of(precision: Precision) -> Rounding {
        match precision {
            Precision::F32 => Rounding { unit: 6e-8, tolerance: 1e-4 },
            Precision::Tf32 => Rounding { unit: 4.9e-4, tolerance: 5e-3 },
            Precision::Bf16 => Rounding { unit: 3.9e-3, tolerance: 4e-2 },
        }
    }
}

/// The weights moved by so much of themselves, up and down in turn.
pub fn moved(weights: &[Vec<f32>], by: f64) -> Vec<Vec<f64>> {
    let signs = || [1.0, -1.0].into_iter().cycle();
    let array = |values: &Vec<f32>| -> Vec<f64> {
        values.iter().zip(signs()).map(|(&x, sign)| f64::from(x) * (1.0 + sign * by)).collect()
    };
    weights.iter().map(array).collect()
}

/// What the reference makes of a trial with weights moved by `unit`, and every number that it computes off by up to as much;
/// so often, each time by other random numbers.
///
/// # Errors
/// Those of the reference.
pub fn altered(trial: &Trial<'_>, unit: f64, runs: u64) -> Result<Vec<Vec<Named>>, VerifyError> {
    let weights = moved(&trial.weights, unit);
    let one = |seed| {
        let mut executor = ReferenceExecutor::new(trial.plan()?, trial.config)?.with_rounding(unit, seed);
        write_double(&mut executor, &weights)?;
        Ok(run(&mut executor, trial)?)
    };
    (0..runs).map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_move_up_and_down_in_turn() {
        assert_eq!(moved(&[vec![2.0, -2.0, 4.0], vec![1.0]], 0.5), [vec![3.0, -1.0, 6.0], vec![1.5]]);
    }
}
