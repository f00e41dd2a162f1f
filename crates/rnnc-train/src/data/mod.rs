//! What is trained on: files in, sequences of frames out, laid end to end.

pub(crate) mod batch;
pub(crate) mod feed;
pub(crate) mod files;
pub(crate) mod packing;
pub(crate) mod parts;
pub(crate) mod preparation;
pub(crate) mod recordings;
pub(crate) mod sequences;
pub(crate) mod series;
pub(crate) mod split;
pub(crate) mod tables;
pub(crate) mod text;
