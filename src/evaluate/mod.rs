//! Labelled prompts → how well scores route them.

pub mod embed;
pub mod metrics;
pub mod placement;
pub mod random;
pub mod replay;
pub mod rows;
pub mod tune;
