//! Models by name from the Hugging Face hub (feature `hub`).
//!
//! A repository of the shape of a model directory is fetched into the hub's own cache; what comes
//! is verified against its `SHA256SUMS` like any other directory.

use std::path::PathBuf;

use hf_hub::{HFClientSync, HFError};

use super::model::{CONFIG_FILE, HEAD_FILE, POOLING_FILE, SUMS_FILE, TOKENIZER_FILE, WEIGHTS_FILE};

/// Whether this has the form `OWNER/NAME`.
pub fn is_name(name: &str) -> bool {
    let word = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    };
    name.split_once('/').is_some_and(|(owner, name)| word(owner) && word(name))
}

/// Fetches the repository `OWNER/NAME` and returns its directory in the hub's cache.
pub fn fetch(name: &str) -> Result<PathBuf, HFError> {
    let (owner, repository) = name.split_once('/').unwrap_or(("", name));
    let files = [WEIGHTS_FILE, CONFIG_FILE, POOLING_FILE, TOKENIZER_FILE, HEAD_FILE, SUMS_FILE];
    HFClientSync::new()?
        .model(owner, repository)
        .snapshot_download()
        .allow_patterns(files.map(str::to_owned).to_vec())
        .send()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_from_paths() {
        assert!(is_name("sentence-transformers/all-MiniLM-L6-v2"));
        for path in ["models", "./models/x", "/models/x", "a/b/c", "a/", "a/b c"] {
            assert!(!is_name(path), "{path}");
        }
    }
}
