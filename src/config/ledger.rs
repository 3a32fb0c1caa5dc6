//! `[ledger]` → where the ledger is and how it is kept.

use std::{path::Path, time::Duration};

use jiff::tz::TimeZone;
use reqwest::Url;

use super::reader::Section;
use crate::ledger::{LedgerSettings, shared::RedisSettings};

/// The database beside the configuration, when `[ledger]` names none.
const DEFAULT_URL: &str = "sqlite:weighbridge.db";
/// The scheme of a SQLite database.
const SQLITE: &str = "sqlite:";
/// Where the journal of a ledger elsewhere is, beside the configuration.
const DEFAULT_JOURNAL: &str = "weighbridge.pending";
/// Longest retention: a century.
const MAX_DAYS: u64 = 36_525;

/// Reads the table. Paths in it are relative to `directory`.
pub fn ledger(section: Section<'_>, directory: &Path) -> LedgerSettings {
    let url = section.str("url").map_or_else(
        || DEFAULT_URL.to_owned(),
        |url| {
            let known = [SQLITE, "postgres://", "postgresql://"];
            if !known.iter().any(|scheme| url.value.starts_with(scheme)) {
                // The URL may hold a password: it is not repeated.
                let message = "is neither `sqlite:PATH` nor `postgres://…`".to_owned();
                section.error(url.span, "url", message, None);
            }
            url.value
        },
    );
    let (url, journal) = located(&url, directory);
    let journal = section.str("journal").map_or(journal, |path| directory.join(path.value));
    let settings = LedgerSettings {
        url,
        journal,
        flush_interval: section
            .milliseconds("flush_interval_ms", 60_000)
            .unwrap_or(Duration::from_millis(250)),
        max_waiting_rows: section
            .integer("max_waiting_rows", 100..=10_000_000)
            .map_or(100_000, |rows| rows as usize),
        retention_days: section.integer("retention_days", 1..=MAX_DAYS).map(|days| days as u32),
        time_zone: time_zone(&section).unwrap_or(TimeZone::UTC),
        assumed_output_tokens: section
            .integer("assumed_output_tokens", 1..=1_000_000)
            .map_or(1_024, |tokens| tokens as u32),
        redis: None,
        webhook: webhook(&section),
    };
    section.finish();
    settings
}

/// `[redis]`
pub fn redis(section: Section<'_>) -> Option<RedisSettings> {
    let url = section.required_str("url", "write it like \"redis://127.0.0.1:6379\"");
    if let Some(url) = &url
        && !["redis://", "rediss://"].iter().any(|scheme| url.value.starts_with(scheme))
    {
        let message = "is no `redis://…` or `rediss://…`".to_owned();
        section.error(url.span.clone(), "url", message, None);
    }
    let prefix = section.str("prefix").map_or("weighbridge".to_owned(), |prefix| prefix.value);
    let failure = section.word("on_failure", &["open", "closed"]);
    let fail_open = failure.is_none_or(|word| word.value == "open");
    section.finish();
    Some(RedisSettings { url: url?.value, prefix, fail_open })
}

/// The URL with its path made absolute to the configuration, and the journal beside it.
fn located(url: &str, directory: &Path) -> (String, std::path::PathBuf) {
    match url.strip_prefix(SQLITE) {
        Some(":memory:") | None => (url.to_owned(), directory.join(DEFAULT_JOURNAL)),
        Some(path) => {
            let path = path.strip_prefix("//").unwrap_or(path);
            let file = directory.join(path);
            let mut journal = file.as_os_str().to_owned();
            journal.push(".pending");
            (format!("{SQLITE}{}", file.display()), journal.into())
        }
    }
}

/// An IANA name.
fn time_zone(section: &Section<'_>) -> Option<TimeZone> {
    let name = section.str("time_zone")?;
    let zone = TimeZone::get(&name.value);
    if zone.is_err() {
        let message = format!("`{}` is not a time zone", name.value);
        let suggestion = "use an IANA name, like \"Europe/Berlin\"".to_owned();
        section.error(name.span, "time_zone", message, Some(suggestion));
    }
    zone.ok()
}

fn webhook(section: &Section<'_>) -> Option<Url> {
    let written = section.str("webhook_url")?;
    let url = Url::parse(&written.value).ok();
    let url = url.filter(|url| matches!(url.scheme(), "http" | "https"));
    if url.is_none() {
        section.error(written.span, "webhook_url", "is not an http or https URL".to_owned(), None);
    }
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_database_lies_beside_the_configuration_and_the_journal_beside_the_database() {
        for (url, found, journal) in [
            ("sqlite:w.db", "sqlite:/etc/wb/w.db", "/etc/wb/w.db.pending"),
            ("sqlite:///var/w.db", "sqlite:/var/w.db", "/var/w.db.pending"),
            ("sqlite:/var/w.db", "sqlite:/var/w.db", "/var/w.db.pending"),
            ("postgres://db/w", "postgres://db/w", "/etc/wb/weighbridge.pending"),
        ] {
            let expected = (found.to_owned(), std::path::PathBuf::from(journal));
            assert_eq!(located(url, Path::new("/etc/wb")), expected, "{url}");
        }
    }
}
