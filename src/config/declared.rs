//! `[organisations.X]`, `[teams.X]`, `[projects.X]`, `[keys.X]`, `[budgets.X]` and `[limits.X]`.

use jiff::{civil::Date, tz::TimeZone};

use super::{
    build::Environment,
    reader::{Located, Section, did_you_mean},
};
use crate::{
    ledger::{
        budget::{Kind, Unit, WhenSpent, Window},
        declared::{Declared, DeclaredBudget, DeclaredGroup, DeclaredKey},
        tenant::{self, Level, Restrictions},
    },
    policy::ModelCard,
};

/// Shortest secret of a declared key, in bytes.
const MIN_SECRET_BYTES: usize = 20;

/// Reads all of them.
pub fn declared(
    root: &Section<'_>,
    models: &[ModelCard],
    environment: Environment<'_>,
) -> Declared {
    let mut declared = Declared::default();
    for (table, level) in [
        ("organisations", Level::Organisation),
        ("teams", Level::Team),
        ("projects", Level::Project),
    ] {
        for (name, section) in root.named_sections(table) {
            let parent = match level {
                Level::Team => group(&section, &[Level::Organisation], &declared),
                Level::Project => group(&section, &[Level::Team, Level::Organisation], &declared),
                _ => None,
            };
            declared.groups.push(DeclaredGroup { level, name: name.value, parent });
            section.finish();
        }
    }
    for (name, section) in root.named_sections("keys") {
        let key = key(name, &section, &declared, environment);
        declared.keys.push(key);
        section.finish();
    }
    for (table, kind) in [("budgets", Kind::Budget), ("limits", Kind::Limit)] {
        for (name, section) in root.named_sections(table) {
            let budget = budget(name.value, kind, &section, &declared, models);
            declared.budgets.extend(budget);
            section.finish();
        }
    }
    declared
}

/// The one group of these levels that a table names.
fn group(section: &Section<'_>, levels: &[Level], declared: &Declared) -> Option<(Level, String)> {
    let mut found = None;
    for level in levels {
        let Some(name) = section.str(level.name()) else { continue };
        let names =
            || declared.groups.iter().filter(|g| g.level == *level).map(|g| g.name.as_str());
        if !names().any(|known| known == name.value) {
            unknown(section, level.name(), &name, names());
        }
        found.get_or_insert((*level, name.value));
    }
    found
}

fn unknown<'w>(
    section: &Section<'_>,
    what: &'static str,
    name: &Located<String>,
    names: impl Iterator<Item = &'w str>,
) {
    let message = format!("no {what} is named `{}`", name.value);
    let suggestion = did_you_mean(&name.value, names)
        .unwrap_or_else(|| format!("add a [{what}s.{:?}] table", name.value));
    section.error(name.span.clone(), what, message, Some(suggestion));
}

fn key(
    name: Located<String>,
    section: &Section<'_>,
    declared: &Declared,
    environment: Environment<'_>,
) -> DeclaredKey {
    let variable = section.required_str("secret_env", "name the variable that holds the secret");
    let secret = variable.as_ref().and_then(|variable| environment(&variable.value));
    if let (Some(variable), None) = (&variable, &secret) {
        let message = format!("`{}` is not set, so the key stays as it is", variable.value);
        section.warn(variable.span.clone(), "secret_env", message, None);
    }
    if let (Some(variable), Some(secret)) = (variable, &secret) {
        if secret.len() < MIN_SECRET_BYTES {
            let message = format!("the secret is shorter than {MIN_SECRET_BYTES} bytes");
            section.error(variable.span.clone(), "secret_env", message, None);
        }
        let has_it = |key: &&DeclaredKey| key.secret.as_ref() == Some(secret);
        if let Some(other) = declared.keys.iter().find(has_it) {
            let message = format!("key `{}` has the same secret: give each its own", other.name);
            section.error(variable.span, "secret_env", message, None);
        }
    }
    let list = |key| -> Vec<String> {
        let strings = section.strings(key).unwrap_or_default();
        strings.into_iter().map(|string| string.value).collect()
    };
    let restrictions = Restrictions {
        policies: list("policies"),
        models: list("models"),
        tiers: list("tiers"),
        networks: networks(section, "networks"),
        guard: section.str("guard").map(|guard| guard.value),
        cache: section.bool("cache"),
    };
    let levels = [Level::Project, Level::Team, Level::Organisation];
    let group = group(section, &levels, declared);
    DeclaredKey { name: name.value, secret, group, expires_ms: expires(section), restrictions }
}

/// A list of addresses and networks.
pub fn networks(section: &Section<'_>, name: &'static str) -> Vec<ipnet::IpNet> {
    let mut networks = Vec::new();
    for network in section.strings(name).unwrap_or_default() {
        match tenant::network(&network.value) {
            Some(parsed) => networks.push(parsed),
            None => {
                let message = format!("`{}` is neither an address nor a network", network.value);
                let suggestion = "write addresses or networks, like \"10.0.0.0/8\"".to_owned();
                section.error(network.span, name, message, Some(suggestion));
            }
        }
    }
    networks
}

/// A day, from whose beginning in UTC the key is refused.
fn expires(section: &Section<'_>) -> Option<i64> {
    let written = section.str("expires")?;
    let date = written.value.parse::<Date>().ok();
    let start = date.and_then(|date| date.to_zoned(TimeZone::UTC).ok());
    if start.is_none() {
        let message = format!("`{}` is not a date", written.value);
        let suggestion = "write it like \"2027-01-31\"".to_owned();
        section.error(written.span, "expires", message, Some(suggestion));
    }
    start.map(|start| start.timestamp().as_millisecond())
}

fn budget(
    name: String,
    kind: Kind,
    section: &Section<'_>,
    declared: &Declared,
    models: &[ModelCard],
) -> Option<DeclaredBudget> {
    let scope = scope(section, declared, models);
    let amount = amount(section, kind);
    let window = section.str("window");
    let parsed = window.as_ref().and_then(|window| Window::parse(&window.value));
    if let (Some(window), None) = (&window, parsed) {
        let message = format!("`{}` is not a window", window.value);
        let suggestion = format!("use {}", Window::SPELLINGS);
        section.error(window.span.clone(), "window", message, Some(suggestion));
    }
    let time_zone = section.str("time_zone").map(|zone| {
        if TimeZone::get(&zone.value).is_err() {
            let message = format!("`{}` is not a time zone", zone.value);
            section.error(zone.span, "time_zone", message, None);
        }
        zone.value
    });
    let when_spent = section.word("when_spent", &WhenSpent::NAMES);
    let warn_at = section.integers("warn_at_percent", 1..=100).unwrap_or_default();
    let hard = section.bool("hard").unwrap_or(true);
    let usual = if kind == Kind::Limit { "minute" } else { "month" };
    let (unit, amount) = amount?;
    Some(DeclaredBudget {
        name,
        kind,
        scope: scope?,
        unit,
        amount,
        window: parsed.or_else(|| Window::parse(usual))?,
        time_zone,
        hard,
        when_spent: when_spent
            .and_then(|word| WhenSpent::from_name(&word.value))
            .unwrap_or_default(),
        warn_at_percent: warn_at.into_iter().map(|percent| percent as u8).collect(),
    })
}

/// Whose it is: exactly one of `organisation`, `team`, `project`, `key`, `model`.
fn scope(
    section: &Section<'_>,
    declared: &Declared,
    models: &[ModelCard],
) -> Option<(Level, String)> {
    let mut found: Vec<(Level, String)> = Vec::new();
    for level in Level::ALL {
        let Some(name) = section.str(level.name()) else { continue };
        let keys = declared.keys.iter().map(|key| key.name.as_str());
        let cards = models.iter().map(|card| card.name.as_str());
        let groups = declared.groups.iter().filter(|group| group.level == level);
        let names: Vec<&str> = match level {
            Level::Key => keys.collect(),
            Level::Model => cards.collect(),
            _ => groups.map(|group| group.name.as_str()).collect(),
        };
        if !names.contains(&name.value.as_str()) {
            unknown(section, level.name(), &name, names.into_iter());
        }
        found.push((level, name.value));
    }
    if found.len() != 1 {
        let message = format!("names {} owners instead of one", found.len());
        let suggestion = format!("write one of: {}", Level::NAMES.join(", "));
        section.error(section.span(), "", message, Some(suggestion));
    }
    found.pop()
}

/// What is counted: exactly one of `usd`, `tokens`, `requests`, `concurrent`.
fn amount(section: &Section<'_>, kind: Kind) -> Option<(Unit, i64)> {
    let most = i64::MAX as u64;
    let usd = section.usd("usd").map(|usd| (Unit::NanoUsd, usd.0));
    let whole = |key, unit| section.integer(key, 0..=most).map(|number| (unit, number as i64));
    let found: Vec<_> = [
        usd,
        whole("tokens", Unit::Tokens),
        whole("requests", Unit::Requests),
        whole("concurrent", Unit::Concurrent),
    ]
    .into_iter()
    .flatten()
    .collect();
    match found.as_slice() {
        [(Unit::NanoUsd, _)] if kind == Kind::Limit => {
            let message = "a limit is of requests, tokens or concurrent requests".to_owned();
            let suggestion = "put money under [budgets]".to_owned();
            section.error(section.span(), "usd", message, Some(suggestion));
            None
        }
        [only] => Some(*only),
        _ => {
            let message = "needs exactly one of `usd`, `tokens`, `requests`, `concurrent`";
            section.error(section.span(), "", message.to_owned(), None);
            None
        }
    }
}
