//! How numbers that are measured are summed up and rounded.

/// Microseconds: the median, and the quantiles at 10 and 90 percent.
pub struct Spread {
    pub median: f64,
    pub low: f64,
    pub high: f64,
}

impl Spread {
    /// Of some times in microseconds, each of so many frames.
    pub fn of(mut times: Vec<f64>, frames: usize) -> Option<Spread> {
        times.sort_by(f64::total_cmp);
        let quantile = |share: f64| {
            let place = (share * (times.len() - 1) as f64) as usize;
            times[place] / frames as f64
        };
        (!times.is_empty()).then(|| Spread { median: quantile(0.5), low: quantile(0.1), high: quantile(0.9) })
    }
}

/// What is more than this is noise.
pub fn round(x: f64) -> f64 {
    (x * 1e3).round() / 1e3
}
