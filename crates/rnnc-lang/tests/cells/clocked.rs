//! Cells that run by a clock.

use crate::maths::*;
use crate::support::check;

pub const CELLS: &[&str] = &["clockwork"];

#[test]
fn clockwork_modules_work_when_their_period_divides_the_frame() {
    // Koutnik et al. (2014), section 3, with periods 1, 2, 4 and 8: a module reads itself and slower ones, and keeps
    // its value in frames that its period does not divide.
    const PERIODS: [usize; 4] = [1, 2, 4, 8];
    check("network n { input x : vector(3)  h = clockwork(x; 8)  output h }", |w, xs| {
        let mut modules = vec![zeros(2); 4];
        let mut outputs = Vec::new();
        for (t, x) in xs.iter().enumerate() {
            let before = modules.clone();
            for (m, period) in PERIODS.iter().enumerate() {
                if !t.is_multiple_of(*period) {
                    continue;
                }
                let name = format!("h.h{period}");
                let mut s = add(&w.product(&format!("{name}.W.x"), x), &w.vector(&format!("{name}.bias")));
                for (slower, old) in PERIODS.iter().zip(&before).skip(m) {
                    s = add(&s, &w.product(&format!("{name}.W.h{slower}[t-1]"), old));
                }
                modules[m] = tanh(&s);
            }
            outputs.push(modules.concat());
        }
        outputs
    });
}
