//! Suites: lists of questions as data, so that a figure has one command behind it.
//!
//! ```toml
//! name = "own"
//! about = "what it is and where its files come from"
//! report = ["apgr", "cpt50", "tiers", "frontier"]    # what is shown; all when absent
//!
//! [[sets]]
//! name = "support"
//! file = "support.jsonl.gz"         # below the directory that --from names
//! format = "rows"                   # as --format
//! strong = "gpt-5.5"
//! weak = "qwen3-8b"
//! drop = { contaminated = true }    # rows with this field and value are left out
//! ```

use std::path::Path;

use anyhow::{Context as _, bail};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{import::Format, report::Shows};

/// A list of questions.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Suite {
    /// Its name.
    pub name: String,
    /// What it is and where its files come from.
    pub about: String,
    /// The questions.
    pub sets: Vec<Set>,
    /// Figures, tables and plots that the report shows; all when absent.
    pub report: Option<Vec<String>>,
}

/// One question.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Set {
    /// Its name in reports.
    pub name: String,
    /// Below the directory that holds the suite's files.
    pub file: String,
    /// The file's layout; found out when absent.
    pub format: Option<Format>,
    /// The strong model, as the data names it.
    pub strong: String,
    /// The weak model.
    pub weak: String,
    /// Rows with one of these fields and values are left out.
    #[serde(default)]
    pub drop: Map<String, Value>,
}

/// The suites inside the binary.
const SHIPPED: [(&str, &str); 2] = [
    ("routellm", include_str!("../../eval/suites/routellm.toml")),
    ("train-pairs", include_str!("../../eval/suites/train-pairs.toml")),
];

impl Suite {
    /// A suite by name or by path.
    pub fn find(name: &str) -> anyhow::Result<Self> {
        if let Some((_, text)) = SHIPPED.iter().find(|(shipped, _)| *shipped == name) {
            return Self::parse(text, name);
        }
        let path = Path::new(name);
        if !path.exists() {
            let names = SHIPPED.map(|(name, _)| name);
            bail!("there is no suite `{name}`: name one of {} or a file", names.join(", "));
        }
        let text =
            std::fs::read_to_string(path).with_context(|| format!("{name} cannot be read"))?;
        Self::parse(&text, name)
    }

    fn parse(text: &str, from: &str) -> anyhow::Result<Self> {
        let suite: Self =
            toml::from_str(text).with_context(|| format!("the suite {from} cannot be read"))?;
        if suite.sets.is_empty() {
            bail!("the suite {from} has no [[sets]]");
        }
        suite.shows().with_context(|| format!("the suite {from} cannot be used"))?;
        Ok(suite)
    }
}

impl Suite {
    /// What its reports show.
    pub fn shows(&self) -> anyhow::Result<Shows> {
        let names = self.report.as_deref();
        Ok(names.map(Shows::only).transpose().map_err(anyhow::Error::msg)?.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shipped_suites_are_read() {
        for (name, _) in SHIPPED {
            assert_eq!(Suite::find(name).unwrap().name, name);
        }
        let routellm = Suite::find("routellm").unwrap();
        assert_eq!(routellm.sets.len(), 3);
        assert!(routellm.sets.iter().all(|set| set.drop["contaminated"] == true));
    }

    #[test]
    fn a_suite_that_is_not_there_or_not_right_is_one_sentence() {
        let error = Suite::find("nowhere").unwrap_err().to_string();
        assert!(error.contains("name one of routellm, train-pairs or a file"), "{error}");
        let error = format!(
            "{:#}",
            Suite::parse("name = \"x\"\nabout = \"\"\nset = []", "x.toml").unwrap_err()
        );
        assert!(error.contains("x.toml") && error.contains("unknown field `set`"), "{error}");
    }
}
