//! The record of a run: figures with everything that is needed to make them again.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::report::Report;

/// What `--json` and `--results` write.
#[derive(Debug, Serialize)]
pub struct Results<'a> {
    /// The suite; `None` for a single question.
    pub suite: Option<&'a str>,
    /// What the suite is.
    pub about: Option<&'a str>,
    /// The command, directories of absolute paths left out.
    pub command: String,
    /// The program's version.
    pub version: &'static str,
    /// Of the run, UTC, `2026-01-31`.
    pub date: String,
    /// Where it ran.
    pub machine: Machine,
    /// One a set.
    pub reports: &'a [Report],
}

/// A machine, by what matters for speed.
#[derive(Debug, Serialize)]
pub struct Machine {
    /// The processor's name.
    pub cpu: String,
    /// Cores that the program may use.
    pub cores: usize,
}

impl Machine {
    /// This one.
    pub fn this() -> Self {
        let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let name = info.lines().find(|line| line.starts_with("model name"));
        let cpu = name.and_then(|line| line.split_once(':')).map(|(_, name)| name.trim());
        Self {
            cpu: cpu.unwrap_or(std::env::consts::ARCH).to_owned(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
        }
    }
}

impl<'a> Results<'a> {
    /// Of this run.
    pub fn new(suite: Option<(&'a str, &'a str)>, reports: &'a [Report]) -> Self {
        Self {
            suite: suite.map(|(name, _)| name),
            about: suite.map(|(_, about)| about),
            command: command(std::env::args()),
            version: env!("CARGO_PKG_VERSION"),
            date: date(SystemTime::now()),
            machine: Machine::this(),
            reports,
        }
    }
}

fn command(arguments: impl Iterator<Item = String>) -> String {
    let short = |argument: String| match argument.rsplit_once('/') {
        Some((_, name)) if argument.starts_with('/') => name.to_owned(),
        _ => argument,
    };
    arguments.map(short).collect::<Vec<_>>().join(" ")
}

/// The day in UTC, in the proleptic Gregorian calendar: days are counted in eras of 400 years that
/// begin on 1 March, so that the leap day is the last of its year.
fn date(now: SystemTime) -> String {
    let seconds = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    // Days from 0000-03-01 to 1970-01-01.
    let days = seconds / 86_400 + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = era * 400 + year + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn days_are_those_of_the_calendar() {
        for (seconds, day) in [
            (0, "1970-01-01"),
            (951_782_400, "2000-02-29"),
            (951_868_800, "2000-03-01"),
            (1_798_675_199, "2026-12-30"),
            (4_107_542_399, "2100-02-28"),
            (4_107_542_400, "2100-03-01"),
        ] {
            assert_eq!(date(UNIX_EPOCH + Duration::from_secs(seconds)), day);
        }
    }

    #[test]
    fn a_command_keeps_no_directory_of_the_machine() {
        let arguments = ["/usr/bin/weighbridge", "eval", "--data", "/home/me/rows.csv", "a/b.csv"];
        let command = command(arguments.map(str::to_owned).into_iter());
        assert_eq!(command, "weighbridge eval --data rows.csv a/b.csv");
    }
}
