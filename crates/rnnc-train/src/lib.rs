//! Training.
//!
//! In come a network ([`rnnc_graph::Graph`]), data and a [`Config`]; out come weights, in checkpoints, and what is
//! worth telling, to an [`Observer`]. Nothing here prints, and which executor runs is for the caller to say.
//! - `settings/`: `train.toml`. `config.rs` is what it says, `optimizer_keys.rs` what of it is the optimizer's, `rules.rs` its bounds,
//!   `errors.rs` what is said where it is none, `reference.rs` the page of all settings;
//! - `data/`: `files.rs` finds the files that settings of `[data]` name; `text.rs`, `series.rs`, `recordings.rs`, `tables.rs` read them;
//!   `preparation.rs` is what tables become before a network sees them;
//!   `sequences.rs` lays them end to end, `split.rs` deals them out to training, validation and test, `batch.rs` reads windows of B
//!   streams in the order of `feed.rs`, and `packing.rs` lays whole sequences on streams;
//! - `task/losses/`: the losses, one file each, as layers of the network; `task/metrics/`: what is measured beside it;
//! - `trainer.rs`: BPTT(h; h'), one update at a time, with `frozen.rs` what it leaves as it is, and `diagnosis.rs` what went non-finite first; `evaluation.rs`: the loss on other
//!   data; `sample.rs`: text out of the result;
//! - `run/`: `train.rs` is how a run begins that `job.rs` asks for, `sitting.rs` how it goes on to its end, with what `observer.rs`
//!   tells, `evaluate.rs` finds again, `best.rs` remembers and `directory.rs` keeps, for one process at a time (`lock.rs`); `checkpoint.rs`, `identity.rs`: what is
//!   learned, where a run stands, and what kind of run it is.
//!
//! Files themselves are the work of [`rnnc_io`].

mod data;
mod diagnosis;
mod error;
mod evaluation;
mod frozen;
mod run;
mod sample;
mod settings;
mod task;
mod trainer;

pub use data::batch::Batch;
pub use data::files::DataFiles;
pub use data::parts::Split;
pub use data::preparation::{Preparation, Scaled};
pub use data::recordings::read_recordings;
pub use data::sequences::{Column, Sequences};
pub use data::series::read_series;
pub use data::tables::{TableInputs, read_table_inputs};
pub use data::text::Text;
pub use error::TrainError;
pub use evaluation::{Evaluation, Evaluator, EvaluatorConfig};
pub use run::best::{Best, Validations};
pub use run::checkpoint::{About, CHECKPOINT_VERSION, Checkpoint, Progress};
pub use run::directory::{MetricsFile, RunDirectory};
pub use run::evaluate::{DataPart, EvaluateOn, EvaluationJob, evaluate, settings_of_run};
pub use run::identity::RunIdentity;
pub use run::job::{Job, Summary};
pub use run::lock::DirectoryLock;
pub use run::observer::{Beginning, Evaluated, Event, Metrics, Observer, UpdateReport};
pub use run::train::train;
pub use sample::Sampler;
pub use settings::config::{
    Config, DataConfig, DataKind, LossAt, Missing, NetworkConfig, RunConfig, SplitBy, TrainingConfig,
};
pub use settings::learning_rate::Decay;
pub use settings::reference::{SettingDescription, settings, settings_page};
pub use task::losses::{Loss, LossNetwork, LossSettings};
pub use task::metrics::{Measured, Metric, Task};
pub use trainer::{MakeExecutor, Step, Trainer};
