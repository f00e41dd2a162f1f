//! The command `rnnc`, end to end: every command as a process, with its files, messages and exit codes.

mod arrays;
mod files;
mod refusals;
mod sandbox;
mod tools;
mod training;
