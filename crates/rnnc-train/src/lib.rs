//! Training.
//!
//! In come a network ([`rnnc_graph::Graph`]), data and a [`Config`]; out come weights, in checkpoints, and what is
//! worth telling, to an [`Observer`]. Nothing here prints, and which executor runs is for the caller to say.
//! - `config.rs`: `train.toml`, `optimizer_keys.rs`: what of it is the optimizer's; `rules.rs`: its bounds; `settings_errors.rs`: what is said where it is none;
//! - `data_files.rs`: the files that settings of `[data]` name; `text.rs`, `series.rs`: text and arrays as data; `sequences.rs` lays
//!   them end to end, and `batch.rs` reads windows of B streams;
//! - `losses/`: the losses, one file each, as layers of the network; `trainer.rs`: BPTT(h; h'), one update at a time, and
//!   `diagnosis.rs` what went non-finite first; `evaluation.rs`: the loss on other data, whose sequences `packing.rs` lays on
//!   streams;
//! - `train.rs`: how a run begins that `job.rs` asks for, `split.rs`: on which data; `run.rs`: how it goes on to its end, with what `observer.rs`
//!   tells and what `directory.rs` keeps, for one process at a time (`lock.rs`); `sample.rs`: text out of the result;
//! - `checkpoint.rs`, `identity.rs`: what is learned, where a run stands, and what kind of run it is.
//!
//! Files themselves are the work of [`rnnc_io`].

mod batch;
mod best;
mod changes;
mod checkpoint;
mod config;
mod data_files;
mod diagnosis;
mod directory;
mod error;
mod evaluation;
mod identity;
mod job;
mod lock;
mod losses;
mod observer;
mod optimizer_keys;
mod packing;
mod recordings;
mod reference;
mod rules;
mod run;
mod sample;
mod sequences;
mod series;
mod settings_errors;
mod split;
mod text;
mod train;
mod trainer;

pub use batch::Batch;
pub use best::{Best, Validations};
pub use checkpoint::{About, CHECKPOINT_VERSION, Checkpoint, Progress};
pub use config::{Config, DataConfig, DataKind, Decay, NetworkConfig, RunConfig, TrainingConfig};
pub use data_files::DataFiles;
pub use directory::{MetricsFile, RunDirectory};
pub use error::TrainError;
pub use evaluation::Evaluator;
pub use identity::RunIdentity;
pub use job::{Job, Summary};
pub use lock::DirectoryLock;
pub use losses::{Loss, LossNetwork};
pub use observer::{Beginning, Evaluated, Event, Metrics, Observer, UpdateReport};
pub use recordings::read_recordings;
pub use reference::{SettingDescription, settings, settings_page};
pub use sample::Sampler;
pub use sequences::{Column, Sequences, Split};
pub use series::read_series;
pub use text::Text;
pub use train::train;
pub use trainer::{MakeExecutor, Step, Trainer};
