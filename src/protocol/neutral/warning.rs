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
pub struct Warnings {
    kept: Vec<Warning>,
    /// Those beyond the bound, repeats among them.
    more: usize,
}

/// Warnings that are kept; further ones are counted (chosen: each new one is compared with all,
/// and a body can earn a million).
const MAX_KEPT: usize = 256;

/// Warnings that the text shows; the rest is a number (chosen: a header line of a few kilobytes
/// is refused by some proxies).
const MAX_SHOWN: usize = 48;

impl Warnings {
    /// Adds one, unless it is there.
    pub fn add(&mut self, code: &'static str, path: impl Into<String>) {
        if self.kept.len() >= MAX_KEPT {
            self.more += 1;
            return;
        }
        let warning = Warning { code, path: path.into() };
        if !self.kept.contains(&warning) {
            self.kept.push(warning);
        }
    }

    /// Adds all of another list.
    pub fn extend(&mut self, other: &Self) {
        for warning in &other.kept {
            self.add(warning.code, warning.path.clone());
        }
        self.more += other.more;
    }

    /// Whether everything was carried over.
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// The warnings in order, as far as they are kept.
    pub fn iter(&self) -> impl Iterator<Item = &Warning> {
        self.kept.iter()
    }
}

impl fmt::Display for Warnings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, warning) in self.kept.iter().take(MAX_SHOWN).enumerate() {
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
        match (self.kept.len() + self.more).checked_sub(MAX_SHOWN) {
            Some(more @ 1..) => write!(f, ", and_more:{more}"),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_million_warnings_are_counted_and_not_kept() {
        let mut warnings = Warnings::default();
        for at in 0..1_000_000 {
            warnings.add("field_dropped", format!("messages[{at}].x"));
        }
        assert_eq!(warnings.iter().count(), MAX_KEPT);
        assert!(warnings.to_string().ends_with(", and_more:999952"), "{warnings}");
    }
}
