//! What is asked of a network: what it minimizes.

pub(crate) mod losses;
