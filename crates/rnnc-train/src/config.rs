//! What `train.toml` says.

use crate::error::TrainError;
use crate::losses::Loss;
use crate::optimizer_keys::with_optimizer;
use crate::settings_errors::explain;
use rnnc_io::{Wanted, check_kind, read_text};
use rnnc_plan::OptimizerSettings;
use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A whole `train.toml`:
///
/// ```toml
/// [network]
/// file = "network.rnn"           # the equations
/// name = "text_model"            # which network of the file, if it has several
/// weights = "begin.safetensors"  # begin with these, not with random numbers
///
/// [data]
/// kind = "text"                  # or "arrays": .npz files
/// files = ["src/**/*.rs"]        # files and globs
/// validation = 0.05              # of all frames, watched while training: the last but `test`
/// test = 0.05                    # of all frames, reported at the end: the last
/// # validation_files = ["v.npz"] # instead of `validation`: files of one's own
/// # test_files = ["t.npz"]       # instead of `test`
///
/// [training]
/// streams = 16                   # B, side by side
/// window = 128                   # h: errors go back through that many frames
/// step = 128                     # h': new frames per update; as many as the window if left out
/// updates = 2000                 # train for so many updates,
/// minutes = 1.0                  # or so long, whichever ends first
/// seed = 1
/// loss = "cross_entropy"         # or another one of docs/training.md
/// output = "y"                   # the output that the loss reads, if there are several
/// learning_rate = 0.002
/// warmup = 100                   # updates in which the learning rate rises from 0
/// decay = "cosine"               # or "constant"; cosine falls to `final_learning_rate` at the last update
/// final_learning_rate = 0.0
/// optimizer = "adam"             # or another one of docs/training.md, with settings of its own:
/// betas = [0.9, 0.999]
/// epsilon = 1e-8
/// clip_norm = 1.0                # gradients are scaled down to this norm
///
/// [run]
/// directory = "run"              # checkpoint, metrics, and copies of network and settings
/// overwrite = false              # whether a new run may replace one that is there
/// executor = "cpu"
/// threads = 0                    # 0: all
/// log_every = 10                 # updates between lines of metrics
/// validate_every = 100           # updates between validations; 0: only at the end
/// validation_streams = 16        # at most so many sequences of the validation data are run side by side
/// validation_frames = 100000     # the first so many frames of it; all if left out (of test data, always all)
/// checkpoint_every = 1000        # updates between checkpoints; 0: not by updates
/// checkpoint_minutes = 10.0      # a checkpoint also after so long without one; 0: not by time
/// sample_prompt = "fn "          # at the end a network of text writes on from here
/// sample_length = 400            # so many bytes
/// sample_temperature = 0.7
/// ```
///
/// Paths are relative to the file. Left out, settings have the values above, except those that follow from
/// nothing: `network.file`, `data.kind`, `data.files`, `streams`, `window`, `updates` or `minutes`, and `loss`;
/// `validation`, `test`, `warmup` and `sample_length` are 0, `decay` is constant, and gradients are not clipped.
///
/// The validation and test data are whole sequences from the end of the data: each begins at the sequence nearest to where
/// `validation` and `test` say, as long as no part becomes less than half or more than twice what was asked for. Where
/// there is no such sequence, as in one long text, one is cut: its tail is a sequence of its own. A reported loss is that
/// of whole sequences, each run once from its start, where it has no state, to its end: what `rnnc run` gives for them.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// What is trained.
    pub network: NetworkConfig,
    /// On what.
    pub data: DataConfig,
    /// How.
    pub training: TrainingConfig,
    /// Where, and what is told meanwhile.
    #[serde(default)]
    pub run: RunConfig,
    /// The file as it was read.
    #[serde(skip)]
    pub text: String,
    /// The directory that its paths are relative to.
    #[serde(skip)]
    pub base: PathBuf,
}

/// `[network]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkConfig {
    /// The equations.
    pub file: PathBuf,
    /// Which network of the file.
    pub name: Option<String>,
    /// A weights file to begin with.
    pub weights: Option<PathBuf>,
}

/// What the data files hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DataKind {
    /// Bytes, each a symbol; the target is the next one.
    Text,
    /// `.npz` files of inputs and targets.
    Arrays,
}

/// `[data]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    /// What the files hold.
    pub kind: DataKind,
    /// Files and globs.
    pub files: Vec<String>,
    /// Of all frames, 0 to 1.
    #[serde(default)]
    pub validation: f64,
    /// Of all frames, 0 to 1.
    #[serde(default)]
    pub test: f64,
    /// Files and globs to validate with, instead of a share of `files`.
    #[serde(default)]
    pub validation_files: Vec<String>,
    /// Files and globs to test with.
    #[serde(default)]
    pub test_files: Vec<String>,
}

/// How the learning rate goes after the warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decay {
    /// Stays as it is.
    #[default]
    Constant,
    /// Falls along half a cosine (Loshchilov & Hutter 2017, without restarts).
    Cosine,
}

/// `[training]`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
#[allow(missing_docs)] // the example of `Config` explains each
pub struct TrainingConfig {
    pub streams: usize,
    pub window: usize,
    pub step: Option<usize>,
    pub updates: Option<u64>,
    pub minutes: Option<f64>,
    #[serde(default = "one")]
    pub seed: u64,
    pub loss: Loss,
    pub output: Option<String>,
    #[serde(default = "learning_rate")]
    pub learning_rate: f64,
    #[serde(default)]
    pub warmup: u64,
    #[serde(default)]
    pub decay: Decay,
    pub final_learning_rate: Option<f64>,
    pub clip_norm: Option<f64>,
    /// With its settings, which stand among the others.
    #[serde(skip)]
    pub optimizer: OptimizerSettings,
}

impl<'de> Deserialize<'de> for TrainingConfig {
    fn deserialize<D: Deserializer<'de>>(section: D) -> Result<TrainingConfig, D::Error> {
        // What is derived, which reads all but the optimizer.
        let (training, optimizer) = with_optimizer(section, |section| TrainingConfig::deserialize(section))?;
        Ok(TrainingConfig { optimizer, ..training })
    }
}

/// `[run]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)] // the example of `Config` explains each
pub struct RunConfig {
    pub directory: PathBuf,
    pub overwrite: bool,
    pub executor: String,
    pub threads: usize,
    pub log_every: u64,
    pub validate_every: u64,
    pub validation_streams: usize,
    pub validation_frames: Option<usize>,
    pub checkpoint_every: u64,
    pub checkpoint_minutes: f64,
    pub sample_prompt: String,
    pub sample_length: usize,
    pub sample_temperature: f64,
}

fn one() -> u64 {
    1
}

fn learning_rate() -> f64 {
    0.002
}

impl Default for RunConfig {
    fn default() -> RunConfig {
        RunConfig {
            directory: "run".into(),
            overwrite: false,
            executor: "cpu".into(),
            threads: 0,
            log_every: 10,
            validate_every: 100,
            validation_streams: 16,
            validation_frames: None,
            checkpoint_every: 1000,
            checkpoint_minutes: 10.0,
            sample_prompt: "\n".into(),
            sample_length: 0,
            sample_temperature: 0.7,
        }
    }
}

impl Config {
    /// Reads a file; its paths become relative to where the program runs.
    ///
    /// # Errors
    /// What cannot be read, what is no setting (with its line), and settings out of their bounds.
    pub fn load(path: &Path) -> Result<Config, TrainError> {
        check_kind(path, Wanted::Settings)?;
        let text = read_text(path)?;
        let base = path.parent().unwrap_or(Path::new(""));
        Config::parse(text, base).map_err(|problem| TrainError::file(path, problem))
    }

    /// Reads the text of a file that stands in the directory `base`. The error is what is wrong with it.
    pub fn parse(text: String, base: &Path) -> Result<Config, String> {
        let mut config: Config = toml::from_str(&text).map_err(|e| explain::<Config>(&e, &text))?;
        config.check()?;
        config.network.file = base.join(&config.network.file);
        config.network.weights = config.network.weights.map(|w| base.join(w));
        config.run.directory = base.join(&config.run.directory);
        config.base = base.into();
        config.text = text;
        Ok(config)
    }
}

impl TrainingConfig {
    /// That many streams in windows of that many frames, all of them new; everything else as in a file that says
    /// no more.
    pub fn new(streams: usize, window: usize, loss: Loss) -> TrainingConfig {
        TrainingConfig {
            streams,
            window,
            step: None,
            updates: None,
            minutes: None,
            seed: one(),
            loss,
            output: None,
            learning_rate: learning_rate(),
            warmup: 0,
            decay: Decay::Constant,
            final_learning_rate: None,
            clip_norm: None,
            optimizer: OptimizerSettings::default(),
        }
    }

    /// What decides how weights move, by name and as text, for a run that goes on to tell what has changed. When a run
    /// ends is none of it, unless the learning rate falls until then.
    pub(crate) fn settings(&self) -> BTreeMap<String, String> {
        let optional = |x: Option<f64>| x.map_or("none".into(), |x| format!("{x:?}"));
        let decay = match (self.decay, self.updates) {
            (Decay::Cosine, Some(updates)) => format!("cosine over {updates} updates"),
            _ => "constant".into(),
        };
        let own = [
            ("learning_rate", format!("{:?}", self.learning_rate)),
            ("warmup", self.warmup.to_string()),
            ("decay", decay),
            ("final_learning_rate", optional(self.final_learning_rate)),
            ("clip_norm", optional(self.clip_norm)),
        ];
        let optimizer =
            self.optimizer.each().map(|(setting, values)| (setting.name, setting.written(values)));
        own.into_iter().chain(optimizer).map(|(name, value)| (name.to_string(), value)).collect()
    }

    /// New frames per update, h'.
    pub fn step(&self) -> usize {
        self.step.unwrap_or(self.window)
    }

    /// The learning rate of an update, from 1.
    pub fn learning_rate_at(&self, update: u64) -> f64 {
        if update <= self.warmup {
            return self.learning_rate * update as f64 / self.warmup as f64;
        }
        match (self.decay, self.updates) {
            (Decay::Cosine, Some(updates)) => {
                let last = self.final_learning_rate.unwrap_or(0.0);
                let after = updates.saturating_sub(self.warmup).max(1);
                let way = ((update - self.warmup) as f64 / after as f64).min(1.0);
                last + (self.learning_rate - last) * (1.0 + libm::cos(std::f64::consts::PI * way)) / 2.0
            }
            _ => self.learning_rate,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) const SMALL: &str = r#"
[network]
file = "net.rnn"
[data]
kind = "text"
files = ["a.txt"]
[training]
streams = 2
window = 8
updates = 10
loss = "cross_entropy"
"#;

    pub(crate) fn parse(text: &str) -> Result<Config, String> {
        Config::parse(text.into(), Path::new("/somewhere"))
    }

    #[test]
    fn the_example_of_the_documentation_is_a_valid_file() {
        let source = include_str!("config.rs");
        let example: String = source
            .lines()
            .skip_while(|l| *l != "/// ```toml")
            .skip(1)
            .take_while(|l| *l != "/// ```")
            .map(|l| l.trim_start_matches("///").to_string() + "\n")
            .collect();
        let config = parse(&example).unwrap();
        // Its values are the defaults wherever there are defaults.
        let default = RunConfig::default();
        assert_eq!(config.run.log_every, default.log_every);
        assert_eq!(config.training.optimizer, OptimizerSettings::default());
    }

    #[test]
    fn a_small_file_has_defaults_and_paths_relative_to_itself() {
        let config = parse(SMALL).unwrap();
        assert_eq!(config.training.step(), 8);
        assert_eq!(config.network.file, Path::new("/somewhere/net.rnn"));
        let same = TrainingConfig { updates: Some(10), ..TrainingConfig::new(2, 8, Loss::CrossEntropy) };
        assert_eq!(config.training, same);
        assert_eq!(config.run.directory, Path::new("/somewhere/run"));
    }

    #[test]
    fn an_unknown_setting_is_named_with_its_line() {
        let error = parse(&SMALL.replace("window = 8", "windw = 8")).unwrap_err();
        assert!(error.contains("line 9") && error.contains("unknown setting `windw`"), "{error}");
        let error = parse(&SMALL.replace("\"text\"", "\"txt\"")).unwrap_err();
        assert!(error.contains("line 5") && error.contains("`text` or `arrays`"), "{error}");
        let error = parse(&SMALL.replace("window = 8", "")).unwrap_err();
        assert!(error.contains("missing `window`"), "{error}");
    }

    #[test]
    fn the_learning_rate_rises_and_falls_as_asked() {
        let text = SMALL.replace(
            "updates = 10",
            "updates = 10\nlearning_rate = 1.0\nwarmup = 4\ndecay = \"cosine\"\nfinal_learning_rate = 0.5",
        );
        let training = parse(&text).unwrap().training;
        let rates: Vec<f64> = [1, 4, 7, 10, 20].map(|u| training.learning_rate_at(u)).into();
        for (rate, expected) in rates.iter().zip([0.25, 1.0, 0.75, 0.5, 0.5]) {
            assert!((rate - expected).abs() < 1e-12, "{rates:?}");
        }
        assert_eq!(parse(SMALL).unwrap().training.learning_rate_at(99), 0.002);
    }
}
