//! Files in and out; no training.
//!
//! - `array.rs`, `arrays.rs`, `npy.rs`: NumPy's arrays, in `.npz` files;
//! - `audio.rs`: sound, as WAV files;
//! - `table.rs`: tables of named columns, as CSV files;
//! - `tensors.rs`: safetensors; `weights.rs`: a network's weights in them; `states.rs`: what a network carries from one run
//!   to the next, in arrays;
//! - `files.rs`: every output, whole or not at all, by the operations of `disk.rs`;
//! - `inputs.rs`: files whose sizes are known before memory is taken; `kind.rs`: what a file is that is of another kind;
//! - `error.rs`: what can be wrong with a file.

mod array;
mod arrays;
mod audio;
pub mod disk;
mod error;
mod files;
mod inputs;
mod kind;
mod npy;
mod states;
mod table;
mod tensors;
mod weights;

pub use array::{Array, Dimension, ElementType, Elements, index_of};
pub use arrays::{ArrayFile, list, write_arrays};
pub use audio::{Audio, audio_bytes, read_audio, write_audio};
pub use error::FileError;
pub use files::{Output, is_linked, write_whole};
pub use inputs::{make_room, open_regular, read_network, read_text, regular_length, reserve};
pub use kind::{Wanted, check_kind};
pub use states::{read_state, write_state};
pub use table::{Table, is_missing, write_table};
pub use tensors::{Precision, Tensor, TensorFile, TensorView, write_tensors};
pub use weights::{Differences, Weights, section};
