//! What is asked of a network: what it minimizes, and what is measured.

pub(crate) mod losses;
pub(crate) mod metrics;
