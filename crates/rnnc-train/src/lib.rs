//! Training.
//!
//! In come a network ([`rnnc_graph::Graph`]), data and a [`Config`]; out come weights, in checkpoints, and what is
//! worth telling, to an [`Observer`]. Nothing here prints, and which executor runs is for the caller to say.
//! - `config.rs`: `train.toml`; `settings_errors.rs`: what is said where it is none;
//! - `data_files.rs`: the files that `data.files` names; `text.rs`, `series.rs`: text and arrays as data; `sequences.rs` lays
//!   them end to end on B streams;
//! - `loss.rs`: the loss, as layers of the network; `trainer.rs`: BPTT(h; h'), one update at a time, and
//!   `diagnosis.rs` what went non-finite first; `evaluation.rs`: the loss on other data, whose sequences `packing.rs` lays on
//!   streams;
//! - `train.rs`: a whole run, with what `observer.rs` tells and what `directory.rs` keeps, for one process at a time
//!   (`lock.rs`); `sample.rs`: text out of the result;
//! - `weights.rs`, `checkpoint.rs`: what is learned, in files of `tensors.rs` (safetensors); `array.rs`, `arrays.rs`,
//!   `npy.rs`: NumPy's, and `states.rs`: what a network carries on, in these;
//! - `files.rs`: every output, whole or not at all, by the operations of `disk.rs`; `inputs.rs`: files whose sizes are known
//!   before memory is taken; `kind.rs`: what a file is that is of another kind.

mod array;
mod arrays;
mod checkpoint;
mod config;
mod data_files;
mod diagnosis;
mod directory;
mod disk;
mod error;
mod evaluation;
mod files;
mod inputs;
mod kind;
mod lock;
mod loss;
mod npy;
mod observer;
mod packing;
mod sample;
mod sequences;
mod series;
mod settings_errors;
mod states;
mod tensors;
mod text;
mod train;
mod trainer;
mod weights;

pub use array::{Array, Dimension, ElementType, Elements};
pub use arrays::{ArrayFile, write_arrays};
pub use checkpoint::{About, CHECKPOINT_VERSION, Checkpoint, Facts, Progress};
pub use config::{Config, DataConfig, DataKind, Decay, NetworkConfig, RunConfig, TrainingConfig};
pub use directory::{MetricsFile, RunDirectory};
pub use error::TrainError;
pub use evaluation::Evaluator;
pub use files::{Output, write_whole};
pub use inputs::{read_network, read_text};
pub use lock::DirectoryLock;
pub use loss::{Loss, LossNetwork};
pub use observer::{Beginning, Evaluated, Event, Metrics, Observer, UpdateReport};
pub use sample::Sampler;
pub use sequences::{Batch, Column, Sequences, Split};
pub use series::read_series;
pub use states::{read_state, write_state};
pub use tensors::{Precision, Tensor, TensorFile};
pub use text::Text;
pub use train::{Job, Summary, train};
pub use trainer::{MakeExecutor, Step, Trainer};
pub use weights::Weights;
