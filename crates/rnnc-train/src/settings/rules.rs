//! The bounds of settings, and how they go together.

use crate::settings::config::{Config, DataKind, Missing, SplitBy, TrainingConfig};
use crate::settings::learning_rate::Decay;
use rnnc_plan::SettingError;
use rnnc_plan::optimizers::Bounds;

impl Config {
    /// Refuses settings out of their bounds, by name.
    pub(crate) fn check(&self) -> Result<(), String> {
        let (data, training, run) = (&self.data, &self.training, &self.run);
        let text = data.kind == DataKind::Text;
        first_broken(&[
            rule(!data.files.is_empty(), "data.files", "must name a file"),
            named("data.files", &data.files),
            named("data.validation_files", &data.validation_files),
            named("data.test_files", &data.test_files),
            number("data.validation", data.validation, SHARE),
            number("data.test", data.test, SHARE),
            rule(
                data.validation + data.test < 1.0,
                "data",
                "must leave some frames to train on: `validation` and `test` take all",
            ),
            rule(
                data.validation == 0.0 || data.validation_files.is_empty(),
                "data.validation",
                "is for data that is split: there are `data.validation_files`",
            ),
            rule(
                data.test == 0.0 || data.test_files.is_empty(),
                "data.test",
                "is for data that is split: there are `data.test_files`",
            ),
            rule(
                training.updates.is_some() || training.minutes.is_some(),
                "training",
                "must say how long: `updates`, `minutes` or both",
            ),
        ])?;
        let of_tables =
            |holds: bool, key| rule(holds || data.kind == DataKind::Csv, key, "is for `data.kind = \"csv\"`");
        first_broken(&[
            of_tables(data.inputs.is_empty(), "data.inputs"),
            of_tables(data.targets.is_empty(), "data.targets"),
            of_tables(data.sequence.is_none(), "data.sequence"),
            of_tables(data.ahead == 0, "data.ahead"),
            of_tables(!data.label_by_folder, "data.label_by_folder"),
            of_tables(data.missing == Missing::Refuse, "data.missing"),
            rule(
                data.kind != DataKind::Csv || !data.inputs.is_empty(),
                "data.inputs",
                "must name the columns that the network reads",
            ),
            rule(
                data.ahead == 0 || !data.label_by_folder,
                "data.ahead",
                "is for columns of targets, and `data.label_by_folder` has one class for all rows",
            ),
            rule(
                data.split == SplitBy::End || data.validation > 0.0 || data.test > 0.0,
                "data.split",
                "is for shares of the data: give `data.validation` or `data.test`",
            ),
        ])?;
        training.check()?;
        let validates = data.validation > 0.0 || !data.validation_files.is_empty();
        first_broken(&[
            count("run.log_every", run.log_every, 1, u64::MAX),
            count("run.validation_streams", run.validation_streams as u64, 1, u64::MAX),
            count("run.validation_frames", run.validation_frames.map_or(1, |n| n as u64), 1, u64::MAX),
            rule(
                run.validation_frames.is_none() || validates,
                "run.validation_frames",
                "is for validation data: give `data.validation` or `data.validation_files`",
            ),
            rule(
                training.patience.is_none() || (validates && run.validate_every > 0),
                "training.patience",
                "counts validations: give `data.validation` or `data.validation_files`, and `run.validate_every` more than 0",
            ),
            rule(
                training.decay != Decay::Plateau || (validates && run.validate_every > 0),
                "training.decay",
                "plateau counts validations: give `data.validation` or `data.validation_files`, and `run.validate_every` more than 0",
            ),
            rule(
                !run.directory.as_os_str().is_empty(),
                "run.directory",
                "must name a directory: `.` is that of the settings",
            ),
            number("run.checkpoint_minutes", run.checkpoint_minutes, NOT_NEGATIVE),
            number("run.sample_temperature", run.sample_temperature, NOT_NEGATIVE),
            rule(
                run.sample_length == 0 || !run.sample_prompt.is_empty(),
                "run.sample_prompt",
                "must have a byte to begin with",
            ),
            rule(run.sample_length == 0 || text, "run.sample_length", "is for `data.kind = \"text\"`"),
            rule(
                run.sample_length <= LONGEST_SAMPLE,
                "run.sample_length",
                format!(
                    "must be at most {LONGEST_SAMPLE}, not {}: `rnnc generate` writes texts of any length",
                    run.sample_length
                ),
            ),
        ])
    }
}

impl TrainingConfig {
    /// Refuses settings out of their bounds, by name.
    ///
    /// # Errors
    /// The first that is, with its bounds and what it is.
    pub fn check(&self) -> Result<(), String> {
        let step = self.step();
        let optional = |key, found: Option<f64>, bounds: Bounds| match found {
            Some(found) => number(key, found, bounds),
            None => rule(true, key, ""),
        };
        first_broken(&[
            count("training.streams", self.streams as u64, 1, u64::MAX),
            count("training.window", self.window as u64, 1, u64::MAX),
            count("training.step", step as u64, 1, u64::MAX),
            rule(
                step <= self.window,
                "training.step",
                format!("must be at most `training.window`, which is {}, not {step}", self.window),
            ),
            count("training.updates", self.updates.unwrap_or(1), 1, MOST_UPDATES),
            optional("training.minutes", self.minutes, MINUTES),
            count("training.patience", self.patience.unwrap_or(1), 1, MOST_UPDATES),
            count("training.warmup", self.warmup, 0, MOST_UPDATES),
            number("training.learning_rate", self.learning_rate, Bounds::POSITIVE),
            rule(
                self.final_learning_rate.is_none_or(|r| r >= 0.0 && r <= self.learning_rate),
                "training.final_learning_rate",
                format!(
                    "must be at least 0 and at most `training.learning_rate`, which is {:?}, not {:?}",
                    self.learning_rate,
                    self.final_learning_rate.unwrap_or_default()
                ),
            ),
            rule(
                self.final_learning_rate.is_none() || matches!(self.decay, Decay::Cosine | Decay::Linear),
                "training.final_learning_rate",
                "is for `decay = \"cosine\"` and `decay = \"linear\"`",
            ),
            rule(
                !matches!(self.decay, Decay::Cosine | Decay::Linear | Decay::OneCycle)
                    || self.updates.is_some(),
                "training.decay",
                format!("{} needs `training.updates`, for it to know where to end", self.decay.name()),
            ),
            rule(
                self.decay != Decay::OneCycle || self.warmup == 0,
                "training.warmup",
                "must be 0 with `decay = \"one_cycle\"`, which has a warm-up of its own",
            ),
            rule(
                (self.decay == Decay::Step) == self.decay_every.is_some(),
                "training.decay_every",
                "is needed for `decay = \"step\"`, and for no other",
            ),
            count("training.decay_every", self.decay_every.unwrap_or(1), 1, MOST_UPDATES),
            number("training.decay_factor", self.decay_factor, FACTOR),
            count("training.decay_patience", self.decay_patience, 1, MOST_UPDATES),
            named("training.frozen", &self.frozen),
            rule(
                self.class_weights.iter().all(|&x| (0.0..=1e30).contains(&x))
                    && (self.class_weights.is_empty() || self.class_weights.iter().any(|&x| x > 0.0)),
                "training.class_weights",
                format!("must be at least 0 and at most 1e30, and not all 0, not {:?}", self.class_weights),
            ),
            number("training.pre_emphasis", self.pre_emphasis, SHARE),
            optional("training.clip_norm", self.clip_norm, Bounds::POSITIVE),
        ])?;
        self.optimizer.check().map_err(|error| match error {
            SettingError::Bounds { what, expected, found } => {
                format!("`training.{what}` must be {expected}, not {found:?}")
            }
            other => format!("in `[training]`, {other}"),
        })
    }
}

/// A sample is kept in memory until it is shown.
const LONGEST_SAMPLE: usize = 1_000_000;

/// What a double counts exactly; no run comes as far.
pub(crate) const MOST_UPDATES: u64 = 1 << 53;

const SHARE: Bounds = Bounds { expected: "at least 0 and less than 1", allows: |x| (0.0..1.0).contains(&x) };
const FACTOR: Bounds = Bounds { expected: "more than 0 and less than 1", allows: |x| x > 0.0 && x < 1.0 };
const NOT_NEGATIVE: Bounds =
    Bounds { expected: "a finite number of at least 0", allows: |x| x.is_finite() && x >= 0.0 };
const MINUTES: Bounds = Bounds { expected: "more than 0 and at most 1e9", allows: |x| x > 0.0 && x <= 1e9 };

/// A rule: whether it holds, for which setting, and what it asks for.
type Rule = (bool, &'static str, String);

fn rule(holds: bool, key: &'static str, asks: impl Into<String>) -> Rule {
    (holds, key, asks.into())
}

/// Whether all paths are some.
fn named(key: &'static str, paths: &[String]) -> Rule {
    rule(paths.iter().all(|path| !path.is_empty()), key, "has a path without a name: leave it out")
}

fn number(key: &'static str, found: f64, bounds: Bounds) -> Rule {
    ((bounds.allows)(found), key, format!("must be {}, not {found:?}", bounds.expected))
}

fn count(key: &'static str, found: u64, least: u64, most: u64) -> Rule {
    let bounds = if most == u64::MAX {
        format!("at least {least}")
    } else {
        format!("at least {least} and at most {most}")
    };
    ((least..=most).contains(&found), key, format!("must be {bounds}, not {found}"))
}

fn first_broken(rules: &[Rule]) -> Result<(), String> {
    match rules.iter().find(|(holds, ..)| !holds) {
        None => Ok(()),
        Some((_, key, asks)) => Err(format!("`{key}` {asks}")),
    }
}

#[cfg(test)]
mod tests {
    use crate::settings::config::tests::{SMALL, parse};

    #[test]
    fn settings_out_of_bounds_are_named() {
        let cases = [
            ("window = 8", "window = 0", "`training.window` must be at least 1"),
            (
                "window = 8",
                "window = 8\nstep = 9",
                "`training.step` must be at most `training.window`, which is 8",
            ),
            ("window = 8", "window = 8\nstep = 0", "`training.step` must be at least 1, not 0"),
            ("streams = 2", "streams = 0", "`training.streams` must be at least 1, not 0"),
            (
                "updates = 10",
                "updates = 0",
                "`training.updates` must be at least 1 and at most 9007199254740992, not 0",
            ),
            (
                "updates = 10",
                "minutes = inf",
                "`training.minutes` must be more than 0 and at most 1e9, not inf",
            ),
            (
                "updates = 10",
                "updates = 10\nwarmup = 18446744073709551615",
                "`training.warmup` must be at least 0 and at most 9007199254740992",
            ),
            ("updates = 10", "", "`training` must say how long"),
            (
                "updates = 10",
                "minutes = 1.0\ndecay = \"cosine\"",
                "`training.decay` cosine needs `training.updates`",
            ),
            (
                "updates = 10",
                "updates = 10\nfinal_learning_rate = 0.0",
                "`training.final_learning_rate` is for",
            ),
            ("files = [\"a.txt\"]", "files = []", "`data.files` must name a file"),
            ("files = [\"a.txt\"]", "files = [\"a\", \"\"]", "`data.files` has a path without a name"),
            (
                "files = [\"a.txt\"]",
                "files = [\"a\"]\nvalidation = 0.6\ntest = 0.4",
                "`data` must leave some frames",
            ),
            (
                "updates = 10",
                "updates = 10\nlearning_rate = nan",
                "`training.learning_rate` must be at least 1.2e-38 and at most 3.4e38, as single precision is, not NaN",
            ),
            ("updates = 10", "updates = 10\nlearning_rate = 1e300", "`training.learning_rate` must be"),
            ("updates = 10", "updates = 10\nlearning_rate = -0.1", "`training.learning_rate` must be"),
            ("updates = 10", "updates = 10\nepsilon = 1e-50", "`training.epsilon` must be"),
            ("updates = 10", "updates = 10\nepsilon = -1e-8", "`training.epsilon` must be"),
            ("updates = 10", "updates = 10\nclip_norm = inf", "`training.clip_norm` must be"),
            ("updates = 10", "updates = 10\nclip_norm = 0.0", "`training.clip_norm` must be"),
            (
                "updates = 10",
                "updates = 10\nbetas = [0.9, 1.0]",
                "`training.betas` must be at least 0 and less than 1",
            ),
            ("updates = 10", "updates = 10\nbetas = [nan, 0.9]", "`training.betas` must be"),
            (
                "updates = 10",
                "updates = 10\noptimizer = \"sgd\"\nmomentum = 1.0",
                "`training.momentum` must be at least 0 and less than 1",
            ),
            (
                "updates = 10",
                "weight_decay = -0.1\noptimizer = \"adamw\"\nupdates = 10",
                "`training.weight_decay` must be at least 0",
            ),
            (
                "updates = 10",
                "updates = 10\noptimizer = \"sgd\"\nnesterov = true",
                "in `[training]`, `nesterov` needs a `momentum` of more than 0",
            ),
            ("updates = 10", "updates = 10\nbetas = [0.9, 0.99999999999]", "`training.betas` must be"),
            (
                "updates = 10",
                "updates = 10\ndecay = \"cosine\"\nfinal_learning_rate = nan",
                "`training.final_learning_rate` must be at least 0",
            ),
            (
                "files = [\"a.txt\"]",
                "files = [\"a\"]\nvalidation = nan",
                "`data.validation` must be at least 0",
            ),
            ("files = [\"a.txt\"]", "files = [\"a\"]\ntest = -0.1", "`data.test` must be at least 0"),
        ];
        for (from, to, expected) in cases {
            let error = parse(&SMALL.replace(from, to)).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
        for (setting, expected) in [
            ("log_every = 0", "`run.log_every` must be at least 1, not 0"),
            ("validation_streams = 0", "`run.validation_streams` must be at least 1, not 0"),
            ("validation_frames = 5", "`run.validation_frames` is for validation data"),
            ("directory = \"\"", "`run.directory` must name a directory"),
            ("validation_frames = 0", "`run.validation_frames` must be at least 1, not 0"),
            (
                "sample_temperature = -1.0",
                "`run.sample_temperature` must be a finite number of at least 0, not -1.0",
            ),
            (
                "sample_temperature = nan",
                "`run.sample_temperature` must be a finite number of at least 0, not NaN",
            ),
            ("sample_length = 100000000000", "`run.sample_length` must be at most 1000000, not 100000000000"),
            ("sample_length = 18446744073709551615", "`run.sample_length` must be at most 1000000"),
            ("sample_length = 1\nsample_prompt = \"\"", "`run.sample_prompt` must have a byte"),
        ] {
            let error = parse(&format!("{SMALL}[run]\n{setting}\n")).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
