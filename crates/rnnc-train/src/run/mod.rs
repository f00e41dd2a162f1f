//! A run: how it begins and goes on to its end, and what it keeps.

pub(crate) mod best;
pub(crate) mod checkpoint;
pub(crate) mod directory;
pub(crate) mod evaluate;
pub(crate) mod identity;
pub(crate) mod job;
pub(crate) mod lock;
pub(crate) mod observer;
mod sitting;
pub(crate) mod train;
