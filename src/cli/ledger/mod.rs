//! Commands over the ledger: keys, groups, budgets, what was spent, who changed what.
//!
//! They open the database that `[ledger]` names, beside a running gateway or without one; a
//! gateway sees a change within a second. Each prints a table for people, or with `--json` what
//! programs read.

pub mod audit;
pub mod budgets;
pub mod groups;
pub mod keys;
mod sheet;
pub mod spend;

use std::{io::Write, os::unix::fs::MetadataExt as _, process::ExitCode};

use anyhow::{anyhow, bail};
use clap::Args;
use jiff::{Timestamp, tz::TimeZone};
use serde_json::Value;

use super::{ConfigArg, inputs, table};
use crate::{
    config::{Config, did_you_mean, environment},
    ledger::{
        LedgerSettings,
        budget::Budget,
        now_ms,
        store::{Actor, Store},
        tenant::{Group, Key, Level, Origin},
        window::time_or_date,
    },
};

/// Longest name of a key or group, in characters; chosen.
const MAX_NAME_CHARS: usize = 200;

/// The ledger, opened by somebody at some moment.
struct Office {
    config: Config,
    settings: LedgerSettings,
    store: Store,
    actor: Actor,
}

/// Opens the ledger and does the work.
fn at_the_office(
    config: &ConfigArg,
    work: impl AsyncFnOnce(&Office) -> anyhow::Result<()>,
) -> anyhow::Result<ExitCode> {
    let Some(found) = inputs::load_config(config)? else {
        bail!(
            "there is no configuration: name it with --config FILE (`weighbridge init` writes one)"
        );
    };
    let Some(settings) = found.ledger.clone() else {
        bail!(
            "the configuration has no ledger: add a [ledger] table to it, like\n\n[ledger]\nurl = \
             \"sqlite:weighbridge.db\""
        );
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let store = Store::open(&settings.url).await?;
        let office = Office { config: found, settings, store, actor: actor() };
        let done = work(&office).await;
        office.store.close().await;
        done
    })?;
    Ok(ExitCode::SUCCESS)
}

/// The person at the terminal, as the system calls them.
fn actor() -> Actor {
    let user = ["USER", "LOGNAME", "USERNAME"].into_iter().find_map(environment::variable);
    let id = || Some(format!("uid-{}", std::fs::metadata("/proc/self").ok()?.uid()));
    let name = format!("cli:{}", user.or_else(id).as_deref().unwrap_or("unknown"));
    Actor { name, now_ms: now_ms() }
}

/// The group that something belongs to.
#[derive(Args, Default)]
#[group(multiple = false)]
struct GroupArg {
    /// The project that it belongs to
    #[arg(long, value_name = "NAME")]
    project: Option<String>,
    /// The team that it belongs to
    #[arg(long, value_name = "NAME")]
    team: Option<String>,
    /// The organisation that it belongs to
    #[arg(long, value_name = "NAME")]
    organisation: Option<String>,
}

impl GroupArg {
    /// The one that was named.
    fn named(&self) -> Option<(Level, &str)> {
        let all = [
            (Level::Project, &self.project),
            (Level::Team, &self.team),
            (Level::Organisation, &self.organisation),
        ];
        all.into_iter().find_map(|(level, name)| Some((level, name.as_deref()?)))
    }
}

/// Everything that has a name.
struct Records {
    keys: Vec<Key>,
    groups: Vec<Group>,
    budgets: Vec<Budget>,
}

impl Records {
    async fn load(store: &Store) -> anyhow::Result<Self> {
        let (keys, groups) = (store.keys().await?, store.groups().await?);
        Ok(Self { keys, groups, budgets: store.budgets().await? })
    }

    /// A key by its id, or by its name when it is not revoked.
    fn key(&self, wanted: &str) -> anyhow::Result<&Key> {
        let live = || self.keys.iter().filter(|key| key.revoked_ms.is_none());
        self.keys
            .iter()
            .find(|key| key.id == wanted)
            .or_else(|| live().find(|key| key.name == wanted))
            .ok_or_else(|| {
                let names = live().map(|key| key.name.as_str());
                missing("key", wanted, names, "`weighbridge keys list` shows them")
            })
    }

    /// A group by its id or name.
    fn group(&self, level: Level, wanted: &str) -> anyhow::Result<&Group> {
        let all = || self.groups.iter().filter(|group| group.level == level);
        all().find(|group| group.id == wanted || group.name == wanted).ok_or_else(|| {
            let fix = format!("`weighbridge {0}s create --name NAME` makes one", level.name());
            missing(level.name(), wanted, all().map(|group| group.name.as_str()), &fix)
        })
    }

    /// What people call the thing with this id; the id when it has no record.
    fn name_of(&self, id: &str) -> String {
        let keys = self.keys.iter().map(|key| (&key.id, &key.name));
        let groups = self.groups.iter().map(|group| (&group.id, &group.name));
        let found = keys.chain(groups).find(|(known, _)| *known == id);
        found.map_or_else(|| id.to_owned(), |(_, name)| name.clone())
    }

    /// `team research`; `-` without a group.
    fn group_label(&self, id: Option<&str>) -> String {
        let found = self.groups.iter().find(|group| Some(group.id.as_str()) == id);
        found.map_or_else(
            || "-".to_owned(),
            |group| format!("{} {}", group.level.name(), group.name),
        )
    }
}

/// "there is no key `x`", with the nearest name or the way out.
fn missing<'n>(
    kind: &str,
    wanted: &str,
    names: impl Iterator<Item = &'n str>,
    otherwise: &str,
) -> anyhow::Error {
    let fix = did_you_mean(wanted, names).unwrap_or_else(|| otherwise.to_owned());
    anyhow!("there is no {kind} `{wanted}`: {fix}")
}

/// What the configuration file declares is changed there: otherwise its next reading would undo
/// the change.
fn refuse_declared(origin: Origin, kind: &str, name: &str) -> anyhow::Result<()> {
    match origin {
        Origin::Admin => Ok(()),
        Origin::Configuration => {
            bail!("{kind} `{name}` is declared in the configuration file: change it there")
        }
    }
}

/// A name as it may be kept: some text, on one line.
fn checked_name(flag: &str, name: &str) -> anyhow::Result<String> {
    let name = name.trim();
    if name.is_empty() || name.chars().count() > MAX_NAME_CHARS || name.contains(char::is_control) {
        bail!("{flag}: write 1 to {MAX_NAME_CHARS} characters without line breaks");
    }
    Ok(name.to_owned())
}

/// What [`moment`] reads, for messages.
const MOMENTS: &str = "a date like 2026-12-31, a time like 2026-12-31T18:00:00Z, or a length of \
     time like 90d, 12h or 30m";

/// A date (its first moment), a time, or a length of time from now on: `ahead` says in which
/// direction. Milliseconds since 1970.
fn moment(
    flag: &str,
    text: &str,
    now_ms: i64,
    zone: &TimeZone,
    ahead: bool,
) -> anyhow::Result<i64> {
    let read = || {
        if let Some(length_ms) = length_ms(text) {
            let moment =
                if ahead { now_ms.checked_add(length_ms) } else { now_ms.checked_sub(length_ms) };
            return Timestamp::from_millisecond(moment?).ok();
        }
        time_or_date(text, zone)
    };
    let found = read().ok_or_else(|| anyhow!("{flag} `{text}` is no moment: write {MOMENTS}"))?;
    Ok(found.as_millisecond())
}

/// `90d`, `24h`, `30m`, `45s` in milliseconds.
fn length_ms(text: &str) -> Option<i64> {
    let unit = text.chars().last()?;
    let number: i64 = text.strip_suffix(unit)?.parse().ok().filter(|number| *number >= 0)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 60 * 60,
        'd' => 24 * 60 * 60,
        _ => return None,
    };
    number.checked_mul(seconds)?.checked_mul(1_000)
}

/// A moment in UTC, to the second.
fn shown_time(time_ms: i64) -> String {
    match Timestamp::from_millisecond(time_ms) {
        Ok(time) => time.strftime("%Y-%m-%d %H:%M:%S").to_string(),
        Err(_) => time_ms.to_string(),
    }
}

/// Prints JSON as programs read it: one line.
fn print_json(value: &Value) -> anyhow::Result<()> {
    Ok(writeln!(std::io::stdout().lock(), "{value}")?)
}

/// Prints a table of text, or a sentence when there is nothing in it.
fn print_table<const N: usize>(
    headings: [&str; N],
    rows: &[[String; N]],
    nothing: &str,
) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    if rows.is_empty() {
        writeln!(out, "{nothing}")?;
    } else {
        table::print(&mut out, headings, rows, |_| false)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_dates_times_and_lengths() {
        let now_ms = 1_764_000_000_000;
        let berlin = TimeZone::get("Europe/Berlin").unwrap();
        let ms = |text: &str| text.parse::<Timestamp>().unwrap().as_millisecond();
        for (text, ahead, expected) in [
            ("2026-07-01", true, ms("2026-06-30T22:00:00Z")),
            ("2026-07-01T12:00:00Z", true, ms("2026-07-01T12:00:00Z")),
            ("2026-07-01T12:00:00+02:00", false, ms("2026-07-01T10:00:00Z")),
            ("90d", true, now_ms + 90 * 86_400_000),
            ("36h", false, now_ms - 36 * 3_600_000),
            ("30m", true, now_ms + 1_800_000),
            ("0s", true, now_ms),
        ] {
            let found = moment("--expires", text, now_ms, &berlin, ahead).unwrap();
            assert_eq!(found, expected, "{text}");
        }
        for text in ["", "d", "-1d", "1y", "soon", "2026-13-01", "99999999999999d", "5é"] {
            let error = moment("--expires", text, now_ms, &berlin, true).unwrap_err().to_string();
            assert!(error.starts_with("--expires `") && error.contains("2026-12-31"), "{error}");
        }
    }
}
