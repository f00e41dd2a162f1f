//! error_to_signal: the sum of (target - output)^2 over all frames, divided by that of target^2 (ESR: Wright et al. 2019, eq. 10,
//! without pre-emphasis).

use super::rule::{Rule, Target, Task, units};

#[derive(Default)]
pub(super) struct ErrorToSignal {
    error: f64,
    signal: f64,
}

impl Rule for ErrorToSignal {
    const NAME: &'static str = "error_to_signal";
    const SYNONYMS: &'static [&'static str] = &["esr", "errortosignalratio", "nmse"];
    const TASKS: &'static [Task] = &[Task::Numbers];

    fn add(&mut self, output: &[f64], target: Target<'_>) {
        for (_, y, t) in units(output, target) {
            self.error += (y - t) * (y - t);
            self.signal += t * t;
        }
    }

    fn value(&self) -> f64 {
        self.error / self.signal
    }
}
