//! What operators give: the configuration, lists of models, rows of data.

use std::path::Path;

use crate::{
    config::{
        self, ConfigError, Problems,
        catalogue::{CatalogueFile, Models, litellm::convert, refresh::merge},
    },
    evaluate::record::Record,
};

/// The value of every variable that is a key; it may show up nowhere.
const SECRET: &str = "sk-never-shown";

/// A configuration is valid or has problems that lie in it; secrets never print.
pub fn configuration(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let key = |name: &str| name.ends_with("_KEY").then(|| SECRET.to_owned());
    // No local catalogue lies in a directory that is not there.
    let path = Path::new("no-such-directory/weighbridge.toml");
    let printed = match config::parse(text, path, &key) {
        Ok(checked) => {
            check_problems(&checked.warnings, text);
            let models = checked.config.models.len();
            assert_eq!(checked.config.origins.len(), models);
            format!("{:?}\n{}", checked.config, checked.warnings)
        }
        Err(ConfigError::Invalid(problems)) => {
            assert!(problems.list.iter().any(|(.., problem)| !problem.warning));
            check_problems(&problems, text);
            problems.to_string()
        }
        Err(error) => panic!("{error}"),
    };
    assert!(!printed.contains(SECRET) || text.contains(SECRET), "{printed}");
}

fn check_problems(problems: &Problems, text: &str) {
    let lines = text.matches('\n').count() + 1;
    for (line, column, problem) in &problems.list {
        assert!((1..=lines).contains(line) && *column >= 1, "{line}:{column}: {problem:?}");
        assert!(!problem.message.is_empty());
    }
}

/// The local catalogue is written as it was read.
pub fn catalogue(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match CatalogueFile::parse(text) {
        Ok(file) => rewritten(file),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// LiteLLM's list becomes a local catalogue.
pub fn litellm(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match convert(text, "a list", "2026-11-22") {
        Ok(file) => rewritten(file),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

fn rewritten(file: CatalogueFile) {
    let text = file.write();
    match CatalogueFile::parse(&text) {
        Ok(again) => assert_eq!(again, file),
        Err(error) => panic!("{error}: {text}"),
    }
    let (merged, changes) = merge(&Models::default(), file);
    assert!(!changes.to_string().is_empty());
    let (_, again) = merge(&Models::with_local(merged.clone()), merged);
    assert!(again.is_empty(), "{again}");
}

/// A labelled prompt has scores and costs that can be reckoned with.
pub fn row(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for (at, line) in text.lines().enumerate() {
        let Ok(record) = Record::from_json(line, "rows", at + 1) else { continue };
        assert!(record.results.is_some() != record.difficulty.is_some());
        for outcome in record.results.iter().flat_map(|results| results.values()) {
            assert!((0.0..=1.0).contains(&outcome.score), "{outcome:?}");
            let sound = |cost: f64| cost.is_finite() && cost >= 0.0;
            assert!(outcome.cost_usd.is_none_or(sound), "{outcome:?}");
        }
        assert!(record.difficulty.is_none_or(|difficulty| (0.0..=1.0).contains(&difficulty)));
    }
}
