//! What a translation could not carry over.

use std::fmt;

/// One thing that was lost or changed on the way.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Warning {
    /// A fixed snake_case word, fit for a metric's label: `field_dropped`, `thinking_dropped`…
    pub code: &'static str,
    /// The path of the field in what was read: `messages[2].content[0].cache_control`.
    pub path: String,
}

/// Everything that one translation could not carry over, in order, each once.
///
/// Its text is the value of the header `x-weighbridge-warnings`: `code:path, code:path`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Warnings(Vec<Warning>);

/// Warnings that the text shows; the rest is a number (chosen: a header line of a few kilobytes
/// is refused by some proxies).
const MAX_SHOWN: usize = 16;

impl Warnings {
    /// Adds one, unless it is there.
    pub fn add(&mut self, code: &'static str, path: impl Into<String>) {
        let warning = Warning { code, path: path.into() };
        if !self.0.contains(&warning) {
            self.0.push(warning);
        }
    }

    /// Adds all of another list.
    pub fn extend(&mut self, other: &Self) {
        for warning in &other.0 {
            self.add(warning.code, warning.path.clone());
        }
    }

    /// Whether everything was carried over.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The warnings in order.
    pub fn iter(&self) -> impl Iterator<Item = &Warning> {
        self.0.iter()
    }
}

impl fmt::Display for Warnings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, warning) in self.0.iter().take(MAX_SHOWN).enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            // Field names are the caller's: only what may stand in a header line is shown.
            let path: String = warning
                .path
                .chars()
                .map(|c| if c.is_ascii_graphic() && c != ',' { c } else { '?' })
                .take(120)
                .collect();
            write!(f, "{comma}{}:{path}", warning.code)?;
        }
        match self.0.len().checked_sub(MAX_SHOWN) {
            Some(more @ 1..) => write!(f, ", and_more:{more}"),
            _ => Ok(()),
        }
    }
}
