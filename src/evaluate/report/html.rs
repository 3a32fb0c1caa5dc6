//! HTML.

use crate::evaluate::results::Results;

/// The page.
pub fn page(_: &Results<'_>) -> String {
    String::new()
}
