//! `train.toml`: what it says, its bounds, and what is said where it is none.

mod changes;
pub(crate) mod config;
mod errors;
pub(crate) mod learning_rate;
mod optimizer_keys;
pub(crate) mod reference;
pub(crate) mod rules;
