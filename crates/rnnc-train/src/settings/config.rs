//! What `train.toml` says.

use crate::error::TrainError;
use crate::settings::changes::changed;
use crate::settings::errors::explain;
use crate::settings::learning_rate::Decay;
use crate::settings::optimizer_keys::{optimizer_keys, with_optimizer};
use crate::task::losses::{Loss, LossSettings};
use crate::task::metrics::Metric;
use rnnc_io::{Wanted, check_kind, read_text};
use rnnc_plan::OptimizerSettings;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A whole `train.toml`: what it says, and what it leaves out at its default. docs/training.md lists all settings, as `rnnc config
/// --reference` does; both are made of the descriptions and defaults here.
///
/// ```toml
/// [network]
/// file = "network.rnn"
///
/// [data]
/// kind = "text"
/// files = ["src/**/*.rs"]
/// validation = 0.05
///
/// [training]
/// streams = 16
/// window = 128
/// minutes = 1.0
/// loss = "cross_entropy"
/// optimizer = "adam"
/// betas = [0.9, 0.999]
///
/// [run]
/// directory = "run"
/// ```
///
/// Paths are relative to the file.
///
/// The validation and test data are whole sequences from the end of the data: each begins at the sequence nearest to where
/// `validation` and `test` say, as long as no part becomes less than half or more than twice what was asked for. Where
/// there is no such sequence, as in one long text, one is cut: its tail is a sequence of its own. A reported loss is that
/// of whole sequences, each run once from its start, where it has no state, to its end: what `rnnc run` gives for them.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
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

/// `[network]`: what is trained.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NetworkConfig {
    /// The file of the equations.
    pub file: PathBuf,
    /// Which network of the file, if it has several.
    pub name: Option<String>,
    /// A weights file or a checkpoint to begin with; if left out, the network's random numbers.
    pub weights: Option<PathBuf>,
}

/// What the data files hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DataKind {
    /// Bytes, each a symbol; the target is the next one.
    Text,
    /// `.npz` files of inputs and targets.
    Arrays,
    /// Pairs of WAV files: what goes into a device, and what comes out.
    Audio,
    /// CSV files whose columns are inputs and targets.
    Csv,
}

/// What is done where a table has no value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Missing {
    /// It is an error.
    #[default]
    Refuse,
    /// An input stays as it was in the row before; a row without its target does not count.
    Mask,
}

/// Which sequences become validation and test data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SplitBy {
    /// Those at the end of the data.
    #[default]
    End,
    /// Those that chance takes.
    Random,
    /// Those that chance takes of each class.
    Stratified,
}

/// Which frames' losses count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LossAt {
    /// Those of all frames.
    #[default]
    Every,
    /// That of the last frame of each sequence.
    Last,
}

/// `[data]`: on what it is trained.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    /// What the files hold: `text`, bytes of which the target is the next one; `arrays`, `.npz` files of inputs and targets; `audio`,
    /// pairs of WAV files; `csv`, tables of named columns.
    pub kind: DataKind,
    /// Files and globs, as in `["src/**/*.rs"]`. Of sounds, those that go in: the target of `NAME-input.wav` is `NAME-target.wav`.
    pub files: Vec<String>,
    /// The share of all frames that is watched while training: the last ones but for `test`.
    #[serde(default)]
    pub validation: f64,
    /// The share of all frames, the last ones, on which the best weights (or, where they are not kept, the last) are measured at the end.
    #[serde(default)]
    pub test: f64,
    /// Files and globs to validate with, instead of a share of `files`.
    #[serde(default)]
    pub validation_files: Vec<String>,
    /// Files and globs to test with, instead of a share of `files`.
    #[serde(default)]
    pub test_files: Vec<String>,
    /// How whole sequences are taken for `validation` and `test`: `end`, the last ones; `random`, by `seed`; `stratified`, by `seed`
    /// and the same share of each class.
    #[serde(default)]
    pub split: SplitBy,
    /// Of tables, the columns that the units of the network's inputs read, in order.
    #[serde(default)]
    pub inputs: Vec<String>,
    /// Of tables, the columns of the target: one for each unit of the output, or one of classes.
    #[serde(default)]
    pub targets: Vec<String>,
    /// Of tables, the column that says which sequence a row is of; if left out, each file is one.
    pub sequence: Option<String>,
    /// Of tables, the target of a row is that of so many rows later.
    #[serde(default)]
    pub ahead: usize,
    /// Whether the target is the class that a table's folder is named after: `data/CLASS/NAME.csv`.
    #[serde(default)]
    pub label_by_folder: bool,
    /// Whether columns of numbers are measured from their mean in units of their deviation, as the training part has them.
    #[serde(default = "yes")]
    pub normalize: bool,
    /// What is done where a table has no value: `refuse`, or `mask`, where an input stays as it was and a row without its target does
    /// not count.
    #[serde(default)]
    pub missing: Missing,
}

/// `[training]`: how it is trained.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, remote = "Self")]
pub struct TrainingConfig {
    /// Streams side by side, B.
    pub streams: usize,
    /// Frames that errors go back through, h.
    pub window: usize,
    /// New frames an update, h', at most `window`; if left out, as many.
    pub step: Option<usize>,
    /// Train for so many updates. One of `updates` and `minutes` is needed; with both, what ends first ends the run.
    pub updates: Option<u64>,
    /// Train for so many minutes.
    pub minutes: Option<f64>,
    /// End after so many validations (see `validate_every`) in a row that found no smaller loss; if left out, never.
    pub patience: Option<u64>,
    /// What all random numbers follow from.
    #[serde(default = "one")]
    pub seed: u64,
    /// What is minimized: one of the losses below.
    pub loss: Loss,
    /// Which frames' losses count: `every`, or `last`, that of the last frame of each sequence alone.
    #[serde(default)]
    pub loss_at: LossAt,
    /// So many frames at the start of each sequence run without their losses being counted.
    #[serde(default)]
    pub burn_in: usize,
    /// Whether whole sequences are read in an order that is another each time through, by `seed`; if left out, where `loss_at` is
    /// `last`. Else streams read the data in its order, each from a place of its own.
    pub shuffle: Option<bool>,
    /// What is reported beside the loss, of validation and test data: some of the metrics below.
    #[serde(default)]
    pub metrics: Vec<Metric>,
    /// The output that the loss reads, if the network has several.
    pub output: Option<String>,
    /// The step size of the optimizer, after the warm-up.
    #[serde(default = "learning_rate")]
    pub learning_rate: f64,
    /// Updates in which the learning rate rises from 0.
    #[serde(default)]
    pub warmup: u64,
    /// How the learning rate goes after the warm-up: `constant`; `cosine` or `linear`, which fall to `final_learning_rate` at the last of
    /// `updates`; `step`, times `decay_factor` every `decay_every` updates; `one_cycle`, which has a warm-up of its own; `plateau`, times
    /// `decay_factor` after `decay_patience` validations in a row that found no smaller loss.
    #[serde(default)]
    pub decay: Decay,
    /// Where a cosine or a line ends; 0 if left out.
    pub final_learning_rate: Option<f64>,
    /// Of `decay = "step"`, the updates between two.
    pub decay_every: Option<u64>,
    /// What `step` and `plateau` multiply the learning rate with.
    #[serde(default = "tenth")]
    pub decay_factor: f64,
    /// Of `decay = "plateau"`, the validations that it waits for.
    #[serde(default = "ten")]
    pub decay_patience: u64,
    /// Weights that are not learned, by name or pattern, as in `["h.*"]`; `rnnc plan NET.rnn --full` has the names.
    #[serde(default)]
    pub frozen: Vec<String>,
    /// With `cross_entropy`, the weight of each class, in order: the loss is the weighted mean.
    #[serde(default)]
    pub class_weights: Vec<f64>,
    /// With `error_to_signal`, the a of the filter `x[t] - a x[t-1]` that output and target go through first; 0: none.
    #[serde(default)]
    pub pre_emphasis: f64,
    /// Gradients of a larger norm than this are scaled down to it; if left out, none are.
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

impl Serialize for TrainingConfig {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct All<'a> {
            /// What is derived, which writes all but the optimizer.
            #[serde(flatten, serialize_with = "TrainingConfig::serialize")]
            own: &'a TrainingConfig,
            #[serde(flatten, serialize_with = "optimizer_keys")]
            optimizer: OptimizerSettings,
        }
        All { own: self, optimizer: self.optimizer }.serialize(to)
    }
}

/// `[run]`: where it runs, and what is told meanwhile.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RunConfig {
    /// The directory of checkpoint, metrics, and copies of network and settings.
    pub directory: PathBuf,
    /// Whether a new run may replace one that is there.
    pub overwrite: bool,
    /// What runs the network: `cpu`, `cuda` or `reference`.
    pub executor: String,
    /// Threads of a CPU; 0: one for each core.
    pub threads: usize,
    /// Updates between lines of metrics.
    pub log_every: u64,
    /// Updates between validations; 0: only at the end.
    pub validate_every: u64,
    /// The most sequences of the validation data that run side by side.
    pub validation_streams: usize,
    /// Whether `best.safetensors` keeps the run as it was at the smallest loss on the validation data.
    pub keep_best: bool,
    /// Frames of the validation data that are used, the first ones; all if left out. Of test data, always all.
    pub validation_frames: Option<usize>,
    /// Updates between checkpoints; 0: not by updates.
    pub checkpoint_every: u64,
    /// Minutes without a checkpoint after which one is written; 0: not by time.
    pub checkpoint_minutes: f64,
    /// The newest so many checkpoints stay beside `checkpoint.safetensors`, as `checkpoint-UPDATE.safetensors`.
    pub keep_checkpoints: usize,
    /// What the sample begins with that a network of text writes at the end.
    pub sample_prompt: String,
    /// Bytes of that sample; 0: none.
    pub sample_length: usize,
    /// How random it is: 0 takes the likeliest byte each time, 1 draws as the network says.
    pub sample_temperature: f64,
}

fn one() -> u64 {
    1
}

fn ten() -> u64 {
    10
}

fn tenth() -> f64 {
    0.1
}

fn yes() -> bool {
    true
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
            keep_best: true,
            checkpoint_every: 1000,
            checkpoint_minutes: 10.0,
            keep_checkpoints: 0,
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
        Config::load_with(path, &[])
    }

    /// Reads a file in which some settings are others: each is a name with its section, and the value as the file would have it. A
    /// value that is none of TOML is a text: `training.loss`, `huber`.
    ///
    /// # Errors
    /// As [`Config::load`]; a name that is not `SECTION.SETTING`.
    pub fn load_with(path: &Path, changes: &[(String, String)]) -> Result<Config, TrainError> {
        check_kind(path, Wanted::Settings)?;
        let text = read_text(path)?;
        let base = path.parent().unwrap_or(Path::new(""));
        Config::parse_with(text, base, changes).map_err(|problem| TrainError::file(path, problem))
    }

    /// Reads the text of a file that stands in the directory `base`, in which some settings are others, as
    /// [`load_with`](Config::load_with). The error is what is wrong with it.
    pub fn parse_with(text: String, base: &Path, changes: &[(String, String)]) -> Result<Config, String> {
        Config::parse(changed(text, changes)?, base)
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

    /// All settings as they are now, those that the file leaves out among them, as a file has them. Paths are relative to where the
    /// program runs.
    ///
    /// # Errors
    /// If a path is not UTF-8.
    pub fn effective(&self) -> Result<String, String> {
        toml::to_string(self).map_err(|error| error.to_string())
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
            patience: None,
            seed: one(),
            loss,
            loss_at: LossAt::Every,
            burn_in: 0,
            shuffle: None,
            metrics: Vec::new(),
            output: None,
            learning_rate: learning_rate(),
            warmup: 0,
            decay: Decay::Constant,
            final_learning_rate: None,
            decay_every: None,
            decay_factor: tenth(),
            decay_patience: ten(),
            frozen: Vec::new(),
            class_weights: Vec::new(),
            pre_emphasis: 0.0,
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
            (Decay::Linear, Some(updates)) => format!("linear over {updates} updates"),
            (Decay::OneCycle, Some(updates)) => format!("one cycle over {updates} updates"),
            (Decay::Step, _) => {
                format!("times {:?} every {} updates", self.decay_factor, self.decay_every.unwrap_or(0))
            }
            (Decay::Plateau, _) => {
                format!("times {:?} after {} validations", self.decay_factor, self.decay_patience)
            }
            _ => "constant".into(),
        };
        let own = [
            ("learning_rate", format!("{:?}", self.learning_rate)),
            ("warmup", self.warmup.to_string()),
            ("decay", decay),
            ("final_learning_rate", optional(self.final_learning_rate)),
            ("clip_norm", optional(self.clip_norm)),
            ("frozen", self.frozen.join(" ")),
            ("class_weights", format!("{:?}", self.class_weights)),
            ("pre_emphasis", format!("{:?}", self.pre_emphasis)),
            ("loss_at", format!("{:?}", self.loss_at).to_lowercase()),
            ("burn_in", self.burn_in.to_string()),
            ("shuffle", self.shuffles().to_string()),
        ];
        let optimizer =
            self.optimizer.each().map(|(setting, values)| (setting.name, setting.written(values)));
        own.into_iter().chain(optimizer).map(|(name, value)| (name.to_string(), value)).collect()
    }

    /// Whether whole sequences are read in an order that is another each time through.
    pub fn shuffles(&self) -> bool {
        self.shuffle.unwrap_or(self.loss_at == LossAt::Last)
    }

    /// New frames per update, h'.
    pub fn step(&self) -> usize {
        self.step.unwrap_or(self.window)
    }

    /// What is said of the loss beside its name.
    pub fn loss_settings(&self) -> LossSettings {
        LossSettings { pre_emphasis: self.pre_emphasis, class_weights: self.class_weights.clone() }
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
        assert!(error.contains("line 5") && error.contains("`text`, `arrays`, `audio`"), "{error}");
        let error = parse(&SMALL.replace("window = 8", "")).unwrap_err();
        assert!(error.contains("missing `window`"), "{error}");
    }
}
