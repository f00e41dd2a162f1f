//! Training.
//!
//! In come a network ([`rnnc_graph::Graph`]), data and a [`Config`]; out come weights, in checkpoints, and what is
//! worth telling, to an [`Observer`]. Nothing here prints, and which executor runs is for the caller to say.
//! - `config.rs`: `train.toml`; `settings_errors.rs`: what is said where it is none;
//! - `text.rs`, `series.rs`: text and arrays as data; `sequences.rs` lays them end to end on B streams;
//! - `loss.rs`: the loss, as layers of the network; `trainer.rs`: BPTT(h; h'), one update at a time, and
//!   `diagnosis.rs` what went non-finite first; `evaluation.rs`: the loss on other data,
//!   whose sequences `packing.rs` lays on streams;
//! - `train.rs`: a whole run, with what `observer.rs` tells and what `directory.rs` keeps; `sample.rs`: text out of
//!   the result;
//! - `weights.rs`, `checkpoint.rs`: what is learned, in files of `tensors.rs` (safetensors); `array.rs`, `arrays.rs`,
//!   `npy.rs`: NumPy's; `files.rs`: whole or not at all; `kind.rs`: what a file is that is none of these.

mod array;
mod arrays;
mod checkpoint;
mod config;
mod diagnosis;
mod directory;
mod error;
mod evaluation;
mod files;
mod kind;
mod loss;
mod npy;
mod observer;
mod packing;
mod sample;
mod sequences;
mod series;
mod settings_errors;
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
pub use files::write_whole;
pub use kind::{Wanted, mistaken};
pub use loss::{Loss, LossNetwork};
pub use observer::{Beginning, Evaluated, Event, Metrics, Observer, UpdateReport};
pub use sample::Sampler;
pub use sequences::{Batch, Column, Sequences, Split};
pub use series::read_series;
pub use tensors::{Precision, Tensor, TensorFile};
pub use text::Text;
pub use train::{Job, Summary, train};
pub use trainer::{MakeExecutor, Step, Trainer};
pub use weights::Weights;
