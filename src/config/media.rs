//! `[images]`, `[documents]` → whether what callers name by address is fetched, and how.

use std::time::Duration;

use reqwest::Url;

use super::reader::{Located, Section};
use crate::media::FetchSettings;

/// Largest image or document (chosen: what Anthropic takes of an image; Bedrock takes a little less
/// of either).
const MAX_BYTES: usize = 5 * 1024 * 1024;
/// Time for all of a request (chosen: a slow host's picture, not a dead host).
const TIMEOUT: Duration = Duration::from_secs(10);
/// Longest time that can be configured, in milliseconds.
const MAX_TIMEOUT_MS: u64 = 120_000;

/// Reads the table; `None` fetches nothing. All images and documents of a request together may be
/// as large as if the caller had sent them, in a body of `max_body_bytes`.
pub fn fetching(section: Section<'_>, max_body_bytes: usize) -> Option<FetchSettings> {
    let fetch = section.bool("fetch").unwrap_or(false);
    let most = 64 * 1024 * 1024;
    let max_bytes = section.integer("max_bytes", 1024..=most).map_or(MAX_BYTES, |b| b as usize);
    let timeout = section.milliseconds("timeout_ms", MAX_TIMEOUT_MS).unwrap_or(TIMEOUT);
    let mut allow_hosts = Vec::new();
    for wanted in section.strings("allow_hosts").unwrap_or_default() {
        allow_hosts.extend(host(&section, &wanted));
    }
    section.finish();
    // Four bytes of base64 are three of what they hold.
    let max_total_bytes = max_body_bytes / 4 * 3;
    fetch.then_some(FetchSettings { max_bytes, max_total_bytes, timeout, allow_hosts })
}

/// A host as it stands in a URL that has been read: in lower case, ASCII only.
fn host(section: &Section<'_>, wanted: &Located<String>) -> Option<String> {
    let (any, name) = match wanted.value.strip_prefix("*.") {
        Some(name) => ("*.", name),
        None => ("", wanted.value.as_str()),
    };
    let is_name = !name.is_empty() && !name.contains(['/', ':', '@', '?', '#', '*', '\\']);
    let url = is_name.then(|| Url::parse(&format!("http://{name}/")).ok()).flatten();
    let host = url.as_ref().and_then(Url::host_str).map(|host| host.trim_end_matches('.'));
    if host.is_none() {
        let message = format!("`{}` is not the name of a host", wanted.value);
        let suggestion = "write \"images.example.com\", or \"*.example.com\" for all under it";
        section.error(wanted.span.clone(), "allow_hosts", message, Some(suggestion.to_owned()));
    }
    host.map(|host| format!("{any}{host}"))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::parse;

    const SERVER: &str =
        "[server]\nmax_body_bytes = 4000\n[models.m]\nprovider = \"ollama\"\n[providers.ollama]\n";

    #[test]
    fn nothing_is_fetched_but_where_the_file_says_so() {
        let read = |table: &str| {
            let text = format!("{SERVER}[images]\n{table}");
            parse(&text, Path::new("w.toml"), &|_| None).map(|checked| checked.config.images)
        };
        assert_eq!(read("max_bytes = 2048").unwrap(), None);
        let images = read("fetch = true").unwrap().unwrap();
        assert_eq!((images.max_bytes, images.max_total_bytes), (5 * 1024 * 1024, 3000));
        assert_eq!((images.timeout, images.allow_hosts), (Duration::from_secs(10), vec![]));
        let images = read("fetch = true\nallow_hosts = [\"Bücher.example\", \"*.Example.com.\"]");
        assert_eq!(
            images.unwrap().unwrap().allow_hosts,
            ["xn--bcher-kva.example", "*.example.com"]
        );
        let text = format!("{SERVER}[documents]\nfetch = true\nmax_bytes = 2048");
        let config = parse(&text, Path::new("w.toml"), &|_| None).unwrap().config;
        assert_eq!((config.images, config.documents.unwrap().max_bytes), (None, 2048));
        for (table, expected) in [
            (
                "fech = true",
                "w.toml:7:1: error: images.fech: is not a setting\n  help: did you mean `fetch`?",
            ),
            ("fetch = 1", "expected true or false"),
            ("max_bytes = 10", "w.toml:7:13: error: images.max_bytes: `10` is out of range"),
            ("timeout_ms = 0", "images.timeout_ms: `0` is out of range"),
            (
                "allow_hosts = [\"a\", \"https://b/\"]",
                "w.toml:7:21: error: images.allow_hosts: `https://b/` is not the name of a host",
            ),
            ("allow_hosts = [\"b:80\"]", "is not the name of a host"),
            ("allow_hosts = [\"*\"]", "is not the name of a host"),
        ] {
            let found = read(table).unwrap_err().to_string();
            assert!(found.contains(expected), "{table}: {found}");
        }
    }
}
