//! What inverted dropout multiplies by: in training 1 / (1 - p) where a unit is kept and else 0, otherwise 1 (Srivastava et
//! al. 2014). Which units are kept follows from the mask's key, so it needs no operand, and no error reaches it.

use super::{Arguments, Call, Errors, Given, Locality, Operation, Rule};

pub(super) struct DropoutMask {
    pub probability: f64,
    pub key: u64,
}

impl DropoutMask {
    pub(super) const SAMPLES: &[Operation] = &[Operation::DropoutMask { probability: 0.25, key: 1 }];
}

impl Rule for DropoutMask {
    fn name(&self) -> &'static str {
        "dropout mask"
    }

    fn call(&self) -> Option<Call> {
        Some(Call { name: "dropout", usage: "dropout(a; p)", arguments: Arguments::Dropout })
    }

    fn operands(&self) -> usize {
        0
    }

    fn locality(&self) -> Locality {
        Locality::Unit
    }

    fn check_numbers(&self) -> Result<(), String> {
        if (0.0..1.0).contains(&self.probability) {
            return Ok(());
        }
        Err(format!("a dropout probability lies in 0 .. 1, not at {}", self.probability))
    }

    fn key(&self) -> Option<u64> {
        Some(self.key)
    }

    fn adjoint(&self, _errors: &mut dyn Errors) {}

    fn evaluate(&self, given: &Given<'_>) -> Vec<f64> {
        let value = |unit| match given.keeps {
            None => 1.0,
            Some(keeps) if keeps(self.key, self.probability, unit) => 1.0 / (1.0 - self.probability),
            Some(_) => 0.0,
        };
        (0..given.units).map(value).collect()
    }

    fn flops(&self) -> u64 {
        10
    }
}
