//! What must be known of a metric: its [`Rule`], and what it is measured on.

/// What a loss compares outputs with, and so what can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// One of several classes in each frame: the output is logits.
    Classes,
    /// A yes or no of each unit: the output is logits.
    Flags,
    /// A vector.
    Numbers,
}

impl Task {
    /// What such targets are, in words.
    pub(crate) fn targets(self) -> &'static str {
        match self {
            Task::Classes => "symbols",
            Task::Flags => "vectors of yes and no",
            Task::Numbers => "vectors of numbers",
        }
    }
}

/// What a frame's output is compared with.
#[derive(Clone, Copy, Debug)]
pub enum Target<'a> {
    /// A symbol, which is one of the output's units.
    Symbol(usize),
    /// A vector of the output's size; NaN where there is none.
    Units(&'a [f32]),
}

/// A metric: a number for all counted frames of some data.
pub(super) trait Rule: Default + Send {
    /// The name in `train.toml`.
    const NAME: &'static str;
    /// What it is called elsewhere, in small letters without signs.
    const SYNONYMS: &'static [&'static str];
    /// What it is for.
    const TASKS: &'static [Task];

    /// One more frame.
    fn add(&mut self, output: &[f64], target: Target<'_>);

    /// The metric of all frames so far; NaN if it is of none.
    fn value(&self) -> f64;
}

/// Each unit's output with its target, where there is one.
pub(super) fn units<'a>(
    output: &'a [f64],
    target: Target<'a>,
) -> impl Iterator<Item = (usize, f64, f64)> + 'a {
    let values = match target {
        Target::Units(values) => values,
        Target::Symbol(_) => &[],
    };
    let both = output.iter().zip(values).enumerate();
    both.map(|(unit, (&y, &t))| (unit, y, f64::from(t))).filter(|(_, _, t)| !t.is_nan())
}

/// The unit of the largest output; of equal ones the first. NaN is larger than all: then it is wrong, not lucky.
pub(super) fn likeliest(output: &[f64]) -> usize {
    let best = output.iter().enumerate().max_by(|a, b| {
        let by_value = a.1.partial_cmp(b.1).unwrap_or_else(|| a.1.is_nan().cmp(&b.1.is_nan()));
        by_value.then(b.0.cmp(&a.0))
    });
    best.map_or(0, |(unit, _)| unit)
}

/// `-log softmax(output)[symbol]`, in nats.
pub(super) fn negative_log_likelihood(output: &[f64], symbol: usize) -> f64 {
    let top = output.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    // libm, so that every machine says the same.
    let sum: f64 = output.iter().map(|y| libm::exp(y - top)).sum();
    let at = output.get(symbol).copied().unwrap_or(f64::NAN);
    libm::log(sum) + top - at
}

/// A sum with its count, for means.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Mean {
    sum: f64,
    count: u64,
}

impl Mean {
    pub(super) fn add(&mut self, x: f64) {
        self.sum += x;
        self.count += 1;
    }

    pub(super) fn value(self) -> f64 {
        self.sum / self.count as f64
    }
}
