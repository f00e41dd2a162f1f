//! Two runs' arrays, and what rounding explains of their differences.

use crate::run::Named;

/// How far numbers may be off.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerance {
    /// Of the largest magnitude in their array, and of `floor`.
    pub relative: f64,
    /// What is added to the largest magnitude.
    pub floor: f64,
    /// Of what altered runs make of the array.
    pub amplified: f64,
}

impl Tolerance {
    /// Of so much of an array's largest magnitude and a hundredth, and 15 times what altered runs make of it.
    pub const fn of(relative: f64) -> Tolerance {
        Tolerance { relative, floor: 0.01, amplified: 15.0 }
    }
}

/// What was found of an array.
#[derive(Clone, Debug)]
pub struct Finding {
    /// The array.
    pub array: String,
    /// How far off it is at most, relative to what it is compared with.
    pub error: f64,
    /// What differs by more than is allowed.
    pub problem: Option<String>,
    /// Why nothing can be said of it, or of some of it.
    pub unchecked: Option<String>,
}

impl Finding {
    pub(crate) fn of(array: impl Into<String>) -> Finding {
        Finding { array: array.into(), error: 0.0, problem: None, unchecked: None }
    }
}

/// Compares all arrays of a run with those of the reference. `altered` are runs of the reference with other last bits, whose
/// differences say how much rounding the network amplifies.
pub fn compare(
    expected: &[Named],
    altered: &[Vec<Named>],
    found: &[Named],
    tolerance: Tolerance,
) -> Vec<Finding> {
    let mut findings = Vec::with_capacity(expected.len());
    for (place, wanted) in expected.iter().enumerate() {
        let Some(found) = found.get(place).filter(|found| found.name == wanted.name) else {
            let instead = found.get(place).map_or("nothing", |found| &found.name);
            let problem = Some(format!("{instead} is in its place"));
            findings.push(Finding { problem, ..Finding::of(&*wanted.name) });
            break;
        };
        let altered: Vec<&[f64]> = altered.iter().map(|run| &*run[place].values).collect();
        findings.push(array(wanted, &altered, &found.values, tolerance));
    }
    if let Some(more) = found.get(expected.len()) {
        let problem = Some("the reference has no such array".into());
        findings.push(Finding { problem, ..Finding::of(&*more.name) });
    }
    findings
}

/// That all arrays of two runs are the same but for rounding.
///
/// # Errors
/// The first array that is not, and where.
pub fn agree(expected: &[Named], found: &[Named], tolerance: f64) -> Result<(), String> {
    let findings = compare(expected, &[], found, Tolerance::of(tolerance));
    let problem =
        findings.into_iter().find_map(|f| f.problem.map(|problem| format!("{}: {problem}", f.array)));
    problem.map_or(Ok(()), Err)
}

fn array(expected: &Named, altered: &[&[f64]], found: &[f64], tolerance: Tolerance) -> Finding {
    let magnitudes = expected.values.iter().filter(|x| x.is_finite()).map(|x| x.abs());
    let largest = magnitudes.fold(0.0, f64::max) + tolerance.floor;
    let pairs = |others: &[f64]| -> Vec<f64> {
        let off = |(e, f): (&f64, &f64)| if e == f || e.is_nan() && f.is_nan() { 0.0 } else { (e - f).abs() };
        expected.values.iter().zip(others).map(off).collect()
    };
    let amplified = altered.iter().flat_map(|a| pairs(a)).filter(|x| x.is_finite()).fold(0.0, f64::max);
    let allowed = match expected.is_count {
        true => 0.0,
        false => tolerance.relative * largest + tolerance.amplified * amplified,
    };
    let mut finding = Finding::of(&*expected.name);
    for (place, off) in pairs(found).into_iter().enumerate() {
        // On the edge of a function's domain, or at a pole, where the last bits decide whether there is a number, and which
        // infinity.
        let kind = |x: f64| if x.is_finite() { None } else { Some((x.is_nan(), x > 0.0)) };
        if altered.iter().any(|a| kind(expected.values[place]) != kind(a[place])) {
            continue;
        }
        if off > finding.error * largest {
            finding.error = off / largest;
        }
        // A NaN on one side alone is within nothing.
        if (off > allowed || off.is_nan()) && finding.problem.is_none() {
            let (value, wanted) = (found[place], expected.values[place]);
            // There the executor is right, but of no use.
            let past = if wanted.abs() > f64::from(f32::MAX) {
                ": the network leaves what single precision holds, 3.4e38"
            } else {
                ""
            };
            finding.problem = Some(format!(
                "value {place} of {} is {value:e}, and the reference gives {wanted:e}{past}",
                expected.values.len()
            ));
        }
    }
    if found.len() != expected.values.len() {
        finding.problem =
            Some(format!("it has {} values, and the reference's {}", found.len(), expected.values.len()));
    }
    finding
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(expected: &[f64], altered: &[f64], found: &[f64]) -> Finding {
        let expected = Named::new("y", expected.to_vec());
        array(&expected, &[altered], found, Tolerance::of(1e-4))
    }

    #[test]
    fn numbers_beyond_the_rounding_that_a_network_amplifies_are_found() {
        let expected = [1.0, -2.0, f64::NAN];
        let same = found(&expected, &expected, &[1.0001, -2.0, f64::NAN]);
        assert!(same.problem.is_none() && same.error > 4e-5, "{same:?}");
        let other = found(&expected, &expected, &[1.001, -2.0, f64::NAN]);
        assert_eq!(other.problem.unwrap(), "value 0 of 3 is 1.001e0, and the reference gives 1e0");
        let amplified = found(&expected, &[1.001, -2.0, f64::NAN], &[1.001, -2.0, f64::NAN]);
        assert!(amplified.problem.is_none(), "{amplified:?}");
        let is_wrong = |altered, value| found(&[f64::INFINITY], &[altered], &[value]).problem.is_some();
        assert!(!is_wrong(f64::INFINITY, f64::INFINITY) && !is_wrong(f64::NEG_INFINITY, f64::NEG_INFINITY));
        assert!(!is_wrong(f64::NAN, f64::NEG_INFINITY));
        assert!(is_wrong(f64::INFINITY, f64::NEG_INFINITY) && is_wrong(f64::INFINITY, f64::NAN));
        assert!(found(&expected, &expected, &[f64::NAN, -2.0, f64::NAN]).problem.is_some());
    }

    #[test]
    fn arrays_of_other_names_lengths_and_numbers_and_counts_that_are_nearly_right_differ() {
        let run = |name: &str, values: &[f64]| vec![Named::new(name, values.to_vec())];
        let expected = run("y", &[1.0, 2.0]);
        assert_eq!(agree(&expected, &run("y", &[1.0, 2.0]), 0.0), Ok(()));
        for other in [run("z", &[1.0, 2.0]), run("y", &[1.0]), run("y", &[1.0, 2.1]), Vec::new()] {
            assert!(agree(&expected, &other, 1e-3).is_err(), "{other:?}");
        }
        assert!(agree(&[], &expected, 1e-3).is_err());
        let counts = |values: &[f64]| vec![Named { is_count: true, ..Named::new("n", values.to_vec()) }];
        assert_eq!(agree(&counts(&[1e6]), &counts(&[1e6]), 1e-3), Ok(()));
        assert!(agree(&counts(&[1e6]), &counts(&[1e6 + 1.0]), 1e-3).is_err());
    }
}
