//! Which numbers single precision can hold: a network's own must be among them, whatever runs it.

/// Why single precision cannot hold a number, if it is one that double precision can. Subnormal numbers are 0 on a CPU.
pub(crate) fn not_single(number: f64) -> Option<String> {
    if number.is_finite() && (number as f32).is_infinite() {
        return Some(format!(
            "{number:e} is too large for single precision, where the largest is about 3.4e38"
        ));
    }
    (number != 0.0 && number.abs() < f64::from(f32::MIN_POSITIVE)).then(|| {
        format!("{number:e} is too small for single precision, where the smallest but 0 is about 1.2e-38")
    })
}
