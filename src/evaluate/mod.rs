//! Labelled prompts → how well scores route them.

pub mod embed;
pub mod metrics;
pub mod random;
pub mod rows;
pub mod tune;
