//! Whether a number is the derivative of a function, by central differences in double precision.
//!
//! A difference is off for four reasons that are no fault of the derivative, and each shows in what becomes of it as the
//! step shrinks: truncation (a pole is near) and a kink close by are gone with a step that is small enough; rounding
//! grows; and at a kink the differences of the two sides stay apart, with every subgradient between them. What is left, a
//! difference that settles on another number, is a wrong derivative.

/// Of the larger of derivative and difference.
const RELATIVE: f64 = 1e-6;

/// Of the magnitude of what is subtracted.
const ABSOLUTE: f64 = 1e-9;

/// The step that mostly does.
const USUAL: f64 = 1e-5;

/// The steps of the fourth order.
const STEPS: [f64; 6] = [1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8];

/// The steps to one side, which tell a kink.
const KINK_STEPS: [f64; 3] = [1e-5, 1e-6, 1e-7];

/// With steps below this, rounding alone may be more than [`ABSOLUTE`].
const ROUNDS: f64 = 1e-6;

/// How many times as far off as differences are from each other a derivative must be to be wrong.
const CERTAIN: f64 = 4.0;

/// What differences say of a derivative.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Verdict {
    /// It is one: off by so much, relative to its size.
    Agrees(f64),
    /// The function has no finite value here, or none on one side.
    Outside,
    /// The differences do not settle on a number, or on one that is near to this one, or several kinks meet here.
    Unsettled,
    /// The differences settle on this other number.
    Differs(f64),
}

/// Compares a derivative at 0 with differences of `value`. `magnitude` is that of the numbers of which `value` is the
/// sum: what its rounding is relative to.
///
/// # Errors
/// Those of `value`.
pub fn judge<E>(
    derivative: f64,
    magnitude: f64,
    mut value: impl FnMut(f64) -> Result<f64, E>,
) -> Result<Verdict, E> {
    let blurred = ABSOLUTE * (1.0 + magnitude);
    let off = |difference: f64| (derivative - difference).abs();
    let larger = |difference: f64| derivative.abs().max(difference.abs());
    // Infinity is within every share of itself.
    let is_within = |difference: f64, rounding: f64| {
        off(difference).is_finite() && off(difference) <= RELATIVE * larger(difference) + rounding
    };
    let agrees = |difference: f64| Verdict::Agrees(off(difference) / larger(difference).max(blurred));

    if !magnitude.is_finite() {
        return Ok(Verdict::Outside);
    }
    let usual = (value(USUAL)? - value(-USUAL)?) / (2.0 * USUAL);
    if is_within(usual, blurred) {
        return Ok(agrees(usual));
    }
    let here = value(0.0)?;
    if !here.is_finite() {
        return Ok(Verdict::Outside);
    }
    let mut differences: Vec<f64> = Vec::new();
    for step in STEPS {
        let near = value(step)? - value(-step)?;
        let far = value(2.0 * step)? - value(-2.0 * step)?;
        let difference = (8.0 * near - far) / (12.0 * step);
        if !difference.is_finite() {
            // Outside with this step; a smaller one may stay inside.
            differences.clear();
            continue;
        }
        // Where rounding is allowed more, the derivative must be what the differences went to.
        let rounding = blurred.max(ROUNDS / step * blurred);
        let went_there = step >= ROUNDS || differences.iter().any(|&d| off(d) >= 10.0 * off(difference));
        if went_there && is_within(difference, rounding) {
            return Ok(agrees(difference));
        }
        differences.push(difference);
    }
    // How far each is from its neighbours says how much it is to be trusted.
    let settled = differences.windows(3).map(|d| (d[1], (d[1] - d[0]).abs().max((d[1] - d[2]).abs())));
    let Some((difference, apart)) = settled.min_by(|a, b| a.1.total_cmp(&b.1)) else {
        return Ok(Verdict::Outside);
    };
    let mut derivatives = Vec::new();
    for step in KINK_STEPS {
        let (right, left) = ((value(step)? - here) / step, (here - value(-step)?) / step);
        derivatives.push(Slopes { right, left });
    }
    if derivatives.iter().all(|s| s.enclose(derivative, blurred)) {
        return Ok(Verdict::Agrees(0.0));
    }
    // A derivative that is no number is off by more than any.
    let is_unsettled = off(difference) <= CERTAIN * apart || is_kink(&derivatives, blurred);
    Ok(if is_unsettled { Verdict::Unsettled } else { Verdict::Differs(difference) })
}

/// The derivatives to the two sides.
struct Slopes {
    right: f64,
    left: f64,
}

impl Slopes {
    /// Whether a number lies between them: is a subgradient, if it does however small the step.
    fn enclose(&self, number: f64, blurred: f64) -> bool {
        self.right.min(self.left) - blurred <= number && number <= self.right.max(self.left) + blurred
    }
}

/// Whether derivatives stay apart as the step shrinks. Where several kinks meet, a sum of their subgradients need not lie
/// between the derivatives of the sum.
fn is_kink(derivatives: &[Slopes], blurred: f64) -> bool {
    let apart = |s: &Slopes| (s.right - s.left).abs();
    let first = derivatives.first().map_or(0.0, apart);
    first > 100.0 * blurred && derivatives.iter().all(|s| apart(s) > 0.5 * first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(derivative: f64, function: impl Fn(f64) -> f64) -> Verdict {
        judge(derivative, function(0.0).abs(), |h| Ok::<_, ()>(function(h))).unwrap()
    }

    fn agrees(derivative: f64, function: impl Fn(f64) -> f64) -> bool {
        matches!(verdict(derivative, function), Verdict::Agrees(_))
    }

    fn differs(derivative: f64, function: impl Fn(f64) -> f64) -> bool {
        matches!(verdict(derivative, function), Verdict::Differs(_))
    }

    #[test]
    fn derivatives_agree_and_others_differ() {
        for at in [-2.0, -0.3, 0.1, 1.0, 7.0] {
            let (derivative, cube) = (3.0 * at * at, |h: f64| (at + h) * (at + h) * (at + h));
            assert!(agrees(derivative, cube), "{at}");
            assert!(differs(derivative * 1.0001 + 1e-4, cube), "{at}");
            assert!(differs(f64::NAN, cube), "{at}");
            assert!(differs(f64::INFINITY, cube), "{at}");
        }
    }

    #[test]
    fn near_a_pole_truncation_is_told_from_a_wrong_derivative() {
        for at in [0.3, 1e-2, 1e-3, 1e-4, -1e-5] {
            let derivative = -1.0 / (at * at);
            assert!(agrees(derivative, |h| 1.0 / (at + h)), "{at}");
            assert!(differs(derivative * 1.01, |h| 1.0 / (at + h)), "{at}");
        }
    }

    #[test]
    fn near_a_kink_and_at_one_a_subgradient_agrees_and_nothing_else_does() {
        let relu = |x: f64| x.max(0.0);
        for at in [1e-4, 1e-5, 2e-6, 1e-7, 3e-8] {
            assert!(agrees(1.0, |h| relu(at + h)), "{at}");
            assert!(agrees(0.0, |h| relu(h - at)), "{at}");
            assert!(!agrees(1.1, |h| relu(at + h)), "{at}");
            assert!(!agrees(-0.1, |h| relu(h - at)), "{at}");
            // A kink that is nearer than the smallest step cannot be told from one that is here.
            assert!(at < 1e-6 || differs(1.1, |h| relu(at + h)), "{at}");
        }
        for subgradient in [0.0, 0.5, 1.0] {
            assert!(agrees(subgradient, relu), "{subgradient}");
        }
        for other in [1.01, -0.01] {
            assert_eq!(verdict(other, relu), Verdict::Unsettled);
        }
        // A tie of a maximum, to whichever of the two the derivative is given.
        assert!(agrees(2.0, |h| (1.0 + 2.0 * h).max(1.0 - h)));
    }

    #[test]
    fn outside_a_functions_domain_and_on_its_edge_there_is_no_verdict() {
        assert_eq!(verdict(f64::NAN, |h: f64| (h - 1.0).sqrt()), Verdict::Outside);
        assert_eq!(verdict(f64::INFINITY, |h: f64| h.sqrt()), Verdict::Outside);
        assert_eq!(verdict(f64::INFINITY, |h: f64| (h + 1.0) / 0.0), Verdict::Outside);
        // With large steps outside, with small ones inside.
        assert!(agrees(0.5 / 1e-2, |h: f64| (1e-4 + h).sqrt()));
        assert!(differs(0.6 / 1e-2, |h: f64| (1e-4 + h).sqrt()));
    }

    #[test]
    fn rounding_that_the_magnitude_does_not_show_is_no_wrong_derivative() {
        // A billion is added, and taken away.
        let rounded = |h: f64| (1e9 + (0.3 + h) * 1.7) - 1e9;
        assert!(!differs(1.7, rounded));
        assert!(differs(2.7, rounded));
    }
}
