//! Plots.

use super::Report;

/// Plots by file name.
pub fn files(_: &Report) -> Vec<(String, String)> {
    Vec::new()
}
